use expect_test::expect;
use lakitu_kernel::ErrorCode;
use lakitu_kernel::chat::{Finish, ModelAnswer};
use lakitu_kernel::limits::STREAM_EVENT_BYTES_MAX;
use lakitu_kernel::ports::FailureClass;
use proptest::prelude::*;
use serde_json::json;

use super::{answer, pieces, sse};
use crate::gateway::anthropic::Translation;

const START: &str = r#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":100,"cache_read_input_tokens":2000,"output_tokens":1}}}"#;

const TEXT: &str = r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}
    {"type":"ping"}
    {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hällo"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" \"☃\"\n"}}
    {"type":"content_block_stop","index":0}
    {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}
    {"type":"message_stop"}"#;

const CALLS: &str = r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Looking."}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"file_read","input":{}}}
    {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}
    {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"path\": "}}
    {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"bash_list","input":{}}}
    {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}
    {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"ä\"}"}}
    {"type":"content_block_stop","index":2}
    {"type":"content_block_stop","index":1}
    {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":30,"cache_creation_input_tokens":0,"cache_read_input_tokens":2100,"output_tokens":80}}
    {"type":"message_stop"}"#;

const THINKING: &str = r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" see. \u001b\n"}}
    {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds/+="}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"EmwKAhgBEgy3va3pzix/LafPsn4a"}}
    {"type":"content_block_stop","index":1}
    {"type":"content_block_start","index":2,"content_block":{"type":"thinking","thinking":"","signature":""}}
    {"type":"content_block_delta","index":2,"delta":{"type":"signature_delta","signature":"unseen"}}
    {"type":"content_block_stop","index":2}
    {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"bash","input":{}}}
    {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"command\":\"ls\"}"}}
    {"type":"content_block_stop","index":3}
    {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":80}}
    {"type":"message_stop"}"#;

const CUT_CALL: &str = r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"bash","input":{}}}
    {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"comm"}}
    {"type":"content_block_stop","index":0}
    {"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":80}}
    {"type":"message_stop"}"#;

const REFUSAL: &str = r#"
    {"type":"message_delta","delta":{"stop_reason":"refusal"},"usage":{"output_tokens":0}}
    {"type":"message_stop"}"#;

/// Blocks of the server's own tools, citations, and what is not known yet.
const FOREIGN: &str = r#"
    {"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}
    {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":1}"}}
    {"type":"content_block_stop","index":0}
    {"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[]}}
    {"type":"content_block_stop","index":1}
    {"type":"weather","delta":7,"message":"sunny"}
    {"type":"content_block_start","index":2,"content_block":{"type":"text","text":"","citations":[]}}
    {"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"cited_text":"x"}}}
    {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Found."}}
    {"type":"content_block_stop","index":2}
    {"type":"message_delta","delta":{"stop_reason":"pause_turn","container":null},"usage":{"output_tokens":9}}
    {"type":"message_stop"}"#;

const STREAMS: [(&str, Finish); 6] = [
    (TEXT, Finish::Stop),
    (CALLS, Finish::ToolCalls),
    (THINKING, Finish::ToolCalls),
    (CUT_CALL, Finish::Length),
    (REFUSAL, Finish::ContentFilter),
    (FOREIGN, Finish::Stop),
];

fn stream(events: &str) -> String {
    sse(&format!("{START}\n{events}"))
}

fn read(events: &str) -> ModelAnswer {
    let (chunks, done) = pieces([stream(events).as_bytes()]).unwrap();
    assert!(done);
    answer(chunks.as_bytes()).unwrap()
}

#[test]
fn a_stream_becomes_chunks() {
    expect![[r#"
        data: {"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"content":"Looking."},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"","name":"file_read"},"id":"toolu_1","index":0,"type":"function"}]},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"path\": "},"index":0}]},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"","name":"bash_list"},"id":"toolu_2","index":1,"type":"function"}]},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"\"ä\"}"},"index":0}]},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"},"index":1}]},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{},"finish_reason":"tool_calls","index":0,"native_finish_reason":"tool_use"}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk","usage":{"completion_tokens":80,"prompt_tokens":2130,"prompt_tokens_details":{"cache_write_tokens":0,"cached_tokens":2100},"total_tokens":2210}}

        data: [DONE]

    "#]].assert_eq(&pieces([stream(CALLS).as_bytes()]).unwrap().0);
    expect![[r#"
        data: {"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        : ping

        data: {"choices":[{"delta":{"content":"Hällo"},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{"content":" \"☃\"\n"},"finish_reason":null,"index":0}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[{"delta":{},"finish_reason":"stop","index":0,"native_finish_reason":"end_turn"}],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk"}

        data: {"choices":[],"created":1700000000,"id":"msg_01","model":"claude-sonnet-4-5-20250929","object":"chat.completion.chunk","usage":{"completion_tokens":15,"prompt_tokens":2125,"prompt_tokens_details":{"cache_write_tokens":100,"cached_tokens":2000},"total_tokens":2140}}

        data: [DONE]

    "#]].assert_eq(&pieces([stream(TEXT).as_bytes()]).unwrap().0);
}

#[test]
fn an_answer_is_what_the_stream_said() {
    let said = read(TEXT);
    assert_eq!(said.text, "Hällo \"☃\"\n");
    assert_eq!(said.model.as_deref(), Some("claude-sonnet-4-5-20250929"));
    let usage = said.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens), (2125, 2000, 15));

    let called = read(CALLS);
    let calls: Vec<_> = called.calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
    assert_eq!(calls, [("toolu_1", "file_read", "{\"path\": \"ä\"}"), ("toolu_2", "bash_list", "{}")]);
    assert_eq!(called.text, "Looking.");
    let usage = called.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens), (2130, 2100, 80), "the last counts win");

    let thought = read(THINKING);
    let format = "anthropic-claude-v1";
    let signature = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds/+=";
    assert_eq!(
        thought.opaque.unwrap(),
        json!({
            "reasoning": "Let me see. \u{1b}\n",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "Let me see. \u{1b}\n", "signature": signature, "format": format, "index": 0},
                {"type": "reasoning.encrypted", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a", "format": format, "index": 1},
                {"type": "reasoning.text", "text": "", "signature": "unseen", "format": format, "index": 2},
            ],
        })
    );
    assert_eq!(read(CUT_CALL).calls[0].arguments, "{\"comm");
    assert_eq!(read(FOREIGN).text, "Found.");
    assert!(read(FOREIGN).calls.is_empty());
}

