//! A model that fails: asked again with the same bytes, and given up without losing the thread.

use std::sync::Arc;

use lakitu_kernel::chat::{Finish, ModelAnswer, ModelRequest};
use lakitu_kernel::config::Config;
use lakitu_kernel::ports::{BoxFuture, DeltaSink, Gateway, ModelFailure};
use lakitu_kernel::supervise::Guarded;
use serde_json::json;

use crate::harness::{Ended, Harness, Home, Recorder, Script, readable};

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

#[tokio::test(start_paused = true)]
async fn a_prompt_that_does_not_fit_is_pruned_once_and_the_journal_keeps_everything() {
    let script = Script::new()
        .calls("file_read", json!({ "path": "old" }))
        .calls("file_read", json!({ "path": "new" }))
        .fails(413)
        .says("It fits.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("old", &"o".repeat(1_900));
    lakitu.home.write("new", "n");

    assert_eq!(lakitu.prompt("read both").await, Ok("It fits.".to_owned()));

    let sent = lakitu.gateway.sent();
    assert_eq!(sent.iter().map(|sent| sent.turn).collect::<Vec<_>>(), [1, 2, 3, 3]);
    assert!(
        !lakitu.gateway.request(3).contains("ooo") && lakitu.gateway.request(3).contains("taken out of the prompt")
    );
    let transcript = lakitu.transcript().await;
    assert!(transcript.contains("pruned: 1 results") && transcript.contains("ooo"), "{transcript}");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_does_not_fit_even_so_checkpoints_the_thread() {
    let script = Script::new().calls("file_read", json!({ "path": "old" })).fails(413).fails(413).says("It fits now.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("old", &"o".repeat(1_900));

    let full = Err(Ended::Checkpointed("token_limit: GATEWAY_REJECTED".to_owned()));
    assert_eq!(lakitu.prompt("read").await, full);
    assert_eq!(lakitu.gateway.sent().len(), 3);
    assert_eq!(lakitu.resume().await, Ok("It fits now.".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_off_at_the_output_limit_is_gone_on_with() {
    let script = Script::new().says("The first half,").at_its_limit().says("and the second.");
    let lakitu = Harness::start(script).await;

    assert_eq!(lakitu.prompt("tell").await, Ok("and the second.".to_owned()));
    let request = lakitu.gateway.request(2);
    assert!(request.contains("The first half,") && request.contains("Go on from where it ends"), "{request}");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_off_again_and_again_checkpoints_the_thread() {
    let script = Script::new()
        .says("One,")
        .at_its_limit()
        .says("two,")
        .at_its_limit()
        .says("three,")
        .at_its_limit()
        .says("done.");
    let lakitu = Harness::start(script).await;

    let full = Err(Ended::Checkpointed("token_limit: TRUNCATED_ANSWER".to_owned()));
    assert_eq!(lakitu.prompt("tell").await, full);
    assert_eq!(lakitu.resume().await, Ok("done.".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_filtered_is_none_and_its_calls_do_not_run() {
    let script = Script::new().turn(json!({
        "text": "I will",
        "tool_calls": [{ "name": "bash", "arguments": { "command": "touch ran" } }],
        "finish": "content_filter",
    }));
    let lakitu = Harness::start(script).await;

    assert_eq!(lakitu.prompt("do it").await, Err(Ended::Failed("GATEWAY_REJECTED".to_owned())));
    assert!(!lakitu.home.workspace().join("ran").exists());
    lakitu.stop().await;
}

/// Says nothing so often, then something. Keeps what it is asked.
#[derive(Clone)]
struct Silent(usize, Arc<Guarded<Vec<Asked>>>);

/// A key and a body.
type Asked = (String, Vec<u8>);

impl Gateway for Silent {
    fn complete(&self, request: ModelRequest, _: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let body = request.body_bytes();
        lakitu_actors::gateway::validate::validate(&body).expect("a valid request");
        let asked = self.1.with(|asked| {
            asked.push((request.idempotency_key(), body));
            asked.len()
        });
        let text = if asked > self.0 { "Done." } else { " \n" }.to_owned();
        let calls = Vec::new();
        let answer = ModelAnswer { text, calls, finish: Finish::Stop, usage: None, model: None, opaque: None };
        Box::pin(async { Ok(answer) })
    }
}

async fn over(silent: Silent) -> Harness {
    let upstream = Arc::new(silent);
    let put = |parts: &mut lakitu_actors::runtime::Parts| parts.upstream = upstream;
    Harness::boot_with(Home::new(), Recorder::new(&Script::new()), Config::default(), put).await
}

/// F-06.
#[tokio::test(start_paused = true)]
async fn a_model_that_says_nothing_is_asked_once_more_and_then_told_once() {
    let told = "user: [lakitu] Your answer was empty. Go on with what is left to do, or say what came of it.\n";
    for (silent, asked, nudged) in [(1, 2, false), (2, 3, true), (3, 4, true)] {
        let gateway = Silent(silent, Arc::default());
        let lakitu = over(gateway.clone()).await;
        assert_eq!(lakitu.prompt("do it").await, Ok("Done.".to_owned()), "{silent}");
        let sent = gateway.1.with(|sent| sent.clone());
        assert_eq!(sent.len(), asked, "{silent}");
        assert!(sent.iter().all(|(key, _)| *key == sent[0].0), "one turn, one key");
        assert_eq!(sent[0].1, sent[1].1, "it may have been an accident");
        let last = readable(&sent[asked - 1].1);
        assert_eq!(last, if nudged { format!("user: do it\n{told}") } else { "user: do it\n".to_owned() }, "{silent}");
        let names: Vec<_> = lakitu.events(lakitu.thread()).await.iter().map(|event| event.body.name()).collect();
        assert_eq!(names.contains(&"model.nudged"), nudged, "{names:?}");
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_says_nothing_even_so_checkpoints_the_thread() {
    let gateway = Silent(4, Arc::default());
    let lakitu = over(gateway.clone()).await;
    let silent = Err(Ended::Checkpointed("gateway: GATEWAY_PROTOCOL".to_owned()));
    assert_eq!(lakitu.prompt("do it").await, silent);
    assert_eq!(gateway.1.with(|sent| sent.len()), 4);
    assert_eq!(lakitu.resume().await, Ok("Done.".to_owned()));
    lakitu.end().await;
}
