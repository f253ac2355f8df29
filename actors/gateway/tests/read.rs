//! A call whose answers are bodies: from their bytes to what is done about them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::ports::{BoxFuture, DeltaSink, FailureClass, Gateway, ModelFailure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Steps, no_sink, request};
use crate::gateway::{Notice, Patience, RetryPolicy, Route, read};

/// Attempt by attempt one of these bodies; the last one from then on. Its pieces come so far apart, over and over.
struct Bodies(Vec<Vec<String>>, Duration, Mutex<usize>);

impl Gateway for Bodies {
    fn complete(&self, _: ModelRequest, deltas: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let mut asked = self.2.lock().unwrap();
        let pieces = self.0[(*asked).min(self.0.len() - 1)].clone();
        *asked += 1;
        let apart = self.1;
        let body = stream::iter(pieces.into_iter().cycle()).then(move |piece| async move {
            sleep(apart).await;
            Ok(Bytes::from(piece))
        });
        Box::pin(read(body, true, deltas))
    }
}

/// What comes of a call, how often it was asked again, and how long it took.
async fn ask(
    bodies: Vec<Vec<String>>,
    apart: Duration,
    patience: Patience,
) -> (Result<ModelAnswer, ModelFailure>, usize, Duration) {
    let upstream = Arc::new(Bodies(bodies, apart, Mutex::default()));
    let route = Route::new(upstream, RetryPolicy::with(patience), Arc::new(Steps(0.into())));
    let (begun, retries) = (Instant::now(), Mutex::new(0));
    let count = |notice| *retries.lock().unwrap() += usize::from(matches!(notice, Notice::Retry(_)));
    let outcome = route.complete(request(3, &json!([])), no_sink(), count).await;
    (outcome, retries.into_inner().unwrap(), begun.elapsed())
}

fn event(delta: &serde_json::Value, finish: Option<&str>) -> String {
    format!("data: {}\n\n", json!({"choices": [{"delta": delta, "finish_reason": finish}]}))
}

/// F10: what counts is data, not bytes.
#[tokio::test(start_paused = true)]
async fn bytes_without_data_are_no_progress_however_steadily_they_come() {
    let said = event(&json!({"content": "a"}), None);
    let once = Patience::Bounded { attempts_max: 1, total_max: Duration::from_hours(1) };
    for (pieces, apart, seconds) in [
        (vec![": OPENROUTER PROCESSING\n\n"], 5, 30),
        (vec!["data: {", "\"", "x", "x", "x"], 20, 30),
        (vec!["\n", "\r\n", " "], 1, 30),
        // As long as there is data, until it is enough.
        (vec![&*said], 20, 600),
    ] {
        let pieces: Vec<String> = pieces.into_iter().map(str::to_owned).collect();
        let (outcome, _, took) = ask(vec![pieces.clone()], Duration::from_secs(apart), once).await;
        assert_eq!(outcome.unwrap_err().class, FailureClass::Retry { after: None });
        assert_eq!(took.as_secs(), seconds, "{pieces:?}");
    }
}

/// F-06, F-14: thinking alone, white space alone and nothing at all are no answers.
#[tokio::test(start_paused = true)]
async fn an_answer_that_says_nothing_is_asked_for_again() {
    let done = "data: [DONE]\n\n";
    let whole = event(&json!({"content": "a"}), Some("stop")) + done;
    for nothing in [
        event(&json!({"content": null, "tool_calls": null}), Some("stop")),
        event(&json!({"content": ""}), Some("stop")),
        event(&json!({"content": " \n\t\u{a0}"}), Some("stop")),
        event(&json!({"reasoning": "I could say something."}), Some("stop")),
        event(&json!({"content": "", "tool_calls": []}), Some("tool_calls")),
    ] {
        let bodies = vec![vec![nothing.clone() + done], vec![whole.clone()]];
        let (outcome, retries, _) = ask(bodies, Duration::ZERO, Patience::Endless).await;
        assert_eq!((outcome.unwrap().text.as_str(), retries), ("a", 1), "{nothing}");
    }
}
