//! Runs of twenty effects, killed at random moments until they are through.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lakitu_kernel::ErrorCode;
use serde_json::{Value, json};

use super::binary::Binary;
use super::{long, pool};

const EFFECTS: usize = 20;
const RUNS: u64 = 25;
const RUNS_LONG: u64 = 200;
/// A run needs less: most kills hit it, some miss.
const LIFE_MS_MAX: u64 = 250;

/// Numbers that a seed determines.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What a turn does; its number stands in the effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Command,
    Write,
    Edit,
}

fn kinds(dice: &mut Dice) -> Vec<Kind> {
    let kind = |n| match (n, dice.below(3)) {
        // The file that all edits are about.
        (0, _) => Kind::Shared,
        (_, 0) => Kind::Command,
        (_, 1) => Kind::Write,
        _ => Kind::Edit,
    };
    (0..EFFECTS).map(kind).collect()
}

fn shared() -> String {
    (0..EFFECTS).map(|n| format!("<{n}>\n")).collect::<Vec<_>>().concat()
}

fn script(kinds: &[Kind], dice: &mut Dice) -> Value {
    let mut turns = Vec::new();
    for (n, kind) in kinds.iter().enumerate() {
        let call = match kind {
            Kind::Shared => json!({ "name": "file_write", "arguments": { "path": "shared.txt", "content": shared() } }),
            Kind::Command => {
                let (before, behind) = (dice.below(30), dice.below(30));
                let command = format!("sleep 0.0{before:02}; echo x >> marks/{n}; sleep 0.0{behind:02}");
                json!({ "name": "bash", "arguments": { "command": command } })
            }
            Kind::Write => {
                json!({ "name": "file_write", "arguments": { "path": format!("w{n}.txt"), "content": format!("{n}\n") } })
            }
            Kind::Edit => {
                let (old, new) = (format!("<{n}>"), format!("<{n}>x"));
                json!({ "name": "file_edit", "arguments": { "path": "shared.txt", "old_string": old, "new_string": new } })
            }
        };
        let mut calls = vec![call];
        if dice.below(3) == 0 {
            calls.push(json!({ "name": "file_read", "arguments": { "path": "shared.txt" } }));
        }
        turns.push(json!({ "tool_calls": calls, "delay_ms": dice.below(10) }));
    }
    turns.push(json!({ "text": "That was it." }));
    json!({ "turns": turns })
}

/// How often a turn's effect happened.
fn effects(binary: &Binary, n: usize, kind: Kind) -> usize {
    match kind {
        Kind::Shared => usize::from(!binary.read("shared.txt").is_empty()),
        Kind::Command => binary.marks(&n.to_string()),
        Kind::Write => usize::from(binary.read(&format!("w{n}.txt")) == format!("{n}\n")),
        Kind::Edit => {
            let text = binary.read("shared.txt");
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("<{n}>"))).unwrap_or("the line is gone");
            line.len()
        }
    }
}

#[derive(Default)]
struct Figures {
    kills: AtomicUsize,
    doubled: AtomicUsize,
    lost: AtomicUsize,
    interrupted: AtomicUsize,
}

#[test]
fn twenty_effects_happen_once_each_however_often_the_binary_is_killed() {
    let runs = if long() { RUNS_LONG } else { RUNS };
    let seeds: Vec<u64> = match std::env::var("LAKITU_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=runs).collect(),
    };
    let figures = Figures::default();
    pool::each(&seeds, |seed| format!("LAKITU_SEED={seed}"), |seed| killed_until_through(*seed, &figures));
    let Figures { kills, doubled, lost, interrupted } = figures;
    println!(
        "{} runs of {EFFECTS} effects: {} kills, {} doubled, {} lost, {} interrupted",
        seeds.len(),
        kills.into_inner(),
        doubled.into_inner(),
        lost.into_inner(),
        interrupted.into_inner()
    );
}

fn killed_until_through(seed: u64, figures: &Figures) {
    let mut dice = Dice::new(seed);
    let kinds = kinds(&mut dice);
    let mut binary = Binary::new(&script(&kinds, &mut dice));
    // Bounds the keeper of a thread that was killed before anybody knew of it. Long enough for any resume.
    binary.set("LAKITU__KEEPER__LEASE_MS", 20_000);
    let (mut args, mut through) = (["run", "go"].as_slice(), false);
    for _ in 0..2 + dice.below(6) {
        let mut process = binary.start(args);
        let life = Duration::from_millis(dice.below(LIFE_MS_MAX)) + Duration::from_micros(dice.below(1000));
        let ended = if process.hear_until(Instant::now() + life) { process.kill() } else { process.end() };
        match ended.code() {
            None => {
                figures.kills.fetch_add(1, Ordering::Relaxed);
                args = &["resume"];
            }
            // Nothing had begun.
            Some(2) => args = &["run", "go"],
            code => {
                assert_eq!(code, Some(0), "{ended:?}");
                through = true;
                break;
            }
        }
    }
    if !through {
        let ended = binary.resume();
        assert_eq!(ended.code(), Some(0), "{ended:?}");
    }
    judge(&binary, &kinds, figures);
}

/// Counts the effects, and compares them with what the journal says of each.
fn judge(binary: &Binary, kinds: &[Kind], figures: &Figures) {
    let journal = binary.journal().unwrap();
    let reads = journal.calls().filter(|call| call.tool == "file_read").count();
    journal.assert_completed(EFFECTS + reads);
    let mut wrong = Vec::new();
    for (n, kind) in kinds.iter().enumerate() {
        let result = journal.result(&format!("call_{}_1", n + 1)).unwrap();
        let happened = effects(binary, n, *kind);
        let fits = match (result.ok, result.code) {
            (true, _) => happened == 1,
            (false, Some(ErrorCode::Interrupted)) => {
                figures.interrupted.fetch_add(1, Ordering::Relaxed);
                happened <= 1
            }
            (false, _) => false,
        };
        figures.doubled.fetch_add(usize::from(happened > 1), Ordering::Relaxed);
        figures.lost.fetch_add(usize::from(happened == 0), Ordering::Relaxed);
        if !fits {
            wrong.push(format!("turn {}, {kind:?}, happened {happened} times: {result:?}", n + 1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(journal.with_code(ErrorCode::Interrupted), 0, "killing the runtime alone leaves nothing unknown");
}
