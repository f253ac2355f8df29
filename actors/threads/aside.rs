//! What is written into a thread that has no actor: neither its run nor its commands are begun by it.

use std::sync::Arc;

use lakitu_kernel::event::EventBody;
use lakitu_kernel::{CheckpointId, Event, Seq, ThreadId, ToolError};

use super::agent::{AgentMsg, Checkpointing, Msg, State, append, beside, thread_row};
use super::hub::Published;
use super::{ASKED_MAX, Threads, crashing, journal};
use crate::checkpoint::CreateArgs;
use crate::store::{Op, Step, StoreError};
use crate::wiring::Wiring;

impl Threads {
    /// Makes a checkpoint of a thread as it is, running or not. Durable when this returns.
    pub async fn checkpoint(&self, thread: ThreadId, args: CreateArgs) -> Result<CheckpointId, ToolError> {
        let CreateArgs { name, next_task } = args.checked()?;
        let (asked, then) = (name.clone(), next_task.clone());
        let same = move |body: &EventBody| matches!(body, EventBody::CheckpointCreated { name, next_task, .. } if *name == asked && *next_task == then);
        let seq = self.note(thread, Checkpointing::Create { name, next_task }, same).await?;
        Ok(CheckpointId { thread, seq })
    }

    /// Has it noted in a checkpoint's thread that it was gone back to. Durable when this returns.
    pub(super) async fn restored(&self, id: CheckpointId, to: ThreadId) -> Result<Seq, ToolError> {
        let same =
            move |body: &EventBody| matches!(body, EventBody::CheckpointRestored { to: noted, .. } if *noted == to);
        self.note(id.thread, Checkpointing::Restored { id, to }, same).await
    }

    async fn note(
        &self,
        thread: ThreadId,
        what: Checkpointing,
        is_it: impl Fn(&EventBody) -> bool,
    ) -> Result<Seq, ToolError> {
        let before = self.last_seq(thread).await?;
        for _ in 0..ASKED_MAX {
            let what = what.clone();
            let seq = if self.wiring.nodes.node(&format!("/threads/{thread}")).is_some() {
                self.ask(thread, |reply| AgentMsg::Checkpoint { what, reply }).await?
            } else {
                write(&self.wiring, thread, Msg::Checkpoint(what)).await?
            };
            if let Some(seq) = seq {
                return Ok(seq);
            }
            // It may have been taken in: the journal knows.
            if let Some(seq) = self.behind(thread, before, &is_it).await? {
                return Ok(seq);
            }
        }
        Err(crashing(thread))
    }
}

/// Takes a message into a thread, without its actor. `None`: somebody else wrote it meanwhile.
async fn write(wiring: &Arc<Wiring>, thread: ThreadId, msg: Msg) -> Result<Option<Seq>, ToolError> {
    let read = wiring.store.read(move |reading| journal::fold(reading, thread));
    let mut state = read.await.map_err(ToolError::from)?;
    let expected = state.seq;
    let mut ops = decided(&mut state, msg, wiring);
    ops.extend(thread_row(&state, wiring.clock.now()));
    match wiring.store.submit(Step { thread, expected, ops }).await {
        Ok(committed) => {
            tell(wiring, thread, committed.events);
            Ok(Some(state.seq))
        }
        Err(StoreError::OwnershipLost { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What becomes of a message, as ops.
pub(super) fn decided(state: &mut State, msg: Msg, wiring: &Wiring) -> Vec<Op> {
    let mut ops = Vec::new();
    state.take(msg, wiring.clock.now(), |before, event| {
        ops.push(append(event));
        ops.extend(beside(before, event, &wiring.boot_id));
    });
    ops
}

/// Tells listeners what is durable.
pub(super) fn tell(wiring: &Wiring, thread: ThreadId, events: Vec<Event>) {
    for event in events {
        wiring.hub.durable(thread, event.seq);
        wiring.hub.publish(thread, Published::Event(Arc::new(event)));
    }
}
