//! The HTTP edge against a server that answers as badly as a test wants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lakitu_actors::gateway::{Deadlines, Patience, RetryPolicy, Route};
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::{System, Timestamp};
use lakitu_kernel::ports::{DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ThreadId, Turn};

mod connections;
mod refusals;
mod requests;
mod streams;
mod token;
mod turns;

use super::super::TokenFile;
use super::mock::{Mock, Play, Seen, chunked, endless, response};
use super::upstream::endpoint;
use super::{Dialect, HttpGateway, TokenSource};
use crate::adapters::Secret;

const TOKEN: &str = "tok-123456";
const SAID: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
const STOPPED: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// The wall clock stands at the second of the dates below.
struct At;

impl lakitu_kernel::clock::Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp(1_767_225_600_000)
    }
}

fn gateway(base: &str) -> HttpGateway {
    HttpGateway::new(base, TokenSource::Value(Secret::new(TOKEN)), Arc::new(At)).unwrap()
}

fn request() -> ModelRequest {
    let body = ["{\"model\":\"m\",\"messages\":[", "{\"role\":\"user\",\"content\":\"ü\"}", "]}"];
    let body = body.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
    ModelRequest { thread: ThreadId(7), turn: Turn(3), model: "m".into(), body }
}

fn no_sink() -> DeltaSink {
    Arc::new(|_| {})
}

async fn ask(mock: &Mock) -> Result<ModelAnswer, ModelFailure> {
    gateway(&mock.base).complete(request(), no_sink()).await
}

async fn ask_for(play: Play) -> Result<ModelAnswer, ModelFailure> {
    ask(&Mock::start(vec![play]).await).await
}

/// A provider's answer with text, thinking and two calls in pieces.
fn recorded() -> String {
    let event = |chunk: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{chunk}}}]}}\n\n");
    let mut body = String::from(": OPENROUTER PROCESSING\n\n");
    for piece in 0..20 {
        body += &event(&format!("{{\"reasoning\":\"thought {piece} \"}}"));
        body += &event(&format!("{{\"content\":\"wörd {piece} \"}}"));
    }
    for call in 0..2 {
        body += &event(&format!(
            "{{\"tool_calls\":[{{\"index\":{call},\"id\":\"c{call}\",\"function\":{{\"name\":\"bash\"}}}}]}}"
        ));
    }
    for piece in ["{\\\"command\\\"", ":\\\"ls", " -l\\\"}"] {
        for call in 0..2 {
            body += &event(&format!(
                "{{\"tool_calls\":[{{\"index\":{call},\"function\":{{\"arguments\":\"{piece}\"}}}}]}}"
            ));
        }
    }
    body + STOPPED + DONE
}

/// Asks twice over one client: the first time this happens, the second time all is well. The failure of the first.
async fn failure_before_a_whole_answer(play: Play) -> ModelFailure {
    let mock = Mock::start(vec![play, Play::Keep(chunked(&recorded(), 999))]).await;
    let gateway = gateway(&mock.base);
    let first = gateway.complete(request(), no_sink()).await.unwrap_err();
    let second = gateway.complete(request(), no_sink()).await.unwrap();
    assert_eq!(second.calls.len(), 2);
    let seen = mock.seen().pop().unwrap();
    assert_eq!(seen.body, request().body_bytes());
    assert_eq!(seen.header("idempotency-key"), Some(&*request().idempotency_key()));
    first
}
