//! What outlives a simulated process: the clock, the disk, the keepers, and the log of what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::clock::{Clock, Randomness, Timestamp};
use lakitu_kernel::supervise::Guarded;
use lakitu_kernel::{Event, Hash, Seq, ThreadId};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;

use super::dice::Dice;
use super::disk::SimDisk;
use crate::threads::agent::State;

/// 2026-11-23, when nothing happened yet.
const BEGINNING_MS: u64 = 1_795_392_000_000;

/// How bad this seed's world is: each has its own mixture.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) threads: usize,
    /// Runs that each thread is to complete, and turns of each.
    pub(crate) runs: u32,
    pub(crate) turns: u32,
    pub(crate) calls_max: u64,
    /// Lives in which things go wrong; the one behind them is calm.
    pub(crate) lives: u32,
    /// Faults injected into actors, a life.
    pub(crate) faults: u64,
    /// What people ask for meanwhile, a life.
    pub(crate) requests: u64,
    /// Per mille.
    pub(crate) disk_fails: u64,
    pub(crate) disk_slow: u64,
    pub(crate) model_fails: u64,
    pub(crate) keeper_fails: u64,
}

impl Plan {
    fn new(dice: &mut Dice) -> Self {
        Self {
            threads: usize::try_from(dice.between(1, 2)).unwrap(),
            runs: u32::try_from(dice.between(1, 2)).unwrap(),
            turns: u32::try_from(dice.between(2, 4)).unwrap(),
            calls_max: dice.between(1, 4),
            lives: u32::try_from(dice.between(1, 3)).unwrap(),
            faults: dice.pick(&[0, 0, 3, 8]),
            requests: dice.pick(&[0, 0, 1, 3]),
            disk_fails: dice.pick(&[0, 0, 10, 50]),
            disk_slow: dice.pick(&[0, 50, 300]),
            model_fails: dice.pick(&[0, 100, 300]),
            keeper_fails: dice.pick(&[0, 0, 50, 200]),
        }
    }
}

/// When a life ends that is not calm.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    /// With this commit's first flush.
    commit: Option<u64>,
    /// With this moment: something was said, heard or begun.
    moment: Option<u64>,
}

/// What happens with a flush of the disk.
#[derive(Debug)]
pub(crate) enum Flush {
    Done,
    /// And takes with it what these dice say.
    Fails(Dice),
    PowerGone,
}

#[derive(Debug, Default)]
struct Time {
    before: Duration,
    begun: Option<Instant>,
    /// The hour of death.
    frozen: Option<Duration>,
}

/// A simulated world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) home: TempDir,
    pub(crate) disk: SimDisk,
    dice: Guarded<Dice>,
    time: Guarded<Time>,
    fate: Guarded<Fate>,
    /// When the disk was last flushed.
    flushed: Guarded<Option<Duration>>,
    calm: Guarded<bool>,
    died: watch::Sender<bool>,
    log: Guarded<Vec<String>>,
    /// What is known to have happened.
    pub(crate) known: Guarded<Known>,
}

