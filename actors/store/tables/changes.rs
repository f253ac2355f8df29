//! `changes`: the feed. Every change of a row, in the order of the commits, kept for a day or a million rows.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::{CHANGES_AGE_MAX, CHANGES_ROWS_MAX};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::key::{Key, Only};
use crate::store::row::{self, Row, Source, Walk};
use crate::store::tables::MetaRow;
use crate::store::write::Tables;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOp {
    /// It was inserted or replaced.
    Put,
    /// It was removed.
    Delete,
}

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The commit that it was a part of.
    pub commit: u64,
    /// Its position within the commit.
    pub n: u32,
    /// When the commit began.
    pub at: Timestamp,
    /// The table.
    pub table: String,
    /// The row's key as text.
    pub key: String,
    /// What happened.
    pub op: ChangeOp,
    /// Of a public table: the places in its indexes that the row had before and has no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

/// A place in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The index's table.
    pub index: String,
    /// What stood there, with the row's key behind it.
    pub entry: Bytes,
}

impl Row for Change {
    type Key = (u64, u32);
    const NAME: &'static str = "changes";
    const FEED: bool = false;

    fn key(&self) -> (u64, u32) {
        (self.commit, self.n)
    }
}

/// Changes that one commit removes at most, beside as many as it added: the writer waits for none of it long.
const TRIMMED_AT_ONCE: usize = 256;

/// Writes a change.
pub(crate) fn record(
    tables: &mut Tables<'_>,
    n: u32,
    (table, key): (&'static str, String),
    op: ChangeOp,
    left: Vec<Left>,
) -> Result<(), StoreError> {
    let change = Change { commit: tables.commit(), n, at: tables.now(), table: table.to_owned(), key, op, left };
    tables.put(&change).map(drop)
}

/// Removes some of what is too old or too much.
pub(crate) fn trim(tables: &mut Tables<'_>) -> Result<(), StoreError> {
    trim_to(tables, CHANGES_ROWS_MAX)
}

pub(crate) fn trim_to(tables: &mut Tables<'_>, rows_max: u64) -> Result<(), StoreError> {
    let count = tables.count(Change::NAME)?;
    let mut surplus = count.saturating_sub(rows_max);
    // A row that is looked at and kept ends the walk: the older ones stand before it.
    let added = last_commit_rows(tables)?;
    let (now, mut gone, mut age) = (tables.now(), Vec::new(), std::time::Duration::ZERO);
    tables.walk(&Walk::all(Change::NAME), &mut |key, value| {
        // A row that cannot be read is as old as the one before it.
        age = row::decode::<Change>(key, value).map_or(age, |change| now.since(change.at));
        if (surplus == 0 && age <= CHANGES_AGE_MAX) || gone.len() >= TRIMMED_AT_ONCE + added {
            return Ok(ControlFlow::Break(()));
        }
        surplus = surplus.saturating_sub(1);
        gone.extend(<(u64, u32)>::from_bytes(key));
        Ok(ControlFlow::Continue(()))
    })?;
    for key in gone {
        tables.delete::<Change>(&key)?;
        tables.meta().trimmed = key.0;
    }
    Ok(())
}

fn last_commit_rows(tables: &Tables<'_>) -> Result<usize, StoreError> {
    let last = row::last_key(tables, Change::NAME, &tables.commit().bytes())?;
    let n = last.and_then(|(key, _)| <(u64, u32)>::from_bytes(&key)).map_or(0, |(_, n)| n + 1);
    Ok(n as usize)
}

/// The commit behind which the feed is whole.
pub(crate) fn horizon(source: &(impl Source + ?Sized)) -> Result<u64, StoreError> {
    Ok(row::get::<MetaRow>(source, &Only)?.unwrap_or_default().trimmed)
}

/// The changes of whole commits behind `after`: at least one commit, then as many as fit into `limit` rows.
pub(crate) fn behind(source: &(impl Source + ?Sized), after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
    let oldest = horizon(source)?;
    if after < oldest {
        return Err(StoreError::Truncated { after, oldest });
    }
    let mut walk = Walk::all(Change::NAME);
    walk.from = Bound::Excluded((after, u32::MAX).bytes());
    let mut changes: Vec<Change> = Vec::new();
    source.walk(&walk, &mut |key, value| {
        let change: Change = row::decode(key, value)?;
        let same_commit = changes.last().is_some_and(|last| last.commit == change.commit);
        if changes.len() >= limit.max(1) && !same_commit {
            return Ok(ControlFlow::Break(()));
        }
        changes.push(change);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(changes)
}
