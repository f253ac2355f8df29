use lakitu_kernel::ErrorCode;
use lakitu_kernel::chat::Finish;
use lakitu_kernel::ports::FailureClass;
use serde_json::{Value, json};

use super::answer;
use crate::gateway::anthropic::{error, response};

fn message(content: &Value, stop_reason: &str) -> Vec<u8> {
    json!({
        "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 7},
    })
    .to_string()
    .into_bytes()
}

#[test]
fn a_whole_message_is_a_completion() {
    let content = json!([
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Look"},
        {"type": "text", "text": "ing."},
        {"type": "novel", "text": 7},
        {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "ls"}},
    ]);
    // What is not known may be anything, but not a text that is none.
    assert!(response(&message(&content, "tool_use"), 0).is_err());
    let content = json!([content[0], content[1], content[2], content[3], {"type": "novel"}, content[5]]);
    let completion: Value =
        serde_json::from_slice(&response(&message(&content, "tool_use"), 1_700_000_000).unwrap()).unwrap();
    let format = "anthropic-claude-v1";
    assert_eq!(
        completion,
        json!({
            "id": "msg_01", "object": "chat.completion", "created": 1_700_000_000, "model": "claude-sonnet-4-5",
            "choices": [{
                "index": 0, "finish_reason": "tool_calls", "native_finish_reason": "tool_use",
                "message": {
                    "role": "assistant", "content": "Looking.", "reasoning": "hm",
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": "hm", "signature": "sig", "format": format, "index": 0},
                        {"type": "reasoning.encrypted", "data": "xyz", "format": format, "index": 1},
                    ],
                    "tool_calls": [{"id": "toolu_1", "type": "function",
                        "function": {"name": "bash", "arguments": "{\"command\":\"ls\"}"}}],
                },
            }],
            "usage": {
                "prompt_tokens": 35, "completion_tokens": 7, "total_tokens": 42,
                "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
            },
        })
    );
}

#[test]
fn a_completion_is_an_answer_and_a_cut_one_is_none() {
    let content = json!([{"type": "tool_use", "id": "t", "name": "bash", "input": {}}]);
    let body = message(&content, "tool_use");
    let read = answer(&response(&body, 0).unwrap()).unwrap();
    assert_eq!((read.finish, &*read.calls[0].arguments, &*read.text), (Finish::ToolCalls, "{}", ""));
    assert!((0..body.len()).all(|cut| response(&body[..cut], 0).is_err()));
    // The arguments are the model's own text.
    let odd =
        String::from_utf8(body).unwrap().replace("\"input\":{}", "\"input\":{ \"b\":1e400,\"a\":9007199254740993}");
    let read = answer(&response(odd.as_bytes(), 0).unwrap()).unwrap();
    assert_eq!(read.calls[0].arguments, "{ \"b\":1e400,\"a\":9007199254740993}");
    let refused = response(&message(&json!([]), "refusal"), 0).unwrap();
    assert_eq!(answer(&refused).unwrap().finish, Finish::ContentFilter);
}

#[test]
fn what_is_not_a_message_is_a_failure() {
    let overloaded =
        br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
    assert_eq!(response(overloaded, 0).unwrap_err().class, FailureClass::Overloaded { after: None });
    for body in
        ["", "{}", "[]", "<html>", r#"{"type":"message","content":[]}"#, r#"{"content":[{}],"stop_reason":"end_turn"}"#]
    {
        assert_eq!(response(body.as_bytes(), 0).unwrap_err().error.code, ErrorCode::GatewayProtocol, "{body}");
    }
}

#[test]
fn an_error_body_is_translated_and_everything_else_left_alone() {
    let rows = [
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"},"request_id":"req_1"}"#,
            r#"{"error":{"code":429,"message":"Slow down","type":"rate_limit_error"}}"#,
        ),
        (
            r#"{"type":"error","error":{"type":"novel_error"}}"#,
            r#"{"error":{"code":null,"message":"novel_error","type":"novel_error"}}"#,
        ),
        (r#"{"error":{"message":"as it is"}}"#, r#"{"error":{"message":"as it is"}}"#),
        (r#"{"type":"error","error":"short"}"#, r#"{"type":"error","error":"short"}"#),
        ("<html>502</html>", "<html>502</html>"),
        ("", ""),
    ];
    for (body, expected) in rows {
        assert_eq!(String::from_utf8(error(body.as_bytes())).unwrap(), expected);
    }
}
