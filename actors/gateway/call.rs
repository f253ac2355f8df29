//! A model call with its deadlines and its repetitions: what makes one answer out of an upstream that may fail.
//!
//! **Invariant:** every attempt of a call carries the same bytes and the same idempotency key.
//! **Invariant:** the three deadlines stand here and nowhere else, so they hold for every upstream. An attempt that
//! misses one is dropped, which cancels it.

use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakitu_kernel::ToolError;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::Randomness;
use lakitu_kernel::limits::{MODEL_FIRST_BYTE_DEADLINE, MODEL_IDLE_DEADLINE, MODEL_TOTAL_DEADLINE};
use lakitu_kernel::ports::{Delta, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::supervise::Address;
use tokio::time::{Instant, sleep, sleep_until};

use super::GatewayMsg;
use super::failure::{RETRY_AFTER_MAX, unreachable};

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

/// How often and how long a call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts, the first one included.
    pub attempts_max: u32,
    /// No attempt begins later than this after the first one.
    pub total_max: Duration,
    /// The first wait; each one after it is twice as long. The wait itself is random between nothing and that.
    pub backoff: Duration,
    /// No backoff is longer.
    pub backoff_max: Duration,
    /// Of each attempt.
    pub deadlines: Deadlines,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 70,
            total_max: Duration::from_hours(1),
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_mins(1),
            deadlines: Deadlines::default(),
        }
    }
}

/// A repetition that is about to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// The attempt that is coming; the first repetition is 2.
    pub attempt: u32,
    /// The wait before it.
    pub after_ms: u64,
    /// Why the one before failed.
    pub error: ToolError,
}

/// The way to a model, as a thread holds it for one call.
#[derive(Clone)]
pub struct Route {
    /// Who answers.
    pub upstream: Arc<dyn Gateway>,
    /// What is done when it does not.
    pub policy: RetryPolicy,
    /// For the jitter.
    pub randomness: Arc<dyn Randomness>,
    /// Who counts repetitions and failures.
    counted_by: Option<Address<GatewayMsg>>,
}

impl Route {
    /// A route that nobody counts.
    pub fn new(upstream: Arc<dyn Gateway>, policy: RetryPolicy, randomness: Arc<dyn Randomness>) -> Self {
        Self { upstream, policy, randomness, counted_by: None }
    }

    /// The same, counted there.
    #[must_use]
    pub fn counted_by(mut self, address: Address<GatewayMsg>) -> Self {
        self.counted_by = Some(address);
        self
    }

    fn tell(&self, msg: GatewayMsg) {
        if let Some(address) = &self.counted_by {
            address.tell(msg);
        }
    }

    /// Makes the call until there is an answer or no repetition is left. Deltas of an attempt that failed were shown
    /// and stay shown; the next attempt's come behind them.
    pub async fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
        on_retry: impl Fn(Retry) + Send,
    ) -> Result<ModelAnswer, ModelFailure> {
        let outcome = self.attempts(request, deltas, on_retry).await;
        if outcome.is_err() {
            self.tell(GatewayMsg::Failed);
        }
        outcome
    }

    async fn attempts(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
        on_retry: impl Fn(Retry) + Send,
    ) -> Result<ModelAnswer, ModelFailure> {
        let begun = Instant::now();
        let mut credentials_failed = false;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(request.clone(), Arc::clone(&deltas)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = match failure.class {
                FailureClass::Retry { after } => self.wait(attempt, after),
                // The upstream takes its token anew for each attempt: it may have been replaced meanwhile.
                FailureClass::Credentials if !credentials_failed => {
                    credentials_failed = true;
                    Duration::ZERO
                }
                FailureClass::Credentials
                | FailureClass::TooLong
                | FailureClass::FallBack
                | FailureClass::Refused
                | FailureClass::Fatal => return Err(failure),
            };
            if attempt >= self.policy.attempts_max || begun.elapsed() + wait > self.policy.total_max {
                return Err(given_up(failure, attempt, begun.elapsed()));
            }
            attempt += 1;
            let after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.tell(GatewayMsg::Retried);
            on_retry(Retry { attempt, after_ms, error: failure.error.clone() });
            sleep(wait).await;
        }
    }

    /// The wait behind the attempt of this number. What the other side asked for is kept to and only lengthened: the
    /// jitter on top parts those who were all sent away at once.
    fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let ceiling = self.policy.backoff.saturating_mul(1 << doublings).min(self.policy.backoff_max);
        let ceiling = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        // The high half of a product of 64-bit numbers is below the ceiling, and even enough.
        let random = self.randomness.u128() & u128::from(u64::MAX);
        let jitter = Duration::from_nanos(u64::try_from((random * u128::from(ceiling)) >> 64).unwrap_or(ceiling));
        match asked {
            Some(asked) => (asked + jitter).min(RETRY_AFTER_MAX),
            None => jitter,
        }
    }

    /// One attempt, within its deadlines.
    fn attempt(
        &self,
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
        let call = self.upstream.complete(request, sink);
        let deadlines = self.policy.deadlines;
        async move {
            tokio::pin!(call);
            loop {
                let now = Instant::now();
                let (at, what) = life.deadline(deadlines);
                if at <= now {
                    return Err(unreachable("deadline", &what));
                }
                // A sign of life moves the deadline while this sleeps: later, as a rule, and earlier where the first byte
                // is given more time than the next ones. So it sleeps no longer than the shorter of the two.
                tokio::select! {
                    biased;
                    outcome = &mut call => return outcome,
                    () = sleep_until(at.min(now + deadlines.idle)) => {}
                }
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

fn given_up(mut failure: ModelFailure, attempts: u32, after: Duration) -> ModelFailure {
    if attempts > 1 {
        // Into a string this cannot fail.
        let _ = write!(failure.error.message, " (given up after {attempts} attempts in {} s)", after.as_secs());
    }
    failure
}
