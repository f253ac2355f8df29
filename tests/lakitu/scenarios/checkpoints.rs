//! Checkpoints: what is in them, what becomes of them, and going back to one.

use std::collections::BTreeSet;

use expect_test::expect;
use lakitu_actors::checkpoint::{CreateArgs, latest, messages, retention};
use lakitu_actors::store::{CheckpointRow, CheckpointStatus, MakeCheckpoint, Op, Step};
use lakitu_actors::threads::replay;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{CheckpointReason, EventBody};
use lakitu_kernel::limits::{CHECKPOINT_AGE_MAX, CHECKPOINTS_PER_THREAD_MAX};
use lakitu_kernel::{CheckpointId, ErrorCode, Hash, Seq, ThreadId};
use serde_json::json;

use crate::harness::{Binary, Ended, Harness, Script};

fn writes(path: &str, content: &str) -> Script {
    Script::new().calls("file_write", json!({ "path": path, "content": content }))
}

fn named(name: &str, next_task: Option<&str>) -> CreateArgs {
    CreateArgs { name: Some(name.to_owned()), next_task: next_task.map(str::to_owned) }
}

async fn rows(lakitu: &Harness, thread: ThreadId) -> Vec<CheckpointRow> {
    lakitu.ask(move |reading| reading.checkpoints_of(thread)).await
}

fn told(row: &CheckpointRow) -> String {
    let (status, reason) = (row.status.as_str(), row.reason);
    let files: Vec<_> = row.file_state.iter().map(|file| (file.path.as_str(), file.size, file.removed)).collect();
    let name = row.name.as_deref().unwrap_or("-");
    format!("{} {name} {status} {reason:?} {files:?} {}\n", row.iteration, row.next_task)
}

