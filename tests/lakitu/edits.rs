//! What threads change in files is recorded, shown, and taken back to the byte.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Binary, Ran, Script};

/// Every file below a directory: permission bits and bytes.
pub(crate) type Tree = BTreeMap<String, (u32, Vec<u8>)>;

pub(crate) fn tree(root: &Path) -> Tree {
    let (mut found, mut folders) = (Tree::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            found.insert(name, (mode, std::fs::read(&path).unwrap()));
        }
    }
    found
}

impl Binary {
    /// The edits there are, the newest first.
    fn edits(&self) -> Vec<Value> {
        let listed = self.run(&["edits", "ls", "--json", "--limit", "1000"]);
        assert_eq!(listed.exit, 0, "{listed:?}");
        listed.object()["items"].as_array().unwrap().clone()
    }

    fn rollback(&self, edit: &Value, more: &[&str]) -> Ran {
        let id = edit["_id"].as_str().unwrap();
        self.run(&[&["edits", "rollback", id], more].concat())
    }

    /// The edit's diff, byte for byte.
    fn diff(&self, edit: &Value) -> Vec<u8> {
        let output = self.command(&["edits", "diff", edit["_id"].as_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    #[track_caller]
    fn verified(&self) {
        let verified = self.run(&["db", "verify"]);
        assert_eq!(verified.exit, 0, "{verified:?}");
    }
}

/// `patch -p1` in a directory.
fn patch(directory: &Path, diff: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), diff).unwrap();
    let ran = Command::new("patch")
        .args(["-p1", "--force", "--no-backup-if-mismatch"])
        .current_dir(directory)
        .stdin(Stdio::from(std::fs::File::open(file.path()).unwrap()))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}\n{}", String::from_utf8_lossy(diff));
}

fn copied(tree: &Tree) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, (mode, bytes)) in tree {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    directory
}

