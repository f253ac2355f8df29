//! The circuit breaker: who may call while the other side seems to be away.
//!
//! [`Breaker`] is pure. After [`FAILURES_MAX`] calls in a row that found nobody, no call goes out; then one at a time, the
//! probe, finds out whether the other side is back. When it is, those that waited are let go one after the other over a
//! time that grows with their number. [`Door`] is the breaker as every route of an upstream shares it.
//!
//! A call that was answered, be it by a refusal, closes the breaker; so does the first piece of an answer that shows
//! something. The head of an answer alone does not: overloaded providers send status 200 and then the error. What asks
//! for a time (`Retry-After`) is no failure here: the other side lives, and holds its callers back itself.

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::ToolError;
use lakitu_kernel::clock::Randomness;
use lakitu_kernel::supervise::Address;
use tokio::sync::watch;
use tokio::time::Instant;

use super::GatewayMsg;

/// Failures in a row that open the breaker.
pub const FAILURES_MAX: u32 = 5;
/// Until the first probe; each failed one doubles it. A wait is at most a quarter longer, at random.
pub const PROBE_AFTER: Duration = Duration::from_secs(1);
/// It is not doubled beyond this: one probe a minute for whoever is away for long.
pub const PROBE_AFTER_MAX: Duration = Duration::from_mins(1);
/// For each call that waited, those that waited are spread over so much more …
pub const RELEASE_EACH: Duration = Duration::from_millis(50);
/// … and over no more than this.
pub const RELEASE_MAX: Duration = Duration::from_secs(30);

/// The pure part. Moments come from outside.
#[derive(Debug, Clone)]
pub struct Breaker {
    phase: Phase,
    /// Tells probes apart: an old one that is dropped late must not end its successor.
    probes: u64,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Calls go out.
    Closed {
        /// In a row.
        failures: u32,
        /// Over which time those that waited for this go out.
        spread: Duration,
    },
    /// None does but the probe.
    Open { next: Instant, wait: Duration, probe: Option<u64>, error: ToolError },
}

/// What a call is told at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    /// It may go, perhaps as the probe with this number.
    Go(Option<u64>),
    /// It waits: until then, or until something changes while a probe is under way.
    Wait {
        /// When the next probe may go.
        until: Option<Instant>,
        /// Why nobody goes.
        error: ToolError,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self { phase: Phase::Closed { failures: 0, spread: Duration::ZERO }, probes: 0 }
    }
}

impl Breaker {
    /// A call wants to go out.
    pub fn ask(&mut self, now: Instant) -> Leave {
        match &mut self.phase {
            Phase::Closed { .. } => Leave::Go(None),
            Phase::Open { next, probe, error, .. } => {
                if probe.is_some() || now < *next {
                    let until = probe.is_none().then_some(*next);
                    return Leave::Wait { until, error: error.clone() };
                }
                self.probes += 1;
                *probe = Some(self.probes);
                Leave::Go(*probe)
            }
        }
    }

    /// The other side was heard of, while so many calls waited. Tells whether that changes anything.
    pub fn lives(&mut self, waiting: usize) -> bool {
        let was_open = matches!(self.phase, Phase::Open { .. });
        let old = match self.phase {
            Phase::Closed { spread, .. } => spread,
            Phase::Open { .. } => Duration::ZERO,
        };
        let new = RELEASE_EACH.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)).min(RELEASE_MAX);
        self.phase = Phase::Closed { failures: 0, spread: if was_open { new } else { old } };
        was_open
    }

    /// A call found nobody. `stretch` makes the wait until the next probe out of its shortest. Tells whether that changes
    /// anything for those who wait.
    pub fn fails(
        &mut self,
        pass: Option<u64>,
        error: &ToolError,
        now: Instant,
        stretch: impl FnOnce(Duration) -> Duration,
    ) -> bool {
        match &mut self.phase {
            Phase::Closed { failures, .. } => {
                *failures += 1;
                if *failures < FAILURES_MAX {
                    return false;
                }
                let (next, error) = (now + stretch(PROBE_AFTER), error.clone());
                self.phase = Phase::Open { next, wait: PROBE_AFTER, probe: None, error };
                true
            }
            Phase::Open { next, wait, probe, error: last } => {
                if probe.is_none() || *probe != pass {
                    return false;
                }
                *wait = wait.saturating_mul(2).min(PROBE_AFTER_MAX);
                (*next, *probe) = (now + stretch(*wait), None);
                last.clone_from(error);
                true
            }
        }
    }

    /// The probe was dropped before it had found out anything: somebody else may probe at once.
    pub fn dropped(&mut self, pass: u64) -> bool {
        match &mut self.phase {
            Phase::Open { probe, .. } if *probe == Some(pass) => {
                *probe = None;
                true
            }
            Phase::Open { .. } | Phase::Closed { .. } => false,
        }
    }

    /// As the gauge shows it: 0 lets calls go, 1 does not, 2 has a probe under way.
    pub fn shown(&self) -> u64 {
        match &self.phase {
            Phase::Closed { .. } => 0,
            Phase::Open { probe: None, .. } => 1,
            Phase::Open { probe: Some(_), .. } => 2,
        }
    }

    fn spread(&self) -> Duration {
        match &self.phase {
            Phase::Closed { spread, .. } => *spread,
            Phase::Open { .. } => Duration::ZERO,
        }
    }
}

