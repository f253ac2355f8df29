//! A supervisor's stable handle, and what it can be told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::address::{Address, CallError, Reply, Undelivered};
use super::incarnation::Report;
use super::nodes::Control;
use super::service::Message;
use super::table::DynamicChild;

/// How long [`SupervisorRef::add`] and [`SupervisorRef::remove`] wait for their supervisor to take the wish.
const WISH_DEADLINE: Duration = Duration::from_secs(5);

/// A supervisor's stable handle. Cheap to clone; the same before and after a restart of the supervisor.
pub struct SupervisorRef<Ctx: 'static> {
    address: Address<Wish<Ctx>>,
    /// Turns true when every row's first start has ended, well or not.
    settled: Arc<watch::Sender<bool>>,
}

impl<Ctx> Clone for SupervisorRef<Ctx> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), settled: self.settled.clone() }
    }
}

/// What [`SupervisorRef::add`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// Its start begins.
    Started,
    /// A child of this id is there; the new one was dropped.
    AlreadyRunning,
}

/// Why a child was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// The id is empty or holds a `/`.
    #[error("not an id for a node")]
    Id,
    /// The supervisor did not answer. Adding again is always safe.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl<Ctx: Send + Sync + 'static> SupervisorRef<Ctx> {
    /// A handle to a supervisor that does not run yet. `capacity` bounds its mailbox, in messages.
    pub fn new(path: impl Into<Arc<str>>, capacity: usize) -> Self {
        Self { address: Address::new(path, capacity), settled: Arc::new(watch::Sender::new(false)) }
    }

    /// Adds a child and starts it. Waits for the supervisor to take it, not for its start.
    ///
    /// # Errors
    /// See [`AddError`].
    pub async fn add(&self, child: DynamicChild<Ctx>) -> Result<Added, AddError> {
        if !is_id(&child.id) {
            return Err(AddError::Id);
        }
        let child = Box::new(child);
        Ok(self.address.call(WISH_DEADLINE, |reply| Wish(Do::Add { child, reply: Some(reply) })).await?)
    }

    /// Adds a child without waiting, for use in a handler. The supervisor drops it if a child of this id is there.
    ///
    /// # Errors
    /// The child was not taken: the supervisor is not running, or its mailbox is full.
    pub fn submit(&self, child: DynamicChild<Ctx>) -> Result<(), AddError> {
        if !is_id(&child.id) {
            return Err(AddError::Id);
        }
        let wish = Wish(Do::Add { child: Box::new(child), reply: None });
        self.address.send(wish).map_err(|Undelivered { .. }| AddError::Call(CallError::Unavailable))
    }

    /// Stops a child in order (grace, then kill), forgets it, and answers when it is gone; false if there was none. A row
    /// of a table is stopped but stays in the tree.
    ///
    /// # Errors
    /// Not delivered, or not gone within `deadline`.
    pub async fn remove(&self, id: &str, deadline: Duration) -> Result<bool, CallError> {
        self.address.call(deadline, |reply| Wish(Do::Remove { id: id.into(), reply })).await
    }

    /// Waits until every row's first start has ended, well or not.
    pub async fn settled(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    pub(super) fn address(&self) -> &Address<Wish<Ctx>> {
        &self.address
    }

    pub(super) fn settled_flag(&self) -> Arc<watch::Sender<bool>> {
        self.settled.clone()
    }
}

pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && !id.contains('/')
}

/// A supervisor's message. Opaque: see [`SupervisorRef`].
pub struct Wish<Ctx: 'static>(pub(super) Do<Ctx>);

pub(super) enum Do<Ctx: 'static> {
    Add { child: Box<DynamicChild<Ctx>>, reply: Option<Reply<Added>> },
    Remove { id: Arc<str>, reply: Reply<bool> },
    Control(Control, Arc<str>),
    Report { id: Arc<str>, life: u64, report: Report },
}

impl<Ctx: Send + Sync + 'static> Message for Wish<Ctx> {
    fn name(&self) -> &'static str {
        match &self.0 {
            Do::Add { .. } => "Add",
            Do::Remove { .. } => "Remove",
            Do::Control(Control::Restart, _) => "Restart",
            Do::Control(Control::Stop, _) => "Stop",
            Do::Report { report: Report::Up, .. } => "ChildUp",
            Do::Report { report: Report::Ended(_), .. } => "ChildEnded",
        }
    }
}
