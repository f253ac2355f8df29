//! Locks on paths, so that of two calls on one file the second sees what the first made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use lakitu_kernel::id::{Seq, ThreadId};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use crate::tools::workspace::{FileError, shown};

/// Whose lock it is: the call's key.
pub(super) type Holder = (ThreadId, Seq);

/// All locks of a runtime, by absolute path without links. First come, first served.
///
/// It stands outside of any actor: a lock is held until its call's result is durable, whatever is restarted meanwhile.
#[derive(Debug, Clone, Default)]
#[allow(clippy::disallowed_types, reason = "a lock is released where its guard is dropped, which cannot wait")]
pub(super) struct LockTable(Arc<std::sync::Mutex<BTreeMap<PathBuf, Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    lock: Arc<tokio::sync::Mutex<()>>,
    /// Who holds it or waits for it; the last one removes the entry.
    users: usize,
    held: Option<(Holder, Weak<Held>)>,
}

/// Locks that a call holds. Dropping them releases them.
#[derive(Debug)]
pub struct PathLocks(Vec<Arc<Held>>);

/// One held lock. In this order: the next one in the queue goes on before the entry may be removed.
#[derive(Debug)]
pub(super) struct Held {
    _guard: OwnedMutexGuard<()>,
    ticket: Ticket,
}

/// A place in the queue of a path.
#[derive(Debug)]
struct Ticket {
    table: LockTable,
    path: PathBuf,
}

impl PathLocks {
    /// Whether they are exactly the locks of these sorted paths.
    pub(super) fn are_of(&self, paths: &[PathBuf]) -> bool {
        self.0.iter().map(|held| &held.ticket.path).eq(paths)
    }
}

impl LockTable {
    /// Takes the locks of sorted paths, one after the other: so two calls never wait for each other.
    pub(super) async fn take(
        &self,
        paths: Vec<PathBuf>,
        holder: Holder,
        deadline: Instant,
    ) -> Result<PathLocks, FileError> {
        let mut locks = Vec::with_capacity(paths.len());
        for path in paths {
            locks.push(self.take_one(path, holder, deadline).await?);
        }
        Ok(PathLocks(locks))
    }

    async fn take_one(&self, path: PathBuf, holder: Holder, deadline: Instant) -> Result<Arc<Held>, FileError> {
        if let Some(held) = self.hand_on(&path, holder) {
            return Ok(held);
        }
        let lock = self.with(|entries| {
            let entry = entries.entry(path.clone()).or_default();
            entry.users += 1;
            entry.lock.clone()
        });
        let ticket = Ticket { table: self.clone(), path };
        let Ok(guard) = timeout_at(deadline, lock.lock_owned()).await else {
            return Err(FileError::Timeout(self.held_by(&ticket.path)));
        };
        let held = Arc::new(Held { _guard: guard, ticket });
        self.with(|entries| {
            if let Some(entry) = entries.get_mut(&held.ticket.path) {
                entry.held = Some((holder, Arc::downgrade(&held)));
            }
        });
        Ok(held)
    }

    /// Of a thread's calls the next begins when the one before has ended, and that one's lock is held until its result is
    /// durable, which waits for the next one's redo record: so the lock is handed on. Not while work goes on under it
    /// that nobody could stop.
    fn hand_on(&self, path: &Path, holder: Holder) -> Option<Arc<Held>> {
        // Of an idle lock, its holder's and the one here.
        const IDLE: usize = 2;
        let (held, idle) = self.with(|entries| {
            let (whose, held) = entries.get_mut(path)?.held.as_mut()?;
            let held = held.upgrade()?;
            let idle = whose.0 == holder.0 && Arc::strong_count(&held) == IDLE;
            if idle {
                *whose = holder;
            }
            // Out of here in any case: the last one to let go of it needs the table.
            Some((held, idle))
        })?;
        idle.then_some(held)
    }

