//! The whole tree in a simulated world: one thread, one clock that moves when nothing else does, one seed from which
//! everything random follows. So what happens happens again: a failure names its seed, and `LAKITU_SEED=n` replays it.
//! Exactly so where the world has one conversation; with two, what is woken at the same moment may come in another order.
//!
//! Real are the tree, the store with its database, the tools, the files of the workspace (in memory). Simulated are the
//! disk below the database (`disk`), the model (`model`) and the keepers of commands (`keepers`); what may block a
//! thread elsewhere takes its turn here (`crate::blocking`). A world has a few lives in which things go wrong, each
//! ended by a kill, a power cut or its time, and then a calm one, in which everything must come to its end. What must
//! be true stands in `check`.
//!
//! `LAKITU_LONG=1`: 10,000 seeds. `LAKITU_SEEDS=n`: so many. With the feature `planted-bugs`, `planted` tests the tests.

mod check;
mod dice;
mod disk;
mod keepers;
mod life;
mod model;
#[cfg(feature = "planted-bugs")]
mod planted;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::threads::agent::State;
use life::Run;

pub use keepers::Keepers;
pub(crate) use world::World;

const SEEDS: u64 = 300;
const SEEDS_LONG: u64 = 10_000;

thread_local! {
    /// The world that this thread simulates.
    static CURRENT: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// The simulated world that this code runs in, where it does.
pub(crate) fn current() -> Option<Arc<World>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Work that would block a thread: it happens at one moment, a while from now.
pub(crate) fn spawn<T: Send + 'static>(world: Arc<World>, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[allow(clippy::disallowed_methods, reason = "in the place of a thread")]
    tokio::spawn(async move {
        let (before, after) = world.latency();
        sleep(before).await;
        world.living().await;
        let done = catch_unwind(AssertUnwindSafe(work));
        if done.is_err() {
            // Whoever waits for it may take that for a failure like any other.
            world.wrong("blocking work panicked");
        }
        world.living().await;
        sleep(after).await;
        done.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// An agent's state is so, and everything in it durable.
pub(crate) fn observe(state: &State) {
    if let Some(world) = current() {
        world.observe(state);
    }
}

/// Lives one seed through. The log, and what was wrong.
fn run(seed: u64) -> (Vec<String>, Result<(), String>) {
    let run = Run::new(seed);
    CURRENT.set(Some(run.world.clone()));
    let outcome = catch_unwind(AssertUnwindSafe(|| run.whole()));
    CURRENT.set(None);
    let outcome = outcome.unwrap_or_else(|_| Err("the simulation panicked".to_owned()));
    (run.world.log(), outcome)
}

/// The first of these seeds that fails, with its log. On two threads: each seed has a world of its own.
fn first_failure(seeds: std::ops::Range<u64>) -> Option<(u64, Vec<String>, String)> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return None;
            }
            if let (log, Err(why)) = run(seed) {
                stop.store(true, Ordering::Relaxed);
                return Some((seed, log, why));
            }
        }
        None
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).min_by_key(|(seed, _, _)| *seed)
    })
}

fn report((seed, log, why): &(u64, Vec<String>, String)) -> String {
    let tail = log[log.len().saturating_sub(60)..].join("\n");
    format!(
        "{tail}\nseed={seed} layer=simulation rerun=`LAKITU_SEED={seed} cargo test -p lakitu-actors simulation`\n{why}"
    )
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_is_lost_and_nothing_is_done_twice_whatever_goes_wrong() {
    if let Some(seed) = asked("LAKITU_SEED") {
        let (log, outcome) = run(seed);
        println!("{}", log.join("\n"));
        assert_eq!(outcome, Ok(()), "seed {seed}");
        return;
    }
    let seeds = asked("LAKITU_SEEDS").unwrap_or(if asked("LAKITU_LONG").is_some() { SEEDS_LONG } else { SEEDS });
    if let Some(failure) = first_failure(0..seeds) {
        panic!("{}", report(&failure));
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    // One thread's worlds: where two threads wait for one `watch`, tokio wakes them in an order of its own.
    for seed in (0..30).filter(|seed| World::new(*seed).plan.threads == 1) {
        let ((one, _), (other, _)) = (run(seed), run(seed));
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!(
                "seed {seed}: {:?} and then {:?}, behind\n{}",
                one[at],
                other[at],
                one[at.saturating_sub(20)..at].join("\n")
            );
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