/// The breaker of an upstream, shared by all calls to it. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    breaker: Arc<watch::Sender<Breaker>>,
    randomness: Arc<dyn Randomness>,
    /// Who shows how it stands.
    told: Option<Address<GatewayMsg>>,
}

impl Door {
    /// An open door: a closed breaker.
    pub fn new(randomness: Arc<dyn Randomness>) -> Self {
        Self { breaker: Arc::new(watch::Sender::new(Breaker::default())), randomness, told: None }
    }

    /// The same, whose changes are told there.
    #[must_use]
    pub fn telling(mut self, address: Address<GatewayMsg>) -> Self {
        self.told = Some(address);
        self
    }

    /// As [`Breaker::shown`].
    pub fn shown(&self) -> u64 {
        self.breaker.borrow().shown()
    }

    /// Asks whether a call may go. Who holds the pass says what came of it.
    pub(super) fn ask(&self) -> Result<Pass, Held> {
        let mut leave = Leave::Go(None);
        self.breaker.send_if_modified(|breaker| {
            leave = breaker.ask(Instant::now());
            false
        });
        match leave {
            Leave::Go(probe) => {
                if probe.is_some() {
                    self.tell();
                }
                Ok(Pass { door: self.clone(), probe })
            }
            Leave::Wait { until, error } => Err(Held { until, error }),
        }
    }

    /// A place among those who wait; they are counted by it.
    pub(super) fn queue(&self) -> Queued {
        Queued { changes: self.breaker.subscribe(), randomness: Arc::clone(&self.randomness) }
    }

    /// The other side was heard of.
    pub(super) fn lives(&self) {
        let waiting = self.breaker.receiver_count();
        self.change(|breaker| breaker.lives(waiting));
    }

    fn change(&self, change: impl FnOnce(&mut Breaker) -> bool) {
        if self.breaker.send_if_modified(change) {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(address) = &self.told {
            address.tell(GatewayMsg::Breaker);
        }
    }
}

/// Why a call may not go out, and when it may ask again; none: when the probe is through.
pub(super) struct Held {
    pub(super) until: Option<Instant>,
    pub(super) error: ToolError,
}

/// A call that waits.
pub(super) struct Queued {
    changes: watch::Receiver<Breaker>,
    randomness: Arc<dyn Randomness>,
}

impl Queued {
    /// Waits until it is worth asking again. Those who waited for the same do not come back all at once.
    pub(super) async fn wait(&mut self, until: Option<Instant>) {
        // What changed between the question and now is not slept through.
        let is_closed = self.changes.borrow_and_update().shown() == 0;
        if !is_closed {
            tokio::select! {
                biased;
                () = sleep_until(until) => {}
                // The sender lives as long as the door by which this is held.
                _ = self.changes.changed() => {}
            }
        }
        let spread = self.changes.borrow().spread();
        if !spread.is_zero() {
            tokio::time::sleep(below(&*self.randomness, spread)).await;
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// A call that may go out; who holds it says what came of it. Dropped without a word, it says nothing of the other side.
pub(super) struct Pass {
    door: Door,
    probe: Option<u64>,
}

impl Pass {
    /// The other side was heard of.
    pub(super) fn lives(self) {
        self.door.lives();
    }

    /// Nobody was found.
    pub(super) fn fails(self, error: &ToolError) {
        let (door, probe) = (self.door.clone(), self.probe);
        let stretch = |shortest: Duration| shortest + below(&*door.randomness, shortest / 4);
        door.change(|breaker| breaker.fails(probe, error, Instant::now(), stretch));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(probe) = self.probe {
            self.door.change(|breaker| breaker.dropped(probe));
        }
    }
}

/// A random time below this one.
pub(super) fn below(randomness: &dyn Randomness, ceiling: Duration) -> Duration {
    let ceiling = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    // The high half of a product of 64-bit numbers is below the ceiling, and even enough.
    let random = randomness.u128() & u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from((random * u128::from(ceiling)) >> 64).unwrap_or(ceiling))
}
