//! A model call with its repetitions: what makes one answer out of an upstream that may fail.
//!
//! **Invariant:** every attempt of a call carries the same idempotency key, and the same bytes but for the model's name.

use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakitu_kernel::ToolError;
use lakitu_kernel::chat::{Finish, ModelAnswer, ModelRequest};
use lakitu_kernel::clock::Randomness;
use lakitu_kernel::ports::{DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::supervise::Address;
use tokio::time::{Instant, sleep, sleep_until};

use super::GatewayMsg;
use super::attempt::{Deadlines, attempt};
use super::breaker::{Door, Held, Pass, below};
use super::failure::{RETRY_AFTER_MAX, empty, filtered, is_outage};
use super::fallback::{Candidates, Fallbacks};

/// An overloaded model was asked so often in a row when another one is asked, where there is one.
pub const OVERLOADED_MAX: u32 = 3;
/// So many answers of one model that make no sense are paid for in a call.
pub const SENSELESS_MAX: u32 = 8;
/// A call that waits for the gateway to come back, and was begun so long ago, says that it is stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);

/// How long a call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It is given up some time.
    Bounded {
        /// Attempts, the first one included.
        attempts_max: u32,
        /// No attempt begins later than this after the call did.
        total_max: Duration,
    },
    /// Until there is an answer: for a runtime that nobody waits in front of.
    Endless,
}

/// How often and how long a call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long at all.
    pub patience: Patience,
    /// The first wait; each one after it is twice as long. The wait itself is random between nothing and that.
    pub backoff: Duration,
    /// No backoff is longer.
    pub backoff_max: Duration,
    /// Of each attempt.
    pub deadlines: Deadlines,
}

/// What came whole and is no answer all the same.
fn judged(answer: ModelAnswer) -> Result<ModelAnswer, ModelFailure> {
    match answer.finish {
        // What was said until then is none, and none of its calls runs.
        Finish::ContentFilter => Err(filtered(&answer.text)),
        Finish::Stop | Finish::ToolCalls if answer.text.trim().is_empty() && answer.calls.is_empty() => Err(empty()),
        Finish::Stop | Finish::ToolCalls | Finish::Length => Ok(answer),
    }
}

impl RetryPolicy {
    /// The usual waits and deadlines, with this patience.
    pub fn with(patience: Patience) -> Self {
        Self {
            patience,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_mins(1),
            deadlines: Deadlines::default(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::with(Patience::Bounded { attempts_max: 70, total_max: Duration::from_hours(1) })
    }
}

/// What a call tells while it has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It is about to be made again.
    Retry(Retry),
    /// It waits because others found nobody there.
    Held(ToolError),
    /// It has waited for long. Told once.
    Stalled(ToolError),
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
    /// The model that is asked from now on, where it is another one.
    pub model: Option<String>,
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
    fallbacks: Fallbacks,
    door: Door,
    /// Who counts repetitions and failures.
    counted_by: Option<Address<GatewayMsg>>,
}

impl Route {
    /// A route that nobody counts, without fallback models. Its clones share a breaker.
    pub fn new(upstream: Arc<dyn Gateway>, policy: RetryPolicy, randomness: Arc<dyn Randomness>) -> Self {
        let (fallbacks, door) = (Fallbacks::default(), Door::new(Arc::clone(&randomness)));
        Self { upstream, policy, randomness, fallbacks, door, counted_by: None }
    }

    /// The same, counted there.
    #[must_use]
    pub fn counted_by(mut self, address: Address<GatewayMsg>) -> Self {
        self.door = self.door.telling(address.clone());
        self.counted_by = Some(address);
        self
    }

    /// The same, with models that are asked, in this order, when the wanted one cannot be had.
    #[must_use]
    pub fn falling_back_to(mut self, models: Arc<[String]>) -> Self {
        self.fallbacks = Fallbacks::new(models);
        self
    }

