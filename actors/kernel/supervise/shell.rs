//! The one ractor actor that runs every service.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::address::{Address, Envelope};
use super::engine::{Supervisor, SupervisorArgs};
use super::node::{Fault, FaultKind, NodeCell};
use super::nodes::Nodes;
use super::service::{Crash, Life, Me, Message as _, Service, StartError};
use super::table::{Options, Starting, Tree};
use super::wish::SupervisorRef;

/// Where a child is to start: its node, its supervisor. Given to a start function, which spends it on one child.
pub struct ChildPlace {
    pub(super) cell: Arc<NodeCell>,
    pub(super) nodes: Nodes,
    pub(super) options: Arc<Options>,
    pub(super) parent: Option<ActorCell>,
    pub(super) life: Arc<Life>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// A child that runs.
pub struct Started {
    pub(super) join: JoinHandle<()>,
}

impl ChildPlace {
    /// The path of the child.
    pub fn path(&self) -> &str {
        self.cell.path()
    }

    /// Starts a service here. It is reached under `address` once it runs.
    pub fn spawn<S: Service>(self, address: Address<S::Msg>, args: S::Args) -> Starting {
        self.spawn_as::<S>(S::KIND, address, args)
    }

    /// Starts a supervisor here. `reference` is its stable handle, kept by whoever adds children.
    pub fn supervise<Ctx: Send + Sync + 'static>(
        self,
        wiring: &Arc<Ctx>,
        reference: &SupervisorRef<Ctx>,
        tree: Tree<Ctx>,
    ) -> Starting {
        let (kind, address) = (tree.kind, reference.address().clone());
        let args = SupervisorArgs {
            wiring: wiring.clone(),
            tree,
            nodes: self.nodes.clone(),
            options: self.options.clone(),
            settled: reference.settled_flag(),
        };
        self.spawn_as::<Supervisor<Ctx>>(kind, address, args)
    }

    fn spawn_as<S: Service>(self, kind: &'static str, address: Address<S::Msg>, args: S::Args) -> Starting {
        let Self { cell, nodes, options, parent, life, permit } = self;
        cell.set_kind(kind, S::GAUGES);
        cell.set_mailbox(address.mailbox().clone());
        let me = Me::new(address.clone(), cell.clone(), life);
        let occupied = Occupied { cell, nodes, address, permit: Some(permit) };
        let boot = Boot { args, me, occupied, deadline: options.handler };
        Box::pin(async move {
            // Unnamed: ractor's names are one registry for the whole process.
            let spawned = match parent {
                Some(parent) => Actor::spawn_linked(None, Shell::<S>(PhantomData), boot, parent).await,
                None => Actor::spawn(None, Shell::<S>(PhantomData), boot).await,
            };
            spawned.map(|(_, join)| Started { join }).map_err(|error| match error {
                ractor::SpawnErr::StartupFailed(why) => StartError(why.to_string()),
                ractor::SpawnErr::ActorAlreadyStarted | ractor::SpawnErr::ActorAlreadyRegistered(_) => {
                    StartError::new(error)
                }
            })
        })
    }
}

struct Shell<S>(PhantomData<fn() -> S>);

struct Boot<S: Service> {
    // In this order: the arguments are gone before the place is free.
    args: S::Args,
    me: Me<S::Msg>,
    occupied: Occupied<S::Msg>,
    deadline: Duration,
}

struct Running<S: Service> {
    // In this order: the service is gone before the place is free.
    live: Option<(S, Occupied<S::Msg>)>,
    me: Me<S::Msg>,
    deadline: Duration,
}

/// An incarnation's hold on its place. Dropped after the service itself, wherever that happens: then, and only then, a
/// successor may start.
struct Occupied<M> {
    cell: Arc<NodeCell>,
    nodes: Nodes,
    address: Address<M>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<M> Drop for Occupied<M> {
    fn drop(&mut self) {
        self.address.clear();
        self.cell.down();
        drop(self.permit.take());
        self.nodes.vacated(&self.cell);
    }
}

impl<S: Service> Actor for Shell<S> {
    type Msg = Envelope<S::Msg>;
    type State = Running<S>;
    type Arguments = Boot<S>;

