//! Commands that were chosen to do harm or to be forgotten, whose runtime is killed: nothing of them outlives their lease,
//! nor a resume that does not adopt them.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use lakitu_keeper::Confinement;
use rustix::process::Pid;
use serde_json::{Value, json};

use super::binary::{Binary, PATIENCE, Process, is_over};
use super::dice::Dice;
use super::{long, pool};
use crate::processes::{FILE_MIB, MEMORY_MIB, PROCESSES, VECTORS};

/// As jobs of one runtime; in the long mode each has one of its own.
const TOGETHER: usize = 8;
const ROUNDS_LONG: u64 = 4;
const LEASE_MS: u64 = 1000;
/// For how long they run at most before their runtime is killed.
const LIFE_MS_MAX: u64 = 400;

/// Beside the vectors of [`VECTORS`]: these are here to outlive their runtime.
const MORE: &[(&str, &str)] = &[
    ("B32 stopped", "kill -STOP $$"),
    ("stopped children", "setsid sh -c 'kill -STOP $$' & sleep 1e9 & kill -STOP $!; wait"),
    (
        "nothing of its own",
        "cd / && env -i setsid sh -c 'exec sleep 1e9 </dev/null >/dev/null 2>&1' & disown; echo done",
    ),
    (
        "comes back",
        "sh -c 'trap \"\" TERM HUP INT; while :; do setsid sh -c \"sleep 1e9\" & sleep 0.01; wait; done' & wait",
    ),
    ("moves on", "hop() { (setsid bash -c \"$(declare -f hop); sleep 0.05; hop\" &) ; }; hop; echo done"),
];

/// What becomes of them once their runtime is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nobody,
    NoAdopt,
}

struct Case {
    vectors: Vec<(&'static str, &'static str)>,
    then: Then,
    namespaces: bool,
    seed: u64,
}

impl Case {
    fn name(&self) -> String {
        let names: Vec<&str> = self.vectors.iter().map(|(name, _)| *name).collect();
        format!("{:?}, namespaces {}, seed {}: {}", self.then, self.namespaces, self.seed, names.join(", "))
    }

    /// The commands as jobs of one turn, behind which the model takes its time.
    fn script(&self, thinks: Duration) -> Value {
        let calls = self.vectors.iter().map(|(_, command)| {
            let command = format!("echo x >> marks/began; {}", command.replace("OUTSIDE", "/nowhere"));
            json!({ "name": "bash", "arguments": { "command": command, "run_in_background": true } })
        });
        let calls: Vec<Value> = calls.collect();
        json!({ "turns": [{ "tool_calls": calls }, { "text": "That was it.", "delay_ms": thinks.as_millis() }] })
    }

    fn binary(&self) -> Binary {
        let mut binary = Binary::new(&self.script(Duration::from_mins(10)));
        binary.set("LAKITU__KEEPER__NAMESPACES", self.namespaces);
        binary.set("LAKITU__CONFINE__MAX_PROCESSES", PROCESSES);
        binary.set("LAKITU__CONFINE__MAX_MEMORY_MB", MEMORY_MIB);
        binary.set("LAKITU__CONFINE__MAX_FILE_MB", FILE_MIB);
        if self.then == Then::Nobody {
            binary.set("LAKITU__KEEPER__LEASE_MS", LEASE_MS);
        }
        binary
    }
}

fn cases() -> Vec<Case> {
    let vectors: Vec<_> =
        VECTORS.iter().map(|(name, command, _)| (*name, *command)).chain(MORE.iter().copied()).collect();
    let (together, rounds) = if long() { (1, ROUNDS_LONG) } else { (TOGETHER, 1) };
    let mut cases = Vec::new();
    for _ in 0..rounds {
        for vectors in vectors.chunks(together) {
            for (then, namespaces) in
                [(Then::Nobody, true), (Then::NoAdopt, true), (Then::Nobody, false), (Then::NoAdopt, false)]
            {
                let seed = cases.len() as u64;
                cases.push(Case { vectors: vectors.to_vec(), then, namespaces, seed });
            }
        }
    }
    cases
}

/// How long everything took to be gone, and how much there was.
#[derive(Debug, Clone, Copy)]
struct Gone {
    then: Then,
    commands: usize,
    processes: usize,
    after: Duration,
}

#[test]
fn nothing_of_a_hostile_command_outlives_its_runtime_by_more_than_its_lease_nor_a_resume_that_does_not_adopt() {
    // `kill -9 -1` is among them.
    if lakitu_keeper::confinement() != Confinement::Yes {
        return eprintln!("left out: {}", lakitu_keeper::confinement());
    }
    let all = Mutex::new(Vec::new());
    pool::each(&cases(), Case::name, |case| {
        let gone = killed(case);
        all.lock().unwrap().push(gone);
    });
    let all = all.into_inner().unwrap();
    for then in [Then::Nobody, Then::NoAdopt] {
        let mut these: Vec<Gone> = all.iter().filter(|gone| gone.then == then).copied().collect();
        these.sort_by_key(|gone| gone.after);
        let sum = |of: fn(&Gone) -> usize| these.iter().map(of).sum::<usize>();
        let since = match then {
            Then::Nobody => format!("the kill, with a lease of {LEASE_MS} ms"),
            Then::NoAdopt => "the start of `resume --no-adopt`".to_owned(),
        };
        super::say(&format!(
            "{} hostile commands, {} processes of {} killed runtimes: 0 survivors; gone after {since}: p50 {:?}, most {:?}",
            sum(|gone| gone.commands),
            sum(|gone| gone.processes),
            these.len(),
            these[these.len() / 2].after,
            these[these.len() - 1].after,
        ));
    }
}

fn killed(case: &Case) -> Gone {
    let binary = case.binary();
    let mut process = binary.start(&["run", "go"]);
    process.wait_for("the second turn", |event| event["type"] == "turn.started" && event["turn"] == 2);
    let life = Dice::new(case.seed).below(LIFE_MS_MAX);
    assert!(process.hear_until(Instant::now() + Duration::from_millis(life)), "it ended too early");
    assert!(process.kill().was_killed());
    let killed = Instant::now();
    let left: Vec<Pid> = binary.processes().into_iter().map(|(pid, _)| pid).collect();
    binary.set_script(&case.script(Duration::ZERO));
    let after = match case.then {
        Then::Nobody => gone(&left, killed),
        Then::NoAdopt => {
            assert!(!left.is_empty(), "there is a keeper at the least");
            let started = Instant::now();
            let resumed = binary.start(&["resume", "--no-adopt"]);
            let after = gone(&left, started);
            through(resumed);
            after
        }
    };
    binary.assert_nothing_runs(if case.then == Then::Nobody { PATIENCE } else { Duration::from_secs(10) });
    if case.then == Then::Nobody {
        through(binary.start(&["resume"]));
    }
    assert_told(&binary, case.vectors.len());
    Gone { then: case.then, commands: case.vectors.len(), processes: left.len(), after }
}

/// How long after the moment the last of them was dead.
fn gone(left: &[Pid], since: Instant) -> Duration {
    for pid in left {
        assert!(is_over(*pid, PATIENCE.saturating_sub(since.elapsed())), "{pid:?} survives");
    }
    since.elapsed()
}

fn through(process: Process) {
    let ended = process.end();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

/// Each call has its result, each command ran at most once, and none of them got out.
fn assert_told(binary: &Binary, commands: usize) {
    let journal = binary.journal().unwrap();
    journal.assert_completed(commands);
    assert!(binary.marks("began") <= commands, "a command ran twice");
    assert!(!binary.work("escaped").exists());
    binary.assert_nothing_runs(Duration::from_secs(10));
}
