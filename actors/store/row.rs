//! What all tables have in common: a typed record over byte keys and values, its frame, its indexes.
//!
//! A value is `[version u8][crc32c u32 LE of the rest][payload]`, the payload a *named* `MessagePack` map. It is decoded
//! here and not by redb, so that one bad row is one error that names it.

use std::ops::{Bound, ControlFlow};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::StoreError;
use super::key::{Key, behind};
use super::read::Reading;
use super::verify::Findings;

/// A record with a table of its own.
pub trait Row: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Its key.
    type Key: Key;
    /// The table's name: the same on disk, on the wire and in the change feed.
    const NAME: &'static str;
    /// The record's schema. A new field needs `#[serde(default)]` only; anything else a new version, and a
    /// [`Row::from_payload`] that reads the old one.
    const VERSION: u8 = 1;
    /// Whether its changes stand in the change feed.
    const FEED: bool = true;
    /// Whether it is one of the tables that clients ask for by their indexes: its rows are shown as the original showed
    /// its own, and the feed says which indexes' places they leave.
    const PUBLIC: bool = false;
    /// Its secondary indexes.
    const INDEXES: &'static [Index<Self>] = &[];
    /// Its secondary indexes in which a row may stand several times, or not at all.
    const FANS: &'static [Fan<Self>] = &[];

    /// The key under which it stands.
    fn key(&self) -> Self::Key;

    /// The bytes behind the frame.
    fn payload(&self) -> Result<Vec<u8>, String> {
        rmp_serde::to_vec_named(self).map_err(|error| error.to_string())
    }

    /// The record from the bytes behind the frame.
    fn from_payload(_version: u8, payload: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(payload).map_err(|error| error.to_string())
    }

    /// As it is shown outside.
    fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// What must hold of this table beyond what holds of every table.
    fn inspect(_reading: &Reading, _findings: &mut Findings) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A secondary index, written by the same function that writes the row.
pub struct Index<R> {
    /// Its table on disk: `<table>.<index>`.
    pub table: &'static str,
    /// The fields that its bytes begin with, by which clients ask for rows.
    pub by: &'static [Field],
    /// The bytes by which it sorts; the row's key follows them.
    pub sort: fn(&R) -> Vec<u8>,
}

impl<R: Row> Index<R> {
    /// The row's entry in this index.
    fn entry(&self, row: &R) -> Vec<u8> {
        let mut entry = (self.sort)(row);
        entry.extend(row.key().bytes());
        entry
    }
}

/// A secondary index in which a row may stand several times, or not at all.
pub struct Fan<R> {
    /// Its table on disk: `<table>.<index>`.
    pub table: &'static str,
    /// The fields that its bytes begin with, by which clients ask for rows.
    pub by: &'static [Field],
    /// The bytes by which it sorts, each different; the row's key follows them.
    pub sorts: fn(&R) -> Vec<Vec<u8>>,
}

/// A field at the beginning of an index.
#[derive(Debug)]
pub struct Field {
    /// Its name, as the row shows it.
    pub name: &'static str,
    /// A value's bytes in the index; nothing where the field cannot have it.
    pub part: fn(&str) -> Option<Vec<u8>>,
}

impl Field {
    /// A field that may hold any text.
    pub(crate) const fn text(name: &'static str) -> Self {
        Self { name, part: |text| Some(text_part(text)) }
    }

    /// A field that holds a key.
    pub(crate) const fn key<K: Key>(name: &'static str) -> Self {
        Self { name, part: |text| K::from_text(text).map(|key| key.bytes()) }
    }
}

/// A row's indexes: their tables, and what they can be asked by.
pub(crate) fn indexes<R: Row>() -> impl Iterator<Item = (&'static str, &'static [Field])> {
    let (one, many) = (R::INDEXES.iter(), R::FANS.iter());
    one.map(|index| (index.table, index.by)).chain(many.map(|fan| (fan.table, fan.by)))
}

/// The names of a row's index tables.
pub(crate) fn index_tables<R: Row>() -> impl Iterator<Item = &'static str> {
    indexes::<R>().map(|(table, _)| table)
}

/// Text as a part of an index: its length stands before it, so that no text is another one's beginning.
pub(crate) fn text_part(text: &str) -> Vec<u8> {
    let mut part = u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    part.extend(text.as_bytes());
    part
}

const FRAME_BYTES: usize = 5;

/// The row's value on disk.
pub(crate) fn encode<R: Row>(row: &R) -> Result<Vec<u8>, StoreError> {
    let payload = row
        .payload()
        .map_err(|what| StoreError::Io(format!("{} {} cannot be encoded: {what}", R::NAME, row.key().text())))?;
    let mut value = Vec::with_capacity(FRAME_BYTES + payload.len());
    value.push(R::VERSION);
    value.extend(crc32c::crc32c(&payload).to_le_bytes());
    value.extend(payload);
    Ok(value)
}

/// The checksum in a value's frame.
pub(crate) fn checksum(value: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(value.get(1..FRAME_BYTES)?.try_into().ok()?))
}

