//! `/api`: HTTP for whoever holds a token. Parent `/`, permanent: it owns its listener and its connections alone, and
//! begins again on the same port.
//!
//! **Invariant:** no request waits in the actor: each connection is a task of the listener's, bounded in number, in what
//! it may send and in how long it may take.
//! **Invariant:** what a stream of events tells stands in the journal: a reader that was cut off goes on behind the last
//! event that it has, over restarts of this actor and of the process.
//!
//! Read `routes` first (what can be asked), then `guard` (who may), then `accept` (connections).

mod accept;
mod answers;
mod artifacts;
mod asked;
mod beads;
mod checkpoints;
mod door;
mod error;
mod events;
mod guard;
mod openapi;
mod operate;
mod rate;
mod requests;
mod routes;
mod sse;
mod tables;
mod threads;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use lakitu_kernel::event::Settings;
use lakitu_kernel::limits::API_STREAMS_MAX;
use lakitu_kernel::ports::Authority;
use lakitu_kernel::supervise::{Crash, Me, Message, Service, StartError, boxed};
use lakitu_kernel::{ThreadId, ToolError};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::store::Reading;
use crate::threads::Threads;
use crate::threads::agent::Change;
use crate::threads::desk::{Desk, Wish};
use crate::wiring::Wiring;
use accept::Accepting;
pub use accept::serve_connection;
pub use door::Door;
use error::ApiError;
use guard::Hosts;
pub use openapi::document;
use rate::Rates;

/// What the API is made of, once a runtime.
pub struct ApiParts {
    /// Where it is reached.
    pub door: Door,
    /// Names by which it is reached beside its address and localhost.
    pub hosts: Vec<String>,
    /// Who is believed.
    pub authority: Arc<dyn Authority>,
    /// The settings of a thread whose start says nothing else.
    pub settings: Settings,
}

/// What `/api` is started from.
pub struct ApiArgs {
    /// The runtime.
    pub wiring: Arc<Wiring>,
    /// The API's own parts.
    pub parts: Option<Arc<ApiParts>>,
}

/// What all requests use.
struct Shared {
    wiring: Arc<Wiring>,
    threads: Threads,
    parts: Arc<ApiParts>,
    hosts: Hosts,
    rates: Rates,
    /// Each read takes a thread that may block.
    reads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Streams end when the port is closed; everything else has an end of its own.
    closing: watch::Receiver<bool>,
    document: OnceLock<Bytes>,
}

/// Reads of the store that run at a time.
const READS_MAX: usize = 8;

impl Shared {
    fn new(wiring: Arc<Wiring>, parts: Arc<ApiParts>, closing: watch::Receiver<bool>) -> Self {
        Self {
            threads: Threads::new(wiring.clone()),
            hosts: Hosts::new(parts.door.at(), &parts.hosts),
            wiring,
            parts,
            rates: Rates::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            streams: Arc::new(Semaphore::new(API_STREAMS_MAX)),
            closing,
            document: OnceLock::new(),
        }
    }

    /// What has to change in a thread that is spoken to through here, where somebody can be asked; nothing, as a rule.
    async fn askable(&self, thread: ThreadId) -> Result<Option<Change>, ApiError> {
        let wish = Wish { somebody: Some(true), ..Wish::default() };
        Ok(Desk::new(self.wiring.clone()).change(thread, &wish).await?)
    }

    /// Asks the store something, in one read transaction.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reading) -> Result<T, ToolError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _place = self.reads.acquire().await;
        // An error of the question itself is no error of the read.
        let answer = self.wiring.store.read(move |reading| Ok(question(reading))).await;
        Ok(answer.map_err(ToolError::from)??)
    }
}

/// What `/api` can be told.
#[derive(Debug)]
pub enum ApiMsg {
    /// A listener ended without having been asked to.
    Deaf {
        /// Which incarnation's: one of an older is dropped.
        listener: Arc<()>,
    },
}

impl Message for ApiMsg {
    fn name(&self) -> &'static str {
        match self {
            ApiMsg::Deaf { .. } => "Deaf",
        }
    }
}

/// The actor.
pub struct Api {
    listener: Arc<()>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// How long a start waits for its predecessor's listener.
const PREDECESSOR_DEADLINE: Duration = Duration::from_secs(5);
/// How long requests under way have for their answers when the port is closed in order.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

impl Service for Api {
    type Msg = ApiMsg;
    type Args = ApiArgs;
    const KIND: &'static str = "api";
    const GAUGES: &'static [&'static str] = &["connections", "refused"];

    async fn start(args: ApiArgs, me: Me<ApiMsg>) -> Result<Self, StartError> {
        let parts = args.parts.ok_or_else(|| StartError::new("nothing says where it listens"))?;
        let at = parts.door.at();
        let alone = timeout(PREDECESSOR_DEADLINE, parts.door.alone.clone().lock_owned())
            .await
            .map_err(|_| StartError::new("the predecessor's listener has not ended"))?;
        let listener = parts
            .door
            .listener()
            .and_then(tokio::net::TcpListener::from_std)
            .map_err(|error| StartError::new(format!("{at} cannot be listened on: {error}")))?;
        let (closing, closed) = watch::channel(false);
        let mut actor = Self { listener: Arc::default(), closing, tasks: JoinSet::new() };
        let last_words = LastWords { me: me.clone(), listener: actor.listener.clone() };
        let shared = Arc::new(Shared::new(args.wiring, parts, closed.clone()));
        let accepting = Accepting::new(listener, routes::router(shared), me, closed);
        actor.tasks.spawn(boxed(async move {
            // Dropped from the last to the first: the listener is gone before a successor may begin.
            let _alone = alone;
            let _last_words = last_words;
            accepting.run().await;
        }));
        Ok(actor)
    }

    async fn handle(&mut self, msg: ApiMsg) -> Result<(), Crash> {
        match msg {
            ApiMsg::Deaf { listener } if Arc::ptr_eq(&listener, &self.listener) => {
                Err(Crash::new("the listener ended"))
            }
            ApiMsg::Deaf { .. } => Ok(()),
        }
    }

    async fn stop(&mut self) {
        self.closing.send_replace(true);
        if timeout(CLOSE_DEADLINE, self.tasks.join_next()).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// Tells the actor that its listener is gone, however it went.
struct LastWords {
    me: Me<ApiMsg>,
    listener: Arc<()>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        self.me.address().tell(ApiMsg::Deaf { listener: self.listener.clone() });
    }
}
