//! A disk that fails when it is told to.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use tokio::sync::watch;

/// What the disk does, shared by everybody who has it.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<State>);

#[derive(Debug)]
struct State {
    full: AtomicBool,
    failing_flushes: AtomicU64,
    flushes: AtomicU64,
    held: watch::Sender<bool>,
}

impl Default for Disk {
    fn default() -> Self {
        Self(Arc::new(State {
            full: AtomicBool::new(false),
            failing_flushes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            held: watch::Sender::new(false),
        }))
    }
}

impl Disk {
    /// From now on every write past the file's end fails for want of room, or no longer.
    pub(crate) fn full(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
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

    pub(crate) fn backend(&self, path: &Path) -> io::Result<Backend> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let inner = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Backend { inner, disk: self.clone() })
    }
}

#[derive(Debug)]
pub(crate) struct Backend {
    inner: FileBackend,
    disk: Disk,
}

impl Backend {
    fn room(&self) -> io::Result<()> {
        if self.disk.0.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
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
        match failing {
            Ok(_) => Err(io::Error::other("the flush was told to fail")),
            Err(_) => self.inner.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // The header always fits: it is there.
        if offset > 0 {
            self.room()?;
        }
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
