//! How each tool's recovery is tried: what it finds, what it is called with, and how its effect is counted.

use serde_json::{Value, json};

use super::binary::Binary;

/// A tool's recovery fixture. A tool without one fails the matrix.
pub(super) struct Fixture {
    pub(super) tool: &'static str,
    /// What stands in the workspace before.
    files: &'static [(&'static str, &'static str)],
    /// The calls of the turns before, one each.
    pub(super) before: fn() -> Vec<(&'static str, Value)>,
    /// The arguments of the call that is tried.
    pub(super) arguments: fn() -> Value,
    /// The crash points within the call, in order. Named here, so that one that gets lost is noticed.
    pub(super) passes: &'static [&'static str],
    /// How often its effect happened; none: it has none.
    pub(super) effects: Option<fn(&Binary) -> usize>,
    /// What stands in the result once it is done.
    pub(super) tells: &'static str,
}

const BEFORE: &str = "before_effect";
const DURING: &str = "during_effect";
const AFTER: &str = "after_effect";

/// The name of the job that a command in the first turn becomes: its intent is the thread's sixth event.
const FIRST_JOB: &str = "job_6";

/// A server that says so when it is told to end.
const SERVER: &str = "trap 'echo x >> marks/ended; exit' TERM\necho ready > ready\nwhile :; do sleep 0.05; done\n";

fn serve() -> Vec<(&'static str, Value)> {
    let command = "rm -f ready; bash server.sh & while [ ! -e ready ]; do sleep 0.02; done; echo serving";
    vec![("bash", json!({ "command": command }))]
}

fn nothing() -> Vec<(&'static str, Value)> {
    Vec::new()
}

/// How often `y` was put behind the `x` of the file.
fn edits(binary: &Binary) -> usize {
    let text = binary.read("a.txt");
    let ys = text.matches('y').count();
    assert_eq!(text, format!("one\nx{}\nthree\n", "y".repeat(ys)), "neither before nor behind the edit");
    ys
}

/// The same, where another line changes with it.
fn several_edits(binary: &Binary) -> usize {
    let text = binary.read("a.txt");
    if text == "0\nx\nthree\n" { 0 } else { edits(binary) }
}

fn writes(binary: &Binary) -> usize {
    let text = binary.read("new/b.txt");
    assert!(text.is_empty() || text == "written\n", "half a file: {text:?}");
    usize::from(!text.is_empty())
}

/// How often `y` was put behind the `x`, once all else that the patch is about has happened too.
fn patches(binary: &Binary) -> usize {
    let ys = edits(binary);
    let (added, removed) = (binary.read("new/b.txt") == "written\n", binary.read("old.txt").is_empty());
    if added && removed { ys } else { 0 }
}

/// One for each tool of the catalogue, or more.
pub(super) const FIXTURES: &[Fixture] = &[
    Fixture {
        tool: "apply_patch",
        files: &[("a.txt", "one\nx\nthree\n"), ("old.txt", "old\n")],
        before: || vec![("file_read", json!({ "path": "a.txt" })), ("file_read", json!({ "path": "old.txt" }))],
        arguments: || {
            let lines = [
                "*** Begin Patch",
                "*** Add File: new/b.txt",
                "+written",
                "*** Update File: a.txt",
                " one",
                "-x",
                "+xy",
                "*** Delete File: old.txt",
                "*** End Patch",
            ];
            json!({ "patch": lines.join("\n") })
        },
        // One for each file.
        passes: &[BEFORE, DURING, DURING, DURING, AFTER],
        effects: Some(patches),
        tells: "Removed old.txt",
    },
    Fixture {
        tool: "bash",
        files: &[],
        before: nothing,
        arguments: || json!({ "command": "echo x >> marks/bash; sleep 0.3; echo done" }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(|binary| binary.marks("bash")),
        tells: "done\n[exit 0",
    },
    Fixture {
        tool: "bash_kill",
        files: &[("server.sh", SERVER)],
        before: serve,
        arguments: || json!({ "job": FIRST_JOB }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(|binary| binary.marks("ended")),
        tells: "job_6",
    },
    Fixture {
        tool: "bash_list",
        files: &[("server.sh", SERVER)],
        before: serve,
        arguments: || json!({}),
        // It asks, and changes nothing: there is no half of it.
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "job_6",
    },
    Fixture {
        tool: "bash_output",
        files: &[("server.sh", SERVER)],
        before: serve,
        arguments: || json!({ "job": FIRST_JOB }),
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "serving",
    },
    Fixture {
        tool: "file_edit",
        files: &[("a.txt", "one\nx\nthree\n")],
        before: || vec![("file_read", json!({ "path": "a.txt" }))],
        arguments: || json!({ "path": "a.txt", "old_string": "x", "new_string": "xy" }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(edits),
        tells: "a.txt",
    },
    Fixture {
        tool: "file_read",
        files: &[("a.txt", "one\nx\nthree\n")],
        before: nothing,
        arguments: || json!({ "path": "a.txt" }),
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "three",
    },
    // An image, whose bytes are durable with its result.
    Fixture {
        tool: "file_read",
        files: &[("a.gif", "GIF89a\x03\0\x02\0\0\0\0;")],
        before: nothing,
        arguments: || json!({ "path": "a.gif" }),
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "GIF image, 3 x 2 pixels",
    },
    Fixture {
        tool: "file_write",
        files: &[],
        before: nothing,
        arguments: || json!({ "path": "new/b.txt", "content": "written\n" }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(writes),
        tells: "new/b.txt",
    },
    Fixture {
        tool: "glob",
        files: &[("src/a.txt", "one\nx\nthree\n")],
        before: nothing,
        arguments: || json!({ "pattern": "src/*.txt" }),
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "src/a.txt",
    },
    Fixture {
        tool: "grep",
        files: &[("src/a.txt", "one\nx\nthree\n")],
        before: nothing,
        arguments: || json!({ "pattern": "^x$", "output_mode": "content" }),
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "src/a.txt:2:x",
    },
    Fixture {
        tool: "ls",
        files: &[("src/a.txt", "one\nx\nthree\n")],
        before: nothing,
        arguments: || json!({ "path": "src" }),
        passes: &[BEFORE, AFTER],
        effects: None,
        tells: "a.txt",
    },
    Fixture {
        tool: "multi_edit",
        files: &[("a.txt", "0\nx\nthree\n")],
        before: || vec![("file_read", json!({ "path": "a.txt" }))],
        arguments: || {
            let edit = |old, new| json!({ "old_string": old, "new_string": new });
            json!({ "path": "a.txt", "edits": [edit("x", "xy"), edit("0\nxy", "one\nxy")] })
        },
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(several_edits),
        tells: "a.txt",
    },
];

impl Fixture {
    /// A binary whose script makes the calls before, the call, and an end.
    pub(super) fn binary(&self) -> Binary {
        let turn = |(tool, arguments)| json!({ "tool_calls": [{ "name": tool, "arguments": arguments }] });
        let mut turns: Vec<Value> = (self.before)().into_iter().map(turn).collect();
        turns.push(turn((self.tool, (self.arguments)())));
        turns.push(json!({ "text": "That was it." }));
        let binary = Binary::new(&json!({ "turns": turns }));
        self.files.iter().for_each(|(path, content)| binary.write(path, content));
        binary
    }

    /// The turn of the call, which gives it its id.
    pub(super) fn turn(&self) -> usize {
        (self.before)().len() + 1
    }

    pub(super) fn call_id(&self) -> String {
        format!("call_{}_1", self.turn())
    }
}