    async fn pre_start(&self, actor: ActorRef<Self::Msg>, boot: Boot<S>) -> Result<Running<S>, ActorProcessingErr> {
        let Boot { args, me, occupied, deadline } = boot;
        me.life().bind(actor.get_cell());
        let service = S::start(args, me.clone()).await.map_err(|error| error.0)?;
        me.cell().up();
        occupied.address.fill(actor);
        Ok(Running { live: Some((service, occupied)), me, deadline })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Envelope<S::Msg>,
        state: &mut Running<S>,
    ) -> Result<(), ActorProcessingErr> {
        let Running { live, me, deadline } = state;
        // Between a failure or a stop and the end of the actor.
        let Some((service, _)) = live.as_mut() else { return Ok(()) };
        let Envelope { msg, permit } = envelope;
        let (busy, fault) = me.cell().begin(msg.name());
        drop(permit);
        let work = async {
            if let Some(fault) = fault {
                suffer(fault).await?;
            }
            service.handle(msg).await
        };
        let outcome = within(*deadline, me.life(), work).await;
        drop(busy);
        outcome.map_err(|why| {
            me.life().failed(&why);
            // Here, not with ractor's last event: that waits in the supervisor's queue until it is read.
            *live = None;
            why.into()
        })
    }

    async fn post_stop(&self, _: ActorRef<Self::Msg>, state: &mut Running<S>) -> Result<(), ActorProcessingErr> {
        let Some((mut service, occupied)) = state.live.take() else { return Ok(()) };
        let life = state.me.life();
        // From here on messages are dropped: senders shall see an empty address.
        occupied.address.clear();
        if !life.is_killed() {
            let stopped = tokio::select! {
                biased;
                () = life.killed() => Ok(()),
                stopped = Caught(pin!(service.stop())) => stopped,
            };
            if let Err(panic) = stopped {
                life.failed(&panic);
            }
        }
        drop(service);
        drop(occupied);
        Ok(())
    }

    /// Overridden because ractor's own stops the parent on any child's end. A child's end is noticed by its task.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut Running<S>,
    ) -> Result<(), ActorProcessingErr> {
        drop(event);
        Ok(())
    }
}

async fn suffer(fault: Fault) -> Result<(), Crash> {
    match fault.kind {
        #[allow(clippy::panic, reason = "an injected fault")]
        FaultKind::Panic => panic!("injected panic"),
        FaultKind::Hang => std::future::pending().await,
        FaultKind::Slow => {
            tokio::time::sleep(Duration::from_millis(fault.ms)).await;
            Ok(())
        }
        FaultKind::Error => Err(Crash::new("injected error")),
    }
}

/// Runs a handler against its deadline and against a kill. The error is the failure's text.
async fn within(deadline: Duration, life: &Life, work: impl Future<Output = Result<(), Crash>>) -> Result<(), String> {
    let mut work = Caught(pin!(work));
    // Most handlers end at once: no timer for them.
    let first = poll_fn(|context| Poll::Ready(Pin::new(&mut work).poll(context))).await;
    let outcome = match first {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => tokio::select! {
            biased;
            outcome = &mut work => outcome,
            () = life.killed() => return Err("killed".to_owned()),
            () = tokio::time::sleep(deadline) => {
                return Err(format!("a handler overran its {} ms", deadline.as_millis()));
            }
        },
    };
    outcome?.map_err(|crash| crash.0)
}

/// A future whose panic is an error with the panic's text.
pub(super) struct Caught<F>(pub(super) F);

impl<F: Future + Unpin> Future for Caught<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Unwind safe: after a panic the future is never polled again, only dropped.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.0).poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic_text(panic.as_ref()))),
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}
