//! Ctrl-C and SIGTERM: once checkpoints and stops, twice quits.

use std::time::{Duration, Instant};

use lakitu_actors::store::ThreadStatus;
use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::binary::{Binary, PATIENCE, Process};

/// A run with a command under way that does not end by itself and does not listen.
fn under_way() -> (Binary, Process) {
    let command = "trap '' TERM INT; echo x >> marks/began; echo begins; while :; do sleep 1; done";
    let turns = json!([
        { "tool_calls": [{ "name": "bash", "arguments": { "command": command } }] },
        { "tool_calls": [{ "name": "bash", "arguments": { "command": "echo x >> marks/second" } }] },
        { "text": "That was it." }
    ]);
    let mut binary = Binary::new(&json!({ "turns": turns }));
    binary.set("LAKITU__KEEPER__LEASE_MS", 3000);
    let mut process = binary.start(&["run", "go"]);
    process.wait_for("the command's first output", |event| event["type"] == "tool.output");
    (binary, process)
}

fn once(signal: Signal) {
    let (binary, process) = under_way();
    process.signal(signal);
    let ended = process.end();
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert_eq!(ended.result()["status"], "checkpointed", "{ended:?}");
    binary.assert_nothing_runs(Duration::from_secs(10));
    let journal = binary.journal().unwrap();
    assert_eq!(journal.row.status, ThreadStatus::Checkpointed);
    assert!(!journal.result("call_1_1").unwrap().ok, "a command that was killed did not do what was asked");
    resumes(&binary);
}

fn resumes(binary: &Binary) {
    let resumed = binary.resume();
    assert_eq!(resumed.code(), Some(0), "{resumed:?}");
    binary.journal().unwrap().assert_completed(2);
    assert_eq!((binary.marks("began"), binary.marks("second")), (1, 1));
    binary.assert_nothing_runs(Duration::from_secs(10));
}

#[test]
fn ctrl_c_checkpoints_leaves_nothing_running_and_a_resume_completes() {
    once(Signal::INT);
}

#[test]
fn sigterm_checkpoints_leaves_nothing_running_and_a_resume_completes() {
    once(Signal::TERM);
}

#[test]
fn ctrl_c_twice_quits_at_once_even_where_the_stop_hangs() {
    let (binary, process) = under_way();
    // Whoever watches the commands answers nobody, so the stop that was asked for takes its whole time.
    let keeper = binary.keeper();
    kill_process(keeper, Signal::STOP).unwrap();
    let asked = Instant::now();
    process.signal(Signal::INT);
    // Two that come too soon after each other are one.
    while !process.is_over(Duration::from_millis(20)) && asked.elapsed() < PATIENCE {
        process.signal(Signal::INT);
    }
    let ended = process.end();
    let took = asked.elapsed();
    kill_process(keeper, Signal::CONT).unwrap();
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    binary.assert_nothing_runs(Duration::from_secs(15));
    resumes(&binary);
}
