//! How each tool's recovery is tried: what it finds, what it is called with, and how its effect is counted.

use lakitu_kernel::ErrorCode;
use serde_json::{Value, json};

use super::binary::Binary;

/// A tool's recovery fixture, or that of one way to call it. A tool without one fails the matrix.
pub(super) struct Fixture {
    pub(super) tool: &'static str,
    /// How it is called, where a tool has several.
    pub(super) way: &'static str,
    /// What stands in the workspace before.
    files: &'static [(&'static str, &'static str)],
    /// The calls of the turns before, one each.
    pub(super) before: fn() -> Vec<(&'static str, Value)>,
    /// The arguments of the call that is tried.
    pub(super) arguments: fn() -> Value,
    /// The calls of the turns behind it, one each: they wait until its effect has come, where that comes in its own time.
    pub(super) behind: fn() -> Vec<(&'static str, Value)>,
    /// The crash points within the call, in order. Named here, so that one that gets lost is noticed.
    pub(super) passes: &'static [&'static str],
    /// How often its effect happened; none: it has none.
    pub(super) effects: Option<fn(&Binary) -> usize>,
    /// Whether the effect comes when the call is over.
    pub(super) later: bool,
    /// How the result is told; none: as a success.
    pub(super) code: Option<ErrorCode>,
    /// What stands in the result once it is done.
    pub(super) tells: &'static str,
}

/// A call whose effect is there when it returns, and none.
const PLAIN: Fixture = Fixture {
    tool: "",
    way: "",
    files: &[],
    before: nothing,
    arguments: || json!({}),
    behind: nothing,
    passes: &[BEFORE, AFTER],
    effects: None,
    later: false,
    code: None,
    tells: "",
};

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

/// A command that leaves its mark, and is over when it is let go.
fn job(first: &str) -> String {
    format!("echo x >> marks/bash; {first}until [ -e go ]; do sleep 0.02; done; echo x >> marks/over")
}

fn until_it_is_over() -> Vec<(&'static str, Value)> {
    vec![("bash", json!({ "command": "touch go; until [ -e marks/over ]; do sleep 0.02; done" }))]
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
        ..PLAIN
    },
    Fixture {
        tool: "bash",
        arguments: || json!({ "command": "echo x >> marks/bash; sleep 0.3; echo done" }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(|binary| binary.marks("bash")),
        tells: "done\n[exit 0",
        ..PLAIN
    },
    Fixture {
        tool: "bash",
        way: "in the background",
        arguments: || json!({ "command": job(""), "run_in_background": true }),
        behind: until_it_is_over,
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(|binary| binary.marks("bash")),
        later: true,
        tells: "was started in the background",
        ..PLAIN
    },
    Fixture {
        tool: "bash",
        way: "longer than its call",
        arguments: || json!({ "command": job("echo half; "), "timeout": 1500 }),
        behind: until_it_is_over,
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(|binary| binary.marks("bash")),
        code: Some(ErrorCode::CommandTimeout),
        tells: "\nhalf\n[job_",
        ..PLAIN
    },
    Fixture {
        tool: "bash_input",
        before: || {
            let command = "while read -r line; do echo $line >> marks/heard; done";
            vec![("bash", json!({ "command": command, "run_in_background": true }))]
        },
        arguments: || json!({ "job": FIRST_JOB, "text": "x\n" }),
        // Once it has heard the last, it has heard everything before.
        behind: || {
            let heard = "until grep -q last marks/heard; do sleep 0.02; done";
            vec![("bash_input", json!({ "job": FIRST_JOB, "text": "last\n" })), ("bash", json!({ "command": heard }))]
        },
        effects: Some(|binary| binary.read("marks/heard").lines().filter(|line| *line == "x").count()),
        later: true,
        tells: "2 bytes given to job_6",
        ..PLAIN
    },
    Fixture {
        tool: "bash_kill",
        files: &[("server.sh", SERVER)],
        before: serve,
        arguments: || json!({ "job": FIRST_JOB }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(|binary| binary.marks("ended")),
        tells: "job_6",
        ..PLAIN
    },
    Fixture {
        tool: "bash_list",
        files: &[("server.sh", SERVER)],
        before: serve,
        // It asks, and changes nothing: there is no half of it.
        tells: "job_6",
        ..PLAIN
    },
    Fixture {
        tool: "bash_output",
        files: &[("server.sh", SERVER)],
        before: serve,
        arguments: || json!({ "job": FIRST_JOB }),
        tells: "serving",
        ..PLAIN
    },
    Fixture {
        tool: "checkpoint_create",
        arguments: || json!({ "name": "here", "next_task": "go on" }),
        // Its row stands in the step of its result: each look at the journal counts them.
        tells: "chk_",
        ..PLAIN
    },
    Fixture {
        tool: "checkpoint_list",
        before: || vec![("checkpoint_create", json!({ "name": "here" }))],
        tells: "\"here\" active",
        ..PLAIN
    },
    Fixture {
        tool: "decision_log",
        arguments: || json!({ "type": "task_breakdown", "reasoning": "small steps", "confidence": 0.8 }),
        // Its row stands in the step of its result: each look at the journal counts them.
        tells: "is recorded",
        ..PLAIN
    },
    Fixture {
        tool: "file_edit",
        files: &[("a.txt", "one\nx\nthree\n")],
        before: || vec![("file_read", json!({ "path": "a.txt" }))],
        arguments: || json!({ "path": "a.txt", "old_string": "x", "new_string": "xy" }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(edits),
        tells: "a.txt",
        ..PLAIN
    },
    Fixture {
        tool: "file_read",
        files: &[("a.txt", "one\nx\nthree\n")],
        arguments: || json!({ "path": "a.txt" }),
        tells: "three",
        ..PLAIN
    },
    // An image, whose bytes are durable with its result.
    Fixture {
        tool: "file_read",
        way: "of an image",
        files: &[("a.gif", "GIF89a\x03\0\x02\0\0\0\0;")],
        arguments: || json!({ "path": "a.gif" }),
        passes: &[BEFORE, AFTER],
        tells: "GIF image, 3 x 2 pixels",
        ..PLAIN
    },
    Fixture {
        tool: "file_write",
        arguments: || json!({ "path": "new/b.txt", "content": "written\n" }),
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(writes),
        tells: "new/b.txt",
        ..PLAIN
    },
    Fixture {
        tool: "glob",
        files: &[("src/a.txt", "one\nx\nthree\n")],
        arguments: || json!({ "pattern": "src/*.txt" }),
        tells: "src/a.txt",
        ..PLAIN
    },
    Fixture {
        tool: "grep",
        files: &[("src/a.txt", "one\nx\nthree\n")],
        arguments: || json!({ "pattern": "^x$", "output_mode": "content" }),
        tells: "src/a.txt:2:x",
        ..PLAIN
    },
    Fixture {
        tool: "ls",
        files: &[("src/a.txt", "one\nx\nthree\n")],
        arguments: || json!({ "path": "src" }),
        tells: "a.txt",
        ..PLAIN
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
        ..PLAIN
    },
];

impl Fixture {
    /// A binary whose script makes the calls before, the call, and an end.
    pub(super) fn binary(&self) -> Binary {
        let turn = |(tool, arguments)| json!({ "tool_calls": [{ "name": tool, "arguments": arguments }] });
        let mut turns: Vec<Value> = (self.before)().into_iter().map(turn).collect();
        turns.push(turn((self.tool, (self.arguments)())));
        turns.extend((self.behind)().into_iter().map(turn));
        turns.push(json!({ "text": "That was it." }));
        let binary = Binary::new(&json!({ "turns": turns }));
        self.files.iter().for_each(|(path, content)| binary.write(path, content));
        binary
    }

    /// The turn of the call, which gives it its id.
    pub(super) fn turn(&self) -> usize {
        (self.before)().len() + 1
    }

    /// How many calls there are in all.
    pub(super) fn calls(&self) -> usize {
        self.turn() + (self.behind)().len()
    }

    pub(super) fn call_id(&self) -> String {
        format!("call_{}_1", self.turn())
    }
}
