//! What an actor is to its author: a message type, a state, three functions.

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use ractor::ActorCell;
use tokio::sync::Notify;

use super::address::Address;
use super::lock::Guarded;
use super::node::NodeCell;

/// What an actor can be told.
pub trait Message: Send + 'static {
    /// The message's name for operators (`Prompt`), never its payload.
    fn name(&self) -> &'static str;
}

/// An actor: its own state, one message at a time.
///
/// One generic shell runs every service, so that mailbox counting, node cells, deadlines on handlers, fault injection
/// and the watchdog are in one place.
pub trait Service: Sized + Send + 'static {
    /// What it can be told.
    type Msg: Message;
    /// What it is started from; made anew for each start, never kept.
    type Args: Send + 'static;
    /// `tool`, `store`, `thread` …: the `kind` of its node.
    const KIND: &'static str;
    /// Names of the numbers it shows in `inspect`, set through [`Me::gauge`].
    const GAUGES: &'static [&'static str] = &[];

    /// Rebuilds the state from the store and the world.
    fn start(args: Self::Args, me: Me<Self::Msg>) -> impl Future<Output = Result<Self, StartError>> + Send;

    /// Handles one message. `Err` means "restart me" and nothing else; expected failures travel in replies.
    fn handle(&mut self, msg: Self::Msg) -> impl Future<Output = Result<(), Crash>> + Send;

    /// Orderly stop only, never after a panic or a kill: no invariant may rest on it.
    fn stop(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

macro_rules! reason {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub String);

        impl $name {
            /// From whatever can be shown.
            pub fn new(why: impl Display) -> Self {
                Self(why.to_string())
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        // Not an `Error` itself, so that `?` turns any error into it.
        impl<E: std::error::Error> From<E> for $name {
            fn from(error: E) -> Self {
                Self(error.to_string())
            }
        }
    };
}

reason! {
    /// Why a service could not start. Counted like a crash. Plain data; `?` makes it from any error.
    StartError
}
reason! {
    /// Why a service wants to be restarted. Plain data; `?` makes it from any error.
    Crash
}

/// One incarnation's own handles: its stable address, its node's cell.
pub struct Me<M> {
    address: Address<M>,
    cell: Arc<NodeCell>,
    life: Arc<Life>,
}

impl<M> Clone for Me<M> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), cell: self.cell.clone(), life: self.life.clone() }
    }
}

impl<M> Me<M> {
    pub(super) fn new(address: Address<M>, cell: Arc<NodeCell>, life: Arc<Life>) -> Self {
        Self { address, cell, life }
    }

    /// The address under which others know this actor, before and after a restart.
    pub fn address(&self) -> &Address<M> {
        &self.address
    }

    /// The node's path, as in `/tools/bash`.
    pub fn path(&self) -> &str {
        self.cell.path()
    }

    /// Sets the number at `index` of [`Service::GAUGES`]; an index past the list is ignored.
    pub fn gauge(&self, index: usize, value: u64) {
        self.cell.gauge(index, value);
    }

    /// Shows the process that this actor looks after, if it looks after one.
    pub fn pid(&self, pid: Option<i32>) {
        self.cell.set_pid(pid);
    }

    /// Announces a normal end: the actor stops after the running handler, messages still queued are dropped. A transient
    /// child is then forgotten, a permanent one is started again.
    pub fn done(&self) {
        self.life.done();
    }

    pub(super) fn cell(&self) -> &Arc<NodeCell> {
        &self.cell
    }

    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }
}

/// What the supervisor's side and the shell share about one incarnation.
#[derive(Default)]
pub(super) struct Life {
    actor: OnceLock<ActorCell>,
    flags: Guarded<Flags>,
    killed: Notify,
}

#[derive(Default)]
struct Flags {
    done: bool,
    killed: bool,
    error: Option<String>,
}

impl Life {
    /// Called by the shell before the service's own start.
    pub(super) fn bind(&self, actor: ActorCell) {
        let _ = self.actor.set(actor);
        // `done` may have been announced from another task in between.
        if self.is_done() {
            self.stop();
        }
    }

    pub(super) fn actor(&self) -> Option<&ActorCell> {
        self.actor.get()
    }

    fn done(&self) {
        self.flags.with(|flags| flags.done = true);
        self.stop();
    }

    pub(super) fn is_done(&self) -> bool {
        self.flags.with(|flags| flags.done)
    }

    /// Orderly: waits for the running handler, then runs `Service::stop`.
    pub(super) fn stop(&self) {
        if let Some(actor) = self.actor.get() {
            actor.stop(None);
        }
    }

    /// At the next `.await`, wherever it is, and without `Service::stop`.
    ///
    /// Not ractor's own kill: that one leaves the state in an event, where it would live until the supervisor reads it.
    pub(super) fn kill(&self) {
        self.flags.with(|flags| flags.killed = true);
        self.killed.notify_waiters();
        self.stop();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.flags.with(|flags| flags.killed)
    }

    /// Ends when this incarnation is to be killed.
    pub(super) async fn killed(&self) {
        let notified = self.killed.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so a kill in between is not missed.
        notified.as_mut().enable();
        if !self.is_killed() {
            notified.await;
        }
    }

    /// Keeps the text of the first failure.
    pub(super) fn failed(&self, error: &str) {
        self.flags.with(|flags| {
            flags.error.get_or_insert_with(|| error.to_owned());
        });
    }

    pub(super) fn error(&self) -> Option<String> {
        self.flags.with(|flags| flags.error.clone())
    }
}
