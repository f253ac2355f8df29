//! A runtime that stands still for a while, as under SIGSTOP or on a machine that is paused, and goes on: what happened
//! meanwhile is told as it was, nothing is done twice, and nobody else could take its data directory.
//!
//! A keeper's lease is held off by a connection, and that stands: so a runtime that is stopped for longer than the lease
//! loses no command. With `LAKITU_LONG` it is stopped for a minute, past the model's deadlines too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Model, Say, long};
use crate::harness::{Binary, Ran, Running, alive};
use crate::up::{Up, binary, marks, until};

/// How long it stands still: longer than the lease, and than the time of what is timed here.
fn stopped_for() -> Duration {
    Duration::from_secs(if long() { 60 } else { 3 })
}

const LEASE_MS: &str = "1000";

/// Its command says that it began, and ends when it is told to.
const COMMAND: &str = "echo x >> began; until [ -e go ]; do sleep 0.02; done; echo x >> ended; echo that was it";

fn place() -> (Binary, String) {
    let marker = format!("LAKITU_TEST_OF_STOPS_{}_{:?}", std::process::id(), std::thread::current().id());
    let binary = binary().env("XDG_LAKITU_TEST", &marker).env("LAKITU__KEEPER__LEASE_MS", LEASE_MS);
    // Whoever counts how long a thread stands still would have had enough.
    (binary.env("LAKITU__SUPERVISION__BLOCKED_MS", "1000"), marker)
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

fn is_stopped(number: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
}

/// Stops a process, does this, and lets it go on once it has stood still for long enough.
fn while_stopped(runtime: &Running, meanwhile: impl FnOnce()) {
    runtime.signal(Signal::STOP);
    let until_then = Instant::now() + stopped_for();
    until("it stands still", || is_stopped(runtime.pid()));
    meanwhile();
    while Instant::now() < until_then {
        assert!(is_stopped(runtime.pid()));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    runtime.signal(Signal::CONT);
}

/// Whoever comes meanwhile is told who owns the data, in bounded time, and changes nothing.
fn is_taken(binary: &Binary, owner: &Running) {
    let asked = Instant::now();
    let other = binary.run(&["run", "another", "--gateway", "http://127.0.0.1:9"]);
    assert_eq!(other.exit, 75, "{other:?}");
    assert!(other.err.contains(&owner.pid().to_string()), "{other:?}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

fn begin(binary: &Binary, model: &Model, more: &[&str]) -> Running {
    binary.begin(&[&["run", "go", "--gateway", &model.url, "--output", "json"], more].concat())
}

fn said(ran: &Ran) -> (i32, String) {
    (ran.exit, ran.object()["text"].as_str().unwrap_or_default().to_owned())
}

/// The model runs these one after the other, then says how it was.
fn plays(turns: Vec<Say>) -> Model {
    Model::start(move |request, _| turns.get(request - 1).cloned().unwrap_or_else(|| Say::text("It went on.")))
}

#[test]
fn a_command_goes_on_while_its_runtime_is_stopped_and_its_end_is_told() {
    let (binary, marker) = place();
    let model = plays(vec![Say::call("bash", json!({ "command": COMMAND }))]);
    let run = begin(&binary, &model, &[]);
    until("it runs", || marks(&binary, "began") == 1);
    while_stopped(&run, || {
        is_taken(&binary, &run);
        binary.home.write("go", "");
        until("it ends", || marks(&binary, "ended") == 1);
    });
    assert_eq!(said(&run.end()), (0, "It went on.".to_owned()));
    assert!(model.last().contains("that was it") && model.last().contains("[exit 0"), "{}", model.last());
    assert_eq!((marks(&binary, "began"), marks(&binary, "ended"), model.came()), (1, 1, 2));
    until("nothing is left", || alive(&marker).is_empty());
}

#[test]
fn a_command_that_outlasts_the_lease_of_a_stopped_runtime_is_not_ended() {
    let (binary, _) = place();
    let model = plays(vec![Say::call("bash", json!({ "command": COMMAND }))]);
    let run = begin(&binary, &model, &[]);
    until("it runs", || marks(&binary, "began") == 1);
    while_stopped(&run, || {});
    binary.home.write("go", "");
    assert_eq!(said(&run.end()), (0, "It went on.".to_owned()));
    assert!(model.last().contains("[exit 0"), "{}", model.last());
    assert_eq!((marks(&binary, "began"), marks(&binary, "ended")), (1, 1));
}

#[test]
fn a_call_whose_time_was_over_meanwhile_goes_on_as_a_job() {
    let (binary, marker) = place();
    let model = Model::start(|request, body| match request {
        1 => Say::call("bash", json!({ "command": COMMAND, "timeout": 2_000 })),
        2 => {
            let told = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
            let job: String = told[told.find("job_").expect("a job")..]
                .chars()
                .take_while(|char| char.is_ascii_alphanumeric() || *char == '_')
                .collect();
            Say::call("bash_kill", json!({ "job": job }))
        }
        _ => Say::text("It went on."),
    });
    let run = begin(&binary, &model, &[]);
    until("it runs", || marks(&binary, "began") == 1);
    while_stopped(&run, || {});
    assert_eq!(said(&run.end()), (0, "It went on.".to_owned()));
    assert!(model.last().contains("COMMAND_TIMEOUT"), "{}", model.last());
    assert_eq!((marks(&binary, "began"), marks(&binary, "ended")), (1, 0));
    until("nothing is left", || alive(&marker).is_empty());
}

#[test]
fn a_run_whose_time_was_up_meanwhile_stops_as_soon_as_it_goes_on() {
    let (binary, marker) = place();
    let model = plays(vec![Say::call("bash", json!({ "command": COMMAND }))]);
    // Long enough to come to its command on a loaded machine.
    let run = begin(&binary, &model, &["--timeout", if long() { "30s" } else { "6s" }]);
    until("it runs", || marks(&binary, "began") == 1);
    while_stopped(&run, || std::thread::park_timeout(Duration::from_secs(6)));
    let ran = run.end();
    assert_eq!((ran.exit, &ran.object()["status"]), (3, &json!("checkpointed")), "{ran:?}");
    assert_eq!(alive(&marker), Vec::<String>::new());
    let resumed = binary.run(&["resume", "-q", "--timeout", "10m", "--gateway", &model.url]);
    assert_eq!((resumed.exit, resumed.out.as_str()), (0, "It went on.\n"), "{resumed:?}");
    assert!(model.last().contains("INTERRUPTED"), "{}", model.last());
}

#[test]
fn an_answer_that_came_meanwhile_is_taken_and_asked_for_once() {
    let (binary, _) = place();
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let (held, answered) = (gate.clone(), Arc::new(AtomicBool::new(false)));
    let says = answered.clone();
    let model = Model::start(move |_, _| {
        let open = held.0.lock().unwrap();
        drop(held.1.wait_while(open, |open| !*open).unwrap());
        says.store(true, Ordering::SeqCst);
        Say::text("It went on.")
    });
    let run = begin(&binary, &model, &[]);
    until("it asks", || model.asked() == 1);
    while_stopped(&run, || {
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        until("it is answered", || answered.load(Ordering::SeqCst) && model.open() == 0);
    });
    assert_eq!(said(&run.end()), (0, "It went on.".to_owned()));
    assert_eq!(model.came(), 1);
}

#[test]
fn a_machine_that_is_paused_goes_on_where_it_was() {
    let (binary, marker) = place();
    let model = plays(vec![Say::call("bash", json!({ "command": COMMAND }))]);
    let run = begin(&binary, &model, &[]);
    until("it runs", || marks(&binary, "began") == 1);
    // Everything of it: the keeper and the command too.
    let all: Vec<Pid> =
        alive(&marker).iter().map(|line| pid(line.split(' ').next().unwrap().parse().unwrap())).collect();
    assert!(all.len() >= 3, "{all:?}");
    let signal = |signal| all.iter().for_each(|pid| kill_process(*pid, signal).unwrap());
    signal(Signal::STOP);
    while_stopped(&run, || {});
    signal(Signal::CONT);
    binary.home.write("go", "");
    assert_eq!(said(&run.end()), (0, "It went on.".to_owned()));
    assert!(model.last().contains("[exit 0"), "{}", model.last());
    assert_eq!((marks(&binary, "began"), marks(&binary, "ended")), (1, 1));
}

#[test]
fn an_up_that_stands_still_keeps_its_directory_and_serves_again() {
    let (binary, _) = place();
    let model = plays(vec![Say::call("bash", json!({ "command": COMMAND }))]);
    let up = Up::with(&binary, &["--gateway", &model.url]);
    let run = binary.begin(&["run", "go", "-q"]);
    until("it runs", || marks(&binary, "began") == 1);
    while_stopped(&up.process, || is_taken(&binary, &up.process));
    binary.home.write("go", "");
    let ran = run.end();
    assert_eq!((ran.exit, ran.out.as_str()), (0, "It went on.\n"), "{ran:?}");
    assert_eq!((marks(&binary, "began"), marks(&binary, "ended"), model.came()), (1, 1, 2));
    assert_eq!(binary.run(&["run", "again", "-q"]).out, "It went on.\n");
    up.stop();
}
