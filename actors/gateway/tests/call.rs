use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakitu_kernel::ErrorCode;
use lakitu_kernel::chat::{Finish, ModelAnswer, ModelRequest};
use lakitu_kernel::ports::{BoxFuture, Delta, DeltaSink, FailureClass, Gateway, ModelFailure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Steps, request, shown, sink};
use crate::gateway::call::SENSELESS_MAX;
use crate::gateway::failure::{protocol, senseless, status, unreachable};
use crate::gateway::{Deadlines, Notice, Patience, Retry, RetryPolicy, Route};

/// What one attempt does: signs of life at these seconds, then its outcome at that second, or never.
struct Attempt {
    life: Vec<(u64, &'static str)>,
    ends: Option<(u64, Result<(), ModelFailure>)>,
}

/// The key and the bytes of one attempt.
type Sent = (String, Vec<u8>);

#[derive(Default)]
struct Mock {
    attempts: Mutex<VecDeque<Attempt>>,
    keys: Arc<Mutex<Vec<Sent>>>,
}

impl Gateway for Mock {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        self.keys.lock().unwrap().push((request.idempotency_key(), request.body_bytes()));
        let attempt = self.attempts.lock().unwrap().pop_front();
        Box::pin(async move {
            let Some(Attempt { life, ends }) = attempt else { return Err(unreachable("connect", "down")) };
            let begun = Instant::now();
            for (at, text) in life {
                tokio::time::sleep_until(begun + Duration::from_secs(at)).await;
                deltas(Delta::Text(text.into()));
            }
            let Some((at, outcome)) = ends else { return std::future::pending().await };
            tokio::time::sleep_until(begun + Duration::from_secs(at)).await;
            outcome.map(|()| ModelAnswer {
                text: "ok".into(),
                calls: Vec::new(),
                finish: Finish::Stop,
                usage: None,
                model: None,
                opaque: None,
            })
        })
    }
}

fn bounded(attempts_max: u32, total_max: Duration) -> RetryPolicy {
    RetryPolicy::with(Patience::Bounded { attempts_max, total_max })
}

fn fails(failure: ModelFailure) -> Attempt {
    Attempt { life: Vec::new(), ends: Some((0, Err(failure))) }
}

fn answers() -> Attempt {
    Attempt { life: Vec::new(), ends: Some((0, Ok(()))) }
}

struct Outcome {
    result: Result<ModelAnswer, ModelFailure>,
    retries: Vec<Retry>,
    took: Duration,
    keys: Vec<Sent>,
    shown: String,
}

async fn run(attempts: Vec<Attempt>, policy: RetryPolicy) -> Outcome {
    let mock = Mock { attempts: Mutex::new(attempts.into()), keys: Arc::default() };
    let keys = Arc::clone(&mock.keys);
    let route = Route::new(Arc::new(mock), policy, Arc::new(Steps(0x2000_0000_0000_0000.into())));
    let (deltas, mut received) = sink();
    let (begun, retries) = (Instant::now(), Mutex::new(Vec::new()));
    let request = request(3, &json!([{"role": "user", "content": "hi"}]));
    let notice = |notice| {
        if let Notice::Retry(retry) = notice {
            retries.lock().unwrap().push(retry);
        }
    };
    let result = route.complete(request, deltas, notice).await;
    let keys = keys.lock().unwrap().clone();
    Outcome { result, retries: retries.into_inner().unwrap(), took: begun.elapsed(), keys, shown: shown(&mut received) }
}

/// F03.
#[tokio::test(start_paused = true)]
async fn a_wait_doubles_with_jitter_and_every_attempt_is_the_same_request() {
    let outcome = run((0..12).map(|_| fails(protocol("x"))).chain([answers()]).collect(), RetryPolicy::default()).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.retries.iter().map(|retry| retry.attempt).collect::<Vec<_>>(), (2..=13).collect::<Vec<_>>());
    for (at, retry) in outcome.retries.iter().enumerate() {
        let ceiling = (500 << at).min(60_000);
        assert!(retry.after_ms < ceiling, "{retry:?} is over {ceiling}");
    }
    assert!(outcome.retries.iter().any(|retry| retry.after_ms > 30_000), "the jitter is full: {:?}", outcome.retries);
    assert!(outcome.keys.iter().all(|key| *key == outcome.keys[0]));
    assert_eq!(outcome.keys[0].0, format!("{}:3", lakitu_kernel::ThreadId(7)));
}

/// F01, F02.
#[tokio::test(start_paused = true)]
async fn a_time_that_is_asked_for_is_kept_to_within_bounds() {
    for (asked, least, most) in [(7, 7000, 7500), (0, 0, 500), (299, 299_000, 299_500), (1_000_000, 300_000, 300_000)] {
        let failure = status(429, Some(Duration::from_secs(asked)), b"");
        let outcome = run(vec![fails(failure), answers()], RetryPolicy::default()).await;
        assert!((least..=most).contains(&outcome.retries[0].after_ms), "{asked}: {:?}", outcome.retries);
        assert_eq!(outcome.keys.len(), 2);
        assert!(outcome.retries[0].error.message.contains("429"));
    }
}

