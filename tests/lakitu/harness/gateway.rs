//! The model's place: a strict script that keeps every request.

use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::gateway::ScriptGateway;
use lakitu_actors::gateway::failure::unreachable;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::ports::{BoxFuture, DeltaSink, Gateway, ModelFailure};
use lakitu_kernel::supervise::Guarded;
use lakitu_kernel::{ThreadId, ToolError};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Script;

/// A request as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) thread: ThreadId,
    pub(crate) turn: u32,
    pub(crate) key: String,
    pub(crate) body: Vec<u8>,
}

/// Plays a script, checks every request as the strictest servers do, and keeps it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    script: ScriptGateway,
    sent: Arc<Guarded<Vec<Sent>>>,
    count: watch::Sender<usize>,
    away_until: Arc<Guarded<Option<Instant>>>,
    arrivals: Arc<Guarded<Vec<Instant>>>,
}

impl Recorder {
    pub(crate) fn new(script: &Script) -> Self {
        let script = ScriptGateway::parse(&script.yaml()).unwrap().strict(true);
        let count = watch::Sender::new(0);
        Self { script, sent: Arc::default(), count, away_until: Arc::default(), arrivals: Arc::default() }
    }

    /// From now on nobody is there, for so long.
    pub(crate) fn goes_away_for(&self, time: Duration) {
        self.away_until.with(|until| *until = Some(Instant::now() + time));
    }

    /// When each request came.
    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        self.arrivals.with(|arrivals| arrivals.clone())
    }

    /// Every request so far, attempts that failed included.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.with(|sent| sent.clone())
    }

    /// The last request of that turn, as text.
    pub(crate) fn request(&self, turn: u32) -> String {
        let sent = self.sent().into_iter().rfind(|sent| sent.turn == turn).expect("a turn that was asked for");
        readable(&sent.body)
    }

    /// Waits until so many requests were sent.
    pub(crate) async fn asked(&self, times: usize) {
        let mut count = self.count.subscribe();
        super::soon(count.wait_for(|count| *count >= times)).await.unwrap();
    }
}

impl Gateway for Recorder {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let body = request.body_bytes();
        let me = first_prompt(&body);
        let sent = Sent { thread: request.thread, turn: request.turn.0, key: request.idempotency_key(), body };
        self.sent.with(|all| all.push(sent));
        self.arrivals.with(|arrivals| arrivals.push(Instant::now()));
        self.count.send_modify(|count| *count += 1);
        if self.away_until.with(|until| until.is_some_and(|until| Instant::now() < until)) {
            return Box::pin(async { Err(unreachable("connect", "nobody is there")) });
        }
        let answer = self.script.complete(request, deltas);
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.text = answer.text.replace("{me}", &me);
            for call in &mut answer.calls {
                call.arguments = call.arguments.replace("{me}", &me);
            }
            Ok(answer)
        })
    }

    fn finish(&self) -> Result<(), ToolError> {
        self.script.finish()
    }
}

fn messages(body: &[u8]) -> Vec<Value> {
    let body: Value = serde_json::from_slice(body).expect("a body that is JSON");
    body["messages"].as_array().expect("messages").clone()
}

fn first_prompt(body: &[u8]) -> String {
    let first = messages(body).into_iter().find(|message| message["role"] == "user");
    first.and_then(|first| first["content"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// A request for a person: what was said, called and answered, without the system's text and the marks around results.
pub(crate) fn readable(body: &[u8]) -> String {
    let mut text = String::new();
    let mut calls: Vec<String> = Vec::new();
    for message in messages(body) {
        let content = text_of(&message["content"]);
        let content = content.as_str();
        match message["role"].as_str() {
            Some("user") => line(&mut text, "user", content),
            Some("assistant") => {
                if !content.is_empty() {
                    line(&mut text, "model", content);
                }
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    calls.push(call["id"].as_str().unwrap_or_default().to_owned());
                    let function = &call["function"];
                    let (name, arguments) = (function["name"].as_str(), function["arguments"].as_str());
                    let what = format!("{} {}", name.unwrap_or_default(), arguments.unwrap_or_default());
                    line(&mut text, &format!("call {}", calls.len()), &what);
                }
            }
            Some("tool") => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                let number = calls.iter().position(|call| call == id).map_or(0, |at| at + 1);
                line(&mut text, &format!("result {number}"), &unmarked(content));
            }
            Some("system") => {}
            role => panic!("nobody expects {role:?}"),
        }
    }
    text
}

/// A content as one text; of an image its beginning.
fn text_of(content: &Value) -> String {
    let part = |part: &Value| match part["image_url"]["url"].as_str() {
        Some(url) => format!("<{}…>", url.get(..30).unwrap_or(url)),
        None => part["text"].as_str().unwrap_or_default().to_owned(),
    };
    match content {
        Value::Array(parts) => parts.iter().map(part).collect::<Vec<_>>().join(" "),
        text => text.as_str().unwrap_or_default().to_owned(),
    }
}

fn line(text: &mut String, who: &str, what: &str) {
    text.push_str(who);
    text.push_str(": ");
    text.push_str(&what.replace('\n', "\n  "));
    text.push('\n');
}

/// Without the marks that are random per thread.
fn unmarked(content: &str) -> String {
    let marks = |line: &&str| !(line.starts_with("<untrusted-") || line.starts_with("</untrusted-"));
    content.lines().filter(marks).collect::<Vec<_>>().join("\n")
}