async fn table(lakitu: &Harness, thread: ThreadId) -> String {
    rows(lakitu, thread).await.iter().map(told).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_limit_stops_leaves_a_checkpoint_with_its_messages_its_files_and_its_task() {
    let script = writes("a", "one\n").then(writes("new/b", "two\n")).says("Written.");
    let lakitu = Harness::start(script).await;
    let stopped = lakitu.prompt_with("write both", |set| set.max_turns = Some(2)).await;
    assert_eq!(stopped, Err(Ended::Checkpointed("turn_limit".to_owned())));

    let thread = lakitu.thread();
    expect![[r#"
        1 - active TurnLimit [("a", 4, false), ("new", 0, false), ("new/b", 4, false)] Go on with: write both
    "#]]
    .assert_eq(&table(&lakitu, thread).await);
    let (row, said) = lakitu
        .ask(move |reading| {
            let row = latest(reading, thread)?.unwrap();
            let said = messages(reading, &row)?;
            Ok((row, said))
        })
        .await;
    let names: Vec<_> = said.iter().map(|event| event.body.name()).collect();
    assert_eq!(names, ["prompt", "message", "tool.result", "message", "tool.result"]);
    assert_eq!(row.message_history.unwrap().count, 5);
    assert_eq!(row.file_state[0].content_hash, Some(Hash::of(b"one\n")));
    let ends = lakitu.events(thread).await.pop().unwrap();
    assert_eq!((row.id, row.as_of), (CheckpointId { thread, seq: ends.seq }, Seq(ends.seq.0 - 1)));

    assert_eq!(lakitu.resume().await, Ok("Written.".to_owned()));
    expect![[r#"
        1 - completed TurnLimit [("a", 4, false), ("new", 0, false), ("new/b", 4, false)] Go on with: write both
    "#]]
    .assert_eq(&table(&lakitu, thread).await);
    let row = rows(&lakitu, thread).await.pop().unwrap();
    assert_eq!(row.restored_to_thread, Some(thread));
    assert_eq!(row.final_result, Some(json!("Written.")));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_checkpoint_supersedes_and_a_resume_says_its_next_task() {
    let script = Script::new()
        .calls("checkpoint_create", json!({ "name": "before", "next_task": "write a" }))
        .calls("checkpoint_list", json!({}))
        .says("Both are written.");
    let lakitu = Harness::start(script).await;
    let stopped = lakitu.prompt_with("write", |set| set.max_turns = Some(2)).await;
    assert_eq!(stopped, Err(Ended::Checkpointed("turn_limit".to_owned())));
    let thread = lakitu.thread();
    let made = lakitu.runtime().threads().checkpoint(thread, named("by hand", Some("write b too"))).await.unwrap();
    assert_eq!(made.thread, thread);

    expect![[r#"
        1 before superseded Manual [] write a
        2 - superseded TurnLimit [] write a
        3 by hand active Manual [] write b too
    "#]]
    .assert_eq(&table(&lakitu, thread).await);
    assert_eq!(lakitu.resume().await, Ok("Both are written.".to_owned()));
    let request = lakitu.gateway.request(3);
    assert!(request.ends_with("user: write b too\n"), "{request}");
    assert!(request.contains("\"before\" active"), "{request}");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_the_gateway_stops_leaves_one_and_what_cannot_be_made_is_refused() {
    let lakitu = Harness::start(Script::new().fails(401).fails(401).says("no")).await;
    assert_eq!(lakitu.prompt("go").await, Err(Ended::Checkpointed("gateway: GATEWAY_REFUSED".to_owned())));
    let thread = lakitu.thread();
    assert_eq!(rows(&lakitu, thread).await[0].reason, CheckpointReason::Gateway);
    let nobody = ThreadId(7);
    let refused = lakitu.runtime().threads().checkpoint(nobody, named("x", None)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ThreadNotFound);
    let long = CreateArgs { name: Some("x".repeat(201)), next_task: None };
    let refused = lakitu.runtime().threads().checkpoint(thread, long).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArguments);
    assert_eq!(lakitu.resume().await, Ok("no".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn checkpoints_are_kept_for_seven_days_and_a_thread_has_a_hundred() {
    let lakitu = Harness::start(Script::new().says("Done.")).await;
    assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()));
    let thread = lakitu.thread();
    lakitu.runtime().threads().checkpoint(thread, named("first", None)).await.unwrap();
    let first = rows(&lakitu, thread).await.pop().unwrap();
    let store = lakitu.runtime().wiring.store.clone();
    let expected = lakitu.folded(thread).await.seq;
    let age = u64::try_from(CHECKPOINT_AGE_MAX.as_millis()).unwrap();

    let at_the_limit = Timestamp(first.created_at.0 + age);
    assert_eq!(retention::sweep(&store, at_the_limit).await, Ok(0));
    assert_eq!(retention::sweep(&store, Timestamp(at_the_limit.0 + 1)).await, Ok(1));
    assert_eq!(rows(&lakitu, thread).await, []);

    let more = |n: u64| CheckpointRow { id: CheckpointId { thread, seq: Seq(n) }, ..first.clone() };
    let all = 1 + CHECKPOINTS_PER_THREAD_MAX as u64;
    for n in 1..=all {
        let step = Step { thread, expected, ops: vec![Op::from(MakeCheckpoint { row: more(n), beads: Vec::new() })] };
        store.submit(step).await.unwrap();
        assert_eq!(rows(&lakitu, thread).await.len() as u64, n.min(all - 1));
    }
    let kept = rows(&lakitu, thread).await;
    assert_eq!((kept[0].id.seq, kept.last().unwrap().id.seq), (Seq(2), Seq(all)));
    assert_eq!(kept.iter().filter(|row| row.status == CheckpointStatus::Active).count(), 1);
    // One pass removes so many.
    assert_eq!(retention::sweep(&store, Timestamp(at_the_limit.0 + 1)).await, Ok(retention::REMOVED_A_PASS));
    lakitu.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_forked_at_each_of_its_events_and_every_fork_goes_on() {
    let script = Script::new()
        .calls_all([("file_write", json!({ "path": "a", "content": "one\n" })), ("bash", json!({ "command": "true" }))])
        .says("Written.");
    let lakitu = Harness::start(script).await;
    assert_eq!(lakitu.prompt("write").await, Ok("Written.".to_owned()));
    let origin = lakitu.thread();
    let journal = lakitu.events(origin).await;
    let store = lakitu.runtime().wiring.store.clone();

    let nothing = lakitu.runtime().threads().fork(origin, Some(Seq(1)), None).await.unwrap_err();
    assert_eq!(nothing.code, ErrorCode::InvalidArguments);
    let mut points = BTreeSet::new();
    for event in &journal[1..] {
        let forked = lakitu.runtime().threads().fork(origin, Some(event.seq), None).await.unwrap();
        assert!(forked.at <= event.seq, "{forked:?} at {}", event.seq);
        points.insert(forked.at.0);
        let begins = lakitu.events(forked.thread).await;
        let (copied, own) = begins.split_at(usize::try_from(forked.at.0).unwrap());
        assert!(copied.iter().zip(&journal).all(|(one, other)| one.body == other.body && one.at == other.at));
        assert!(
            matches!(&own[0].body, EventBody::ThreadForked { from, at, .. } if (*from, *at) == (origin, forked.at))
        );
        let replayed = replay::replay(&store, forked.thread).await.unwrap();
        assert_eq!(replayed.divergence, None, "at {}", event.seq);
    }
    let names: Vec<_> = points.iter().map(|at| journal[usize::try_from(*at).unwrap() - 1].body.name()).collect();
    assert_eq!(
        names,
        ["prompt", "tool.intent", "tool.prepared", "tool.result", "tool.result", "thread.completed"],
        "{points:?}"
    );
    // In the middle of the calls: the one under way is not known, the one behind it never began.
    let first = journal.iter().find(|event| event.body.name() == "tool.prepared").unwrap().seq;
    let forked = lakitu.runtime().threads().fork(origin, Some(first), None).await.unwrap();
    lakitu.turn_to(forked.thread);
    let results: Vec<_> = lakitu
        .events(forked.thread)
        .await
        .into_iter()
        .filter_map(|event| if let EventBody::ToolResult { error, .. } = event.body { error } else { None })
        .map(|error| error.code)
        .collect();
    assert_eq!(results, [ErrorCode::Interrupted, ErrorCode::Cancelled]);
    assert_eq!(lakitu.resume().await, Ok("Written.".to_owned()));
    let request = lakitu.gateway.request(2);
    assert!(request.contains("INTERRUPTED") && request.contains("CANCELLED"), "{request}");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn going_back_puts_files_back_that_the_agent_changed_and_nobody_else() {
    let script = writes("a", "one\n")
        .calls("checkpoint_create", json!({ "name": "here" }))
        .calls("file_edit", json!({ "path": "a", "old_string": "one", "new_string": "two" }))
        .then(writes("b", "new\n"))
        .says("Changed.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write("mine", "untouched\n");
    assert_eq!(lakitu.prompt("change").await, Ok("Changed.".to_owned()));
    let origin = lakitu.thread();
    let id = rows(&lakitu, origin).await[0].id;
    let threads = lakitu.runtime().threads();

    lakitu.home.write("a", "somebody's\n");
    let refused = threads.restore(id, false).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains('a') && !refused.message.contains("mine"), "{refused}");
    assert_eq!((lakitu.home.read("a"), lakitu.home.read("b")), ("somebody's\n".into(), "new\n".into()));

    let went = threads.restore(id, true).await.unwrap();
    assert_eq!(went.files, ["a", "b"]);
    assert_eq!((lakitu.home.read("a"), lakitu.home.read("mine")), ("one\n".into(), "untouched\n".into()));
    assert!(!lakitu.home.workspace().join("b").exists());
    let row = rows(&lakitu, origin).await.remove(0);
    assert_eq!((row.status, row.restored_to_thread), (CheckpointStatus::Restored, Some(went.thread)));
    // Asked again, there is nothing to be put back.
    assert_eq!(threads.restore(id, false).await.unwrap().files, Vec::<String>::new());

    // The new thread knows what it had done by then, and does the rest again.
    lakitu.turn_to(went.thread);
    assert_eq!(lakitu.resume().await, Ok("Changed.".to_owned()));
    assert_eq!((lakitu.home.read("a"), lakitu.home.read("b")), ("two\n".into(), "new\n".into()));
    let store = lakitu.runtime().wiring.store.clone();
    for thread in [origin, went.thread] {
        assert_eq!(replay::replay(&store, thread).await.unwrap().divergence, None);
    }
    let gone = threads.restore(CheckpointId { thread: origin, seq: Seq(1) }, false).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::CheckpointNotFound);
    lakitu.end().await;
}

#[test]
fn the_command_line_makes_lists_and_goes_back_forks_and_replays() {
    let binary = Binary::new();
    let script = writes("a", "one\n")
        .calls("checkpoint_create", json!({ "name": "here" }))
        .calls("file_edit", json!({ "path": "a", "old_string": "one", "new_string": "two" }))
        .says("Changed.");
    let ran = binary.plays(&script, "change", &["--output", "json"]);
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let thread = ran.object()["thread"].as_str().unwrap().to_owned();

    let made = binary.run(&["checkpoints", "create", &thread, "--name", "after", "--json"]);
    assert_eq!(made.exit, 0, "{}", made.err);
    let listed = binary.run(&["checkpoints", "ls", "--json"]).object();
    let of = |field: &str| -> Vec<String> {
        let items = listed["items"].as_array().unwrap();
        items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of("name"), ["after", "here"]);
    assert_eq!(of("_id")[0], made.object()["id"].as_str().unwrap());
    assert_eq!(of("status"), ["active", "completed"]);
    assert!(binary.run(&["checkpoints", "ls"]).out.contains("here: Go on with: change"));

    let replayed = binary.run(&["threads", "replay", &thread, "--json"]);
    assert_eq!((replayed.exit, &replayed.object()["divergence"]), (0, &json!(null)), "{replayed:?}");
    assert_eq!(replayed.object()["requests"], 4);
    let unknown = binary.run(&["threads", "replay", "thr_00000000000000000000000000"]);
    assert_eq!(unknown.exit, 2, "{unknown:?}");

    let forked = binary.run(&["threads", "fork", &thread, "--at", "12", "--workspace", "elsewhere", "--json"]);
    assert_eq!(forked.exit, 0, "{}", forked.err);
    assert_eq!(forked.object()["files"], json!(["a"]));
    let elsewhere = binary.workspace().join("elsewhere/a");
    assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "one\n");
    let again = binary.run(&["threads", "fork", &thread, "--workspace", "elsewhere"]);
    assert!(again.exit == 2 && again.err.contains("is not empty"), "{again:?}");
    let new = forked.object()["thread"].as_str().unwrap().to_owned();
    let resumed = binary.run(&["resume", &new, "--script", &binary.script(&script), "--output", "json"]);
    assert_eq!((resumed.exit, resumed.object()["text"].as_str()), (0, Some("Changed.")), "{}", resumed.err);
    assert_eq!(std::fs::read_to_string(binary.workspace().join("elsewhere/a")).unwrap(), "two\n");
    assert_eq!(binary.run(&["threads", "replay", &new]).exit, 0);

    let here = &of("_id")[1];
    binary.home.write("a", "mine\n");
    let refused = binary.run(&["checkpoints", "restore", here]);
    assert!(refused.exit == 1 && refused.err.contains("CONFLICT"), "{refused:?}");
    let back = binary.run(&["checkpoints", "restore", here, "--force"]);
    assert_eq!((back.exit, binary.home.read("a")), (0, "one\n".to_owned()), "{}", back.err);
    let gone = binary.run(&["checkpoints", "restore", "chk_00000000000000000000000000_1"]);
    assert!(gone.exit == 2 && gone.err.contains("CHECKPOINT_NOT_FOUND"), "{gone:?}");
    assert_eq!(binary.run(&["db", "verify"]).exit, 0);
}
