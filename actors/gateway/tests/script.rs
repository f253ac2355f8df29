use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::chat::{Finish, ModelAnswer};
use lakitu_kernel::ports::{FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ThreadId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Steps, no_sink, request, shown, sink};
use crate::gateway::{RetryPolicy, Route, ScriptGateway};

const SCRIPT: &str = r#"
turns:
  - text: Looking at the tests first.
    tool_calls:
      - { name: bash, arguments: { command: "sh test.sh" } }
      - { name: ls, id: mine }
  - expect: { last_tool_result: { contains: "1 failed", not_contains: [panic, "2 failed"] } }
    tool_calls:
      - { name: file_read, arguments: "{broken" }
    finish: length
  - fail: { status: 503, retry_after: 2 }
  - cut: { after_chunks: 2 }
  - delay_ms: 200
    text: Fixed it, and well.
agents:
  reviewer:
    turns: [{ text: Good. }]
side:
  - text: A title
"#;

fn script() -> ScriptGateway {
    ScriptGateway::parse(SCRIPT).unwrap().strict(true)
}

fn asked(result: Option<&str>) -> Value {
    let mut messages = vec![json!({"role": "user", "content": "fix it"})];
    if let Some(result) = result {
        let call = json!({"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{}"}});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "a", "content": result}));
    }
    Value::Array(messages)
}

async fn ask(script: &ScriptGateway, turn: u32, result: Option<&str>) -> Result<ModelAnswer, ModelFailure> {
    script.complete(request(turn, &asked(result)), no_sink()).await
}

