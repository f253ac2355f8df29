//! The registry of running effects. It owns their tasks, so that an actor's crash ends no work and loses no outcome.
//!
//! An entry is there before its work begins and goes only when the commit that holds its outcome acknowledges it.
//! A restarted actor attaches here first; only a key that is not here is settled by other means.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::lock::Guarded;
use super::shell::{Caught, panic_text};
use super::task::boxed;
use crate::ports::BoxFuture;

/// Names a piece of work, and whom it belongs to.
pub trait EffectKey: Eq + Hash + Clone + Send + Sync + 'static {
    /// A thread, say.
    type Group: Eq + Hash + Clone + Send + Sync + 'static;

    /// The group that this work belongs to.
    fn group(&self) -> Self::Group;
}

/// What [`Effects::begin`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    /// The work runs.
    Started,
    /// Work of this key is there, running or done; the new one was dropped.
    AlreadyThere,
}

/// What is known of a piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status<O> {
    /// It runs; also while cancelled or timed out work has not really ended.
    Running,
    /// It ended so, and nobody acknowledged it yet.
    Done(O),
}

/// Told of outcomes, outside any lock: hand them on, never wait.
pub type Notified<K, O> = Arc<dyn Fn(K, O) + Send + Sync>;

/// Cancelled work of which a blocked thread is left is waited for so long; then its key is free for a successor.
pub(super) const CANCELLED_WITHIN: Duration = Duration::from_secs(30);

type Settle<O> = Box<dyn FnOnce(String) -> O + Send>;

/// The registry. Cheap to clone.
pub struct Effects<K: EffectKey, O> {
    inner: Arc<Inner<K, O>>,
}

impl<K: EffectKey, O> Clone for Effects<K, O> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<K: EffectKey, O> {
    table: Guarded<Table<K, O>>,
    /// Rung whenever work has ended.
    ended: Notify,
}

struct Table<K: EffectKey, O> {
    entries: HashMap<K, Entry<O>>,
    groups: HashMap<K::Group, Group<K, O>>,
    serial: u64,
}

struct Group<K, O> {
    keys: HashSet<K>,
    notify: Option<Notified<K, O>>,
}

struct Entry<O> {
    /// Tells it from an earlier entry of the same key.
    serial: u64,
    phase: Phase<O>,
    settle: Option<Settle<O>>,
    abort: Option<AbortHandle>,
    cancelled: Option<Instant>,
    revoked: bool,
    /// Path locks and the like.
    held: Vec<Box<dyn Any + Send>>,
}

impl<O> Entry<O> {
    /// It was cancelled, and what is left of it on other threads does not end.
    fn is_given_up(&self) -> bool {
        self.cancelled.is_some_and(|at| at.elapsed() > CANCELLED_WITHIN)
    }
}

enum Phase<O> {
    /// Work under way, and its outcome if only a remainder of it (a blocking thread) is.
    Running(Option<O>),
    Done(O),
}

/// Work counts as running while a lease on it lives. What blocks a thread cannot be aborted, so it takes a clone with it:
/// the work counts as running until the thread has returned, even if nobody waits for it any more.
pub struct Lease<K: EffectKey, O: Clone + Send + 'static> {
    inner: Arc<LeaseInner<K, O>>,
}

impl<K: EffectKey, O: Clone + Send + 'static> Clone for Lease<K, O> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct LeaseInner<K: EffectKey, O: Clone + Send + 'static> {
    effects: Effects<K, O>,
    key: K,
    /// Of its entry: one that was given up may have a successor of the same key.
    serial: u64,
}

impl<K: EffectKey, O: Clone + Send + 'static> Lease<K, O> {
    /// Whether the work must not begin what it has not begun yet: it was revoked, cancelled or given up.
    pub fn is_revoked(&self) -> bool {
        let LeaseInner { effects, key, serial } = &*self.inner;
        effects.inner.table.with(|table| {
            let entry = table.entries.get(key).filter(|entry| entry.serial == *serial);
            entry
                .is_none_or(|entry| entry.revoked || entry.cancelled.is_some() || matches!(entry.phase, Phase::Done(_)))
        })
    }
}

impl<K: EffectKey, O: Clone + Send + 'static> fmt::Debug for Lease<K, O> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Lease")
    }
}

impl<K: EffectKey, O: Clone + Send + 'static> Drop for LeaseInner<K, O> {
    fn drop(&mut self) {
        self.effects.ended(&self.key, self.serial);
    }
}

