//! The supervisor: one engine runs every table. Itself a service, so that it has a node, a mailbox and a parent like any.
//!
//! **Invariant:** a handler never waits. Starts, backoffs and ends happen in each child's own task ([`super::incarnation`]),
//! which reports here.
//! **Invariant:** what the supervisor wants of a child is written down before the child hears of it; an end without such
//! a record is the child's own.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::address::{Envelope, Reply};
use super::decide::{Decision, Exhausted, Exit, History, Moment, Restart, decide};
use super::incarnation::{Incarnation, Outcome, Report};
use super::node::{NodeCell, NodeState};
use super::nodes::{Control, Nodes, What};
use super::service::{Crash, Me, Service, StartError};
use super::table::{DynamicChild, End, Options, Settled, Tree};
use super::task::boxed;
use super::wish::{Added, Do, Wish, is_id};

/// What a supervisor is started from.
pub struct SupervisorArgs<Ctx: 'static> {
    pub(super) wiring: Arc<Ctx>,
    pub(super) tree: Tree<Ctx>,
    pub(super) nodes: Nodes,
    pub(super) options: Arc<Options>,
    pub(super) settled: Arc<watch::Sender<bool>>,
}

/// One-for-one, over rows and dynamic children alike.
pub struct Supervisor<Ctx: 'static> {
    me: Me<Wish<Ctx>>,
    args: SupervisorArgs<Ctx>,
    // In order, so that what happens to all of them happens in the same order each time.
    children: BTreeMap<Arc<str>, Slot<Ctx>>,
    /// Rows in start order.
    rows: Vec<Arc<str>>,
    /// Rows whose first start has not begun; each waits for the one before it.
    waiting: VecDeque<Arc<str>>,
    /// The row whose first start is under way.
    starting: Option<Arc<str>>,
    /// Lives of the children. Dropped with the supervisor.
    tasks: JoinSet<()>,
    lives: u64,
}

struct Slot<Ctx> {
    child: DynamicChild<Ctx>,
    row: bool,
    cell: Arc<NodeCell>,
    history: History,
    /// What the supervisor wants of the life that is ending, written down before the order goes out.
    intent: Option<Intent<Ctx>>,
    /// `None`: no life, stopped.
    life: Option<Lifeline>,
    /// Whether it was ever started.
    begun: bool,
}

struct Lifeline {
    number: u64,
    order: Option<oneshot::Sender<()>>,
    task: AbortHandle,
}

enum Intent<Ctx> {
    Restart,
    Stop,
    /// Forget it, tell these, and then perhaps start another one of the same id.
    Remove {
        tell: Vec<Reply<bool>>,
        then: Option<Box<DynamicChild<Ctx>>>,
    },
}

