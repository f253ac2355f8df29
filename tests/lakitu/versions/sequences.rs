//! A hundred files of every kind that text comes in, each through its own sequence of edits.

use std::path::Path;
use std::process::{Command, Stdio};

use lakitu_actors::debug::edits::edits_diff;
use lakitu_actors::debug::protocol::EditsDiff;
use lakitu_actors::store::{EditRow, Row as _, kept};
use lakitu_kernel::config::Config;
use serde_json::{Value, json};

use super::{Dice, tree};
use crate::harness::{Harness, Home, Script};

const SEQUENCES: usize = 100;
/// Places in a file that an edit can be of.
const PLACES: usize = 30;

fn original(n: usize, dice: &mut Dice) -> Vec<u8> {
    let lines =
        |end: &str| (0..PLACES).map(|place| format!("<{place}> stands here{end}")).collect::<String>().into_bytes();
    match n % 8 {
        0 => lines("\n"),
        1 => lines("\r\n"),
        2 => [b"\xef\xbb\xbf".to_vec(), lines("\n")].concat(),
        3 => lines("\n").strip_suffix(b"\n").unwrap().to_vec(),
        4 => [b"caf\xe9 \xff\n".to_vec(), lines("\n"), b"na\xefve".to_vec()].concat(),
        5 => Vec::new(),
        // With room for what is inserted.
        6 => [lines("\n"), vec![b'y'; 1024 * 1024 - 4096 - dice.below(9)]].concat(),
        _ => (0..PLACES)
            .map(|place| format!("<{place}>{}", ["\n", "\r\n", "\n\n"][place % 3]))
            .collect::<String>()
            .into(),
    }
}

/// A sequence as calls of one turn.
fn calls(n: usize, dice: &mut Dice) -> Vec<(&'static str, Value)> {
    let path = format!("f{n}.txt");
    let mut calls = vec![("file_read", json!({ "path": path, "limit": 1 }))];
    if n % 8 == 5 {
        let content = *dice.of(&["one\n", "no end", "\u{feff}bom\r\n", "<0>\n<1>\n"]);
        calls.push(("file_write", json!({ "path": path, "content": content })));
    } else {
        let first = dice.below(PLACES - 3);
        for place in first..first + 3 {
            let old = format!("<{place}>");
            let new = match dice.below(4) {
                0 => String::new(),
                1 => format!("{old}\nand a line"),
                2 => format!("caf\u{e9} {old}\r\n\r\n"),
                _ => "other".to_owned(),
            };
            calls.push(("file_edit", json!({ "path": path, "old_string": old, "new_string": new })));
        }
    }
    let command = match dice.below(6) {
        0 => format!("printf 'caf\\351\\r\\n' >> {path}"),
        1 => format!(": > {path}"),
        2 => format!("rm {path}"),
        3 => format!("chmod 755 {path}"),
        4 => format!("printf '%s' \"$(cat {path})\" > {path}.new; mv {path}.new {path}"),
        _ => return calls,
    };
    calls.push(("bash", json!({ "command": command })));
    calls
}

