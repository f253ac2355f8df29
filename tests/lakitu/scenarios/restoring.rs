//! `checkpoint_restore`: the files of a checkpoint, for the agent that runs.

use lakitu_actors::checkpoint::CreateArgs;
use lakitu_actors::store::CheckpointStatus;
use lakitu_actors::threads::replay;
use lakitu_kernel::config::Config;
use lakitu_kernel::{ErrorCode, EventBody, Seq, ThreadId};
use serde_json::json;

use crate::harness::{Harness, Script};

fn writes(path: &str, content: &str) -> Script {
    Script::new().calls("file_write", json!({ "path": path, "content": content }))
}

fn restores(id: &str, force: bool) -> Script {
    Script::new().calls("checkpoint_restore", json!({ "id": id, "force": force }))
}

/// What each call was told, or its code.
async fn results(lakitu: &Harness, thread: ThreadId) -> Vec<Result<String, ErrorCode>> {
    let events = lakitu.events(thread).await;
    let result =
        |body| if let EventBody::ToolResult { output, error, .. } = body { Some((output, error)) } else { None };
    let results = events.into_iter().filter_map(|event| result(event.body));
    results.map(|(output, error)| error.map_or(Ok(output), |error| Err(error.code))).collect()
}

async fn assert_replays(lakitu: &Harness, thread: ThreadId) {
    let store = lakitu.runtime().wiring.store.clone();
    assert_eq!(replay::replay(&store, thread).await.unwrap().divergence, None);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_changed_is_named_and_left_alone_unless_it_is_forced_and_the_run_goes_on() {
    let script = writes("a", "one\n")
        .calls("checkpoint_create", json!({}))
        .calls("file_edit", json!({ "path": "a", "old_string": "one", "new_string": "two" }))
        .then(writes("b", "new\n"))
        .says("Changed.")
        .then(restores("chk_13", false))
        .then(restores("chk_13", true))
        .then(restores("chk_13", false))
        .then(restores("chk_00000000000000000000000001_13", false))
        .then(restores("here", false))
        .calls("file_edit", json!({ "path": "a", "old_string": "one", "new_string": "three" }))
        .says("Back, and on.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("change").await, Ok("Changed.".to_owned()));
    lakitu.home.write("a", "somebody's\n");
    assert_eq!(lakitu.continue_("go back").await, Ok("Back, and on.".to_owned()));

    let thread = lakitu.thread();
    let told = results(&lakitu, thread).await.split_off(4);
    assert_eq!(told[0], Err(ErrorCode::Conflict));
    assert_eq!(told[1], Ok("Restored a\nRemoved b\n".to_owned()));
    assert!(told[2].as_ref().is_ok_and(|told| told.contains("nothing had to be put back")), "{told:?}");
    assert_eq!(told[3..5], [Err(ErrorCode::CheckpointNotFound), Err(ErrorCode::InvalidArguments)]);
    assert!(told[5].is_ok(), "what was put back need not be read again: {told:?}");
    let refused = lakitu.gateway.request(7);
    assert!(refused.contains("CONFLICT") && refused.contains("put back: a\n"), "{refused}");
    assert_eq!((lakitu.home.read("a"), lakitu.home.workspace().join("b").exists()), ("three\n".into(), false));

    let row = lakitu.ask(move |reading| reading.checkpoints_of(thread)).await.remove(0);
    assert_eq!((row.id.seq, row.restored_to_thread), (Seq(13), Some(thread)));
    assert_eq!(row.status, CheckpointStatus::Completed, "the run that went on from it came to its end");
    let noted = lakitu.events(thread).await.into_iter().filter(|event| event.body.name() == "checkpoint.restored");
    assert_eq!(noted.count(), 2, "once for each call that put files back, or found them there");
    assert_replays(&lakitu, thread).await;
    lakitu.end().await;
}

/// The record is made of the journal: what the calls before did in the same turn stands there by then.
#[tokio::test(start_paused = true)]
async fn in_one_turn_a_checkpoint_is_made_left_and_gone_back_to() {
    let script = Script::new()
        .calls_all([
            ("checkpoint_create", json!({})),
            ("file_write", json!({ "path": "a", "content": "one\n" })),
            ("checkpoint_restore", json!({ "id": "chk_6" })),
        ])
        .says("Nothing happened.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("change").await, Ok("Nothing happened.".to_owned()));
    let thread = lakitu.thread();
    assert_eq!(results(&lakitu, thread).await[2], Ok("Removed a\n".to_owned()));
    assert!(!lakitu.home.workspace().join("a").exists());
    assert_replays(&lakitu, thread).await;
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_goes_back_to_what_its_origin_kept_before_it_and_to_nothing_behind_it() {
    let script =
        || writes("a", "one\n").calls("checkpoint_create", json!({})).then(writes("b", "two\n")).says("Written.");
    let lakitu = Harness::start(script()).await;
    assert_eq!(lakitu.prompt("write").await, Ok("Written.".to_owned()));
    let (origin, threads) = (lakitu.thread(), lakitu.runtime().threads());
    let first = threads.checkpoint(origin, CreateArgs::default()).await.unwrap();
    let behind = threads.checkpoint(origin, CreateArgs::default()).await.unwrap();
    let kept = lakitu.ask(move |reading| reading.checkpoints_of(origin)).await.remove(0).id;
    let forked = threads.fork(origin, Some(Seq(first.seq.0 - 1)), None).await.unwrap().thread;

    let (home, _) = lakitu.stop().await;
    let script =
        script().then(restores(&behind.to_string(), false)).then(restores(&kept.to_string(), false)).says("Back.");
    let lakitu = Harness::start_on(home, script, Config::default()).await;
    lakitu.turn_to(forked);
    assert_eq!(lakitu.continue_("go back").await, Ok("Back.".to_owned()));
    let told = results(&lakitu, forked).await.split_off(3);
    assert_eq!(told, [Err(ErrorCode::CheckpointNotFound), Ok("Removed b\n".to_owned())]);
    assert_eq!((lakitu.home.read("a"), lakitu.home.workspace().join("b").exists()), ("one\n".into(), false));
    assert_replays(&lakitu, forked).await;
    lakitu.stop().await;
}
