//! The watchdog: an OS thread, for two blocked threads stop both of tokio's workers and everything that runs on them.
//!
//! Slow handlers are not its business: the shell kills those at their deadline. It is for what no deadline reaches: a core
//! handler that blocks its thread, a writer thread that hangs in the kernel, a runtime that no longer turns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::lock::Guarded;
use super::nodes::Nodes;
use super::task::boxed;

/// A sign of life. Odd while something is under way; every beginning and end moves it.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Work begins.
    pub fn begin(&self) {
        // Moves, and is odd, also when the last work was torn off without an end.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |mark| Some((mark + 1) | 1));
    }

    /// Work ended.
    pub fn end(&self) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |mark| Some((mark | 1) + 1));
    }
}

/// The pulses that are watched. They go from here when their owners are gone.
#[derive(Debug, Default)]
pub(super) struct Pulses(Guarded<Vec<(Arc<str>, Weak<AtomicU64>)>>);

impl Pulses {
    pub(super) fn add(&self, name: Arc<str>, pulse: &Pulse) {
        self.0.with(|pulses| pulses.push((name, Arc::downgrade(&pulse.0))));
    }

    /// Each name with the mark that its pulse shows now.
    fn look(&self) -> Vec<(Arc<str>, u64)> {
        self.0.with(|pulses| {
            pulses.retain(|(_, pulse)| pulse.strong_count() > 0);
            let marks = pulses.iter().filter_map(|(name, pulse)| Some((name.clone(), pulse.upgrade()?)));
            marks.map(|(name, pulse)| (name, pulse.load(Ordering::Acquire))).collect()
        })
    }
}

/// When the watchdog bites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// Time between two looks.
    pub tick: Duration,
    /// How long the same piece of work may show no progress.
    pub limit: Duration,
}

impl WatchOptions {
    /// Looks often enough for this limit that one look alone never decides: how long a process stood still is known to no
    /// better than two ticks.
    pub fn within(limit: Duration) -> Self {
        Self { tick: (limit / 4).min(Duration::from_secs(1)), limit }
    }
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self::within(Duration::from_secs(30))
    }
}

/// What was blocked past the limit: a node's path, a pulse's name, or [`RUNTIME`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked(pub Arc<str>);

/// The name under which the runtime's own heartbeat is watched.
pub const RUNTIME: &str = "runtime";

/// The watchdog's memory. Pure: it knows no clock but the time that each tick says has passed.
#[derive(Debug)]
pub struct Watch {
    late: Duration,
    limit_ticks: u32,
    seen: HashMap<Arc<str>, Seen>,
}

#[derive(Debug)]
struct Seen {
    mark: u64,
    ticks: u32,
}

impl Watch {
    /// Has seen nothing.
    pub fn new(options: WatchOptions) -> Self {
        let ticks = options.limit.as_nanos().div_ceil(options.tick.as_nanos().max(1));
        // A tick that took twice its time says that this process was stopped, or its machine: nobody else ran either.
        let late = options.tick * 2;
        Self { late, limit_ticks: u32::try_from(ticks).unwrap_or(u32::MAX).max(1), seen: HashMap::new() }
    }

    /// One look. `elapsed` is the time since the last one, `marks` what every pulse shows. Answers what is blocked.
    pub fn tick(&mut self, elapsed: Duration, marks: &[(Arc<str>, u64)]) -> Option<Blocked> {
        if elapsed > self.late {
            self.seen.clear();
        }
        let mut now = HashMap::new();
        let mut blocked = None;
        for (name, mark) in marks.iter().filter(|(_, mark)| mark % 2 == 1) {
            let ticks = match self.seen.get(name) {
                Some(seen) if seen.mark == *mark => seen.ticks + 1,
                Some(_) | None => 0,
            };
            if ticks >= self.limit_ticks {
                blocked.get_or_insert_with(|| Blocked(name.clone()));
            }
            now.insert(name.clone(), Seen { mark: *mark, ticks });
        }
        self.seen = now;
        blocked
    }
}

/// The thread. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watchdog {
    over: Arc<AtomicBool>,
    thread: Thread,
    heartbeat: AbortHandle,
}