/// What was heard or seen from outside: whatever comes later must agree with it.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The threads, in the order of their beginning.
    pub(crate) threads: Vec<Option<ThreadId>>,
    /// Events that somebody heard.
    pub(crate) acknowledged: BTreeMap<(ThreadId, Seq), Hash>,
    /// Positions up to which somebody was told that a thread is durable.
    pub(crate) promised: BTreeMap<ThreadId, Seq>,
    /// Commands that ran: thread, call, attempt, text.
    pub(crate) commands: Vec<(ThreadId, Seq, u32, String)>,
    /// What an agent's state was, by the last event that it holds.
    pub(crate) states: BTreeMap<ThreadId, BTreeMap<Seq, Hash>>,
    /// What was seen to be wrong while it happened.
    pub(crate) wrong: Vec<String>,
    /// Threads that did all that was asked of them.
    pub(crate) done: BTreeSet<ThreadId>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let mut dice = Dice::new(seed, 0);
        let plan = Plan::new(&mut dice);
        // Memory, where there is some: nothing here depends on a real disk.
        let below = PathBuf::from("/dev/shm");
        let home = if below.is_dir() { TempDir::new_in(below) } else { TempDir::new() }.unwrap();
        let threads = vec![None; plan.threads];
        let world = Arc::new(Self {
            plan,
            home,
            disk: SimDisk::default(),
            dice: Guarded::new(dice),
            time: Guarded::default(),
            fate: Guarded::default(),
            flushed: Guarded::default(),
            calm: Guarded::new(false),
            died: watch::Sender::new(false),
            log: Guarded::default(),
            known: Guarded::new(Known { threads, ..Known::default() }),
        });
        world.disk.belongs_to(Arc::downgrade(&world));
        world
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.home.path().join("work")
    }

    pub(crate) fn dice<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        self.dice.with(roll)
    }

    /// The time since the world began.
    pub(crate) fn now(&self) -> Duration {
        self.time.with(|time| {
            time.frozen.unwrap_or_else(|| time.before + time.begun.map_or(Duration::ZERO, |begun| begun.elapsed()))
        })
    }

    /// Writes a line of the log.
    pub(crate) fn note(&self, line: impl std::fmt::Display) {
        if self.is_alive() {
            let line = format!("{:>9} {line}", self.now().as_millis());
            self.log.with(|log| log.push(line));
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.with(|log| log.clone())
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("wrong: {what}"));
        self.known.with(|known| known.wrong.push(what));
    }

    // Life and death.

    /// A process begins, in a runtime of its own.
    pub(crate) fn begin(&self, calm: bool) {
        self.calm.with(|is| *is = calm);
        self.time.with(|time| {
            *time = Time { before: time.frozen.unwrap_or_default(), begun: Some(Instant::now()), frozen: None }
        });
        self.died.send_replace(false);
        let fate = if calm {
            Fate::default()
        } else {
            self.dice(|dice| match dice.below(4) {
                0 => Fate { commit: Some(dice.between(1, 60)), ..Fate::default() },
                1 | 2 => Fate { moment: Some(dice.between(1, 60)), ..Fate::default() },
                _ => Fate::default(),
            })
        };
        self.fate.with(|now| *now = fate);
        self.note(if calm { "a calm life begins" } else { "a life begins" });
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.with(|calm| *calm)
    }

    pub(crate) fn is_alive(&self) -> bool {
        !*self.died.borrow()
    }

    /// Everything stops where it is.
    pub(crate) fn die(&self) {
        if self.is_alive() {
            self.note("death");
            let now = self.now();
            self.time.with(|time| time.frozen = Some(now));
            self.died.send_replace(true);
        }
    }

    /// Returns with the death of the process.
    pub(crate) async fn death(&self) {
        let _ = self.died.subscribe().wait_for(|died| *died).await;
    }

    /// Returns at once, or never: a dead process does nothing more.
    pub(crate) async fn living(&self) {
        if !self.is_alive() {
            std::future::pending::<()>().await;
        }
    }

    /// Time passes without a process.
    pub(crate) fn pass(&self, time: Duration) {
        self.time.with(|at| at.frozen = at.frozen.map(|frozen| frozen + time));
    }

    /// Something was said, heard or begun. This may have been the last thing.
    pub(crate) fn moment(&self) {
        if self.fate.with(|fate| count_down(&mut fate.moment)) {
            self.die();
        }
    }

    /// What happens with this flush. A commit's flushes are of one moment, and only the first of them is drawn for: a file
    /// that grows is flushed once more, and whether it grows follows from more than the seed.
    pub(crate) fn flush(&self) -> Flush {
        let now = self.now();
        if !self.is_alive() || self.flushed.with(|last| last.replace(now)) == Some(now) {
            return Flush::Done;
        }
        if self.fate.with(|fate| count_down(&mut fate.commit)) {
            self.die();
            return Flush::PowerGone;
        }
        let (fails, what) = self.dice(|dice| (dice.permille(self.plan.disk_fails), Dice::new(dice.next(), 2)));
        if fails && !self.is_calm() { Flush::Fails(what) } else { Flush::Done }
    }

    /// How long work on the disk takes before it happens, and before anybody knows that it has.
    pub(crate) fn latency(&self) -> (Duration, Duration) {
        let slow = if self.is_calm() { 0 } else { self.plan.disk_slow };
        self.dice(|dice| {
            let mut one =
                || if dice.permille(slow) { dice.ms(1, 4_000) } else { Duration::from_micros(dice.below(3) * 400) };
            (one(), one())
        })
    }

    // What is known.

    /// An event was heard outside.
    pub(crate) fn heard(&self, event: &Event) {
        if !self.is_alive() {
            return;
        }
        let hash = digest(event);
        self.note(format!("event {} {} {}", self.name(event.thread), event.seq, event.body.name()));
        let before = self.known.with(|known| known.acknowledged.insert((event.thread, event.seq), hash));
        if before.is_some_and(|before| before != hash) {
            self.wrong(format!("event {} of {} was heard twice, and not the same", event.seq, self.name(event.thread)));
        }
        self.moment();
    }

    /// A thread's name in the log: its number.
    pub(crate) fn name(&self, thread: ThreadId) -> String {
        let number = self.number(thread);
        number.map_or_else(|| format!("unborn {thread}"), |number| format!("thread {number}"))
    }

    pub(crate) fn number(&self, thread: ThreadId) -> Option<usize> {
        self.known.with(|known| known.threads.iter().position(|known| *known == Some(thread)))
    }

    /// An agent's state was so, and everything in it durable.
    pub(crate) fn observe(&self, state: &State) {
        let hash = Hash::of(&serde_json::to_vec(state).unwrap());
        self.known.with(|known| {
            known.states.entry(state.thread).or_default().insert(state.seq, hash);
        });
    }
}

/// What tells an event from every other.
pub(crate) fn digest(event: &Event) -> Hash {
    Hash::of(&serde_json::to_vec(event).unwrap())
}

fn count_down(left: &mut Option<u64>) -> bool {
    let Some(n) = left else { return false };
    *n = n.saturating_sub(1);
    let last = *n == 0;
    if last {
        *left = None;
    }
    last
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp(BEGINNING_MS + u64::try_from(World::now(self).as_millis()).unwrap())
    }
}

impl Randomness for World {
    fn u128(&self) -> u128 {
        self.dice(|dice| (u128::from(dice.next()) << 64) | u128::from(dice.next()))
    }
}
