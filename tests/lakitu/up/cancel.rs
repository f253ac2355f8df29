//! Cancels of every scope, by the command line: answered within a second whatever hangs, and the history is valid.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::json;

use super::{Heard, Up, binary, journal, marks, thread, until, until_status};
use crate::harness::{Binary, Ran, Script};

/// What a cancel may take; the command line's own start is within it.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1_200);

/// Gives something up, in time.
fn cancel(binary: &Binary, id: &str, scope: &[&str]) -> Ran {
    let asked = Instant::now();
    let ran = binary.run(&[&["threads", "cancel", id], scope].concat());
    assert!(asked.elapsed() < ANSWERED_WITHIN, "{scope:?}: answered after {:?}", asked.elapsed());
    ran
}

/// A command that waits for ever, of which a mark tells that it began.
fn endless(mark: &str) -> String {
    format!("echo x >> {mark}; trap '' TERM; while :; do sleep 0.05; done")
}

#[test]
fn a_job_a_turn_and_a_thread_are_given_up_each_by_itself() {
    let binary = binary();
    let serves = |mark: &str| format!("echo x >> {mark}; while :; do sleep 0.05; done");
    let background = |mark: &str| ("bash", json!({ "command": serves(mark), "run_in_background": true }));
    let script = Script::new()
        .calls_all([background("one"), background("two"), ("bash", json!({ "command": endless("waited") }))])
        .says("One is left.")
        .runs(&endless("again"))
        .says("None is.");
    let up = Up::start(&binary, &script);
    let mut run = Heard::begin(&binary, &["run", "serve"]);
    let id = run.thread();
    let rows = || -> Vec<String> {
        let rows = binary.run(&["db", "dump", "jobs"]).lines();
        rows.iter().map(|line| line["row"]["state"].as_str().unwrap().to_owned()).collect()
    };
    let jobs: Vec<String> = {
        until("all run", || ["one", "two", "waited"].iter().all(|mark| marks(&binary, mark) == 1));
        let rows = binary.run(&["db", "dump", "jobs"]).lines();
        rows.iter().map(|line| format!("job_{}", line["row"]["seq"])).collect()
    };
    assert_eq!(jobs.len(), 3);

    // A job: the run goes on.
    let one = cancel(&binary, &id, &["--job", &jobs[0]]);
    assert_eq!((one.exit, one.out.as_str()), (0, format!("{} is given up\n", jobs[0]).as_str()), "{one:?}");
    assert_eq!(thread(&binary, &id)["status"], "running");
    // The turn: the other job goes on.
    let turn = cancel(&binary, &id, &["--turn"]);
    assert_eq!((turn.exit, turn.out.as_str()), (0, format!("{id} is given up\n").as_str()), "{turn:?}");
    assert_eq!(run.end().0, 1);
    assert_eq!(thread(&binary, &id)["status"], "cancelled");
    until("the row of the first is closed, and that of the second is not", || rows() == ["ended", "running", "ended"]);
    // Its history is valid.
    assert_eq!(binary.run(&["continue", &id, "what is left?", "-q"]).out, "One is left.\n");
    // The thread: nothing does.
    let mut again = Heard::begin(&binary, &["continue", &id, "again"]);
    again.until("tool.intent");
    until("it runs", || marks(&binary, "again") == 1);
    assert_eq!(cancel(&binary, &id, &[]).out, format!("{id} is given up\n"));
    again.end();
    until("every row is closed", || rows().iter().all(|state| state == "ended"));

    // What is not there is told.
    for (scope, told) in [(["--job", &jobs[0]], "JOB_NOT_FOUND"), (["--job", "seven"], "INVALID_ARGUMENTS")] {
        let ran = cancel(&binary, &id, &scope);
        assert!(ran.exit != 0 && ran.err.contains(told), "{ran:?}");
    }
    up.stop();
}

/// The process that watches the commands of an `up`.
fn keeper(binary: &Binary) -> Pid {
    let jobs = binary.data().join("jobs");
    let holds = |pid: &str| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        targets.any(|target| target.starts_with(&jobs) && target.ends_with("lock"))
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    let found: Vec<String> = pids.filter_map(|name| name.into_string().ok()).filter(|name| holds(name)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    Pid::from_raw(found[0].parse().unwrap()).unwrap()
}

#[test]
fn a_keeper_that_stands_still_holds_no_cancel_up_and_is_gone_after_it() {
    // While its command is waited for; and when it was left by an earlier runtime and was not even greeted yet.
    for left_behind in [false, true] {
        let binary = binary();
        let script = Script::new().runs(&endless("began")).says("It was stopped.");
        let up = Up::start(&binary, &script);
        let mut run = Heard::begin(&binary, &["run", "go"]);
        let id = run.thread();
        until("the command runs", || marks(&binary, "began") == 1);
        let keeper = keeper(&binary);
        rustix::process::kill_process(keeper, Signal::STOP).unwrap();
        let up = if left_behind {
            up.kill();
            let up = Up::start(&binary, &script);
            until("it goes on", || journal(&binary, &id).iter().any(|event| event["type"] == "thread.resumed"));
            up
        } else {
            up
        };
        let ran = cancel(&binary, &id, &[]);
        assert_eq!((ran.exit, ran.out.as_str()), (0, format!("{id} is given up\n").as_str()), "{left_behind}: {ran:?}");
        assert_eq!(thread(&binary, &id)["status"], "cancelled");
        until("the keeper is gone", || rustix::process::test_kill_process(keeper).is_err());
        assert_eq!(binary.run(&["continue", &id, "and?", "-q"]).out, "It was stopped.\n", "{left_behind}");
        assert_eq!(marks(&binary, "began"), 1);
        drop(run);
        // It warned of what it had to kill.
        up.process.signal(Signal::TERM);
        assert_eq!(up.process.end().exit, 0);
    }
}

#[test]
fn a_store_that_is_slow_holds_no_cancel_up_and_it_is_seen_through() {
    let binary = binary().env("LAKITU__DEBUG__FAULT_INJECTION", "true");
    let script = Script::new().says("never").after_ms(600_000).says("Gone on.");
    let up = Up::start(&binary, &script);
    let mut run = Heard::begin(&binary, &["run", "go"]);
    let id = run.thread();
    until_status(&binary, &id, "running");
    inject(&binary, &json!({ "path": "/store", "fault": "slow", "ms": 3_000 }));
    let ran = cancel(&binary, &id, &[]);
    assert_eq!((ran.exit, ran.out.as_str()), (0, format!("{id} is being given up\n").as_str()), "{ran:?}");
    // Once more is once.
    assert_eq!(cancel(&binary, &id, &[]).exit, 0);
    until_status(&binary, &id, "cancelled");
    assert_eq!(run.end().0, 1);
    up.stop();
}

/// A fault, over the debug socket.
fn inject(binary: &Binary, params: &serde_json::Value) {
    use std::io::{BufRead, BufReader, Write};
    let mut socket = std::os::unix::net::UnixStream::connect(binary.data().join("debug.sock")).unwrap();
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": "inject", "params": params });
    socket.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer).unwrap();
    assert!(answer.contains("\"result\""), "{answer}");
}
