//! Calls that wait for consent: on a terminal, in an `up`, and over the death of the process that asked.

use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};

use super::{Heard, Up, journal, marks, thread, until, until_status};
use crate::harness::{Binary, Script, Terminal};

/// A command that leaves a mark, and the last word.
fn script() -> Script {
    Script::new().runs("echo x >> marks").says("Done.")
}

/// Says through the socket whether a call may be made.
fn approve(binary: &Binary, thread: &str, call_id: &str, allow: bool) -> Value {
    let mut socket = lakitu_actors::debug::connect(&binary.data()).unwrap();
    let params = json!({ "id": thread, "call_id": call_id, "allow": allow });
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "threads.approve", "params": params });
    writeln!(socket, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn of_type(binary: &Binary, thread: &str, name: &str) -> Vec<Value> {
    journal(binary, thread).into_iter().filter(|event| event["type"] == name).collect()
}

/// The call that the thread's last question is about.
fn asked(binary: &Binary, thread: &str) -> String {
    of_type(binary, thread, "approval.asked").last().unwrap()["call_id"].as_str().unwrap().to_owned()
}

#[test]
fn whoever_sits_at_the_terminal_is_asked_and_answers() {
    let rows = [("y", 1), ("yes", 1), ("n", 0), ("", 0), ("what?\ny", 1), ("\u{4}", 0)];
    for (typed, made) in rows {
        let binary = Binary::new();
        let script = binary.script(&Script::new().runs("echo \u{1b}[2Jx >> marks; true").says("Done."));
        let mut terminal = Terminal::new();
        // Typed before anybody asked: no answer.
        terminal.types("y");
        let run = binary.begin_at(&terminal, &["run", "go", "--ask", "--script", &script]);
        let shown = terminal.shows("[y/N] ");
        assert!(shown.contains("? bash: may it be done? (no `allow` rule covers it)"), "{shown}");
        assert!(
            shown.contains("command: echo \\u{1b}[2Jx >> marks; true"),
            "the whole command, and what a terminal would obey is written out: {shown}"
        );
        assert_eq!(marks(&binary, "marks"), 0);
        for line in typed.split('\n') {
            terminal.types(line);
        }
        let ran = run.end();
        assert_eq!((ran.exit, ran.out.as_str()), (0, "Done.\n"), "{typed:?}: {ran:?}");
        assert_eq!(marks(&binary, "marks"), made, "{typed:?}");
        terminal.shows("completed");
    }
}

#[test]
fn a_rule_is_asked_about_on_a_terminal_without_a_flag_and_refused_elsewhere() {
    let binary = Binary::new().env("LAKITU__POLICY__ASK", "[\"bash(echo *)\"]");
    let script = binary.script(&script());
    let ran = binary.run(&["run", "go", "--script", &script]);
    assert_eq!((ran.exit, marks(&binary, "marks")), (0, 0), "{ran:?}");
    assert!(ran.err.contains("nobody can be asked in this run"), "{ran:?}");
    let ask = binary.run(&["run", "go", "--ask", "--script", &script]);
    assert_eq!((ask.exit, ask.out.as_str(), ask.err.lines().count()), (2, "", 1), "{ask:?}");
    assert!(ask.err.contains("--ask needs somebody to ask"), "{ask:?}");

    let mut terminal = Terminal::new();
    let run = binary.begin_at(&terminal, &["run", "go", "--script", &script]);
    terminal.shows("(the rule `bash(echo *)`)");
    terminal.shows("[y/N] ");
    terminal.types("y");
    assert_eq!(run.end().exit, 0);
    assert_eq!(marks(&binary, "marks"), 1);
    let wrong = Binary::new().env("LAKITU__POLICY__DENY", "[\"bsh\"]");
    let ran = wrong.run(&["run", "go", "--script", &script]);
    assert!(ran.exit == 2 && ran.err.contains("policy.deny: the rule `bsh` names no tool"), "{ran:?}");
}

#[test]
fn a_run_killed_while_it_asks_asks_again_when_it_is_resumed() {
    let binary = Binary::new();
    let script = binary.script(&script());
    let mut terminal = Terminal::new();
    let run = binary.begin_at(&terminal, &["run", "go", "--ask", "--script", &script]);
    terminal.shows("[y/N] ");
    run.signal(rustix::process::Signal::KILL);
    run.end();
    let shown = binary.run(&["threads", "ls", "--json"]).object();
    assert_eq!(shown["items"][0]["status"], "waiting", "{shown}");
    let id = shown["items"][0]["id"].as_str().unwrap().to_owned();

    let resumed = binary.begin_at(&terminal, &["resume", "--script", &script]);
    terminal.shows("command: echo x >> marks");
    terminal.shows("[y/N] ");
    terminal.types("y");
    let ran = resumed.end();
    assert_eq!((ran.exit, ran.out.as_str()), (0, "Done.\n"), "{ran:?}");
    assert_eq!(marks(&binary, "marks"), 1);
    assert_eq!(
        (of_type(&binary, &id, "approval.asked").len(), of_type(&binary, &id, "approval.answered").len()),
        (2, 1)
    );
}

#[test]
fn an_up_that_is_killed_while_it_asks_asks_again_and_an_answer_holds() {
    let binary = super::binary().env("LAKITU__POLICY__ASK", "[\"bash\"]");
    let up = Up::start(&binary, &script());
    let mut terminal = Terminal::new();
    // Handed over, and the terminal goes away.
    let run = binary.begin_at(&terminal, &["run", "go"]);
    terminal.shows("[y/N] ");
    run.signal(rustix::process::Signal::KILL);
    run.end();
    let shown = binary.run(&["threads", "ls", "--json"]).object();
    let id = shown["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(thread(&binary, &id)["status"], "waiting");
    up.kill();

    let up = Up::start(&binary, &script());
    until("it is asked again", || of_type(&binary, &id, "approval.asked").len() == 2);
    let call = asked(&binary, &id);
    let wrong = approve(&binary, &id, "call_9_9", true);
    assert_eq!(wrong["error"]["data"]["code"], "THREAD_BUSY", "{wrong}");
    let answered = approve(&binary, &id, &call, true);
    assert_eq!(answered["result"]["thread"], json!(id), "{answered}");
    until_status(&binary, &id, "completed");
    assert_eq!((marks(&binary, "marks"), of_type(&binary, &id, "approval.answered").len()), (1, 1));
    up.stop();
}

#[test]
fn a_question_of_a_handed_over_run_is_answered_at_its_terminal() {
    let binary = super::binary().env("LAKITU__POLICY__ASK", "[\"bash\"]");
    let up = Up::start(&binary, &script());
    let mut terminal = Terminal::new();
    let run = binary.begin_at(&terminal, &["run", "go"]);
    terminal.shows("[y/N] ");
    terminal.types("y");
    assert_eq!(run.end().exit, 0);
    assert_eq!(marks(&binary, "marks"), 1);
    up.stop();
    // Without a terminal nobody is asked, in an `up` too.
    let up = Up::start(&binary, &script());
    let handed = Heard::begin(&binary, &["run", "go"]);
    let (exit, result) = handed.end();
    assert_eq!((exit, &result["text"]), (0, &json!("Done.")), "{result}");
    assert_eq!(marks(&binary, "marks"), 1);
    up.stop();
}

/// The process dies around the commit that holds the answer: durable, it is not asked for again; else it was never given.
#[cfg(feature = "crash-points")]
#[test]
fn an_answer_is_durable_before_anything_comes_of_it() {
    // The third commit: the thread, the question, the answer.
    for (point, questions, answers) in [("before_commit:3", 2, 1), ("after_commit:3", 1, 1)] {
        let mut binary = super::binary().env("LAKITU__POLICY__ASK", "[\"bash\"]");
        binary.env.push(("LAKITU_CRASH_AT".to_owned(), point.to_owned()));
        let up = Up::start(&binary, &script());
        binary.env.pop();
        let mut terminal = Terminal::new();
        let run = binary.begin_at(&terminal, &["run", "go"]);
        terminal.shows("[y/N] ");
        assert_eq!(marks(&binary, "marks"), 0);
        terminal.types("y");
        up.process.end();
        assert_eq!(marks(&binary, "marks"), 0, "{point}: it happened before the answer was durable");
        // The run is still heard: by the one that comes back.
        let up = Up::start(&binary, &script());
        if questions == 2 {
            terminal.shows("[y/N] ");
            terminal.types("y");
        }
        let ran = run.end();
        assert_eq!((ran.exit, ran.out.as_str(), marks(&binary, "marks")), (0, "Done.\n", 1), "{point}: {ran:?}");
        let shown = binary.run(&["threads", "ls", "--json"]).object();
        let id = shown["items"][0]["id"].as_str().unwrap();
        let count = |name: &str| of_type(&binary, id, name).len();
        assert_eq!((count("approval.asked"), count("approval.answered")), (questions, answers), "{point}");
        up.stop();
    }
}
