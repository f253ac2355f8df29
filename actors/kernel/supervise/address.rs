//! Stable addresses: the only way in which actors know each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ractor::{ActorRef, MessagingErr};
use tokio::sync::{Mutex, Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::service::Message;

/// How many messages may wait in a mailbox, unless the address says otherwise.
pub const MAILBOX_CAPACITY: usize = 256;

/// Survives restarts: the supervisor refreshes what it points to. Cheap to clone.
pub struct Address<M> {
    inner: Arc<Inner<M>>,
}

struct Inner<M> {
    path: Arc<str>,
    slot: watch::Sender<Option<ActorRef<Envelope<M>>>>,
    mailbox: Arc<Mailbox>,
    /// Whose turn it is, of those who wait to deliver: they come in the order in which they began to wait.
    turns: Mutex<()>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M> std::fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.inner.path)
    }
}

/// An [`Address`] that lasts as long as somebody else holds it.
pub struct WeakAddress<M> {
    inner: Weak<Inner<M>>,
}

impl<M> WeakAddress<M> {
    /// The address, if it is still held.
    pub fn upgrade(&self) -> Option<Address<M>> {
        Some(Address { inner: self.inner.upgrade()? })
    }

    /// Whether it is still held.
    pub fn is_held(&self) -> bool {
        self.inner.strong_count() > 0
    }
}

impl<M> std::fmt::Debug for WeakAddress<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakAddress")
    }
}

/// Why a message came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody is there: not started yet, restarting, quarantined or stopped.
    Empty,
    /// The mailbox is full.
    Full,
    /// The actor is ending.
    Closed,
}

/// A message that was not delivered, and why.
pub struct Undelivered<M> {
    /// What stood in the way.
    pub why: Why,
    /// The message, untouched.
    pub msg: M,
}

impl<M> std::fmt::Debug for Undelivered<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Undelivered({:?})", self.why)
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not delivered until the deadline. Nothing ran: safe to send again.
    #[error("not delivered: the service is not running")]
    Unavailable,
    /// Delivered, and the actor ended without an answer. It may have run: settle it, never "try again".
    #[error("delivered, and no answer will come")]
    Unknown,
    /// Delivered, and the deadline passed. It may have run or may still run: settle it.
    #[error("delivered, and no answer in time")]
    Timeout,
}

