//! Kills at moments that are not a tool call's: the very start, a model call, a `continue`.

use std::time::Duration;

use lakitu_actors::store::ThreadStatus;
use serde_json::{Value, json};

use super::binary::Binary;
use super::pool;

fn marking(name: &str) -> Value {
    json!({ "tool_calls": [{ "name": "bash", "arguments": { "command": format!("echo x >> marks/{name}") } }] })
}

fn says(text: &str) -> Value {
    json!({ "text": text })
}

#[test]
fn a_binary_killed_as_it_starts_leaves_nothing_broken() {
    let moments: Vec<u64> = (0..12).collect();
    pool::each(
        &moments,
        |moment| format!("killed after {moment} ms"),
        |moment| {
            let mut binary = Binary::new(&json!({ "turns": [marking("once"), says("Done.")] }));
            binary.set("LAKITU__KEEPER__LEASE_MS", 1000);
            let mut process = binary.start(&["run", "go"]);
            process.hear_until(std::time::Instant::now() + Duration::from_millis(*moment));
            process.kill();
            let resumed = binary.resume();
            assert_eq!(resumed.code(), Some(0), "{resumed:?}");
            binary.journal().unwrap().assert_completed(1);
            assert_eq!(binary.marks("once"), 1);
            binary.assert_nothing_runs(Duration::from_secs(15));
        },
    );
}

#[test]
fn before_anything_is_durable_there_is_no_thread_and_resume_says_so() {
    let mut binary = Binary::new(&json!({ "turns": [marking("once"), says("Done.")] }));
    binary.set("LAKITU__KEEPER__LEASE_MS", 1000);
    assert!(binary.run_until("before_commit:1").was_killed());
    let told = binary.start(&["resume"]).end();
    assert_eq!(told.code(), Some(2), "{told:?}");
    assert!(told.stderr.contains("there is no thread here yet"), "{told:?}");
    assert!(binary.journal().is_none());
    assert_eq!(binary.run().code(), Some(0));
    binary.journal().unwrap().assert_completed(1);
    assert_eq!(binary.marks("once"), 1);
}

#[test]
fn a_binary_killed_while_the_model_thinks_asks_again_and_repeats_nothing() {
    let slow = json!({ "delay_ms": 600_000, "text": "Done." });
    let binary = Binary::new(&json!({ "turns": [marking("once"), slow] }));
    let mut process = binary.start(&["run", "go"]);
    process.wait_for("the second turn", |event| event["type"] == "turn.started" && event["turn"] == 2);
    process.wait_for_type("tool.result");
    assert!(process.kill().was_killed());
    binary.set_script(&json!({ "turns": [marking("once"), says("Done.")] }));
    let resumed = binary.resume();
    assert_eq!(resumed.code(), Some(0), "{resumed:?}");
    assert_eq!(resumed.result()["text"], "Done.");
    binary.journal().unwrap().assert_completed(1);
    assert_eq!(binary.marks("once"), 1);
    binary.assert_nothing_runs(Duration::from_secs(10));
}

#[test]
fn a_continue_that_is_killed_anywhere_goes_on_or_never_was() {
    let first = || {
        let binary = Binary::new(&json!({ "turns": [marking("first"), says("First.")] }));
        assert_eq!(binary.run().code(), Some(0));
        binary.set_script(&json!({ "turns": [marking("first"), says("First."), marking("next"), says("Second.")] }));
        binary
    };
    let points = {
        let binary = first();
        let points = binary.traced_with(&["continue", "--last", "more"]);
        assert_eq!(binary.marks("next"), 1);
        points
    };
    assert!(points.len() >= 9, "{points:?}");
    pool::each(&points, Clone::clone, |point| {
        let binary = first();
        let killed = binary.start_with(&["continue", "--last", "more"], &[("LAKITU_CRASH_AT", point)]).end();
        assert!(killed.was_killed(), "not passed: {killed:?}");
        let resumed = binary.resume();
        if point == "before_commit:1" {
            // Nobody was told that the prompt was taken: it was not, and what there is, is the first run's end.
            assert_eq!(resumed.code(), Some(0), "{resumed:?}");
            assert_eq!(resumed.result()["text"], "First.");
            let again = binary.start(&["continue", "--last", "more"]).end();
            assert_eq!(again.code(), Some(0), "{again:?}");
        } else {
            assert_eq!(resumed.code(), Some(0), "{resumed:?}");
            assert_eq!(resumed.result()["text"], "Second.");
        }
        let journal = binary.journal().unwrap();
        assert_eq!(journal.row.status, ThreadStatus::Completed);
        journal.assert_completed(2);
        assert_eq!(journal.prompts(), ["go", "more"]);
        assert_eq!((binary.marks("first"), binary.marks("next")), (1, 1));
        binary.assert_nothing_runs(Duration::from_secs(10));
    });
}
