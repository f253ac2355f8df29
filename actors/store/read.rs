//! What can be asked of the store: one read transaction, one consistent state.

use std::ops::{Bound, ControlFlow};
use std::time::Instant;

use bytes::Bytes;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::READ_TRANSACTION_MAX;
use lakitu_kernel::{ArtifactId, BeadId, CheckpointId, Event, Hash, Seq, ThreadId};
use redb::{ReadTransaction, ReadableTableMetadata, TableError};
use serde::Serialize;
use serde_json::Value;

use super::blob_files::BlobFiles;
use super::error::StoreError;
use super::key::{Key, Only};
use super::registry;
use super::row::{self, Row, Source, Visit, Walk};
use super::tables::{
    self, ALL, ArtifactRow, ArtifactsBy, BeadCallRow, BeadKey, BeadRow, BeadsBy, CHECKPOINTS_BY_CREATED, Change,
    CheckpointRow, CheckpointsBy, DecisionRow, EditKey, EditRow, EditsBy, ExecutionRow, JOBS_BY_STATE, JobRow,
    JobState, MetaRow, Progress, RestoringRow, Snapshot, ThreadRow, ThreadsBy, beads, state_part,
};
use super::write::{Raw, walk_table};

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins; none: this was the last.
    pub cursor: Option<String>,
    /// The commit that it was read at.
    pub commit: u64,
}

/// One table's size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// What its rows and indexes hold, in bytes.
    pub bytes: u64,
}

/// A read transaction. It sees one commit and nothing later, and ends after a second: an open one keeps old pages, and
/// the file grows.
pub struct Reading {
    txn: ReadTransaction,
    files: BlobFiles,
    // Real time: it bounds real pages.
    until: Option<Instant>,
}

impl Reading {
    /// A transaction that lives at most a second.
    pub(crate) fn new(txn: ReadTransaction, files: &BlobFiles) -> Self {
        Self { txn, files: files.clone(), until: Some(Instant::now() + READ_TRANSACTION_MAX) }
    }

    /// A transaction without a deadline: for `verify` and offline use.
    pub(crate) fn unbounded(txn: ReadTransaction, files: &BlobFiles) -> Self {
        Self { txn, files: files.clone(), until: None }
    }

    pub(crate) fn files(&self) -> &BlobFiles {
        &self.files
    }

