//! A run as its listeners hear it: what is durable in order, without gaps and once, and between it what happens live.

use std::collections::VecDeque;
use std::sync::Arc;

use lakitu_kernel::{ErrorCode, Event, LiveEvent, Seq, ThreadId, ToolError, limits};
use tokio::sync::broadcast;

use super::agent::is_end;
use super::hub::Published;
use crate::store::Store;
use crate::wiring::Wiring;

/// What is heard of a run.
#[derive(Debug, Clone)]
pub enum Heard {
    /// A durable event.
    Event(Arc<Event>),
    /// Told while it happens.
    Live(Arc<LiveEvent>),
}

/// A run that somebody listens to.
pub struct Following {
    /// Its thread.
    pub thread: ThreadId,
    store: Store,
    listener: broadcast::Receiver<Published>,
    /// The last durable event that was handed out.
    heard: Seq,
    /// Durable events that the listener missed, read again from the journal.
    missed: VecDeque<Arc<Event>>,
    /// What is durable beyond what was heard stands in the journal.
    behind: bool,
    /// What is to be told before anything else.
    gap: Option<u64>,
    ended: bool,
}

impl Following {
    /// Listens from now on. Everything behind `heard` is heard, if it is begun after this.
    pub fn new(wiring: &Wiring, thread: ThreadId, heard: Seq) -> Self {
        let listener = wiring.hub.listen(thread);
        let (store, missed) = (wiring.store.clone(), VecDeque::new());
        Self { thread, store, listener, heard, missed, behind: false, gap: None, ended: false }
    }

    /// The same of a run that was begun before: what stands in the journal behind `heard` comes first.
    #[must_use]
    pub fn from_the_journal(mut self) -> Self {
        self.behind = true;
        self
    }

    /// The last durable event that was handed out.
    pub fn heard(&self) -> Seq {
        self.heard
    }

    /// What happens next; nothing once the run has ended. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Heard>, ToolError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(dropped) = self.gap.take() {
                return Ok(Some(Heard::Live(Arc::new(LiveEvent::Gap { dropped }))));
            }
            if let Some(event) = self.missed.pop_front() {
                if event.seq > self.heard {
                    self.heard = event.seq;
                    self.ended = is_end(&event);
                    return Ok(Some(Heard::Event(event)));
                }
                continue;
            }
            if self.behind {
                // Nothing is taken out of anywhere before this has ended, so it may be dropped and begun again.
                let (thread, heard) = (self.thread, self.heard);
                let read = self.store.read(move |reading| reading.events(thread, heard, limits::STEP_EVENTS_MAX));
                let events = read.await.map_err(ToolError::from)?;
                self.behind = !events.is_empty();
                self.missed = events.into_iter().map(Arc::new).collect();
                continue;
            }
            match self.listener.recv().await {
                Ok(Published::Event(event)) if event.seq == self.heard.next() => self.missed.push_back(event),
                Ok(Published::Event(event)) => self.behind |= event.seq > self.heard,
                Ok(Published::Durable(seq)) => self.behind |= seq > self.heard,
                Ok(Published::Live(event)) => return Ok(Some(Heard::Live(event))),
                Ok(Published::Gone(error)) => return Err(error),
                Err(broadcast::error::RecvError::Lagged(dropped)) => {
                    (self.behind, self.gap) = (true, Some(dropped));
                }
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(ToolError::new(ErrorCode::Unavailable, "the runtime ended"));
                }
            }
        }
    }
}
