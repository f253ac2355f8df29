//! `/checkpoint`: states of threads that can be gone back to. Parent `/`, permanent; everything stands in rows.
//! Removes what is older or more than is kept (checkpoints, what commands put out), has the database give back what it
//! does not need, and hands out what the checkpoint tools share.
//!
//! The rows themselves are written by each thread's agent, in the step of the event that makes them: `rows.rs` there says
//! what a checkpoint holds, `kept.rs` how that is known.
//!
//! **Invariant:** nothing is in a row that is not derived from the thread's journal.

mod create;
mod list;
pub mod outputs;
mod restore;
pub mod retention;

pub use create::{CHECKPOINT_CREATE, CreateArgs};
pub use list::{CHECKPOINT_LIST, ListArgs};
pub use restore::{CHECKPOINT_RESTORE, RestoreArgs};
pub(crate) use restore::{meant, told as told_restored};

use std::sync::Arc;

use lakitu_kernel::clock::Clock;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError, boxed};
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{Event, EventBody, Seq, ThreadId, ToolError, limits};
use tokio::task::JoinSet;

use crate::store::{CheckpointRow, CheckpointStatus, Reading, Store, StoreError};
use crate::tools::{Ask, arguments};

/// What `/checkpoint` can be told.
#[derive(Debug)]
pub enum CheckpointMsg {
    /// A call wants in.
    Enter {
        /// Gets what the calls share.
        reply: Reply<CheckpointTools>,
    },
}

impl Message for CheckpointMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Enter { .. } => "Enter",
        }
    }
}

/// The actor at `/checkpoint`.
pub struct CheckpointActor {
    tools: CheckpointTools,
    /// Cleans up; ends with this incarnation.
    _retention: JoinSet<()>,
}

impl Service for CheckpointActor {
    type Msg = CheckpointMsg;
    type Args = CheckpointTools;
    const KIND: &'static str = "service";

    async fn start(tools: CheckpointTools, _: Me<CheckpointMsg>) -> Result<Self, StartError> {
        let mut retention = JoinSet::new();
        retention.spawn(boxed(retention::keep(tools.store.clone(), tools.clock.clone(), tools.outputs_max)));
        Ok(Self { tools, _retention: retention })
    }

    async fn handle(&mut self, msg: CheckpointMsg) -> Result<(), Crash> {
        match msg {
            CheckpointMsg::Enter { reply } => reply.send(self.tools.clone()),
        }
        Ok(())
    }
}

/// What the calls share.
#[derive(Clone)]
pub struct CheckpointTools {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Of what commands put out, in bytes.
    outputs_max: u64,
}

impl std::fmt::Debug for CheckpointTools {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("CheckpointTools")
    }
}

impl CheckpointTools {
    /// Over this store. Of what commands put out so many bytes are kept.
    pub fn new(store: Store, clock: Arc<dyn Clock>, outputs_max: u64) -> Self {
        Self { store, clock, outputs_max }
    }

    /// Runs a call that makes or lists. Nothing is written here: what a call makes stands in the step of its result.
    pub async fn run(&self, ask: &Ask) -> Result<ToolOutcome, ToolError> {
        crash_point(CrashPoint::BeforeEffect);
        let outcome = if ask.call.tool == CHECKPOINT_CREATE.name {
            create::told(ask)
        } else {
            let (thread, args) = (ask.call.thread, arguments::<ListArgs>(&ask.call.arguments)?);
            let rows = self.store.read(move |reading| reading.checkpoints_of(thread)).await.map_err(ToolError::from)?;
            list::told(&rows, &args)
        };
        crash_point(CrashPoint::AfterEffect);
        Ok(outcome)
    }
}

/// The checkpoint that a thread goes on from: the active one.
pub fn latest(reading: &Reading, thread: ThreadId) -> Result<Option<CheckpointRow>, StoreError> {
    let rows = reading.checkpoints_of(thread)?;
    Ok(rows.into_iter().rev().find(|row| row.status == CheckpointStatus::Active))
}

/// A checkpoint's messages, the newest of its thread as of then: prompts, answers and results out of the journal.
pub fn messages(reading: &Reading, row: &CheckpointRow) -> Result<Vec<Event>, StoreError> {
    let Some(range) = row.message_history else { return Ok(Vec::new()) };
    let mut found: Vec<Event> = Vec::new();
    let mut after = Seq(range.first.0.saturating_sub(1));
    while after < range.last {
        let left = usize::try_from(range.last.0 - after.0).unwrap_or(usize::MAX);
        let events = reading.events(row.thread_id, after, left.min(limits::STEP_EVENTS_MAX))?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        found.extend(events.into_iter().filter(|event| is_message(&event.body)));
    }
    Ok(found)
}

fn is_message(body: &EventBody) -> bool {
    matches!(body, EventBody::Prompt { .. } | EventBody::Message { .. } | EventBody::ToolResult { .. })
}
