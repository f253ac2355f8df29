//! A recorded stream with tool calls, cut at places all over it, through the whole agent: nothing of a cut stream runs,
//! and behind the retry the thread is the same every time.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakitu_actors::gateway::AnswerStream;
use lakitu_actors::gateway::failure::cut;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::config::Config;
use lakitu_kernel::ports::{BoxFuture, DeltaSink, Gateway, ModelFailure};
use lakitu_kernel::supervise::Guarded;
use lakitu_kernel::{EventBody, ThreadId};
use serde_json::{Value, json};

use crate::harness::{Harness, Home, Recorder, Script};

/// How many places the stream is cut at.
const CUTS: usize = 200;

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

/// Streams the record as a thread's first answer, whose first attempt is cut; then says that it is done.
#[derive(Clone)]
struct Cut {
    at: Arc<Guarded<usize>>,
    attempts: Arc<Guarded<BTreeMap<(ThreadId, u32), u32>>>,
}

impl Gateway for Cut {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        lakitu_actors::gateway::validate::validate(&request.body_bytes()).expect("a valid request");
        let attempt = self.attempts.with(|attempts| {
            let attempt = attempts.entry((request.thread, request.turn.0)).or_default();
            *attempt += 1;
            *attempt
        });
        let at = self.at.with(|at| *at);
        Box::pin(async move {
            let mut stream = AnswerStream::new(deltas);
            let body = recorded();
            match (request.turn.0, attempt) {
                (1, 1) => {
                    stream.push(&body.as_bytes()[..at])?;
                    // By turns the connection just ends, and the framing tells that it ended too soon.
                    if at.is_multiple_of(2) { stream.end() } else { Err(cut("unexpected end of file")) }
                }
                (1, _) => {
                    stream.push(body.as_bytes())?;
                    stream.end()
                }
                _ => {
                    stream
                        .push((delta(&json!({ "content": "Done." }), Some("stop")) + "data: [DONE]\n\n").as_bytes())?;
                    stream.end()
                }
            }
        })
    }
}

/// What the journal holds, without seqs, times and the thread's name.
fn told(events: &[lakitu_kernel::Event]) -> Vec<Value> {
    let body = |event: &lakitu_kernel::Event| {
        let mut body = serde_json::to_value(&event.body).unwrap();
        for random in ["boundary", "prefix", "duration_ms", "settings"] {
            body.as_object_mut().unwrap().remove(random);
        }
        body
    };
    events.iter().map(body).collect()
}

/// F11.
#[tokio::test(start_paused = true)]
async fn a_stream_cut_anywhere_runs_nothing_and_behind_the_retry_the_thread_is_the_same() {
    let body = recorded();
    assert!((18_000..25_000).contains(&body.len()), "{} bytes", body.len());
    let gateway = Cut { at: Arc::default(), attempts: Arc::default() };
    let upstream = gateway.clone();
    let put = |parts: &mut lakitu_actors::runtime::Parts| parts.upstream = Arc::new(upstream);
    let lakitu = Harness::boot_with(Home::new(), Recorder::new(&Script::new()), Config::default(), put).await;
    let mut first: Option<Vec<Value>> = None;
    let last = body.len() - "\n\n".len() - 1;
    for cut in (0..CUTS).map(|n| n * last / (CUTS - 1)) {
        gateway.at.with(|at| *at = cut);
        let _ = std::fs::remove_file(lakitu.home.workspace().join("new"));
        lakitu.home.write("log", "start\nend\n");
        // The edit is refused, for the file was not read; that it is tried once is what counts here.
        assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()), "cut at {cut}");
        let thread = lakitu.thread();
        assert_eq!(gateway.attempts.with(|attempts| attempts[&(thread, 1)]), 2, "cut at {cut}");
        let events = lakitu.events(thread).await;
        let count = |is: fn(&EventBody) -> bool| events.iter().filter(|event| is(&event.body)).count();
        assert_eq!(count(|body| matches!(body, EventBody::ToolIntent { .. })), 3, "cut at {cut}");
        assert_eq!(count(|body| matches!(body, EventBody::ToolResult { .. })), 3, "cut at {cut}");
        let executions = lakitu.ask(move |reading| reading.executions(thread)).await;
        assert_eq!(executions.len(), 3, "cut at {cut}");
        assert_eq!(lakitu.home.read("new"), "one\n".repeat(60), "cut at {cut}");
        let told = told(&events);
        assert_eq!(first.get_or_insert_with(|| told.clone()), &told, "cut at {cut}");
    }
    lakitu.end().await;
}
