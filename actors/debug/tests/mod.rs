//! The socket as its clients see it: a real one, in front of a small real tree with a real store.

mod clients;
mod methods;
mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::clock::{System, Timestamp};
use lakitu_kernel::config;
use lakitu_kernel::supervise::{
    Address, ChildPlace, ChildSpec, Crash, Exhausted, Guarded, Intensity, MAILBOX_CAPACITY, Me, Message, Nodes,
    Options, Reply, Restart, Root, RootHandle, Service, StartError, Starting, SupervisionEvents, Table, What, Wire,
    child,
};
use lakitu_kernel::{EventBody, Seq, ThreadId};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::*;
use crate::store::{Append, Step, StoreActor, StoreArgs, StoreMsg, StoreOptions, ThreadRow, ThreadStatus, Usage};

const SECOND: Duration = Duration::from_secs(1);
/// Far past anything that a test takes: it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a test does to the actor at `/probe`.
#[derive(Debug)]
enum Probing {
    Ping(Reply<()>),
    /// A handler that does not end.
    Hang,
}

impl Message for Probing {
    fn name(&self) -> &'static str {
        match self {
            Probing::Ping(_) => "Ping",
            Probing::Hang => "Hang",
        }
    }
}

struct Probe;

impl Service for Probe {
    type Msg = Probing;
    type Args = ();
    const KIND: &'static str = "probe";
    const GAUGES: &'static [&'static str] = &["level"];

    async fn start((): (), me: Me<Probing>) -> Result<Self, StartError> {
        me.gauge(0, 7);
        Ok(Self)
    }

    async fn handle(&mut self, msg: Probing) -> Result<(), Crash> {
        match msg {
            Probing::Ping(reply) => reply.send(()),
            Probing::Hang => std::future::pending().await,
        }
        Ok(())
    }
}

/// Keeps what it was set to; knows no level `loud`.
#[derive(Default)]
struct Level(Guarded<Option<String>>);

impl LogLevel for Level {
    fn set(&self, level: &str) -> Result<(), String> {
        if level == "loud" {
            return Err("loud is no level".to_owned());
        }
        self.0.with(|kept| *kept = Some(level.to_owned()));
        Ok(())
    }
}

struct World {
    nodes: Nodes,
    store: Store,
    probe: Address<Probing>,
    debug: Address<DebugMsg>,
    args: DebugArgs,
    level: Arc<Level>,
}

impl Wire<Debug> for World {
    fn args(&self) -> DebugArgs {
        self.args.clone()
    }

    fn address(&self) -> Address<DebugMsg> {
        self.debug.clone()
    }
}

impl Wire<StoreActor> for World {
    fn args(&self) -> StoreArgs {
        self.store.args()
    }

    fn address(&self) -> Address<StoreMsg> {
        self.store.address().clone()
    }
}

fn start_probe(world: &Arc<World>, place: ChildPlace) -> Starting {
    place.spawn::<Probe>(world.probe.clone(), ())
}

const fn row(id: &'static str, start: lakitu_kernel::supervise::StartFn<World>) -> ChildSpec<World> {
    ChildSpec {
        id,
        start,
        restart: Restart::Permanent,
        intensity: Intensity { restarts: 100, within: Duration::from_mins(1) },
        exhausted: Exhausted::Quarantine(Duration::from_mins(1)),
        grace: SECOND,
        start_deadline: Duration::from_secs(20),
    }
}

static ROWS: Table<World> = Table {
    children: &[
        row("debug", child::<Debug, World>),
        row("store", child::<StoreActor, World>),
        row("probe", start_probe),
    ],
};

/// A running tree with its socket.
struct Fixture {
    world: Arc<World>,
    root: RootHandle<World>,
    data: PathBuf,
    _home: TempDir,
}

/// How a fixture is set up.
struct Setup {
    limits: DebugLimits,
    fault_injection: bool,
    /// Below the temporary directory.
    data: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self { limits: DebugLimits::default(), fault_injection: false, data: "data".to_owned() }
    }
}

