//! Crash points: named places at which the process kills itself, so that tests can kill the real binary exactly there.
//!
//! Without the feature `crash-points` a point is nothing at all.

/// Every place there is. `LAKITU_CRASH_AT=<name>[:<n>]` kills the process (SIGKILL) when that place is passed for
/// the n-th time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// A step is about to be committed.
    BeforeCommit,
    /// A step is durable and nobody was told.
    AfterCommit,
    /// An effect is about to begin.
    BeforeEffect,
    /// Half of an effect: a file's temporary is written and not renamed, a command has started.
    DuringEffect,
    /// An effect is done and nobody was told.
    AfterEffect,
}

impl CrashPoint {
    /// The name by which `LAKITU_CRASH_AT` asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            CrashPoint::BeforeCommit => "before_commit",
            CrashPoint::AfterCommit => "after_commit",
            CrashPoint::BeforeEffect => "before_effect",
            CrashPoint::DuringEffect => "during_effect",
            CrashPoint::AfterEffect => "after_effect",
        }
    }
}

/// Kills the process if it was asked to die here.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn crash_point(_: CrashPoint) {}

/// Kills the process if it was asked to die here. With `LAKITU_CRASH_TRACE=<file>` each passing is a line there.
#[cfg(feature = "crash-points")]
pub fn crash_point(point: CrashPoint) {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PASSED: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
    let Some(passed) = PASSED.get(point as usize) else { return };
    let nth = passed.fetch_add(1, Ordering::SeqCst) + 1;
    if let Some(trace) = std::env::var_os("LAKITU_CRASH_TRACE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(trace);
        let _ = file.and_then(|mut file| file.write_all(format!("{}:{nth}\n", point.name()).as_bytes()));
    }
    let Ok(asked) = std::env::var("LAKITU_CRASH_AT") else { return };
    let (name, at) = asked.split_once(':').unwrap_or((&asked, "1"));
    if name == point.name() && at.parse() == Ok(nth) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
