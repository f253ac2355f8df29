//! Several calls of one turn that rest on each other, killed at every passing of every crash point.

use std::time::Duration;

use lakitu_kernel::ErrorCode;
use serde_json::{Value, json};

use super::binary::Binary;
use super::journal::Journal;
use super::pool;

/// A turn with several calls, behind a turn that reads the file they are about.
struct Batch {
    name: &'static str,
    calls: fn() -> Vec<Value>,
    /// The file at the end.
    file: &'static str,
    /// Each command's mark, which is left once.
    marks: &'static [&'static str],
    /// What results tell: the number of the call, a part of its text.
    tells: &'static [(usize, &'static str)],
}

fn read() -> Value {
    json!({ "name": "file_read", "arguments": { "path": "a.txt" } })
}

fn edit(old: &str, new: &str) -> Value {
    json!({ "name": "file_edit", "arguments": { "path": "a.txt", "old_string": old, "new_string": new } })
}

/// It sees the edit before it, and leaves another file than it found.
fn rewrite() -> Value {
    let command = "grep -q xy a.txt && echo x >> marks/saw; echo x >> marks/rewrote; printf 'p\\nq\\n' > a.txt";
    json!({ "name": "bash", "arguments": { "command": command } })
}

const BATCHES: &[Batch] = &[
    Batch {
        name: "edit, edit",
        calls: || vec![edit("x", "xy"), edit("three", "three3")],
        file: "one\nxy\nthree3\n",
        marks: &[],
        tells: &[(1, "a.txt"), (2, "a.txt")],
    },
    Batch {
        name: "file_read, edit",
        calls: || vec![read(), edit("x", "xy")],
        file: "one\nxy\nthree\n",
        marks: &[],
        tells: &[(1, "three"), (2, "a.txt")],
    },
    Batch {
        name: "edit, bash, file_read, edit, file_read",
        calls: || vec![edit("x", "xy"), rewrite(), read(), edit("q", "qr"), read()],
        file: "p\nqr\n",
        marks: &["saw", "rewrote"],
        tells: &[(3, "q"), (5, "qr")],
    },
];

impl Batch {
    fn binary(&self) -> Binary {
        let turns = json!([{ "tool_calls": [read()] }, { "tool_calls": (self.calls)() }, { "text": "That was it." }]);
        let binary = Binary::new(&json!({ "turns": turns }));
        binary.write("a.txt", "one\nx\nthree\n");
        binary
    }

    fn check(&self, binary: &Binary, journal: &Journal) {
        let calls = (self.calls)().len();
        journal.assert_completed(1 + calls);
        if journal.with_code(ErrorCode::CrashedTwice) > 0 {
            // The process was killed twice within one read, and what rests on that read was refused.
            return self.check_refused(binary, journal);
        }
        for call in 1..=calls {
            let result = journal.result(&format!("call_2_{call}")).unwrap();
            assert!(result.ok, "call {call}: {result:?}");
        }
        for (call, text) in self.tells {
            let result = journal.result(&format!("call_2_{call}")).unwrap();
            assert!(result.output.contains(text), "call {call} should tell {text:?}: {result:?}");
        }
        assert_eq!(binary.read("a.txt"), self.file);
        for name in self.marks {
            assert_eq!(binary.marks(name), 1, "the mark {name}");
        }
    }

    /// Nothing is done twice, and nothing is unknown.
    fn check_refused(&self, binary: &Binary, journal: &Journal) {
        for call in journal.calls() {
            let result = journal.result(&call.call_id).unwrap();
            let told = match result.code {
                None | Some(ErrorCode::FileChanged | ErrorCode::EditMismatch) => true,
                Some(ErrorCode::CrashedTwice) => call.tool == "file_read",
                // The command looks for the edit before it, which may have been refused.
                Some(_) => false,
            };
            assert!(told, "{call:?}: {result:?}");
        }
        for name in self.marks {
            assert!(binary.marks(name) <= 1, "the mark {name}");
        }
    }
}