/// F04, F05, F06, F07.
#[tokio::test(start_paused = true)]
async fn only_what_may_help_is_tried_again() {
    for (code, requests) in [(400, 1), (401, 2), (403, 1), (404, 1), (413, 1), (422, 1), (302, 1)] {
        let attempts = (0..4).map(|_| fails(status(code, None, b""))).collect();
        let outcome = run(attempts, RetryPolicy::default()).await;
        assert_eq!(outcome.keys.len(), requests, "{code}");
        assert_eq!(outcome.took, Duration::ZERO, "{code}");
        assert!(outcome.result.is_err());
    }
    let fresh = run(vec![fails(status(401, None, b"")), answers()], RetryPolicy::default()).await;
    assert!(fresh.result.is_ok(), "a token that was replaced meanwhile is taken");
}

/// F03.
#[tokio::test(start_paused = true)]
async fn attempts_and_time_are_bounded() {
    let few = bounded(4, Duration::from_hours(1));
    let outcome = run(Vec::new(), few).await;
    let failure = outcome.result.unwrap_err();
    assert_eq!((outcome.keys.len(), failure.error.code), (4, ErrorCode::GatewayUnreachable));
    assert!(failure.error.message.contains("4 attempts"), "{failure}");

    let short = bounded(70, Duration::from_secs(20));
    let outcome = run(Vec::new(), short).await;
    assert!(outcome.took <= Duration::from_secs(20) && outcome.keys.len() > 3, "{:?}", outcome.took);

    let hour = run(Vec::new(), RetryPolicy::default()).await;
    assert!(hour.keys.len() <= 70 && hour.took > Duration::from_mins(20), "{} in {:?}", hour.keys.len(), hour.took);
}

/// F12: what was paid for and makes no sense is not bought for ever, whatever the patience.
#[tokio::test(start_paused = true)]
async fn answers_without_sense_are_bounded_where_outages_are_not() {
    let endless = RetryPolicy::with(Patience::Endless);
    let bad = |times: u32| (0..times).flat_map(|_| [fails(unreachable("connect", "x")), fails(senseless("no end"))]);
    let outcome = run(bad(SENSELESS_MAX - 1).chain([answers()]).collect(), endless).await;
    assert!(outcome.result.is_ok());
    let outcome = run(bad(SENSELESS_MAX).chain([answers()]).collect(), endless).await;
    let failure = outcome.result.unwrap_err();
    assert_eq!((failure.class, failure.error.code), (FailureClass::Refused, ErrorCode::GatewayProtocol));
    assert!(failure.error.message.starts_with("no end (given up after 16 attempts"), "{failure}");
}

/// F10.
#[tokio::test(start_paused = true)]
async fn each_deadline_ends_an_attempt_on_time() {
    let slow: Vec<(u64, &str)> = (0..100).map(|at| (at * 20, "")).collect();
    let rows: Vec<(Attempt, u64, &str)> = vec![
        (Attempt { life: vec![], ends: None }, 30, "no first byte within 30 s"),
        (Attempt { life: vec![], ends: Some((31, Ok(()))) }, 30, "no first byte"),
        (Attempt { life: vec![(29, ""), (60, "a")], ends: None }, 120, "no more data within 60 s"),
        (Attempt { life: vec![(1, "a")], ends: Some((62, Ok(()))) }, 61, "no more data"),
        (Attempt { life: slow, ends: None }, 600, "no whole answer within 600 s"),
    ];
    let once = bounded(1, Duration::from_hours(1));
    for (attempt, seconds, message) in rows {
        let outcome = run(vec![attempt], once).await;
        let failure = outcome.result.unwrap_err();
        assert!(failure.error.message.contains(message), "{failure}");
        assert_eq!(failure.class, FailureClass::Retry { after: None });
        let late = outcome.took.saturating_sub(Duration::from_secs(seconds));
        assert!(outcome.took.as_secs() >= seconds && late < Duration::from_secs(1), "{message}: {:?}", outcome.took);
    }
    let patient = Deadlines { first_byte: Duration::from_mins(5), ..Deadlines::default() };
    let attempt = Attempt { life: vec![(5, "a")], ends: None };
    let outcome = run(vec![attempt], RetryPolicy { deadlines: patient, ..once }).await;
    assert!(outcome.result.unwrap_err().error.message.contains("no more data"));
    assert!(outcome.took <= Duration::from_mins(2), "{:?}", outcome.took);
    let in_time = Attempt { life: vec![(29, ""), (88, "a")], ends: Some((147, Ok(()))) };
    assert!(run(vec![in_time], once).await.result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn deltas_of_a_failed_attempt_stay_and_signs_of_life_are_not_shown() {
    let first = Attempt { life: vec![(0, "ha"), (1, ""), (2, "lf ")], ends: Some((3, Err(protocol("cut")))) };
    let second = Attempt { life: vec![(0, "whole")], ends: Some((1, Ok(()))) };
    let outcome = run(vec![first, second], RetryPolicy::default()).await;
    assert_eq!(outcome.shown, "half whole");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_attempt() {
    let mock = Mock {
        attempts: Mutex::new([Attempt { life: vec![(1, "a"), (9, "b")], ends: None }].into()),
        keys: Arc::default(),
    };
    let route = Route::new(Arc::new(mock), RetryPolicy::default(), Arc::new(Steps(0.into())));
    let (deltas, mut received) = sink();
    let call = route.complete(request(1, &json!([])), deltas, |_| {});
    tokio::select! {
        _ = call => panic!("it has no end"),
        () = sleep(Duration::from_secs(5)) => {}
    }
    sleep(Duration::from_mins(1)).await;
    assert_eq!(shown(&mut received), "a");
    assert!(received.is_closed() || received.try_recv().is_err());
}
