//! Who listens to a thread, and what is durable of it: the one place from which a thread's events go outside.
//!
//! A durable event is published after its commit, in order. A slow listener misses what overtook it and is told how
//! much; durable events are read again from the journal, live ones are gone.

use std::collections::HashMap;
use std::sync::Arc;

use lakitu_kernel::supervise::Guarded;
use lakitu_kernel::{Event, LiveEvent, Seq, ThreadId, ToolError, limits};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// What a listener hears.
#[derive(Debug, Clone)]
pub enum Published {
    /// A durable event.
    Event(Arc<Event>),
    /// Everything up to here is durable; what was not heard of it stands in the journal.
    Durable(Seq),
    /// Something that is told while it happens.
    Live(Arc<LiveEvent>),
    /// The thread's run cannot go on and its journal could not say so: nothing more will come.
    Gone(ToolError),
}

/// The listeners of all threads. Cheap to clone; outlives every actor.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    topics: Arc<Guarded<HashMap<ThreadId, Topic>>>,
    /// The names of commands under way, for whoever shows their output.
    commands: Arc<Guarded<HashMap<(ThreadId, Seq), String>>>,
}

#[derive(Debug, Default)]
struct Topic {
    /// Made for the first listener: a thread that nobody watches costs nothing.
    listeners: Option<broadcast::Sender<Published>>,
    durable: Seq,
    /// See [`Hub::booted_at`]; nothing while the thread was not seen.
    booted_at: Option<Seq>,
    /// Why the model call under way was made again.
    trouble: Option<ToolError>,
    /// The run under way, by the event with which it began, and when this process first saw it.
    run: Option<(Seq, Instant)>,
}

impl Hub {
    /// Listens to a thread from now on.
    pub fn listen(&self, thread: ThreadId) -> broadcast::Receiver<Published> {
        self.topics.with(|topics| {
            let topic = topics.entry(thread).or_default();
            topic.listeners.get_or_insert_with(|| broadcast::Sender::new(limits::LIVE_EVENTS_QUEUED_MAX)).subscribe()
        })
    }

    /// Whether anybody listens to a thread.
    pub fn is_heard(&self, thread: ThreadId) -> bool {
        self.topics.with(|topics| {
            let listeners = topics.get(&thread).and_then(|topic| topic.listeners.as_ref());
            listeners.is_some_and(|sender| sender.receiver_count() > 0)
        })
    }

    /// Notes that everything up to `seq` is durable.
    pub(crate) fn durable(&self, thread: ThreadId, seq: Seq) {
        self.topics.with(|topics| {
            let topic = topics.entry(thread).or_default();
            topic.durable = topic.durable.max(seq);
        });
    }

    /// Up to where a thread's journal is known to be durable.
    pub(crate) fn durable_up_to(&self, thread: ThreadId) -> Seq {
        self.topics.with(|topics| topics.get(&thread).map_or(Seq::ZERO, |topic| topic.durable))
    }

    /// The end of the journal when this process first saw the thread: `seq`, where that is now. What was decided behind
    /// it was decided by this process, and an effect of it that is not in the registry never began.
    pub(crate) fn booted_at(&self, thread: ThreadId, seq: Seq) -> Seq {
        self.topics.with(|topics| *topics.entry(thread).or_default().booted_at.get_or_insert(seq))
    }

    /// Takes that back for what was decided up to `seq`: it may have begun, registry or not, and is looked at first.
    pub(crate) fn may_have_begun(&self, thread: ThreadId, seq: Seq) {
        self.topics.with(|topics| {
            let topic = topics.entry(thread).or_default();
            topic.booted_at = topic.booted_at.max(Some(seq));
        });
    }

    /// Since when the run that began with that event is under way. By the monotonic clock, which no one sets: a run that
    /// goes on was begun, or said to go on, by this process.
    pub(crate) fn run_since(&self, thread: ThreadId, began: Seq) -> Instant {
        self.topics.with(|topics| {
            let run = &mut topics.entry(thread).or_default().run;
            match run {
                Some((seq, since)) if *seq == began => *since,
                Some(_) | None => run.insert((began, Instant::now())).1,
            }
        })
    }

    /// Notes why the model call under way is made again, or that one begins.
    pub(crate) fn troubled(&self, thread: ThreadId, trouble: Option<ToolError>) {
        self.topics.with(|topics| topics.entry(thread).or_default().trouble = trouble);
    }

    /// Why the model call under way was made again.
    pub(crate) fn trouble(&self, thread: ThreadId) -> Option<ToolError> {
        self.topics.with(|topics| topics.get(&thread)?.trouble.clone())
    }

    /// Forgets a thread that nobody listens to; its end is known to everybody who asked.
    pub(crate) fn forget(&self, thread: ThreadId) {
        self.topics.with(|topics| {
            let heard = topics
                .get(&thread)
                .and_then(|topic| topic.listeners.as_ref())
                .is_some_and(|to| to.receiver_count() > 0);
            if !heard {
                topics.remove(&thread);
            }
        });
    }

    /// Lets go of what was kept for listeners that have left. What the thread's agent keeps here stays.
    pub(crate) fn left(&self, thread: ThreadId) {
        self.topics.with(|topics| {
            let Some(topic) = topics.get_mut(&thread) else { return };
            if topic.listeners.as_ref().is_some_and(|to| to.receiver_count() > 0) {
                return;
            }
            topic.listeners = None;
            let kept = topic.booted_at.is_some() || topic.trouble.is_some() || topic.durable > Seq::ZERO;
            if !kept {
                topics.remove(&thread);
            }
        });
    }

    /// Tells pieces of a command's output under the id of its call, while the guard lives.
    pub(crate) fn name_command(&self, thread: ThreadId, intent: Seq, call_id: String) -> NamedCommand {
        self.commands.with(|commands| commands.insert((thread, intent), call_id));
        NamedCommand { hub: self.clone(), key: (thread, intent) }
    }

    /// A piece of a command's output.
    pub(crate) fn output(&self, thread: ThreadId, intent: Seq, bytes_from: u64, text: String) {
        let call_id = self.commands.with(|commands| commands.get(&(thread, intent)).cloned());
        if let Some(call_id) = call_id {
            self.live(thread, LiveEvent::ToolOutput { call_id, bytes_from, text });
        }
    }

    /// Tells the listeners of a thread.
    pub(crate) fn publish(&self, thread: ThreadId, what: Published) {
        self.topics.with(|topics| {
            if let Some(sender) = topics.get(&thread).and_then(|topic| topic.listeners.as_ref()) {
                // Nobody listening is no failure.
                let _ = sender.send(what);
            }
        });
    }

    /// Tells the listeners of a thread something that need not reach them.
    pub fn live(&self, thread: ThreadId, event: LiveEvent) {
        if self.is_heard(thread) {
            self.publish(thread, Published::Live(Arc::new(event)));
        }
    }
}

/// A command whose output is told under the id of its call.
pub(crate) struct NamedCommand {
    hub: Hub,
    key: (ThreadId, Seq),
}

impl Drop for NamedCommand {
    fn drop(&mut self) {
        self.hub.commands.with(|commands| commands.remove(&self.key));
    }
}
