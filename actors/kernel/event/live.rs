//! What is told while it happens.

use serde::{Deserialize, Serialize};

use crate::id::Turn;

/// What is told while it happens and not kept: no `seq`, and it may be dropped (then a `gap` says how many were).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LiveEvent {
    /// A model call begins.
    #[serde(rename = "turn.started")]
    TurnStarted {
        /// The turn.
        turn: Turn,
    },
    /// A piece of what the model says.
    #[serde(rename = "text.delta")]
    TextDelta {
        /// The turn.
        turn: Turn,
        /// Counts the deltas of the turn, from 0.
        index: u64,
        /// The piece.
        text: String,
    },
    /// A piece of what the model thinks.
    #[serde(rename = "thinking.delta")]
    ThinkingDelta {
        /// The turn.
        turn: Turn,
        /// Counts the deltas of the turn, from 0.
        index: u64,
        /// The piece.
        text: String,
    },
    /// A piece of a running command's output.
    #[serde(rename = "tool.output")]
    ToolOutput {
        /// The call.
        call_id: String,
        /// Where in the whole output the piece begins, in bytes.
        bytes_from: u64,
        /// The piece.
        text: String,
    },
    /// A model call failed and is made again.
    #[serde(rename = "retry")]
    Retry {
        /// 1 for the first retry.
        attempt: u32,
        /// Until it is made, in milliseconds.
        after_ms: u64,
        /// What went wrong.
        reason: String,
    },
    /// An actor that the thread uses was restarted.
    #[serde(rename = "actor.restarted")]
    ActorRestarted {
        /// Its path.
        path: String,
    },
    /// The subscriber was too slow.
    #[serde(rename = "gap")]
    Gap {
        /// How many events overtook it. The durable ones among them are told all the same.
        dropped: u64,
    },
}

impl LiveEvent {
    /// The event's type, as it stands on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            LiveEvent::TurnStarted { .. } => "turn.started",
            LiveEvent::TextDelta { .. } => "text.delta",
            LiveEvent::ThinkingDelta { .. } => "thinking.delta",
            LiveEvent::ToolOutput { .. } => "tool.output",
            LiveEvent::Retry { .. } => "retry",
            LiveEvent::ActorRestarted { .. } => "actor.restarted",
            LiveEvent::Gap { .. } => "gap",
        }
    }
}
