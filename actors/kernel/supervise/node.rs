//! Node cells: each actor writes what it does into its own cell, readers assemble the tree. Nobody is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::address::Mailbox;
use super::lock::Guarded;
use super::watchdog::Pulse;

/// How many of its last messages a node remembers.
pub const MESSAGES_KEPT: usize = 20;

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It takes messages.
    Running,
    /// Its start is under way, or waits for the row before it.
    Starting,
    /// It failed and starts again in a moment.
    Backoff,
    /// It failed too often: answers `UNAVAILABLE`, tried again later.
    Quarantined,
    /// A core service that failed too often: one retry every so long.
    Failed,
    /// Stopped by an operator, by its supervisor's end, or by itself.
    Stopped,
}

impl NodeState {
    const ALL: [Self; 6] =
        [Self::Running, Self::Starting, Self::Backoff, Self::Quarantined, Self::Failed, Self::Stopped];

    fn of(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::Stopped)
    }
}

/// One node of the tree, as the debug socket shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Node {
    /// `/tools/bash`.
    pub path: String,
    /// [`super::Service::KIND`]; empty until its first start begins.
    pub kind: String,
    /// What it is doing.
    pub state: NodeState,
    /// Every restart, asked for or not.
    pub restarts: u64,
    /// Milliseconds since its last successful start; 0 while it is not running.
    pub uptime_ms: u64,
    /// Messages waiting.
    pub mailbox: usize,
    /// How many may wait.
    pub mailbox_capacity: usize,
    /// Messages handled, over all restarts.
    pub handled: u64,
    /// The message it is handling.
    pub handling: Option<Handling>,
    /// Its last failure.
    pub last_error: Option<String>,
    /// The process that it looks after.
    pub pid: Option<i32>,
    /// Its children, in start order.
    pub children: Vec<Node>,
}

/// A message under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Handling {
    /// [`super::Message::name`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// For how long, in milliseconds.
    pub ms: u64,
}

/// A message that was handled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handled {
    /// [`super::Message::name`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When handling began, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// A node, and what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The node with its subtree.
    #[serde(flatten)]
    pub node: Node,
    /// The numbers it shows, by name.
    pub gauges: BTreeMap<&'static str, u64>,
    /// Lossy messages that found no place.
    pub dropped: u64,
    /// Its last messages, oldest first; no payloads.
    pub messages: Vec<Handled>,
}

/// A fault that the shell applies to the handling of the next messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// For [`FaultKind::Slow`]: how long the handling waits first, in milliseconds.
    pub ms: u64,
    /// How many messages are hit; 0 takes an earlier fault back.
    pub times: u32,
}

/// See [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The handler panics.
    Panic,
    /// The handler never ends: a pending await.
    Hang,
    /// The handler takes longer.
    Slow,
    /// The handler returns a [`super::Crash`].
    Error,
}

type Names = &'static [&'static str];

/// What one actor writes and everybody may read. It outlives restarts.
pub(super) struct NodeCell {
    path: Arc<str>,
    parent: Arc<str>,
    id: Arc<str>,
    /// Registration order: parents before children, rows in table order.
    pub(super) order: u64,
    state: AtomicU8,
    restarts: AtomicU64,
    handled: AtomicU64,
    /// 0 for none: no process that we look after has this id.
    pid: AtomicI32,
    permanent: AtomicBool,
    /// No longer a part of the tree, kept only while an incarnation is still ending.
    pub(super) hidden: AtomicBool,
    gauges: OnceLock<(Names, Box<[AtomicU64]>)>,
    details: Guarded<Details>,
    pub(super) pulse: Pulse,
    /// One permit: held by the incarnation that lives, so a successor cannot begin before it is gone.
    pub(super) vacancy: Arc<Semaphore>,
}

