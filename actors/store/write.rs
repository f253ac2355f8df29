//! The tables inside a write transaction.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use lakitu_kernel::Hash;
use lakitu_kernel::clock::Timestamp;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::blob_files::BlobFiles;
use super::error::StoreError;
use super::key::Key;
use super::row::{self, IndexEntry, Order, Row, Source, Visit, Walk};
use super::tables::{self, ChangeOp, Left, MetaRow};

/// Bytes under bytes: what every table is to redb.
pub(crate) type Raw = TableDefinition<'static, &'static [u8], &'static [u8]>;
type RawTable<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

/// All tables, with what this transaction has written so far. The only place from which a row is written.
pub(crate) struct Tables<'txn> {
    txn: &'txn WriteTransaction,
    // Opened when they are first used: most transactions touch a few of them.
    open: BTreeMap<&'static str, OnceCell<RawTable<'txn>>>,
    meta: MetaRow,
    now: Timestamp,
    changes: u32,
    /// Where the large blobs stand.
    pub(crate) files: &'txn BlobFiles,
    /// Blobs whose files go once this transaction is durable.
    pub(crate) unlink: BTreeSet<Hash>,
}

impl<'txn> Tables<'txn> {
    /// The tables in `txn`, for the next commit.
    pub(crate) fn new(txn: &'txn WriteTransaction, files: &'txn BlobFiles, now: Timestamp) -> Result<Self, StoreError> {
        let open = super::registry::physical().map(|name| (name, OnceCell::new())).collect();
        let unlink = BTreeSet::new();
        let mut tables = Self { txn, open, meta: MetaRow::default(), now, changes: 0, files, unlink };
        tables.meta = row::get(&tables, &super::key::Only)?.unwrap_or_default();
        tables.meta.commit += 1;
        Ok(tables)
    }

    /// The number that this transaction will have.
    pub(crate) fn commit(&self) -> u64 {
        self.meta.commit
    }

    /// When this transaction began.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// What the store says of itself.
    pub(crate) fn meta(&mut self) -> &mut MetaRow {
        &mut self.meta
    }

    /// The last write before the commit: the feed is trimmed, the commit counted.
    pub(crate) fn close(mut self) -> Result<BTreeSet<Hash>, StoreError> {
        tables::trim(&mut self)?;
        let meta = self.meta.clone();
        self.put(&meta)?;
        Ok(self.unlink)
    }

    fn table(&self, name: &'static str) -> Result<&RawTable<'txn>, StoreError> {
        let cell = self.open.get(name).ok_or_else(|| StoreError::Io(format!("{name} is no table")))?;
        if let Some(table) = cell.get() {
            return Ok(table);
        }
        let table = self.txn.open_table(Raw::new(name))?;
        Ok(cell.get_or_init(|| table))
    }

    fn table_mut(&mut self, name: &'static str) -> Result<&mut RawTable<'txn>, StoreError> {
        self.table(name)?;
        let table = self.open.get_mut(name).and_then(OnceCell::get_mut);
        table.ok_or_else(|| StoreError::Io(format!("{name} is not open")))
    }

    /// Inserts or replaces a row with its index entries, and tells the feed. Gives the row's bytes on disk.
    pub(crate) fn put<R: Row>(&mut self, row: &R) -> Result<Vec<u8>, StoreError> {
        let key = row.key().bytes();
        let value = row::encode(row)?;
        let old = if row::index_tables::<R>().next().is_none() { None } else { self.fetch(R::NAME, &key)? };
        let stale = old.map(|old| row::decode::<R>(&key, &old)).transpose()?;
        let (stale, fresh) = (stale.map(|row| row::entries(&row)).unwrap_or_default(), row::entries(row));
        let (left, stale): (Vec<_>, Vec<_>) = stale.into_iter().partition(|entry| !fresh.contains(entry));
        for (index, entry) in &left {
            self.erase(index, entry)?;
        }
        for (index, entry) in fresh.iter().filter(|entry| !stale.contains(entry)) {
            self.write(index, entry, &key)?;
        }
        self.write(R::NAME, &key, &value)?;
        self.feed::<R>(&key, ChangeOp::Put, left)?;
        Ok(value)
    }

    /// Removes a row with its index entries, and tells the feed. Says whether there was one.
    pub(crate) fn delete<R: Row>(&mut self, key: &R::Key) -> Result<bool, StoreError> {
        let key = key.bytes();
        let Some(old) = self.fetch(R::NAME, &key)? else { return Ok(false) };
        let mut left = Vec::new();
        if row::index_tables::<R>().next().is_some() {
            left = row::entries(&row::decode::<R>(&key, &old)?);
            for (index, entry) in &left {
                self.erase(index, entry)?;
            }
        }
        self.erase(R::NAME, &key)?;
        self.feed::<R>(&key, ChangeOp::Delete, left)?;
        Ok(true)
    }

    fn feed<R: Row>(&mut self, key: &[u8], op: ChangeOp, left: Vec<IndexEntry>) -> Result<(), StoreError> {
        if R::FEED {
            let left = if R::PUBLIC { left } else { Vec::new() };
            let left = left.into_iter().map(|(index, entry)| Left { index: index.to_owned(), entry: entry.into() });
            let n = self.changes;
            self.changes += 1;
            tables::record(self, n, (R::NAME, row::key_text::<R>(key)), op, left.collect())?;
        }
        Ok(())
    }

    /// Writes bytes as they are: for index entries, and for rows that were read as whole from a damaged file.
    pub(crate) fn write(&mut self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.table_mut(table)?.insert(key, value)?;
        Ok(())
    }

    fn erase(&mut self, table: &'static str, key: &[u8]) -> Result<(), StoreError> {
        self.table_mut(table)?.remove(key)?;
        Ok(())
    }
}

impl Source for Tables<'_> {
    fn fetch(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.table(table)?.get(key)?.map(|value| value.value().to_vec()))
    }

    fn walk(&self, walk: &Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        walk_table(self.table(walk.table)?, walk, visit)
    }

    fn count(&self, table: &'static str) -> Result<u64, StoreError> {
        Ok(self.table(table)?.len()?)
    }
}

/// Walks a range of an open table.
pub(crate) fn walk_table(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    walk: &Walk,
    visit: &mut Visit<'_>,
) -> Result<(), StoreError> {
    if walk.is_empty() {
        return Ok(());
    }
    let bounds = (walk.from.as_ref().map(Vec::as_slice), walk.to.as_ref().map(Vec::as_slice));
    let mut range = table.range::<&[u8]>(bounds)?;
    loop {
        let next = match walk.order {
            Order::Up => range.next(),
            Order::Down => range.next_back(),
        };
        let Some(entry) = next else { return Ok(()) };
        let (key, value) = entry?;
        if let ControlFlow::Break(()) = visit(key.value(), value.value())? {
            return Ok(());
        }
    }
}
