//! How it ends, and what the next one goes on with.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;

use super::{Heard, Up, journal, marks, thread, until_status};
use crate::harness::{Binary, Fifo, PATIENCE, Script};

/// A command that marks its beginning and waits to be let go on; a write; a last word.
fn script() -> Script {
    Script::new()
        .runs("echo x >> began; echo begins; read -r _ < gate; echo went on")
        .calls("file_write", json!({ "path": "written", "content": "once\n" }))
        .says("That was it.")
}

fn open(gate: &Fifo) {
    tokio::runtime::Runtime::new().unwrap().block_on(gate.reached()).open();
}

#[test]
fn sigterm_checkpoints_what_runs_and_the_next_one_goes_on_with_it() {
    let binary = super::binary();
    let _gate = Fifo::new(&binary.workspace(), "gate");
    let up = Up::start(&binary, &script());
    let mut run = Heard::begin(&binary, &["run", "go"]);
    run.until("tool.output");
    let id = run.thread();
    let told = Instant::now();
    up.stop();
    assert!(told.elapsed().as_secs() < 10, "it took {:?}", told.elapsed());
    let (exit, result) = run.end();
    assert_eq!((exit, &result["status"]), (130, &json!("checkpointed")), "{result}");
    assert_eq!(result["checkpoint"]["reason"], "interrupted");
    assert_eq!(thread(&binary, &id)["status"], "checkpointed");
    assert_eq!(crate::harness::alive(&binary.workspace().display().to_string()), Vec::<String>::new());

    let up = Up::start(&binary, &script());
    until_status(&binary, &id, "completed");
    let events = journal(&binary, &id);
    let boots = events.iter().filter(|event| event["type"] == "thread.resumed" && event["why"] == "boot").count();
    assert_eq!((boots, marks(&binary, "began"), marks(&binary, "written")), (1, 1, 1));
    // The command was ended with its run, and is not run again: the model is told, and goes on.
    let results: Vec<_> = events.iter().filter(|event| event["type"] == "tool.result").collect();
    assert_eq!((results.len(), &results[0]["ok"], &results[1]["ok"]), (2, &json!(false), &json!(true)));
    up.stop();
}

#[test]
fn a_killed_one_is_gone_on_with_by_the_next_and_whoever_listens_hears_on() {
    let binary = super::binary();
    let gate = Fifo::new(&binary.workspace(), "gate");
    let up = Up::start(&binary, &script());
    let mut run = Heard::begin(&binary, &["run", "go"]);
    run.until("tool.output");
    let id = run.thread();
    up.kill();
    let up = Up::start(&binary, &script());
    open(&gate);
    let (exit, result) = run.end();
    assert_eq!(
        (exit, &result["status"], &result["text"]),
        (0, &json!("completed"), &json!("That was it.")),
        "{result}"
    );
    let events = journal(&binary, &id);
    let went_on = events.iter().find(|event| event["type"] == "tool.result").unwrap();
    assert!(went_on["output"].as_str().unwrap().contains("went on"), "the command was adopted: {went_on}");
    assert_eq!((marks(&binary, "began"), marks(&binary, "written")), (1, 1));
    up.stop();
}

#[test]
fn what_another_reason_stopped_stays() {
    let binary = super::binary();
    let gate = Fifo::new(&binary.workspace(), "gate");
    let up = Up::start(&binary, &script());
    let limited = binary.begin(&["run", "stop after one", "--max-turns", "1", "--output", "json"]);
    open(&gate);
    let limited = limited.end();
    assert_eq!(limited.exit, 3, "{limited:?}");
    let mut run = Heard::begin(&binary, &["run", "stop by hand"]);
    run.until("tool.output");
    let by_hand = run.thread();
    run.signal(Signal::INT);
    assert_eq!(run.end().0, 130);
    up.stop();

    let limited = limited.object()["thread"].as_str().unwrap().to_owned();
    let before = [thread(&binary, &limited)["last_seq"].clone(), thread(&binary, &by_hand)["last_seq"].clone()];
    let up = Up::start(&binary, &Script::new().says("Something else."));
    let other = binary.run(&["run", "something else"]);
    assert_eq!((other.exit, other.out.as_str()), (0, "Something else.\n"), "{other:?}");
    for (id, last) in [&limited, &by_hand].into_iter().zip(before) {
        let found = thread(&binary, id);
        assert_eq!((&found["status"], &found["last_seq"]), (&json!("checkpointed"), &last));
    }
    up.stop();
}

