//! The end of an `up`, within its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use lakitu_kernel::supervise::Guarded;

use crate::cli::complain;
use crate::session::Session;

/// Of the whole time runs have a half to become durable; services and commands have most of the rest.
const RUNS_SHARE: u32 = 2;
const SERVICES_SHARE: f32 = 0.8;
/// The end is forced this much before the time is up, so that the process is gone when it is.
const MARGIN: Duration = Duration::from_millis(50);
/// The runtime did not come to its end.
const GAVE_UP: u8 = 70;

/// When the process ends, whatever hangs.
pub(super) struct Deadline {
    limit: Duration,
    begun: Guarded<Option<Instant>>,
    /// What a forced end says.
    exit: Arc<AtomicU8>,
}

impl Deadline {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, begun: Guarded::new(None), exit: Arc::new(AtomicU8::new(GAVE_UP)) }
    }

    /// From now on the time runs.
    pub(super) fn begin(&self) {
        let (now, exit) = (Instant::now(), self.exit.clone());
        let end = now + self.limit.saturating_sub(MARGIN);
        self.begun.with(|begun| *begun = Some(now));
        // A thread of its own: whatever hangs, this does not.
        std::thread::spawn(move || {
            while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            complain("not everything ended in time: commands that are left end with their keepers' lease");
            std::process::exit(exit.load(Ordering::Acquire).into());
        });
    }

    /// What is left of the time.
    pub(super) fn left(&self) -> Duration {
        let used = self.begun.with(|begun| begun.map_or(Duration::ZERO, |begun| begun.elapsed()));
        self.limit.saturating_sub(used)
    }

    /// Everything is durable and nobody works on it any more: what is still to end loses nothing.
    pub(super) fn reached_the_end(&self) {
        self.exit.store(0, Ordering::Release);
    }
}

/// No more work, runs checkpointed, services stopped in reverse order, commands ended.
pub(super) async fn stop(session: Session, deadline: &Deadline) {
    let runtime = session.into_runtime();
    runtime.take_no_more();
    let share = deadline.left() / RUNS_SHARE;
    if tokio::time::timeout(share, runtime.threads().shut_down()).await.is_err() {
        tracing::warn!("not every run was stopped in time; those that were not go on as after a crash");
    }
    runtime.stop_within(deadline.left().mul_f32(SERVICES_SHARE)).await;
    deadline.reached_the_end();
}
