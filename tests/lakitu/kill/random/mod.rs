//! Threads of two hundred turns with parallel calls, killed at random moments until they are through.
//!
//! A seed determines what the thread does and where it is killed: most kills come a moment after a line that it printed, so
//! they fall on every part of the thread however fast the machine is; the others come soon after a start. What exactly is
//! under way then is up to the machine.

mod judge;
mod plan;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::binary::{Binary, Ended, PATIENCE, Process};
use super::dice::Dice;
use super::{long, pool};
use judge::{Ends, Heard, judge, under_way};
use plan::{Plan, TURNS};

const KILLS_PER_THREAD: usize = 34;
const THREADS: u64 = 3;
const THREADS_LONG: u64 = 32;
/// Lines that a process prints before it is killed, at most: together fewer than a thread has.
const LINES_MAX: u64 = 150;
/// How much later it is killed, at most.
const DELAY_US_MAX: u64 = 20_000;
/// Of the lives that end soon after their start.
const LIFE_US_MAX: u64 = 400_000;
/// A thread takes long where many work on one machine.
const THROUGH_MAX: Duration = Duration::from_mins(10);

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    AfterLines(u64, Duration),
    AfterStart(Duration),
}

impl Moment {
    fn new(dice: &mut Dice) -> Self {
        if dice.below(4) == 0 {
            Self::AfterStart(Duration::from_micros(dice.below(LIFE_US_MAX)))
        } else {
            Self::AfterLines(1 + dice.below(LINES_MAX), Duration::from_micros(dice.below(DELAY_US_MAX)))
        }
    }

    /// Whether the process lives until then.
    fn comes(self, process: &mut Process) -> bool {
        match self {
            Self::AfterStart(life) => process.hear_until(Instant::now() + life),
            Self::AfterLines(lines, delay) => {
                (0..lines).all(|_| process.next(PATIENCE).is_ok()) && process.hear_until(Instant::now() + delay)
            }
        }
    }
}

/// What all threads came to.
#[derive(Default)]
struct Figures {
    threads: usize,
    kills: usize,
    acknowledged: usize,
    under_way: usize,
    ends: Ends,
    /// From a start to the first question to the model, where it lived so long.
    asked: Vec<Duration>,
}

impl Figures {
    fn add(&mut self, more: Self) {
        self.threads += 1;
        self.kills += more.kills;
        self.acknowledged += more.acknowledged;
        self.under_way += more.under_way;
        self.ends.calls += more.ends.calls;
        self.ends.effects += more.ends.effects;
        self.ends.doubled += more.ends.doubled;
        self.ends.lost += more.ends.lost;
        self.ends.interrupted += more.ends.interrupted;
        self.ends.refused += more.ends.refused;
        self.asked.extend(more.asked);
    }

    fn told(mut self) -> String {
        self.asked.sort();
        let at =
            |percent: usize| self.asked.get((self.asked.len() * percent / 100).min(self.asked.len().saturating_sub(1)));
        let Self { threads, kills, acknowledged, under_way, ends, asked } = &self;
        format!(
            "{kills} kills of {threads} threads of {TURNS} turns: {acknowledged} acknowledged events, 0 lost; {} effects of {} \
             calls, {} doubled, {} lost; {under_way} calls under way at a kill, {} INTERRUPTED, {} reads not made a third \
             time; 0 open calls, 0 unreadable databases, 0 processes left; the next request after a start: p50 {:?}, p99 \
             {:?}, most {:?}, of {}",
            ends.effects,
            ends.calls,
            ends.doubled,
            ends.lost,
            ends.interrupted,
            ends.refused,
            at(50).unwrap(),
            at(99).unwrap(),
            at(100).unwrap(),
            asked.len(),
        )
    }
}

#[test]
fn threads_of_two_hundred_turns_lose_nothing_and_do_nothing_twice_however_often_they_are_killed() {
    let seeds: Vec<u64> = match std::env::var("LAKITU_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=if long() { THREADS_LONG } else { THREADS }).collect(),
    };
    let figures = Mutex::new(Figures::default());
    let rerun = |seed: &u64| format!("LAKITU_SEED={seed}");
    pool::each(&seeds, rerun, |seed| {
        let of_one = killed_until_through(*seed);
        figures.lock().unwrap().add(of_one);
    });
    let figures = figures.into_inner().unwrap();
    // One that is through before its last kill is no failure; all of them would be.
    assert!(figures.kills * 10 >= seeds.len() * KILLS_PER_THREAD * 8, "{} kills", figures.kills);
    super::say(&figures.told());
}

fn killed_until_through(seed: u64) -> Figures {
    let mut dice = Dice::new(seed);
    let plan = Plan::new(&mut dice);
    let mut binary = Binary::new(&plan.script(&mut dice));
    // Bounds the keeper of a thread that was killed before anybody knew of it. Long enough for any resume.
    binary.set("LAKITU__KEEPER__LEASE_MS", 30_000);
    let (mut heard, mut figures) = (Heard::default(), Figures::default());
    let (mut args, mut through) = (["run", "go"].as_slice(), false);
    while figures.kills < KILLS_PER_THREAD && !through {
        let mut process = binary.start(args);
        let ended = if Moment::new(&mut dice).comes(&mut process) { process.kill() } else { process.end() };
        heard.take(&ended.events);
        figures.asked.extend(ended.first_request.filter(|_| args == ["resume"]));
        match ended.code() {
            None => {
                figures.kills += 1;
                let events = binary.events_of_a_copy();
                heard.assert_kept(&events);
                figures.under_way += under_way(&events);
                args = &["resume"];
            }
            // Nothing had begun.
            Some(2) => args = &["run", "go"],
            code => {
                assert_eq!(code, Some(0), "{ended:?}");
                through = true;
            }
        }
    }
    if !through {
        let ended = last(&binary);
        heard.take(&ended.events);
        figures.asked.extend(ended.first_request);
    }
    binary.assert_nothing_runs(PATIENCE);
    let journal = binary.journal().unwrap();
    heard.assert_kept(&journal.events);
    figures.acknowledged = heard.len();
    figures.ends = judge(&binary, &journal, &plan);
    figures
}

/// The life that comes to its end.
fn last(binary: &Binary) -> Ended {
    let mut process = binary.start(&["resume"]);
    assert!(!process.hear_until(Instant::now() + THROUGH_MAX), "it does not come to its end");
    let ended = process.end();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    ended
}
