//! Which model is asked when the wanted one cannot be had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lakitu_kernel::ErrorCode;
use lakitu_kernel::chat::{Finish, ModelAnswer, ModelRequest};
use lakitu_kernel::clock::System;
use lakitu_kernel::ports::{BoxFuture, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ThreadId, Turn, chat};
use serde_json::Value;

use super::no_sink;
use crate::gateway::call::SENSELESS_MAX;
use crate::gateway::failure::{senseless, status, unreachable};
use crate::gateway::{Notice, Patience, RetryPolicy, Route};

/// Each model with what it always fails with; any other answers.
struct Models {
    fail: BTreeMap<&'static str, ModelFailure>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Gateway for Models {
    fn complete(&self, request: ModelRequest, _: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let body: Value = serde_json::from_slice(&request.body_bytes()).unwrap();
        assert_eq!(body["model"], request.model);
        self.asked.lock().unwrap().push((request.model.clone(), request.idempotency_key()));
        let failure = self.fail.get(&*request.model).cloned();
        Box::pin(async move {
            match failure {
                Some(failure) => Err(failure),
                None => Ok(ModelAnswer {
                    text: "ok".into(),
                    calls: vec![],
                    finish: Finish::Stop,
                    usage: None,
                    model: None,
                    opaque: None,
                }),
            }
        })
    }
}

type Asked = Arc<Mutex<Vec<(String, String)>>>;

fn route<const N: usize>(fallbacks: &[&str], fail: [(&'static str, ModelFailure); N]) -> (Route, Asked) {
    let asked = Asked::default();
    let upstream = Models { fail: fail.into(), asked: Arc::clone(&asked) };
    let patience = Patience::Bounded { attempts_max: 6, total_max: std::time::Duration::from_mins(10) };
    let route = Route::new(Arc::new(upstream), RetryPolicy::with(patience), Arc::new(System));
    let fallbacks: Vec<String> = fallbacks.iter().map(|model| (*model).to_owned()).collect();
    (route.falling_back_to(fallbacks.into()), asked)
}

/// Asks for that turn; what came of it and the models that were said to be next.
async fn ask(route: &Route, turn: u32) -> (Result<ModelAnswer, ModelFailure>, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let notice = |notice| {
        if let Notice::Retry(retry) = notice {
            said.lock().unwrap().extend(retry.model);
        }
    };
    let body = vec![chat::prefix("m", "", []), Bytes::from_static(chat::SUFFIX)];
    let request = ModelRequest { thread: ThreadId(7), turn: Turn(turn), model: "m".into(), body };
    let outcome = route.complete(request, no_sink(), notice).await;
    (outcome, said.into_inner().unwrap())
}

fn models(asked: &Asked) -> Vec<String> {
    asked.lock().unwrap().drain(..).map(|(model, _)| model).collect()
}

fn unknown() -> ModelFailure {
    status(404, None, b"the model does not exist")
}

#[tokio::test(start_paused = true)]
async fn a_model_whose_answers_make_no_sense_is_left_for_another() {
    let (mut route, asked) = route(&["a"], [("m", senseless("nothing said"))]);
    route.policy = RetryPolicy::with(Patience::Endless);
    assert_eq!(ask(&route, 1).await.0.unwrap().model.as_deref(), Some("a"));
    let asked = models(&asked);
    assert_eq!((asked.len(), asked.last().map(String::as_str)), (SENSELESS_MAX as usize + 1, Some("a")));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_model_is_replaced_under_the_same_key_and_skipped_from_then_on() {
    let (route, asked) = route(&["n", "o"], [("m", unknown()), ("n", unknown())]);
    let (outcome, said) = ask(&route, 1).await;
    assert_eq!(outcome.unwrap().model.as_deref(), Some("o"), "what is paid for is what answered");
    assert_eq!(said, ["n", "o"]);
    let keys: Vec<String> = asked.lock().unwrap().iter().map(|(_, key)| key.clone()).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]));
    assert_eq!(models(&asked), ["m", "n", "o"]);
    assert!(ask(&route, 2).await.0.is_ok());
    assert_eq!(models(&asked), ["o"]);
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_model_is_asked_three_times_and_first_again_in_the_next_turn() {
    let (route, asked) = route(&["n"], [("m", status(529, None, b""))]);
    for turn in 1..=2 {
        let (outcome, said) = ask(&route, turn).await;
        assert!(outcome.is_ok() && said == ["n"]);
        assert_eq!(models(&asked), ["m", "m", "m", "n"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_model_does_not_help_with_asks_none() {
    for (failure, asks) in [
        (status(403, None, b""), 1),
        (status(400, None, b"bad"), 1),
        (status(404, None, b"404 page not found"), 1),
        (status(401, None, b""), 2),
        (status(429, None, b""), 6),
        (unreachable("connect", "down"), 6),
    ] {
        let (route, asked) = route(&["n"], [("m", failure.clone())]);
        assert!(ask(&route, 1).await.0.is_err());
        assert_eq!(models(&asked), vec!["m"; asks], "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_none_is_left_the_last_refusal_stands() {
    let (both, asked) = route(&["n"], [("m", unknown()), ("n", unknown())]);
    for turn in 1..=2 {
        let failure = ask(&both, turn).await.0.unwrap_err();
        assert_eq!((failure.class, failure.error.code), (FailureClass::Refused, ErrorCode::GatewayRejected));
        // Both unknown: both are asked again, for they may be known by now.
        assert_eq!(models(&asked), ["m", "n"]);
    }
    let (alone, asked) = route(&[], [("m", unknown())]);
    assert_eq!(ask(&alone, 1).await.0.unwrap_err().class, FailureClass::Refused);
    assert_eq!(models(&asked), ["m"]);
    let (busy, asked) = route(&["n"], [("m", status(503, None, b"")), ("n", status(503, None, b""))]);
    assert!(matches!(ask(&busy, 1).await.0.unwrap_err().class, FailureClass::Overloaded { .. }));
    assert_eq!(models(&asked), ["m", "m", "m", "n", "n", "n"]);
}
