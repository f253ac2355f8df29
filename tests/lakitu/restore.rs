//! Going back to a checkpoint, killed wherever it can be: whoever comes next ends it, to the byte.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::edits::{Tree, tree};
use crate::harness::{Binary, Ran, Script};

/// Files that the agent changes behind the checkpoint, and some that it never touches.
fn files(binary: &Binary) {
    binary.home.write("a.txt", "one\n");
    binary.home.write("run.sh", "#!/bin/sh\n");
    binary.home.write("gone.txt", "kept\nfor ever");
    binary.home.write("mine/notes.txt", "nobody's business\n");
    binary.home.write("mine/empty", "");
}

/// A change of every kind, by a command and by a tool.
const CHANGES: &str = "printf 'by a command\\n' >> a.txt; chmod 755 run.sh; rm gone.txt; mkdir new; echo x > new/made";

/// A checkpoint in the first turn, which is `chk_6`, and changes behind it.
fn changing() -> Script {
    Script::new()
        .calls("checkpoint_create", json!({ "name": "here" }))
        .runs(CHANGES)
        .calls("file_write", json!({ "path": "written", "content": "by a tool\n" }))
}

/// What tells whether somebody wrote a file, though it has the same bytes: its inode and when it changed.
fn marks(binary: &Binary) -> BTreeMap<&'static str, (u64, i64, i64)> {
    let mark = |name| {
        let found = binary.workspace().join(name).metadata().unwrap();
        (name, (found.ino(), found.mtime(), found.mtime_nsec()))
    };
    ["mine/notes.txt", "mine/empty"].into_iter().map(mark).collect()
}

/// Each file is one version or the other, and nothing else is there.
#[track_caller]
fn assert_between(point: &str, now: &Tree, then: &Tree, changed: &Tree) {
    for (name, state) in now {
        let known = [then, changed].iter().any(|tree| tree.get(name) == Some(state));
        // What a write was killed over is hidden, and swept by whoever ends it.
        assert!(known || name.rsplit('/').next().unwrap().starts_with('.'), "{point}: {name} is neither version");
    }
    for name in then.keys().filter(|name| changed.contains_key(*name)) {
        assert!(now.contains_key(name), "{point}: {name} is gone");
    }
}

