//! Jobs in the background whose run ends: by a kill, by a signal, by its own end. They go on for whoever comes next, or
//! not at all.

use std::time::Duration;

use lakitu_actors::store::JobState;
use lakitu_kernel::ErrorCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::binary::{Binary, Ended, Process};

/// The job of the first turn.
const JOB: &str = "job_6";

fn bash(arguments: &Value) -> Value {
    json!({ "tool_calls": [{ "name": "bash", "arguments": arguments }] })
}

/// A job under way, and beside it a command that its call waits for. Both end when they are let go.
fn under_way(lease_ms: u64) -> (Binary, Process) {
    let job =
        "echo x >> marks/began; echo begins; until [ -e go ]; do sleep 0.02; done; echo ends; echo x >> marks/ended";
    let look = json!({ "name": "bash_output", "arguments": { "job": JOB, "wait": 60_000 } });
    let turns = json!([
        bash(&json!({ "command": job, "run_in_background": true })),
        bash(&json!({ "command": "echo waits; until [ -e go ]; do sleep 0.02; done; echo waited" })),
        { "tool_calls": [look] },
        { "text": "That was it." }
    ]);
    let mut binary = Binary::new(&json!({ "turns": turns }));
    binary.set("LAKITU__KEEPER__LEASE_MS", lease_ms);
    let mut process = binary.start(&["run", "go"]);
    process.wait_for("the second command's output", |event| {
        event["type"] == "tool.output" && event["text"].as_str().is_some_and(|text| text.contains("waits"))
    });
    (binary, process)
}

/// What the second command's result was, and what was told of the job.
fn completed(binary: &Binary, ended: &Ended) -> (Option<ErrorCode>, String) {
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let journal = binary.journal().unwrap();
    journal.assert_completed(3);
    binary.assert_nothing_runs(Duration::from_secs(10));
    assert_eq!(binary.marks("began"), 1, "it was not started again");
    let told = journal.result("call_3_1").unwrap();
    assert!(told.ok, "{told:?}");
    (journal.result("call_2_1").unwrap().code, told.output)
}

#[test]
fn a_job_whose_runtime_was_killed_goes_on_for_the_next_one() {
    let (binary, process) = under_way(60_000);
    assert!(process.kill().was_killed());
    let jobs = binary.journal_of_a_copy().unwrap().jobs;
    assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), [JobState::Running; 2], "both may run");
    binary.write("go", "");
    let (second, told) = completed(&binary, &binary.resume());
    assert_eq!(second, None);
    assert!(told.starts_with("begins\nends\n[job_6: exit 0"), "{told}");
    assert_eq!(binary.marks("ended"), 1);
}

#[test]
fn a_job_whose_runtime_was_killed_is_gone_after_its_lease_and_its_output_says_so() {
    let (binary, process) = under_way(3000);
    assert!(process.kill().was_killed());
    binary.assert_nothing_runs(Duration::from_secs(20));
    let (second, told) = completed(&binary, &binary.resume());
    assert_eq!(second, Some(ErrorCode::Interrupted));
    assert!(told.starts_with("begins\n[job_6: killed: the runtime was gone"), "{told}");
    let jobs = binary.journal().unwrap().jobs;
    let rows: Vec<_> = jobs.iter().map(|job| (job.seq.0, job.state, job.end.as_str())).collect();
    assert_eq!(rows[0], (6, JobState::Ended, "killed: the runtime was gone"), "{rows:?}");
    assert!(rows.len() == 2 && rows[1].1 == JobState::Ended, "{rows:?}");
    assert_eq!(binary.marks("ended"), 0);
}

#[test]
fn a_resume_that_does_not_adopt_kills_the_job() {
    let (binary, process) = under_way(60_000);
    assert!(process.kill().was_killed());
    let (second, told) = completed(&binary, &binary.start(&["resume", "--no-adopt"]).end());
    assert_eq!(second, Some(ErrorCode::Interrupted));
    assert!(told.starts_with("begins\n[job_6: killed: the run was stopped"), "{told}");
    assert_eq!(binary.marks("ended"), 0);
}

#[test]
fn ctrl_c_and_sigterm_take_the_job_along() {
    for signal in [Signal::INT, Signal::TERM] {
        let (binary, process) = under_way(60_000);
        process.signal(signal);
        let ended = process.end();
        assert_eq!(ended.code(), Some(130), "{ended:?}");
        binary.assert_nothing_runs(Duration::from_secs(10));
        let (second, told) = completed(&binary, &binary.resume());
        assert_eq!(second, Some(ErrorCode::Interrupted));
        assert!(told.starts_with("begins\n[job_6: killed: the run was stopped"), "{told}");
        assert_eq!(binary.marks("ended"), 0);
    }
}

#[test]
fn a_run_that_comes_to_its_end_takes_its_jobs_along() {
    let hides =
        "trap '' TERM; setsid sh -c 'echo x >> marks/began; while :; do sleep 1; done' & while :; do sleep 1; done";
    let turns = json!([
        bash(&json!({ "command": hides, "run_in_background": true })),
        bash(&json!({ "command": hides, "timeout": 200 })),
        bash(&json!({ "command": "until [ $(wc -l < marks/began) = 2 ]; do sleep 0.02; done" })),
        { "text": "That was it." }
    ]);
    let binary = Binary::new(&json!({ "turns": turns }));
    let ended = binary.run();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    binary.assert_nothing_runs(Duration::ZERO);
    let journal = binary.journal().unwrap();
    journal.assert_completed(3);
    assert_eq!(journal.result("call_2_1").unwrap().code, Some(ErrorCode::CommandTimeout));
}
