//! The checkpoints that go with an event, in the same step; and what becomes of those that there are.

use lakitu_kernel::event::{CheckpointReason, Event};
use lakitu_kernel::{CheckpointId, EventBody};

use super::kept::ChangedFile;
use super::state::State;
use crate::store::{
    CheckpointRow, CheckpointStatus, CheckpointsEnd, FileSnapshot, MakeCheckpoint, MessageRange, Op, RestoreCheckpoint,
    SettleCheckpoints,
};

/// What an event adds beside itself. `before` is the state that it is about to change.
pub(super) fn beside(before: &State, event: &Event) -> Vec<Op> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "`rows` hands these over, and no others")]
    match &event.body {
        EventBody::CheckpointCreated { id, name, next_task } => {
            // Of a call that made it, the result stands right behind.
            let as_of = if id.seq == event.seq { before.seq } else { event.seq.next() };
            let row = CheckpointRow {
                id: *id,
                as_of,
                name: name.clone(),
                next_task: next_task.clone().unwrap_or_else(|| before.kept.next_task()),
                ..checkpoint(before, event, CheckpointReason::Manual)
            };
            vec![made(before, row)]
        }
        EventBody::CheckpointRestored { id, to } => {
            vec![Op::from(RestoreCheckpoint { id: *id, at: event.at, to: *to })]
        }
        EventBody::ThreadCheckpointed { reason, .. } => {
            vec![made(before, checkpoint(before, event, *reason))]
        }
        EventBody::ThreadResumed { .. } if before.is_running() => Vec::new(),
        EventBody::ThreadResumed { .. } => settle(before, event, CheckpointsEnd::Resumed),
        EventBody::ThreadCompleted {} => settle(before, event, CheckpointsEnd::Completed(before.text.clone())),
        EventBody::ThreadFailed { error } => settle(before, event, CheckpointsEnd::Failed(error.to_string())),
        _ => Vec::new(),
    }
}

/// A checkpoint with the beads of that state.
fn made(before: &State, row: CheckpointRow) -> Op {
    Op::from(MakeCheckpoint { row, beads: before.kept.beads.iter().cloned().collect() })
}

/// The state that the event is about to change, as a checkpoint.
fn checkpoint(before: &State, event: &Event, reason: CheckpointReason) -> CheckpointRow {
    let kept = &before.kept;
    let (files, omitted) = kept.newest_files();
    let file = |(path, file): (&String, &ChangedFile)| FileSnapshot {
        path: path.clone(),
        kind: file.kind,
        content_hash: file.hash,
        size: file.bytes,
        removed: file.removed,
        last_modified: file.at,
        mode: file.mode,
    };
    let count = u32::try_from(kept.messages.len()).unwrap_or(u32::MAX);
    let range = kept.messages.front().zip(kept.messages.back());
    CheckpointRow {
        id: CheckpointId { thread: before.thread, seq: event.seq },
        session_id: format!("session_{}", before.thread),
        thread_id: before.thread,
        as_of: before.seq,
        iteration: kept.checkpoints + 1,
        message_history: range.map(|(first, last)| MessageRange { first: *first, last: *last, count }),
        file_state: files.into_iter().map(file).collect(),
        files_omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
        beads_state: Vec::new(),
        artifacts_produced: kept.artifacts.iter().cloned().collect(),
        name: None,
        next_task: kept.next_task(),
        reason,
        status: CheckpointStatus::Active,
        created_at: event.at,
        restored_at: None,
        restored_to_thread: None,
        completed_at: None,
        failed_at: None,
        error: None,
        final_result: None,
    }
}

/// Tells the thread's checkpoints, where there are any.
fn settle(before: &State, event: &Event, end: CheckpointsEnd) -> Vec<Op> {
    let told = SettleCheckpoints { thread: before.thread, at: event.at, end };
    (before.kept.checkpoints > 0).then(|| Op::from(told)).into_iter().collect()
}