impl Fixture {
    async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    async fn with(setup: Setup) -> Self {
        let home = TempDir::new().unwrap();
        let data = home.path().join(&setup.data);
        Self::on(home, data, setup).await
    }

    async fn on(home: TempDir, data: PathBuf, setup: Setup) -> Self {
        let nodes = Nodes::new();
        let clock = Arc::new(System);
        let store = Store::new(StoreOptions { data: data.clone(), cache_bytes: 1 << 20, clock });
        let level = Arc::new(Level::default());
        let config = config::Debug { fault_injection: setup.fault_injection, ..config::Debug::default() };
        let args = DebugArgs::new(&data, &config, nodes.clone(), store.clone(), level.clone()).limited(setup.limits);
        let debug = Address::new("/debug", MAILBOX_CAPACITY);
        let probe = Address::new("/probe", MAILBOX_CAPACITY);
        let world = Arc::new(World { nodes: nodes.clone(), store, probe, debug, args, level });
        let options = Options { random: Arc::new(|| 0), ..Options::default() };
        let root = Root::start(world.clone(), &ROWS, nodes, options).await.unwrap();
        root.settled().await;
        Self { world, root, data, _home: home }
    }

    fn client(&self) -> Client {
        Client::connect(&self.data)
    }

    /// A thread with these events behind `thread.started`.
    async fn thread(&self, number: u128, status: ThreadStatus, bodies: Vec<EventBody>) -> ThreadId {
        let id = ThreadId(number);
        let row = ThreadRow {
            id,
            status,
            workspace: "/work".into(),
            model: "m".to_owned(),
            mode: lakitu_kernel::mode::Mode::Build,
            created_at: Timestamp(1000),
            updated_at: Timestamp(2000),
            last_seq: Seq(0),
            turns: 1,
            tool_calls: 2,
            usage: Usage { input_tokens: 3, output_tokens: 4, cached_tokens: 0, cost_usd: None },
            title: format!("thread {number}"),
            reason: None,
            error: None,
            generation: 1,
        };
        let mut ops: Vec<_> = bodies.into_iter().map(|body| Append { at: Timestamp(1500), body }.into()).collect();
        ops.push(row.into());
        self.world.store.submit(Step { thread: id, expected: Seq(0), ops }).await.unwrap();
        id
    }
}

fn prompt(text: impl Into<String>) -> EventBody {
    EventBody::Prompt { text: text.into() }
}

/// A client that a test drives by hand.
struct Client {
    stream: BufReader<UnixStream>,
    last_id: u64,
}

impl Client {
    fn connect(data: &Path) -> Self {
        let stream = socket::connect(data).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream: BufReader::new(UnixStream::from_std(stream).unwrap()), last_id: 0 }
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next line; nothing: the socket was closed.
    async fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("a line in time") {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            // A socket that is closed with something unread in it says it so.
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                None
            }
        }
    }

    /// Sends a request; does not wait.
    async fn ask(&mut self, method: &str, params: Value) {
        self.last_id += 1;
        let line = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params });
        self.send(format!("{line}\n")).await;
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.ask(method, params).await;
        let mut text = String::new();
        loop {
            let mut line = self.line().await.expect("an answer");
            if line["method"] == "part" {
                text.push_str(line["params"]["text"].as_str().unwrap());
                continue;
            }
            assert_eq!((&line["jsonrpc"], &line["id"]), (&json!("2.0"), &json!(self.last_id)));
            if !line["error"].is_null() {
                return Err(line["error"].take());
            }
            return Ok(if text.is_empty() { line["result"].take() } else { serde_json::from_str(&text).unwrap() });
        }
    }

    async fn good(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The error's number, or our code where it is one of ours.
    async fn bad(&mut self, method: &str, params: Value) -> (i64, String) {
        let error = self.call(method, params).await.expect_err(method);
        (error["code"].as_i64().unwrap(), error["data"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Waits for an event of the tree.
async fn until(events: &mut SupervisionEvents, path: &str, what: What) {
    loop {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("a tree");
        if &*event.path == path && event.what == what {
            return;
        }
    }
}
