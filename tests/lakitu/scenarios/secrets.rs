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
