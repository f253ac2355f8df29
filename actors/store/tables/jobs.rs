//! `jobs`: shell commands that can outlive the call that started them. A job's key is its intent's, so a thread's jobs
//! stand together without an index.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{Seq, ThreadId};
use serde::{Deserialize, Serialize};

use crate::store::row::{Index, Row};
use crate::store::step::put_operation;

/// Whether a job is known to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It may run: its call waits for it, or has left it to itself. Whoever comes to its thread next looks.
    Running,
    /// It does not.
    Ended,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Whose job it is.
    pub thread: ThreadId,
    /// The seq of the intent that started it: its number.
    pub seq: Seq,
    /// What is run.
    pub command: String,
    /// Where, relative to the workspace.
    pub cwd: String,
    /// The boot of the machine in which it was started.
    pub boot_id: String,
    /// 1 for the first start.
    pub attempt: u32,
    /// Whether it has ended.
    pub state: JobState,
    /// How it ended, in a few words.
    #[serde(default)]
    pub end: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// What it has written, in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// How long its call waits for it, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

pub(crate) const BY_STATE: &str = "jobs.by_state";

/// A job's state as a part of an index: never renumber.
pub(crate) const fn state_part(state: JobState) -> u8 {
    match state {
        JobState::Running => 0,
        JobState::Ended => 1,
    }
}

impl Row for JobRow {
    type Key = (ThreadId, Seq);
    const NAME: &'static str = "jobs";
    // So that a start finds what may still run without reading every job there ever was.
    const INDEXES: &'static [Index<Self>] =
        &[Index { table: BY_STATE, by: &[], sort: |row| vec![state_part(row.state)] }];

    fn key(&self) -> (ThreadId, Seq) {
        (self.thread, self.seq)
    }
}

put_operation!(JobRow);
