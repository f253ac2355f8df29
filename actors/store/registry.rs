//! Tables without their types: for what goes over all of them.

use std::marker::PhantomData;
use std::ops::ControlFlow;

use serde_json::Value;

use super::error::StoreError;
use super::key::Key;
use super::read::Reading;
use super::row::{self, Field, Row, Source, Walk};
use super::tables::ALL;
use super::verify::Findings;
use super::write::Tables;

/// A table whose record is not known here.
pub(crate) trait AnyTable: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Whether clients may ask for its rows.
    fn is_public(&self) -> bool;
    /// Its indexes: their tables, and what they can be asked by.
    fn indexes(&self) -> Vec<(&'static str, &'static [Field])>;
    /// A key from its text.
    fn key_from_text(&self, text: &str) -> Option<Vec<u8>>;
    /// A key's text.
    fn key_text(&self, key: &[u8]) -> String;
    /// A row as it is shown.
    fn json(&self, key: &[u8], value: &[u8]) -> Result<Value, StoreError>;
    /// The index entries that belong to a row.
    fn entries(&self, key: &[u8], value: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>, StoreError>;
    /// Looks at every row and every index entry, and at what must hold of this table alone.
    fn inspect(&self, reading: &Reading, findings: &mut Findings) -> Result<(), StoreError>;
}

/// A table of `R`.
pub(crate) struct Typed<R>(PhantomData<fn() -> R>);

impl<R: Row> Typed<R> {
    /// The only value.
    pub(crate) const NEW: Self = Self(PhantomData);
}

impl<R: Row> AnyTable for Typed<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn is_public(&self) -> bool {
        R::PUBLIC
    }

    fn indexes(&self) -> Vec<(&'static str, &'static [Field])> {
        row::indexes::<R>().collect()
    }

    fn key_from_text(&self, text: &str) -> Option<Vec<u8>> {
        R::Key::from_text(text).map(|key| key.bytes())
    }

    fn key_text(&self, key: &[u8]) -> String {
        row::key_text::<R>(key)
    }

    fn json(&self, key: &[u8], value: &[u8]) -> Result<Value, StoreError> {
        row::decode::<R>(key, value).map(|row| row.json())
    }

    fn entries(&self, key: &[u8], value: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>, StoreError> {
        row::decode::<R>(key, value).map(|row| row::entries(&row))
    }

    fn inspect(&self, reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.walk(&Walk::all(R::NAME), &mut |key, value| {
            match self.entries(key, value) {
                Ok(entries) => {
                    for (index, entry) in entries {
                        if reading.fetch(index, &entry)?.as_deref() != Some(key) {
                            findings.add(index, self.key_text(key), "the row is not in the index".to_owned());
                        }
                    }
                }
                Err(error) => findings.add(R::NAME, self.key_text(key), error.to_string()),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for (index, _) in self.indexes() {
            reading.walk(&Walk::all(index), &mut |entry, key| {
                // A row that cannot be read was found above.
                let known = reading.fetch(R::NAME, key)?.map(|value| self.entries(key, &value));
                let belongs = match known {
                    Some(Ok(entries)) => entries.iter().any(|(name, other)| *name == index && other == entry),
                    Some(Err(_)) => true,
                    None => false,
                };
                if !belongs {
                    findings.add(index, self.key_text(key), "the index names a row that is not there so".to_owned());
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        R::inspect(reading, findings)
    }
}

/// The names of all tables on disk: rows and indexes.
pub(crate) fn physical() -> impl Iterator<Item = &'static str> {
    ALL.iter()
        .flat_map(|table| std::iter::once(table.name()).chain(table.indexes().into_iter().map(|(index, _)| index)))
}

/// The table of that name.
pub(crate) fn named(name: &str) -> Result<&'static dyn AnyTable, StoreError> {
    let found = ALL.iter().find(|table| table.name() == name);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|table| table.name()).collect();
        StoreError::Invalid(format!("there is no table {name}; there are {}", known.join(", ")))
    })
}

/// Takes a row over as it stands, with its index entries made anew. Nothing is taken that cannot be read.
pub(crate) fn adopt(table: &dyn AnyTable, tables: &mut Tables<'_>, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    for (index, entry) in table.entries(key, value)? {
        tables.write(index, &entry, key)?;
    }
    tables.write(table.name(), key, value)
}
