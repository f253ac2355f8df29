//! Redo records under races, crashes and locks.

use lakitu_kernel::supervise::Status;

use super::*;
use crate::effects::{Done, Key, Work};
use crate::tools::Settled;
use crate::tools::workspace::temp_name;

#[tokio::test]
async fn a_file_that_changes_between_preparation_and_write_is_not_overwritten() {
    let mut bench = bench();
    bench.write("a.txt", "a").await;
    bench.write("b.txt", "a").await;
    let arguments = json!({ "path": "a.txt", "old_string": "a", "new_string": "b" });
    let ask = bench.ask(&FILE_EDIT, &arguments);
    let prepared = bench.tools.prepare(&ask).await.unwrap();
    bench.put("a.txt", "meanwhile");
    let outcome = bench.tools.run(&ask, Some(&prepared.redo)).await;
    assert_eq!(outcome.error.unwrap().code, ErrorCode::FileChanged);
    assert_eq!(bench.bytes("a.txt"), b"meanwhile");
    // A26
    drop(prepared);
    let ask = bench.ask(&FILE_EDIT, &json!({ "path": "b.txt", "old_string": "a", "new_string": "b" }));
    let prepared = bench.tools.prepare(&ask).await.unwrap();
    std::fs::remove_file(bench.path("b.txt")).unwrap();
    std::fs::create_dir(bench.path("b.txt")).unwrap();
    let outcome = bench.tools.run(&ask, Some(&prepared.redo)).await;
    assert_eq!(outcome.error.unwrap().code, ErrorCode::PermissionDenied);
    assert_eq!(bench.names(), ["a.txt", "b.txt"]);
}

/// What recovery says of an edit of `a` to `b`, from what it finds.
async fn recovered(found: impl FnOnce(&Bench, &Path)) -> (Bench, ToolOutcome, ToolOutcome) {
    let mut bench = bench();
    bench.write("a.txt", "a\n").await;
    let ask = bench.ask(&FILE_EDIT, &json!({ "path": "a.txt", "old_string": "a", "new_string": "b" }));
    let redo = bench.tools.prepare(&ask).await.unwrap().redo;
    let live = bench.tools.run(&ask, Some(&redo)).await;
    let temp = bench.path(&temp_name(ask.call.thread, ask.call.intent));
    found(&bench, &temp);
    let Settled::Outcome(outcome) = bench.tools.recover(&ask, Some(&redo)).await else { panic!("not settled") };
    // Settled once more, it is as it was.
    assert_eq!(bench.tools.recover(&ask, Some(&redo)).await, Settled::Outcome(outcome.clone()));
    assert!(!bench.names().iter().any(|name| name.starts_with(".lakitu-")));
    (bench, live, outcome)
}

#[tokio::test]
async fn recovery_rolls_forward_and_says_what_the_call_would_have_said() {
    let (bench, live, outcome) = recovered(|_, _| {}).await;
    assert_eq!((live, bench.bytes("a.txt")), (outcome, b"b\n".to_vec()));
    let (bench, live, outcome) = recovered(|bench, _| bench.put("a.txt", "a\n")).await;
    assert_eq!((live, bench.bytes("a.txt")), (outcome, b"b\n".to_vec()));
    let before_and_temp = |bench: &Bench, temp: &Path| {
        bench.put("a.txt", "a\n");
        std::fs::write(temp, "ha").unwrap();
    };
    let (bench, live, outcome) = recovered(before_and_temp).await;
    assert_eq!((live, bench.bytes("a.txt")), (outcome, b"b\n".to_vec()));
}

