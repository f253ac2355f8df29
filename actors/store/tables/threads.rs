//! `threads`: one row a thread, what lists and `resume` need of it.

use std::path::{Path, PathBuf};

use lakitu_kernel::chat::Usd;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::mode::Mode;
use lakitu_kernel::{Hash, Seq, ThreadId, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::StoreError;
use crate::store::key::Key;
use crate::store::read::Reading;
use crate::store::row::{self, Index, Row, Walk};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::tables::journal;
use crate::store::verify::Findings;
use crate::store::write::Tables;

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum ThreadStatus {
    /// A run is on.
    Running = 0,
    /// A run is on, and waits for something from outside.
    Waiting = 1,
    /// The last run came to its end.
    Completed = 2,
    /// The last run failed.
    Failed = 3,
    /// The last run was stopped at a point from which it goes on.
    Checkpointed = 4,
    /// The last run was given up on request.
    Cancelled = 5,
}

impl ThreadStatus {
    /// All of them. On disk a status is its number here: never renumber; a retired one stays reserved.
    pub const ALL: [ThreadStatus; 6] = [
        ThreadStatus::Running,
        ThreadStatus::Waiting,
        ThreadStatus::Completed,
        ThreadStatus::Failed,
        ThreadStatus::Checkpointed,
        ThreadStatus::Cancelled,
    ];

    /// As it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            ThreadStatus::Running => "running",
            ThreadStatus::Waiting => "waiting",
            ThreadStatus::Completed => "completed",
            ThreadStatus::Failed => "failed",
            ThreadStatus::Checkpointed => "checkpointed",
            ThreadStatus::Cancelled => "cancelled",
        }
    }

    /// Back from the wire.
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether no call of the thread can be under way.
    pub const fn is_settled(self) -> bool {
        match self {
            ThreadStatus::Completed | ThreadStatus::Failed | ThreadStatus::Cancelled => true,
            ThreadStatus::Running | ThreadStatus::Waiting | ThreadStatus::Checkpointed => false,
        }
    }
}

impl From<ThreadStatus> for u8 {
    fn from(status: ThreadStatus) -> Self {
        status as u8
    }
}

impl TryFrom<u8> for ThreadStatus {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::ALL.get(usize::from(number)).copied().ok_or_else(|| format!("{number} is no status"))
    }
}

/// Tokens that a thread's model calls used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Of the tokens in, those that came from a cache.
    pub cached_tokens: u64,
    /// What they cost, in US dollars, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Usd>,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// Its id.
    pub id: ThreadId,
    /// What it is doing.
    pub status: ThreadStatus,
    /// Where it works.
    pub workspace: PathBuf,
    /// The model it talks to.
    pub model: String,
    /// The agent's mode.
    pub mode: Mode,
    /// When it was started.
    pub created_at: Timestamp,
    /// When this row last changed.
    pub updated_at: Timestamp,
    /// Its last event. The store sets it.
    #[serde(default)]
    pub last_seq: Seq,
    /// Model calls so far.
    #[serde(default)]
    pub turns: u32,
    /// Tool calls so far.
    #[serde(default)]
    pub tool_calls: u32,
    /// Tokens so far.
    #[serde(default)]
    pub usage: Usage,
    /// The beginning of the first prompt: at most 80 characters.
    #[serde(default)]
    pub title: String,
    /// Why the last run ended, where that says more than the status.
    #[serde(default)]
    pub reason: Option<String>,
    /// The error that the last run ended with.
    #[serde(default)]
    pub error: Option<ToolError>,
    /// The store's generation in which the thread was last written by its actor.
    #[serde(default)]
    pub generation: u64,
}

pub(crate) const BY_STATUS: &str = "threads.by_status";
pub(crate) const BY_WORKSPACE: &str = "threads.by_workspace";

/// A workspace as a part of an index.
pub(crate) fn workspace_part(workspace: &Path) -> Vec<u8> {
    Hash::of(workspace.as_os_str().as_encoded_bytes()).bytes()
}

impl Row for ThreadRow {
    type Key = ThreadId;
    const NAME: &'static str = "threads";
    const INDEXES: &'static [Index<Self>] = &[
        Index {
            table: BY_STATUS,
            by: &[],
            sort: |row| [&[row.status.into()], row.updated_at.0.to_be_bytes().as_slice()].concat(),
        },
        Index {
            table: BY_WORKSPACE,
            by: &[],
            sort: |row| [workspace_part(&row.workspace), row.created_at.0.to_be_bytes().to_vec()].concat(),
        },
    ];

    fn key(&self) -> ThreadId {
        self.id
    }

    fn json(&self) -> Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = json.as_object_mut() {
            fields.insert("status".to_owned(), self.status.as_str().into());
        }
        json
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.each::<Self>(&Walk::all(Self::NAME), &mut |row| {
            let last = journal::last_seq(reading, row.id)?.map_or(Seq::ZERO, |(last, _)| last);
            if last != row.last_seq {
                findings.add(
                    Self::NAME,
                    row.id.text(),
                    format!("it says last_seq {}, its journal ends at {last}", row.last_seq),
                );
            }
            if row.status.is_settled() {
                for call in journal::open_intents(reading, row.id)? {
                    findings.add(
                        Self::NAME,
                        row.id.text(),
                        format!("it is {} and call {call} has no result", row.status.as_str()),
                    );
                }
            }
            Ok(())
        })
    }
}

impl Operation for ThreadRow {
    type Plan = ();

    fn check(&self, _: &Tables<'_>) -> Result<Result<(), Refusal>, StoreError> {
        Ok(Ok(()))
    }

    fn apply(&self, (): (), to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        to.thread_row(self.clone());
        Ok(())
    }
}

/// Which threads a list holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThreadsBy {
    /// All, the newest first.
    All,
    /// Those in this state, the last changed first.
    Status(ThreadStatus),
    /// Those of this workspace, the newest first.
    Workspace(PathBuf),
}

impl ThreadsBy {
    /// The range that holds them; the index it goes by, where it is one.
    pub(crate) fn walk(&self) -> Walk {
        match self {
            ThreadsBy::All => Walk::all(ThreadRow::NAME),
            ThreadsBy::Status(status) => Walk::prefix(BY_STATUS, &[(*status).into()]),
            ThreadsBy::Workspace(workspace) => Walk::prefix(BY_WORKSPACE, &workspace_part(workspace)),
        }
        .down()
    }

    /// One page of them, and the key in that range of the last.
    pub(crate) fn page(
        &self,
        reading: &Reading,
        limit: usize,
        behind: Option<Vec<u8>>,
    ) -> Result<(Vec<ThreadRow>, Option<Vec<u8>>), StoreError> {
        let walk = behind.map_or_else(|| self.walk(), |key| self.walk().after(key));
        let rows: Vec<ThreadRow> = match self {
            ThreadsBy::All => row::rows(reading, &walk, limit)?,
            ThreadsBy::Status(_) | ThreadsBy::Workspace(_) => row::rows_by(reading, &walk, limit)?,
        };
        let last = rows.last().map(|row| {
            let key = row::entries(row).into_iter().find(|(index, _)| *index == walk.table);
            key.map_or_else(|| row.id.bytes(), |(_, entry)| entry)
        });
        Ok((rows, last))
    }
}
