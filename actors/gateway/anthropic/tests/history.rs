use bytes::Bytes;
use lakitu_kernel::chat;
use lakitu_kernel::event::Call;
use serde_json::{Value, json};

use super::request;
use super::{answer, messages, pieces, sse, strip_marks, translated};
use crate::gateway::validate::validate;

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn said(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn calls(text: &str, ids: &[&str]) -> Value {
    let calls: Vec<Value> = ids
        .iter()
        .map(
            |id| json!({"id": id, "type": "function", "function": {"name": "ls", "arguments": "{\"b\": 1, \"a\": 2}"}}),
        )
        .collect();
    json!({"role": "assistant", "content": text, "tool_calls": calls})
}

fn result(id: &str, text: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": text})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn uses(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "ls", "input": {"b": 1, "a": 2}})
}

fn gave(id: &str, content: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": content})
}

fn turn(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

#[test]
fn the_sides_take_turns_and_nothing_is_empty() {
    let rows = [
        (json!([user("a"), user("b")]), json!([turn("user", json!([text("a"), text("b")]))])),
        (
            json!([user("a"), calls("", &["1", "2"]), result("1", "x"), result("2", ""), user("go")]),
            json!([
                turn("user", json!([text("a")])),
                turn("assistant", json!([uses("1"), uses("2")])),
                turn("user", json!([gave("1", "x"), {"type": "tool_result", "tool_use_id": "2"}, text("go")])),
            ]),
        ),
        (
            json!([user("a"), calls("so", &["1"]), result("1", "x"), calls("\n", &["2"]), result("2", "y")]),
            json!([
                turn("user", json!([text("a")])),
                turn("assistant", json!([text("so"), uses("1")])),
                turn("user", json!([gave("1", "x")])),
                turn("assistant", json!([uses("2")])),
                turn("user", json!([gave("2", "y")])),
            ]),
        ),
        // A message in which nothing was said is none; one in which nothing was asked is still asked.
        (json!([user("a"), said(""), user("b")]), json!([turn("user", json!([text("a"), text("b")]))])),
        (json!([user(" \n")]), json!([turn("user", json!([text("(empty)")]))])),
        (
            json!([said("hello"), user("hi")]),
            json!([
                turn("user", json!([text("(empty)")])),
                turn("assistant", json!([text("hello")])),
                turn("user", json!([text("hi")]))
            ]),
        ),
        (
            json!([user("a"), {"role": "assistant", "content": null, "refusal": "no"}, user("b")]),
            json!([
                turn("user", json!([text("a")])),
                turn("assistant", json!([text("no")])),
                turn("user", json!([text("b")]))
            ]),
        ),
        // Ids that Anthropic does not take, the same on both sides.
        (
            json!([user("a"), calls("", &["functions.ls:0"]), result("functions.ls:0", "x")]),
            json!([
                turn("user", json!([text("a")])),
                turn("assistant", json!([uses("functions_2els_3a0")])),
                turn("user", json!([gave("functions_2els_3a0", "x")])),
            ]),
        ),
        (
            json!([user("a"), calls("", &["1"]), {"role": "tool", "tool_call_id": "1", "content": [
                {"type": "text", "text": "see"}, {"type": "image_url", "image_url": "https://example.com/a.png"}]}]),
            json!([
                turn("user", json!([text("a")])),
                turn("assistant", json!([uses("1")])),
                turn(
                    "user",
                    json!([{"type": "tool_result", "tool_use_id": "1", "content": [text("see"),
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}])
                ),
            ]),
        ),
    ];
    for (history, expected) in rows {
        assert_eq!(messages(&history), expected, "{history}");
    }
}

/// As a thread shows what its calls gave: behind all results, which stay first in the same message.
#[test]
fn images_of_a_turn_stand_behind_its_results() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}});
    let shown = json!({"role": "user", "content": [{"type": "text", "text": "[lakitu] a.png:"}, image]});
    let history = json!([user("a"), calls("", &["1", "2"]), result("1", "x"), result("2", "y"), shown, user("go on")]);
    let source = json!({"type": "base64", "media_type": "image/png", "data": "iVBO"});
    let image = json!({"type": "image", "source": source});
    let last = json!([gave("1", "x"), gave("2", "y"), text("[lakitu] a.png:"), image, text("go on")]);
    let expected =
        [turn("user", json!([text("a")])), turn("assistant", json!([uses("1"), uses("2")])), turn("user", last)];
    assert_eq!(messages(&history), json!(expected));
}

