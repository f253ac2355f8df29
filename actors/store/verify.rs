//! `db verify`: looks at every row, every index entry and what must hold between tables.

use serde::Serialize;

use super::error::StoreError;
use super::read::Reading;
use super::tables::ALL;

/// Something that is wrong with the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The table, or the index as `table.index`.
    pub table: String,
    /// The row's key as text.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

/// Findings kept of one look; of more, only the number is told.
const FINDINGS_MAX: usize = 10_000;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings {
    found: Vec<Finding>,
    more: u64,
}

impl Findings {
    /// Adds one.
    pub(crate) fn add(&mut self, table: &str, key: String, what: String) {
        if self.found.len() < FINDINGS_MAX {
            self.found.push(Finding { table: table.to_owned(), key, what });
        } else {
            self.more += 1;
        }
    }
}

impl Findings {
    /// Those that were kept, with the number of the others as the last.
    pub(crate) fn into_vec(mut self) -> Vec<Finding> {
        if self.more > 0 {
            let what = format!("{} more are not listed", self.more);
            self.found.push(Finding { table: String::new(), key: String::new(), what });
        }
        self.found
    }
}

/// Everything that is wrong. An `Err` means that the look itself could not be finished.
pub fn verify(reading: &Reading) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Findings::default();
    for table in ALL {
        table.inspect(reading, &mut findings)?;
    }
    Ok(findings.into_vec())
}