/// A run whose stop hangs: whoever watches its command answers nobody.
fn stuck(binary: &Binary) -> (Up, Heard, rustix::process::Pid) {
    let script = Script::new().runs("trap '' TERM INT; echo begins; while :; do sleep 1; done");
    let up = Up::start(binary, &script);
    let mut run = Heard::begin(binary, &["run", "go"]);
    run.until("tool.output");
    let keeper = super::first_process::children_of(i32::try_from(up.process.pid()).unwrap())
        .into_iter()
        .flat_map(super::first_process::children_of)
        .next()
        .expect("a keeper below the zygote");
    let keeper = rustix::process::Pid::from_raw(keeper).unwrap();
    rustix::process::kill_process(keeper, Signal::STOP).unwrap();
    (up, run, keeper)
}

#[test]
fn whatever_hangs_it_is_gone_in_its_time() {
    let binary =
        super::binary().env("LAKITU__SUPERVISION__SHUTDOWN_MS", "3000").env("LAKITU__KEEPER__LEASE_MS", "1000");
    let (up, mut run, keeper) = stuck(&binary);
    let id = run.thread();
    let told = Instant::now();
    up.process.signal(Signal::TERM);
    until_status(&binary, &id, "checkpointed");
    // Nothing new is begun meanwhile; nor behind it, where no model is configured.
    let late = binary.run(&["run", "one more"]);
    assert!(matches!(late.exit, 1 | 2) && late.out.is_empty(), "{late:?}");
    let ran = up.process.end();
    let took = told.elapsed();
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(binary.run(&["threads", "ls", "--json"]).object()["items"].as_array().unwrap().len(), 1);
    assert!(took.as_millis() < 3500, "it took {took:?}");
    // It was killed, where there was time for that.
    let _ = rustix::process::kill_process(keeper, Signal::CONT);
    assert_eq!(run.end().0, 130);
    assert_eq!(thread(&binary, &id)["status"], "checkpointed");
}

#[test]
fn a_second_signal_quits_at_once() {
    let binary = super::binary().env("LAKITU__KEEPER__LEASE_MS", "1000");
    let (up, run, keeper) = stuck(&binary);
    let told = Instant::now();
    up.process.signal(Signal::TERM);
    // Two that come too soon after each other are one.
    super::until("the process ends", || {
        let over = up.process.is_over();
        if !over {
            up.process.signal(Signal::TERM);
        }
        over || told.elapsed() > PATIENCE
    });
    let ran = up.process.end();
    assert_eq!(ran.exit, 130, "{ran:?}");
    rustix::process::kill_process(keeper, Signal::CONT).unwrap();
    run.signal(Signal::KILL);
    run.process.end();
}

#[test]
fn a_machine_that_stood_still_goes_on_as_if_it_had_not() {
    // A core actor that does not get on for so long ends the process.
    let limit = std::time::Duration::from_millis(1_500);
    let binary = super::binary().env("LAKITU__SUPERVISION__BLOCKED_MS", &limit.as_millis().to_string());
    let gate = Fifo::new(&binary.workspace(), "gate");
    let up = Up::start(&binary, &script());
    let mut run = Heard::begin(&binary, &["run", "go"]);
    run.until("tool.output");
    for _ in 0..2 {
        let stood = Instant::now();
        up.process.signal(Signal::STOP);
        super::until("it stands still for longer", || stood.elapsed() > limit * 4 / 3);
        up.process.signal(Signal::CONT);
        assert_eq!(binary.run(&["threads", "ls"]).exit, 0);
    }
    open(&gate);
    let (exit, result) = run.end();
    assert_eq!((exit, &result["text"]), (0, &json!("That was it.")), "{result}");
    assert_eq!((marks(&binary, "began"), marks(&binary, "written")), (1, 1));
    // Ctrl-C is told as SIGTERM is.
    up.process.signal(Signal::INT);
    let ran = up.process.end();
    assert_eq!((ran.exit, ran.out.as_str()), (0, ""), "{ran:?}");
}
