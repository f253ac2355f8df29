//! What a seed's thread does: turns of parallel calls, each with an effect that can be counted.

use serde_json::{Value, json};

use super::super::dice::Dice;

/// Model calls of a thread, the last of which says that it is done.
pub(super) const TURNS: u64 = 200;
const CALLS_PER_TURN_MAX: u64 = 4;
/// Fewer than a thread may have.
const CHECKPOINTS_MAX: usize = 60;
/// The file that all edits are about.
const SHARED: &str = "shared.txt";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file of the edits.
    Shared,
    /// A command that leaves a mark.
    Command,
    /// A file of its own.
    Write,
    /// A line of the shared file, which is longer by one character with each time.
    Edit,
    Read,
    /// A command that nobody waits for, and that leaves a mark.
    Job,
    Checkpoint,
    /// Waits until every job has left its mark.
    Wait,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) turn: u64,
    /// Its place in the turn, from 1.
    place: u64,
    pub(super) kind: Kind,
}

impl Call {
    pub(super) fn id(&self) -> String {
        format!("call_{}_{}", self.turn, self.place)
    }

    /// Its effect's name.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.turn, self.place)
    }

    pub(super) fn file(&self) -> String {
        match self.kind {
            Kind::Write => format!("w{}.txt", self.name()),
            _ => SHARED.to_owned(),
        }
    }

    fn line(&self) -> String {
        format!("<{}>", self.name())
    }

    /// How often an edit changed its line in this text.
    pub(super) fn edits_in(&self, text: &str) -> usize {
        let line = self.line();
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(usize::MAX, str::len)
    }
}

/// The calls of a thread, turn by turn.
pub(super) struct Plan {
    pub(super) calls: Vec<Call>,
}

impl Plan {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let mut calls = vec![Call { turn: 1, place: 1, kind: Kind::Shared }];
        let mut checkpoints = 0;
        for turn in 2..=TURNS - 2 {
            for place in 1..=1 + dice.below(CALLS_PER_TURN_MAX) {
                let kind = match dice.below(100) {
                    0..30 => Kind::Command,
                    30..50 => Kind::Write,
                    50..72 => Kind::Edit,
                    72..90 => Kind::Read,
                    90..95 if checkpoints < CHECKPOINTS_MAX => Kind::Checkpoint,
                    _ => Kind::Job,
                };
                checkpoints += usize::from(kind == Kind::Checkpoint);
                calls.push(Call { turn, place, kind });
            }
        }
        calls.push(Call { turn: TURNS - 1, place: 1, kind: Kind::Wait });
        Self { calls }
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |call| call.kind == kind)
    }

    pub(super) fn script(&self, dice: &mut Dice) -> Value {
        let turns = self.calls.chunk_by(|one, other| one.turn == other.turn).map(|calls| {
            let calls: Vec<Value> = calls.iter().map(|call| self.written(call, dice)).collect();
            json!({ "tool_calls": calls, "delay_ms": dice.below(6) })
        });
        let mut turns: Vec<Value> = turns.collect();
        turns.push(json!({ "text": "That was it." }));
        json!({ "turns": turns })
    }

    fn written(&self, call: &Call, dice: &mut Dice) -> Value {
        let name = call.name();
        let marking = |before, behind| format!("sleep 0.{before:03}; echo x >> marks/{name}; sleep 0.{behind:03}");
        let (tool, arguments) = match call.kind {
            Kind::Shared => {
                let lines: String = self.of(Kind::Edit).map(|edit| edit.line() + "\n").collect();
                ("file_write", json!({ "path": SHARED, "content": format!("The edits:\n{lines}") }))
            }
            Kind::Command => ("bash", json!({ "command": marking(dice.below(20), dice.below(20)) })),
            Kind::Job => {
                ("bash", json!({ "command": marking(dice.below(200), dice.below(300)), "run_in_background": true }))
            }
            Kind::Write => ("file_write", json!({ "path": call.file(), "content": format!("{name}\n") })),
            Kind::Edit => {
                let line = call.line();
                ("file_edit", json!({ "path": SHARED, "old_string": line, "new_string": format!("{line}x") }))
            }
            Kind::Read => ("file_read", json!({ "path": SHARED, "limit": 3 })),
            Kind::Checkpoint => ("checkpoint_create", json!({ "name": name })),
            Kind::Wait => {
                let marks: Vec<String> = self.of(Kind::Job).map(|job| format!("marks/{}", job.name())).collect();
                // Not for ever: one that never comes is what is looked for.
                let rounds = "n=0; while [ $n -lt 1000 ]; do missing=; for mark in ";
                let missing =
                    "; do [ -e $mark ] || missing=yes; done; [ $missing ] || exit 0; sleep 0.03; n=$((n+1)); done";
                ("bash", json!({ "command": format!("{rounds}{}{missing}", marks.join(" ")) }))
            }
        };
        json!({ "name": tool, "arguments": arguments })
    }
}