#[tokio::test(start_paused = true)]
async fn turns_are_answered_by_their_number_again_and_again() {
    let script = script();
    for _ in 0..2 {
        let first = ask(&script, 1, None).await.unwrap();
        assert_eq!(first.text, "Looking at the tests first.");
        let calls: Vec<_> = first.calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
        assert_eq!(calls, [("call_1_1", "bash", r#"{"command":"sh test.sh"}"#), ("mine", "ls", "{}")]);
        assert_eq!(first.finish, Finish::ToolCalls);
        assert_eq!(first.usage, ask(&script, 1, None).await.unwrap().usage);
        assert!(first.usage.unwrap().input_tokens > 10);
    }
    let second = ask(&script, 2, Some("1 failed")).await.unwrap();
    assert_eq!((&*second.calls[0].arguments, second.finish), ("{broken", Finish::Length));
    assert_eq!(script.finish().unwrap_err().code, ErrorCode::ScriptMismatch);
}

#[tokio::test(start_paused = true)]
async fn disturbances_stand_before_their_turn_and_happen_once_a_process() {
    let script = script();
    let failed = ask(&script, 3, None).await.unwrap_err();
    assert_eq!(failed.class, FailureClass::Overloaded { after: Some(Duration::from_secs(2)) });
    let (deltas, mut received) = sink();
    let cut = script.complete(request(3, &asked(None)), deltas).await.unwrap_err();
    assert_eq!((cut.class, cut.error.code), (FailureClass::Retry { after: None }, ErrorCode::GatewayUnreachable));
    assert_eq!(shown(&mut received), "Fixed it, ");
    let begun = Instant::now();
    assert_eq!(ask(&script, 3, None).await.unwrap().text, "Fixed it, and well.");
    assert_eq!(begun.elapsed(), Duration::from_millis(200));
    assert_eq!(script.finish(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_retry_loop_gets_through_a_disturbed_turn() {
    let route = Route::new(Arc::new(script()), RetryPolicy::default(), Arc::new(Steps(0.into())));
    let (deltas, mut received) = sink();
    let answer = route.complete(request(3, &asked(None)), deltas, |_| {}).await.unwrap();
    assert_eq!(answer.text, "Fixed it, and well.");
    assert_eq!(shown(&mut received), "Fixed it, Fixed it, and well.");
}

#[tokio::test]
async fn what_does_not_fit_names_the_turn_and_what_came() {
    let script = script();
    for (turn, result, expected) in [
        (
            2,
            Some("all \u{1b}[32mpassed"),
            "turn 2: the last tool result was expected to contain \"1 failed\"; it is: \"all [32mpassed\"",
        ),
        (2, Some("1 failed: panic"), "not to contain \"panic\""),
        (2, None, "turn 2: the last tool result was expected, and there is none"),
        (4, None, "turn 4 is asked for, and the script's `turns` has 3"),
        (0, None, "turn 0 is asked for"),
    ] {
        let failure = ask(&script, turn, result).await.unwrap_err();
        assert_eq!((failure.class, failure.error.code), (FailureClass::Fatal, ErrorCode::ScriptMismatch));
        assert!(failure.error.message.contains(expected), "{failure}");
    }
    let long = ask(&script, 2, Some(&"x".repeat(100_000))).await.unwrap_err();
    assert!(long.error.message.len() < 500);
}

#[tokio::test]
async fn a_strict_script_refuses_what_a_strict_server_would() {
    let broken = json!([{"role": "tool", "tool_call_id": "a", "content": ""}]);
    let failure = script().complete(request(1, &broken), no_sink()).await.unwrap_err();
    assert_eq!((failure.class, failure.error.code), (FailureClass::Fatal, ErrorCode::GatewayRejected));
    assert!(script().strict(false).complete(request(1, &broken), no_sink()).await.is_ok());
}

#[tokio::test]
async fn threads_and_agents_play_side_by_side() {
    let script = script();
    let mut other = request(1, &asked(None));
    other.thread = ThreadId(8);
    let (one, two) = tokio::join!(ask(&script, 1, None), script.complete(other, no_sink()));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(ask(&script.agent("reviewer").unwrap(), 1, None).await.unwrap().text, "Good.");
    assert_eq!(ask(&script.side(), 1, None).await.unwrap().text, "A title");
    assert!(script.agent("nobody").is_none());
}

#[test]
fn a_script_that_is_not_one_is_refused_by_key_and_line() {
    let rows = [
        ("turns:\n  - text: a\n    tool_call: []\n", "unknown field `tool_call`", "line 3"),
        ("turn: []\n", "unknown field `turn`", "line 1"),
        ("turns: []\n\nsides: []\n", "unknown field `sides`", "line 3"),
        (
            "turns:\n  - text: a\n  - expect: { last_result: {} }\n    text: b\n",
            "unknown field `last_result`",
            "line 3",
        ),
        ("turns:\n  - text: [a]\n", "turns[0].text", "line 2"),
        ("turns:\n  - text: a\n  - fail: { status: 200 }\n  - text: b\n", "turns[1]", "300 to 599"),
        ("turns:\n  - fail: { status: 503 }\n    text: a\n", "turns[0]", "entries of their own"),
        ("turns:\n  - text: a\n  - cut: { after_chunks: 1 }\n", "ends with", "before a turn"),
        ("turns:\n  - delay_ms: 5\n", "turns[0]", "says nothing"),
        ("agents: { x: { turns: [{}] } }\n", "agents.x.turns[0]", "says nothing"),
        ("turns: [\n", "line", "the script is not one"),
    ];
    for (yaml, what, place) in rows {
        let error = ScriptGateway::parse(yaml).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(place), "{yaml}: {error}");
    }
    let error = ScriptGateway::read(std::path::Path::new("/nowhere/s.yaml")).unwrap_err().to_string();
    assert!(error.contains("/nowhere/s.yaml cannot be read"), "{error}");
}

#[test]
fn a_server_s_request_is_placed_by_its_key_or_else_by_what_it_holds() {
    let thread = ThreadId(7);
    let body = json!({"messages": [{"role": "user"}, {"role": "assistant"}, {"role": "tool"}, {"role": "assistant"}]});
    let rows = [
        (Some(format!("{thread}:9")), (thread, 9)),
        (Some("thr_x:9".to_owned()), (ThreadId(0), 3)),
        (Some(format!("{thread}:-1")), (ThreadId(0), 3)),
        (Some("mine".to_owned()), (ThreadId(0), 3)),
        (None, (ThreadId(0), 3)),
    ];
    for (key, expected) in rows {
        let request = ScriptGateway::request(key.as_deref(), "m".into(), body.to_string().into());
        assert_eq!((request.thread, request.turn.0), expected, "{key:?}");
    }
    assert_eq!(ScriptGateway::request(None, "m".into(), "{".into()).turn.0, 1);
}