/// Where an answer goes.
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// Answers. A caller that gave up is ignored.
    pub fn send(self, value: T) {
        let _ = self.0.send(value);
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// A message on its way, with its place in the mailbox.
pub(super) struct Envelope<M> {
    pub(super) msg: M,
    /// `None`: past the bound. Only for a child's reports to its supervisor, of which each child has at most two under way.
    pub(super) permit: Option<Permit>,
}

/// The bound of one address's mailbox. It belongs to the address, so it counts on over restarts.
#[derive(Debug)]
pub(super) struct Mailbox {
    capacity: usize,
    free: Semaphore,
    dropped: AtomicU64,
}

impl Mailbox {
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn depth(&self) -> usize {
        self.capacity.saturating_sub(self.free.available_permits())
    }

    /// Lossy messages that were not taken.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A place in a mailbox, freed when handling begins or the message is dropped, wherever that happens.
pub(super) struct Permit(Arc<Mailbox>);

impl Permit {
    fn try_take(mailbox: &Arc<Mailbox>) -> Option<Self> {
        mailbox.free.try_acquire().ok()?.forget();
        Some(Self(mailbox.clone()))
    }

    async fn take(mailbox: &Arc<Mailbox>) -> Option<Self> {
        mailbox.free.acquire().await.ok()?.forget();
        Some(Self(mailbox.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free.add_permits(1);
    }
}

impl<M> Address<M> {
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.inner.mailbox
    }

    /// The path it was made with.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// The same address, without keeping it.
    pub fn downgrade(&self) -> WeakAddress<M> {
        WeakAddress { inner: Arc::downgrade(&self.inner) }
    }

    pub(super) fn clear(&self) {
        self.inner.slot.send_replace(None);
    }
}

impl<M: Message> Address<M> {
    /// An address where nobody is yet. `capacity` bounds the mailbox, in messages; see [`MAILBOX_CAPACITY`].
    pub fn new(path: impl Into<Arc<str>>, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        let mailbox = Mailbox { capacity, free: Semaphore::new(capacity), dropped: AtomicU64::new(0) };
        let (path, slot) = (path.into(), watch::Sender::new(None));
        Self { inner: Arc::new(Inner { path, slot, mailbox: Arc::new(mailbox), turns: Mutex::new(()) }) }
    }

    /// Must be delivered, or the message comes back.
    ///
    /// # Errors
    /// [`Undelivered`] says why and holds the message.
    pub fn send(&self, msg: M) -> Result<(), Undelivered<M>> {
        let Some(permit) = Permit::try_take(&self.inner.mailbox) else {
            // An empty address with a full mailbox is one whose dead mailbox is just being dropped.
            let why = if self.inner.slot.borrow().is_some() { Why::Full } else { Why::Empty };
            return Err(Undelivered { why, msg });
        };
        self.put(Envelope { msg, permit: Some(permit) })
    }

    /// Waits until the message is delivered. False: it never will be, nobody keeps the address.
    pub async fn deliver(&self, msg: M) -> bool {
        match self.send(msg) {
            Ok(()) => true,
            Err(back) => self.insist(back).await,
        }
    }

    /// Telemetry: dropped and counted where it cannot be taken.
    pub fn tell(&self, msg: M) {
        if self.send(msg).is_err() {
            self.inner.mailbox.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends and waits for the reply. What is not delivered (empty, full, closed) is tried again until `deadline`.
    ///
    /// # Errors
    /// See [`CallError`]: only `Unavailable` says that nothing ran.
    pub async fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        msg: impl FnOnce(Reply<T>) -> M,
    ) -> Result<T, CallError> {
        let until = Instant::now() + deadline;
        let (reply, answer) = oneshot::channel();
        if let Err(back) = self.send(msg(Reply(reply))) {
            match timeout_at(until, self.insist(back)).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Err(CallError::Unavailable),
            }
        }
        match timeout_at(until, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(CallError::Unknown),
            Err(_) => Err(CallError::Timeout),
        }
    }

    /// Tries until the message is delivered; true then.
    async fn insist(&self, mut back: Undelivered<M>) -> bool {
        let _turn = self.inner.turns.lock().await;
        let mut slot = self.inner.slot.subscribe();
        // What changed between the first attempt and the subscription counts as a change.
        slot.mark_changed();
        loop {
            match back.why {
                Why::Empty | Why::Closed => {
                    if slot.changed().await.is_err() {
                        return false;
                    }
                    match self.send(back.msg) {
                        Ok(()) => return true,
                        Err(again) => back = again,
                    }
                }
                Why::Full => {
                    let Some(permit) = Permit::take(&self.inner.mailbox).await else { return false };
                    match self.put(Envelope { msg: back.msg, permit: Some(permit) }) {
                        Ok(()) => return true,
                        Err(again) => back = again,
                    }
                }
            }
        }
    }

    fn put(&self, envelope: Envelope<M>) -> Result<(), Undelivered<M>> {
        let slot = self.inner.slot.borrow();
        let Some(actor) = slot.as_ref() else { return Err(Undelivered { why: Why::Empty, msg: envelope.msg }) };
        match actor.send_message(envelope) {
            Ok(()) => Ok(()),
            Err(MessagingErr::SendErr(envelope)) => Err(Undelivered { why: Why::Closed, msg: envelope.msg }),
            Err(MessagingErr::ChannelClosed | MessagingErr::InvalidActorType) => {
                // ractor keeps the message here, and neither happens to a typed reference. A caller learns `Unknown`.
                tracing::error!(path = &*self.inner.path, "a message was lost in a mailbox of another type");
                Ok(())
            }
        }
    }

    pub(super) fn fill(&self, actor: ActorRef<Envelope<M>>) {
        self.inner.slot.send_replace(Some(actor));
    }
}
