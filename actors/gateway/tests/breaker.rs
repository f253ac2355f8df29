//! The breaker by rows, and 64 calls at one door. Time is paused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakitu_kernel::chat::{Finish, ModelAnswer, ModelRequest};
use lakitu_kernel::clock::System;
use lakitu_kernel::ports::{BoxFuture, Delta, DeltaSink, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ToolError};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};

use super::{no_sink, request};
use crate::gateway::breaker::{Breaker, FAILURES_MAX, Leave, PROBE_AFTER, PROBE_AFTER_MAX};
use crate::gateway::failure::{status, unreachable};
use crate::gateway::{Notice, Patience, RetryPolicy, Route};

const SECOND: Duration = Duration::from_secs(1);

fn away() -> ToolError {
    unreachable("connect", "down").error
}

/// A breaker that was just opened, its waits as short as they get.
fn opened(now: Instant) -> Breaker {
    let mut breaker = Breaker::default();
    for failure in 1..=FAILURES_MAX {
        assert_eq!(breaker.ask(now), Leave::Go(None), "before failure {failure}");
        assert_eq!(breaker.fails(None, &away(), now, |shortest| shortest), failure == FAILURES_MAX);
    }
    breaker
}

#[test]
fn it_opens_behind_five_failures_in_a_row_and_an_answer_between_them_counts_anew() {
    let now = Instant::now();
    let mut breaker = Breaker::default();
    for _ in 0..3 {
        for _ in 1..FAILURES_MAX {
            breaker.fails(None, &away(), now, |shortest| shortest);
        }
        assert!(!breaker.lives(0) && breaker.shown() == 0);
    }
    assert_eq!(opened(now).ask(now), Leave::Wait { until: Some(now + PROBE_AFTER), error: away() });
}

#[test]
fn one_probe_goes_at_a_time_and_each_failure_doubles_the_wait() {
    let mut now = Instant::now();
    let mut breaker = opened(now);
    for (probe, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        let due = now + seconds * SECOND;
        assert_eq!(breaker.ask(due - SECOND / 1000), Leave::Wait { until: Some(due), error: away() });
        let pass = Some(probe as u64 + 1);
        assert_eq!(breaker.ask(due), Leave::Go(pass));
        assert_eq!((breaker.ask(due), breaker.shown()), (Leave::Wait { until: None, error: away() }, 2));
        // What was sent before the breaker opened says nothing new.
        assert!(!breaker.fails(None, &away(), due, |shortest| shortest));
        assert!(breaker.fails(pass, &away(), due, |shortest| shortest));
        now = due;
    }
    assert_eq!(PROBE_AFTER_MAX, 60 * SECOND);
    assert!(breaker.lives(64));
    assert_eq!((breaker.ask(now), breaker.shown()), (Leave::Go(None), 0));
}

#[test]
fn a_probe_that_is_dropped_makes_room_for_another_and_an_old_one_does_not() {
    let now = Instant::now() + SECOND;
    let mut breaker = opened(now - SECOND);
    assert_eq!(breaker.ask(now), Leave::Go(Some(1)));
    assert!(breaker.dropped(1));
    assert_eq!(breaker.ask(now), Leave::Go(Some(2)));
    assert!(!breaker.dropped(1));
    assert!(matches!(breaker.ask(now), Leave::Wait { until: None, .. }));
    assert!(!breaker.fails(Some(1), &away(), now, |shortest| shortest));
}