/// The row that stands under `key`.
pub(crate) fn decode<R: Row>(key: &[u8], value: &[u8]) -> Result<R, StoreError> {
    let damaged = |what: String| StoreError::corrupt(R::NAME, key_text::<R>(key), what);
    let (Some(version), Some(crc), Some(payload)) = (value.first(), checksum(value), value.get(FRAME_BYTES..)) else {
        return Err(damaged("the value is cut off".to_owned()));
    };
    if crc != crc32c::crc32c(payload) {
        return Err(damaged("the checksum does not fit".to_owned()));
    }
    if *version > R::VERSION {
        return Err(damaged(format!("it has version {version}, newer than {}", R::VERSION)));
    }
    let row = R::from_payload(*version, payload).map_err(damaged)?;
    if row.key().bytes() == key { Ok(row) } else { Err(damaged(format!("it belongs under {}", row.key().text()))) }
}

/// The key's text; of bytes that are no key, their hexadecimal digits.
pub(crate) fn key_text<R: Row>(key: &[u8]) -> String {
    R::Key::from_bytes(key).map_or_else(|| hex(key), |key| key.text())
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An index's table, and a row's place in it.
pub(crate) type IndexEntry = (&'static str, Vec<u8>);

/// The index entries that belong to a row.
pub(crate) fn entries<R: Row>(row: &R) -> Vec<IndexEntry> {
    let fans = R::FANS.iter().flat_map(|fan| (fan.sorts)(row).into_iter().map(|sort| (fan.table, sort)));
    let fans = fans.map(|(table, sort)| (table, [sort, row.key().bytes()].concat()));
    R::INDEXES.iter().map(|index| (index.table, index.entry(row))).chain(fans).collect()
}

/// Which way a range is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// From the lowest key.
    Up,
    /// From the highest key.
    Down,
}

/// A range of one table on disk.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) table: &'static str,
    pub(crate) from: Bound<Vec<u8>>,
    pub(crate) to: Bound<Vec<u8>>,
    pub(crate) order: Order,
}

impl Walk {
    /// The whole table.
    pub(crate) fn all(table: &'static str) -> Self {
        Self { table, from: Bound::Unbounded, to: Bound::Unbounded, order: Order::Up }
    }

    /// Everything that begins with `prefix`.
    pub(crate) fn prefix(table: &'static str, prefix: &[u8]) -> Self {
        let to = behind(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { from: Bound::Included(prefix.to_vec()), to, ..Self::all(table) }
    }

    /// Behind this key only.
    pub(crate) fn after(self, key: Vec<u8>) -> Self {
        match self.order {
            Order::Up => Self { from: Bound::Excluded(key), ..self },
            Order::Down => Self { to: Bound::Excluded(key), ..self },
        }
    }

    /// From the highest key.
    pub(crate) fn down(self) -> Self {
        Self { order: Order::Down, ..self }
    }

    /// Whether no key can lie in it. (redb panics on a range whose end lies before its start.)
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        }
    }
}

/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// Takes a key and its value; says whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Bytes under bytes: a read transaction, or the write transaction with what it has written so far.
pub(crate) trait Source {
    /// One value.
    fn fetch(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// A range, in order.
    fn walk(&self, walk: &Walk, visit: &mut Visit<'_>) -> Result<(), StoreError>;
    /// How many entries a table has.
    fn count(&self, table: &'static str) -> Result<u64, StoreError>;
}

/// The row under `key`.
pub(crate) fn get<R: Row>(source: &(impl Source + ?Sized), key: &R::Key) -> Result<Option<R>, StoreError> {
    let key = key.bytes();
    source.fetch(R::NAME, &key)?.map(|value| decode(&key, &value)).transpose()
}

/// The rows of a range of their own table.
pub(crate) fn rows<R: Row>(source: &(impl Source + ?Sized), walk: &Walk, limit: usize) -> Result<Vec<R>, StoreError> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    source.walk(walk, &mut |key, value| {
        rows.push(decode(key, value)?);
        Ok(if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(rows)
}

/// The rows that an index names in a range of it.
pub(crate) fn rows_by<R: Row>(
    source: &(impl Source + ?Sized),
    walk: &Walk,
    limit: usize,
) -> Result<Vec<R>, StoreError> {
    let mut keys = Vec::new();
    if limit > 0 {
        source.walk(walk, &mut |_, key| {
            keys.push(key.to_vec());
            Ok(if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
    }
    let row = |key: Vec<u8>| match source.fetch(R::NAME, &key)? {
        Some(value) => decode(&key, &value),
        None => {
            Err(StoreError::corrupt(R::NAME, key_text::<R>(&key), format!("{} names it and it is missing", walk.table)))
        }
    };
    keys.into_iter().map(row).collect()
}

/// The highest key that begins with `prefix`, and its value.
pub(crate) fn last_key(
    source: &(impl Source + ?Sized),
    table: &'static str,
    prefix: &[u8],
) -> Result<Option<Entry>, StoreError> {
    let mut last = None;
    source.walk(&Walk::prefix(table, prefix).down(), &mut |key, value| {
        last = Some((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(last)
}
