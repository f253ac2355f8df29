//! Which calls may be made: refused, asked about, and made once somebody says so.

use lakitu_actors::store::ThreadStatus;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::{EventBody, Settings};
use lakitu_kernel::{Event, ToolError};
use serde_json::{Value, json};

use crate::harness::{Ended, Following, Harness, Script, soon};

fn config(policy: Value) -> Config {
    Config { policy: serde_json::from_value(policy).unwrap(), ..Config::default() }
}

fn somebody(settings: &mut Settings) {
    settings.asking.somebody = true;
}

/// Waits for the next question of a run: the id of the call that it is about.
async fn question(run: &mut Following) -> String {
    loop {
        if let EventBody::ApprovalAsked { call_id, .. } = run.next().await.unwrap().body {
            return call_id;
        }
    }
}

async fn answer(lakitu: &Harness, call_id: &str, allow: bool) -> Result<(), ToolError> {
    let threads = lakitu.runtime().threads();
    soon(threads.approve(lakitu.thread(), call_id.to_owned(), allow)).await.map(drop)
}

async fn status(lakitu: &Harness) -> ThreadStatus {
    let thread = lakitu.thread();
    lakitu.ask(move |reading| reading.thread(thread)).await.unwrap().status
}

fn count(events: &[Event], name: &str) -> usize {
    events.iter().filter(|event| event.body.name() == name).count()
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_denies_is_refused_with_a_reason_and_nothing_of_it_happens() {
    let patch = "*** Begin Patch\n*** Add File: fine.txt\n+x\n*** Add File: keys/new.pem\n+x\n*** End Patch";
    let script = Script::new()
        .runs("echo x > fine.txt; sudo rm -rf fine.txt")
        .calls("file_write", json!({ "path": "keys/a.pem", "content": "x" }))
        .calls("file_write", json!({ "path": "link/b.pem", "content": "x" }))
        .calls("file_write", json!({ "path": "./keys/../keys/c.pem", "content": "x" }))
        .calls("apply_patch", json!({ "patch": patch }))
        .calls("file_read", json!({ "file_path": ".env" }))
        .calls("file_write", json!({ "path": "fine.txt", "content": "x" }))
        .says("Done.");
    let rules = ["bash(rm *)", "file_write(keys)", "apply_patch(*.pem)", "*(.env)"];
    let lakitu = Harness::start_with(script, config(json!({ "deny": rules }))).await;
    lakitu.home.write("keys/old.pem", "old");
    lakitu.home.write(".env", "SECRET=1");
    std::os::unix::fs::symlink("keys", lakitu.home.workspace().join("link")).unwrap();

    assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()));

    let told = lakitu.gateway.request(8);
    assert_eq!(told.matches("DANGEROUS_COMMAND: the policy refuses this command (the rule `bash(rm *)`)").count(), 1);
    assert_eq!(told.matches("PERMISSION_DENIED: the policy refuses this call").count(), 5, "{told}");
    assert!(!told.contains("SECRET"), "{told}");
    assert_eq!(lakitu.home.read("fine.txt"), "x");
    let left: Vec<_> = std::fs::read_dir(lakitu.home.workspace().join("keys")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_be_asked_a_run_never_waits() {
    let script = || Script::new().calls("file_write", json!({ "path": "a", "content": "x" })).says("I could not.");
    let rows = [(json!({ "ask": ["file_write"] }), false), (json!({ "default": "ask" }), false), (json!({}), true)];
    for (policy, every_change) in rows {
        let lakitu = Harness::start_with(script(), config(policy)).await;
        let run = lakitu.prompt_with("go", |settings| settings.asking.every_change = every_change).await;
        assert_eq!(run, Ok("I could not.".to_owned()));
        assert!(lakitu.gateway.request(2).contains("PERMISSION_DENIED: this needs a person's consent"));
        assert_eq!(count(&lakitu.events(lakitu.thread()).await, "approval.asked"), 0);
        assert!(!lakitu.home.workspace().join("a").exists());
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_allows_one_call_and_refuses_another_and_the_thread_waits_meanwhile() {
    let write = |path: &str| ("file_write", json!({ "path": path, "content": "x" }));
    let script = Script::new()
        .calls_all([("file_read", json!({ "path": "b" })), write("yes"), write("no"), write("allowed")])
        .says("One of three.");
    let policy = json!({ "default": "ask", "allow": ["file_write(allowed)"] });
    let lakitu = Harness::start_with(script, config(policy)).await;
    lakitu.home.write("b", "here");
    let mut run = lakitu.begin_set("go", somebody).await;
    let (yes, no) = (question(&mut run).await, question(&mut run).await);
    assert_eq!(status(&lakitu).await, ThreadStatus::Waiting);
    let unknown = answer(&lakitu, "call_9_9", true).await.unwrap_err();
    assert_eq!(unknown.code.as_str(), "THREAD_BUSY");
    assert!(!lakitu.home.workspace().join("yes").exists());
    answer(&lakitu, &yes, true).await.unwrap();
    assert!(answer(&lakitu, &yes, false).await.is_err(), "it was answered");
    answer(&lakitu, &no, false).await.unwrap();
    assert_eq!(run.end().await, Ok("One of three.".to_owned()));

    let there = |path: &str| lakitu.home.workspace().join(path).exists();
    assert_eq!((there("yes"), there("no"), there("allowed")), (true, false, true));
    let told = lakitu.gateway.request(2);
    let expected = "result 3: PERMISSION_DENIED: the person who was asked does not allow this; nothing ran.";
    assert!(told.contains(expected), "{told}");
    assert_eq!(status(&lakitu).await, ThreadStatus::Completed);
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_outlives_its_actor_and_its_process_and_an_answer_is_not_asked_for_twice() {
    let script = Script::new().calls("file_write", json!({ "path": "a", "content": "x" })).says("Written.");
    let asks = || config(json!({ "ask": ["file_write"] }));
    let lakitu = Harness::start_with(script.clone(), asks()).await;
    let mut run = lakitu.begin_set("go", somebody).await;
    let call = question(&mut run).await;
    let thread = lakitu.thread();
    // Its actor ends and comes back.
    lakitu.inject(&format!("/threads/{thread}/agent"), lakitu_kernel::supervise::FaultKind::Panic);
    assert!(answer(&lakitu, "nothing", true).await.is_err());
    assert_eq!(lakitu.lifecycle_of(&format!("/threads/{thread}/agent")), "started, failed, restarting, started");
    let (home, _) = lakitu.stop().await;

    let lakitu = Harness::start_on(home, script, asks()).await;
    lakitu.turn_to(thread);
    let mut going_on = lakitu.follow(thread, lakitu.folded(thread).await.seq);
    lakitu.runtime().threads().resume(thread, lakitu_kernel::event::Resumed::Boot, None).await.unwrap();
    assert_eq!(question(&mut going_on).await, call, "it is asked again");
    answer(&lakitu, &call, true).await.unwrap();
    assert_eq!(going_on.end().await, Ok("Written.".to_owned()));
    let events = lakitu.events(thread).await;
    assert_eq!((count(&events, "approval.answered"), count(&events, "tool.intent")), (1, 1));
    assert_eq!(lakitu.home.read("a"), "x");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_where_nobody_sits_does_not_wait_for_the_answer() {
    let script = Script::new().calls("file_write", json!({ "path": "a", "content": "x" })).says("I could not.");
    let lakitu = Harness::start_with(script.clone(), config(json!({ "ask": ["file_write"] }))).await;
    let mut run = lakitu.begin_set("go", somebody).await;
    question(&mut run).await;
    let prefix = lakitu.folded(lakitu.thread()).await.prefix;
    let outcome = lakitu.resume_with(|settings| settings.asking.somebody = false).await;
    assert_eq!(outcome, Ok("I could not.".to_owned()));
    assert_eq!(lakitu.folded(lakitu.thread()).await.prefix, prefix, "requests begin as they did");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_question_ends_with_its_run() {
    let script = Script::new().calls("file_write", json!({ "path": "a", "content": "x" }));
    let lakitu = Harness::start_with(script, config(json!({ "ask": ["*"] }))).await;
    let mut run = lakitu.begin_set("go", somebody).await;
    let call = question(&mut run).await;
    lakitu.cancel().await;
    assert_eq!(run.end().await, Err(Ended::Cancelled));
    assert!(answer(&lakitu, &call, true).await.is_err());
    assert!(lakitu.transcript().await.contains("CANCELLED: "), "{}", lakitu.transcript().await);
    assert!(!lakitu.home.workspace().join("a").exists());
    lakitu.end().await;
}
