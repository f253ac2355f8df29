//! `meta`: the one row that says what the file is.

use lakitu_kernel::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::key::Only;
use crate::store::row::Row;

/// The format that this version writes: raised when an older version could no longer read what is written.
pub const FORMAT: u32 = 1;

/// What the store says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// The format of everything else.
    pub format: u32,
    /// How often the file was opened for writing.
    #[serde(default)]
    pub generation: u64,
    /// The number of the last commit.
    #[serde(default)]
    pub commit: u64,
    /// The last commit of which changes are no longer in the feed.
    #[serde(default)]
    pub trimmed: u64,
    /// When the database was made.
    #[serde(default)]
    pub created_at: Timestamp,
}

impl Default for MetaRow {
    fn default() -> Self {
        Self { format: FORMAT, generation: 0, commit: 0, trimmed: 0, created_at: Timestamp::default() }
    }
}

impl Row for MetaRow {
    type Key = Only;
    const NAME: &'static str = "meta";
    const FEED: bool = false;

    fn key(&self) -> Only {
        Only
    }
}