#[test]
fn the_pieces_in_which_it_comes_do_not_matter_and_a_cut_is_no_answer() {
    for (events, finish) in STREAMS {
        let body = stream(events);
        let whole = read(events);
        assert_eq!(whole.finish, finish);
        let (chunks, _) = pieces([body.as_bytes()]).unwrap();
        for size in [1, 2, 7, 64] {
            let (again, done) = pieces(body.as_bytes().chunks(size)).unwrap();
            assert!(done && again == chunks, "in pieces of {size}");
        }
        // Read once, byte by byte, and ended behind each.
        let (mut translation, mut out) = (Translation::new(1_700_000_000), Vec::new());
        for byte in body.as_bytes() {
            assert!(!translation.is_done());
            assert!(answer(&out).is_err(), "{}", String::from_utf8_lossy(&out));
            translation.push(&[*byte], &mut out).unwrap();
        }
        assert!(translation.is_done());
        assert_eq!(answer(&out).unwrap(), whole);
    }
}

#[test]
fn every_reason_to_stop_has_its_word_and_is_told_too() {
    for (reason, expected) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("bored", "stop"),
    ] {
        let (chunks, _) = pieces([stream(&REFUSAL.replace("refusal", reason)).as_bytes()]).unwrap();
        let told = format!(r#""finish_reason":"{expected}","index":0,"native_finish_reason":"{reason}""#);
        assert!(chunks.contains(&told), "{chunks}");
    }
}

