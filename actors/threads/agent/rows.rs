//! The rows that go with an event, in the same step.

use bytes::Bytes;
use lakitu_kernel::artifact::Saved;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::edit::{FileChange, PutBackFor};
use lakitu_kernel::event::{Event, FileVersion};
use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{ArtifactId, ErrorCode, EventBody, ThreadId, ToolError, pathname};
use lz4_flex::block;
use serde_json::Value;

use super::state::{CallState, End, State};
use super::{checkpoints, decisions};
use crate::store::{
    Access, ArtifactRow, EditRow, Edits, EndRestoring, ExecutionRow, FileOperation, JobRow, JobState, Op, RestoringRow,
    Snapshot, TakeBack, ThreadRow, ThreadStatus, Usage,
};

/// What a change is told to be made by that no tool made.
const ROLLBACK: &str = "rollback";
/// The version of [`State`]'s encoding in snapshots: another one is as good as none.
const SNAPSHOT_VERSION: u32 = 7;

/// What an event adds beside itself. `before` is the state that it is about to change.
pub(crate) fn beside(before: &State, event: &Event, boot_id: &str) -> Vec<Op> {
    let call_of = |id: &str| before.acting()?.calls.iter().find(|call| call.call.call_id == id);
    match &event.body {
        EventBody::ToolResult { call_id, ok, output, error, duration_ms, files, images: _ } => {
            let Some(call) = call_of(call_id) else { return Vec::new() };
            let decision = before.acting().map(|acting| acting.decision).filter(|seq| seq.0 > 0);
            let execution = ExecutionRow {
                thread_id: before.thread,
                seq: call.intent,
                decision_id: decision.map(|seq| seq.to_string()),
                tool_name: call.call.tool.clone(),
                input: call.arguments.clone(),
                output: Some(Value::from(output.as_str())),
                success: *ok,
                duration_ms: *duration_ms,
                error: error.as_ref().map(ToString::to_string),
                timestamp: event.at,
            };
            let mut ops = vec![Op::from(execution)];
            if call.effect == EffectClass::Read {
                ops.extend(reads(before, event, files));
            }
            if call.effect == EffectClass::Detached && !goes_on(call, error.as_ref()) {
                let end = error.as_ref().map_or_else(|| "exit code 0".to_owned(), |error| error.message.clone());
                let begun = job(before.thread, call, call.decided_at, boot_id);
                ops.push(Op::from(JobRow { state: JobState::Ended, ended_at: Some(event.at), end, ..begun }));
            }
            ops.extend(decisions::beside(before, event, call, error.as_ref()));
            ops
        }
        EventBody::ArtifactSaved { call_id, artifact } => {
            call_of(call_id).map(|call| saved(before, event, call, artifact)).into_iter().collect()
        }
        EventBody::EditRecorded { call_id, files, left_out: _ } => {
            let tool = call_id.as_deref().and_then(call_of).map(|call| call.call.tool.as_str());
            edits(before, event, tool.unwrap_or(ROLLBACK), files)
        }
        EventBody::EditRestoring { .. } | EventBody::EditRestored { .. } => restoring(before, event),
        EventBody::Decision { turn: _, tools, reasoning } => vec![decisions::of_turn(before, event, tools, reasoning)],
        EventBody::ToolIntent { call_id, effect: EffectClass::Detached, arguments, .. } => {
            let Some(call) = call_of(call_id) else { return Vec::new() };
            let call = CallState { intent: event.seq, arguments: arguments.clone(), ..call.clone() };
            vec![Op::from(job(before.thread, &call, event.at, boot_id))]
        }
        EventBody::ToolRestarted { call_id, start, began: _ } => {
            let call = call_of(call_id).filter(|call| call.effect == EffectClass::Detached);
            let again = call.map(|call| CallState { start: *start, ..call.clone() });
            again.map(|call| Op::from(job(before.thread, &call, event.at, boot_id))).into_iter().collect()
        }
        EventBody::CheckpointCreated { .. }
        | EventBody::CheckpointRestored { .. }
        | EventBody::ThreadCheckpointed { .. }
        | EventBody::ThreadResumed { .. }
        | EventBody::ThreadCompleted {}
        | EventBody::ThreadFailed { .. } => checkpoints::beside(before, event),
        EventBody::ToolIntent { .. }
        | EventBody::BeadChanged { .. }
        | EventBody::ApprovalAsked { .. }
        | EventBody::ApprovalAnswered { .. }
        | EventBody::ThreadStarted { .. }
        | EventBody::ThreadForked { .. }
        | EventBody::Prompt { .. }
        | EventBody::Message { .. }
        | EventBody::ToolPrepared { .. }
        | EventBody::HistoryRepaired { .. }
        | EventBody::HistoryPruned { .. }
        | EventBody::ModelNudged { .. }
        | EventBody::Usage { .. }
        | EventBody::Stalled { .. }
        | EventBody::ThreadCancelled {} => Vec::new(),
    }
}

/// The row of what a call saved for somebody.
fn saved(before: &State, event: &Event, call: &CallState, artifact: &Saved) -> Op {
    let id = ArtifactId { thread: before.thread, seq: call.intent };
    Op::from(ArtifactRow::new(id, artifact, event.at))
}