/// What a tool makes of a file, given the diff. A tool that is missing fails the test, with its name.
fn applied(tool: &[&str], name: &str, before: Option<&[u8]>, diff: &[u8]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    if let Some(bytes) = before {
        std::fs::write(&path, bytes).unwrap();
    }
    let given = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(given.path(), diff).unwrap();
    let ran = Command::new(tool[0])
        .args(&tool[1..])
        .current_dir(directory.path())
        .env_remove("GIT_DIR")
        .stdin(Stdio::from(std::fs::File::open(given.path()).unwrap()))
        .output()
        .unwrap_or_else(|error| panic!("{} is needed for this test: {error}", tool[0]));
    assert!(ran.status.success(), "{tool:?}: {ran:?}\n{}", String::from_utf8_lossy(diff));
    std::fs::read(&path).ok()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The stored diff makes the version after of the one before, whoever applies it.
async fn applies(lakitu: &Harness, edit: &EditRow) {
    let (before, after) = (edit.before.and_then(kept), edit.after.and_then(kept));
    let blob = |hash: Option<lakitu_kernel::Hash>| async move {
        match hash {
            Some(hash) => Some(lakitu.ask(move |reading| reading.blob(hash)).await.to_vec()),
            None => None,
        }
    };
    let (before, after) = (blob(before).await, blob(after).await);
    if before == after {
        return;
    }
    let id = edit.json()["_id"].as_str().unwrap().to_owned();
    let asked = EditsDiff { edit: id.clone() };
    let told = lakitu.ask(move |reading| Ok(edits_diff(reading, asked).unwrap())).await;
    let diff = told["hex"].as_str().map_or_else(|| told["diff"].as_str().unwrap().as_bytes().to_vec(), bytes_of);
    let name = Path::new(&edit.path).file_name().unwrap().to_str().unwrap();
    for tool in [&["patch", "-p1", "--force", "--no-backup-if-mismatch"][..], &["git", "apply", "-"][..]] {
        let made = applied(tool, name, before.as_deref(), &diff);
        assert!(
            made == after,
            "{} of {id} ({name}):\n{}",
            tool[0],
            String::from_utf8_lossy(&diff[..diff.len().min(4000)])
        );
    }
}

#[tokio::test]
async fn a_hundred_sequences_of_edits_go_back_to_the_byte_and_each_diff_is_one_that_patch_and_git_apply() {
    let mut dice = Dice::new(7);
    let home = Home::new();
    for n in 0..SEQUENCES {
        let path = home.workspace().join(format!("f{n}.txt"));
        std::fs::write(&path, original(n, &mut dice)).unwrap();
        let mode = *dice.of(&[0o644, 0o755, 0o600, 0o664]);
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let before = tree(&home.workspace());
    let script = (0..SEQUENCES).fold(Script::new(), |script, n| {
        let script = script.calls_all(calls(n, &mut dice));
        if n % 10 == 9 { script.says("Done.") } else { script }
    });
    let mut config = Config::default();
    // All that is changed here is kept, so that all of it has a diff.
    config.edits.keep_bytes = 64 * 1024 * 1024;
    let lakitu = Harness::start_on(home, script, config).await;
    assert_eq!(lakitu.prompt("go").await, Ok("Done.".to_owned()));
    for _ in 1..SEQUENCES / 10 {
        assert_eq!(lakitu.continue_("go on").await, Ok("Done.".to_owned()));
    }
    let edits = lakitu.rows_of_edits().await;
    assert!(edits.len() > 2 * SEQUENCES, "{} edits", edits.len());
    for edit in &edits {
        applies(&lakitu, edit).await;
    }
    let thread = lakitu.thread().to_string();
    lakitu.runtime().threads().rollback(&thread, "", false).await.unwrap();
    let after = tree(&lakitu.home.workspace());
    let differ: Vec<_> =
        before.iter().filter(|(path, what)| after.get(*path) != Some(what)).map(|(path, _)| path).collect();
    assert_eq!((differ, after.len()), (vec![], before.len()));
    lakitu.end().await;
}

#[tokio::test]
async fn reports_of_two_threads_in_two_workspaces_do_not_meet() {
    let writes = Script::new().calls("file_write", json!({ "path": "report.md", "content": "{me}\n" })).says("Done.");
    let lakitu = Harness::start(writes).await;
    let workspaces = ["one", "two"].map(|name| lakitu.home.workspace().join(name));
    let mut threads = Vec::new();
    for (workspace, text) in workspaces.iter().zip(["first", "second"]) {
        std::fs::create_dir(workspace).unwrap();
        let ran = lakitu.prompt_with(text, |settings| settings.workspace.clone_from(workspace)).await;
        assert_eq!(ran, Ok("Done.".to_owned()));
        threads.push(lakitu.thread().to_string());
    }
    let read = |at: usize| std::fs::read_to_string(workspaces[at].join("report.md")).ok();
    assert_eq!((read(0).as_deref(), read(1).as_deref()), (Some("first\n"), Some("second\n")));
    lakitu.runtime().threads().rollback(&threads[0], "", false).await.unwrap();
    assert_eq!((read(0), read(1).as_deref()), (None, Some("second\n")));
    for row in lakitu.rows_of_edits().await {
        assert_eq!((row.version, row.outside), (1, false), "{row:?}");
    }
    lakitu.end().await;
}
