//! A damaged file as a reader takes it who wants neither repair nor a clean close: redb reads a file that was not closed
//! only after a repair, and the repair of a damaged one gives up.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;

use redb::{BackendError, Builder, ConcurrencyMode, DatabaseError, ReadOnlyDatabase, StorageBackend};

/// Where redb's file says which of its two commits is the last, and that it was not closed (its `docs/design.md`).
const FLAGS_AT: u64 = 9;
const LAST_COMMIT: u8 = 1;
const NOT_CLOSED: u8 = 2 | 8;

/// Which of the two commits in the file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The last.
    Last,
    /// The one before it: what the last one wrote anew still stands there as it was.
    Before,
}

/// Opens the file without writing to it.
pub(crate) fn open_damaged(path: &Path, which: Which) -> std::result::Result<ReadOnlyDatabase, DatabaseError> {
    let file = File::open(path).map_err(|error| DatabaseError::Storage(error.into()))?;
    let mut builder = Builder::new();
    // A reader in this mode does not look at the allocator's state.
    builder.set_cache_size(8 * 1024 * 1024).set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder.open_read_only_with_backend(Damaged { file, which })
}

/// The data directory's lock is ours: nobody else is to be kept out.
#[derive(Debug)]
struct Damaged {
    file: File,
    which: Which,
}

impl StorageBackend for Damaged {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, offset)?;
        let flags = FLAGS_AT.checked_sub(offset).and_then(|at| usize::try_from(at).ok()).and_then(|at| out.get_mut(at));
        if let Some(flags) = flags {
            *flags &= !NOT_CLOSED;
            *flags ^= if self.which == Which::Before { LAST_COMMIT } else { 0 };
        }
        Ok(())
    }

    fn set_len(&self, _: u64) -> Result<()> {
        Err(Error::from(ErrorKind::ReadOnlyFilesystem))
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<()> {
        Err(Error::from(ErrorKind::ReadOnlyFilesystem))
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> std::result::Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> std::result::Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> std::result::Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> std::result::Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> std::result::Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> std::result::Result<bool, BackendError> {
        Ok(false)
    }
}
