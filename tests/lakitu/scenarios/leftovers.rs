//! Process hygiene, by the real binary: a call returns when its command exits, and nothing outlives the run.

use lakitu_kernel::clock::Timestamp;
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
/// Of each way so many commands: a loaded machine may be late once.
const TRIES: usize = 3;
const LATE_MS: u64 = 100;

#[test]
fn a_call_returns_when_its_command_exits_and_nothing_is_alive_after_the_run() {
    let lakitu = Binary::new();
    // Nobody else on this machine sleeps for so long.
    let seconds = format!("77{}.{}", std::process::id(), 425_113);
    let commands: Vec<(usize, String)> = (0..LEFT_BEHIND.len() * TRIES)
        .map(|n| {
            let leave = LEFT_BEHIND[n / TRIES].1.replace("SECONDS", &seconds);
            (n, format!("{leave}\necho {n} left; date +%s%3N > end.{n}"))
        })
        .collect();
    let script = commands.iter().fold(Script::new(), |script, (_, command)| script.runs(command)).says("Left.");

    let ran = lakitu.plays(&script, "leave things behind", &["--output", "stream-json"]);

    assert_eq!(ran.exit, 0, "{}", ran.err);
    assert_eq!(alive(&seconds), Vec::<String>::new(), "something outlives the run");
    let results: Vec<Value> = ran.lines().into_iter().filter(|line| line["type"] == "tool.result").collect();
    assert_eq!(results.len(), commands.len());
    let late = |n: usize| {
        let ended: u64 = lakitu.home.read(&format!("end.{n}")).trim().parse().unwrap();
        assert_eq!(results[n]["ok"], true, "{}", results[n]);
        millis(results[n]["at"].as_str().unwrap()).saturating_sub(ended)
    };
    for (way, (name, _)) in LEFT_BEHIND.iter().enumerate() {
        let late: Vec<u64> = (way * TRIES..(way + 1) * TRIES).map(late).collect();
        assert!(late.iter().any(|ms| *ms <= LATE_MS), "{name}: {late:?} ms after the command's end");
        assert!(late.iter().all(|ms| *ms <= 20 * LATE_MS), "{name}: {late:?} ms after the command's end");
    }
}

fn millis(rfc3339: &str) -> u64 {
    let at = humantime::parse_rfc3339(rfc3339).unwrap();
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap()).0
}