/// The rows of changed files.
fn edits(before: &State, event: &Event, tool: &str, files: &[FileChange]) -> Vec<Op> {
    let row = |(n, change): (usize, &FileChange)| {
        let key = (before.thread, (event.seq, u32::try_from(n).unwrap_or(u32::MAX)));
        Op::from(EditRow::new(key, absolute(before, &change.path), tool.to_owned(), change, event.at))
    };
    files.iter().enumerate().map(row).collect()
}

/// What is noted of files that were only looked at.
fn reads(before: &State, event: &Event, files: &[FileVersion]) -> Vec<Op> {
    let access = |file: &FileVersion| {
        Op::from(Access {
            path: absolute(before, &file.path),
            operation: FileOperation::Read,
            thread: before.thread,
            at: event.at,
            hash: Some(file.hash),
            size: None,
        })
    };
    files.iter().map(access).collect()
}

/// Whether files of the thread are being put back, and what became of it.
fn restoring(before: &State, event: &Event) -> Vec<Op> {
    let EventBody::EditRestored { error, .. } = &event.body else {
        return vec![Op::from(RestoringRow { thread: before.thread, began: event.seq, at: event.at })];
    };
    let taken_back = error.is_none().then(|| taken_back(before, event)).flatten();
    taken_back.into_iter().chain([Op::from(EndRestoring { thread: before.thread })]).collect()
}

/// The edit that was taken back, if one was.
fn taken_back(before: &State, event: &Event) -> Option<Op> {
    let PutBackFor::Edit { edit, reason } = &before.restoring.as_ref()?.put_back_for else { return None };
    let edits = Edits::from_text(edit)?;
    Some(Op::from(TakeBack { edits, reason: reason.clone(), at: event.at }))
}

/// A path of the journal as the tables have it.
fn absolute(state: &State, path: &str) -> String {
    let workspace = state.settings.as_ref().map(|settings| settings.workspace.as_path());
    workspace.map_or_else(|| path.to_owned(), |workspace| pathname::text(&workspace.join(path)))
}

/// Whether a command has outlived its call.
fn goes_on(call: &CallState, error: Option<&ToolError>) -> bool {
    match error {
        Some(error) => error.code == ErrorCode::CommandTimeout,
        None => call.arguments.get("run_in_background").and_then(Value::as_bool).unwrap_or_default(),
    }
}

fn job(thread: ThreadId, call: &CallState, started_at: Timestamp, boot_id: &str) -> JobRow {
    let text = |key| call.arguments.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    JobRow {
        thread,
        seq: call.intent,
        command: text("command"),
        cwd: text("cwd"),
        boot_id: boot_id.to_owned(),
        attempt: call.start,
        state: JobState::Running,
        end: String::new(),
        started_at,
        ended_at: None,
        bytes: 0,
        timeout_ms: call.arguments.get("timeout").and_then(Value::as_u64),
    }
}

/// The thread's own row, as of this state.
pub(crate) fn thread(state: &State, now: Timestamp) -> Option<Op> {
    let settings = state.settings.as_ref()?;
    let (status, reason, error) = match state.end() {
        None if state.is_waiting() => (ThreadStatus::Waiting, None, None),
        None => (ThreadStatus::Running, None, None),
        Some(End::New) => (ThreadStatus::Waiting, None, None),
        Some(End::Completed) => (ThreadStatus::Completed, None, None),
        Some(End::Failed(error)) => (ThreadStatus::Failed, None, Some(error.clone())),
        Some(End::Checkpointed(reason, error)) => {
            let reason = serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned));
            (ThreadStatus::Checkpointed, reason, error.clone())
        }
        Some(End::Cancelled) => (ThreadStatus::Cancelled, None, None),
    };
    Some(Op::from(ThreadRow {
        id: state.thread,
        status,
        workspace: settings.workspace.clone(),
        model: settings.model.clone(),
        mode: settings.mode,
        created_at: state.created_at,
        updated_at: now,
        last_seq: state.seq,
        turns: state.answered.0,
        tool_calls: u32::try_from(state.totals.tool_calls).unwrap_or(u32::MAX),
        usage: Usage {
            input_tokens: state.totals.input_tokens,
            output_tokens: state.totals.output_tokens,
            cached_tokens: state.totals.cached_tokens,
            cost_usd: state.totals.cost,
        },
        title: state.title.clone(),
        reason,
        error,
        generation: 0,
    }))
}

/// The state as a snapshot: derived, so one that cannot be made is left out.
pub(super) fn snapshot(state: &State) -> Option<Snapshot> {
    let plain = rmp_serde::to_vec_named(state).ok()?;
    Some(Snapshot {
        thread: state.thread,
        seq: state.seq,
        version: SNAPSHOT_VERSION,
        bytes: Bytes::from(block::compress_prepend_size(&plain)),
    })
}

/// The state in a snapshot, if it is of this version and whole.
pub(crate) fn restore(snapshot: &Snapshot) -> Option<State> {
    /// No state is larger: it holds what fits into a model's context, a few times over.
    const STATE_BYTES_MAX: usize = 256 * 1024 * 1024;
    if snapshot.version != SNAPSHOT_VERSION {
        return None;
    }
    let (length, compressed) = block::uncompressed_size(&snapshot.bytes).ok()?;
    let plain = if length <= STATE_BYTES_MAX { block::decompress(compressed, length).ok()? } else { return None };
    rmp_serde::from_slice::<State>(&plain)
        .ok()
        .filter(|state| state.seq == snapshot.seq && state.thread == snapshot.thread)
}
