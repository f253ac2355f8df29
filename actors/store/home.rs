//! The data directory: where the store's files stand, who owns it, what says that there was data.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lakitu_kernel::clock::Timestamp;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::blob_files::sync_folder;
use super::error::StoreError;
use super::tables::FORMAT;

/// Kept so that a full disk does not keep the last result from being written: 4 MiB.
pub(crate) const BALLAST_BYTES: usize = 4 * 1024 * 1024;

/// The data directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Says that a database was made here, and with which format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) format: u32,
    pub(crate) generation: u64,
    pub(crate) created_at: Timestamp,
}

impl Home {
    /// This directory.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the directory, for its owner alone.
    pub(crate) fn make(&self) -> Result<(), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        // One that was there may be open to others.
        fs::set_permissions(&self.root, Permissions::from_mode(0o700))?;
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("lakitu.redb")
    }

    /// The size of the database in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        fs::metadata(self.database()).map_or(0, |file| file.len())
    }

    /// Where a database is made before it gets its name.
    pub(crate) fn unborn(&self) -> PathBuf {
        self.root.join("lakitu.redb.new")
    }

    /// Where a damaged database is set aside.
    pub(crate) fn aside(&self, now: Timestamp) -> PathBuf {
        let mut at = now.0;
        loop {
            let path = self.root.join(format!("lakitu.redb.corrupt-{at}"));
            if !path.exists() {
                return path;
            }
            at += 1;
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    fn stamp_file(&self) -> PathBuf {
        self.root.join("store.stamp")
    }

    /// What the stamp says; nothing where there is none.
    pub(crate) fn stamp(&self) -> Result<Option<Stamp>, StoreError> {
        let text = match fs::read(self.stamp_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // One that cannot be read still says that there was a database.
        let stamp = serde_json::from_slice(&text);
        Ok(Some(stamp.unwrap_or(Stamp { format: FORMAT, generation: 0, created_at: Timestamp::default() })))
    }

    /// Writes the stamp, durably.
    pub(crate) fn write_stamp(&self, stamp: &Stamp) -> Result<(), StoreError> {
        let text = serde_json::to_vec(stamp).map_err(|error| StoreError::Io(error.to_string()))?;
        let temporary = self.root.join("store.stamp.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, self.stamp_file())?;
        sync_folder(&self.root)
    }

    /// Makes the ballast where it is missing and there is room for it many times over. Says whether there is one.
    pub(crate) fn keep_ballast(&self) -> Result<bool, StoreError> {
        let path = self.ballast();
        if path.metadata().is_ok_and(|file| file.len() == BALLAST_BYTES as u64) {
            return Ok(true);
        }
        let space = rustix::fs::statvfs(&self.root).map_err(std::io::Error::from)?;
        if space.f_bavail.saturating_mul(space.f_frsize) < 8 * BALLAST_BYTES as u64 {
            return Ok(false);
        }
        // Written, not reserved: some file systems reserve nothing, and zeros may take no room.
        let made = fs::write(&path, vec![0xA5; BALLAST_BYTES]);
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
        Ok(made.map(|()| true)?)
    }

    /// Gives the ballast's room to what has to be written. Says whether there was any.
    pub(crate) fn release_ballast(&self) -> bool {
        fs::remove_file(self.ballast()).is_ok()
    }
}

/// The data directory's ownership: an flock, so that it ends with the process however that ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it.
    pub(crate) fn take(home: &Home) -> Result<Self, StoreError> {
        home.make()?;
        let path = home.root.join("lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // An owner that has not written its pid yet reads as 0.
                let _ = file.read_to_string(&mut pid);
                return Err(StoreError::Busy { pid: pid.trim().parse().unwrap_or(0) });
            }
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}