/// Files of every kind that text comes in, with `ask` somewhere in each.
fn odd_files(binary: &Binary) {
    let long = "a line that is as long as any\n".repeat(34_900) + "ask\n";
    let files: [(&str, u32, &[u8]); 8] = [
        ("crlf.txt", 0o644, b"one\r\nask\r\nthree\r\n"),
        ("bom.txt", 0o600, b"\xef\xbb\xbfask\nb\n"),
        ("latin.txt", 0o644, b"caf\xe9\nask\n"),
        ("unended", 0o640, b"one\nask"),
        ("run.sh", 0o755, b"#!/bin/sh\nask\n"),
        ("mixed", 0o644, b"a\nask\r\n\n\nb\r\n"),
        ("deep/down/here.txt", 0o644, b"ask"),
        ("long.txt", 0o644, long.as_bytes()),
    ];
    for (name, mode, bytes) in files {
        binary.home.write_bytes(name, bytes);
        let path = binary.workspace().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    binary.home.write_bytes("empty", b"");
    binary.home.write_bytes("gone.txt", b"kept\nfor\never");
}

/// Edits of all of them, by every tool that makes any.
fn changing() -> Script {
    let mut script = Script::new();
    for name in ["crlf.txt", "bom.txt", "latin.txt", "unended", "run.sh", "mixed", "deep/down/here.txt", "long.txt"] {
        let edit = json!({ "path": name, "old_string": "ask", "new_string": "told\nand told" });
        // No result of it is shown: the long one would not fit, and none has to.
        script = script.calls("file_read", json!({ "path": name, "limit": 1 })).calls("file_edit", edit);
    }
    let edits = json!([
        { "old_string": "one\n", "new_string": "ONE\n" },
        { "old_string": "and told", "new_string": "" },
    ]);
    let patch = [
        "*** Begin Patch",
        "*** Add File: added/new.txt",
        "+new",
        "*** Update File: run.sh",
        "*** Move to: moved/run.sh",
        "@@",
        "-told",
        "+ran",
        "*** Delete File: gone.txt",
        "*** End Patch",
    ];
    script
        .calls("multi_edit", json!({ "path": "unended", "edits": edits }))
        .calls("file_read", json!({ "path": "empty" }))
        .calls("file_write", json!({ "path": "empty", "content": "no more\n" }))
        .calls("file_write", json!({ "path": "made.txt", "content": "" }))
        .calls("file_read", json!({ "path": "gone.txt" }))
        .calls("apply_patch", json!({ "patch": patch.join("\n") }))
        .says("Done.")
}

#[test]
fn what_file_tools_change_goes_back_to_the_byte_and_each_diff_is_one_that_patch_applies() {
    let binary = Binary::new();
    odd_files(&binary);
    let before = tree(&binary.workspace());
    let ran = binary.plays(&changing(), "change", &[]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let after = tree(&binary.workspace());
    let edits = binary.edits();
    // Eight edits, one of several, two writes, and a patch over four files, one of which moves, and the two directories that
    // it makes.
    assert_eq!(edits.len(), 17, "{}", binary.run(&["edits", "ls"]).out);
    assert!(edits.iter().all(|edit| edit["changedOutside"] == false), "{edits:#?}");
    assert!(edits.iter().all(|edit| edit["verified"] == true), "each was read back: {edits:#?}");
    binary.verified();

    // Forwards: every diff on a copy of what was there before.
    let copy = copied(&before);
    let diffs = edits.iter().rev().map(|edit| binary.diff(edit));
    // No diff tells of a directory.
    diffs.filter(|diff| !diff.is_empty()).for_each(|diff| patch(copy.path(), &diff));
    assert_eq!(bytes(&tree(copy.path())), bytes(&after), "what `patch` made");

    // And back.
    for edit in &edits {
        let back = binary.rollback(edit, &[]);
        assert_eq!(back.exit, 0, "{back:?} of {edit}");
    }
    assert_eq!(tree(&binary.workspace()), before);
    binary.verified();
    let now = binary.edits();
    assert_eq!(now.len(), 34, "each taking back is an edit");
    assert_eq!(now.iter().filter(|edit| edit["tool"] == "rollback").count(), 17);
    assert_eq!(now.iter().filter(|edit| edit["rolledBack"] == true).count(), 17);
}

/// `patch` keeps no permissions but whether a file may be executed.
fn bytes(tree: &Tree) -> BTreeMap<&String, &Vec<u8>> {
    tree.iter().map(|(name, (_, bytes))| (name, bytes)).collect()
}

fn writing() -> Script {
    Script::new()
        .calls("file_read", json!({ "path": "a.txt" }))
        .calls("file_write", json!({ "path": "a.txt", "content": "two\n" }))
        .says("Done.")
}

/// A run that wrote one file over.
fn wrote(binary: &Binary) -> Value {
    binary.home.write("a.txt", "one\n");
    let ran = binary.plays(&writing(), "write", &[]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    binary.edits().remove(0)
}

#[test]
fn a_file_that_somebody_else_changed_is_named_and_left_alone_unless_forced() {
    let binary = Binary::new();
    let edit = wrote(&binary);
    binary.home.write("a.txt", "mine\n");
    let refused = binary.rollback(&edit, &[]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.err.contains("CONFLICT") && refused.err.contains("a.txt"), "{refused:?}");
    assert_eq!(binary.home.read("a.txt"), "mine\n");
    assert_eq!(binary.edits().len(), 1, "what is refused leaves nothing behind");

    // Its permissions are a part of it.
    binary.home.write("a.txt", "two\n");
    let path = binary.workspace().join("a.txt");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(binary.rollback(&edit, &[]).exit, 1);

    binary.home.write("a.txt", "mine\n");
    let forced = binary.rollback(&edit, &["--force", "--reason", "it was wrong"]);
    assert_eq!(forced.exit, 0, "{forced:?}");
    assert_eq!(binary.home.read("a.txt"), "one\n");
    let edits = binary.edits();
    assert_eq!(edits[1]["rollbackReason"], "it was wrong");
    assert_eq!((&edits[0]["tool"], &edits[0]["changedOutside"]), (&json!("rollback"), &json!(true)));
    binary.verified();

    // What was forced over is not lost: the taking back is taken back.
    assert_eq!(binary.rollback(&edits[0], &[]).exit, 0);
    assert_eq!(binary.home.read("a.txt"), "mine\n");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    binary.verified();
}

#[test]
fn an_edit_is_found_by_its_file_and_its_thread_and_one_that_is_not_there_is_a_usage_error() {
    let binary = Binary::new();
    let edit = wrote(&binary);
    let thread = edit["threadId"].as_str().unwrap();
    let listed = |words: &[&str]| {
        let ran = binary.run(&[&["edits", "ls", "--json"], words].concat());
        assert_eq!(ran.exit, 0, "{ran:?}");
        ran.object()["items"].as_array().unwrap().len()
    };
    assert_eq!(listed(&[thread]), 1);
    assert_eq!(listed(&["--path", "a.txt"]), 1);
    assert_eq!(listed(&[thread, "--path", "b.txt"]), 0);
    let shown = binary.run(&["edits", "ls"]);
    assert!(shown.out.contains("file_write") && shown.out.contains("+1 -1"), "{shown:?}");
    for id in ["nonsense", &format!("{thread}/1/0")] {
        assert_eq!(binary.run(&["edits", "rollback", id]).exit, 2);
        assert_eq!(binary.run(&["edits", "diff", id]).exit, 2);
    }
    let state = binary.run(&["db", "get", "fileState", &binary.workspace().join("a.txt").display().to_string()]);
    let state = state.object();
    assert_eq!((&state["lastOperation"], &state["accessCount"]), (&json!("write"), &json!(2)), "{state}");
    assert_eq!(state["lastEditId"], edit["_id"]);
}

#[test]
fn while_a_run_is_on_its_edits_are_shown_and_none_is_taken_back() {
    let binary = Binary::new();
    let edit = wrote(&binary);
    let script = binary.script(&writing().says("Still here.").after_ms(600_000));
    let thread = edit["threadId"].as_str().unwrap();
    let mut run = binary.begin(&["continue", thread, "go on", "--script", &script, "--output", "stream-json"]);
    while !run.line().contains("turn.started") {}
    assert_eq!(binary.edits().len(), 1);
    assert!(String::from_utf8(binary.diff(&edit)).unwrap().contains("-one\n+two\n"));
    let refused = binary.rollback(&edit, &[]);
    assert_eq!((refused.exit, refused.err.contains("THREAD_BUSY")), (1, true), "{refused:?}");
    assert_eq!(binary.home.read("a.txt"), "two\n");
    run.signal(rustix::process::Signal::INT);
    assert_eq!(run.end().exit, 130);
    assert_eq!(binary.rollback(&edit, &[]).exit, 0);
    assert_eq!(binary.home.read("a.txt"), "one\n");
}

/// Wherever the process is killed that takes an edit back: the file is one version or the other, and asking again ends it.
#[cfg(feature = "crash-points")]
#[test]
fn a_taking_back_that_was_killed_anywhere_is_whole_once_it_is_asked_for_again() {
    let points = ["before_commit:1", "after_commit:1", "before_effect", "during_effect", "after_effect"];
    for point in points.into_iter().chain(["before_commit:2", "after_commit:2"]) {
        let binary = Binary::new();
        let edit = wrote(&binary);
        let killed = binary
            .command(&["edits", "rollback", edit["_id"].as_str().unwrap()])
            .env("LAKITU_CRASH_AT", point)
            .output()
            .unwrap();
        assert!(!killed.status.success(), "{point} is not passed: {killed:?}");
        let found = binary.home.read("a.txt");
        assert!(["one\n", "two\n"].contains(&found.as_str()), "{point}: {found:?}");
        let again = binary.rollback(&edit, &[]);
        assert_eq!(again.exit, 0, "{point}: {again:?}");
        assert_eq!(tree(&binary.workspace()).keys().collect::<Vec<_>>(), ["a.txt"], "{point}");
        assert_eq!(binary.home.read("a.txt"), "one\n", "{point}");
        let edits = binary.edits();
        assert_eq!(edits.iter().filter(|edit| edit["tool"] == "rollback").count(), 1, "{point}: {edits:#?}");
        assert_eq!(edits[1]["rolledBack"], true, "{point}");
        binary.verified();
    }
}

#[test]
fn what_a_command_changes_is_recorded_and_goes_back_as_what_a_tool_changes() {
    let binary = Binary::new();
    odd_files(&binary);
    binary.home.write(".gitignore", "target/\n");
    let before = tree(&binary.workspace());
    let command = "printf 'caf\\351 told\\n' > latin.txt; printf 'a\\0b' >> mixed; rm gone.txt; chmod 600 run.sh; \
                   mv deep/down/here.txt here.txt; mkdir -p new/dir; echo made > new/dir/file; : > unended; chmod 444 crlf.txt; \
                   mkdir target; echo x > target/built; ln -s /etc/passwd link";
    let script = Script::new()
        .runs(command)
        .runs("echo again > latin.txt")
        .calls("file_read", json!({ "path": "latin.txt" }))
        .calls("file_write", json!({ "path": "latin.txt", "content": "by a tool\n" }))
        .runs("rm latin.txt")
        .says("Done.");
    let ran = binary.plays(&script, "change", &[]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    std::fs::remove_dir_all(binary.workspace().join("target")).unwrap();
    let edits = binary.edits();
    let told: Vec<String> = edits
        .iter()
        .rev()
        .map(|edit| {
            let path = edit["path"].as_str().unwrap().rsplit_once("/workspace/").unwrap().1;
            format!("{} {path} +{} -{}", edit["tool"].as_str().unwrap(), edit["added"], edit["removed"])
        })
        .collect();
    assert_eq!(
        told,
        [
            "bash crlf.txt +0 -0",
            "bash deep/down/here.txt +0 -1",
            "bash gone.txt +0 -3",
            "bash here.txt +1 -0",
            "bash latin.txt +1 -2",
            "bash link +0 -0",
            "bash mixed +1 -0",
            "bash new +0 -0",
            "bash new/dir +0 -0",
            "bash new/dir/file +1 -0",
            "bash run.sh +0 -0",
            "bash unended +0 -2",
            "bash latin.txt +1 -1",
            "file_write latin.txt +1 -1",
            "bash latin.txt +0 -1",
        ]
    );
    assert!(edits.iter().all(|edit| edit["changedOutside"] == false), "{edits:#?}");
    // What a command leaves is what it leaves: there is nothing that it could be compared with.
    assert!(edits.iter().all(|edit| edit["verified"] == (edit["tool"] != "bash")), "{edits:#?}");
    let of = |path: &str| edits.iter().find(|edit| edit["path"].as_str().unwrap().ends_with(path)).unwrap();
    assert!(String::from_utf8(binary.diff(of("mixed"))).unwrap().contains("Binary files"));
    for edit in &edits {
        let back = binary.rollback(edit, &[]);
        assert_eq!(back.exit, 0, "{back:?} of {edit}");
    }
    assert_eq!(tree(&binary.workspace()), before);
    binary.verified();
}

#[test]
fn what_a_thread_did_not_keep_cannot_be_taken_back_and_says_so() {
    let binary = Binary::new().env("LAKITU__EDITS__KEEP_BYTES", "3");
    binary.home.write("a.txt", "four");
    let ran = binary.plays(&Script::new().runs("echo five > a.txt").says("Done."), "change", &[]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let edit = binary.edits().remove(0);
    assert_eq!((&edit["before"]["kept"], &edit["after"]["kept"]), (&json!(false), &json!(false)), "{edit}");
    for words in [["edits", "diff"], ["edits", "rollback"]] {
        let refused = binary.run(&[&words[..], &[edit["_id"].as_str().unwrap()]].concat());
        assert_eq!(refused.exit, 2, "{refused:?}");
        assert!(refused.err.contains("not kept"), "{refused:?}");
    }
    assert_eq!(binary.home.read("a.txt"), "five\n");
    binary.verified();
}

#[test]
fn a_damaged_chain_of_edits_is_found_by_a_look_at_the_store() {
    let binary = Binary::new();
    let edit = wrote(&binary);
    let thread = edit["threadId"].as_str().unwrap();
    let script = writing()
        .calls("file_read", json!({ "path": "a.txt" }))
        .calls("file_write", json!({ "path": "a.txt", "content": "three\n" }))
        .says("Done.");
    let script = binary.script(&script);
    let ran = binary.run(&["continue", thread, "go on", "--script", &script]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    binary.verified();
    // The first of both is gone: the second is version 2 of nothing.
    let database = redb::Database::open(binary.data().join("lakitu.redb")).unwrap();
    let write = database.begin_write().unwrap();
    for table in ["editHistory", "editHistory.by_path", "editHistory.by_thread"] {
        let definition: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(table);
        let mut table = write.open_table(definition).unwrap();
        let key = redb::ReadableTable::first(&table).unwrap().unwrap().0.value().to_vec();
        table.remove(key.as_slice()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let found = binary.run(&["db", "verify"]);
    assert_eq!(found.exit, 1, "{found:?}");
    assert!(found.out.contains("it is version 2 of") && found.out.contains("expected 1"), "{found:?}");
}
