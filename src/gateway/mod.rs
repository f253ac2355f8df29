//! `lakitu gateway`: the side that keeps the providers' keys. Sandboxes call it with session tokens; it asks the provider
//! that a model names and passes the answer on, byte for byte while it comes.
//!
//! Read [`routes`] first, then [`relay`]. [`crate::token`] says which tokens are believed, [`budget`] what they may use.
//!
//! **Invariant:** a key goes to its provider and nowhere else; no error, log or answer holds one.
//! **Invariant:** an asker that is gone costs nothing more: its call is dropped with its connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::gateway::Deadlines;
use lakitu_kernel::clock::{Clock, Randomness, System};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::token::Keys;

mod asked;
mod bodies;
mod budget;
mod ending;
mod error;
mod meter;
mod relay;
mod routes;
mod script;
mod serve;
#[cfg(test)]
mod tests;
mod unasked;
mod upstreams;

pub use upstreams::{Upstreams, Way};

/// What it has to know.
pub struct Settings {
    /// Whom it asks.
    pub upstreams: Upstreams,
    /// Who signs tokens; none: no token is checked, and only programs of this machine are answered.
    pub keys: Option<Keys>,
    /// How long a provider may take.
    pub deadlines: Deadlines,
    /// Calls under way at once; one more is sent away.
    pub calls_max: usize,
    /// Bytes of requests' bodies that are held at once, all together; who brings more is sent away.
    pub bodies_bytes_max: usize,
}

impl Settings {
    /// The usual bounds.
    pub fn new(upstreams: Upstreams, keys: Option<Keys>) -> Self {
        let deadlines = Deadlines::default();
        Self { upstreams, keys, deadlines, calls_max: CALLS_MAX, bodies_bytes_max: BODIES_BYTES_MAX }
    }
}

/// Calls under way at once.
const CALLS_MAX: usize = 1024;
/// Bytes of requests' bodies that are held at once, all together: 256 MiB.
/// (One that is translated takes about twice as much for as long as it is sent.)
const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What every request shares.
struct Shared {
    upstreams: Upstreams,
    keys: Option<Keys>,
    deadlines: Deadlines,
    calls: Arc<Semaphore>,
    bodies: bodies::Bodies,
    ledger: budget::Ledger,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
}

/// A gateway that listens.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    at: SocketAddr,
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Server").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens at this address; requests wait until it serves.
    pub async fn bind(at: SocketAddr, settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let at = listener.local_addr()?;
        let Settings { upstreams, keys, deadlines, calls_max, bodies_bytes_max } = settings;
        let shared = Arc::new(Shared {
            upstreams,
            keys,
            deadlines,
            calls: Arc::new(Semaphore::new(calls_max)),
            bodies: bodies::Bodies::new(bodies_bytes_max),
            ledger: budget::Ledger::default(),
            clock: Arc::new(System),
            random: Arc::new(System),
        });
        Ok(Self { shared, listener, at })
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Serves until it is told to stop; then takes no connection more, and lets what is under way end within the grace.
    pub async fn serve(self, stop: impl Future<Output = ()>, grace: Duration) {
        let Self { shared, listener, at: _ } = self;
        serve::serve(listener, routes::router(shared), stop, grace).await;
    }
}
