//! The store without its actor: for the command line, where no process owns the data directory.

use std::path::Path;

use lakitu_kernel::clock::Timestamp;
use redb::{Database, ReadableDatabase};

use super::backup::{Backup, backup, make_room};
use super::blob_files::BlobFiles;
use super::compact::{Compacted, compact};
use super::error::StoreError;
use super::home::{Home, Lock};
use super::open::{self, How};
use super::read::Reading;
use super::repair::{Repair, repair};

/// A database that is owned for reading. Nothing is added; what a crash left unfinished is repaired by the opening.
pub struct OpenStore {
    database: Database,
    files: BlobFiles,
    home: Home,
    // Given back last.
    _lock: Lock,
}

impl OpenStore {
    /// Whether there is a database in this directory, or was one.
    pub fn exists(data: &Path) -> bool {
        let home = Home::new(data);
        home.database().exists() || !matches!(home.stamp(), Ok(None))
    }

    /// Opens it. A damaged file is an error and stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where a process owns it, [`StoreError::Missing`] and [`StoreError::TooNew`] as at a start,
    /// [`StoreError::Invalid`] where there never was a database.
    pub fn read_only(data: &Path) -> Result<Self, StoreError> {
        let (home, lock) = Self::own(data)?;
        let database = open::open_existing(&home, &How::default())?;
        Ok(Self { database, files: BlobFiles::new(data), home, _lock: lock })
    }

    /// Copies everything to a new data directory, which must be missing or empty.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where it is neither, [`StoreError::Corrupt`] where a large blob cannot be read.
    pub fn backup(&self, to: &Path) -> Result<Backup, StoreError> {
        make_room(to)?;
        backup(&self.read()?, to, &|| 0)
    }

    /// Gives what the file does not need back to the disk.
    pub fn compact(&mut self) -> Result<Compacted, StoreError> {
        let before_bytes = self.home.file_bytes();
        compact(&mut self.database)?;
        Ok(Compacted { before_bytes, after_bytes: self.home.file_bytes() })
    }

    /// Sets what is broken aside and makes anew what is derived. Without findings nothing is touched.
    ///
    /// # Errors
    /// As [`OpenStore::read_only`], but a damaged file is none.
    pub fn repair(data: &Path, now: Timestamp) -> Result<Repair, StoreError> {
        let (home, _lock) = Self::own(data)?;
        repair(&home, &How::default(), now)
    }

    fn own(data: &Path) -> Result<(Home, Lock), StoreError> {
        if !data.is_dir() {
            return Err(StoreError::Invalid(format!("{} holds no database", data.display())));
        }
        let home = Home::new(data);
        let lock = Lock::take(&home)?;
        Ok((home, lock))
    }

    /// A read transaction without a deadline: nobody writes.
    pub fn read(&self) -> Result<Reading, StoreError> {
        Ok(Reading::unbounded(self.database.begin_read()?, &self.files))
    }
}
