//! The files of large blobs: `<data>/blobs/<2 digits>/<hash>`. A file is durable before a commit names it, and goes
//! after the commit that dropped it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::Hash;

use super::error::StoreError;

/// The folder of the large blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BlobFiles {
    root: Arc<Path>,
}

impl BlobFiles {
    /// The folder below the data directory.
    pub(crate) fn new(data: &Path) -> Self {
        Self { root: data.join("blobs").into() }
    }

    fn place(&self, hash: Hash) -> (PathBuf, PathBuf) {
        let name = hash.to_string();
        let folder = self.root.join(name.get(..2).unwrap_or_default());
        let file = folder.join(&name);
        (folder, file)
    }

    /// Writes the file, durably. One that is there already is complete: it was renamed into place.
    pub(crate) fn write(&self, hash: Hash, bytes: &[u8]) -> Result<(), StoreError> {
        let (folder, file) = self.place(hash);
        make_folder(&folder)?;
        let temporary = folder.join(format!("{hash}.new"));
        let written = File::create(&temporary).and_then(|mut to| {
            to.write_all(bytes)?;
            to.sync_all()
        });
        if let Err(error) = written {
            // Half of it may stand on a full disk, where its space is needed.
            let _ = fs::remove_file(&temporary);
            return Err(error.into());
        }
        fs::rename(&temporary, &file)?;
        sync_folder(&folder)
    }

    /// The file's bytes as they are; nothing where there is none.
    pub(crate) fn read(&self, hash: Hash) -> Result<Option<Bytes>, StoreError> {
        match fs::read(self.place(hash).1) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file. One that stays is found at the next open.
    pub(crate) fn remove(&self, hash: Hash) {
        if let Err(error) = fs::remove_file(self.place(hash).1)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%hash, %error, "a blob's file could not be removed");
        }
    }

    /// Gives a file whose bytes are not what its name says another name.
    pub(crate) fn set_aside(&self, hash: Hash) -> Result<(), StoreError> {
        let (folder, file) = self.place(hash);
        match fs::rename(file, folder.join(format!("{hash}.corrupt"))) {
            Ok(()) => sync_folder(&folder),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Every blob that has a file.
    pub(crate) fn list(&self) -> Result<Vec<Hash>, StoreError> {
        let mut found = Vec::new();
        for folder in entries(&self.root)? {
            for file in entries(&folder)? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                found.extend(name.parse::<Hash>().ok());
            }
        }
        Ok(found)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    listing.map(|entry| Ok(entry?.path())).collect()
}

/// Makes a folder and the one above it, durably.
fn make_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    // Each folder's name stands in the one above it.
    for above in folder.ancestors().skip(1).take(2) {
        sync_folder(above)?;
    }
    Ok(())
}

/// Makes what was renamed into a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    Ok(File::open(folder)?.sync_all()?)
}
