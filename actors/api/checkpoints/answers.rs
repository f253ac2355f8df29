//! Checkpoints as they are answered: rows of their table, with its field names.

use lakitu_kernel::edit::FileKind;
use lakitu_kernel::event::CheckpointReason;
use lakitu_kernel::{Seq, ThreadId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::store::{BeadSnapshot, CheckpointRow, CheckpointStatus, FileSnapshot, MessageRange};

/// A thread was made out of another one's beginning.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Forked {
    /// The new thread.
    #[schemars(with = "String")]
    pub(in crate::api) thread: ThreadId,
    /// The other one.
    #[schemars(with = "String")]
    pub(in crate::api) from: ThreadId,
    /// The last event that both have: the one that was asked for, or the last before it with a valid history.
    #[schemars(with = "u64")]
    pub(in crate::api) at_seq: Seq,
}

/// A checkpoint was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct Made {
    /// The checkpoint's id.
    pub(in crate::api) id: String,
    /// Its thread.
    #[schemars(with = "String")]
    pub(in crate::api) thread: ThreadId,
}

/// A checkpoint was gone back to.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::api) struct WentBack {
    /// The checkpoint's id.
    pub(in crate::api) checkpoint: String,
    /// The new thread that goes on from it; the old one stays as it is.
    #[schemars(with = "String")]
    pub(in crate::api) thread: ThreadId,
    /// The files that were put back.
    pub(in crate::api) files: Vec<String>,
}

/// The newest messages of a thread: a part of its journal.
#[derive(Debug, Serialize, JsonSchema)]
struct Messages {
    /// The event of the first.
    first: u64,
    /// The event of the last.
    last: u64,
    /// How many there are between.
    count: u32,
}

/// A file that the agent had changed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct File {
    /// Relative to the workspace; a byte of it that is no UTF-8 is NUL and two hexadecimal digits.
    path: String,
    /// What the agent left there; a file, where it is not said.
    #[serde(skip_serializing_if = "FileKind::is_file")]
    kind: FileKind,
    /// The SHA-256 of its content; null: it was removed, or nobody read it.
    content_hash: Option<String>,
    /// In bytes.
    size: u64,
    /// Whether the agent had removed it.
    removed: bool,
    /// When the agent changed it, in milliseconds since 1970.
    last_modified: u64,
    /// Its permission bits.
    mode: u32,
}

/// A bead that the agent had changed, as it was then.
#[derive(Debug, Serialize, JsonSchema)]
struct Bead {
    /// Its name.
    id: String,
    /// What is to be done, in a line.
    title: String,
    /// What was being done about it.
    status: String,
    /// What kind of work it is.
    #[serde(rename = "type")]
    kind: String,
    /// From 0, critical, to 4, some day.
    priority: u8,
}

/// A state of a thread that can be gone back to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct Checkpoint {
    /// Its id.
    #[serde(rename = "_id")]
    id: String,
    /// When it was made, in milliseconds since 1970.
    #[serde(rename = "_creationTime")]
    creation_time: u64,
    /// The session, which is its thread's.
    session_id: String,
    /// Whose state it is.
    thread_id: String,
    /// The last event that it covers.
    as_of: u64,
    /// Counts the thread's checkpoints, from 1.
    iteration: u32,
    /// The newest messages, where something was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_history: Option<Messages>,
    /// The files that the agent had changed, by path.
    file_state: Vec<File>,
    /// Files that changed earlier than these, and are left out.
    files_omitted: u32,
    /// The beads that the agent had changed, the newest change last; at most 100.
    beads_state: Vec<Bead>,
    /// The names of the artifacts that the thread saved, the newest last; at most 100.
    artifacts_produced: Vec<String>,
    /// What whoever made it calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What is to be done from there.
    next_task: String,
    /// Why it was made.
    reason: CheckpointReason,
    /// What became of it.
    status: CheckpointStatus,
    /// When it was made, in milliseconds since 1970.
    created_at: u64,
    /// When it was gone on from, or gone back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_at: Option<u64>,
    /// The thread that went on from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_to_thread: Option<String>,
    /// When its thread came to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<u64>,
    /// When its thread failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<u64>,
    /// What its thread failed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What its thread's model said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    final_result: Option<Value>,
}

