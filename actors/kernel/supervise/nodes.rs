//! The table of node cells: path to cell. Assembled into the tree by whoever reads it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::broadcast;

use super::lock::Guarded;
use super::node::{Fault, Inspection, Node, NodeCell, NodeState};
use super::watchdog::{Pulse, Pulses};

/// How many supervision events wait for a slow reader before it misses some.
pub const EVENTS_KEPT: usize = 256;

/// What happened to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SupervisionEvent {
    /// The node's path.
    pub path: Arc<str>,
    /// What happened.
    pub what: What,
    /// Why, where there is a reason.
    pub reason: Option<String>,
}

/// See [`SupervisionEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It runs.
    Started,
    /// A start failed, or it ended without having been asked to.
    Failed,
    /// It ended in order.
    Stopped,
    /// It will be started again.
    Restarting,
    /// Past its window: out of service for a while.
    Quarantined,
    /// Past its window: settled or failed.
    GaveUp,
}

/// Why an operator's wish was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such node.
    #[error("no node at {0}")]
    NotFound(String),
    /// The root has no parent that could do it: end the process in order instead.
    #[error("the root is not restarted or stopped from here")]
    Root,
    /// The parent is not running at the moment. Nothing was done.
    #[error("the supervisor of {0} is not running")]
    Unavailable(String),
}

/// What an operator wants of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Restart,
    Stop,
}

/// How a wish reaches a supervisor's own mailbox; false: it was not taken.
pub(super) type ControlPort = Arc<dyn Fn(Control, Arc<str>) -> bool + Send + Sync>;

/// All node cells of one runtime. Cheap to clone; two of them live in one test process.
#[derive(Clone)]
pub struct Nodes {
    inner: Arc<Inner>,
}

struct Inner {
    table: Guarded<Table>,
    events: broadcast::Sender<SupervisionEvent>,
    pulses: Pulses,
    order: AtomicU64,
}

#[derive(Default)]
struct Table {
    cells: BTreeMap<Arc<str>, Arc<NodeCell>>,
    supervisors: HashMap<Arc<str>, ControlPort>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self::new()
    }
}

