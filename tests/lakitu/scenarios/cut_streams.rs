//! A recorded stream with tool calls, cut behind every byte, through the whole agent: nothing of a cut stream runs, and
//! behind the retries the thread is the same every time.
//!
//! A run of its own for each of 40,000 cuts would take ten minutes, nearly all of it in commits and tools. So the attempts
//! of one run are cut at many places, one behind the other, before the last one gets the whole stream: what any of them
//! had left behind would show in the next request, in the workspace or in the journal, which are those of a run without
//! cuts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use lakitu_actors::gateway::{failure, read, validate};
use lakitu_kernel::Event;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::Randomness;
use lakitu_kernel::config::Config;
use lakitu_kernel::ports::{BoxFuture, DeltaSink, Gateway, ModelFailure};
use lakitu_kernel::supervise::Guarded;
use serde_json::{Value, json};

use crate::harness::{Harness, Home, Recorder, Script};

/// Places at which one run's attempts are cut.
const PLACES: usize = 100;
/// The same before an attempt shows anything, or behind its reason to stop: of those in a row some are an outage, and of
/// these some are no provider.
const PLACES_FEW: usize = 4;

fn delta(delta: &Value, finish: Option<&str>) -> String {
    let chunk = json!({ "model": "m-1", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    format!("data: {chunk}\n\n")
}

/// About 20 KB: thinking, text, three calls whose pieces come by turns, comments between them, usage, the end.
fn recorded() -> String {
    let mut body = String::from(": OPENROUTER PROCESSING\n\n") + &delta(&json!({ "role": "assistant" }), None);
    for piece in 0..40 {
        body += &delta(&json!({ "reasoning": format!("thought {piece} ☃ ") }), None);
        body += &delta(&json!({ "content": format!("wörd {piece} ") }), None);
    }
    let calls = [
        ("file_write", json!({ "path": "new", "content": "one\n".repeat(60) })),
        ("file_edit", json!({ "path": "log", "old_string": "end", "new_string": "one\nend" })),
        ("file_read", json!({ "path": "new" })),
    ];
    for (index, (name, _)) in calls.iter().enumerate() {
        let call = json!({ "index": index, "id": format!("c{index}"), "function": { "name": name, "arguments": "" } });
        body += &delta(&json!({ "tool_calls": [call] }), None);
    }
    let mut pieces: Vec<(usize, usize, String)> = Vec::new();
    for (index, (_, arguments)) in calls.iter().enumerate() {
        let text = arguments.to_string();
        let chunks = text.as_bytes().chunks(6).map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        pieces.extend(chunks.enumerate().map(|(at, piece)| (at, index, piece)));
    }
    pieces.sort();
    for (at, index, piece) in pieces {
        if at % 5 == 0 {
            body += ": still here\r\n\r\n";
        }
        body += &delta(&json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }), None);
    }
    body += &delta(&json!({}), Some("tool_calls"));
    body += "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":50}}\n\n";
    body + "data: [DONE]\n\n"
}

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its connection.
    Closed,
    /// Too early by its own length, which the HTTP client notices.
    Framed,
}

/// A run's attempts at the first answer, and what was seen of them.
#[derive(Default)]
struct Run {
    cuts: Vec<(usize, End)>,
    asked: usize,
    /// The first request; every further attempt sends the same.
    first: Vec<u8>,
    /// The request behind the first answer.
    second: Vec<u8>,
    wrong: Option<String>,
}

/// Streams the record as a thread's first answer, whose attempts are cut; then says that it is done.
#[derive(Clone)]
struct Cut {
    body: Bytes,
    run: Arc<Guarded<Run>>,
    /// What the stream's first call makes.
    made: std::path::PathBuf,
}

impl Cut {
    /// Where the answer to this request is cut; nowhere, for the last attempt.
    fn take(&self, request: &ModelRequest) -> Option<(usize, End)> {
        let body = request.body_bytes();
        self.run.with(|run| {
            if request.turn.0 > 1 {
                run.second = body;
                return None;
            }
            let at = run.asked;
            run.asked += 1;
            if at == 0 {
                run.wrong = validate::validate(&body).err();
                run.first = body;
            } else if body != run.first || self.made.exists() {
                let cut = run.cuts[at - 1];
                run.wrong.get_or_insert_with(|| format!("the cut {cut:?} left something behind"));
            }
            run.cuts.get(at).copied()
        })
    }
}