impl From<CheckpointRow> for Checkpoint {
    fn from(row: CheckpointRow) -> Self {
        let messages = |range: MessageRange| Messages { first: range.first.0, last: range.last.0, count: range.count };
        let file = |file: FileSnapshot| File {
            path: file.path,
            kind: file.kind,
            content_hash: file.content_hash.map(|hash| hash.to_string()),
            size: file.size,
            removed: file.removed,
            last_modified: file.last_modified.0,
            mode: file.mode,
        };
        let bead = |BeadSnapshot { id, title, status, kind, priority }| Bead {
            id: id.to_string(),
            title,
            status: status.to_string(),
            kind: kind.to_string(),
            priority,
        };
        Self {
            id: row.id.to_string(),
            creation_time: row.created_at.0,
            session_id: row.session_id,
            thread_id: row.thread_id.to_string(),
            as_of: row.as_of.0,
            iteration: row.iteration,
            message_history: row.message_history.map(messages),
            file_state: row.file_state.into_iter().map(file).collect(),
            files_omitted: row.files_omitted,
            beads_state: row.beads_state.into_iter().map(bead).collect(),
            artifacts_produced: row.artifacts_produced,
            name: row.name,
            next_task: row.next_task,
            reason: row.reason,
            status: row.status,
            created_at: row.created_at.0,
            restored_at: row.restored_at.map(|at| at.0),
            restored_to_thread: row.restored_to_thread.map(|thread| thread.to_string()),
            completed_at: row.completed_at.map(|at| at.0),
            failed_at: row.failed_at.map(|at| at.0),
            error: row.error,
            final_result: row.final_result,
        }
    }
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::clock::Timestamp;
    use lakitu_kernel::{BeadStatus, BeadType, CheckpointId, Hash};

    use super::*;
    use crate::store::Row as _;

    #[test]
    fn it_is_the_row_as_its_table_shows_it() {
        let (thread, at) = (ThreadId(7), Timestamp(5));
        let row = CheckpointRow {
            id: CheckpointId { thread, seq: Seq(9) },
            session_id: "session".to_owned(),
            thread_id: thread,
            as_of: Seq(8),
            iteration: 2,
            message_history: Some(MessageRange { first: Seq(2), last: Seq(8), count: 3 }),
            file_state: vec![FileSnapshot {
                path: "a".to_owned(),
                kind: FileKind::File,
                content_hash: Some(Hash::of(b"a")),
                size: 1,
                removed: false,
                last_modified: at,
                mode: 0o644,
            }],
            files_omitted: 1,
            beads_state: vec![BeadSnapshot {
                id: "lk-1".parse().unwrap(),
                title: "write it".to_owned(),
                status: BeadStatus::Open,
                kind: BeadType::Task,
                priority: 2,
            }],
            artifacts_produced: vec!["report.md".to_owned()],
            name: Some("here".to_owned()),
            next_task: "go on".to_owned(),
            reason: CheckpointReason::ErrorRecovery,
            status: CheckpointStatus::Superseded,
            created_at: at,
            restored_at: Some(at),
            restored_to_thread: Some(thread),
            completed_at: Some(at),
            failed_at: Some(at),
            error: Some("X: y".to_owned()),
            final_result: Some(Value::from("done")),
        };
        let bare = CheckpointRow { message_history: None, name: None, restored_at: None, ..row.clone() };
        for row in [row, bare] {
            assert_eq!(serde_json::to_value(Checkpoint::from(row.clone())).unwrap(), row.json());
        }
    }
}
