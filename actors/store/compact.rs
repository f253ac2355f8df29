//! `db compact`: gives what the file does not need back to the disk.

use redb::Database;
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// The file's size before, in bytes.
    pub before_bytes: u64,
    /// Its size now.
    pub after_bytes: u64,
}

/// Each round moves what stands last in the file; one or two are enough, and no file needs more.
const ROUNDS_MAX: usize = 8;

/// Moves pages to the front and cuts the file. No reader has the database.
pub(crate) fn compact(database: &mut Database) -> Result<(), StoreError> {
    for _ in 0..ROUNDS_MAX {
        if !database.compact()? {
            break;
        }
    }
    Ok(())
}
