//! Process hygiene, by the real binary: a call returns when its command exits, and nothing outlives the run. How long
//! after the exit is a figure of `cargo bench --bench process`.

use serde_json::Value;

use crate::harness::{Binary, Script, alive};

/// Ways to leave something behind: none of them ends by itself.
const LEFT_BEHIND: [(&str, &str); 5] = [
    ("setsid", "setsid sleep SECONDS >/dev/null 2>&1 &"),
    ("nohup", "nohup sleep SECONDS >/dev/null 2>&1 &"),
    ("double fork", "( ( sleep SECONDS >/dev/null 2>&1 & ) & )"),
    ("deaf to TERM", "( trap '' TERM HUP INT; sleep SECONDS; sleep SECONDS ) >/dev/null 2>&1 &"),
    ("an open pipe", "sleep SECONDS &"),
];
/// Of each way so many commands, one beside what the other left.
const TRIES: usize = 3;

#[test]
fn a_call_returns_when_its_command_exits_and_nothing_is_alive_after_the_run() {
    let lakitu = Binary::new();
    // Nobody else on this machine sleeps for so long.
    let seconds = format!("77{}.{}", std::process::id(), 425_113);
    let commands: Vec<String> = (0..LEFT_BEHIND.len() * TRIES)
        .map(|n| format!("{}\necho {n} left", LEFT_BEHIND[n / TRIES].1.replace("SECONDS", &seconds)))
        .collect();
    let script = commands.iter().fold(Script::new(), |script, command| script.runs(command)).says("Left.");

    let ran = lakitu.plays(&script, "leave things behind", &["--output", "stream-json"]);

    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert_eq!(alive(&seconds), Vec::<String>::new(), "something outlives the run");
    let results: Vec<Value> = ran.lines().into_iter().filter(|line| line["type"] == "tool.result").collect();
    assert_eq!(results.len(), commands.len());
    // One that waited for what it left, or for the pipe, would have met its deadline.
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["ok"], true, "{}: {result}", LEFT_BEHIND[n / TRIES].0);
    }
}
