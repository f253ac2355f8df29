//! `/debug`: the operators' socket, `<data>/debug.sock`. Parent `/`, permanent; nothing to rebuild: the socket is bound
//! anew.
//!
//! **Invariant:** it reads node cells and the store, and asks no actor: it answers while any of them is stuck. Only runs
//! that are handed over (`runs`) ask their threads, and make nobody wait but their own client.
//! **Invariant:** a client can hold up itself alone: its lines, its queue and its patience are bounded, and its requests
//! run in a task of its own.
//!
//! Read `protocol` first (what goes over the socket), then `methods` (what it can be asked), then `connection`.

mod accept;
pub mod artifacts;
pub mod beads;
mod connection;
pub mod edits;
pub mod kept;
mod lines;
mod methods;
pub mod protocol;
pub mod rows;
mod runs;
mod socket;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lakitu_kernel::config;
use lakitu_kernel::event::Settings;
use lakitu_kernel::limits::{DEBUG_CLIENTS_MAX, DEBUG_LINE_BYTES_MAX};
use lakitu_kernel::supervise::{Crash, Me, Message, Nodes, Service, StartError, boxed};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::store::Store;
use crate::wiring::Wiring;
use accept::Accepting;
use runs::Counter;
use socket::Bound;
pub use socket::connect;

/// Says what is logged.
pub trait LogLevel: Send + Sync {
    /// Sets it from now on: `error` to `trace`, or a filter as `LAKITU_LOG` takes it. What is wrong with it otherwise.
    fn set(&self, level: &str) -> Result<(), String>;
}

/// A log whose level stays what it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fixed;

impl LogLevel for Fixed {
    fn set(&self, _: &str) -> Result<(), String> {
        Err("the level of this runtime's log is fixed".to_owned())
    }
}

/// What clients may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugLimits {
    /// Clients at a time.
    pub clients: usize,
    /// A line, without its end, in bytes.
    pub line_bytes: usize,
    /// From a line's first byte to its end.
    pub line_deadline: Duration,
    /// For one line to a client: one that never reads is closed.
    pub write_deadline: Duration,
}

impl Default for DebugLimits {
    fn default() -> Self {
        Self {
            clients: DEBUG_CLIENTS_MAX,
            line_bytes: DEBUG_LINE_BYTES_MAX,
            line_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(10),
        }
    }
}

/// What `/debug` is started from. Made once a runtime and cloned for each start.
#[derive(Clone)]
pub struct DebugArgs {
    shared: Arc<Shared>,
    /// Held as long as a listener lives: an aborted task ends a moment after its actor.
    listening: Arc<Mutex<()>>,
}

/// What all connections use.
struct Shared {
    data: PathBuf,
    limits: DebugLimits,
    fault_injection: bool,
    nodes: Nodes,
    store: Store,
    log: Arc<dyn LogLevel>,
    /// Where runs are handed over; nothing before the runtime is put together.
    counter: OnceLock<Counter>,
    /// Each read takes a thread that may block.
    reads: Semaphore,
    /// Looking at everything keeps old pages: one at a time.
    verifying: Semaphore,
}

/// Reads of the store that run at a time.
const READS_MAX: usize = 4;

impl DebugArgs {
    /// For the socket in this data directory, from what it shows. Whether there is a socket at all is the tree's business.
    pub fn new(data: &Path, config: &config::Debug, nodes: Nodes, store: Store, log: Arc<dyn LogLevel>) -> Self {
        let limits = DebugLimits::default();
        let (reads, verifying) = (Semaphore::new(READS_MAX), Semaphore::new(1));
        let (data, fault_injection) = (data.to_owned(), config.fault_injection);
        let counter = OnceLock::new();
        let shared = Shared { data, limits, fault_injection, nodes, store, log, counter, reads, verifying };
        Self { shared: Arc::new(shared), listening: Arc::default() }
    }

    /// Lets runs be handed over to this runtime, whose threads begin so; none: it takes none.
    pub(crate) fn open_counter(&self, wiring: &Arc<Wiring>, serves: Option<Settings>) {
        // Once a runtime.
        let _ = self.shared.counter.set(Counter { wiring: Arc::downgrade(wiring), serves });
    }

    /// The same with other limits.
    #[cfg(test)]
    fn limited(mut self, limits: DebugLimits) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.limits = limits;
        }
        self
    }
}

/// What `/debug` can be told.
#[derive(Debug)]
pub enum DebugMsg {
    /// A listener ended without having been asked to.
    Deaf {
        /// Which incarnation's: an answer to an older one is dropped.
        listener: Arc<()>,
    },
}

impl Message for DebugMsg {
    fn name(&self) -> &'static str {
        match self {
            DebugMsg::Deaf { .. } => "Deaf",
        }
    }
}

/// The actor.
pub struct Debug {
    listener: Arc<()>,
    bound: Bound,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// How long a start waits for its predecessor's listener.
const PREDECESSOR_DEADLINE: Duration = Duration::from_secs(5);
/// How long clients have to take their last answers when the socket is closed in order.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

impl Service for Debug {
    type Msg = DebugMsg;
    type Args = DebugArgs;
    const KIND: &'static str = "debug";
    const GAUGES: &'static [&'static str] = &["clients", "refused", "requests"];

    async fn start(args: DebugArgs, me: Me<DebugMsg>) -> Result<Self, StartError> {
        let alone = timeout(PREDECESSOR_DEADLINE, args.listening.lock_owned())
            .await
            .map_err(|_| StartError::new("the predecessor's listener has not ended"))?;
        let (listener, bound) = socket::bind(&args.shared.data)?;
        let (closing, closed) = watch::channel(false);
        let mut actor = Self { listener: Arc::default(), bound, closing, tasks: JoinSet::new() };
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let accepting = Accepting::new(listener, args.shared, me.clone(), closed);
        let last_words = LastWords { me, listener: actor.listener.clone() };
        actor.tasks.spawn(boxed(async move {
            // Dropped from the last to the first: the listener is gone before a successor may begin.
            let _alone = alone;
            let _last_words = last_words;
            accepting.run().await;
        }));
        Ok(actor)
    }

    async fn handle(&mut self, msg: DebugMsg) -> Result<(), Crash> {
        match msg {
            DebugMsg::Deaf { listener } if Arc::ptr_eq(&listener, &self.listener) => {
                Err(Crash::new("the socket's listener ended"))
            }
            DebugMsg::Deaf { .. } => Ok(()),
        }
    }

    async fn stop(&mut self) {
        // Before the clients are told: a new one would be turned away by nobody.
        self.bound.remove();
        self.closing.send_replace(true);
        if timeout(CLOSE_DEADLINE, self.tasks.join_next()).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// Tells the actor that its listener is gone, however it went.
struct LastWords {
    me: Me<DebugMsg>,
    listener: Arc<()>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        self.me.address().tell(DebugMsg::Deaf { listener: self.listener.clone() });
    }
}
