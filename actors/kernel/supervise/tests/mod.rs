//! The engine's acceptance: small trees, real ractor actors, paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

mod acceptance;
mod dynamic;
mod handlers;
mod messages;
mod running_effects;
mod stress;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);

/// What a test does to a probe.
#[derive(Debug)]
pub(super) enum Probing {
    Ping(Reply<usize>),
    Note,
    Panic,
    Fail,
    Done,
    /// A pending await.
    Hang,
    /// Waits for the gate inside the handler.
    Gate(Arc<tokio::sync::Notify>),
    /// Blocks its thread until the other side is dropped.
    Block(std::sync::mpsc::Receiver<()>),
    Gauge(u64),
}

impl Message for Probing {
    fn name(&self) -> &'static str {
        match self {
            Self::Ping(_) => "Ping",
            Self::Note => "Note",
            Self::Panic => "Panic",
            Self::Fail => "Fail",
            Self::Done => "Done",
            Self::Hang => "Hang",
            Self::Gate(_) => "Gate",
            Self::Block(_) => "Block",
            Self::Gauge(_) => "Gauge",
        }
    }
}

/// How a probe's next starts go; the last one counts for all that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Well,
    Fails,
    Panics,
    Hangs,
}

/// What a probe is started from, kept by the test.
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) log: Log,
    pub(super) openings: lock::Guarded<Vec<Opening>>,
    pub(super) starts: AtomicUsize,
    /// Probes of this script that are alive: two at once would be a successor beside its predecessor.
    pub(super) alive: AtomicUsize,
    pub(super) most_alive: AtomicUsize,
    /// Its orderly stop never ends.
    pub(super) stops_never: bool,
}

/// What happened, in order.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<lock::Guarded<Vec<String>>>);

impl Log {
    pub(super) fn note(&self, what: impl Into<String>) {
        self.0.with(|log| log.push(what.into()));
    }

    pub(super) fn take(&self) -> Vec<String> {
        self.0.with(std::mem::take)
    }
}

impl Script {
    pub(super) fn new(name: &'static str, log: &Log) -> Self {
        Self {
            name,
            log: log.clone(),
            openings: lock::Guarded::new(vec![Opening::Well]),
            starts: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
            most_alive: AtomicUsize::new(0),
            stops_never: false,
        }
    }

    pub(super) fn opens(&self, openings: &[Opening]) {
        self.openings.with(|all| *all = openings.to_vec());
    }

    fn opening(&self) -> Opening {
        self.openings.with(|all| if all.len() > 1 { all.remove(0) } else { all[0] })
    }
}

pub(super) struct Probe {
    me: Me<Probing>,
    life: Alive,
}

struct Alive(Arc<Script>);

impl Alive {
    fn new(script: Arc<Script>) -> Self {
        let alive = script.alive.fetch_add(1, Ordering::SeqCst) + 1;
        script.most_alive.fetch_max(alive, Ordering::SeqCst);
        Self(script)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
        self.0.log.note(format!("{} gone", self.0.name));
    }
}

impl Service for Probe {
    type Msg = Probing;
    type Args = Arc<Script>;
    const KIND: &'static str = "probe";
    const GAUGES: &'static [&'static str] = &["level"];

    async fn start(script: Arc<Script>, me: Me<Probing>) -> Result<Self, StartError> {
        script.starts.fetch_add(1, Ordering::SeqCst);
        match script.opening() {
            Opening::Well => {}
            Opening::Fails => return Err(StartError::new("no luck")),
            Opening::Panics => panic!("bad start"),
            Opening::Hangs => std::future::pending().await,
        }
        script.log.note(format!("{} up", script.name));
        Ok(Self { me, life: Alive::new(script) })
    }

    async fn handle(&mut self, msg: Probing) -> Result<(), Crash> {
        match msg {
            Probing::Ping(reply) => reply.send(self.life.0.starts.load(Ordering::SeqCst)),
            Probing::Note => {}
            Probing::Panic => panic!("a probe's panic"),
            Probing::Fail => return Err(Crash::new("a probe's error")),
            Probing::Done => self.me.done(),
            Probing::Hang => std::future::pending().await,
            Probing::Gate(gate) => gate.notified().await,
            Probing::Block(until) => drop(until.recv()),
            Probing::Gauge(value) => self.me.gauge(0, value),
        }
        Ok(())
    }

    async fn stop(&mut self) {
        self.life.0.log.note(format!("{} stops", self.life.0.name));
        if self.life.0.stops_never {
            std::future::pending::<()>().await;
        }
    }
}

