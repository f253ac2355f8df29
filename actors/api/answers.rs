//! What is answered, as JSON. The document is made of these types.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{Call, Event, EventBody};
use lakitu_kernel::mode::Mode;
use lakitu_kernel::{Seq, ThreadId, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{ThreadRow, ThreadStatus};

/// The thread was started.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Started {
    /// Its id.
    #[schemars(with = "String")]
    pub(super) thread: ThreadId,
}

/// What became of a cancel.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct GivenUp {
    /// The thread's id.
    #[schemars(with = "String")]
    pub(super) thread: ThreadId,
    /// The event that says so, or the last one where it is not written yet or there was nothing to do.
    #[schemars(with = "u64")]
    pub(super) seq: Seq,
    /// Whether it is durable, or the job dead. Else it is on its way.
    pub(super) done: bool,
}

/// It is durable.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Taken {
    /// The thread's id.
    #[schemars(with = "String")]
    pub(super) thread: ThreadId,
    /// The event that says so, or the last one where there was nothing to do.
    #[schemars(with = "u64")]
    pub(super) seq: Seq,
}

/// The wish was handed on; `/v1/actors` shows what becomes of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Wished {
    /// The actor's path.
    pub(super) path: String,
}

/// It is alive.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Alive {
    /// `ok`.
    pub(super) status: &'static str,
    /// The program's version.
    pub(super) version: &'static str,
}

/// Whether every permanent actor runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Readiness {
    /// `ready`, or `not_ready`.
    pub(super) status: &'static str,
    /// The paths of those that do not run.
    pub(super) not_running: Vec<String>,
    /// Only where it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ToolError>,
}

/// What a thread is doing.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Running,
    Waiting,
    Completed,
    Failed,
    Checkpointed,
    Cancelled,
}

impl From<ThreadStatus> for Status {
    fn from(status: ThreadStatus) -> Self {
        match status {
            ThreadStatus::Running => Status::Running,
            ThreadStatus::Waiting => Status::Waiting,
            ThreadStatus::Completed => Status::Completed,
            ThreadStatus::Failed => Status::Failed,
            ThreadStatus::Checkpointed => Status::Checkpointed,
            ThreadStatus::Cancelled => Status::Cancelled,
        }
    }
}

impl From<Status> for ThreadStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => ThreadStatus::Running,
            Status::Waiting => ThreadStatus::Waiting,
            Status::Completed => ThreadStatus::Completed,
            Status::Failed => ThreadStatus::Failed,
            Status::Checkpointed => ThreadStatus::Checkpointed,
            Status::Cancelled => ThreadStatus::Cancelled,
        }
    }
}

/// Tokens that a thread's model calls used.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Used {
    /// Tokens in, cached ones included.
    input_tokens: u64,
    /// Tokens out.
    output_tokens: u64,
    /// Of the tokens in, those that came from a cache.
    cached_tokens: u64,
    /// What they cost, in US dollars, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    cost_usd: Option<lakitu_kernel::chat::Usd>,
}

/// A thread.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Thread {
    /// Its id.
    #[schemars(with = "String")]
    pub(super) id: ThreadId,
    /// What it is doing.
    pub(super) status: Status,
    /// The beginning of the first prompt.
    title: String,
    /// The model it talks to.
    model: String,
    /// How the agent works.
    mode: Mode,
    /// Where it works.
    workspace: String,
    /// When it was started, in milliseconds since 1970.
    #[schemars(with = "u64")]
    created_at: Timestamp,
    /// When it last changed, in milliseconds since 1970.
    #[schemars(with = "u64")]
    updated_at: Timestamp,
    /// Its last event.
    #[schemars(with = "u64")]
    last_seq: Seq,
    /// Model calls so far.
    turns: u32,
    /// Tool calls so far.
    tool_calls: u32,
    /// Tokens so far.
    usage: Used,
    /// Why the last run ended, where that says more than the status.
    reason: Option<String>,
    /// The error that the last run ended with.
    error: Option<ToolError>,
}

impl From<ThreadRow> for Thread {
    fn from(row: ThreadRow) -> Self {
        Self {
            id: row.id,
            status: row.status.into(),
            title: row.title,
            model: row.model,
            mode: row.mode,
            workspace: row.workspace.to_string_lossy().into_owned(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_seq: row.last_seq,
            turns: row.turns,
            tool_calls: row.tool_calls,
            usage: Used {
                input_tokens: row.usage.input_tokens,
                output_tokens: row.usage.output_tokens,
                cached_tokens: row.usage.cached_tokens,
                cost_usd: row.usage.cost_usd,
            },
            reason: row.reason,
            error: row.error,
        }
    }
}

/// A thread, and how it was started.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WholeThread {
    /// What lists show of it.
    #[serde(flatten)]
    pub(super) thread: Thread,
    /// Turns of a run, where they are limited.
    pub(super) max_turns: Option<u32>,
    /// Time of a run in milliseconds, where it is limited.
    pub(super) timeout_ms: Option<u64>,
    /// The calls that wait for consent, which `/approve` gives or refuses.
    pub(super) questions: Vec<Question>,
    /// What its start wanted to be kept with it.
    pub(super) metadata: Option<Value>,
    /// The commit that it was read at.
    pub(super) commit: u64,
}

/// A call that waits for consent.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Question {
    /// The call.
    pub(super) call_id: String,
    /// The tool.
    pub(super) tool: String,
    /// Its arguments.
    pub(super) arguments: Value,
    /// Why it needs consent.
    pub(super) reason: String,
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(super) struct Page<T> {
    /// Its items.
    pub(super) items: Vec<T>,
    /// Where the next page begins; null: this was the last.
    pub(super) cursor: Option<String>,
    /// The commit that it was read at.
    pub(super) commit: u64,
}

/// One message of a conversation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Message {
    /// A person's.
    User {
        /// Its event.
        seq: u64,
        /// When.
        at: String,
        /// What was said.
        text: String,
    },
    /// The model's.
    Assistant {
        /// Its event.
        seq: u64,
        /// When.
        at: String,
        /// The turn.
        turn: u32,
        /// What was said.
        text: String,
        /// The tool calls that were asked for.
        calls: Vec<Call>,
    },
    /// A tool's.
    Tool {
        /// Its event.
        seq: u64,
        /// When.
        at: String,
        /// The call that it is the result of.
        call_id: String,
        /// Whether it did what was asked.
        ok: bool,
        /// What the model was told.
        text: String,
        /// The failure.
        error: Option<ToolError>,
    },
}

impl Message {
    /// The message that an event is, if it is one.
    pub(super) fn of(event: Event) -> Option<Self> {
        let (seq, at) = (event.seq.0, event.at.to_string());
        #[allow(clippy::wildcard_enum_match_arm, reason = "a conversation is three of many kinds of events")]
        match event.body {
            EventBody::Prompt { text } => Some(Message::User { seq, at, text }),
            EventBody::Message { turn, text, calls, .. } => {
                Some(Message::Assistant { seq, at, turn: turn.0, text, calls })
            }
            EventBody::ToolResult { call_id, ok, output, error, .. } => {
                Some(Message::Tool { seq, at, call_id, ok, text: output, error })
            }
            _ => None,
        }
    }
}
