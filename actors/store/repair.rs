//! `db verify --repair`: sets the file aside as it is, makes a new one of every row that can be read, and makes anew
//! what is derived. What cannot be known is not guessed: a journal ends before its first hole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{Seq, ThreadId};
use redb::{Database, ReadableDatabase};
use serde::Serialize;

use super::blob_files::BlobFiles;
use super::error::StoreError;
use super::home::Home;
use super::key::Key;
use super::open::{self, How};
use super::read::Reading;
use super::row::{self, Row, Source, Walk};
use super::salvage::{Salvage, salvage};
use super::tables::{
    self, BlobRow, DecisionRow, ExecutionRow, JournalRow, Snapshot, ThreadRow, ThreadStatus, open_intents,
};
use super::verify::{Finding, Findings, verify};
use super::write::Tables;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What was wrong before.
    pub findings: Vec<Finding>,
    /// What was set aside and saved; none: nothing was wrong.
    pub salvage: Option<Salvage>,
    /// What was changed to fit together again.
    pub changed: Vec<Finding>,
    /// What is still wrong: it cannot be made anew.
    pub left: Vec<Finding>,
}

/// Repairs the database of a directory that is owned.
pub(crate) fn repair(home: &Home, how: &How, now: Timestamp) -> Result<Repair, StoreError> {
    let (findings, why) = match open::open_existing(home, how) {
        Ok(database) => {
            let findings = look(&database, home)?;
            database.close()?;
            let why = format!("verify found {} things", findings.len());
            (findings, why)
        }
        Err(StoreError::Corrupt { table, key, what }) => {
            let why = what.clone();
            (vec![Finding { table, key, what }], why)
        }
        Err(error) => return Err(error),
    };
    if findings.is_empty() {
        return Ok(Repair { findings, salvage: None, changed: Vec::new(), left: Vec::new() });
    }
    let salvage = Some(salvage(home, how, why, now)?);
    let database = open::open_existing(home, how)?;
    let changed = mend(&database, home, now)?;
    let left = look(&database, home)?;
    database.close()?;
    Ok(Repair { findings, salvage, changed, left })
}

fn look(database: &Database, home: &Home) -> Result<Vec<Finding>, StoreError> {
    verify(&Reading::unbounded(database.begin_read()?, &BlobFiles::new(home.root())))
}

/// Makes what is there fit together, in one commit.
fn mend(database: &Database, home: &Home, now: Timestamp) -> Result<Vec<Finding>, StoreError> {
    let files = BlobFiles::new(home.root());
    let mut changed = Findings::default();
    let mut txn = database.begin_write()?;
    // Whatever its size: the next open may be after a crash.
    txn.set_quick_repair(true);
    let mut tables = Tables::new(&txn, &files, now)?;
    let cut = cut_journals(&mut tables, &mut changed)?;
    mend_threads(&mut tables, &cut, &mut changed)?;
    let unreadable = drop_blobs(&mut tables, &mut changed)?;
    tables.close()?;
    txn.commit()?;
    for hash in unreadable {
        files.set_aside(hash)?;
    }
    Ok(changed.into_vec())
}

/// Ends each journal before its first hole, with what was derived from the events behind it.
fn cut_journals(tables: &mut Tables<'_>, changed: &mut Findings) -> Result<BTreeSet<ThreadId>, StoreError> {
    let mut ends: BTreeMap<ThreadId, (Seq, u32)> = BTreeMap::new();
    let mut broken: BTreeMap<ThreadId, Vec<Seq>> = BTreeMap::new();
    tables.walk(&Walk::all(JournalRow::NAME), &mut |key, value| {
        let record = row::decode::<JournalRow>(key, value)?;
        let (last, chain) = ends.get(&record.thread).copied().unwrap_or((Seq::ZERO, 0));
        let fits = record.seq == last.next() && record.prev == chain && !broken.contains_key(&record.thread);
        if fits {
            ends.insert(record.thread, (record.seq, row::checksum(value).unwrap_or_default()));
        } else {
            broken.entry(record.thread).or_default().push(record.seq);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (thread, behind) in &broken {
        let last = ends.get(thread).map_or(Seq::ZERO, |(last, _)| *last);
        for seq in behind {
            tables.delete::<JournalRow>(&(*thread, *seq))?;
            tables.delete::<ExecutionRow>(&(*thread, *seq))?;
            tables.delete::<DecisionRow>(&(*thread, *seq))?;
        }
        let what = format!("it ends at {last}: {} events behind a hole are only in the file set aside", behind.len());
        changed.add(JournalRow::NAME, thread.text(), what);
    }
    Ok(broken.into_keys().collect())
}

/// What a thread's row and its snapshot say follows from its journal.
fn mend_threads(tables: &mut Tables<'_>, cut: &BTreeSet<ThreadId>, changed: &mut Findings) -> Result<(), StoreError> {
    for snapshot in row::rows::<Snapshot>(tables, &Walk::all(Snapshot::NAME), usize::MAX)? {
        let last = tables::last_seq(tables, snapshot.thread)?.map_or(Seq::ZERO, |(last, _)| last);
        if snapshot.seq > last || cut.contains(&snapshot.thread) {
            tables.delete::<Snapshot>(&snapshot.thread)?;
        }
    }
    for row in row::rows::<ThreadRow>(tables, &Walk::all(ThreadRow::NAME), usize::MAX)? {
        let last_seq = tables::last_seq(tables, row.id)?.map_or(Seq::ZERO, |(last, _)| last);
        let unsettled = row.status.is_settled() && !open_intents(tables, row.id)?.is_empty();
        // Whoever resumes it settles what is open, each call by its class.
        let status = if unsettled || cut.contains(&row.id) { ThreadStatus::Checkpointed } else { row.status };
        if status != row.status || last_seq != row.last_seq {
            let what = format!("it is {} at {last_seq}", status.as_str());
            changed.add(ThreadRow::NAME, row.id.text(), what);
            tables.put(&ThreadRow { status, last_seq, ..row })?;
        }
    }
    Ok(())
}

/// A blob whose bytes are not what its name says is none.
fn drop_blobs(tables: &mut Tables<'_>, changed: &mut Findings) -> Result<Vec<lakitu_kernel::Hash>, StoreError> {
    let mut unreadable = Vec::new();
    for row in row::rows::<BlobRow>(tables, &Walk::all(BlobRow::NAME), usize::MAX)? {
        match tables::read_blob(tables, tables.files, row.hash) {
            Ok(_) => {}
            Err(StoreError::Corrupt { what, .. }) => {
                tables.delete::<BlobRow>(&row.hash)?;
                changed.add(BlobRow::NAME, row.hash.text(), format!("it is set aside: {what}"));
                unreadable.push(row.hash);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(unreadable)
}