/// A run that made a checkpoint and changed files: the tree as of the checkpoint, and as it is.
fn changed(binary: &Binary) -> (Tree, Tree) {
    files(binary);
    let then = tree(&binary.workspace());
    let ran = binary.plays(&changing().says("Done."), "change", &[]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let changed = tree(&binary.workspace());
    assert_eq!(changed.len(), 6, "{:?}", changed.keys());
    (then, changed)
}

fn checkpoints(binary: &Binary) -> Vec<Value> {
    let listed = binary.run(&["checkpoints", "ls", "--json"]);
    assert_eq!(listed.exit, 0, "{listed:?}");
    listed.object()["items"].as_array().unwrap().clone()
}

/// The checkpoint that the first turn made.
fn here(binary: &Binary) -> String {
    let made = checkpoints(binary).into_iter().find(|row| row["name"] == "here").unwrap();
    made["_id"].as_str().unwrap().to_owned()
}

fn restore(binary: &Binary) -> Ran {
    binary.run(&["checkpoints", "restore", &here(binary)])
}

fn status(binary: &Binary, thread: &str) -> Value {
    let shown = binary.run(&["threads", "show", thread, "--json"]);
    assert_eq!(shown.exit, 0, "{shown:?}");
    shown.object()["thread"]["status"].clone()
}

#[track_caller]
fn assert_whole(binary: &Binary) {
    let verified = binary.run(&["db", "verify"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
}

/// The crash points that a command passes.
fn traced(binary: &Binary, args: &[&str]) -> Vec<String> {
    let trace = binary.home.data().join("../trace");
    let ran = binary.command(args).env("LAKITU_CRASH_TRACE", &trace).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    std::fs::read_to_string(trace).unwrap().lines().map(str::to_owned).collect()
}

fn killed(binary: &Binary, point: &str, args: &[&str]) {
    let killed = binary.command(args).env("LAKITU_CRASH_AT", point).output().unwrap();
    assert!(!killed.status.success(), "{point} is not passed: {killed:?}");
}

/// All points of going back on the command line: its first commit announces it, the one behind the last effect says so,
/// and those of the fork and the note follow.
fn points() -> Vec<String> {
    let binary = Binary::new();
    let (then, _) = changed(&binary);
    let points = traced(&binary, &["checkpoints", "restore", &here(&binary)]);
    assert_eq!(tree(&binary.workspace()), then);
    let during = points.iter().filter(|point| point.starts_with("during_effect")).count();
    assert_eq!(during, 6, "once for each file, and for the directory that was made: {points:?}");
    points
}

#[test]
fn going_back_that_was_killed_anywhere_is_whole_once_it_is_asked_for_again() {
    for point in points() {
        let binary = Binary::new();
        let (then, changed) = changed(&binary);
        let untouched = marks(&binary);
        killed(&binary, &point, &["checkpoints", "restore", &here(&binary)]);
        assert_between(&point, &tree(&binary.workspace()), &then, &changed);
        let again = restore(&binary);
        assert_eq!(again.exit, 0, "{point}: {again:?}");
        assert_eq!(tree(&binary.workspace()), then, "{point}");
        assert_eq!(marks(&binary), untouched, "{point}");
        let row = checkpoints(&binary).into_iter().find(|row| row["name"] == "here").unwrap();
        assert_eq!(row["status"], "restored", "{point}: {row}");
        assert_eq!(status(&binary, again.out.trim()), "checkpointed", "{point}");
        assert_whole(&binary);
    }
}

/// Nobody asks again: the next runtime of any kind ends what was announced, and nothing else.
#[test]
fn what_a_killed_command_was_putting_back_is_ended_by_the_next_runtime() {
    let said = Script::new().says("Hello.");
    // Whatever comes next, those that only read included.
    let mut others = [&["edits", "ls"][..], &["checkpoints", "ls"]].into_iter().map(Some).chain([None]).cycle();
    for point in points().iter().filter(|point| !point.ends_with("_commit:3") && !point.ends_with("_commit:4")) {
        let binary = Binary::new();
        let (then, changed) = changed(&binary);
        killed(&binary, point, &["checkpoints", "restore", &here(&binary)]);
        let announced = point != "before_commit:1";
        let next = match others.next().unwrap() {
            Some(args) => binary.run(args),
            None => binary.plays(&said, "another thread", &[]),
        };
        assert_eq!(next.exit, 0, "{point}: {next:?}");
        assert_eq!(tree(&binary.workspace()), if announced { then } else { changed }, "{point}");
        let left = binary.run(&["db", "dump", "restorings"]);
        assert_eq!((left.exit, left.out.trim()), (0, ""), "{point}: {left:?}");
        assert_whole(&binary);
    }
}

/// The tool, in the middle of its run: the run goes on and is told the truth.
#[test]
fn a_call_that_was_killed_anywhere_within_it_puts_all_files_back() {
    let script = changing().calls("checkpoint_restore", json!({ "id": "chk_6" })).says("Back.");
    let binary = Binary::new();
    files(&binary);
    let path = binary.script(&script);
    let all = traced(&binary, &["run", "go back", "--script", &path]);
    let begins = all.iter().rposition(|point| point.starts_with("before_effect")).unwrap();
    let within = &all[begins - 2..];
    assert_eq!(within.iter().filter(|point| point.starts_with("during_effect")).count(), 6, "{all:?}");
    for point in within {
        let binary = Binary::new();
        files(&binary);
        let (then, untouched) = (tree(&binary.workspace()), marks(&binary));
        let path = binary.script(&script);
        killed(&binary, point, &["run", "go back", "--script", &path]);
        let resumed = binary.run(&["resume", "--script", &path, "--output", "json"]);
        assert_eq!(resumed.exit, 0, "{point}: {resumed:?}");
        assert_eq!(tree(&binary.workspace()), then, "{point}");
        assert_eq!(marks(&binary), untouched, "{point}");
        let thread = resumed.object()["thread"].as_str().unwrap().to_owned();
        assert_eq!(results(&binary, &thread)[3], RESTORED, "{point}");
        let replayed = binary.run(&["threads", "replay", &thread]);
        assert_eq!(replayed.exit, 0, "{point}: {replayed:?}");
        assert_whole(&binary);
    }
}

const RESTORED: &str =
    "Restored a.txt\nCreated gone.txt\nRemoved new\nRemoved new/made\nRestored run.sh\nRemoved written\n";

/// What the calls of a thread were told, in order.
fn results(binary: &Binary, thread: &str) -> Vec<String> {
    let told = binary.run(&["threads", "events", thread, "--json"]);
    assert_eq!(told.exit, 0, "{told:?}");
    let events = told.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let results = events.filter(|event| event["type"] == "tool.result");
    results.map(|event| event["output"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn while_a_run_is_on_nothing_goes_back_under_it() {
    let binary = Binary::new();
    files(&binary);
    let script = binary.script(&changing().says("Still here.").after_ms(600_000));
    let mut run = binary.begin(&["run", "change", "--script", &script, "--output", "stream-json"]);
    let mut turns = 0;
    while turns < 4 {
        turns += usize::from(run.line().contains("turn.started"));
    }
    let changed = tree(&binary.workspace());
    let refused = restore(&binary);
    assert_eq!((refused.exit, refused.err.contains("THREAD_BUSY")), (1, true), "{refused:?}");
    assert_eq!(tree(&binary.workspace()), changed);
    run.signal(rustix::process::Signal::INT);
    assert_eq!(run.end().exit, 130);
    assert_eq!(restore(&binary).exit, 0);
    assert!(binary.home.read("gone.txt").starts_with("kept"));
}

/// A run whose process was killed is nobody's: going back ends it, after what its last call wrote was found out.
#[test]
fn a_run_that_was_killed_is_gone_back_from_whatever_its_last_call_had_written() {
    let patch = "*** Begin Patch\n*** Update File: a.txt\n-one\n+half\n*** Add File: b.txt\n+whole\n*** End Patch";
    let script = Script::new()
        .calls("checkpoint_create", json!({ "name": "here" }))
        .calls("file_read", json!({ "path": "a.txt" }))
        .calls("apply_patch", json!({ "patch": patch }))
        .says("Done.");
    // Between two files, behind both, and when all of it is durable.
    for point in ["during_effect:2", "after_effect:3", "after_commit:7"] {
        let binary = Binary::new();
        files(&binary);
        let then = tree(&binary.workspace());
        let path = binary.script(&script);
        killed(&binary, point, &["run", "change", "--script", &path]);
        let thread = checkpoints(&binary)[0]["threadId"].as_str().unwrap().to_owned();
        assert_eq!(status(&binary, &thread), "running");
        let back = restore(&binary);
        assert_eq!(back.exit, 0, "{point}: {back:?}");
        assert_eq!(tree(&binary.workspace()), then, "{point}");
        assert_eq!(status(&binary, &thread), "checkpointed", "{point}");
        for thread in [&thread, &back.out.trim().to_owned()] {
            let replayed = binary.run(&["threads", "replay", thread]);
            assert_eq!(replayed.exit, 0, "{point}: {replayed:?}");
        }
        assert_whole(&binary);
    }
}
