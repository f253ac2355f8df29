//! The work that should be under way. The shell starts what is missing and cancels what is no longer wanted, so a
//! restart needs no path of its own.

use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{Seq, Turn, limits};

use super::state::{Acting, Phase, State};
use crate::checkpoint::CHECKPOINT_RESTORE;

/// Work outside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// The model's answer to this turn. The request may leave before what it rests on is durable.
    Model {
        /// The turn.
        turn: Turn,
        /// How often its prompt was changed: that is another request than the one before.
        changes: u8,
    },
    /// The files that are announced at this event, at their earlier versions.
    PutBack(Seq),
    /// The redo record of the call with this intent.
    Prepare {
        /// Where its intent stands.
        intent: Seq,
        /// Everything up to here must be durable before it is computed: what is made of the journal rests on all of it.
        after: Seq,
    },
    /// The call with this intent.
    Tool {
        /// Where its intent stands.
        intent: Seq,
        /// Which start it is.
        start: u32,
        /// Everything up to here must be durable before it begins.
        after: Seq,
    },
}

/// What should be under way in this state.
pub(crate) fn wanted(state: &State) -> Vec<Wanted> {
    if let Some(restoring) = &state.restoring {
        return vec![Wanted::PutBack(restoring.began)];
    }
    match &state.phase {
        Phase::Settled(_) | Phase::Answered => Vec::new(),
        Phase::Thinking => vec![Wanted::Model { turn: state.turn(), changes: state.changes() }],
        Phase::Acting(acting) => segment(acting),
    }
}

/// The calls of one turn are cut into segments: consecutive reads are one and run side by side, every other call is
/// one of its own. Segments run in call order.
fn segment(acting: &Acting) -> Vec<Wanted> {
    let missing = acting.calls.iter().skip_while(|call| call.result.is_some());
    let Some(first) = missing.clone().next() else { return Vec::new() };
    if first.intent == Seq::ZERO {
        return Vec::new(); // its intent stands in the same step as the message
    }
    if first.effect == EffectClass::Read {
        return missing
            .take_while(|call| call.effect == EffectClass::Read)
            .filter(|call| call.result.is_none() && call.intent != Seq::ZERO)
            .map(|call| Wanted::Tool { intent: call.intent, start: call.start, after: call.decided })
            .take(limits::PARALLEL_READS_MAX)
            .collect();
    }
    if first.effect == EffectClass::Verifiable && first.prepared.is_none() {
        let after = if first.call.tool == CHECKPOINT_RESTORE.name { acting.touched } else { Seq::ZERO };
        return vec![Wanted::Prepare { intent: first.intent, after }];
    }
    // The results of all earlier calls are durable before it begins, so an intent behind an unsettled call provably
    // never began.
    vec![Wanted::Tool { intent: first.intent, start: first.start, after: acting.touched }]
}