/// Nobody there until some moment, from then on an answer within two seconds.
struct Away {
    until: Instant,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

impl Gateway for Away {
    fn complete(&self, _: ModelRequest, deltas: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let is_back = Instant::now() >= self.until;
        self.arrivals.lock().unwrap().push(Instant::now());
        Box::pin(async move {
            sleep(SECOND / 10).await;
            if !is_back {
                return Err(unreachable("connect", "down"));
            }
            deltas(Delta::Text("o".into()));
            sleep(2 * SECOND).await;
            Ok(answer())
        })
    }
}

fn answer() -> ModelAnswer {
    ModelAnswer { text: "ok".into(), calls: vec![], finish: Finish::Stop, usage: None, model: None, opaque: None }
}

fn route(away: Duration, patience: Patience) -> (Route, Arc<Mutex<Vec<Instant>>>) {
    let arrivals = Arc::default();
    let upstream = Away { until: Instant::now() + away, arrivals: Arc::clone(&arrivals) };
    (Route::new(Arc::new(upstream), RetryPolicy::with(patience), Arc::new(System)), arrivals)
}

/// So many calls at once, to their ends.
async fn calls(route: &Route, many: u32) -> Vec<Result<ModelAnswer, ModelFailure>> {
    let mut calls = JoinSet::new();
    for turn in 1..=many {
        let route = route.clone();
        calls.spawn(async move { route.complete(request(turn, &json!([])), no_sink(), |_| {}).await });
    }
    calls.join_all().await
}

/// The most of these moments in a window of that width.
fn most(moments: &[Instant], width: Duration) -> usize {
    let within = |from: &Instant| moments.iter().filter(|at| **at >= *from && **at < *from + width).count();
    moments.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn sixty_four_calls_wait_out_an_hour_and_do_not_come_back_in_one_wave() {
    let hour = Duration::from_hours(1);
    let (route, arrivals) = route(hour, Patience::Endless);
    let begun = Instant::now();
    let outcomes = calls(&route, 64).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(begun.elapsed() < hour + 2 * Duration::from_mins(1), "{:?}", begun.elapsed());
    let arrivals = arrivals.lock().unwrap().clone();
    // The first wave cannot know. Behind it there is one at a time.
    let (first, rest): (Vec<_>, Vec<_>) = arrivals.iter().partition(|at| at.duration_since(begun) < SECOND / 10);
    let (during, after): (Vec<Instant>, Vec<Instant>) =
        rest.into_iter().partition(|at: &Instant| at.duration_since(begun) < hour);
    assert_eq!((first.len(), after.len()), (64, 64));
    assert!((45..=70).contains(&during.len()), "{} probes in an hour", during.len());
    let late: Vec<Instant> =
        during.iter().copied().filter(|at| at.duration_since(begun) > Duration::from_mins(2)).collect();
    assert_eq!(most(&late, Duration::from_mins(1)), 1, "at most one a minute for who is away for long");
    // They come back over 64 times 50 ms: within a second no more than twice of what would be even.
    let (wave, peak) = (most(&after, SECOND / 10), most(&after, SECOND));
    assert!(wave <= 16 && peak <= 2 * 20, "{wave} within 100 ms, {peak} within a second");
    println!("{} probes in the hour, at most {wave} of 64 within 100 ms behind it", during.len());
}

#[tokio::test(start_paused = true)]
async fn calls_with_bounded_patience_are_given_up_in_time_held_or_not() {
    let patience = Patience::Bounded { attempts_max: 10, total_max: Duration::from_mins(10) };
    let (route, arrivals) = route(Duration::from_hours(1), patience);
    let begun = Instant::now();
    for outcome in calls(&route, 64).await {
        let failure = outcome.unwrap_err();
        assert_eq!(failure.error.code, ErrorCode::GatewayUnreachable);
        assert!(failure.error.message.contains("given up after"), "{failure}");
    }
    assert!(begun.elapsed() <= Duration::from_mins(10), "{:?}", begun.elapsed());
    assert!(arrivals.lock().unwrap().len() < 64 * 2, "{:?}", arrivals.lock().unwrap().len());
    // One that comes while the breaker is open is told why nobody goes, though it was never sent itself.
    let mut few = route.clone();
    few.policy = RetryPolicy::with(Patience::Bounded { attempts_max: 1, total_max: SECOND / 100 });
    let failure = calls(&few, 1).await.remove(0).unwrap_err();
    assert!(failure.error.message.contains("down (given up after 0 attempts"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_call_says_once_that_it_is_held_and_that_it_is_stalled() {
    let (route, _) = route(Duration::from_mins(10), Patience::Endless);
    let told = Mutex::new(Vec::new());
    let begun = Instant::now();
    let notice = |notice| told.lock().unwrap().push((begun.elapsed(), notice));
    route.complete(request(1, &json!([])), no_sink(), notice).await.unwrap();
    let told = told.into_inner().unwrap();
    let stalled: Vec<_> = told.iter().filter(|(_, notice)| matches!(notice, Notice::Stalled(_))).collect();
    assert_eq!(stalled.len(), 1);
    assert!((30..35).contains(&stalled[0].0.as_secs()), "{stalled:?}");
    assert!(told.iter().any(|(_, notice)| matches!(notice, Notice::Held(_))));
}

/// Fails like this, always.
struct Fails(ModelFailure);

impl Gateway for Fails {
    fn complete(&self, _: ModelRequest, _: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let failure = self.0.clone();
        Box::pin(async move { Err(failure) })
    }
}

#[tokio::test(start_paused = true)]
async fn what_answers_is_not_away_whatever_it_says() {
    let rows = [
        (status(400, None, b""), 0),
        (status(401, None, b""), 0),
        (status(403, None, b""), 0),
        (status(413, None, b""), 0),
        (status(429, Some(SECOND), b""), 0),
        (status(503, Some(SECOND), b""), 0),
        (status(503, None, b""), 1),
        (status(502, None, b"<html>"), 1),
    ];
    for (failure, expected) in rows {
        let patience = Patience::Bounded { attempts_max: 1, total_max: SECOND };
        let route = Route::new(Arc::new(Fails(failure.clone())), RetryPolicy::with(patience), Arc::new(System));
        assert!(calls(&route, 8).await.iter().all(Result::is_err));
        assert_eq!(route.breaker(), expected, "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_cancelled_lets_the_next_one_probe_at_once() {
    let (route, arrivals) = route(Duration::from_mins(10), Patience::Endless);
    let first = tokio::time::timeout(20 * SECOND, calls(&route, 8)).await;
    assert!(first.is_err());
    // All of them are gone now, one of them perhaps as the probe: the door is not held by it.
    let before = arrivals.lock().unwrap().len();
    advance(2 * PROBE_AFTER_MAX).await;
    let probe = tokio::time::timeout(SECOND / 100, calls(&route, 1)).await;
    assert!(probe.is_err() && arrivals.lock().unwrap().len() == before + 1);
    let probe = tokio::time::timeout(SECOND / 100, calls(&route, 1)).await;
    assert!(probe.is_err() && arrivals.lock().unwrap().len() == before + 2);
}
