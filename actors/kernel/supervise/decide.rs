//! What follows when a child ends. Pure: every row of the policy has a unit test.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::planted::{Planted, planted};

/// Which ends are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Every end.
    Permanent,
    /// Every end but a normal one.
    Transient,
    /// None.
    Temporary,
}

/// At most this many restarts within this time. Restarts that were asked for do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts.
    pub restarts: usize,
    /// Length of the window.
    pub within: Duration,
}

/// What follows past the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The service answers `UNAVAILABLE` and is tried again after this time.
    Quarantine(Duration),
    /// The parent is told, the child forgotten.
    Settle,
    /// The service stays failed, with one retry every so long.
    Fail(Duration),
    /// The supervisor itself fails; at the root the process ends.
    Escalate,
}

/// How a child is treated when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Which ends are followed by a restart.
    pub restart: Restart,
    /// The window.
    pub intensity: Intensity,
    /// What follows past it.
    pub exhausted: Exhausted,
}

/// The delays around restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Shortest delay before a restart.
    pub shortest: Duration,
    /// Longest delay before a restart.
    pub longest: Duration,
    /// A child that stayed up this long starts afresh.
    pub steady: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { shortest: Duration::from_millis(10), longest: Duration::from_secs(5), steady: Duration::from_secs(30) }
    }
}

/// How a child ended, unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It announced that it is done.
    Done,
    /// It failed, or its start did; `up` is how long it ran.
    Failed {
        /// Zero for a failed start.
        up: Duration,
    },
}

/// What is remembered of a child's restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    recent: VecDeque<Instant>,
    /// It was past its window and has not stayed up since: the next failure is past it again.
    probation: bool,
}

/// What the supervisor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start again after this time.
    Restart {
        /// How long to wait first.
        after: Duration,
    },
    /// No restart.
    Forget,
    /// Past the window.
    Exhausted(Exhausted),
}

/// The moment of a decision: the only impure things that it rests on.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// Any 64 random bits.
    pub random: u64,
}

/// Decides what follows an end that the supervisor did not ask for.
pub fn decide(policy: &Policy, pace: &Pace, exit: Exit, history: &mut History, moment: Moment) -> Decision {
    match (policy.restart, exit) {
        (Restart::Temporary, Exit::Done | Exit::Failed { .. }) | (Restart::Transient, Exit::Done) => {
            return Decision::Forget;
        }
        (Restart::Permanent, Exit::Done) | (Restart::Permanent | Restart::Transient, Exit::Failed { .. }) => {}
    }
    if let Exit::Failed { up } = exit
        && up >= pace.steady
    {
        *history = History::default();
    }
    let within = policy.intensity.within;
    history.recent.retain(|at| moment.now.saturating_duration_since(*at) <= within);
    if history.probation || history.recent.len() >= policy.intensity.restarts {
        history.probation = true;
        return Decision::Exhausted(policy.exhausted);
    }
    history.recent.push_back(moment.now);
    if planted(Planted::RestartWithoutBackoff) {
        return Decision::Restart { after: Duration::ZERO };
    }
    Decision::Restart { after: backoff(pace, history.recent.len(), moment.random) }
}

