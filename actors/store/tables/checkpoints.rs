//! `checkpoints`: states of threads that can be gone back to, with the field names of the original's table.
//!
//! A row holds references only. Its messages are events of the journal, and the contents of its files are blobs that the
//! thread's edits and redo records name: both stay as long as the thread does, which is longer than any checkpoint of it.

use std::ops::ControlFlow;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::event::CheckpointReason;
use lakitu_kernel::limits::CHECKPOINTS_PER_THREAD_MAX;
use lakitu_kernel::{BeadId, BeadStatus, BeadType, CheckpointId, Hash, Seq, ThreadId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::THREAD;
use super::beads::BeadRow;
use crate::store::StoreError;
use crate::store::key::Key as _;
use crate::store::read::Reading;
use crate::store::row::{self, Field, Index, Row, Source, Walk, text_part};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::write::Tables;

/// What became of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum CheckpointStatus {
    /// It is the one to go on from. On disk, in an index: never renumber.
    Active = 0,
    /// It was gone on from, or gone back to.
    Restored = 1,
    /// Its thread came to its end.
    Completed = 2,
    /// Its thread failed.
    Failed = 3,
    /// There is a newer one.
    Superseded = 4,
}

impl CheckpointStatus {
    const ALL: [Self; 5] = [Self::Active, Self::Restored, Self::Completed, Self::Failed, Self::Superseded];

    fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Restored => "restored",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether its thread's end becomes its end.
    const fn is_open(self) -> bool {
        match self {
            Self::Active | Self::Restored => true,
            Self::Completed | Self::Failed | Self::Superseded => false,
        }
    }
}

/// The newest messages of a thread: a part of its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageRange {
    /// The event of the first.
    pub first: Seq,
    /// The event of the last.
    pub last: Seq,
    /// How many there are between.
    pub count: u32,
}

/// A file in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSnapshot {
    /// Relative to the workspace.
    pub path: String,
    /// What the agent left there.
    #[serde(default, skip_serializing_if = "FileKind::is_file")]
    pub kind: FileKind,
    /// Its content, a blob; none: the agent removed it, or nobody read it.
    pub content_hash: Option<Hash>,
    /// In bytes.
    pub size: u64,
    /// Whether the agent removed it.
    #[serde(default)]
    pub removed: bool,
    /// When the agent changed it.
    pub last_modified: Timestamp,
    /// Its permission bits.
    pub mode: u32,
}

/// A bead in a checkpoint, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeadSnapshot {
    /// Its name.
    pub id: BeadId,
    /// What is to be done, in a line.
    pub title: String,
    /// What was being done about it.
    pub status: BeadStatus,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub kind: BeadType,
    /// From 0, critical, to 4, some day.
    pub priority: u8,
}

impl From<BeadRow> for BeadSnapshot {
    fn from(row: BeadRow) -> Self {
        let BeadRow { id, title, status, kind, priority, .. } = row;
        Self { id, title, status, kind, priority }
    }
}

/// One checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointRow {
    /// Its thread and where it was made.
    pub id: CheckpointId,
    /// The session, which is its thread's.
    pub session_id: String,
    /// Whose state it is.
    pub thread_id: ThreadId,
    /// The last event that it covers.
    pub as_of: Seq,
    /// Counts the thread's checkpoints, from 1.
    pub iteration: u32,
    /// The newest messages; none: nothing was said yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_history: Option<MessageRange>,
    /// The files that the agent changed, by path.
    pub file_state: Vec<FileSnapshot>,
    /// Files that changed earlier than these, and are left out.
    #[serde(default)]
    pub files_omitted: u32,
    /// The beads that the agent changed, the newest change last.
    #[serde(default)]
    pub beads_state: Vec<BeadSnapshot>,
    /// The names of the artifacts that its thread saved, the newest last.
    #[serde(default)]
    pub artifacts_produced: Vec<String>,
    /// What whoever made it calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is to be done from there.
    pub next_task: String,
    /// Why it was made.
    pub reason: CheckpointReason,
    /// What became of it.
    pub status: CheckpointStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was gone on from, or gone back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at: Option<Timestamp>,
    /// The thread that went on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_to_thread: Option<ThreadId>,
    /// When its thread came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// When its thread failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// What its thread failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What its thread's model said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_result: Option<Value>,
}

/// By age, for those who clean up.
pub(crate) const BY_CREATED: &str = "checkpoints.by_created";

impl Row for CheckpointRow {
    type Key = CheckpointId;
    const NAME: &'static str = "checkpoints";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] = &[
        Index {
            table: "checkpoints.by_session",
            by: &[Field::text("sessionId")],
            sort: |row| text_part(&row.session_id),
        },
        Index { table: "checkpoints.by_thread", by: &[THREAD], sort: |row| row.thread_id.bytes() },
        Index {
            table: "checkpoints.by_status",
            by: &[Field {
                name: "status",
                part: |text| CheckpointStatus::from_wire(text).map(|status| vec![status as u8]),
            }],
            sort: |row| [&[row.status as u8], row.created_at.0.to_be_bytes().as_slice()].concat(),
        },
        Index { table: BY_CREATED, by: &[], sort: |row| row.created_at.0.to_be_bytes().to_vec() },
    ];

    fn key(&self) -> CheckpointId {
        self.id
    }

    fn json(&self) -> Value {
        super::with_id(self, self.created_at)
    }
}