    /// Every row of a range that can be read.
    pub(crate) fn each<R: Row>(
        &self,
        walk: &Walk,
        visit: &mut dyn FnMut(R) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.walk(walk, &mut |key, value| {
            if let Ok(row) = row::decode(key, value) {
                visit(row)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The number of the last commit that it sees.
    pub fn commit(&self) -> Result<u64, StoreError> {
        Ok(self.meta()?.commit)
    }

    /// How often the database was opened for writing.
    pub fn generation(&self) -> Result<u64, StoreError> {
        Ok(self.meta()?.generation)
    }

    /// What the store says of itself.
    pub fn meta(&self) -> Result<MetaRow, StoreError> {
        Ok(row::get(self, &Only)?.unwrap_or_default())
    }

    /// A thread.
    pub fn thread(&self, id: ThreadId) -> Result<Option<ThreadRow>, StoreError> {
        row::get(self, &id)
    }

    /// A list of threads, from `cursor` on.
    pub fn threads_by(
        &self,
        by: &ThreadsBy,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<ThreadRow>, StoreError> {
        let (items, last) = by.page(self, limit, cursor.map(unhex).transpose()?)?;
        let cursor = last.filter(|_| items.len() >= limit).map(|key| row::hex(&key));
        Ok(Page { items, cursor, commit: self.commit()? })
    }

    /// A list of edits, from `cursor` on.
    pub fn edits_by(&self, by: &EditsBy, limit: usize, cursor: Option<&str>) -> Result<Page<EditRow>, StoreError> {
        let (items, last) = by.page(self, limit, cursor.map(unhex).transpose()?)?;
        let cursor = last.filter(|_| items.len() >= limit).map(|key| row::hex(&key));
        Ok(Page { items, cursor, commit: self.commit()? })
    }

    /// An edit.
    pub fn edit(&self, key: &EditKey) -> Result<Option<EditRow>, StoreError> {
        row::get(self, key)
    }

    /// A thread's last event: 0 where it has none.
    pub fn last_seq(&self, thread: ThreadId) -> Result<Seq, StoreError> {
        Ok(tables::last_seq(self, thread)?.map_or(Seq::ZERO, |(last, _)| last))
    }

    /// A thread's events behind `after`, in order. A hole is an error.
    pub fn events(&self, thread: ThreadId, after: Seq, limit: usize) -> Result<Vec<Event>, StoreError> {
        tables::events(self, thread, after, limit)
    }

    /// A thread's newest snapshot. One that is damaged is as good as none: it is derived.
    pub fn snapshot(&self, thread: ThreadId) -> Result<Option<Snapshot>, StoreError> {
        match row::get(self, &thread) {
            Err(StoreError::Corrupt { table, key, what }) if table == Snapshot::NAME => {
                tracing::warn!(key, what, "a damaged snapshot is not used");
                Ok(None)
            }
            other => other,
        }
    }

    /// A blob's bytes, checked against its hash. One that is missing is damage: somebody names it.
    pub fn blob(&self, hash: Hash) -> Result<Bytes, StoreError> {
        let missing = || StoreError::corrupt("blobs", hash.text(), "it is missing");
        tables::read_blob(self, &self.files, hash)?.ok_or_else(missing)
    }

    /// A thread's tool executions, in the order of their calls.
    pub fn executions(&self, thread: ThreadId) -> Result<Vec<ExecutionRow>, StoreError> {
        row::rows(self, &Walk::prefix(ExecutionRow::NAME, &thread.bytes()), usize::MAX)
    }

    /// A thread's decisions, in order.
    pub fn decisions(&self, thread: ThreadId) -> Result<Vec<DecisionRow>, StoreError> {
        row::rows(self, &Walk::prefix(DecisionRow::NAME, &thread.bytes()), usize::MAX)
    }

    /// A thread's jobs, in order.
    pub fn jobs(&self, thread: ThreadId) -> Result<Vec<JobRow>, StoreError> {
        row::rows(self, &Walk::prefix(JobRow::NAME, &thread.bytes()), usize::MAX)
    }

    /// One job, by the intent that started it.
    pub fn job(&self, thread: ThreadId, intent: Seq) -> Result<Option<JobRow>, StoreError> {
        row::get(self, &(thread, intent))
    }

    /// The jobs of a thread that are not known to have ended.
    pub fn open_jobs_of(&self, thread: ThreadId) -> Result<Vec<JobRow>, StoreError> {
        let open = [&[state_part(JobState::Running)], thread.bytes().as_slice()].concat();
        row::rows_by(self, &Walk::prefix(JOBS_BY_STATE, &open), usize::MAX)
    }

    /// Every job that is not known to have ended.
    pub fn open_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        row::rows_by(self, &Walk::prefix(JOBS_BY_STATE, &[state_part(JobState::Running)]), usize::MAX)
    }

    /// The threads whose files are being put back.
    pub fn restorings(&self) -> Result<Vec<RestoringRow>, StoreError> {
        row::rows(self, &Walk::all(RestoringRow::NAME), usize::MAX)
    }

    /// A checkpoint.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Option<CheckpointRow>, StoreError> {
        row::get(self, &id)
    }

    /// A thread's checkpoints, the oldest first.
    pub fn checkpoints_of(&self, thread: ThreadId) -> Result<Vec<CheckpointRow>, StoreError> {
        tables::checkpoints_of(self, thread)
    }

    /// A list of checkpoints, from `cursor` on.
    pub fn checkpoints_by(
        &self,
        by: CheckpointsBy,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<CheckpointRow>, StoreError> {
        let (items, last) = by.page(self, limit, cursor.map(unhex).transpose()?)?;
        Ok(Page { items, cursor: last.map(|key| row::hex(&key)), commit: self.commit()? })
    }

    /// Checkpoints of all threads, the newest first.
    pub fn checkpoints(&self, limit: usize) -> Result<Vec<CheckpointRow>, StoreError> {
        row::rows_by(self, &Walk::all(CHECKPOINTS_BY_CREATED).down(), limit)
    }

    /// Checkpoints that were made before then, the oldest first.
    pub fn checkpoints_before(&self, then: Timestamp, limit: usize) -> Result<Vec<CheckpointRow>, StoreError> {
        let mut walk = Walk::all(CHECKPOINTS_BY_CREATED);
        walk.to = Bound::Excluded(then.0.to_be_bytes().to_vec());
        row::rows_by(self, &walk, limit)
    }

    /// A version of an artifact.
    pub fn artifact(&self, id: ArtifactId) -> Result<Option<ArtifactRow>, StoreError> {
        row::get(self, &id)
    }

    /// The versions of a thread's artifact, the newest first.
    pub fn artifact_versions(
        &self,
        thread: ThreadId,
        name: &str,
        limit: usize,
    ) -> Result<Vec<ArtifactRow>, StoreError> {
        tables::artifact_versions(self, thread, name, limit)
    }

    /// How many versions of artifacts a thread saved.
    pub fn artifacts_saved_by(&self, thread: ThreadId) -> Result<usize, StoreError> {
        tables::artifacts_saved_by(self, thread)
    }

    /// The artifact of that name that was saved last, whoever saved it.
    pub fn artifact_named(&self, name: &str) -> Result<Option<ArtifactRow>, StoreError> {
        tables::artifact_named(self, name)
    }

    /// A list of versions of artifacts, from `cursor` on.
    pub fn artifacts_by(
        &self,
        by: &ArtifactsBy,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<ArtifactRow>, StoreError> {
        let (items, last) = by.page(self, limit, cursor.map(unhex).transpose()?)?;
        Ok(Page { items, cursor: last.map(|key| row::hex(&key)), commit: self.commit()? })
    }

    /// A bead.
    pub fn bead(&self, id: &BeadId) -> Result<Option<BeadRow>, StoreError> {
        row::get(self, id)
    }

    /// Beads, the newest first, from `cursor` on.
    pub fn beads_by(&self, by: &BeadsBy, limit: usize, cursor: Option<&str>) -> Result<Page<BeadRow>, StoreError> {
        let (items, last) = beads::list(self, by, limit, cursor.map(unhex).transpose()?)?;
        Ok(Page { items, cursor: last.map(|key| row::hex(&key)), commit: self.commit()? })
    }

    /// Beads that nobody holds and nothing blocks, the most urgent first and of those the oldest, from `cursor` on.
    pub fn beads_ready(&self, limit: usize, cursor: Option<&str>) -> Result<Page<BeadRow>, StoreError> {
        let (items, last) = beads::ready(self, limit, cursor.map(unhex).transpose()?)?;
        Ok(Page { items, cursor: last.map(|key| row::hex(&key)), commit: self.commit()? })
    }

    /// Beads by name, behind `after`.
    pub fn beads_after(&self, after: Option<&BeadId>, limit: usize) -> Result<Vec<BeadRow>, StoreError> {
        beads::by_id(self, after, limit)
    }

    /// Of those that a bead waits for, the first that are there and not done.
    pub fn beads_waited_for(&self, bead: &BeadRow, limit: usize) -> Result<Vec<BeadId>, StoreError> {
        beads::open_blockers(self, bead, limit)
    }

    /// Those that wait for a bead, done or not.
    pub fn beads_waiting_for(&self, id: &BeadId) -> Result<Vec<BeadId>, StoreError> {
        beads::waiting_for(self, id)
    }

    /// The first children of a bead, those that are open first.
    pub fn bead_children(&self, id: &BeadId, limit: usize) -> Result<Vec<BeadRow>, StoreError> {
        beads::children(self, id, limit)
    }

    /// How far a bead's children are.
    pub fn bead_progress(&self, id: &BeadId) -> Result<Progress, StoreError> {
        beads::progress(self, id)
    }

    /// What came of a change of beads.
    pub fn bead_answer(&self, key: BeadKey) -> Result<Option<BeadCallRow>, StoreError> {
        tables::bead_answer(self, key)
    }

    /// Every table.
    pub fn tables(&self) -> Result<Vec<TableInfo>, StoreError> {
        ALL.iter()
            .map(|table| {
                let mut bytes = self.bytes(table.name())?;
                for (index, _) in table.indexes() {
                    bytes += self.bytes(index)?;
                }
                Ok(TableInfo { name: table.name().to_owned(), rows: self.count(table.name())?, bytes })
            })
            .collect()
    }

    /// One row of any table, by its key as text.
    pub fn get(&self, table: &str, key: &str) -> Result<Option<Value>, StoreError> {
        let table = registry::named(table)?;
        let no_key = || StoreError::Invalid(format!("{key} is no key of {}", table.name()));
        let key = table.key_from_text(key).ok_or_else(no_key)?;
        self.fetch(table.name(), &key)?.map(|value| table.json(&key, &value)).transpose()
    }

    /// The rows of any table in the order of their keys, from `cursor` on: each with its key as `key`, a damaged one
    /// with `corrupt` in place of its `row`.
    pub fn dump(&self, table: &str, cursor: Option<&str>, limit: usize) -> Result<Page<Value>, StoreError> {
        let table = registry::named(table)?;
        let mut walk = Walk::all(table.name());
        if let Some(cursor) = cursor {
            walk = walk.after(unhex(cursor)?);
        }
        let (mut items, mut last) = (Vec::new(), None);
        let limit = limit.max(1);
        self.walk(&walk, &mut |key, value| {
            if items.len() == limit {
                return Ok(ControlFlow::Break(()));
            }
            let text = table.key_text(key);
            items.push(match table.json(key, value) {
                Ok(row) => serde_json::json!({ "key": text, "row": row }),
                Err(error) => serde_json::json!({ "key": text, "corrupt": error.to_string() }),
            });
            last = Some(row::hex(key));
            Ok(ControlFlow::Continue(()))
        })?;
        let cursor = last.filter(|_| items.len() == limit);
        Ok(Page { items, cursor, commit: self.commit()? })
    }

    /// The changes of whole commits behind `after`: at least one commit, then as many as fit into `limit` rows.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        tables::changes_behind(self, after, limit)
    }

    fn table(&self, name: &'static str) -> Result<Option<RawTable>, StoreError> {
        if self.until.is_some_and(|until| Instant::now() > until) {
            return Err(too_long());
        }
        match self.txn.open_table(Raw::new(name)) {
            Ok(table) => Ok(Some(table)),
            // An older version's file, opened for reading only: the table is empty.
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn bytes(&self, name: &'static str) -> Result<u64, StoreError> {
        Ok(self.table(name)?.map(|table| table.stats()).transpose()?.map_or(0, |stats| stats.stored_bytes()))
    }
}

type RawTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

fn too_long() -> StoreError {
    StoreError::Io("the read took longer than a second: ask for less at a time".to_owned())
}

impl Source for Reading {
    fn fetch(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(table) = self.table(table)? else { return Ok(None) };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn walk(&self, walk: &Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let Some(table) = self.table(walk.table)? else { return Ok(()) };
        let until = self.until;
        walk_table(&table, walk, &mut |key, value| {
            if until.is_some_and(|until| Instant::now() > until) {
                return Err(too_long());
            }
            visit(key, value)
        })
    }

    fn count(&self, table: &'static str) -> Result<u64, StoreError> {
        Ok(self.table(table)?.map(|table| table.len()).transpose()?.unwrap_or(0))
    }
}

/// A cursor's bytes.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>, StoreError> {
    let no_cursor = || StoreError::Invalid(format!("{text} is no cursor"));
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(no_cursor());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(no_cursor))
        .collect()
}