impl Watchdog {
    /// Watches core handlers, every [`Nodes::pulse`] and the runtime that this is called in. `exit` is called once, on the
    /// watchdog's thread; production ends the process there, with 70.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub fn start(
        nodes: &Nodes,
        options: WatchOptions,
        exit: impl FnOnce(Blocked) + Send + 'static,
    ) -> std::io::Result<Self> {
        let heartbeat = nodes.pulse(RUNTIME);
        heartbeat.begin();
        let over = Arc::new(AtomicBool::new(false));
        let (watched, stop) = (nodes.clone(), over.clone());
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || keep_watch(&watched, options, &stop, exit))?;
        #[allow(clippy::disallowed_methods, reason = "owned: the handle is aborted when the watchdog is dropped")]
        let beating = tokio::spawn(boxed(async move {
            loop {
                tokio::time::sleep(options.tick / 2).await;
                // Never ends: what is under way is the runtime itself.
                heartbeat.begin();
            }
        }));
        Ok(Self { over, thread: thread.thread().clone(), heartbeat: beating.abort_handle() })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.heartbeat.abort();
        self.thread.unpark();
    }
}

fn keep_watch(nodes: &Nodes, options: WatchOptions, over: &AtomicBool, exit: impl FnOnce(Blocked)) {
    let mut watch = Watch::new(options);
    let mut last = Instant::now();
    while !over.load(Ordering::Acquire) {
        let left = options.tick.saturating_sub(last.elapsed());
        if !left.is_zero() {
            // May wake early.
            std::thread::park_timeout(left);
            continue;
        }
        let elapsed = last.elapsed();
        last = Instant::now();
        if let Some(blocked) = watch.tick(elapsed, &nodes.pulses().look()) {
            return exit(blocked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: WatchOptions = WatchOptions { tick: Duration::from_secs(1), limit: Duration::from_secs(3) };

    /// The ticks (from 0) at which something is blocked, for one pulse that shows these marks after these milliseconds.
    fn run(ticks: &[(u64, u64)]) -> Vec<usize> {
        let mut watch = Watch::new(OPTIONS);
        let blocked =
            ticks.iter().map(|(ms, mark)| watch.tick(Duration::from_millis(*ms), &[("/store".into(), *mark)]));
        blocked.enumerate().filter_map(|(at, blocked)| blocked.map(|_| at)).collect()
    }

    #[test]
    fn whatever_the_limit_no_single_look_decides() {
        for limit in [1_000, 1_500, 4_000, 30_000].map(Duration::from_millis) {
            let options = WatchOptions::within(limit);
            let mut watch = Watch::new(options);
            let marks = [("/store".into(), 1)];
            // A process that stood still for any time, again and again, is as late as it was still.
            for still in 1..100 {
                let elapsed = options.tick + limit * still / 10;
                if elapsed > options.tick * 2 {
                    assert_eq!(watch.tick(elapsed, &marks), None, "{limit:?} {elapsed:?}");
                }
            }
            assert!(watch.limit_ticks >= 4 && options.tick <= Duration::from_secs(1), "{options:?}");
        }
    }

    #[test]
    fn the_same_work_for_the_whole_limit_is_blocked() {
        assert_eq!(run(&[(1000, 1), (1000, 1), (1000, 1), (1000, 1)]), [3]);
    }

    #[test]
    fn progress_starts_the_count_again() {
        assert_eq!(run(&[(1000, 1), (1000, 1), (1000, 1), (1000, 3), (1000, 3), (1000, 3), (1000, 3)]), [6]);
    }

    #[test]
    fn nothing_under_way_is_never_blocked() {
        assert_eq!(run(&[(1000, 2); 10]), [] as [usize; 0]);
    }

    #[test]
    fn a_late_tick_starts_all_counts_again() {
        assert_eq!(run(&[(1000, 1), (1000, 1), (1000, 1), (60_000, 1), (1000, 1), (1000, 1), (1000, 1)]), [6]);
    }

    #[test]
    fn a_pulse_moves_at_every_beginning_and_end_even_when_an_end_is_missing() {
        let pulse = Pulse::default();
        let mark = || pulse.0.load(Ordering::Relaxed);
        pulse.begin();
        assert_eq!(mark(), 1);
        pulse.begin();
        assert_eq!(mark(), 3);
        pulse.end();
        assert_eq!(mark(), 4);
    }

    #[tokio::test]
    async fn a_pulse_that_stays_busy_is_told_to_the_exit_port() {
        let nodes = Nodes::new();
        let writer = nodes.pulse("writer");
        writer.begin();
        let (tell, told) = tokio::sync::oneshot::channel();
        let options = WatchOptions { tick: Duration::from_millis(20), limit: Duration::from_millis(60) };
        let _watchdog = Watchdog::start(&nodes, options, move |blocked| drop(tell.send(blocked))).unwrap();
        assert_eq!(told.await.unwrap(), Blocked("writer".into()));
    }
}