impl Nodes {
    /// An empty tree.
    pub fn new() -> Self {
        let inner = Inner {
            table: Guarded::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
            pulses: Pulses::default(),
            order: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The whole tree. An empty, stopped root where nothing was started.
    pub fn tree(&self) -> Node {
        self.node("/").unwrap_or_else(|| {
            let cell = NodeCell::new("".into(), "".into(), 0);
            cell.down();
            cell.snapshot()
        })
    }

    /// One node with its subtree.
    pub fn node(&self, path: &str) -> Option<Node> {
        let mut cells = self.inner.table.with(|table| table.subtree(path));
        // Deepest first, so that each node finds its children complete and hands itself to its parent.
        cells.sort_by_cached_key(|cell| {
            std::cmp::Reverse((cell.path().matches('/').count(), cell.path().len() > 1, cell.order))
        });
        let mut children: HashMap<Arc<str>, Vec<Node>> = HashMap::new();
        let mut found = None;
        for cell in &cells {
            let mut node = cell.snapshot();
            node.children = children.remove(cell.path()).unwrap_or_default();
            node.children.reverse();
            if cell.path() == path {
                found = Some(node);
            } else {
                children.entry(cell.parent().clone()).or_default().push(node);
            }
        }
        found
    }

    /// A node with its gauges and last messages.
    pub fn inspect(&self, path: &str) -> Option<Inspection> {
        let node = self.node(path)?;
        Some(self.cell(path)?.inspect(node))
    }

    /// Restarts a node, whatever state it is in: counted in `restarts`, not in its window.
    ///
    /// # Errors
    /// Not found, the root, or its parent is not running.
    pub fn restart(&self, path: &str) -> Result<(), ControlError> {
        self.control(path, Control::Restart)
    }

    /// Stops a node. It stays so until [`Nodes::restart`].
    ///
    /// # Errors
    /// Not found, the root, or its parent is not running.
    pub fn stop(&self, path: &str) -> Result<(), ControlError> {
        self.control(path, Control::Stop)
    }

    /// Lets the handling of the node's next messages go wrong. Whether this is allowed is the caller's business.
    ///
    /// # Errors
    /// Not found.
    pub fn inject(&self, path: &str, fault: Fault) -> Result<(), ControlError> {
        self.cell(path).ok_or_else(|| ControlError::NotFound(path.to_owned()))?.set_fault(fault);
        Ok(())
    }

    /// Permanent nodes that are not running, by path: ready means that there are none.
    pub fn not_running_permanent(&self) -> Vec<String> {
        self.inner.table.with(|table| {
            Table::visible(table.cells.values())
                .filter(|cell| cell.is_permanent() && cell.state() != NodeState::Running)
                .map(|cell| cell.path().to_owned())
                .collect()
        })
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> SupervisionEvents {
        SupervisionEvents { receiver: self.inner.events.subscribe(), missed: 0 }
    }

    /// A sign of life for work that is no actor, such as a writer thread: the watchdog looks at it like at a core handler.
    pub fn pulse(&self, name: impl Into<Arc<str>>) -> Pulse {
        let pulse = Pulse::default();
        self.inner.pulses.add(name.into(), &pulse);
        pulse
    }

    pub(super) fn pulses(&self) -> &Pulses {
        &self.inner.pulses
    }

    fn control(&self, path: &str, control: Control) -> Result<(), ControlError> {
        let Some(cell) = self.cell(path) else { return Err(ControlError::NotFound(path.to_owned())) };
        if cell.parent().is_empty() {
            return Err(ControlError::Root);
        }
        let port = self.inner.table.with(|table| table.supervisors.get(cell.parent()).cloned());
        match port {
            Some(port) if port(control, cell.id().clone()) => Ok(()),
            Some(_) | None => Err(ControlError::Unavailable(path.to_owned())),
        }
    }

    fn cell(&self, path: &str) -> Option<Arc<NodeCell>> {
        self.inner.table.with(|table| Table::visible(table.cells.get(path)).next().cloned())
    }

    pub(super) fn emit(&self, cell: &NodeCell, what: What, reason: Option<String>) {
        // An error says only that nobody listens.
        let _ = self.inner.events.send(SupervisionEvent { path: cell.shared_path().clone(), what, reason });
    }

    /// The cell at this place: a new one, or the one that is still there. `core` ones are watched.
    pub(super) fn register(&self, parent: &Arc<str>, id: &Arc<str>, core: bool) -> Arc<NodeCell> {
        let path = super::node::child_path(parent, id);
        let (cell, new) = self.inner.table.with(|table| {
            if let Some(cell) = table.cells.get(&path) {
                cell.hidden.store(false, Ordering::Release);
                return (cell.clone(), false);
            }
            let order = self.inner.order.fetch_add(1, Ordering::Relaxed);
            let cell = Arc::new(NodeCell::new(parent.clone(), id.clone(), order));
            table.cells.insert(path, cell.clone());
            (cell, true)
        });
        cell.set_state(NodeState::Starting);
        if core && new {
            self.inner.pulses.add(cell.shared_path().clone(), &cell.pulse);
        }
        cell
    }

    pub(super) fn supervised_by(&self, path: &Arc<str>, port: ControlPort) {
        self.inner.table.with(|table| table.supervisors.insert(path.clone(), port));
    }

    /// Takes a node and all below it out of the tree.
    pub(super) fn forget(&self, path: &str) {
        self.inner.table.with(|table| {
            for cell in table.subtree(path) {
                table.hide(&cell);
            }
        });
    }

    /// Takes all below a node out of the tree.
    pub(super) fn forget_below(&self, path: &str) {
        self.inner.table.with(|table| {
            for cell in table.subtree(path).iter().filter(|cell| cell.path() != path) {
                table.hide(cell);
            }
        });
    }

    /// An incarnation ended: a hidden cell was kept only for it.
    pub(super) fn vacated(&self, cell: &Arc<NodeCell>) {
        if cell.hidden.load(Ordering::Acquire) {
            self.inner.table.with(|table| {
                if cell.hidden.load(Ordering::Acquire) {
                    table.hide(cell);
                }
            });
        }
    }
}

impl Table {
    fn visible<'a>(cells: impl IntoIterator<Item = &'a Arc<NodeCell>>) -> impl Iterator<Item = &'a Arc<NodeCell>> {
        cells.into_iter().filter(|cell| !cell.hidden.load(Ordering::Acquire))
    }

    fn subtree(&self, path: &str) -> Vec<Arc<NodeCell>> {
        let below = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let own = self.cells.get(path).filter(|_| path != "/");
        let rest = self
            .cells
            .range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded))
            .take_while(|(at, _)| at.starts_with(&below))
            .map(|(_, cell)| cell);
        Self::visible(own.into_iter().chain(rest)).cloned().collect()
    }

    /// Removes the cell, or hides it while an incarnation still holds it: a successor under the same path must find it.
    fn hide(&mut self, cell: &Arc<NodeCell>) {
        self.supervisors.remove(cell.path());
        cell.hidden.store(true, Ordering::Release);
        let is_this = self.cells.get(cell.path()).is_some_and(|known| Arc::ptr_eq(known, cell));
        // The last permit is taken, so nobody holds one; closed, so nobody gets one: a life of a supervisor that has just
        // died may be on another thread, about to start.
        if is_this && cell.vacancy.try_acquire().is_ok() {
            cell.vacancy.close();
            self.cells.remove(cell.path());
        }
    }
}

/// Supervision events as they come; bounded.
pub struct SupervisionEvents {
    receiver: broadcast::Receiver<SupervisionEvent>,
    missed: u64,
}

impl SupervisionEvents {
    /// The next event; `None` once the runtime is gone. A slow reader misses the oldest ones, see [`Self::missed`].
    pub async fn next(&mut self) -> Option<SupervisionEvent> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(count)) => self.missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many events this reader was too slow for.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