    /// Holds on to the locks of a call for as long as work goes on that nobody can stop.
    pub(super) fn pin(&self, holder: Holder) -> Vec<Arc<Held>> {
        self.with(|entries| {
            let held = entries.values().filter_map(|entry| entry.held.as_ref());
            // A turn's first call takes its locks before its intent has a position.
            let whose = |whose: Holder| whose == holder || whose == (holder.0, Seq::ZERO);
            held.filter(|(held_by, _)| whose(*held_by)).filter_map(|(_, held)| held.upgrade()).collect()
        })
    }

    fn held_by(&self, path: &Path) -> String {
        use std::os::unix::ffi::OsStrExt as _;
        let path_shown = shown(path.as_os_str().as_bytes());
        let holder = self.with(|entries| entries.get(path).and_then(|entry| entry.held.as_ref()).map(|held| held.0));
        match holder {
            Some((thread, intent)) => {
                format!("{path_shown} is being changed by call {intent} of thread {thread}; try again later")
            }
            None => format!("{path_shown} is being changed by others; try again later"),
        }
    }

    /// Every use leaves the table whole, so a panic in one does not lock the others out.
    fn with<R>(&self, with: impl FnOnce(&mut BTreeMap<PathBuf, Entry>) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ticket.table.with(|entries| {
            if let Some(entry) = entries.get_mut(&self.ticket.path) {
                entry.held = None;
            }
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.with(|entries| {
            if let Some(entry) = entries.get_mut(&self.path) {
                entry.users -= 1;
                if entry.users == 0 {
                    entries.remove(&self.path);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Each call is of a thread of its own.
    fn call(seq: u64) -> Holder {
        (ThreadId(seq.into()), Seq(seq))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_come_is_the_first_served_and_nothing_stays_in_the_table() {
        let table = LockTable::default();
        let (order, mut served) = tokio::sync::mpsc::channel(16);
        let first = table.take(vec!["/w/a".into()], call(0), soon()).await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for seq in 1..6 {
            let (table, order) = (table.clone(), order.clone());
            waiting.spawn(async move {
                let locks = table.take(vec!["/w/a".into()], call(seq), soon()).await.unwrap();
                order.send(seq).await.unwrap();
                drop(locks);
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        drop(order);
        for seq in 1..6 {
            assert_eq!(served.recv().await, Some(seq));
        }
        waiting.join_all().await;
        assert!(table.with(|entries| entries.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_who_holds_it() {
        let table = LockTable::default();
        let held = table.take(vec!["/w/a".into()], call(7), soon()).await.unwrap();
        let error = table.take(vec!["/w/a".into()], call(8), soon()).await.unwrap_err().to_string();
        assert_eq!(error, format!("/w/a is being changed by call 7 of thread {}; try again later", ThreadId(7)));
        drop(held);
        assert!(table.with(|entries| entries.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pinned_lock_outlives_its_holder() {
        let table = LockTable::default();
        let held = table.take(vec!["/w/a".into()], call(1), soon()).await.unwrap();
        let pinned = table.pin(call(1));
        assert!(table.pin(call(2)).is_empty());
        drop(held);
        assert!(table.take(vec!["/w/a".into()], call(2), soon()).await.is_err());
        drop(pinned);
        assert!(table.take(vec!["/w/a".into()], call(2), soon()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn within_a_thread_a_lock_is_handed_on_to_the_next_call_unless_work_goes_on_under_it() {
        let table = LockTable::default();
        let of = |seq: u64| (ThreadId(1), Seq(seq));
        let first = table.take(vec!["/w/a".into()], of(1), soon()).await.unwrap();
        let pinned = table.pin(of(1));
        assert!(table.take(vec!["/w/a".into()], of(2), soon()).await.is_err(), "somebody still writes");
        drop(pinned);
        let second = table.take(vec!["/w/a".into()], of(2), soon()).await.unwrap();
        drop(first);
        assert!(table.take(vec!["/w/a".into()], call(9), soon()).await.is_err(), "another thread waits for both");
        drop(second);
        assert!(table.take(vec!["/w/a".into()], call(9), soon()).await.is_ok());
    }
}
