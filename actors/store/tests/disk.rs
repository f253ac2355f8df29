//! A disk that fails when it is told to, and that can keep a log of what was asked of it.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lakitu_kernel::Hash;
use lakitu_kernel::supervise::Guarded;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use tokio::sync::watch;

use crate::store::blob_files::BlobFiles;

/// What the disk does, shared by everybody who has it.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<State>);

#[derive(Debug)]
struct State {
    full: AtomicBool,
    read_only: AtomicBool,
    failing_flushes: AtomicU64,
    flushes: AtomicU64,
    held: watch::Sender<bool>,
    operations: AtomicU64,
    faulty: Guarded<Option<(Failure, Faulty)>>,
    lying: AtomicBool,
    log: Guarded<Option<Vec<Entry>>>,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The disk cannot read, write or flush.
    Broken,
    /// There is no room to write.
    Full,
}

/// Which operation fails, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faulty {
    /// This one.
    Only(u64),
    /// This one and all that follow.
    From(u64),
}

/// What was asked of a disk that keeps a log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Bytes were written.
    Write { at: u64, bytes: Vec<u8> },
    /// The length was set.
    Length(u64),
    /// What was written before is durable.
    Flush,
    /// The files of large blobs that there are before the header is written or flushed: what it makes visible may name
    /// each of them.
    Files(Vec<Hash>),
    /// A mark of whoever reads the log.
    Mark,
}

impl Default for Disk {
    fn default() -> Self {
        Self(Arc::new(State {
            full: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            failing_flushes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            held: watch::Sender::new(false),
            operations: AtomicU64::new(0),
            faulty: Guarded::new(None),
            lying: AtomicBool::new(false),
            log: Guarded::new(None),
        }))
    }
}

impl Disk {
    /// From now on every write past the file's end fails for want of room, or no longer.
    pub(crate) fn full(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    /// From now on nothing can be written, as on a file system that fell back to reading, or it can again.
    pub(crate) fn read_only(&self, read_only: bool) {
        self.0.read_only.store(read_only, Ordering::SeqCst);
    }

    /// The next flushes fail.
    pub(crate) fn fail_flushes(&self, n: u64) {
        self.0.failing_flushes.store(n, Ordering::SeqCst);
    }

    /// Flushes wait from now on, or no longer.
    pub(crate) fn hold(&self, held: bool) {
        self.0.held.send_replace(held);
    }

    /// Waits until a flush was begun after `n` of them.
    pub(crate) fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::SeqCst)
    }

    /// Counts the operations that can fail so, and lets some of them fail.
    pub(crate) fn fail(&self, how: Failure, which: Faulty) {
        self.0.operations.store(0, Ordering::SeqCst);
        self.0.faulty.with(|slot| *slot = Some((how, which)));
    }

    /// Nothing fails any more. How many operations could have.
    pub(crate) fn heal(&self) -> u64 {
        self.0.faulty.with(|slot| *slot = None);
        self.0.operations.load(Ordering::SeqCst)
    }

    /// Keeps a log from now on.
    pub(crate) fn record(&self) {
        self.0.log.with(|log| *log = Some(Vec::new()));
    }

    /// From now on flushes are said to be done and make nothing durable.
    pub(crate) fn lie(&self) {
        self.0.lying.store(true, Ordering::SeqCst);
    }

    /// Puts a mark into the log.
    pub(crate) fn mark(&self) {
        self.note(|| Entry::Mark);
    }

    /// The log, which ends here.
    pub(crate) fn take_log(&self) -> Vec<Entry> {
        self.0.log.with(Option::take).unwrap_or_default()
    }

    fn note(&self, entry: impl FnOnce() -> Entry) {
        self.0.log.with(|log| {
            if let Some(log) = log {
                log.push(entry());
            }
        });
    }

    pub(crate) fn backend(&self, path: &Path) -> io::Result<Backend> {
        self.writable()?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let inner = FileBackend::new(file).map_err(io::Error::other)?;
        let blobs = BlobFiles::new(path.parent().unwrap_or(path));
        Ok(Backend { inner, disk: self.clone(), blobs })
    }

    pub(crate) fn writable(&self) -> io::Result<()> {
        if self.0.read_only.load(Ordering::SeqCst) { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn operate(&self, kind: Operation) -> io::Result<()> {
        let Some((how, which)) = self.0.faulty.with(|faulty| *faulty) else { return Ok(()) };
        if how == Failure::Full && kind != Operation::Write {
            return Ok(());
        }
        let n = self.0.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = match which {
            Faulty::Only(at) => n == at,
            Faulty::From(at) => n >= at,
        };
        let errno = match how {
            Failure::Broken => rustix::io::Errno::IO,
            Failure::Full => rustix::io::Errno::NOSPC,
        };
        if fails { Err(errno.into()) } else { Ok(()) }
    }
}

#[derive(PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Flush,
}

#[derive(Debug)]
pub(crate) struct Backend {
    inner: FileBackend,
    disk: Disk,
    blobs: BlobFiles,
}

impl Backend {
    fn room(&self) -> io::Result<()> {
        if self.disk.0.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Backend {
    fn note_files(&self) {
        self.disk.note(|| Entry::Files(self.blobs.list().unwrap_or_default()));
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.operate(Operation::Read)?;
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.writable()?;
        self.disk.operate(Operation::Write)?;
        self.disk.note(|| Entry::Length(len));
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.0.flushes.fetch_add(1, Ordering::SeqCst);
        let mut held = self.disk.0.held.subscribe();
        if *held.borrow() {
            let _ = tokio::runtime::Handle::current().block_on(held.wait_for(|held| !held));
        }
        let failing =
            self.disk.0.failing_flushes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(io::Error::other("the flush was told to fail"));
        }
        self.disk.writable()?;
        self.disk.operate(Operation::Flush)?;
        self.note_files();
        self.inner.sync_data()?;
        if !self.disk.0.lying.load(Ordering::SeqCst) {
            self.disk.note(|| Entry::Flush);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // The header always fits: it is there.
        if offset > 0 {
            self.room()?;
        }
        self.disk.writable()?;
        self.disk.operate(Operation::Write)?;
        if offset == 0 {
            self.note_files();
        }
        self.disk.note(|| Entry::Write { at: offset, bytes: data.to_vec() });
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
