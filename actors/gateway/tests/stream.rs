use lakitu_kernel::ErrorCode;
use lakitu_kernel::chat::{Finish, ModelAnswer};
use lakitu_kernel::limits::STREAM_EVENT_BYTES_MAX;
use lakitu_kernel::ports::{FailureClass, ModelFailure};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{no_sink, shown, sink};
use crate::gateway::{AnswerStream, BodyEnd, Progress};

fn read(body: &[u8], end: BodyEnd) -> Result<ModelAnswer, ModelFailure> {
    let mut stream = AnswerStream::new(no_sink());
    stream.push(body)?;
    stream.end(end)
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
    let answer = stream.end(BodyEnd::Closed).unwrap();
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
fn a_stream_cut_at_any_byte_is_no_answer() {
    let body = recorded();
    assert!(body.len() > 18_000, "{} bytes", body.len());
    let body = body.as_bytes();
    let terminal = body.len() - "\n\n".len();
    // Read once, byte by byte, and ended behind each: what was read before a cut does not depend on it.
    let mut stream = AnswerStream::new(no_sink());
    for cut in 0..body.len() {
        assert_eq!(stream.clone().end(BodyEnd::Closed).is_ok(), cut >= terminal, "cut at {cut}");
        stream.push(&body[cut..=cut]).unwrap();
    }
}

#[test]
fn a_stream_cut_at_any_byte_and_framed_as_if_whole_is_never_another_answer() {
    let body = recorded();
    let whole = read(body.as_bytes(), BodyEnd::Framed).unwrap();
    let finish = body.find("\"finish_reason\":\"tool_calls\"").unwrap();
    let mut stream = AnswerStream::new(no_sink());
    for cut in 0..body.len() {
        // A proxy may frame anew what was cut behind it. Behind the reason nothing but the usage can be missing.
        match stream.clone().end(BodyEnd::Framed) {
            Ok(answer) => {
                assert!(cut > finish, "cut at {cut}");
                assert_eq!(ModelAnswer { usage: whole.usage, ..answer }, whole, "cut at {cut}");
            }
            Err(failure) => assert_eq!(failure.class, FailureClass::Retry { after: None }, "cut at {cut}"),
        }
        stream.push(&body.as_bytes()[cut..=cut]).unwrap();
    }
    assert_eq!(stream.end(BodyEnd::Closed).unwrap(), whole);
}

#[test]
fn framing_lets_a_finish_reason_count_and_nothing_less() {
    let said = delta(&json!({"content": "a"}), None);
    let stopped = delta(&json!({}), Some("stop"));
    let call = json!({"index": 0, "id": "c", "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}});
    let called = delta(&json!({"tool_calls": [call]}), None);
    let rows: &[(String, BodyEnd, bool)] = &[
        (format!("{said}{stopped}"), BodyEnd::Framed, true),
        (format!("{said}{}", stopped.trim_end()), BodyEnd::Framed, true),
        (format!("{said}{stopped}"), BodyEnd::Closed, false),
        (said.clone(), BodyEnd::Framed, false),
        (format!("{said}data: [DONE]"), BodyEnd::Closed, true),
        (format!("{said}data: [DONE"), BodyEnd::Framed, false),
        // A call without a reason to stop may be cut, whatever stands behind it.
        (format!("{said}{called}data: [DONE]\n\n"), BodyEnd::Framed, false),
        (format!("{said}{called}{stopped}data: [DONE]\n\n"), BodyEnd::Closed, true),
        (format!("{said}data: [DONE]\n\ndata: [DONE]\n\ndata: {{\n\n"), BodyEnd::Closed, true),
        (format!("{said}data: [DONE]\n\n{}", delta(&json!({"content": "b"}), None)), BodyEnd::Closed, true),
    ];
    for (body, end, counts) in rows {
        let answer = read(body.as_bytes(), *end);
        assert_eq!(answer.is_ok(), *counts, "{body} {end:?}");
        assert!(answer.is_err() || answer.unwrap().text == "a");
    }
}

/// F08, F12.
#[test]
fn what_is_not_an_answer_is_a_failure_of_its_class() {
    let retry = FailureClass::Retry { after: None };
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
        (format!("{partial}data: {{nonsense\n\n{done}"), retry, ErrorCode::GatewayProtocol),
        (format!("{}{done}", delta(&json!({"content": ""}), Some("stop"))), retry, ErrorCode::GatewayProtocol),
        (
            format!("{}{done}", delta(&json!({"content": null, "tool_calls": null}), None)),
            retry,
            ErrorCode::GatewayProtocol,
        ),
        (done.into(), retry, ErrorCode::GatewayProtocol),
        (json!({"choices": []}).to_string(), retry, ErrorCode::GatewayProtocol),
    ];
    for (body, class, code) in rows {
        let failure = read(body.as_bytes(), BodyEnd::Framed).unwrap_err();
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
        assert!(read(body.as_bytes(), BodyEnd::Framed).is_ok(), "{delta_} {finish}");
    }
}

#[test]
fn an_answer_in_one_piece_of_json_counts_too() {
    let body = json!({"model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant",
        "content": [{"type": "text", "text": "a"}], "tool_calls": [{"id": "c", "function": {"name": "ls", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1}});
    let body = format!("\n {body}");
    for end in [BodyEnd::Framed, BodyEnd::Closed] {
        let answer = read(body.as_bytes(), end).unwrap();
        assert_eq!((answer.text.as_str(), answer.calls.len(), answer.finish), ("a", 1, Finish::ToolCalls));
    }
    for cut in 0..body.len() {
        assert!(read(&body.as_bytes()[..cut], BodyEnd::Closed).is_err(), "cut at {cut}");
    }
}

/// F12.
#[test]
fn an_event_over_8_mib_is_refused_and_one_below_passes() {
    let frame = delta(&json!({"content": ""}), Some("stop")).trim_end().len();
    for (size, passes) in [(STREAM_EVENT_BYTES_MAX - frame, true), (STREAM_EVENT_BYTES_MAX - frame + 1, false)] {
        let body = delta(&json!({"content": "x".repeat(size)}), Some("stop")) + "data: [DONE]\n\n";
        assert_eq!(read(body.as_bytes(), BodyEnd::Framed).is_ok(), passes, "{size}");
    }
    let mut endless = AnswerStream::new(no_sink());
    let refused = (0..200).find_map(|_| endless.push(&vec![b'x'; 65_536]).err()).unwrap();
    assert_eq!(refused.error.code, ErrorCode::GatewayProtocol);
}

/// F12.
#[test]
fn what_comes_behind_the_end_is_counted_and_ignored() {
    let mut stream = AnswerStream::new(no_sink());
    stream.push((delta(&json!({"content": "a"}), None) + "data: [DONE]\n\n").as_bytes()).unwrap();
    assert_eq!(stream.push(b"12345").unwrap(), Progress::Done);
    assert_eq!(stream.bytes_behind(), 5);
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
        prop_assert_eq!(stream.end(BodyEnd::Closed).unwrap(), read(body.as_bytes(), BodyEnd::Closed).unwrap());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes, BodyEnd::Framed);
    }
}
