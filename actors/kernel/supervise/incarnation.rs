//! One life of a child, from the wait before its start to the end of its last resource. One task, read top to bottom.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorCell;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::decide::Exit;
use super::node::{NodeCell, NodeState};
use super::nodes::{Nodes, What};
use super::service::Life;
use super::shell::{Caught, ChildPlace, Started};
use super::table::{DynamicChild, Options};

/// What the supervisor hears of a child.
pub(super) enum Report {
    /// It runs.
    Up,
    /// It ended: its actor's task is over and its state is dropped.
    Ended(Outcome),
}

/// How a life ended.
pub(super) enum Outcome {
    /// Because it was ordered.
    Ordered,
    /// By itself.
    Exit(Exit, String),
}

/// What a life is made from.
pub(super) struct Incarnation<Ctx> {
    pub(super) wiring: Arc<Ctx>,
    pub(super) child: DynamicChild<Ctx>,
    pub(super) cell: Arc<NodeCell>,
    pub(super) nodes: Nodes,
    pub(super) options: Arc<Options>,
    pub(super) parent: ActorCell,
    /// The time before the start: backoff, quarantine, a retry.
    pub(super) after: Duration,
    /// Whether the start counts in `restarts`.
    pub(super) again: bool,
}

/// An order to end. A dropped sender is one too.
pub(super) type Order = oneshot::Receiver<()>;

impl<Ctx: Send + Sync + 'static> Incarnation<Ctx> {
    /// Lives. `up` is called once the child runs.
    pub(super) async fn run(self, mut order: Order, up: impl FnOnce()) -> Outcome {
        let life = Arc::new(Life::default());
        let grace = self.child.grace;
        // Ordered to end before it runs: whatever of the start is there is dropped.
        let started = tokio::select! {
            biased;
            _ = &mut order => None,
            started = self.start(life.clone()) => Some(started),
        };
        let outcome = match started {
            None => Outcome::Ordered,
            Some(Err(why)) => Outcome::Exit(Exit::Failed { up: Duration::ZERO }, why),
            Some(Ok(started)) => {
                let since = Instant::now();
                self.nodes.emit(&self.cell, What::Started, None);
                up();
                let ordered = live(started, order, grace, &life).await;
                if ordered { Outcome::Ordered } else { Outcome::of(&life, since.elapsed()) }
            }
        };
        // The actor's task is over; its state may still be on its way. Nobody else waits here, so it is got at once.
        let _gone = self.cell.vacancy.acquire().await;
        self.close(&outcome);
        outcome
    }

    async fn start(&self, life: Arc<Life>) -> Result<Started, String> {
        if !self.after.is_zero() {
            sleep(self.after).await;
        }
        self.cell.set_state(NodeState::Starting);
        if self.again {
            self.cell.restarted();
        }
        // Only after a crash of the supervisor itself is there still somebody.
        let Ok(permit) = self.cell.vacancy.clone().acquire_owned().await else {
            return Err("the node was closed".to_owned());
        };
        let place = ChildPlace {
            cell: self.cell.clone(),
            nodes: self.nodes.clone(),
            options: self.options.clone(),
            parent: Some(self.parent.clone()),
            life,
            permit,
        };
        // In an async block, so that a panic while the arguments are made is caught too.
        let starting = Box::pin(async { (self.child.start)(&self.wiring, place).await });
        match timeout(self.child.start_deadline, Caught(starting)).await {
            Ok(Ok(Ok(started))) => Ok(started),
            Ok(Ok(Err(error))) => Err(error.0),
            Ok(Err(panic)) => Err(panic),
            Err(_) => Err(format!("its start overran {} ms", self.child.start_deadline.as_millis())),
        }
    }

    fn close(&self, outcome: &Outcome) {
        self.cell.set_state(NodeState::Stopped);
        match outcome {
            Outcome::Ordered | Outcome::Exit(Exit::Done, _) => self.nodes.emit(&self.cell, What::Stopped, None),
            Outcome::Exit(Exit::Failed { .. }, why) => {
                self.cell.failed(why);
                self.nodes.emit(&self.cell, What::Failed, Some(why.clone()));
            }
        }
    }
}

impl Outcome {
    /// Reason strings are not looked at: an end is normal if it was announced.
    fn of(life: &Life, up: Duration) -> Self {
        match (life.error(), life.is_done()) {
            (None, true) => Self::Exit(Exit::Done, String::new()),
            (Some(why), _) => Self::Exit(Exit::Failed { up }, why),
            (None, false) => Self::Exit(Exit::Failed { up }, "ended without being asked to".to_owned()),
        }
    }
}

/// Waits for the actor's end; true if it was ordered. Stop, grace, kill, wait.
async fn live(started: Started, order: Order, grace: Duration, life: &Life) -> bool {
    let mut join = started.join;
    tokio::select! {
        biased;
        _ = &mut join => return false,
        _ = order => {}
    }
    life.stop();
    if timeout(grace, &mut join).await.is_err() {
        life.kill();
        // As long as it takes: a blocked thread cannot be killed, and a successor beside it must not be.
        let _ = join.await;
    }
    true
}
