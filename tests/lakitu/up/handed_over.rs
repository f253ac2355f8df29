//! Runs that are handed over look to their user like any other.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Heard, Up, journal, marks, thread};
use crate::harness::{Binary, Fifo, Ran, Script};

fn script() -> Script {
    Script::new().runs("echo from the command").says("Done: *one*.").says("Done: two.")
}

/// A run's output without what no two runs share.
fn plain(ran: &Ran, binary: &Binary) -> (i32, Vec<String>, Vec<String>) {
    let home = binary.home.path().display().to_string();
    let line = |line: &str| {
        let words = line.replace(&home, "HOME");
        let same = |word: &str| match word {
            word if word.contains("thr_") => "thr".to_owned(),
            word if word.parse::<f64>().is_ok() => "N".to_owned(),
            "ms" | "s" => "TIME".to_owned(),
            word => word.to_owned(),
        };
        words.split(' ').map(same).collect::<Vec<_>>().join(" ")
    };
    (ran.exit, ran.out.lines().map(line).collect(), ran.err.lines().map(line).collect())
}

/// The same of lines of JSON: without what is live, whose pieces come as they come.
fn plain_events(ran: &Ran) -> Vec<Value> {
    let mut lines = ran.lines();
    lines.retain(|line| line.get("seq").is_some() || line["type"] == "result");
    for line in &mut lines {
        for key in ["thread", "at", "prefix", "boundary", "settings", "duration_ms"] {
            line.as_object_mut().unwrap().remove(key);
        }
        // Each thread's boundary is in its requests.
        if let Some(request) = line.get_mut("request").and_then(Value::as_object_mut) {
            request.remove("hash");
        }
    }
    lines
}

#[test]
fn every_output_is_what_it_is_without_an_up() {
    let here = super::binary();
    let there = super::binary();
    let up = Up::start(&there, &script());
    let file = here.script(&Script::new().runs("echo from the command").says("Done: *one*."));
    for output in ["text", "json"] {
        let embedded =
            here.run(&["run", "hello", "--script", &file, "--artifacts", "../artifacts", "--output", output]);
        let handed = there.run(&["run", "hello", "--output", output]);
        assert_eq!(plain(&handed, &there), plain(&embedded, &here), "--output {output}");
    }
    let quiet = there.run(&["run", "hello", "-q"]);
    assert_eq!((quiet.exit, quiet.out.as_str(), quiet.err.as_str()), (0, "Done: *one*.\n", ""));
    let embedded =
        here.run(&["run", "hello", "--script", &file, "--artifacts", "../artifacts", "--output", "stream-json"]);
    let handed = there.run(&["run", "hello", "--output", "stream-json"]);
    assert_eq!(plain_events(&handed), plain_events(&embedded));
    for live in ["turn.started", "tool.output"] {
        assert!(handed.lines().iter().any(|line| line["type"] == live), "no {live}: {handed:?}");
    }
    up.stop();
}

#[test]
fn continue_and_resume_are_handed_over_too() {
    let binary = super::binary();
    let up = Up::start(&binary, &script());
    let first = binary.run(&["run", "hello", "--output", "json"]).object();
    let id = first["thread"].as_str().unwrap();
    let second = binary.run(&["continue", "--last", "and then", "--output", "json"]).object();
    let expected = json!({ "thread": id, "status": "completed", "text": "Done: two.", "turns": 3, "tool_calls": 1 });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&second[key], value, "{key} of {second}");
    }
    // What is settled is shown as it ended.
    let shown = binary.run(&["resume", "--output", "json"]);
    assert_eq!((shown.exit, &shown.object()["text"]), (0, &json!("Done: two.")));
    assert_eq!(binary.run(&["resume", id]).out, "Done: two.\n");
    // The script has no more: what the runtime says of it is said here.
    let over = binary.run(&["continue", id, "more", "--output", "json"]);
    assert_eq!((over.exit, &over.object()["error"]["code"]), (1, &json!("SCRIPT_MISMATCH")), "{over:?}");
    let unknown = binary.run(&["continue", "thr_00000000000000000000000001", "hello"]);
    assert_eq!((unknown.exit, unknown.out.as_str()), (2, ""), "{unknown:?}");
    assert!(unknown.err.contains("there is no thread thr_00000000000000000000000001"), "{unknown:?}");
    up.stop();
}

