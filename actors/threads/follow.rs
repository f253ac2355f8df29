//! A thread as it goes on: its journal behind a position, then what happens, each durable event once and in order.
//!
//! **Invariant:** what is handed out of the journal was behind what was heard, and everything is heard through here: no
//! durable event is lost or told twice, whatever the listener missed.

use std::collections::VecDeque;
use std::sync::Arc;

use lakitu_kernel::{ErrorCode, Event, LiveEvent, Seq, ThreadId, ToolError, limits};
use tokio::sync::{Semaphore, broadcast};

use super::agent::is_end;
use super::hub::{Hub, Published};
use crate::store::Store;
use crate::wiring::Wiring;

/// What is heard of a thread.
#[derive(Debug, Clone)]
pub enum Heard {
    /// A durable event.
    Event(Arc<Event>),
    /// Told while it happens.
    Live(Arc<LiveEvent>),
    /// The run cannot go on, and its journal could not say so.
    Gone(ToolError),
}

/// How the journal is read.
#[derive(Debug, Clone)]
pub struct Reads {
    /// Events at a time.
    pub events: usize,
    /// Reads at a time, of all who share this.
    pub places: Arc<Semaphore>,
}

impl Default for Reads {
    fn default() -> Self {
        Self { events: limits::STEP_EVENTS_MAX, places: Arc::new(Semaphore::new(1)) }
    }
}

/// A listener that misses no durable event, however slow it is.
pub struct Follower {
    thread: ThreadId,
    listener: Option<broadcast::Receiver<Published>>,
    hub: Hub,
    store: Store,
    reads: Reads,
    /// The last durable event that was handed out.
    heard: Seq,
    /// Durable events that the listener missed, read again from the journal.
    missed: VecDeque<Arc<Event>>,
    /// What is durable beyond what was heard stands in the journal.
    behind: bool,
    /// What is to be told before anything else.
    gap: Option<u64>,
}

impl Follower {
    /// Listens to a thread from now on. What stands in the journal behind `heard` is heard too, once more becomes
    /// durable.
    pub fn new(wiring: &Wiring, thread: ThreadId, heard: Seq, reads: Reads) -> Self {
        Self {
            thread,
            listener: Some(wiring.hub.listen(thread)),
            hub: wiring.hub.clone(),
            store: wiring.store.clone(),
            reads,
            heard,
            missed: VecDeque::new(),
            behind: false,
            gap: None,
        }
    }

    /// The same; what stands in the journal already is heard first.
    #[must_use]
    pub fn from_journal(mut self) -> Self {
        self.behind = true;
        self
    }

    /// What comes next. Cancel-safe.
    pub async fn next(&mut self) -> Result<Heard, ToolError> {
        loop {
            if let Some(dropped) = self.gap.take() {
                return Ok(Heard::Live(Arc::new(LiveEvent::Gap { dropped })));
            }
            if let Some(event) = self.missed.pop_front() {
                if event.seq > self.heard {
                    self.heard = event.seq;
                    return Ok(Heard::Event(event));
                }
                continue;
            }
            if self.behind {
                // Nothing is taken out of anywhere before this has ended, so it may be dropped and begun again.
                let events = self.read().await?;
                self.behind = !events.is_empty();
                self.missed = events.into_iter().map(Arc::new).collect();
                continue;
            }
            let Some(listener) = &mut self.listener else { return Err(ended()) };
            match listener.recv().await {
                Ok(Published::Event(event)) if event.seq == self.heard.next() => self.missed.push_back(event),
                Ok(Published::Event(event)) => self.behind |= event.seq > self.heard,
                Ok(Published::Durable(seq)) => self.behind |= seq > self.heard,
                Ok(Published::Live(event)) => return Ok(Heard::Live(event)),
                Ok(Published::Gone(error)) => return Ok(Heard::Gone(error)),
                Err(broadcast::error::RecvError::Lagged(dropped)) => {
                    (self.behind, self.gap) = (true, Some(dropped));
                }
                Err(broadcast::error::RecvError::Closed) => return Err(ended()),
            }
        }
    }

    async fn read(&self) -> Result<Vec<Event>, ToolError> {
        let _place = self.reads.places.acquire().await;
        let (thread, after, limit) = (self.thread, self.heard, self.reads.events);
        self.store.read(move |reading| reading.events(thread, after, limit)).await.map_err(ToolError::from)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.listener = None;
        self.hub.left(self.thread);
    }
}

/// A run that somebody hears to its end.
pub struct Following {
    /// Its thread.
    pub thread: ThreadId,
    follower: Follower,
    ended: bool,
}

impl Following {
    /// Listens from now on. Everything behind `heard` is heard, if it is begun after this.
    pub fn new(wiring: &Wiring, thread: ThreadId, heard: Seq) -> Self {
        Self { thread, follower: Follower::new(wiring, thread, heard, Reads::default()), ended: false }
    }

    /// The same of a run that was begun before: what stands in the journal behind `heard` comes first.
    #[must_use]
    pub fn from_journal(self) -> Self {
        Self { follower: self.follower.from_journal(), ..self }
    }

    /// The last durable event that was handed out.
    pub fn heard(&self) -> Seq {
        self.follower.heard
    }

    /// What happens next; nothing once the run has ended, and no [`Heard::Gone`]: that is an error here. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Heard>, ToolError> {
        if self.ended {
            return Ok(None);
        }
        match self.follower.next().await? {
            Heard::Gone(error) => Err(error),
            Heard::Event(event) => {
                self.ended = is_end(&event);
                Ok(Some(Heard::Event(event)))
            }
            live @ Heard::Live(_) => Ok(Some(live)),
        }
    }
}

fn ended() -> ToolError {
    ToolError::new(ErrorCode::Unavailable, "the runtime ended")
}
