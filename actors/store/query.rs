//! What clients ask of a public table: its rows by one of its indexes, and what changes of those.

use std::ops::{Bound, ControlFlow};

use serde::Serialize;
use serde_json::Value;

use super::error::StoreError;
use super::read::{Page, Reading, unhex};
use super::registry::AnyTable;
use super::row::{self, Field, Source, Walk};
use super::tables::{self, ALL, Change, ChangeOp};

/// A public table, and what it can be asked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicTable {
    /// Its name.
    pub name: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// Its indexes.
    pub indexes: Vec<PublicIndex>,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicIndex {
    /// Its name.
    pub name: &'static str,
    /// The fields that it can be asked by, in this order; those at the end may be left out.
    pub fields: Vec<&'static str>,
}

/// Which rows of a table.
#[derive(Clone, Copy)]
struct Table(&'static dyn AnyTable);

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

/// Some rows of one public table, in the order of one of its indexes.
#[derive(Debug, Clone)]
pub struct Query {
    table: Table,
    /// The table that is walked: an index, or the rows themselves in the order of their ids.
    walked: &'static str,
    /// What its entries begin with; nothing: no row can be one of these.
    prefix: Option<Vec<u8>>,
}

/// Why something cannot be asked. The message says what can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// There is no such public table.
    #[error("there is no such table; there are {}", public().collect::<Vec<_>>().join(", "))]
    NoTable,
    /// The table cannot be asked so.
    #[error("{0}")]
    NoIndex(String),
    /// A value is none that a field may have.
    #[error("`eq` is a JSON string, or a list of strings for an index's first fields")]
    NoValue,
}

/// What a subscriber is told of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Told {
    /// It came, or it changed: the row as it is now.
    Put {
        /// The row.
        row: Value,
    },
    /// It is there, and no longer one of those that are asked for.
    Leave,
    /// It was removed.
    Delete,
}

/// A change, as a subscriber is told it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableChange {
    /// The commit that it was a part of.
    pub commit: u64,
    /// The table.
    pub table: &'static str,
    /// The row's `_id`.
    pub id: String,
    /// What happened.
    #[serde(flatten)]
    pub told: Told,
}

/// Some of what changed.
#[derive(Debug, Clone, PartialEq)]
pub struct TableChanges {
    /// The changes, in order.
    pub items: Vec<TableChange>,
    /// The commit up to which they are all: whoever has them goes on behind it.
    pub upto: u64,
    /// Whether there is more already.
    pub more: bool,
}

/// The names of all public tables.
pub fn public() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter(|table| table.is_public()).map(|table| table.name())
}

fn find(name: &str) -> Option<&'static dyn AnyTable> {
    ALL.iter().find(|table| table.is_public() && table.name() == name).copied()
}