/// A thread's checkpoints, the oldest first. One that cannot be read is left to `verify`: it keeps no run from ending.
pub(crate) fn of_thread(source: &(impl Source + ?Sized), thread: ThreadId) -> Result<Vec<CheckpointRow>, StoreError> {
    let mut rows = Vec::new();
    source.walk(&Walk::prefix(CheckpointRow::NAME, &thread.bytes()), &mut |key, value| {
        rows.extend(row::decode::<CheckpointRow>(key, value).ok());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// Which checkpoints a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointsBy {
    /// All, the newest first.
    All,
    /// Those of this thread, the newest first.
    Thread(ThreadId),
}

impl CheckpointsBy {
    /// One page of them, and the key in the walked range of the last where there are more.
    pub(crate) fn page(
        self,
        reading: &Reading,
        limit: usize,
        behind: Option<Vec<u8>>,
    ) -> Result<(Vec<CheckpointRow>, Option<Vec<u8>>), StoreError> {
        let of = match self {
            Self::All => None,
            Self::Thread(thread) => Some(thread),
        };
        super::newest(reading, (BY_CREATED, |row: &CheckpointRow| row.created_at), of, limit, behind)
    }
}

/// Adds a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MakeCheckpoint {
    /// The checkpoint, but for its beads.
    pub row: CheckpointRow,
    /// Its beads: what they are stands in their table, which other threads change too.
    pub beads: Vec<BeadId>,
}

impl Operation for MakeCheckpoint {
    type Plan = (Vec<CheckpointRow>, Vec<BeadSnapshot>);

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        // One that is not there, or cannot be read, keeps no run from being checkpointed.
        let beads = self.beads.iter().filter_map(|id| row::get::<BeadRow>(tables, id).ok().flatten());
        Ok(Ok((of_thread(tables, self.row.thread_id)?, beads.map(BeadSnapshot::from).collect())))
    }

    fn apply(&self, (before, beads_state): Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        let excess = (before.len() + 1).saturating_sub(CHECKPOINTS_PER_THREAD_MAX);
        for (at, older) in before.into_iter().filter(|older| older.id != self.row.id).enumerate() {
            if at < excess {
                to.tables.delete::<CheckpointRow>(&older.id)?;
            } else if older.status == CheckpointStatus::Active {
                to.tables.put(&CheckpointRow { status: CheckpointStatus::Superseded, ..older })?;
            }
        }
        to.tables.put(&CheckpointRow { beads_state, ..self.row.clone() }).map(drop)
    }
}

/// What became of a thread whose checkpoints are told of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum CheckpointsEnd {
    /// It goes on from the active one.
    Resumed,
    /// It came to its end, and this is what the model said last.
    Completed(String),
    /// It failed.
    Failed(String),
}

/// Tells a thread's open checkpoints what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettleCheckpoints {
    /// The thread.
    pub thread: ThreadId,
    /// When.
    pub at: Timestamp,
    /// What became of it.
    pub end: CheckpointsEnd,
}

impl Operation for SettleCheckpoints {
    type Plan = Vec<CheckpointRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        Ok(Ok(of_thread(tables, self.thread)?))
    }

    fn apply(&self, rows: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        for row in rows.into_iter().filter(|row| row.status.is_open()) {
            let row = match &self.end {
                CheckpointsEnd::Resumed if row.status != CheckpointStatus::Active => continue,
                CheckpointsEnd::Resumed => CheckpointRow {
                    status: CheckpointStatus::Restored,
                    restored_at: Some(self.at),
                    restored_to_thread: Some(self.thread),
                    ..row
                },
                CheckpointsEnd::Completed(text) => CheckpointRow {
                    status: CheckpointStatus::Completed,
                    completed_at: Some(self.at),
                    final_result: Some(Value::from(text.as_str())),
                    ..row
                },
                CheckpointsEnd::Failed(error) => CheckpointRow {
                    status: CheckpointStatus::Failed,
                    failed_at: Some(self.at),
                    error: Some(error.clone()),
                    ..row
                },
            };
            to.tables.put(&row)?;
        }
        Ok(())
    }
}

/// Notes that a checkpoint was gone back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreCheckpoint {
    /// Which one.
    pub id: CheckpointId,
    /// When.
    pub at: Timestamp,
    /// The thread that goes on from it.
    pub to: ThreadId,
}

impl Operation for RestoreCheckpoint {
    type Plan = Option<CheckpointRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        Ok(Ok(row::get(tables, &self.id)?))
    }

    fn apply(&self, row: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        // It may have been removed meanwhile, as too old.
        let Some(row) = row else { return Ok(()) };
        let restored_at = Some(self.at);
        let restored_to_thread = Some(self.to);
        let status = CheckpointStatus::Restored;
        to.tables.put(&CheckpointRow { status, restored_at, restored_to_thread, ..row }).map(drop)
    }
}

/// Removes a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForgetCheckpoint {
    /// Which one.
    pub id: CheckpointId,
}

impl Operation for ForgetCheckpoint {
    type Plan = ();

    fn check(&self, _: &Tables<'_>) -> Result<Result<(), Refusal>, StoreError> {
        Ok(Ok(()))
    }

    fn apply(&self, (): (), to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        to.tables.delete::<CheckpointRow>(&self.id).map(drop)
    }
}