impl<Ctx: Send + Sync + 'static> Service for Supervisor<Ctx> {
    type Msg = Wish<Ctx>;
    type Args = SupervisorArgs<Ctx>;
    const KIND: &'static str = "supervisor";

    async fn start(args: Self::Args, me: Me<Self::Msg>) -> Result<Self, StartError> {
        let own = me.cell().shared_path().clone();
        // Children of an earlier life died with it; those that are to be there are registered again just below.
        args.nodes.forget_below(&own);
        let wishes = me.address().clone();
        args.nodes
            .supervised_by(&own, Arc::new(move |control, id| wishes.send(Wish(Do::Control(control, id))).is_ok()));
        let mut supervisor = Self {
            me,
            children: BTreeMap::new(),
            rows: Vec::new(),
            waiting: VecDeque::new(),
            starting: None,
            tasks: JoinSet::new(),
            lives: 0,
            args,
        };
        for row in supervisor.args.tree.table.map_or(&[][..], |table| table.children) {
            let id = supervisor.register(row.child(), true);
            supervisor.rows.push(id.clone());
            supervisor.waiting.push_back(id);
        }
        if let Some(first) = supervisor.args.tree.first.clone() {
            for child in first(&supervisor.args.wiring) {
                if !is_id(&child.id) {
                    return Err(StartError::new(format_args!("{:?} is not an id for a node", child.id)));
                }
                let id = supervisor.register(child, false);
                supervisor.begin(&id, Duration::ZERO, false);
            }
        }
        supervisor.start_next_row();
        Ok(supervisor)
    }

    async fn handle(&mut self, msg: Self::Msg) -> Result<(), Crash> {
        while self.tasks.try_join_next().is_some() {}
        match msg.0 {
            Do::Add { child, reply } => {
                let added = self.add(child);
                if let Some(reply) = reply {
                    reply.send(added);
                }
            }
            Do::Remove { id, reply } => self.remove(&id, reply),
            Do::Control(Control::Restart, id) => self.restart(&id),
            Do::Control(Control::Stop, id) => self.stop_child(&id),
            Do::Report { id, life, report } => {
                let current = self.children.get(&id).and_then(|slot| slot.life.as_ref()).map(|life| life.number);
                if current == Some(life) {
                    match report {
                        Report::Up => self.first_start_ended(&id),
                        Report::Ended(outcome) => self.ended(&id, outcome)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Dynamic children together, for they do not depend on each other; then the rows, last one first. ractor would kill
    /// them all at once when this actor ends.
    async fn stop(&mut self) {
        let dynamic = self.children.values_mut().filter(|slot| !slot.row).filter_map(Slot::order_to_end).collect();
        self.wait_for(dynamic).await;
        for id in std::mem::take(&mut self.rows).into_iter().rev() {
            let task = self.children.get_mut(&id).and_then(Slot::order_to_end);
            self.wait_for(task.into_iter().collect()).await;
        }
    }
}

impl<Ctx: Send + Sync + 'static> Supervisor<Ctx> {
    fn register(&mut self, child: DynamicChild<Ctx>, row: bool) -> Arc<str> {
        let id: Arc<str> = child.id.as_str().into();
        let cell = self.args.nodes.register(self.me.cell().shared_path(), &id, child.is_core());
        cell.set_permanent(child.restart == Restart::Permanent);
        if !child.kind.is_empty() {
            cell.show_kind(child.kind);
        }
        let slot = Slot { child, row, cell, history: History::default(), intent: None, life: None, begun: false };
        self.children.insert(id.clone(), slot);
        id
    }

    /// Begins a life. The child has none.
    fn begin(&mut self, id: &Arc<str>, after: Duration, again: bool) {
        let Some(slot) = self.children.get_mut(id) else { return };
        let Some(parent) = self.me.life().actor().cloned() else { return };
        self.lives += 1;
        let number = self.lives;
        let incarnation = Incarnation {
            wiring: self.args.wiring.clone(),
            child: slot.child.clone(),
            cell: slot.cell.clone(),
            nodes: self.args.nodes.clone(),
            options: self.args.options.clone(),
            parent: parent.clone(),
            after,
            again,
        };
        let (order, ordered) = oneshot::channel();
        let (actor, id) = (parent, id.clone());
        // Not by the address: a first child may be up before this supervisor's own start is over and its address filled.
        // Not delivered: this supervisor is gone, its successor knows nothing of this life.
        let report = move |report| {
            let msg = Wish::<Ctx>(Do::Report { id: id.clone(), life: number, report });
            let _ = actor.send_message(Envelope { msg, permit: None });
        };
        let task = self.tasks.spawn(boxed(async move {
            let outcome = incarnation.run(ordered, || report(Report::Up)).await;
            report(Report::Ended(outcome));
        }));
        slot.begun = true;
        slot.life = Some(Lifeline { number, order: Some(order), task });
    }

    fn add(&mut self, child: Box<DynamicChild<Ctx>>) -> Added {
        match self.children.get_mut(child.id.as_str()) {
            None => {
                let id = self.register(*child, false);
                self.begin(&id, Duration::ZERO, false);
                Added::Started
            }
            Some(Slot { intent: Some(Intent::Remove { then, .. }), .. }) => {
                let first = then.is_none();
                then.get_or_insert(child);
                if first { Added::Started } else { Added::AlreadyRunning }
            }
            // Stopped by an operator, or by itself.
            Some(slot) if slot.life.is_none() && slot.begun && !slot.row => {
                let id = slot.cell.id().clone();
                slot.child = *child;
                self.restart(&id);
                Added::Started
            }
            Some(_) => Added::AlreadyRunning,
        }
    }

    fn remove(&mut self, id: &Arc<str>, reply: Reply<bool>) {
        let Some(slot) = self.children.get_mut(id) else { return reply.send(false) };
        if slot.life.is_none() {
            reply.send(true);
            return self.forget(id, None);
        }
        if let Some(Intent::Remove { tell, then }) = &mut slot.intent {
            *then = None;
            tell.push(reply);
        } else {
            slot.intent = Some(Intent::Remove { tell: vec![reply], then: None });
            slot.order_to_end();
        }
    }

    fn restart(&mut self, id: &Arc<str>) {
        let Some(slot) = self.children.get_mut(id) else { return };
        slot.history = History::default();
        if slot.life.is_none() {
            // A row that waits for its turn gets it now; its turn then passes.
            let again = slot.begun;
            self.waiting.retain(|waiting| waiting != id);
            self.args.nodes.emit(&slot.cell, What::Restarting, None);
            return self.begin(id, Duration::ZERO, again);
        }
        match slot.intent {
            Some(Intent::Remove { .. }) => {}
            None | Some(Intent::Restart | Intent::Stop) => {
                slot.intent = Some(Intent::Restart);
                slot.order_to_end();
            }
        }
    }

    fn stop_child(&mut self, id: &Arc<str>) {
        let Some(slot) = self.children.get_mut(id) else { return };
        if slot.life.is_none() {
            slot.cell.set_state(NodeState::Stopped);
            slot.begun = true;
            self.waiting.retain(|waiting| waiting != id);
            return;
        }
        match slot.intent {
            Some(Intent::Remove { .. }) => {}
            None | Some(Intent::Restart | Intent::Stop) => {
                slot.intent = Some(Intent::Stop);
                slot.order_to_end();
            }
        }
    }

    /// A life is over, its last resource gone.
    fn ended(&mut self, id: &Arc<str>, outcome: Outcome) -> Result<(), Crash> {
        let Some(slot) = self.children.get_mut(id) else { return Ok(()) };
        slot.life = None;
        match (slot.intent.take(), outcome) {
            (Some(Intent::Restart), _) => {
                self.args.nodes.emit(&slot.cell, What::Restarting, None);
                self.begin(id, Duration::ZERO, true);
            }
            (Some(Intent::Stop), _) => self.first_start_ended(id),
            (Some(Intent::Remove { tell, then }), _) => {
                self.forget(id, None);
                for reply in tell {
                    reply.send(true);
                }
                if let Some(child) = then {
                    self.add(child);
                }
            }
            // Ordered by nobody: this supervisor is ending.
            (None, Outcome::Ordered) => {}
            (None, Outcome::Exit(exit, why)) => return self.exited(id, exit, why),
        }
        Ok(())
    }

    fn exited(&mut self, id: &Arc<str>, exit: Exit, why: String) -> Result<(), Crash> {
        let Some(slot) = self.children.get_mut(id) else { return Ok(()) };
        let moment = Moment { now: Instant::now(), random: (self.args.options.random)() };
        let decision = decide(&slot.child.policy(), &self.args.options.pace, exit, &mut slot.history, moment);
        let (cell, nodes) = (slot.cell.clone(), self.args.nodes.clone());
        let (state, what, after) = match decision {
            Decision::Forget => {
                let end = if exit == Exit::Done { End::Done } else { End::Failed(why) };
                self.forget(id, Some(end));
                return Ok(());
            }
            Decision::Exhausted(Exhausted::Settle) => {
                nodes.emit(&cell, What::GaveUp, Some(why.clone()));
                self.forget(id, Some(End::CrashLoop(why)));
                return Ok(());
            }
            Decision::Exhausted(Exhausted::Escalate) => {
                nodes.emit(&cell, What::GaveUp, Some(why.clone()));
                return Err(Crash::new(format_args!("{} failed too often: {why}", cell.path())));
            }
            Decision::Restart { after } => (NodeState::Backoff, What::Restarting, after),
            Decision::Exhausted(Exhausted::Quarantine(after)) => (NodeState::Quarantined, What::Quarantined, after),
            Decision::Exhausted(Exhausted::Fail(after)) => (NodeState::Failed, What::GaveUp, after),
        };
        cell.set_state(state);
        nodes.emit(&cell, what, Some(why));
        self.begin(id, after, true);
        // The rows after it do not wait for one that is out of service: they know it only by an address.
        if state != NodeState::Backoff {
            self.first_start_ended(id);
        }
        Ok(())
    }

    /// The child is over. A dynamic one leaves the tree; a row stays, stopped, so that an operator can start it again.
    fn forget(&mut self, id: &Arc<str>, end: Option<End>) {
        self.first_start_ended(id);
        let Some(slot) = self.children.get(id) else { return };
        if slot.row {
            slot.cell.set_state(NodeState::Stopped);
        } else {
            self.args.nodes.forget(slot.cell.path());
            self.children.remove(id);
        }
        if let (Some(end), Some(told)) = (end, &self.args.tree.on_settled) {
            told(Settled { id: id.to_string(), end });
        }
        if self.args.tree.ends_when_empty && self.children.values().all(|slot| slot.row && slot.life.is_none()) {
            self.me.done();
        }
    }

    fn first_start_ended(&mut self, id: &Arc<str>) {
        if self.starting.as_ref() == Some(id) {
            self.starting = None;
            self.start_next_row();
        }
    }

    fn start_next_row(&mut self) {
        if self.starting.is_some() {
            return;
        }
        let Some(id) = self.waiting.pop_front() else {
            self.args.settled.send_replace(true);
            return;
        };
        self.starting = Some(id.clone());
        self.begin(&id, Duration::ZERO, false);
    }

    /// Waits for lives to be over, without the mailbox: it is closed while the supervisor stops.
    async fn wait_for(&mut self, mut tasks: HashSet<tokio::task::Id>) {
        while !tasks.is_empty() {
            match self.tasks.join_next_with_id().await {
                Some(Ok((task, ()))) => tasks.remove(&task),
                Some(Err(error)) => tasks.remove(&error.id()),
                None => return,
            };
        }
    }
}

impl<Ctx> Slot<Ctx> {
    /// Orders the life to end, if there is one. Its task ends after it.
    fn order_to_end(&mut self) -> Option<tokio::task::Id> {
        let life = self.life.as_mut()?;
        if let Some(order) = life.order.take() {
            // An error says that it has just ended.
            let _ = order.send(());
        }
        Some(life.task.id())
    }
}