    /// How the breaker stands, as the gauge shows it.
    pub fn breaker(&self) -> u64 {
        self.door.shown()
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
        notice: impl Fn(Notice) + Send,
    ) -> Result<ModelAnswer, ModelFailure> {
        let call = Call {
            route: self,
            notice,
            begun: Instant::now(),
            attempts: 0,
            overloads: 0,
            senseless: 0,
            was_empty: false,
            credentials_failed: false,
            stalled: false,
            models: self.fallbacks.of(&request.model),
        };
        let outcome = call.run(request, deltas).await;
        if outcome.is_err() {
            self.tell(GatewayMsg::Failed);
        }
        outcome
    }
}

/// A call under way.
struct Call<'a, N> {
    route: &'a Route,
    notice: N,
    begun: Instant,
    /// Those that went out.
    attempts: u32,
    /// In a row, of the present model.
    overloads: u32,
    /// Of the present model.
    senseless: u32,
    /// An answer said nothing.
    was_empty: bool,
    credentials_failed: bool,
    stalled: bool,
    models: Candidates,
}

impl<N: Fn(Notice) + Send> Call<'_, N> {
    async fn run(mut self, request: ModelRequest, deltas: DeltaSink) -> Result<ModelAnswer, ModelFailure> {
        let mut last = None;
        loop {
            let pass = self.enter(last.take()).await?;
            self.attempts += 1;
            let failure = match self.attempt(&request, &deltas, pass).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let (wait, model) = self.next(&failure)?;
            // A move to another model is bounded by their number.
            if model.is_none() && !self.allows(wait) {
                return Err(self.given_up(failure));
            }
            self.route.tell(if model.is_some() { GatewayMsg::FellBack } else { GatewayMsg::Retried });
            let after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let (attempt, error) = (self.attempts + 1, failure.error.clone());
            (self.notice)(Notice::Retry(Retry { attempt, after_ms, error, model }));
            self.wait(sleep(wait), &failure.error).await;
            last = Some(failure);
        }
    }

    /// Waits at the door, within the call's patience. `last`: why the attempt before failed.
    async fn enter(&mut self, last: Option<ModelFailure>) -> Result<Pass, ModelFailure> {
        let mut queued = None;
        loop {
            let Held { until, error } = match self.route.door.ask() {
                Ok(pass) => return Ok(pass),
                Err(held) => held,
            };
            if queued.is_none() {
                (self.notice)(Notice::Held(error.clone()));
            }
            let wait = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if !self.allows(wait) {
                let held = || ModelFailure { class: FailureClass::Retry { after: None }, error: error.clone() };
                return Err(self.given_up(last.unwrap_or_else(held)));
            }
            let queued = queued.get_or_insert_with(|| self.route.door.queue());
            let end = self.end();
            let in_time = async {
                tokio::select! {
                    biased;
                    () = queued.wait(until) => {}
                    () = async { match end {
                        Some(end) => sleep_until(end).await,
                        None => std::future::pending().await,
                    }} => {}
                }
            };
            self.wait(in_time, &error).await;
        }
    }

    /// One attempt, and what it says of the other side.
    async fn attempt(
        &self,
        request: &ModelRequest,
        deltas: &DeltaSink,
        pass: Pass,
    ) -> Result<ModelAnswer, ModelFailure> {
        let (deltas, door, shown) = (Arc::clone(deltas), self.route.door.clone(), AtomicBool::new(false));
        let sink: DeltaSink = Arc::new(move |delta| {
            if !shown.swap(true, Ordering::Relaxed) {
                door.lives();
            }
            deltas(delta);
        });
        let request = self.models.request(request);
        let outcome = attempt(&*self.route.upstream, self.route.policy.deadlines, request, sink).await.and_then(judged);
        match &outcome {
            Err(failure) if is_outage(failure) => pass.fails(&failure.error),
            Ok(_) | Err(_) => pass.lives(),
        }
        let mut answer = outcome?;
        answer.model = answer.model.or_else(|| self.models.stand_in());
        Ok(answer)
    }

    /// What is done about a failure: the wait before the next attempt and the model that it asks, where it is another
    /// one; or the failure, where nothing is.
    fn next(&mut self, failure: &ModelFailure) -> Result<(Duration, Option<String>), ModelFailure> {
        let overloaded = matches!(failure.class, FailureClass::Overloaded { .. });
        self.overloads = if overloaded { self.overloads + 1 } else { 0 };
        match failure.class {
            FailureClass::Overloaded { after } => {
                let other = if self.overloads >= OVERLOADED_MAX { self.fall_back() } else { None };
                Ok(other.map_or_else(|| (self.backoff(after), None), |model| (Duration::ZERO, Some(model))))
            }
            FailureClass::Retry { after } => Ok((self.backoff(after), None)),
            FailureClass::Senseless => {
                self.senseless += 1;
                if self.senseless < SENSELESS_MAX { Ok((self.backoff(None), None)) } else { self.other(failure) }
            }
            // The upstream takes its token anew for each attempt: it may have been replaced meanwhile.
            FailureClass::Credentials if !self.credentials_failed => {
                self.credentials_failed = true;
                Ok((Duration::ZERO, None))
            }
            FailureClass::FallBack => {
                self.route.fallbacks.is_unknown(self.models.model());
                self.other(failure)
            }
            FailureClass::Empty if !self.was_empty => {
                self.was_empty = true;
                Ok((self.backoff(None), None))
            }
            FailureClass::Empty
            | FailureClass::Credentials
            | FailureClass::TooLong
            | FailureClass::OverBudget
            | FailureClass::Refused
            | FailureClass::Fatal => Err(failure.clone()),
        }
    }

    /// The next model at once, or the failure where there is none.
    fn other(&mut self, failure: &ModelFailure) -> Result<(Duration, Option<String>), ModelFailure> {
        match self.fall_back() {
            Some(model) => Ok((Duration::ZERO, Some(model))),
            None => Err(self.given_up(ModelFailure { class: FailureClass::Refused, ..failure.clone() })),
        }
    }

    /// The next model, of which nothing is known yet.
    fn fall_back(&mut self) -> Option<String> {
        let model = self.models.next()?;
        (self.overloads, self.senseless) = (0, 0);
        Some(model)
    }

    /// The wait behind an attempt. What the other side asked for is kept to and only lengthened: the jitter on top parts
    /// those who were all sent away at once.
    fn backoff(&self, asked: Option<Duration>) -> Duration {
        let policy = &self.route.policy;
        let doublings = self.attempts.saturating_sub(1).min(20);
        let ceiling = policy.backoff.saturating_mul(1 << doublings).min(policy.backoff_max);
        let jitter = below(&*self.route.randomness, ceiling);
        match asked {
            Some(asked) => (asked + jitter).min(RETRY_AFTER_MAX),
            None => jitter,
        }
    }

    /// Whether an attempt may begin so much later.
    fn allows(&self, wait: Duration) -> bool {
        match self.route.policy.patience {
            Patience::Bounded { attempts_max, total_max } => {
                self.attempts < attempts_max && self.begun.elapsed() + wait < total_max
            }
            Patience::Endless => true,
        }
    }

    /// When no attempt begins any more.
    fn end(&self) -> Option<Instant> {
        match self.route.policy.patience {
            Patience::Bounded { total_max, .. } => Some(self.begun + total_max),
            Patience::Endless => None,
        }
    }

    /// Waits, and says once when the call is stalled by it.
    async fn wait(&mut self, wait: impl Future<Output = ()>, error: &ToolError) {
        tokio::pin!(wait);
        if !self.stalled {
            tokio::select! {
                biased;
                () = &mut wait => return,
                () = sleep_until(self.begun + STALLED_AFTER) => {}
            }
            self.stalled = true;
            (self.notice)(Notice::Stalled(error.clone()));
        }
        wait.await;
    }

    fn given_up(&self, mut failure: ModelFailure) -> ModelFailure {
        if self.attempts != 1 || self.stalled {
            let (after, s) = (self.begun.elapsed().as_secs(), if self.attempts == 1 { "" } else { "s" });
            // Into a string this cannot fail.
            let _ = write!(failure.error.message, " (given up after {} attempt{s} in {after} s)", self.attempts);
        }
        failure
    }
}