impl<K: EffectKey, O: Clone + Send + 'static> Default for Effects<K, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: EffectKey, O: Clone + Send + 'static> Effects<K, O> {
    /// An empty registry.
    pub fn new() -> Self {
        let table = Table { entries: HashMap::new(), groups: HashMap::new(), serial: 0 };
        Self { inner: Arc::new(Inner { table: Guarded::new(table), ended: Notify::new() }) }
    }

    /// Starts work, unless work of this key is there. `settle` makes the outcome of work that panicked (its text is the
    /// argument) or whose task was dropped; it must not panic.
    /// The work gets its own lease, for what may outlive its task.
    pub fn begin<F: Future<Output = O> + Send + 'static>(
        &self,
        key: K,
        work: impl FnOnce(Lease<K, O>) -> F,
        settle: impl FnOnce(String) -> O + Send + 'static,
    ) -> Began {
        self.begin_within(key, None, work, settle)
    }

    /// The same with a deadline, and the outcome of work that misses it. Such work is dropped; what it left on other
    /// threads may run on, keeps what it holds itself, and is no longer waited for.
    pub fn begin_within<F: Future<Output = O> + Send + 'static>(
        &self,
        key: K,
        within: Option<(Duration, O)>,
        work: impl FnOnce(Lease<K, O>) -> F,
        settle: impl FnOnce(String) -> O + Send + 'static,
    ) -> Began {
        let Some(lease) = self.enter(key, Box::new(settle)) else { return Began::AlreadyThere };
        let work = boxed(work(lease.clone()));
        self.run(lease, within, work);
        Began::Started
    }

    /// Makes the entry of new work; `None`: there is work of this key.
    fn enter(&self, key: K, settle: Box<dyn FnOnce(String) -> O + Send>) -> Option<Lease<K, O>> {
        let (serial, given_up) = self.inner.table.with(|table| table.insert(key.clone(), settle))?;
        drop(given_up);
        Some(Lease { inner: Arc::new(LeaseInner { effects: self.clone(), key, serial }) })
    }

    /// Runs the work of an entry.
    fn run(&self, lease: Lease<K, O>, within: Option<(Duration, O)>, work: BoxFuture<'static, O>) {
        let (key, serial) = (lease.inner.key.clone(), lease.inner.serial);
        let task = async move {
            // In this order: the work and all it holds is gone before the lease is.
            let lease = lease;
            let work = Caught(work);
            let outcome = match within {
                None => work.await,
                Some((within, late)) => match timeout(within, work).await {
                    Ok(outcome) => outcome,
                    Err(_) => return lease.inner.effects.gave_up(&lease.inner.key, serial, late),
                },
            };
            lease.inner.effects.finished(&lease.inner.key, outcome);
        };
        #[allow(clippy::disallowed_methods, reason = "this is the registry that owns such tasks")]
        let abort = tokio::spawn(boxed(task)).abort_handle();
        self.inner.table.with(|table| {
            if let Some(entry) = table.entries.get_mut(&key).filter(|entry| entry.serial == serial) {
                if entry.cancelled.is_some() {
                    abort.abort();
                }
                entry.abort = Some(abort);
            }
        });
    }

    /// What is known of a key; `None`: it was never begun, or is acknowledged or cancelled.
    pub fn outcome(&self, key: &K) -> Option<Status<O>> {
        self.inner.table.with(|table| {
            let entry = table.entries.get(key).filter(|entry| !entry.is_given_up())?;
            Some(match &entry.phase {
                Phase::Running(_) => Status::Running,
                Phase::Done(outcome) => Status::Done(outcome.clone()),
            })
        })
    }

    /// Sends a group's outcomes there from now on, in place of where they went before. Those already there are delivered
    /// at once, so a restarted actor misses none.
    #[allow(clippy::needless_pass_by_value, reason = "the registry keeps it")]
    pub fn subscribe(&self, group: K::Group, notify: Notified<K, O>) {
        let own = notify.clone();
        let done = self.inner.table.with(|table| {
            let done = table.done(&group);
            table.groups.entry(group).or_insert_with(Group::empty).notify = Some(own);
            done
        });
        hand_on(&notify, done);
    }

    /// Tells nobody of this group's outcomes any more. Running work goes on.
    pub fn unsubscribe(&self, group: &K::Group) {
        self.inner.table.with(|table| {
            if let Some(known) = table.groups.get_mut(group) {
                known.notify = None;
            }
            table.tidy(group);
        });
    }

    /// Aborts work and forgets it: its outcome is delivered to nobody. The entry goes when the work has really ended.
    pub fn cancel(&self, key: &K) {
        let removed = self.inner.table.with(|table| {
            let entry = table.entries.get_mut(key)?;
            match &entry.phase {
                Phase::Done(_) => table.remove(key),
                Phase::Running(_) => {
                    entry.cancelled = Some(Instant::now());
                    if let Some(abort) = &entry.abort {
                        abort.abort();
                    }
                    None
                }
            }
        });
        // Its guards are dropped outside the lock.
        drop(removed);
    }

    /// Work that has not begun what it is about does not begin it any more: see [`Lease::is_revoked`]. It goes on to its
    /// end, and its outcome is delivered.
    pub fn revoke(&self, key: &K) {
        self.inner.table.with(|table| {
            if let Some(entry) = table.entries.get_mut(key) {
                entry.revoked = true;
            }
        });
    }

    /// Removes an outcome: only the commit that holds it may do this. False where there is none (running, or unknown).
    pub fn acknowledge(&self, key: &K) -> bool {
        let removed = self.inner.table.with(|table| match table.entries.get(key)?.phase {
            Phase::Done(_) => table.remove(key),
            Phase::Running(_) => None,
        });
        removed.is_some()
    }

    /// Keeps something (a path lock) until the entry goes. Dropped at once where there is no entry.
    pub fn hold(&self, key: &K, guard: Box<dyn Any + Send>) {
        let unheld = self.inner.table.with(|table| match table.entries.get_mut(key) {
            Some(entry) => {
                entry.held.push(guard);
                None
            }
            None => Some(guard),
        });
        drop(unheld);
    }

    /// Waits until no work of the group runs that is not given up.
    pub async fn idle(&self, group: &K::Group) {
        loop {
            let ended = self.inner.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let (idle, given_up) = self.inner.table.with(|table| (table.is_idle(group), table.given_up_in(group)));
            match given_up {
                _ if idle => return,
                // Nobody rings when cancelled work is given up.
                Some(within) => drop(timeout(within, ended).await),
                None => ended.await,
            }
        }
    }

    /// How many entries there are, running or done.
    pub fn len(&self) -> usize {
        self.inner.table.with(|table| table.entries.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<K> {
        self.inner.table.with(|table| table.entries.keys().cloned().collect())
    }

    /// The keys of one group, as they were begun.
    pub fn keys_of(&self, group: &K::Group) -> Vec<K> {
        self.inner.table.with(|table| {
            let keys = table.groups.get(group).into_iter().flat_map(|group| group.keys.iter().cloned());
            let mut keys: Vec<K> = keys.collect();
            keys.sort_unstable_by_key(|key| table.entries.get(key).map(|entry| entry.serial));
            keys
        })
    }

    /// The work returned or panicked. What it left on other threads may still run: see [`Self::ended`].
    fn finished(&self, key: &K, outcome: Result<O, String>) {
        let outcome = match outcome {
            Ok(outcome) => Some(outcome),
            Err(panic) => self.settled(key, panic),
        };
        self.inner.table.with(|table| {
            if let Some(Entry { phase: Phase::Running(known), .. }) = table.entries.get_mut(key) {
                *known = outcome;
            }
        });
    }

    /// The work missed its deadline: that is its outcome, whatever of it runs on.
    fn gave_up(&self, key: &K, serial: u64, late: O) {
        let told = self.inner.table.with(|table| table.give_up(key, serial, late));
        self.inner.ended.notify_waiters();
        if let Some((notify, outcome)) = told {
            notify(key.clone(), outcome);
        }
    }

    fn settled(&self, key: &K, why: String) -> Option<O> {
        let settle = self.inner.table.with(|table| table.entries.get_mut(key)?.settle.take())?;
        let outcome = catch_unwind(AssertUnwindSafe(|| settle(why)));
        outcome.map_err(|panic| tracing::error!("settling an effect panicked: {}", panic_text(panic.as_ref()))).ok()
    }

    /// The last lease is gone: nothing of the work runs any more.
    fn ended(&self, key: &K, serial: u64) {
        let open = self.inner.table.with(|table| {
            table.entries.get(key).is_some_and(|entry| {
                entry.serial == serial && matches!(entry.phase, Phase::Running(None)) && entry.cancelled.is_none()
            })
        });
        let late = if open { self.settled(key, "the task was dropped".to_owned()) } else { None };
        let (told, removed) = self.inner.table.with(|table| table.close(key, serial, late));
        drop(removed);
        self.inner.ended.notify_waiters();
        if let Some((notify, outcome)) = told {
            notify(key.clone(), outcome);
        }
    }
}

fn hand_on<K, O>(notify: &Notified<K, O>, done: Vec<(K, O)>) {
    for (key, outcome) in done {
        notify(key, outcome);
    }
}

impl<K, O> Group<K, O> {
    fn empty() -> Self {
        Self { keys: HashSet::new(), notify: None }
    }
}

impl<K: EffectKey, O: Clone> Table<K, O> {
    /// The new entry's serial number, and what was given up of an earlier one; `None` if the key is there already.
    fn insert(&mut self, key: K, settle: Settle<O>) -> Option<(u64, Option<Entry<O>>)> {
        if self.entries.get(&key).is_some_and(|entry| !entry.is_given_up()) {
            return None;
        }
        self.serial += 1;
        let serial = self.serial;
        self.groups.entry(key.group()).or_insert_with(Group::empty).keys.insert(key.clone());
        let entry = Entry {
            serial,
            phase: Phase::Running(None),
            settle: Some(settle),
            abort: None,
            cancelled: None,
            revoked: false,
            held: Vec::new(),
        };
        Some((serial, self.entries.insert(key, entry)))
    }

    fn remove(&mut self, key: &K) -> Option<Entry<O>> {
        let group = key.group();
        if let Some(known) = self.groups.get_mut(&group) {
            known.keys.remove(key);
        }
        self.tidy(&group);
        self.entries.remove(key)
    }

    fn tidy(&mut self, group: &K::Group) {
        if self.groups.get(group).is_some_and(|known| known.keys.is_empty() && known.notify.is_none()) {
            self.groups.remove(group);
        }
    }

    fn done(&self, group: &K::Group) -> Vec<(K, O)> {
        let keys = self.groups.get(group).into_iter().flat_map(|group| &group.keys);
        let done = keys.filter_map(|key| match self.entries.get(key)? {
            Entry { serial, phase: Phase::Done(outcome), .. } => Some((*serial, (key.clone(), outcome.clone()))),
            Entry { phase: Phase::Running(_), .. } => None,
        });
        // As they were begun, so that the same events follow whenever the same happens.
        let mut done: Vec<_> = done.collect();
        done.sort_unstable_by_key(|(serial, _)| *serial);
        done.into_iter().map(|(_, done)| done).collect()
    }

    /// It has this outcome: whom to tell.
    fn done_with(&mut self, key: &K, outcome: O) -> Option<(Notified<K, O>, O)> {
        let entry = self.entries.get_mut(key)?;
        entry.phase = Phase::Done(outcome.clone());
        entry.settle = None;
        entry.abort = None;
        let notify = self.groups.get(&key.group()).and_then(|group| group.notify.clone())?;
        Some((notify, outcome))
    }

    /// Running work that nobody cancelled ends with this outcome.
    fn give_up(&mut self, key: &K, serial: u64, late: O) -> Option<(Notified<K, O>, O)> {
        let entry = self.entries.get(key).filter(|entry| entry.serial == serial && entry.cancelled.is_none())?;
        if matches!(entry.phase, Phase::Running(_)) { self.done_with(key, late) } else { None }
    }

    fn is_idle(&self, group: &K::Group) -> bool {
        let mut keys = self.groups.get(group).into_iter().flat_map(|group| &group.keys);
        keys.all(|key| {
            self.entries.get(key).is_none_or(|entry| entry.is_given_up() || matches!(entry.phase, Phase::Done(_)))
        })
    }

    /// When the next of the group's cancelled work will have been given up.
    fn given_up_in(&self, group: &K::Group) -> Option<Duration> {
        let keys = self.groups.get(group).into_iter().flat_map(|group| &group.keys);
        let cancelled = keys.filter_map(|key| self.entries.get(key).filter(|entry| !entry.is_given_up())?.cancelled);
        // One past it: at the bound itself it is not given up yet.
        cancelled.map(|at| (CANCELLED_WITHIN + Duration::from_millis(1)).saturating_sub(at.elapsed())).min()
    }

    /// Nothing of the work runs any more: whom to tell, or what to drop.
    #[allow(clippy::type_complexity, reason = "told and dropped by the one caller, outside the lock")]
    fn close(&mut self, key: &K, serial: u64, late: Option<O>) -> (Option<(Notified<K, O>, O)>, Option<Entry<O>>) {
        let entry = self.entries.get_mut(key).filter(|entry| entry.serial == serial);
        let Some(entry) = entry else { return (None, None) };
        let Phase::Running(outcome) = &mut entry.phase else { return (None, None) };
        match outcome.take().or(late) {
            Some(outcome) if entry.cancelled.is_none() => (self.done_with(key, outcome), None),
            Some(_) | None => (None, self.remove(key)),
        }
    }
}
