//! The process that forks keepers.

use std::io;

use crate::{KeeperError, KeeperSpec, Spawned};

/// The runtime's handle to its zygote.
#[derive(Debug)]
pub struct Zygote {
    pid: i32,
}

impl Zygote {
    /// Forks the zygote. Call it before the first thread. The child never returns from this call.
    pub fn fork() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it for a keeper. Blocks for a few milliseconds, five seconds at most; then the keeper's socket listens.
    pub fn spawn(&self, _spec: &KeeperSpec) -> Result<Spawned, KeeperError> {
        Err(KeeperError::Closed)
    }

    /// Ends it and waits for it. Its keepers are shut down first, unless `leave_keepers`: then they live on by their
    /// leases.
    pub fn close(self, _leave_keepers: bool) -> io::Result<()> {
        Ok(())
    }
}