#[derive(Default)]
struct Details {
    kind: &'static str,
    up_since: Option<Instant>,
    handling: Option<(&'static str, Instant)>,
    messages: VecDeque<(&'static str, Instant, Duration)>,
    last_error: Option<String>,
    fault: Option<Fault>,
    mailbox: Option<Arc<Mailbox>>,
}

impl NodeCell {
    pub(super) fn new(parent: Arc<str>, id: Arc<str>, order: u64) -> Self {
        Self {
            path: child_path(&parent, &id),
            parent,
            id,
            order,
            state: AtomicU8::new(NodeState::Starting as u8),
            restarts: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            pid: AtomicI32::new(0),
            permanent: AtomicBool::new(false),
            hidden: AtomicBool::new(false),
            gauges: OnceLock::new(),
            details: Guarded::default(),
            pulse: Pulse::default(),
            vacancy: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn shared_path(&self) -> &Arc<str> {
        &self.path
    }

    pub(super) fn parent(&self) -> &Arc<str> {
        &self.parent
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) fn state(&self) -> NodeState {
        NodeState::of(self.state.load(Ordering::Acquire))
    }

    pub(super) fn set_state(&self, state: NodeState) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn is_permanent(&self) -> bool {
        self.permanent.load(Ordering::Relaxed)
    }

    pub(super) fn set_permanent(&self, permanent: bool) {
        self.permanent.store(permanent, Ordering::Relaxed);
    }

    pub(super) fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_kind(&self, kind: &'static str, gauges: Names) {
        self.details.with(|details| details.kind = kind);
        self.gauges.get_or_init(|| (gauges, gauges.iter().map(|_| AtomicU64::new(0)).collect()));
    }

    /// Before the service itself can say it.
    pub(super) fn show_kind(&self, kind: &'static str) {
        self.details.with(|details| details.kind = kind);
    }

    pub(super) fn set_mailbox(&self, mailbox: Arc<Mailbox>) {
        self.details.with(|details| details.mailbox = Some(mailbox));
    }

    pub(super) fn gauge(&self, index: usize, value: u64) {
        if let Some(gauge) = self.gauges.get().and_then(|(_, values)| values.get(index)) {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn set_pid(&self, pid: Option<i32>) {
        self.pid.store(pid.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn failed(&self, error: &str) {
        self.details.with(|details| details.last_error = Some(error.to_owned()));
    }

    pub(super) fn set_fault(&self, fault: Fault) {
        self.details.with(|details| details.fault = (fault.times > 0).then_some(fault));
    }

    pub(super) fn up(&self) {
        self.details.with(|details| details.up_since = Some(Instant::now()));
        self.set_state(NodeState::Running);
    }

    pub(super) fn down(&self) {
        self.details.with(|details| {
            details.up_since = None;
            details.handling = None;
        });
        self.set_pid(None);
        self.set_state(NodeState::Stopped);
    }

    /// Notes that a message is being handled, until the guard is dropped. Also says which fault hits it.
    pub(super) fn begin(&self, message: &'static str) -> (Busy<'_>, Option<Fault>) {
        self.pulse.begin();
        let began = Instant::now();
        let fault = self.details.with(|details| {
            details.handling = Some((message, began));
            details.take_fault()
        });
        (Busy { cell: self, message, began }, fault)
    }

    /// The node without its children.
    pub(super) fn snapshot(&self) -> Node {
        let now = Instant::now();
        let mut node = Node {
            path: self.path.to_string(),
            kind: String::new(),
            state: self.state(),
            restarts: self.restarts.load(Ordering::Relaxed),
            uptime_ms: 0,
            mailbox: 0,
            mailbox_capacity: 0,
            handled: self.handled.load(Ordering::Relaxed),
            handling: None,
            last_error: None,
            pid: Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0),
            children: Vec::new(),
        };
        self.details.with(|details| {
            details.kind.clone_into(&mut node.kind);
            node.uptime_ms = details.up_since.map_or(0, |since| millis(now.saturating_duration_since(since)));
            if let Some(mailbox) = &details.mailbox {
                node.mailbox = mailbox.depth();
                node.mailbox_capacity = mailbox.capacity();
            }
            node.handling = details
                .handling
                .map(|(kind, since)| Handling { kind, ms: millis(now.saturating_duration_since(since)) });
            node.last_error.clone_from(&details.last_error);
        });
        node
    }

    pub(super) fn inspect(&self, node: Node) -> Inspection {
        let now = Instant::now();
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let gauges = self.gauges.get().map_or_else(BTreeMap::new, |(names, values)| {
            names.iter().copied().zip(values.iter().map(|value| value.load(Ordering::Relaxed))).collect()
        });
        self.details.with(|details| Inspection {
            node,
            gauges,
            dropped: details.mailbox.as_ref().map_or(0, |mailbox| mailbox.dropped()),
            messages: details
                .messages
                .iter()
                .map(|(kind, began, took)| Handled {
                    kind,
                    // From the age, so that a clock which jumped (a cloned or paused machine) jumps for all of them.
                    at_ms: millis(clock.saturating_sub(now.saturating_duration_since(*began))),
                    took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                })
                .collect(),
        })
    }
}

impl Details {
    fn take_fault(&mut self) -> Option<Fault> {
        let fault = self.fault.as_mut()?;
        let hit = *fault;
        fault.times -= 1;
        if fault.times == 0 {
            self.fault = None;
        }
        Some(hit)
    }
}

/// A message under way; dropping it ends it, however the handler ended.
pub(super) struct Busy<'a> {
    cell: &'a NodeCell,
    message: &'static str,
    began: Instant,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.cell.details.with(|details| {
            details.handling = None;
            if details.messages.len() >= MESSAGES_KEPT {
                details.messages.pop_front();
            }
            details.messages.push_back((self.message, self.began, took));
        });
        self.cell.handled.fetch_add(1, Ordering::Relaxed);
        self.cell.pulse.end();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `/` and `store` make `/store`; `/threads` and an id make `/threads/<id>`. The root itself is `/`, its parent is "".
pub(super) fn child_path(parent: &str, id: &str) -> Arc<str> {
    match parent {
        "" => "/".into(),
        "/" => format!("/{id}").into(),
        parent => format!("{parent}/{id}").into(),
    }
}
