//! Commands whose runtime is killed: they go on for whoever comes next, and not for ever.

use std::time::{Duration, Instant};

use lakitu_kernel::ErrorCode;
use serde_json::json;

use super::binary::{Binary, Ended};
use super::long;

/// A command that says something every half a second, so often, and ends with a status of its own; killed after a time.
fn orphan(lines: u32, killed_after: Duration, lease_ms: Option<u64>) -> Binary {
    let command = format!(
        "echo begins; n=0; while [ $n -lt {lines} ]; do sleep 0.5; n=$((n+1)); echo line $n; done; echo x >> marks/ended; exit 7"
    );
    let turns = json!([
        { "tool_calls": [{ "name": "bash", "arguments": { "command": command } }] },
        { "text": "That was it." }
    ]);
    let mut binary = Binary::new(&json!({ "turns": turns }));
    if let Some(lease_ms) = lease_ms {
        binary.set("LAKITU__KEEPER__LEASE_MS", lease_ms);
    }
    let mut process = binary.start(&["run", "go"]);
    process.wait_for("the command's first output", |event| event["type"] == "tool.output");
    assert!(process.hear_until(Instant::now() + killed_after), "it ended too early");
    assert!(process.kill().was_killed());
    assert_eq!(binary.marks("ended"), 0, "the command is still under way");
    binary
}

fn completed(binary: &Binary, ended: &Ended) -> super::journal::Told {
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let journal = binary.journal().unwrap();
    journal.assert_completed(1);
    binary.assert_nothing_runs(Duration::from_secs(10));
    journal.result("call_1_1").unwrap()
}

#[test]
fn a_command_whose_runtime_was_killed_is_adopted_with_its_whole_output_and_its_status() {
    let (lines, after) = if long() { (40, 5) } else { (12, 1) };
    let binary = orphan(lines, Duration::from_secs(after), None);
    let result = completed(&binary, &binary.resume());
    let expected = (1..=lines).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
    assert!(result.output.contains(&format!("begins\n{expected}")), "{result:?}");
    assert!(result.output.contains("exit 7"), "{result:?}");
    assert_eq!(result.code, Some(ErrorCode::CommandFailed), "{result:?}");
    assert_eq!(binary.marks("ended"), 1);
}

#[test]
fn without_a_resume_an_orphaned_command_is_gone_after_its_lease_and_the_model_is_told() {
    let binary = orphan(60, Duration::from_millis(300), Some(1000));
    binary.assert_nothing_runs(Duration::from_secs(20));
    assert_eq!(binary.marks("ended"), 0);
    let result = completed(&binary, &binary.resume());
    assert!(!result.ok && result.output.contains("begins"), "{result:?}");
    assert_eq!(binary.marks("ended"), 0, "it was not started again");
}

#[test]
fn a_resume_that_does_not_adopt_kills_the_orphaned_command() {
    let binary = orphan(60, Duration::from_millis(300), None);
    let result = completed(&binary, &binary.start(&["resume", "--no-adopt"]).end());
    assert!(!result.ok && result.output.contains("begins"), "{result:?}");
    assert_eq!(binary.marks("ended"), 0);
}
