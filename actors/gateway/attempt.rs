//! One attempt, within its deadlines.
//!
//! **Invariant:** the three deadlines stand here and nowhere else, so they hold for every upstream. An attempt that
//! misses one is dropped, which cancels it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::limits::{MODEL_FIRST_BYTE_DEADLINE, MODEL_IDLE_DEADLINE, MODEL_TOTAL_DEADLINE};
use lakitu_kernel::ports::{Delta, DeltaSink, Gateway, ModelFailure};
use tokio::time::Instant;

use super::failure::unreachable;
use crate::awake::{Awake, PIECES};

/// How long an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until the first sign of life.
    pub first_byte: Duration,
    /// Between two signs of life.
    pub idle: Duration,
    /// For the whole attempt.
    pub total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { first_byte: MODEL_FIRST_BYTE_DEADLINE, idle: MODEL_IDLE_DEADLINE, total: MODEL_TOTAL_DEADLINE }
    }
}

/// Asks once.
pub(super) fn attempt(
    upstream: &dyn Gateway,
    deadlines: Deadlines,
    request: ModelRequest,
    deltas: DeltaSink,
) -> impl Future<Output = Result<ModelAnswer, ModelFailure>> + use<> {
    let life = Arc::new(Life::begin());
    let seen = Arc::clone(&life);
    let sink: DeltaSink = Arc::new(move |delta: Delta| {
        seen.sign();
        let (Delta::Text(text) | Delta::Thinking(text)) = &delta;
        if !text.is_empty() {
            deltas(delta);
        }
    });
    let call = upstream.complete(request, sink);
    async move {
        tokio::pin!(call);
        let mut awake = Awake::default();
        loop {
            let now = Instant::now();
            let (at, what) = life.deadline(deadlines);
            let at = at + awake.stood_still();
            if at <= now {
                return Err(unreachable("deadline", &what));
            }
            // A sign of life moves the deadline while this sleeps: later, as a rule, and earlier where the first byte
            // is given more time than the next ones. So it sleeps in pieces of the shorter of the two.
            tokio::select! {
                biased;
                outcome = &mut call => return outcome,
                () = awake.sleep_until(at.min(now + deadlines.idle / PIECES)) => {}
            }
        }
    }
}

/// When an attempt began and when it was last heard of. No wake per delta: the deadline's timer looks when it is due.
struct Life {
    begun: Instant,
    /// Milliseconds since `begun`, plus one; 0 before the first sign.
    last: AtomicU64,
}

impl Life {
    fn begin() -> Self {
        Self { begun: Instant::now(), last: AtomicU64::new(0) }
    }

    fn sign(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(ms + 1, Ordering::Relaxed);
    }

    /// The next moment at which this attempt is too late, and for what.
    fn deadline(&self, deadlines: Deadlines) -> (Instant, String) {
        let total = self.begun + deadlines.total;
        let (next, name, within) = match self.last.load(Ordering::Relaxed).checked_sub(1) {
            None => (self.begun + deadlines.first_byte, "no first byte", deadlines.first_byte),
            Some(ms) => (self.begun + Duration::from_millis(ms) + deadlines.idle, "no more data", deadlines.idle),
        };
        if total <= next {
            return (total, format!("no whole answer within {} s", deadlines.total.as_secs_f32()));
        }
        (next, format!("{name} within {} s", within.as_secs_f32()))
    }
}
