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
    /// Whether its redo record has a commit of its own, behind that of its intent.
    pub(super) prepared_alone: bool,
    /// What it commits by itself, before its result.
    pub(super) commits: usize,
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
    prepared_alone: false,
    commits: 0,
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

/// Beads that are there before: the second waits for the first.
const BEADS: &str = "beads.jsonl";
const TWO_BEADS: &str = r#"{"id":"p-1","title":"one","updated_at":"2025-10-14T21:00:00Z"}
{"id":"p-2","title":"two","updated_at":"2025-10-14T21:00:00Z","dependencies":[{"depends_on_id":"p-1","type":"blocks"}]}
"#;

/// A call that changes beads, in a transaction of its own.
const BEAD_CHANGE: Fixture = Fixture {
    files: &[(BEADS, TWO_BEADS)],
    passes: &[BEFORE, "before_commit", "after_commit", AFTER],
    commits: 1,
    ..PLAIN
};

/// Beads of which this holds.
fn beads(binary: &Binary, is: impl Fn(&lakitu_actors::store::BeadRow) -> bool) -> usize {
    binary.beads().iter().filter(|bead| is(bead)).count()
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

/// The checkpoint that is made in the second turn, behind a patch: its intent is the thread's 13th event.
const SECOND_CHECKPOINT: &str = "chk_13";

fn patched(lines: &[&str]) -> (&'static str, Value) {
    let patch = [&["*** Begin Patch"], lines, &["*** End Patch"]].concat();
    ("apply_patch", json!({ "patch": patch.join("\n") }))
}

/// Two files, a checkpoint, and then another change of each kind.
fn changed_behind_a_checkpoint() -> Vec<(&'static str, Value)> {
    vec![
        patched(&["*** Add File: a.txt", "+one", "*** Add File: old.txt", "+old"]),
        ("checkpoint_create", json!({ "name": "here" })),
        patched(&[
            "*** Add File: new/b.txt",
            "+new",
            "*** Update File: a.txt",
            "-one",
            "+two",
            "*** Delete File: old.txt",
        ]),
    ]
}

/// Whether all files are as they were at the checkpoint.
fn restores(binary: &Binary) -> usize {
    let now = ["a.txt", "old.txt", "new/b.txt"].map(|path| binary.read(path));
    usize::from(now == ["one\n", "old\n", ""])
}

fn saves_one() -> (&'static str, Value) {
    ("artifact_save", json!({ "name": "report.md", "content": "done" }))
}

/// Files of artifacts; what a killed call left beside one is one too many.
fn saved(binary: &Binary) -> usize {
    let threads = std::fs::read_dir(binary.data().join("artifacts")).into_iter().flatten().flatten();
    let files = threads.flat_map(|thread| std::fs::read_dir(thread.path()).into_iter().flatten().flatten());
    files.filter(|file| std::fs::read(file.path()).is_ok_and(|content| content == b"done")).count()
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
    Fixture { tool: "artifact_list", before: || vec![saves_one()], tells: "report.md, version 1", ..PLAIN },
    Fixture {
        tool: "artifact_read",
        before: || vec![saves_one()],
        arguments: || json!({ "name": "report.md" }),
        tells: "done",
        ..PLAIN
    },
    // Its row stands in the step of its result: each look at the journal counts them.
    Fixture {
        tool: "artifact_save",
        arguments: || saves_one().1,
        passes: &[BEFORE, DURING, AFTER],
        effects: Some(saved),
        tells: "Saved report.md, version 1 (text/markdown, 4 bytes)",
        ..PLAIN
    },
    Fixture {
        tool: "beads_close",
        arguments: || json!({ "id": "p-1", "reason": "done" }),
        effects: Some(|binary| beads(binary, |bead| bead.close_reason.as_deref() == Some("done"))),
        tells: "no longer blocked: p-2",
        ..BEAD_CHANGE
    },
    Fixture {
        tool: "beads_create",
        arguments: || json!({ "title": "made", "blocked_by": ["p-2"] }),
        effects: Some(|binary| beads(binary, |bead| bead.title == "made")),
        tells: "waits for p-2",
        ..BEAD_CHANGE
    },
    Fixture {
        tool: "beads_dep",
        arguments: || json!({ "id": "p-2", "remove": ["p-1"] }),
        effects: Some(|binary| beads(binary, |bead| bead.id.as_str() == "p-2" && bead.blocked_by.is_empty())),
        tells: "p-2 is now open",
        ..BEAD_CHANGE
    },
    Fixture {
        tool: "beads_get",
        files: &[(BEADS, TWO_BEADS)],
        arguments: || json!({ "id": "p-1" }),
        tells: "blocks: p-2",
        ..PLAIN
    },
    Fixture { tool: "beads_list", files: &[(BEADS, TWO_BEADS)], tells: "p-2 blocked", ..PLAIN },
    Fixture { tool: "beads_ready", files: &[(BEADS, TWO_BEADS)], tells: "p-1 open", ..PLAIN },
    // A claim: whoever comes back is the one who holds it.
    Fixture {
        tool: "beads_update",
        arguments: || json!({ "id": "p-1", "status": "in_progress" }),
        effects: Some(|binary| beads(binary, |bead| bead.assignee.is_some())),
        tells: "p-1 is now in_progress",
        ..BEAD_CHANGE
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
        tool: "checkpoint_restore",
        before: changed_behind_a_checkpoint,
        arguments: || json!({ "id": SECOND_CHECKPOINT }),
        // One for each file, and for the directory that was made for one.
        passes: &[BEFORE, DURING, DURING, DURING, DURING, AFTER],
        prepared_alone: true,
        effects: Some(restores),
        tells: "Restored a.txt\nRemoved new\nRemoved new/b.txt\nCreated old.txt",
        ..PLAIN
    },
    Fixture {
        tool: "checkpoint_restore",
        way: "with nothing to put back",
        before: || vec![("checkpoint_create", json!({}))],
        arguments: || json!({ "id": "chk_6" }),
        prepared_alone: true,
        tells: "nothing had to be put back",
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
        if self.files.iter().any(|(path, _)| *path == BEADS) {
            binary.import_beads(BEADS);
        }
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
