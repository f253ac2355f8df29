//! Events become durable: one step under way at a time, what is decided meanwhile goes with the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::planted::{Planted, planted};
use lakitu_kernel::supervise::{Crash, boxed};
use lakitu_kernel::{Event, EventBody, Hash, Seq, ToolError, limits};

use super::super::hub::Published;
use super::{Agent, AgentMsg, Msg, Wanted, rows, wanted};
use crate::effects::Key;
use crate::store::{Append, Blob, Committed, Op, Step, StoreError};

impl Agent {
    /// Takes a message into the state and keeps what must become durable.
    pub(super) fn take(&mut self, msg: Msg) {
        let at = self.wiring.clock.now();
        let boot_id = self.boot_id.clone();
        let Self { state, unsent, unsent_events, blobs, .. } = self;
        state.take(msg, at, |before, event| {
            unsent.append(blobs);
            unsent.push(append(event));
            unsent.extend(rows::beside(before, event, &boot_id));
            unsent_events.push(event.clone());
        });
        self.quiet.heard();
        self.forget_images();
    }

    /// Lets go of images that no request will show any more.
    fn forget_images(&mut self) {
        if !self.images.is_empty() {
            let shown: BTreeSet<Hash> = self.state.images().map(|image| image.hash).collect();
            self.images.retain(|hash, _| shown.contains(hash));
        }
    }

    /// Submits what was decided, unless a step is under way or more will come for the same one.
    pub(super) fn flush(&mut self) {
        if self.committing || self.unsent_events.is_empty() || self.more_will_come() {
            return;
        }
        let mut ops = std::mem::take(&mut self.unsent);
        let first = self.unsent_events[0].seq;
        let expected = Seq(first.0 - 1);
        let last = self.state.seq;
        let crossed = first.0 / limits::SNAPSHOT_EVERY_EVENTS != last.next().0 / limits::SNAPSHOT_EVERY_EVENTS;
        if crossed {
            ops.extend(rows::snapshot(&self.state).map(Op::from));
        }
        ops.extend(rows::thread(&self.state, self.wiring.clock.now()));
        let step = Step { thread: self.state.thread, expected, ops };
        let (store, address) = (self.wiring.store.clone(), self.me.address().clone());
        self.committing = true;
        let events = std::mem::take(&mut self.unsent_events);
        if planted(Planted::AcknowledgementBeforeCommit) {
            self.tell(events);
        }
        self.tasks.spawn(boxed(async move {
            let outcome = store.submit(step).await;
            address.deliver(AgentMsg::Committed(outcome)).await;
        }));
    }

    /// Results wait for the redo record that shares their commit, and for the reads that run beside them: whatever is
    /// lost with them is run again or found done.
    fn more_will_come(&self) -> bool {
        let is_result = |event: &Event| {
            matches!(
                event.body,
                EventBody::ToolResult { .. }
                    | EventBody::BeadChanged { .. }
                    | EventBody::ArtifactSaved { .. }
                    | EventBody::EditRecorded { call_id: Some(_), .. }
            )
        };
        let only_results = self.unsent_events.iter().all(is_result);
        only_results
            && self.stopping.is_none()
            && wanted(&self.state).iter().any(|work| match work {
                Wanted::Prepare { after, .. } | Wanted::Tool { after, .. } => *after <= self.durable,
                Wanted::Model { .. } | Wanted::PutBack(_) => false,
            })
    }

    /// The step under way is durable, or was refused.
    pub(super) fn committed(&mut self, outcome: Result<Committed, StoreError>) -> Result<(), Crash> {
        self.committing = false;
        let events = match outcome {
            Ok(committed) => committed.events,
            Err(error) => return self.refused(error),
        };
        let thread = self.state.thread;
        if events.first().is_some_and(|event| event.seq == Seq::ZERO.next()) {
            self.wiring.origins.with(|origins| origins.remove(&thread));
        }
        self.tell(events);
        let later = self.taken.split_off(&self.durable.next());
        for key in std::mem::replace(&mut self.taken, later).into_values() {
            self.wiring.effects.acknowledge(&key);
        }
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|(seq, _)| *seq <= self.durable);
        self.waiters = waiting;
        for (seq, waiter) in ready {
            waiter(Ok(seq));
        }
        Ok(())
    }

    /// These events are durable: that may be known outside.
    fn tell(&mut self, events: Vec<Event>) {
        let thread = self.state.thread;
        for event in events {
            self.durable = self.durable.max(event.seq);
            self.wiring.hub.durable(thread, self.durable);
            self.wiring.hub.publish(thread, Published::Event(Arc::new(event)));
        }
    }

    /// A step that the store refused. What it held is not lost: outcomes stay in the registry, prompts' senders are told.
    fn refused(&mut self, error: StoreError) -> Result<(), Crash> {
        let error_text = error.to_string();
        let told = ToolError::from(error);
        for (_, waiter) in self.waiters.drain(..) {
            waiter(Err(told.clone()));
        }
        if told.code == lakitu_kernel::ErrorCode::StoreFull {
            // The thread stays as the journal has it; a resume goes on when there is room, and looks at what may have
            // begun before it begins it again.
            let thread = self.state.thread;
            self.wiring.hub.may_have_begun(thread, self.state.seq);
            self.wiring.origins.with(|origins| origins.remove(&thread));
            super::gone(&self.wiring, thread, told);
            self.wiring.effects.cancel(&Key { thread, work: self.asking() });
            self.wiring.effects.unsubscribe(&thread);
            self.me.done();
            return Ok(());
        }
        Err(Crash(error_text))
    }
}

/// The blob op for redo records and prefixes.
pub(super) fn files_of(redo: &crate::tools::Redo) -> impl Iterator<Item = Op> + '_ {
    let pieces = |file: &crate::tools::RedoFile| [file.before.clone(), file.after.clone()];
    redo.files.iter().flat_map(pieces).flatten().map(blob)
}

/// Whether an event tells that a run came to its end.
pub fn is_end(event: &Event) -> bool {
    match event.body {
        EventBody::ThreadCompleted {}
        | EventBody::ThreadFailed { .. }
        | EventBody::ThreadCheckpointed { .. }
        | EventBody::ThreadCancelled {} => true,
        EventBody::ThreadStarted { .. }
        | EventBody::ThreadResumed { .. }
        | EventBody::Prompt { .. }
        | EventBody::Message { .. }
        | EventBody::ApprovalAsked { .. }
        | EventBody::ApprovalAnswered { .. }
        | EventBody::ToolIntent { .. }
        | EventBody::ToolPrepared { .. }
        | EventBody::ToolRestarted { .. }
        | EventBody::ToolResult { .. }
        | EventBody::BeadChanged { .. }
        | EventBody::ArtifactSaved { .. }
        | EventBody::EditRecorded { .. }
        | EventBody::EditRestoring { .. }
        | EventBody::EditRestored { .. }
        | EventBody::Decision { .. }
        | EventBody::HistoryRepaired { .. }
        | EventBody::HistoryPruned { .. }
        | EventBody::ModelNudged { .. }
        | EventBody::Usage { .. }
        | EventBody::Stalled { .. }
        | EventBody::CheckpointCreated { .. }
        | EventBody::CheckpointRestored { .. }
        | EventBody::ThreadForked { .. } => false,
    }
}

/// The op that keeps these bytes under their hash.
pub(super) fn blob(bytes: Bytes) -> Op {
    Op::from(Blob { hash: Hash::of(&bytes), bytes })
}

/// The op that appends an event.
pub(crate) fn append(event: &Event) -> Op {
    Op::from(Append { at: event.at, body: event.body.clone() })
}