#[test]
fn what_the_system_says_stands_at_the_top() {
    let body = translated(&json!({"model": "m", "messages": [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": ""}]},
        user("u")]}));
    assert_eq!(
        body["system"],
        json!([text("a"), {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}])
    );
}

#[test]
fn a_thought_behind_the_text_goes_back_behind_it() {
    let thought = |index: u32, text: &str| json!({"type": "reasoning.text", "text": text, "signature": "s", "format": "anthropic-claude-v1", "index": index});
    let call = json!({"id": "t1", "type": "function", "function": {"name": "ls", "arguments": "{}"}});
    let said = |calls: &[Value]| {
        json!({"role": "assistant", "content": "So.", "tool_calls": calls,
            "reasoning_details": [thought(0, "a"), thought(2, "b")]})
    };
    let block = |text: &str| json!({"type": "thinking", "thinking": text, "signature": "s"});
    let result = json!({"role": "tool", "tool_call_id": "t1", "content": "ok"});
    let body = translated(&json!({"model": "m", "messages": [user("u"), said(&[call]), result]}));
    let call = json!({"type": "tool_use", "id": "t1", "name": "ls", "input": {}});
    assert_eq!(body["messages"][1]["content"], json!([block("a"), text("So."), block("b"), call]));
    // No message ends with a thought.
    let body = translated(&json!({"model": "m", "messages": [user("u"), said(&[]), user("v")]}));
    assert_eq!(body["messages"][1]["content"], json!([block("a"), block("b"), text("So.")]));
}

/// A call's answer with thinking, from a stream, as the thread keeps it and sends it back.
#[test]
fn thinking_goes_back_byte_for_byte_before_everything_else() {
    let thought = "Löng \"thought\" \u{1b}\u{2028}☃ \\u0041\n\t ";
    let signature = "EqQB/+=\"\\";
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "model": "claude"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": &thought[..7]}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": &thought[7..]}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": signature}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "abc=="}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "content_block_start", "index": 2, "content_block": {"type": "redacted_thinking", "data": "def=="}}),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "content_block_start", "index": 3, "content_block": {"type": "thinking", "thinking": "", "signature": "whole"}}),
        json!({"type": "content_block_stop", "index": 3}),
        json!({"type": "content_block_start", "index": 4, "content_block": {"type": "thinking", "thinking": "unsigned"}}),
        json!({"type": "content_block_stop", "index": 4}),
        json!({"type": "content_block_start", "index": 5, "content_block": {"type": "text", "text": "So."}}),
        json!({"type": "content_block_stop", "index": 5}),
        json!({"type": "content_block_start", "index": 6, "content_block": {"type": "tool_use", "id": "t1", "name": "ls", "input": {}}}),
        json!({"type": "content_block_stop", "index": 6}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
        json!({"type": "message_stop"}),
    ];
    let events: Vec<String> = events.iter().map(Value::to_string).collect();
    let (chunks, _) = pieces([sse(&events.join("\n")).as_bytes()]).unwrap();
    let read = answer(chunks.as_bytes()).unwrap();
    // Through the journal, which keeps JSON.
    let opaque: Value = serde_json::from_str(&read.opaque.unwrap().to_string()).unwrap();
    let call = Call { call_id: "t1".into(), tool: "ls".into(), arguments: read.calls[0].arguments.clone() };
    let chat = [
        chat::prefix("claude", "s", []),
        chat::user("u"),
        chat::assistant(&read.text, &[call], Some(&opaque)),
        chat::tool("t1", "ok"),
        Bytes::from_static(chat::SUFFIX),
    ]
    .concat();
    validate(&chat).unwrap();
    let mut body: Value = serde_json::from_slice(&request(&chat).unwrap()).unwrap();
    strip_marks(&mut body);
    assert_eq!(
        body["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": thought, "signature": signature},
            {"type": "redacted_thinking", "data": "abc=="},
            {"type": "redacted_thinking", "data": "def=="},
            {"type": "thinking", "thinking": "", "signature": "whole"},
            {"type": "text", "text": "So."},
            {"type": "tool_use", "id": "t1", "name": "ls", "input": {}},
        ])
    );
}

