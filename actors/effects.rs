//! Running effects: what they are called, and what becomes of them.
//!
//! They stand in one registry in the wiring, under their thread and the position of their intent. The registry owns
//! their tasks, so no actor's end is an effect's end; an outcome stays there until the commit that holds it is durable.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::ports::ModelFailure;
use lakitu_kernel::supervise::{EffectKey, Effects};
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{Seq, ThreadId, ToolError, Turn};

use crate::threads::agent::Answer;
use crate::tools::{Redo, Settled};

/// Names an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The thread whose effect it is.
    pub thread: ThreadId,
    /// What it is.
    pub work: Work,
}

/// What an effect does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Asks the model for a turn; anew where its prompt was changed.
    Model {
        /// The turn.
        turn: Turn,
        /// How often it was changed: room was made, or the model told that it said nothing.
        changes: u8,
    },
    /// Computes a redo record.
    Prepare(Seq),
    /// Runs a call: its intent, and which start it is.
    Tool(Seq, u32),
    /// Finds out what became of a call that an earlier process left.
    Examine(Seq),
    /// Puts files back to earlier versions, as announced at this event.
    PutBack(Seq),
    /// Ends the commands of the thread, and what they left behind.
    EndJobs,
    /// Sees a cancel through, whether whoever asked for it waits or not.
    Stop,
    /// Writes the end of a thread whose actor crashed too often.
    Bury,
}

impl EffectKey for Key {
    type Group = ThreadId;

    fn group(&self) -> ThreadId {
        self.thread
    }
}

/// An effect counts as running while a clone of this lives.
pub type Lease = lakitu_kernel::supervise::Lease<Key, Done>;

/// Locks that are held until a result is durable; released when the last clone is dropped.
pub type Locks = Arc<dyn Any + Send + Sync>;

/// A redo record and the locks under which it was computed.
#[derive(Clone)]
pub struct Prepared {
    /// The record.
    pub redo: Arc<Redo>,
    /// The locks.
    pub locks: Locks,
}

/// What became of an effect.
#[derive(Clone)]
pub enum Done {
    /// The model answered; the redo record of the answer's first call, if it needs one.
    Answer(Arc<Answer>, Option<Prepared>),
    /// It did not.
    NoAnswer(ModelFailure),
    /// A redo record.
    Prepared(Result<Prepared, ToolError>),
    /// A call ended after so many milliseconds.
    Tool(ToolOutcome, u64),
    /// A call of an earlier process was looked at.
    Examined(Settled),
    /// There is nothing to tell.
    Over,
    /// The effect's own code failed: settled by its class.
    Panicked(String),
    /// It has not ended within its deadline, and is no longer waited for: settled by its class.
    Late(Duration),
}

/// The registry.
pub type Running = Effects<Key, Done>;

/// Names what looks after a settled thread's jobs: nobody waits for that, as for the thread's own effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Care {
    /// The thread.
    pub thread: ThreadId,
    /// Its last event.
    pub settled: Seq,
}

impl EffectKey for Care {
    type Group = ThreadId;

    fn group(&self) -> ThreadId {
        self.thread
    }
}

/// What looks after settled threads' jobs.
pub type Caring = Effects<Care, ()>;
