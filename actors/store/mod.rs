//! `/store`: one redb file, one writer. Parent `/`, permanent; rebuilt from the file (verified, repaired, set aside or
//! refused).
//!
//! **Invariant:** only this actor writes the database; what belongs together is one [`Step`].
//! **Invariant:** at most one commit is under way; what arrives meanwhile shares the next one.

mod blob_files;
mod error;
#[cfg(test)]
mod faults;
mod handle;
mod key;
mod read;
mod registry;
mod row;
mod step;
mod tables;
mod verify;
mod write;

pub use error::StoreError;
pub use handle::Store;
pub use key::Key;
pub use read::{Page, Reading, TableInfo};
pub use row::{Index, Row};
pub use step::{Committed, Step};
pub use tables::*;
pub use verify::{Finding, Findings, verify};
