//! `blobs`: contents by their hash. Up to 64 KiB stand in the row, larger ones in a file of their own.

use std::ops::ControlFlow;

use bytes::Bytes;
use lakitu_kernel::Hash;
use lakitu_kernel::limits::BLOB_INLINE_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::blob_files::BlobFiles;
use crate::store::key::Key;
use crate::store::read::Reading;
use crate::store::row::{self, Row, Source, Walk};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::verify::Findings;
use crate::store::write::Tables;

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRow {
    /// The hash of its bytes.
    pub hash: Hash,
    /// Its length in bytes.
    pub size: u64,
    /// How often it is referred to.
    pub refs: u64,
    /// Its bytes; none: they stand in a file.
    #[serde(default)]
    pub inline: Option<Bytes>,
}

impl Row for BlobRow {
    type Key = Hash;
    const NAME: &'static str = "blobs";

    fn key(&self) -> Hash {
        self.hash
    }

    fn json(&self) -> serde_json::Value {
        let inline = self.inline.is_some();
        serde_json::json!({ "hash": self.hash, "size": self.size, "refs": self.refs, "inline": inline })
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.each::<Self>(&Walk::all(Self::NAME), &mut |row| {
            if let Err(error) = content(&row, reading.files()) {
                findings.add(Self::NAME, row.hash.text(), error.to_string());
            }
            Ok(())
        })
    }
}

/// Adds a reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blob {
    /// The hash of the bytes.
    pub hash: Hash,
    /// The bytes. The hash stands for them where a step is recognised.
    #[serde(skip)]
    pub bytes: Bytes,
}

impl Blob {
    /// The blob of these bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { hash: Hash::of(&bytes), bytes }
    }
}

impl Operation for Blob {
    type Plan = Option<BlobRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        if Hash::of(&self.bytes) != self.hash {
            return Err(StoreError::Invalid(format!("the blob's bytes do not have the hash {}", self.hash)));
        }
        Ok(Ok(row::get(tables, &self.hash)?))
    }

    fn apply(&self, known: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        let row = if let Some(row) = known {
            BlobRow { refs: row.refs + 1, ..row }
        } else {
            let inline = (self.bytes.len() <= BLOB_INLINE_BYTES_MAX).then(|| self.bytes.clone());
            if inline.is_none() {
                to.tables.files.write(self.hash, &self.bytes)?;
            }
            BlobRow { hash: self.hash, size: self.bytes.len() as u64, refs: 1, inline }
        };
        to.tables.unlink.remove(&self.hash);
        to.tables.put(&row).map(drop)
    }
}

/// Takes a reference from a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Its hash.
    pub hash: Hash,
}

impl Operation for Release {
    type Plan = Option<BlobRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        Ok(Ok(row::get(tables, &self.hash)?))
    }

    fn apply(&self, known: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        let Some(row) = known else { return Ok(()) };
        if row.refs > 1 {
            return to.tables.put(&BlobRow { refs: row.refs - 1, ..row }).map(drop);
        }
        if row.inline.is_none() {
            to.tables.unlink.insert(row.hash);
        }
        to.tables.delete::<BlobRow>(&row.hash).map(drop)
    }
}

/// A blob's bytes, checked against its hash.
fn content(row: &BlobRow, files: &BlobFiles) -> Result<Bytes, StoreError> {
    let damaged = |what: &str| StoreError::corrupt(BlobRow::NAME, row.hash.text(), what);
    let bytes = match &row.inline {
        Some(bytes) => bytes.clone(),
        None => files.read(row.hash)?.ok_or_else(|| damaged("its file is missing"))?,
    };
    if Hash::of(&bytes) == row.hash { Ok(bytes) } else { Err(damaged("the content does not have its hash")) }
}

/// A blob's bytes, checked against its hash; nothing where there is no such blob.
pub(crate) fn read_blob(
    source: &(impl Source + ?Sized),
    files: &BlobFiles,
    hash: Hash,
) -> Result<Option<Bytes>, StoreError> {
    row::get::<BlobRow>(source, &hash)?.map(|row| content(&row, files)).transpose()
}

/// Whether there is such a blob, readable or not.
pub(crate) fn is_known(source: &(impl Source + ?Sized), hash: Hash) -> Result<bool, StoreError> {
    Ok(source.fetch(BlobRow::NAME, &hash.bytes())?.is_some())
}

/// Whether a row names the blob's file. A row that cannot be read may: its file is kept.
pub(crate) fn names_file(source: &(impl Source + ?Sized), hash: Hash) -> Result<bool, StoreError> {
    let mut named = false;
    source.walk(&Walk::prefix(BlobRow::NAME, &hash.bytes()), &mut |key, value| {
        named = row::decode::<BlobRow>(key, value).map_or(true, |row| row.inline.is_none());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(named)
}
