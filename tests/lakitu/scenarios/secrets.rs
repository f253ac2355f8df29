//! A provider that says aloud what it was told in confidence: nobody else hears it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::harness::secrets::{KEY, TOKEN};
use crate::harness::{Binary, answering, response};

/// The secret as it is and as it may be quoted.
fn aloud(secret: &str) -> String {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let url: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("you said {secret}, which is {} or {hex} or {url}", STANDARD.encode(format!("Bearer {secret}")))
}

/// In a refusal, in a stream, in what is no answer at all, and in a refusal of the credentials themselves.
fn indiscretions(secret: &str) -> Vec<String> {
    let error = json!({ "error": { "message": aloud(secret), "code": 503 } }).to_string();
    let refused = response("401 Unauthorized", &json!({ "error": { "message": aloud(secret) } }).to_string());
    vec![
        response("503 Busy", &error),
        response("200 OK", &format!("data: {error}\n\n")),
        response("200 OK", &format!("<html>{}</html>", aloud(secret))),
        refused.clone(),
        refused,
    ]
}

/// What the run left behind and said is searched when it is over, as in every test of the real binary.
#[test]
fn a_token_that_the_gateway_quotes_is_not_handed_on() {
    let lakitu = Binary::new();
    let (url, server) = answering(indiscretions(TOKEN));
    let ran = lakitu.run(&["run", "hello", "--gateway", &url, "--output", "stream-json", "-v"]);
    assert_eq!(ran.exit, 4, "{}", ran.err);
    assert!(ran.out.contains("you said ***"), "{}", ran.out);
    let requests = server.join().unwrap();
    assert!(requests.iter().all(|request| request.contains(TOKEN)), "the gateway itself is told");
}

#[test]
fn a_providers_key_that_it_quotes_is_not_handed_on() {
    for (variable, base) in [("OPENAI_API_KEY", "OPENAI_BASE_URL"), ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")] {
        let (url, server) = answering(indiscretions(KEY));
        let lakitu = Binary::new().env(variable, KEY).env(base, &url);
        let doctor = lakitu.run(&["doctor", "--model", "m"]);
        assert_eq!(doctor.exit, 1, "{}", doctor.err);
        let ran = lakitu.run(&["run", "hello", "--output", "stream-json", "-v"]);
        assert_eq!(ran.exit, 4, "{}", ran.err);
        assert!(ran.out.contains("you said ***"), "{}", ran.out);
        let requests = server.join().unwrap();
        assert!(requests.iter().all(|request| request.contains(KEY)), "the provider itself is told");
    }
}

#[test]
fn an_answer_that_quotes_the_token_is_told_without_it() {
    let chunk = json!({ "choices": [{ "delta": { "content": aloud(TOKEN) }, "finish_reason": "stop" }] });
    let (url, server) = answering(vec![response("200 OK", &format!("data: {chunk}\n\ndata: [DONE]\n\n"))]);
    let lakitu = Binary::new();
    let ran = lakitu.run(&["run", "hello", "--gateway", &url, "--output", "stream-json"]);
    server.join().unwrap();
    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert!(
        ran.lines().last().unwrap()["text"].as_str().unwrap().starts_with("you said ***, which is "),
        "{}",
        ran.out
    );
}

/// A word that stands in a key's place is no secret: what the model says stays as it is.
#[test]
fn a_placeholder_for_a_key_changes_nothing_that_the_model_writes() {
    let arguments = json!({ "path": "a.css", "content": "p { display: none; }" }).to_string();
    let call = json!({ "index": 0, "id": "c", "function": { "name": "file_write", "arguments": arguments } });
    let calls = json!({ "choices": [{ "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }] });
    let said = json!({ "choices": [{ "delta": { "content": "none left" }, "finish_reason": "stop" }] });
    let stream = |chunk| response("200 OK", &format!("data: {chunk}\n\ndata: [DONE]\n\n"));
    let (url, server) = answering(vec![stream(calls), stream(said)]);
    let lakitu = Binary::new().env("OPENAI_API_KEY", "none").env("OPENAI_BASE_URL", &url);

    let ran = lakitu.run(&["run", "style it", "--output", "json"]);

    server.join().unwrap();
    assert_eq!((ran.exit, &ran.object()["text"]), (0, &"none left".into()), "{}", ran.err);
    assert_eq!(lakitu.home.read("a.css"), "p { display: none; }");
}

/// A call cannot be changed and be the same call: an answer whose arguments quote the key is none.
#[test]
fn a_call_that_quotes_the_token_is_not_run() {
    let arguments = json!({ "command": format!("echo {TOKEN} > a") }).to_string();
    let call = json!({ "index": 0, "id": "c", "function": { "name": "bash", "arguments": arguments } });
    let calls = json!({ "choices": [{ "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }] });
    let (url, server) = answering(vec![response("200 OK", &format!("data: {calls}\n\ndata: [DONE]\n\n"))]);
    let lakitu = Binary::new();

    let ran = lakitu.run(&["run", "hello", "--gateway", &url, "--output", "json"]);

    server.join().unwrap();
    assert_eq!(ran.exit, 4, "{}", ran.err);
    assert!(!lakitu.workspace().join("a").exists());
}
