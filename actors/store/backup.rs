//! `db backup`: the state of one commit as a data directory of its own, with the files of its large blobs. The database
//! gets its name when all else is there: a copy that was broken off holds none.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;

use lakitu_kernel::Hash;
use serde::{Deserialize, Serialize};

use super::blob_files::BlobFiles;
use super::error::StoreError;
use super::home::{Home, Stamp};
use super::open::{How, create};
use super::read::Reading;
use super::registry::physical;
use super::row::{Row, Source, Walk, decode};
use super::tables::{BlobRow, FORMAT};

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The commit whose state it is.
    pub commit: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Large blobs, each in a file of its own.
    pub blobs: u64,
}

/// How much the copied file may grow meanwhile beside its own size, because the pages that are read are kept.
pub(crate) const GROWTH_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Makes the directory of a backup. Nothing is overwritten.
pub(crate) fn make_room(to: &Path) -> Result<(), StoreError> {
    if !to.is_absolute() {
        return Err(StoreError::Invalid(format!("{} is no absolute path", to.display())));
    }
    match fs::read_dir(to).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(StoreError::Invalid(format!("{} is not empty: name a new directory", to.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(StoreError::Invalid(format!("{} is no directory", to.display())));
        }
        Err(error) => return Err(error.into()),
    }
    Home::new(to).make()
}

/// Copies what `reading` sees. `grown` says by how much the file has grown since.
pub(crate) fn backup(reading: &Reading, to: &Path, grown: &dyn Fn() -> u64) -> Result<Backup, StoreError> {
    let home = Home::new(to);
    let meta = reading.meta()?;
    let mut copy = Backup { commit: meta.commit, rows: 0, blobs: 0 };
    // Files first: a blob that is released meanwhile loses its file.
    let (from, files) = (reading.files(), BlobFiles::new(to));
    for hash in large(reading)? {
        match from.read(hash)? {
            Some(bytes) if Hash::of(&bytes) == hash => files.write(hash, &bytes)?,
            Some(_) | None => {
                let what = "its file is missing or changed: `lakitu db verify` says what else is";
                return Err(StoreError::corrupt(BlobRow::NAME, hash.to_string(), what));
            }
        }
        copy.blobs += 1;
    }
    let stamp = Stamp { format: FORMAT, generation: meta.generation, created_at: meta.created_at };
    let made = create(&home, &How::default(), meta, |tables| {
        for table in physical() {
            let is_index = table.contains('.');
            reading.walk(&Walk::all(table), &mut |key, value| {
                if grown() > GROWTH_BYTES_MAX {
                    let why = "the store grew too much while it was copied: try again when less is written";
                    return Err(StoreError::Io(why.to_owned()));
                }
                copy.rows += u64::from(!is_index);
                tables.write(table, key, value)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(())
    })?;
    made.close()?;
    home.write_stamp(&stamp)?;
    Ok(copy)
}

/// Blobs that have a file. One whose row cannot be read is copied with its row, and stays what it is.
fn large(reading: &Reading) -> Result<Vec<Hash>, StoreError> {
    let mut large = Vec::new();
    reading.walk(&Walk::all(BlobRow::NAME), &mut |key, value| {
        large.extend(decode::<BlobRow>(key, value).ok().filter(|row| row.inline.is_none()).map(|row| row.hash));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(large)
}
