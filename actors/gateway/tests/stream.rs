use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lakitu_kernel::ErrorCode;
use lakitu_kernel::chat::{Finish, ModelAnswer};
use lakitu_kernel::limits::STREAM_EVENT_BYTES_MAX;
use lakitu_kernel::ports::{FailureClass, ModelFailure};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{no_sink, shown, sink};
use crate::gateway::failure::cut;
use crate::gateway::{AnswerStream, Progress};

fn read(body: &[u8]) -> Result<ModelAnswer, ModelFailure> {
    let mut stream = AnswerStream::new(no_sink());
    stream.push(body)?;
    stream.end()
}

fn event(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

fn delta(delta: &Value, finish: Option<&str>) -> String {
    event(&json!({"object": "chat.completion.chunk", "model": "m-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

/// About 20 KB, as a provider sends it: a role, comments, thinking, text, two calls in pieces, a reason, usage, the end.
fn recorded() -> String {
    let mut body = String::from(": OPENROUTER PROCESSING\n\n");
    body += &delta(&json!({"role": "assistant", "content": ""}), None);
    for word in 0..20 {
        body += &delta(&json!({"reasoning": format!("thought {word} ☃ ")}), None);
    }
    for word in 0..40 {
        body += &delta(&json!({"content": format!("wörd {word} ")}), None);
    }
    for call in 0..2 {
        body += &delta(
            &json!({"tool_calls": [{"index": call, "id": format!("c{call}"), "type": "function",
            "function": {"name": "bash", "arguments": ""}}]}),
            None,
        );
        let arguments = json!({"command": format!("echo {call} {}", "x".repeat(250))}).to_string();
        for piece in arguments.as_bytes().chunks(8) {
            let piece = String::from_utf8_lossy(piece);
            body += &delta(&json!({"tool_calls": [{"index": call, "function": {"arguments": piece}}]}), None);
        }
    }
    body += &delta(&json!({}), Some("tool_calls"));
    body += &event(&json!({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 50}}));
    body + "data: [DONE]\n\n"
}

#[test]
fn a_recorded_stream_is_an_answer() {
    let (deltas, mut received) = sink();
    let mut stream = AnswerStream::new(deltas);
    let body = recorded();
    assert_eq!(stream.push(&body.as_bytes()[..20]).unwrap(), Progress::Nothing, "a comment is no sign of life");
    assert_eq!(stream.push(&body.as_bytes()[20..]).unwrap(), Progress::Done);
    let answer = stream.end().unwrap();
    assert_eq!((answer.calls.len(), answer.finish), (2, Finish::ToolCalls));
    assert_eq!(answer.model.as_deref(), Some("m-1"));
    assert_eq!(answer.usage.unwrap().input_tokens, 1000);
    let arguments: Value = serde_json::from_str(&answer.calls[1].arguments).unwrap();
    assert_eq!(arguments["command"].as_str().unwrap().len(), 257);
    let thinking = answer.opaque.unwrap()["reasoning"].as_str().unwrap().to_owned();
    assert_eq!(shown(&mut received), thinking + &answer.text);
}

/// F11.
#[test]
fn a_stream_that_ends_at_any_byte_before_its_terminal_is_no_answer() {
    let body = recorded();
    assert!(body.len() > 18_000, "{} bytes", body.len());
    let terminal = body.len() - "\n\n".len();
    let finished = body.find("\"finish_reason\":\"tool_calls\"").unwrap();
    let finished = finished + body[finished..].find("\n\n").unwrap() + "\n\n".len();
    let whole = read(body.as_bytes()).unwrap();
    // Read once, byte by byte, and ended behind each: what was read before a cut does not depend on it.
    let mut stream = AnswerStream::new(no_sink());
    for cut in 0..body.len() {
        match stream.clone().end() {
            Ok(answer) => assert!(cut >= terminal && answer == whole, "cut at {cut}"),
            Err(failure) => {
                let class = if cut < finished { FailureClass::Retry { after: None } } else { FailureClass::Senseless };
                assert!(cut < terminal && failure.class == class, "cut at {cut}: {failure:?}");
            }
        }
        stream.push(&body.as_bytes()[cut..=cut]).unwrap();
    }
    assert_eq!(stream.end(), Ok(whole));
}

/// F12.
#[test]
fn the_terminal_makes_an_answer_count_and_nothing_less() {
    let said = delta(&json!({"content": "a"}), None);
    let stopped = delta(&json!({}), Some("stop"));
    let call = json!({"index": 0, "id": "c", "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}});
    let called = delta(&json!({"tool_calls": [call]}), None);
    let (cut, senseless) = (FailureClass::Retry { after: None }, FailureClass::Senseless);
    let rows = [
        (said.clone(), Err(cut)),
        (format!("{said}{stopped}"), Err(senseless)),
        (format!("{said}{}", stopped.trim_end()), Err(cut)),
        (format!("{said}{stopped}data: [DONE"), Err(senseless)),
        (format!("{said}data: [DONE]"), Ok("a")),
        (format!("{said}{stopped}data: [DONE] \r"), Ok("a")),
        // A call without a reason to stop may be cut, whatever stands behind it.
        (format!("{said}{called}data: [DONE]\n\n"), Err(senseless)),
        (format!("{said}{called}{stopped}data: [DONE]\n\n"), Ok("a")),
        (format!("{said}data: [DONE]\n\ndata: [DONE]\n\ndata: {{\n\n"), Ok("a")),
        (format!("{said}data: [DONE]\n\n{}", delta(&json!({"content": "b"}), None)), Ok("a")),
    ];
    for (body, expected) in rows {
        let answer = read(body.as_bytes());
        let told = answer.as_ref().map(|answer| &*answer.text).map_err(|failure| failure.class);
        assert_eq!(told, expected, "{body}");
    }
}

/// F08, F12.
#[test]
fn what_is_not_an_answer_is_a_failure_of_its_class() {
    let (retry, senseless) = (FailureClass::Retry { after: None }, FailureClass::Senseless);
    let empty = FailureClass::Empty;
    let partial = delta(&json!({"content": "half"}), None);
    let done = "data: [DONE]\n\n";
    let rows: &[(String, FailureClass, ErrorCode)] = &[
        (String::new(), retry, ErrorCode::GatewayProtocol),
        ("\n \n".into(), retry, ErrorCode::GatewayProtocol),
        ("<!doctype html><p>Sign in".into(), retry, ErrorCode::GatewayProtocol),
        ("\u{feff}\n<html>".into(), retry, ErrorCode::GatewayProtocol),
        ("{}".into(), retry, ErrorCode::GatewayProtocol),
        ("[1]".into(), retry, ErrorCode::GatewayProtocol),
        ("{\"choices\":[".into(), retry, ErrorCode::GatewayProtocol),
        ("just text\n\n".into(), retry, ErrorCode::GatewayUnreachable),
        (json!({"error": {"code": 429, "message": "slow"}}).to_string(), retry, ErrorCode::GatewayUnreachable),
        (json!({"error": {"code": 401}}).to_string(), FailureClass::Credentials, ErrorCode::GatewayRefused),
        (
            format!("{partial}{}", event(&json!({"error": {"code": 502}, "choices": []}))),
            retry,
            ErrorCode::GatewayUnreachable,
        ),
        (format!("{partial}{}{done}", delta(&json!({}), Some("error"))), retry, ErrorCode::GatewayProtocol),
        (format!("{partial}data: {{nonsense\n\n{done}"), senseless, ErrorCode::GatewayProtocol),
        (format!("{}{done}", delta(&json!({"content": ""}), Some("stop"))), empty, ErrorCode::GatewayProtocol),
        (
            format!("{}{done}", delta(&json!({"content": null, "tool_calls": null}), None)),
            empty,
            ErrorCode::GatewayProtocol,
        ),
        (done.into(), empty, ErrorCode::GatewayProtocol),
        (json!({"choices": []}).to_string(), empty, ErrorCode::GatewayProtocol),
    ];
    for (body, class, code) in rows {
        let failure = read(body.as_bytes()).unwrap_err();
        assert_eq!((failure.class, failure.error.code), (*class, *code), "{body}: {failure}");
    }
}

#[test]
fn thinking_alone_blank_text_and_a_filtered_nothing_are_answers() {
    for (delta_, finish) in [
        (json!({"reasoning_content": "hm"}), "stop"),
        (json!({"content": "  "}), "stop"),
        (json!({"refusal": "no"}), "stop"),
        (json!({}), "content_filter"),
        (json!({}), "length"),
    ] {
        let body = delta(&delta_, Some(finish)) + "data: [DONE]\n\n";
        assert!(read(body.as_bytes()).is_ok(), "{delta_} {finish}");
    }
}

#[test]
fn an_answer_in_one_piece_of_json_counts_too() {
    let body = json!({"model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant",
        "content": [{"type": "text", "text": "a"}], "tool_calls": [{"id": "c", "function": {"name": "ls", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1}});
    let body = format!("\n {body}");
    let answer = read(body.as_bytes()).unwrap();
    assert_eq!((answer.text.as_str(), answer.calls.len(), answer.finish), ("a", 1, Finish::ToolCalls));
    for cut in 0..body.len() {
        assert!(read(&body.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
}

/// F12.
#[test]
fn an_event_over_8_mib_is_refused_and_one_below_passes() {
    let frame = delta(&json!({"content": ""}), Some("stop")).trim_end().len();
    for (size, passes) in [(STREAM_EVENT_BYTES_MAX - frame, true), (STREAM_EVENT_BYTES_MAX - frame + 1, false)] {
        let body = delta(&json!({"content": "x".repeat(size)}), Some("stop")) + "data: [DONE]\n\n";
        assert_eq!(read(body.as_bytes()).is_ok(), passes, "{size}");
    }
    let mut endless = AnswerStream::new(no_sink());
    let refused = (0..200).find_map(|_| endless.push(&vec![b'x'; 65_536]).err()).unwrap();
    assert_eq!(refused.error.code, ErrorCode::GatewayProtocol);
}

/// F12.
#[tokio::test(start_paused = true)]
async fn what_comes_behind_the_end_is_counted_and_ignored() {
    let mut stream = AnswerStream::new(no_sink());
    let answer = delta(&json!({"content": "a"}), None) + "data: [DONE]\n\n";
    // Of the piece with the terminal, whole events are counted.
    stream.push(format!("{answer}data: {{\n\n").as_bytes()).unwrap();
    assert_eq!(stream.push(b"12345").unwrap(), Progress::Done);
    assert_eq!(stream.bytes_behind(), 6);

    let pieces = || [answer.clone(), "data: {\n\n".repeat(3), "x".to_owned()].map(|piece| Ok(Bytes::from(piece)));
    for framed in [true, false] {
        let (deltas, mut received) = sink();
        let read = crate::gateway::read(stream::iter(pieces()), framed, deltas).await.unwrap();
        assert_eq!((&*read.text, &*shown(&mut received)), ("a", "a"));
    }
    // Nor is its end waited for.
    let (answer, begun) = (stream::iter(pieces()).chain(stream::pending()), Instant::now());
    assert_eq!(crate::gateway::read(answer, true, no_sink()).await.unwrap().text, "a");
    assert!(begun.elapsed() < Duration::from_millis(100));
    let (endless, begun) =
        (stream::iter(pieces()).chain(stream::repeat_with(|| Ok(Bytes::from("x".repeat(99))))), Instant::now());
    assert_eq!(crate::gateway::read(endless, true, no_sink()).await.unwrap().text, "a");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // Nor does what breaks there break the answer.
    let broken = stream::iter(pieces()).chain(stream::iter([Err(cut("too early"))]));
    assert_eq!(crate::gateway::read(broken, true, no_sink()).await.unwrap().text, "a");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_pieces_in_which_a_stream_comes_do_not_matter(sizes in prop::collection::vec(1_usize..400, 1..20)) {
        let body = recorded();
        let mut stream = AnswerStream::new(no_sink());
        let (mut rest, mut sizes) = (body.as_bytes(), sizes.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            stream.push(piece).unwrap();
            rest = behind;
        }
        prop_assert_eq!(stream.end().unwrap(), read(body.as_bytes()).unwrap());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }
}
