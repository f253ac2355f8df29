//! The store without its actor: for the command line, where no process owns the data directory.

use std::path::Path;

use redb::{Database, ReadableDatabase};

use super::blob_files::BlobFiles;
use super::error::StoreError;
use super::home::{Home, Lock};
use super::open::{self, How};
use super::read::Reading;

/// A database that is owned for reading. Nothing is added; what a crash left unfinished is repaired by the opening.
pub struct OpenStore {
    database: Database,
    files: BlobFiles,
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
        let home = Home::new(data);
        if !data.is_dir() {
            return Err(StoreError::Invalid(format!("{} holds no database", data.display())));
        }
        let lock = Lock::take(&home)?;
        let database = open::open_existing(&home, &How::default())?;
        Ok(Self { database, files: BlobFiles::new(data), _lock: lock })
    }

    /// A read transaction without a deadline: nobody writes.
    pub fn read(&self) -> Result<Reading, StoreError> {
        Ok(Reading::unbounded(self.database.begin_read()?, &self.files))
    }
}
