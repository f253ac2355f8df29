//! A model that fails: asked again with the same bytes, and given up without losing the thread.

use lakitu_kernel::config::Config;
use serde_json::json;

use crate::harness::{Ended, Harness, Script};

#[tokio::test(start_paused = true)]
async fn a_model_that_fails_and_breaks_off_is_asked_again_with_the_same_bytes_and_key() {
    let script = Script::new()
        .calls("file_read", json!({ "path": "a" }))
        .fails(503)
        .cuts(2)
        .fails(429)
        .says("A long enough answer.");
    let lakitu = Harness::start(script).await;

    assert_eq!(lakitu.prompt("read a").await, Ok("A long enough answer.".to_owned()));

    let sent = lakitu.gateway.sent();
    assert_eq!(sent.iter().map(|sent| sent.turn).collect::<Vec<_>>(), [1, 2, 2, 2, 2]);
    assert!(sent[1..].iter().all(|again| *again == sent[1]), "an attempt differs from the first");
    assert_eq!(sent[1].key, format!("{}:2", lakitu.thread()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stays_away_checkpoints_the_thread_which_goes_on_later() {
    let mut config = Config::default();
    config.limits.model_attempts = 3;
    let script =
        Script::new().calls("file_read", json!({ "path": "a" })).fails(503).fails(502).fails(503).says("Back.");
    let lakitu = Harness::start_with(script, config).await;

    let away = Err(Ended::Checkpointed("gateway: GATEWAY_UNREACHABLE".to_owned()));
    assert_eq!(lakitu.prompt("read a").await, away);
    assert_eq!(lakitu.resume().await, Ok("Back.".to_owned()));

    let sent = lakitu.gateway.sent();
    assert_eq!(sent.len(), 5);
    assert!(sent[1..].iter().all(|again| *again == sent[1]), "an attempt differs from the first");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_checkpoint_the_thread() {
    let lakitu = Harness::start(Script::new().fails(401).fails(401).says("Welcome.")).await;

    let refused = Err(Ended::Checkpointed("gateway: GATEWAY_REFUSED".to_owned()));
    assert_eq!(lakitu.prompt("hello").await, refused);
    assert_eq!(lakitu.resume().await, Ok("Welcome.".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_script_that_does_not_fit_fails_the_thread() {
    let expects = json!({ "expect": { "last_tool_result": { "contains": "hello" } }, "text": "It says hello." });
    let lakitu = Harness::start(Script::new().calls("file_read", json!({ "path": "a" })).turn(expects)).await;
    lakitu.home.write("a", "good bye\n");

    assert_eq!(lakitu.prompt("read a").await, Err(Ended::Failed("SCRIPT_MISMATCH".to_owned())));
    lakitu.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_behind_the_scripts_end_fails_the_thread() {
    let lakitu = Harness::start(Script::new().calls("file_read", json!({ "path": "a" }))).await;

    assert_eq!(lakitu.prompt("read a").await, Err(Ended::Failed("SCRIPT_MISMATCH".to_owned())));
    lakitu.end().await;
}