impl Gateway for Cut {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let cut = self.take(&request);
        let (body, end) = match cut {
            Some((at, end)) => (self.body.slice(..at), end),
            None if request.turn.0 == 1 => (self.body.clone(), End::Closed),
            None => ((delta(&json!({ "content": "Done." }), Some("stop")) + "data: [DONE]\n\n").into(), End::Closed),
        };
        let early = (end == End::Framed).then(|| Err(failure::cut("unexpected end of file")));
        Box::pin(read(stream::iter([Ok(body)].into_iter().chain(early)), end == End::Framed, deltas))
    }
}

/// No jitter, so no wait; every other bit counts up, so ids differ.
struct Steps(AtomicU64);

impl Randomness for Steps {
    fn u128(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 64
    }
}

/// What the journal holds, without seqs, times and the thread's name.
fn told(events: &[Event]) -> Vec<Value> {
    let body = |event: &Event| {
        let mut body = serde_json::to_value(&event.body).unwrap();
        body.as_object_mut().unwrap().remove("duration_ms");
        body
    };
    events.iter().map(body).collect()
}

/// What a run whose attempts are cut there leaves: its journal, and the request that followed.
async fn run(lakitu: &Harness, gateway: &Cut, cuts: Vec<(usize, End)>) -> (Vec<Value>, Vec<u8>) {
    let _ = std::fs::remove_file(&gateway.made);
    let (attempts, shown) = (cuts.len() + 1, format!("{:?} to {:?}", cuts.first(), cuts.last()));
    gateway.run.with(|run| *run = Run { cuts, ..Run::default() });
    assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()), "{shown}");
    let ran = gateway.run.with(std::mem::take);
    assert_eq!((ran.asked, ran.wrong), (attempts, None), "{shown}");
    let thread = lakitu.thread();
    let events = lakitu.events(thread).await;
    let executions = lakitu.ask(move |reading| reading.executions(thread)).await;
    assert_eq!(executions.len(), 3, "{shown}");
    assert_eq!(lakitu.home.read("new"), "one\n".repeat(60), "{shown}");
    (told(&events), ran.second)
}

/// F11, P13.
#[tokio::test(start_paused = true)]
async fn a_stream_cut_at_any_byte_runs_nothing_and_behind_the_retry_the_thread_is_the_same() {
    let body = recorded();
    assert!((18_000..25_000).contains(&body.len()), "{} bytes", body.len());
    let home = Home::new();
    let made = home.workspace().join("new");
    home.write("log", "start\nend\n");
    let gateway = Cut { body: body.clone().into(), run: Arc::default(), made };
    let (upstream, mut config) = (gateway.clone(), Config::default());
    config.limits.model_attempts = 1000;
    let put = |parts: &mut lakitu_actors::runtime::Parts| {
        parts.upstream = Arc::new(upstream);
        parts.randomness = Arc::new(Steps(AtomicU64::new(1)));
    };
    let lakitu = Harness::boot_with(home, Recorder::new(&Script::new()), config, put).await;

    let uncut = run(&lakitu, &gateway, Vec::new()).await;
    // The edit is refused, for the file was not read; that it is tried once is what counts here.
    let is = |event: &Value, kind: &str| event["type"] == kind;
    assert_eq!(uncut.0.iter().filter(|event| is(event, "tool.intent")).count(), 3);
    assert_eq!(uncut.0.iter().filter(|event| is(event, "tool.result")).count(), 3);

    let behind = |text: &str| body[body.find(text).unwrap()..].find("\n\n").unwrap() + body.find(text).unwrap() + 2;
    let (shows, finished) = (behind("thought 0"), behind("\"finish_reason\":\"tool_calls\""));
    let terminal = body.len() - "\n\n".len();
    let parts = [(0..shows, PLACES_FEW), (shows..finished, PLACES), (finished..terminal, PLACES_FEW)];
    let places = parts.into_iter().flat_map(|(part, size)| {
        let end = part.end;
        part.step_by(size).map(move |from| from..end.min(from + size))
    });
    for places in places {
        let cuts = places.clone().flat_map(|at| [(at, End::Closed), (at, End::Framed)]).collect();
        assert_eq!(run(&lakitu, &gateway, cuts).await, uncut, "cut at {places:?}");
    }
    // The terminal may lack the end of its line where the connection ends; where more was promised, it is cut.
    let cuts = vec![(terminal, End::Framed), (terminal + 1, End::Framed)];
    assert_eq!(run(&lakitu, &gateway, cuts).await, uncut);
    lakitu.end().await;
}
