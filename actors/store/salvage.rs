//! What can be saved of a damaged database. The damaged file stays as it is, under another name.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use lakitu_kernel::clock::Timestamp;
use redb::{ReadOnlyDatabase, ReadableDatabase};
use serde::Serialize;

use super::blob_files::{BlobFiles, sync_folder};
use super::damaged::{Which, open_damaged};
use super::error::StoreError;
use super::home::Home;
use super::key::Only;
use super::open::{How, create};
use super::read::Reading;
use super::registry::{self, AnyTable};
use super::row::{self, Order, Source, Walk};
use super::tables::{ALL, MetaRow};
use super::write::{Raw, Tables};

/// What was saved of a damaged database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Salvage {
    /// Where the damaged file stands now, untouched.
    pub set_aside: PathBuf,
    /// What was wrong with it.
    pub why: String,
    /// Rows that were saved.
    pub saved: u64,
    /// Rows that were seen and could not be read: `table key`, at most a hundred.
    pub lost: Vec<String>,
    /// Tables in which not everything could be seen.
    pub incomplete: Vec<String>,
}

const LOST_TOLD_MAX: usize = 100;

/// Makes a new database of what can be read of the damaged one, and puts it in its place.
pub(crate) fn salvage(home: &Home, how: &How, why: String, now: Timestamp) -> Result<Salvage, StoreError> {
    let mut report = Salvage { set_aside: home.aside(now), why, ..Salvage::default() };
    // A second name before the first one is taken: at no moment is the damaged file without one.
    if fs::hard_link(home.database(), &report.set_aside).is_err() {
        // Not every file system has links.
        fs::copy(home.database(), &report.set_aside)?;
        File::open(&report.set_aside)?.sync_all()?;
    }
    sync_folder(home.root())?;
    // What the last commit does not lead to, the one before it may: most of its pages are the same.
    let damaged = [Which::Last, Which::Before].map(|which| (which, opened(home, which)));
    let made = create(home, how, MetaRow { created_at: now, ..MetaRow::default() }, |tables| {
        for table in ALL {
            let mut whole = false;
            for (which, database) in &damaged {
                if let (false, Some(database)) = (whole, database) {
                    let all = take_over(home, database, *table, tables, &mut report)?;
                    // Of what the last commit added, the one before it says nothing.
                    whole = all && *which == Which::Last;
                }
            }
            if !whole {
                report.incomplete.push(table.name().to_owned());
            }
        }
        restart_counters(tables, now)
    })?;
    made.close()?;
    // redb may panic once more when it closes what it could not read.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(damaged)));
    tracing::error!(
        set_aside = %report.set_aside.display(),
        saved = report.saved,
        lost = report.lost.len(),
        incomplete = ?report.incomplete,
        "salvaged"
    );
    Ok(report)
}

fn opened(home: &Home, which: Which) -> Option<ReadOnlyDatabase> {
    match catch_unwind(|| open_damaged(&home.database(), which)) {
        Ok(Ok(database)) => Some(database),
        Ok(Err(error)) => {
            tracing::error!(%error, ?which, "a commit in the damaged database cannot be read");
            None
        }
        Err(_) => None,
    }
}

/// Takes over every row of a table that can be read: from the front, and from the back to where the damage ends. Says
/// whether that is all of them.
fn take_over(
    home: &Home,
    database: &ReadOnlyDatabase,
    table: &dyn AnyTable,
    tables: &mut Tables<'_>,
    report: &mut Salvage,
) -> Result<bool, StoreError> {
    let files = BlobFiles::new(home.root());
    for order in [Order::Up, Order::Down] {
        let walk = Walk { order, ..Walk::all(table.name()) };
        // A failure to write ends the salvage, a failure to read only this walk.
        let mut written = Ok(());
        let read = catch_unwind(AssertUnwindSafe(|| {
            let txn = database.begin_read()?;
            // One that is missing was lost with the page that named it: a reader would take it for an empty one.
            txn.open_table(Raw::new(table.name()))?;
            let reading = Reading::unbounded(txn, &files);
            reading.walk(&walk, &mut |key, value| {
                written = take_row(table, tables, report, key, value);
                Ok(if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })
        }));
        written?;
        if let Ok(Ok(())) = read {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take_row(
    table: &dyn AnyTable,
    tables: &mut Tables<'_>,
    report: &mut Salvage,
    key: &[u8],
    value: &[u8],
) -> Result<(), StoreError> {
    if table.entries(key, value).is_err() {
        let name = format!("{} {}", table.name(), table.key_text(key));
        if report.lost.len() < LOST_TOLD_MAX && !report.lost.contains(&name) {
            report.lost.push(name);
        }
        return Ok(());
    }
    let known = table.name() != <MetaRow as super::row::Row>::NAME && tables.fetch(table.name(), key)?.is_some();
    if !known {
        registry::adopt(table, tables, key, value)?;
        report.saved += 1;
    }
    Ok(())
}

/// Numbers go on above everything that was ever given out, and every subscriber reads the rows again.
fn restart_counters(tables: &mut Tables<'_>, now: Timestamp) -> Result<(), StoreError> {
    let mut meta: MetaRow = row::get(tables, &Only)?.unwrap_or_default();
    if meta.generation == 0 {
        // The row was lost. No count of commits or openings comes near to the milliseconds since 1970.
        meta = MetaRow { generation: now.0, commit: now.0, created_at: now, ..meta };
    }
    meta.commit += 1;
    meta.trimmed = meta.commit;
    tables.put(&meta).map(drop)
}