/// The `nth` delay in a row (from 1): somewhere between the shortest and a ceiling that doubles up to the longest.
///
/// Full jitter, so that children which fell together do not rise together.
fn backoff(pace: &Pace, nth: usize, random: u64) -> Duration {
    let doublings = u32::try_from(nth.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
    let ceiling = pace.shortest.saturating_mul(1 << doublings).min(pace.longest);
    let span = ceiling.saturating_sub(pace.shortest);
    let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    pace.shortest.min(pace.longest) + Duration::from_micros(random % span.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        restart: Restart::Permanent,
        intensity: Intensity { restarts: 3, within: Duration::from_mins(1) },
        exhausted: Exhausted::Settle,
    };
    const CRASH: Exit = Exit::Failed { up: Duration::ZERO };

    /// Delays in ms, or -1 for forget, -2 for exhausted, of exits at these seconds.
    fn run(policy: Policy, random: u64, exits: &[(u64, Exit)]) -> Vec<i64> {
        let start = Instant::now();
        let mut history = History::default();
        exits
            .iter()
            .map(|(second, exit)| {
                let moment = Moment { now: start + Duration::from_secs(*second), random };
                match decide(&policy, &Pace::default(), *exit, &mut history, moment) {
                    Decision::Restart { after } => i64::try_from(after.as_millis()).unwrap(),
                    Decision::Forget => -1,
                    Decision::Exhausted(_) => -2,
                }
            })
            .collect()
    }

    #[test]
    fn each_restart_type_answers_each_end() {
        let rows = [
            (Restart::Permanent, Exit::Done, 10),
            (Restart::Permanent, CRASH, 10),
            (Restart::Transient, Exit::Done, -1),
            (Restart::Transient, CRASH, 10),
            (Restart::Temporary, Exit::Done, -1),
            (Restart::Temporary, CRASH, -1),
        ];
        for (restart, exit, expected) in rows {
            assert_eq!(run(Policy { restart, ..POLICY }, 0, &[(0, exit)]), [expected], "{restart:?} {exit:?}");
        }
    }

    #[test]
    fn one_restart_more_than_the_intensity_within_the_window_is_past_it() {
        assert_eq!(run(POLICY, 0, &[(0, CRASH), (1, CRASH), (2, CRASH), (3, CRASH)]), [10, 10, 10, -2]);
    }

    #[test]
    fn restarts_older_than_the_window_do_not_count() {
        assert_eq!(run(POLICY, 0, &[(0, CRASH), (1, CRASH), (2, CRASH), (61, CRASH)]), [10, 10, 10, 10]);
        assert_eq!(run(POLICY, 0, &[(0, CRASH), (1, CRASH), (2, CRASH), (60, CRASH)]), [10, 10, 10, -2]);
    }

    #[test]
    fn a_child_that_stayed_up_thirty_seconds_starts_afresh() {
        let steady = Exit::Failed { up: Duration::from_secs(30) };
        let nearly = Exit::Failed { up: Duration::from_millis(29_999) };
        assert_eq!(run(POLICY, 0, &[(0, CRASH), (1, CRASH), (2, CRASH), (33, steady)]), [10, 10, 10, 10]);
        assert_eq!(run(POLICY, 0, &[(0, CRASH), (1, CRASH), (2, CRASH), (33, nearly)]), [10, 10, 10, -2]);
    }

    #[test]
    fn past_its_window_a_child_has_one_try_at_a_time_until_it_stays_up() {
        let steady = Exit::Failed { up: Duration::from_secs(40) };
        let none = Policy { intensity: Intensity { restarts: 1, ..POLICY.intensity }, ..POLICY };
        assert_eq!(run(none, 0, &[(0, CRASH), (1, CRASH), (200, CRASH), (300, steady)]), [10, -2, -2, 10]);
    }

    #[test]
    fn no_restart_at_all_is_an_intensity_of_zero() {
        let none = Policy { intensity: Intensity { restarts: 0, ..POLICY.intensity }, ..POLICY };
        assert_eq!(run(none, 0, &[(0, CRASH)]), [-2]);
    }

    #[test]
    fn delays_double_from_ten_milliseconds_to_five_seconds_under_full_jitter() {
        let pace = Pace::default();
        for (nth, ceiling) in [(1, 10), (2, 20), (3, 40), (9, 2560), (10, 5000), (11, 5000), (4000, 5000)] {
            let ceiling = Duration::from_millis(ceiling);
            let span = u64::try_from((ceiling.saturating_sub(pace.shortest)).as_micros()).unwrap();
            assert_eq!(backoff(&pace, nth, 0), pace.shortest, "{nth}: the least");
            assert_eq!(backoff(&pace, nth, span), ceiling, "{nth}: the most");
            for random in [1, 77, 12_345_678_901, u64::MAX] {
                assert!((pace.shortest..=ceiling).contains(&backoff(&pace, nth, random)));
            }
        }
    }
}
