//! Jobs of threads that have come to their end: they go on as long as somebody may still ask for them.

use serde_json::json;

use super::{Up, binary, marks, until};
use crate::harness::{Binary, Script};

/// A job that goes on when its thread has come to its end.
fn server() -> Script {
    let command = "echo x >> began; until [ -e go ]; do sleep 0.02; done; echo x >> ended";
    Script::new().calls("bash", json!({ "command": command, "run_in_background": true })).says("It serves.")
}

fn gauge(binary: &Binary, name: &str) -> u64 {
    binary.run(&["inspect", "/tools/bash", "--json"]).object()["gauges"][name].as_u64().unwrap()
}

fn jobs(binary: &Binary) -> u64 {
    gauge(binary, "jobs")
}

/// The rows of jobs: in which state, and how it ended.
fn rows(binary: &Binary) -> Vec<(String, String)> {
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = binary.run(&["db", "dump", "jobs"]).lines();
    rows.iter().map(|line| (text(&line["row"], "state"), text(&line["row"], "end"))).collect()
}

#[test]
fn a_job_of_a_completed_thread_goes_on_under_the_next_up_and_ends_with_it() {
    let binary = binary().env("LAKITU__KEEPER__LEASE_MS", "20000");
    let up = Up::start(&binary, &server());
    assert_eq!(binary.run(&["run", "serve", "-q"]).out, "It serves.\n");
    until("the job runs", || marks(&binary, "began") == 1 && jobs(&binary) == 1);
    up.kill();
    let up = Up::start(&binary, &server());
    // It is held: its lease does not run any more.
    until("the job is found", || jobs(&binary) == 1);
    assert_eq!(rows(&binary), [("running".to_owned(), String::new())]);
    assert_eq!((marks(&binary, "began"), marks(&binary, "ended")), (1, 0));
    up.stop();
    assert_eq!(marks(&binary, "ended"), 0);

    // Whoever comes next writes down what became of it.
    let up = Up::start(&binary, &server());
    until("its end is known", || rows(&binary) == [("ended".to_owned(), "killed: the run was stopped".to_owned())]);
    assert_eq!(jobs(&binary), 0);
    up.stop();
}

#[test]
fn a_job_that_ended_while_nobody_was_there_is_known_to_have_ended() {
    let binary = binary().env("LAKITU__KEEPER__LEASE_MS", "20000");
    let up = Up::start(&binary, &server());
    assert_eq!(binary.run(&["run", "serve", "-q"]).out, "It serves.\n");
    until("the job runs", || marks(&binary, "began") == 1);
    up.kill();
    binary.home.write("go", "");
    until("the job ends", || marks(&binary, "ended") == 1);
    let up = Up::start(&binary, &server());
    until("its end is known", || rows(&binary) == [("ended".to_owned(), "exit 0".to_owned())]);
    up.stop();
}

#[test]
fn a_thread_that_has_come_to_its_end_holds_no_keeper_unless_a_job_runs() {
    let binary = binary();
    let script = Script::new().runs("echo x >> marks").says("Done.").runs("echo x >> marks").says("Again.");
    let up = Up::start(&binary, &script);
    assert_eq!(binary.run(&["run", "go", "-q"]).out, "Done.\n");
    until("it is let go", || gauge(&binary, "keepers") == 0);
    assert_eq!(binary.run(&["continue", "--last", "again", "-q"]).out, "Again.\n");
    assert_eq!((marks(&binary, "marks"), gauge(&binary, "keepers_lost")), (2, 0));
    up.stop();

    let up = Up::start(&binary, &server());
    assert_eq!(binary.run(&["run", "serve", "-q"]).out, "It serves.\n");
    until("the job runs", || marks(&binary, "began") == 1);
    // Its agent is gone by now, and the job is not.
    let agents = || binary.run(&["tree", "--json"]).out.matches("\"agent\"").count();
    until("the agent ends", || agents() == 0);
    assert_eq!((gauge(&binary, "keepers"), jobs(&binary)), (1, 1));
    up.stop();
}

#[test]
fn how_a_settled_threads_job_ended_is_written_down_when_it_ends_and_its_keeper_let_go() {
    let binary = binary();
    let script = server().calls("bash_list", json!({})).says("One.").then(server());
    let up = Up::start(&binary, &script);
    assert_eq!(binary.run(&["run", "serve", "-q"]).out, "It serves.\n");
    // Spoken to meanwhile, and settled anew.
    assert_eq!(binary.run(&["continue", "--last", "how many?", "-q"]).out, "One.\n");
    assert_eq!(rows(&binary), [("running".to_owned(), String::new())]);
    binary.home.write("go", "");
    until("its end is known", || rows(&binary) == [("ended".to_owned(), "exit 0".to_owned())]);
    until("its keeper is let go", || gauge(&binary, "keepers") == 0);
    assert_eq!((marks(&binary, "ended"), gauge(&binary, "keepers_lost")), (1, 0));

    // Also of one that an earlier runtime has left.
    std::fs::remove_file(binary.workspace().join("go")).unwrap();
    assert_eq!(binary.run(&["continue", "--last", "once more", "-q"]).out, "It serves.\n");
    until("the job runs", || marks(&binary, "began") == 2);
    up.kill();
    let up = Up::start(&binary, &script);
    until("the job is found", || jobs(&binary) == 1);
    binary.home.write("go", "");
    let ended = ("ended".to_owned(), "exit 0".to_owned());
    until("its end is known", || rows(&binary) == [ended.clone(), ended.clone()]);
    until("its keeper is let go", || gauge(&binary, "keepers") == 0);
    up.stop();
}