/// An index's name without its table's.
fn short(index: &'static str) -> &'static str {
    index.split_once('.').map_or(index, |(_, name)| name)
}

impl Query {
    /// All rows of a table, or those whose fields at the beginning of an index have these values.
    ///
    /// # Errors
    /// No such table or index, or a value that no field can have.
    pub fn new(table: &str, index: Option<&str>, eq: Option<&Value>) -> Result<Self, QueryError> {
        let table = find(table).ok_or(QueryError::NoTable)?;
        let all = table.indexes();
        let no_index = |what: &str| {
            let known: Vec<&str> = all.iter().map(|(name, _)| short(name)).collect();
            QueryError::NoIndex(format!("{what}; {} has {}", table.name(), known.join(", ")))
        };
        let Some(index) = index else {
            return match eq {
                Some(_) => Err(no_index("`eq` is of an index, and none is named")),
                None => Ok(Self { table: Table(table), walked: table.name(), prefix: Some(Vec::new()) }),
            };
        };
        let found = all.iter().find(|(name, _)| short(name) == index);
        let (walked, fields) = *found.ok_or_else(|| no_index("there is no such index"))?;
        let prefix = eq.map_or(Ok(Some(Vec::new())), |eq| prefix(index, fields, eq))?;
        Ok(Self { table: Table(table), walked, prefix })
    }

    /// The table's name.
    pub fn table(&self) -> &'static str {
        self.table.0.name()
    }

    /// Whether every row of the table is one of these: an index may hold some of them alone.
    fn is_whole(&self) -> bool {
        self.walked == self.table.0.name()
    }

    /// A page of the rows, from `cursor` on.
    pub fn page(&self, reading: &Reading, limit: usize, cursor: Option<&str>) -> Result<Page<Value>, StoreError> {
        let Some(prefix) = &self.prefix else {
            return Ok(Page { items: Vec::new(), cursor: None, commit: reading.commit()? });
        };
        let mut walk = Walk::prefix(self.walked, prefix);
        // One that lies before all of these is another list's: this one begins where it begins.
        if let Some(last) = cursor.map(unhex).transpose()?.filter(|last| last >= prefix) {
            walk.from = Bound::Excluded(last);
        }
        let (table, limit, own) = (self.table.0, limit.max(1), self.is_whole());
        let (mut found, mut more) = (Vec::new(), false);
        reading.walk(&walk, &mut |entry, key| {
            more = found.len() == limit;
            if more {
                return Ok(ControlFlow::Break(()));
            }
            found.push((entry.to_vec(), if own { entry.to_vec() } else { key.to_vec() }));
            Ok(ControlFlow::Continue(()))
        })?;
        let cursor = found.last().filter(|_| more).map(|(entry, _)| row::hex(entry));
        let row = |(_, key): (Vec<u8>, Vec<u8>)| {
            let missing = || {
                let what = format!("{} names it and it is missing", self.walked);
                StoreError::corrupt(table.name(), table.key_text(&key), what)
            };
            let value = reading.fetch(table.name(), &key)?.ok_or_else(missing)?;
            table.json(&key, &value)
        };
        let items = found.into_iter().map(row).collect::<Result<_, _>>()?;
        Ok(Page { items, cursor, commit: reading.commit()? })
    }

    /// What changed of these rows behind a commit: whole commits, of which `limit` changes are looked at or one commit.
    ///
    /// # Errors
    /// [`StoreError::Truncated`]: the feed no longer holds it.
    pub fn changes(&self, reading: &Reading, after: u64, limit: usize) -> Result<TableChanges, StoreError> {
        let (all, now) = (tables::changes_behind(reading, after, limit)?, reading.commit()?);
        let more = all.len() >= limit;
        // Commits that no table's feed tells of have been looked at too.
        let upto = if more { all.last().map_or(now, |last| last.commit) } else { now };
        let mut items = Vec::new();
        for change in all.into_iter().filter(|change| change.table == self.table.0.name()) {
            items.extend(self.told(reading, change)?);
        }
        Ok(TableChanges { items, upto, more })
    }

    /// A change as these rows' subscriber is told it, where it concerns them. That a row is gone by now, or has left, is
    /// told with the change that took it away.
    fn told(&self, reading: &Reading, change: Change) -> Result<Option<TableChange>, StoreError> {
        let table = self.table.0;
        let Some(key) = table.key_from_text(&change.key) else {
            let what = format!("it names {}, which is no key of {}", change.key, table.name());
            return Err(StoreError::corrupt("changes", format!("{}/{}", change.commit, change.n), what));
        };
        // A row leaves its table with its removal alone, and the place in an index with whatever change took it from there.
        let left = if self.is_whole() {
            change.op == ChangeOp::Delete
        } else {
            change.left.iter().any(|left| self.is_here(&left.index, &left.entry))
        };
        let told = match reading.fetch(table.name(), &key)? {
            Some(value) if self.holds(&key, &value)? => Some(Told::Put { row: table.json(&key, &value)? }),
            Some(_) => left.then_some(Told::Leave),
            None => left.then_some(Told::Delete),
        };
        Ok(told.map(|told| TableChange { commit: change.commit, table: table.name(), id: change.key, told }))
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        if self.is_whole() {
            return Ok(true);
        }
        let entries = self.table.0.entries(key, value)?;
        Ok(entries.iter().any(|(index, entry)| self.is_here(index, entry)))
    }

    fn is_here(&self, index: &str, entry: &[u8]) -> bool {
        index == self.walked && self.prefix.as_ref().is_some_and(|prefix| entry.starts_with(prefix))
    }
}

/// The beginning of the entries whose fields have these values: one value, or a list for several fields. Nothing where a
/// field never has its value.
fn prefix(index: &str, fields: &[Field], eq: &Value) -> Result<Option<Vec<u8>>, QueryError> {
    let values = eq.as_array().map_or(std::slice::from_ref(eq), Vec::as_slice);
    let texts = values.iter().map(|value| value.as_str().ok_or(QueryError::NoValue));
    let texts = texts.collect::<Result<Vec<&str>, _>>()?;
    if texts.is_empty() {
        return Err(QueryError::NoValue);
    }
    if texts.len() > fields.len() {
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        let what = if names.is_empty() { "nothing: it is an order".to_owned() } else { names.join(", ") };
        return Err(QueryError::NoIndex(format!("{index} is asked by {what}, and `eq` has {} values", texts.len())));
    }
    let parts = fields.iter().zip(texts).map(|(field, text)| (field.part)(text));
    Ok(parts.collect::<Option<Vec<_>>>().map(|parts| parts.concat()))
}

impl Reading {
    /// The public tables.
    pub fn public_tables(&self) -> Result<Vec<PublicTable>, StoreError> {
        let index = |(name, fields): (&'static str, &'static [Field])| PublicIndex {
            name: short(name),
            fields: fields.iter().map(|field| field.name).collect(),
        };
        let shown = |table: &&dyn AnyTable| {
            let indexes = table.indexes().into_iter().map(index).collect();
            Ok(PublicTable { name: table.name(), rows: self.count(table.name())?, indexes })
        };
        ALL.iter().filter(|table| table.is_public()).map(shown).collect()
    }
}