#[tokio::test]
async fn recovery_leaves_a_version_alone_that_is_neither() {
    let (bench, _, outcome) = recovered(|bench, _| bench.put("a.txt", "c\n")).await;
    assert_eq!(outcome.error.as_ref().unwrap().code, ErrorCode::Conflict);
    for hash in [b"a\n", b"b\n", b"c\n"] {
        assert!(outcome.output.contains(&Hash::of(hash).to_string()), "{}", outcome.output);
    }
    assert_eq!(bench.bytes("a.txt"), b"c\n");
    let (_, _, outcome) = recovered(|bench, _| std::fs::remove_file(bench.path("a.txt")).unwrap()).await;
    assert!(outcome.output.contains("\na.txt: found no file; before"), "{}", outcome.output);
    let replaced = |bench: &Bench, _: &Path| {
        std::fs::remove_file(bench.path("a.txt")).unwrap();
        symlink("/etc/passwd", bench.path("a.txt")).unwrap();
    };
    let (_, _, outcome) = recovered(replaced).await;
    assert_eq!(outcome.error.unwrap().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn recovery_of_many_files_looks_at_all_before_it_writes_one() {
    let mut bench = bench();
    let mut redo = Redo::default();
    for name in ["done.txt", "not-done.txt", "other.txt"] {
        let ask = bench.ask(&FILE_WRITE, &json!({ "path": name, "content": "new" }));
        redo.files.extend(bench.tools.prepare(&ask).await.unwrap().redo.files);
    }
    bench.put("done.txt", "new");
    bench.put("other.txt", "somebody else's");
    let ask = bench.ask(&FILE_WRITE, &json!({ "path": "done.txt", "content": "new" }));
    let Settled::Outcome(outcome) = bench.tools.recover(&ask, Some(&redo)).await else { panic!("not settled") };
    assert_eq!(outcome.error.as_ref().unwrap().code, ErrorCode::Conflict);
    assert!(
        outcome.output.contains("\ndone.txt: done\nnot-done.txt: not done\nother.txt: found "),
        "{}",
        outcome.output
    );
    assert_eq!(outcome.files, [event::FileVersion { path: "done.txt".into(), hash: Hash::of(b"new") }]);
    assert_eq!(bench.names(), ["done.txt", "other.txt"]);
    std::fs::remove_file(bench.path("other.txt")).unwrap();
    let Settled::Outcome(outcome) = bench.tools.recover(&ask, Some(&redo)).await else { panic!("not settled") };
    assert_eq!((outcome.error, outcome.files.len()), (None, 3));
    assert_eq!(bench.names(), ["done.txt", "not-done.txt", "other.txt"]);
}

#[tokio::test]
async fn what_has_no_redo_record_never_began() {
    let mut bench = bench();
    for (tool, arguments) in [
        (&FILE_READ, json!({ "path": "a" })),
        (&FILE_WRITE, json!({ "path": "a", "content": "x" })),
        (&FILE_EDIT, json!({ "path": "a", "old_string": "", "new_string": "x" })),
    ] {
        let ask = bench.ask(tool, &arguments);
        assert_eq!(bench.tools.recover(&ask, None).await, Settled::NeverBegan);
    }
    assert!(bench.names().is_empty());
}

#[tokio::test]
async fn edits_of_one_path_wait_for_each_other_and_none_is_lost() {
    let mut bench = bench();
    std::fs::create_dir(bench.path("sub")).unwrap();
    symlink("../n.txt", bench.path("sub/alias")).unwrap();
    bench.write("n.txt", "0\n").await;
    let mut edits = tokio::task::JoinSet::new();
    for n in 1..=8_u32 {
        let path = if n % 2 == 0 { "n.txt" } else { "sub/alias" };
        let mut ask =
            bench.ask(&FILE_EDIT, &json!({ "path": path, "old_string": "0\n", "new_string": format!("0\n{n}\n") }));
        // A thread's own calls come one after the other.
        ask.call.thread = ThreadId(n.into());
        let (tools, file) = (bench.tools.clone(), bench.path("n.txt"));
        edits.spawn(async move {
            loop {
                // Each knows the newest version by the time it asks; whoever comes later in the queue does not.
                ask.known = Known::new([("n.txt".to_owned(), Hash::of(&std::fs::read(&file).unwrap()))].into());
                match tools.prepare(&ask).await {
                    Ok(prepared) => return tools.run(&ask, Some(&prepared.redo)).await,
                    Err(error) => assert_eq!(error.code, ErrorCode::FileChanged),
                }
            }
        });
    }
    for outcome in edits.join_all().await {
        assert_eq!(outcome.error, None, "{}", outcome.output);
    }
    let text = String::from_utf8(bench.bytes("n.txt")).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_path_for_too_long_is_told_who_changes_it() {
    let mut bench = bench();
    let arguments = json!({ "path": "new/a.txt", "content": "a" });
    let first = bench.ask(&FILE_WRITE, &arguments);
    let prepared = bench.tools.prepare(&first).await.unwrap();
    let mut second = bench.ask(&FILE_WRITE, &arguments);
    second.call.thread = ThreadId(2);
    let error = bench.tools.prepare(&second).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Timeout);
    assert!(error.message.contains("new/a.txt is being changed by call 1 of thread thr_"), "{error}");
    // Until its result is durable: that it was written is not enough.
    let outcome = bench.tools.run(&first, Some(&prepared.redo)).await;
    assert_eq!(bench.tools.prepare(&second).await.unwrap_err().code, ErrorCode::Timeout);
    bench.learn(&outcome.files);
    drop(prepared);
    assert!(bench.write("new/a.txt", "b").await.starts_with("Changed"));
}

#[tokio::test]
async fn a_write_that_was_revoked_before_it_began_never_happens() {
    let effects = crate::effects::Running::new();
    let mut bench = bench();
    let ask = bench.ask(&FILE_WRITE, &json!({ "path": "late.txt", "content": "late" }));
    let key = Key { thread: ask.call.thread, work: Work::Tool(ask.call.intent, 1) };
    let redo = bench.tools.prepare(&ask).await.unwrap().redo;
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let tools = bench.tools.clone();
    let work = |lease| async move {
        let ask = ask.leased(lease);
        gone.await.unwrap();
        let Settled::Outcome(again) = tools.recover(&ask, Some(&redo)).await else { panic!("it is not begun again") };
        assert_eq!(again.error.unwrap().code, ErrorCode::Cancelled);
        Done::Tool(tools.run(&ask, Some(&redo)).await, 0)
    };
    effects.begin(key, work, Done::Panicked);
    effects.revoke(&key);
    go.send(()).unwrap();
    effects.idle(&key.thread).await;
    let Some(Status::Done(Done::Tool(outcome, _))) = effects.outcome(&key) else { panic!("it has no outcome") };
    assert_eq!(outcome.output, "CANCELLED: the run was stopped before this began; nothing was written");
    assert_eq!(bench.names(), Vec::<String>::new());
}