#[test]
fn thinking_that_is_not_anthropics_or_not_signed_or_last_stays_behind() {
    let detail =
        json!({"type": "reasoning.text", "text": "t", "signature": "s", "format": "anthropic-claude-v1", "index": 0});
    let without = |field: &str, value: Value| {
        let mut other = detail.clone();
        other[field] = value;
        other
    };
    let thinking = json!({"type": "thinking", "thinking": "t", "signature": "s"});
    let rows = [
        (detail.clone(), "a", vec![thinking]),
        (without("signature", json!(null)), "a", vec![]),
        (without("signature", json!("")), "a", vec![]),
        (without("format", json!("openai-responses-v1")), "a", vec![]),
        (without("format", json!(null)), "a", vec![]),
        (without("type", json!("reasoning.summary")), "a", vec![]),
        (json!({"type": "reasoning.encrypted", "format": "anthropic-claude-v1"}), "a", vec![]),
        (json!(7), "a", vec![]),
    ];
    for (detail, content, mut expected) in rows {
        let history =
            json!([user("u"), {"role": "assistant", "content": content, "reasoning_details": [detail]}, user("v")]);
        expected.push(text("a"));
        assert_eq!(messages(&history)[1]["content"], json!(expected), "{detail}");
    }
    let alone = json!([user("u"), {"role": "assistant", "content": "", "reasoning_details": [detail]}, user("v")]);
    assert_eq!(messages(&alone), json!([{"role": "user", "content": [text("u"), text("v")]}]));
}

/// The marks of a request, as paths.
fn marks(chat: &Value) -> Vec<String> {
    fn find(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "cache_control" {
                        found.push(path.to_owned());
                    }
                    find(value, &format!("{path}/{name}"), found);
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| find(item, &format!("{path}/{at}"), found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    find(&translated(chat), "", &mut found);
    found
}

#[test]
fn the_marks_of_a_turn_are_set_again_in_the_next() {
    let ids: Vec<String> = (0..64).map(|at| format!("c{at}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut history = vec![json!({"role": "system", "content": "s"}), user("u")];
    let mut before = marks(&json!({"model": "m", "messages": history}));
    assert_eq!(before, ["/messages/0/content/0", "/system/0"]);
    for turn in 1..6 {
        let turn_ids: Vec<String> = ids.iter().map(|id| format!("{turn}{id}")).collect();
        let turn_ids: Vec<&str> = turn_ids.iter().map(String::as_str).collect();
        history.push(calls("", &turn_ids));
        history.extend(turn_ids.iter().map(|id| result(id, "ok")));
        let now = marks(&json!({"model": "m", "messages": history}));
        assert!(now.len() <= 4, "{now:?}");
        let newest = format!("/messages/{}/content/63", turn * 2);
        assert!(now.contains(&newest), "{now:?}");
        let last = before.iter().filter(|path| path.starts_with("/messages")).max().unwrap();
        assert!(now.contains(last), "what the last request wrote under {last} is read by {now:?}");
        before = now;
    }
}

#[test]
fn marks_that_a_request_came_with_are_kept_and_are_all() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let part = json!({"type": "text", "text": "a", "cache_control": mark});
    let rows = [
        (json!([{"role": "system", "content": [part]}, user("u")]), "/system/0"),
        (json!([user("t"), {"role": "user", "content": [part, text("b")]}]), "/messages/0/content/1"),
        (json!([{"role": "user", "content": "u", "cache_control": mark}, user("v")]), "/messages/0/content/0"),
        (
            json!([user("u"), calls("", &["1"]), {"role": "tool", "tool_call_id": "1", "content": [part]}]),
            "/messages/2/content/0",
        ),
    ];
    for (history, path) in rows {
        let chat = json!({"model": "m", "messages": history});
        assert_eq!(marks(&chat), [path], "{history}");
        assert_eq!(translated(&chat).pointer(path).unwrap()["cache_control"], mark);
    }
    let mut tool = json!({"type": "function", "function": {"name": "ls"}});
    assert_eq!(
        marks(&json!({"model": "m", "tools": [tool], "messages": [user("u")]})),
        ["/messages/0/content/0", "/tools/0"]
    );
    tool["cache_control"] = mark;
    assert_eq!(marks(&json!({"model": "m", "tools": [tool], "messages": [user("u")]})), ["/tools/0"]);
}
