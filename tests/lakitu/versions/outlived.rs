//! What a command changes that outlives the runtime that began it, and what a taking back changes that is killed.

use rustix::process::Signal;
use serde_json::Value;

use super::tree;
use crate::harness::{Binary, Fifo, Script};

fn edits(binary: &Binary) -> Vec<Value> {
    let listed = binary.run(&["edits", "ls", "--json", "--limit", "1000"]);
    assert_eq!(listed.exit, 0, "{listed:?}");
    let mut items = listed.object()["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

#[tokio::test]
async fn what_a_command_changed_that_outlived_a_kill_is_recorded_by_whoever_adopts_it_and_goes_back() {
    let binary = Binary::new();
    binary.home.write("a.txt", "before\n");
    let before = tree(&binary.workspace());
    let gate = Fifo::new(&binary.workspace(), "gate");
    let command =
        "echo at first > a.txt; mkdir made; read -r _ < gate; echo at last >> a.txt; ln -s ../a.txt made/link";
    let script = binary.script(&Script::new().runs("true").runs(command).says("Done."));
    let run = binary.begin(&["run", "go", "--script", &script]);
    let door = gate.reached().await;
    run.signal(Signal::KILL);
    run.end();
    door.open();
    let resumed = binary.run(&["resume", "--script", &script]);
    assert_eq!(resumed.exit, 0, "{resumed:?}");
    assert_eq!(binary.home.read("a.txt"), "at first\nat last\n");

    let told: Vec<String> = edits(&binary)
        .iter()
        .map(|edit| {
            let path = edit["path"].as_str().unwrap().rsplit_once("/workspace/").unwrap().1;
            format!("{} {path} {}", edit["tool"].as_str().unwrap(), edit["before"]["kept"])
        })
        .collect();
    assert_eq!(told, ["bash a.txt true", "bash made null", "bash made/link null"]);
    let thread = edits(&binary)[0]["threadId"].as_str().unwrap().to_owned();
    let back = binary.run(&["edits", "rollback", &thread]);
    assert_eq!(back.exit, 0, "{back:?}");
    assert_eq!(tree(&binary.workspace()), before);
    assert_eq!(binary.run(&["db", "verify"]).exit, 0);
}

/// Wherever the process is killed that takes a step back in which things of all kinds changed places.
#[cfg(feature = "crash-points")]
#[test]
fn a_taking_back_of_all_kinds_that_was_killed_anywhere_is_whole_once_it_is_asked_for_again() {
    let points =
        ["before_commit:1", "after_commit:1", "before_effect", "after_effect", "before_commit:2", "after_commit:2"];
    let within = ["during_effect:1", "during_effect:2", "during_effect:4", "during_effect:6"];
    for point in points.into_iter().chain(within) {
        let binary = Binary::new();
        binary.home.write("was_file", "a file\n");
        binary.home.write("was_folder/in/it", "deep\n");
        binary.home.write("gone", "gone\n");
        std::os::unix::fs::symlink("gone", binary.workspace().join("was_link")).unwrap();
        let before = tree(&binary.workspace());
        let command = "rm was_file; mkdir was_file; echo x > was_file/x; rm -r was_folder; echo y > was_folder; \
                       rm was_link; mkdir was_link; mv gone moved; ln -s moved new_link; mkdir -p empty/er";
        let ran = binary.plays(&Script::new().runs(command).says("Done."), "change", &[]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let thread = edits(&binary)[0]["threadId"].as_str().unwrap().to_owned();
        let killed = binary.command(&["edits", "rollback", &thread]).env("LAKITU_CRASH_AT", point).output().unwrap();
        assert!(!killed.status.success(), "{point} is not passed: {killed:?}");
        let again = binary.run(&["edits", "rollback", &thread]);
        let done = again.exit == 0 || again.err.contains("nothing to take back");
        assert!(done, "{point}: {again:?}");
        assert_eq!(tree(&binary.workspace()), before, "{point}");
        assert_eq!(binary.run(&["db", "verify"]).exit, 0, "{point}");
    }
}
