//! The port: taken before the tree starts, so that one that is taken is known at once, and taken again at each restart.

use std::io::Result;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use lakitu_kernel::supervise::Guarded;
use tokio::sync::Mutex;

/// Where the API is reached.
#[derive(Debug)]
pub struct Door {
    at: SocketAddr,
    /// For the first start.
    open: Guarded<Option<TcpListener>>,
    /// Held as long as a listener lives: an aborted task ends a moment after its actor.
    pub(super) alone: Arc<Mutex<()>>,
}

impl Door {
    /// Takes the port. Who connects from now on waits until the API serves.
    pub fn open(bind: SocketAddr) -> Result<Self> {
        let listener = listen(bind)?;
        Ok(Self { at: listener.local_addr()?, open: Guarded::new(Some(listener)), alone: Arc::default() })
    }

    /// Where that is: the port is a real one, whatever was asked for, and stays over restarts.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// The listener of an incarnation.
    pub(super) fn listener(&self) -> Result<TcpListener> {
        match self.open.with(Option::take) {
            Some(listener) => Ok(listener),
            None => listen(self.at),
        }
    }
}

/// With `SO_REUSEADDR`, as the standard library has it: connections of a predecessor that are still closing do not keep
/// the port.
fn listen(at: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