/// A wiring of three probes.
pub(super) struct World {
    pub(super) log: Log,
    pub(super) nodes: Nodes,
    pub(super) a: (Address<Probing>, Arc<Script>),
    pub(super) b: (Address<Probing>, Arc<Script>),
    pub(super) c: (Address<Probing>, Arc<Script>),
}

impl World {
    pub(super) fn new() -> Self {
        let log = Log::default();
        let probe = |name: &'static str| (Address::new(name, 4), Arc::new(Script::new(name, &log)));
        Self { a: probe("a"), b: probe("b"), c: probe("c"), nodes: Nodes::new(), log }
    }

    pub(super) async fn start(self, table: &'static Table<World>) -> (Arc<Self>, RootHandle<Self>) {
        let world = Arc::new(self);
        let root = Root::start(world.clone(), table, world.nodes.clone(), options()).await.unwrap();
        (world, root)
    }

    pub(super) fn state(&self, path: &str) -> NodeState {
        self.nodes.node(path).unwrap().state
    }
}

/// Without jitter.
pub(super) fn options() -> Options {
    Options { random: Arc::new(|| 0), ..Options::default() }
}

pub(super) fn start_a(world: &Arc<World>, place: ChildPlace) -> Starting {
    place.spawn::<Probe>(world.a.0.clone(), world.a.1.clone())
}

pub(super) fn start_b(world: &Arc<World>, place: ChildPlace) -> Starting {
    place.spawn::<Probe>(world.b.0.clone(), world.b.1.clone())
}

pub(super) fn start_c(world: &Arc<World>, place: ChildPlace) -> Starting {
    place.spawn::<Probe>(world.c.0.clone(), world.c.1.clone())
}

pub(super) const INTENSITY: Intensity = Intensity { restarts: 3, within: MINUTE };

pub(super) const fn row(id: &'static str, start: StartFn<World>) -> ChildSpec<World> {
    ChildSpec {
        id,
        start,
        restart: Restart::Permanent,
        intensity: INTENSITY,
        exhausted: Exhausted::Fail(MINUTE),
        grace: SECOND,
        start_deadline: SECOND,
    }
}

pub(super) static ABC: Table<World> = Table { children: &[row("a", start_a), row("b", start_b), row("c", start_c)] };

/// A dynamic probe of its own script.
pub(super) fn dynamic<Ctx>(
    id: &str,
    restart: Restart,
    address: &Address<Probing>,
    script: &Arc<Script>,
) -> DynamicChild<Ctx> {
    let (address, script) = (address.clone(), script.clone());
    DynamicChild {
        id: id.to_owned(),
        kind: "probe",
        restart,
        intensity: INTENSITY,
        exhausted: Exhausted::Settle,
        grace: SECOND,
        start_deadline: SECOND,
        start: Arc::new(move |_, place| place.spawn::<Probe>(address.clone(), script.clone())),
    }
}

/// How many starts the probe behind this address has had, once it answers.
pub(super) async fn ping(address: &Address<Probing>) -> Result<usize, CallError> {
    address.call(10 * SECOND, Probing::Ping).await
}

/// Waits until such a message is being handled there.
pub(super) async fn until_handling(nodes: &Nodes, path: &str, kind: &str) {
    while nodes.node(path).unwrap().handling.is_none_or(|handling| handling.kind != kind) {
        tokio::task::yield_now().await;
    }
}

/// Waits for an event of the tree.
pub(super) async fn until(events: &mut SupervisionEvents, path: &str, what: What) -> SupervisionEvent {
    loop {
        let event = tokio::time::timeout(10 * MINUTE, events.next()).await.expect("in time").expect("a tree");
        if &*event.path == path && event.what == what {
            return event;
        }
    }
}