#[test]
fn a_ping_is_no_progress() {
    assert_eq!(pieces([sse(r#"{"type":"ping"}"#).as_bytes()]).unwrap(), (": ping\n\n".to_owned(), false));
    assert_eq!(pieces([&b": keep alive\n\nevent: x\ndata:\n\n"[..]]).unwrap(), (String::new(), false));
}

#[test]
fn an_error_in_the_stream_is_handed_on_and_ends_it() {
    let retry = FailureClass::Retry { after: None };
    for (kind, code, class) in [
        ("overloaded_error", "529", FailureClass::Overloaded { after: None }),
        ("rate_limit_error", "429", retry),
        ("api_error", "500", retry),
        ("timeout_error", "504", retry),
        ("invalid_request_error", "400", FailureClass::Fatal),
        ("authentication_error", "401", FailureClass::Credentials),
        ("billing_error", "402", FailureClass::OverBudget),
        ("permission_error", "403", FailureClass::Refused),
        ("not_found_error", "404", FailureClass::Refused),
        ("request_too_large", "413", FailureClass::TooLong),
        ("novel_error", "null", retry),
    ] {
        let error = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"Sorry"}}}}"#);
        // In the middle of a block, and with an end behind it that no longer counts.
        let events =
            format!("{START}\n{}\n{error}\n{}", &TEXT[..TEXT.find("{\"type\":\"content_block_stop").unwrap()], TEXT);
        let (chunks, done) = pieces([sse(&events).as_bytes()]).unwrap();
        let last = format!("\"error\":{{\"code\":{code},\"message\":\"Sorry\",\"type\":\"{kind}\"}}");
        assert!(chunks.trim_end().lines().last().unwrap().contains(&last), "{chunks}");
        assert!(!done && !chunks.contains("[DONE]"));
        let failure = answer(chunks.as_bytes()).unwrap_err();
        assert_eq!(failure.class, class, "{kind}: {failure}");
        assert!(failure.error.message.contains("Sorry"));
    }
    // In place of an answer.
    let (chunks, done) =
        pieces([sse(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#).as_bytes()])
            .unwrap();
    assert!(!done);
    assert_eq!(answer(chunks.as_bytes()).unwrap_err().class, FailureClass::Overloaded { after: None });
}

#[test]
fn what_is_not_the_protocol_is_a_failure() {
    let block = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let stopped = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#;
    let rows = [
        ("data: {\"type\":\"ping\"\n\n".to_owned(), "not one"),
        ("data: []\n\n".to_owned(), "not one"),
        ("data: [DONE]\n\n".to_owned(), "not one"),
        (sse(block), "not with a message"),
        (
            stream(r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#),
            "has not begun",
        ),
        (stream(r#"{"type":"content_block_stop","index":0}"#), "has not begun"),
        (stream(&format!("{block}\n{block}")), "begins twice"),
        (stream(&block.replace("\"index\":0,", "")), "of which block"),
        (
            stream(&format!(
                "{block}\n{}",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"a"}}"#
            )),
            "another kind",
        ),
        (
            stream(&format!(
                "{block}\n{}",
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}"#
            )),
            "`delta`",
        ),
        (stream(&format!("{block}\n{}", r#"{"type":"content_block_delta","index":0}"#)), "no `delta`"),
        (stream(&format!("{block}\n{stopped}\n{}", r#"{"type":"message_stop"}"#)), "within block 0"),
        (stream(r#"{"type":"message_stop"}"#), "without saying why"),
        (sse(r#"{"type":"message_start"}"#), "no `message`"),
    ];
    for (body, expected) in rows {
        let failure = pieces([body.as_bytes()]).unwrap_err();
        assert_eq!(failure.error.code, ErrorCode::GatewayProtocol);
        assert!(failure.error.message.contains(expected), "{body}: {failure}");
    }
}

#[test]
fn an_event_over_the_limit_is_a_failure_and_what_came_before_it_counts() {
    let mut translation = Translation::new(0);
    let mut out = Vec::new();
    let body = [stream(TEXT).into_bytes(), vec![b'x'; STREAM_EVENT_BYTES_MAX + 1]].concat();
    translation.push(&body, &mut out).unwrap();
    assert!(translation.is_done(), "behind the end nothing matters");
    let body = [sse(START).into_bytes(), vec![b'x'; STREAM_EVENT_BYTES_MAX + 1]].concat();
    let mut out = Vec::new();
    let failure = Translation::new(0).push(&body, &mut out).unwrap_err();
    assert_eq!(failure.error.code, ErrorCode::GatewayProtocol);
    assert!(!out.is_empty());
}

#[test]
fn a_turn_of_64_calls_is_64_calls() {
    let call = |at: u32| {
        let call = json!({"type": "tool_use", "id": format!("toolu_{at}"), "name": "file_read", "input": {}});
        let piece = json!({"type": "input_json_delta", "partial_json": format!("{{\"path\":\"{at}\"}}")});
        [
            json!({"type": "content_block_start", "index": at, "content_block": call}),
            json!({"type": "content_block_delta", "index": at, "delta": piece}),
            json!({"type": "content_block_stop", "index": at}),
        ]
    };
    let end = [json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}), json!({"type": "message_stop"})];
    let events: Vec<String> = (0..64).flat_map(call).chain(end).map(|event| event.to_string()).collect();
    let calls = read(&events.join("\n")).calls;
    assert_eq!(calls.len(), 64);
    assert_eq!((&*calls[63].id, &*calls[63].arguments), ("toolu_63", "{\"path\":\"63\"}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = pieces([&bytes[..]]);
    }

    /// Events as they are, in any order and number, some of them damaged.
    #[test]
    fn no_events_make_it_panic_and_none_is_an_answer_without_its_end(
        picks in prop::collection::vec((0_usize..60, any::<u8>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let all: Vec<&str> = [START].into_iter().chain(STREAMS.iter().flat_map(|(events, _)| events.lines()))
            .map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut body = Vec::new();
        for (pick, damage, place) in picks {
            let mut data = all[pick % all.len()].as_bytes().to_vec();
            if damage < 20 {
                let place = place.index(data.len());
                data[place] = damage;
            }
            body.extend_from_slice(b"data: ");
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\n\n");
        }
        let (mut translation, mut out) = (Translation::new(0), Vec::new());
        let pushed = translation.push(&body, &mut out);
        let whole = pushed.is_ok() && translation.is_done();
        prop_assert!(whole || answer(&out).is_err());
    }
}