/// A batch and a passing at which it is killed.
struct Case {
    batch: &'static Batch,
    point: String,
    /// Where it is killed once more while it recovers.
    again: Option<&'static str>,
}

/// Every passing of a run that nobody kills is one case.
fn cases(batch: &'static Batch) -> Vec<Case> {
    let binary = batch.binary();
    let points = binary.traced();
    batch.check(&binary, &binary.journal().unwrap());
    assert!(points.len() >= 4 * (batch.calls)().len(), "{}: {points:?}", batch.name);
    points.into_iter().map(|point| Case { batch, point, again: None }).collect()
}

fn name(case: &Case) -> String {
    format!("[{}] at {}, then {:?}", case.batch.name, case.point, case.again)
}

#[test]
fn batches_that_rest_on_each_other_are_killed_at_every_passing_and_each_effect_happens_once() {
    let cases: Vec<Case> = BATCHES.iter().flat_map(cases).collect();
    pool::each(&cases, name, killed_and_resumed);
}

#[test]
fn a_batch_that_is_killed_again_while_it_recovers_still_has_each_effect_once() {
    const AGAIN: [&str; 6] =
        ["before_commit:1", "after_commit:1", "before_commit:2", "during_effect:1", "after_effect:1", "after_commit:2"];
    let mut cases: Vec<Case> = BATCHES.iter().skip(2).flat_map(cases).collect();
    for (case, again) in cases.iter_mut().zip(AGAIN.into_iter().cycle()) {
        case.again = Some(again);
    }
    pool::each(&cases, name, killed_and_resumed);
}

fn killed_and_resumed(case: &Case) {
    let mut binary = case.batch.binary();
    if case.point == "before_commit:1" {
        binary.set("LAKITU__KEEPER__LEASE_MS", 1000);
    }
    let killed = binary.run_until(&case.point);
    assert!(killed.was_killed(), "not passed: {killed:?}");
    if let Some(again) = case.again {
        // It may recover without passing there; then it came to its end.
        let ended = binary.resume_until(again);
        assert!(ended.was_killed() || matches!(ended.code(), Some(0 | 2)), "{ended:?}");
    }
    let resumed = binary.resume();
    assert_eq!(resumed.code(), Some(0), "{resumed:?}");
    case.batch.check(&binary, &binary.journal().unwrap());
    binary.assert_nothing_runs(Duration::from_secs(10));
}

#[test]
fn edits_of_one_file_behind_a_command_that_was_killed_are_all_made_and_leave_nothing_locked() {
    let waits = "echo waits; until [ -e go ]; do sleep 0.02; done";
    let bash = json!({ "name": "bash", "arguments": { "command": waits } });
    let turns = json!([
        { "tool_calls": [read()] },
        { "tool_calls": [bash, edit("one", "one1"), edit("x", "xy"), edit("three", "three3")] },
        { "tool_calls": [edit("one1", "one12"), edit("xy", "xyz")] },
        { "text": "That was it." }
    ]);
    let binary = Binary::new(&json!({ "turns": turns }));
    binary.write("a.txt", "one\nx\nthree\n");
    let mut process = binary.start(&["run", "go"]);
    process.wait_for_type("tool.output");
    assert!(process.kill().was_killed());
    binary.write("go", "");
    // Nothing of the edits was prepared by the process that decided on them: the next one does, and makes them.
    let resumed = binary.resume();
    assert_eq!(resumed.code(), Some(0), "{resumed:?}");
    let journal = binary.journal().unwrap();
    journal.assert_completed(7);
    for call in journal.calls() {
        let result = journal.result(&call.call_id).unwrap();
        assert!(result.ok, "{call:?}: {result:?}");
    }
    assert_eq!(binary.read("a.txt"), "one12\nxyz\nthree3\n");
    binary.assert_nothing_runs(Duration::from_secs(10));
}