#[test]
fn ctrl_c_checkpoints_that_thread_alone_and_resume_goes_on() {
    let binary = super::binary();
    let gate = Fifo::new(&binary.workspace(), "gate");
    let script = Script::new().runs("echo x >> began; echo begins; read -r _ < gate; echo went on").says("Done.");
    let up = Up::start(&binary, &script);
    let mut other = Heard::begin(&binary, &["run", "the other"]);
    other.until("tool.output");
    let other_id = other.thread();
    let mut run = Heard::begin(&binary, &["run", "this one"]);
    run.until("tool.output");
    let id = run.thread();
    run.signal(Signal::INT);
    let (exit, result) = run.end();
    assert_eq!((exit, &result["checkpoint"]["reason"]), (130, &json!("interrupted")), "{result}");
    assert_eq!(thread(&binary, &id)["status"], "checkpointed");
    assert_eq!(thread(&binary, &other_id)["status"], "running");

    let resumed = binary.run(&["resume", &id, "--output", "json"]);
    assert_eq!((resumed.exit, &resumed.object()["text"]), (0, &json!("Done.")), "{resumed:?}");
    tokio::runtime::Runtime::new().unwrap().block_on(gate.reached()).open();
    assert_eq!(other.end().0, 0);
    assert_eq!(marks(&binary, "began"), 2);
    up.stop();
}

#[test]
fn what_an_up_cannot_honour_is_refused_by_name() {
    let binary = super::binary();
    let up = Up::start(&binary, &script());
    let pid = up.process.pid().to_string();
    let elsewhere = binary.home.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let elsewhere = elsewhere.display().to_string();
    let file = binary.script(&script());
    let flags = [["--script", &file], ["--gateway", "http://127.0.0.1:9"], ["--workspace", &elsewhere]];
    for [flag, value] in flags {
        for command in [&["run", "hello"][..], &["continue", "--last", "hello"], &["resume"]] {
            let ran = binary.run(&[command, &[flag, value]].concat());
            assert_eq!(
                (ran.exit, ran.out.as_str(), ran.err.lines().count()),
                (75, "", 1),
                "{command:?} {flag}: {ran:?}"
            );
            assert!(ran.err.contains(flag) && ran.err.contains(&pid), "{ran:?}");
        }
    }
    let token = binary.run(&["run", "hello", "--token-file", &file]);
    assert!(token.exit == 75 && token.err.contains("--token-file"), "{token:?}");
    let loose = binary.run(&["run", "hello", "--no-confine"]);
    assert!(loose.exit == 75 && loose.err.contains("--no-confine"), "{loose:?}");
    assert_eq!(binary.run(&["threads", "ls", "--json"]).object()["items"], json!([]));
    // What it can honour goes into the thread.
    let ran =
        binary.run(&["run", "hello", "--model", "other", "--mode", "plan", "--timeout", "90s", "--output", "json"]);
    let id = ran.object()["thread"].as_str().unwrap().to_owned();
    let settings = journal(&binary, &id)[0]["settings"].clone();
    assert_eq!(
        (&settings["model"], &settings["mode"], &settings["timeout_ms"]),
        (&json!("other"), &json!("plan"), &json!(90_000))
    );
    assert_eq!(settings["artifacts"], json!(binary.home.path().join("artifacts")));
    up.stop();
}

#[test]
fn a_prompt_that_is_longer_than_a_line_arrives_whole() {
    let binary = super::binary();
    let up = Up::start(&binary, &Script::new().says("Read."));
    // Each character takes two bytes, or six as it goes over.
    let prompt = "ü\u{1}\"".repeat(220_000);
    let file = binary.home.path().join("prompt");
    std::fs::write(&file, &prompt).unwrap();
    let ran = binary.run_reading(&["run", "--output", "stream-json"], &file);
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let heard = ran.lines();
    let said = heard.iter().find(|line| line["type"] == "prompt").unwrap();
    assert!(said["text"] == prompt.as_str(), "the prompt came back changed");
    up.stop();
}
