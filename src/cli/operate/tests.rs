//! What is printed, what is exited with, and what the client makes of what a runtime may say.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use expect_test::expect;
use lakitu_kernel::clock::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Client, ClientError};
use super::table::{bytes, cut, duration};
use super::tree::{Node, draw};
use super::{OperateCommand, Operator, done, events, operate};

/// A runtime that answers each request with the lines that are told for it, and then goes.
struct Fake {
    home: TempDir,
    thread: JoinHandle<Vec<Value>>,
}

impl Fake {
    fn answering(answers: Vec<Vec<String>>) -> Self {
        let home = TempDir::new().unwrap();
        let listener = UnixListener::bind(home.path().join("debug.sock")).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut heard = Vec::new();
            for answer in answers {
                let Some(Ok(request)) = requests.next() else { break };
                heard.push(serde_json::from_str(&request).unwrap());
                for line in answer {
                    writeln!(stream, "{line}").unwrap();
                }
            }
            heard
        });
        Self { home, thread }
    }

    fn data(&self) -> &Path {
        self.home.path()
    }

    fn heard(self) -> Vec<Value> {
        self.thread.join().unwrap()
    }
}

fn result(id: u64, result: &Value) -> Vec<String> {
    vec![json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()]
}

fn refusal(id: u64, code: &str) -> Vec<String> {
    let error = json!({ "code": -32000, "message": "no\u{1b}[2J", "data": { "code": code } });
    vec![json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()]
}

#[derive(Parser)]
struct Typed {
    #[command(subcommand)]
    command: OperateCommand,
}

/// What a command prints, what it complains about, and its exit code.
fn typed(data: &Path, json: bool, words: &[&str]) -> (String, String, u8) {
    let command = Typed::try_parse_from(std::iter::once(&"lakitu").chain(words)).unwrap().command;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = Timestamp(10_000_000);
    let mut operator =
        Operator { data, out: &mut out, err: &mut err, width: None, terminal: false, colour: false, json, now };
    let here = (
        &crate::cli::args::Global::default(),
        crate::cli::Prepared { zygote: None, secrets: crate::cli::Secrets::default() },
    );
    let (complaint, exit) = match done(operate(&mut operator, &command, here)) {
        Ok(exit) => (String::from_utf8(err).unwrap(), exit),
        Err(failure) => (failure.message, failure.exit),
    };
    (String::from_utf8(out).unwrap(), complaint, exit)
}

fn node(path: &str, children: &[Value]) -> Value {
    json!({
        "path": path, "kind": "tool", "state": "running", "restarts": 0, "uptime_ms": 61_000, "mailbox": 1,
        "mailbox_capacity": 256, "handled": 3, "handling": null, "last_error": null, "pid": null, "children": children,
        "a field of tomorrow": 1,
    })
}

fn small_tree() -> Value {
    let mut bash = node("/tools/bash", &[]);
    bash["handling"] = json!({ "type": "Enter", "ms": 2500 });
    bash["pid"] = json!(77);
    let mut file = node("/tools/file", &[]);
    file["state"] = json!("quarantined");
    file["last_error"] = json!("bad \u{1b}[31mdisk\nand more");
    node("/", &[node("/store", &[]), node("/tools", &[file, bash]), node("/threads", &[])])
}

#[test]
fn the_tree_is_drawn_with_aligned_columns() {
    let tree: Node = serde_json::from_value(small_tree()).unwrap();
    expect![[r"
        ACTOR       STATE        RESTARTS  MAILBOX  UPTIME  DOING
        /           running             0    1/256   1m01s
        ├─ store    running             0    1/256   1m01s
        ├─ tools    running             0    1/256   1m01s
        │  ├─ file  quarantined         0    1/256       -  bad disk↵and more
        │  └─ bash  running             0    1/256   1m01s  Enter 2s, pid 77
        └─ threads  running             0    1/256   1m01s
    "]]
    .assert_eq(&(draw(&tree, false).join("\n") + "\n"));
    let coloured = draw(&tree, true).join("\n");
    assert!(coloured.contains("\x1b[31mquarantined\x1b[0m") && !coloured.contains("\x1b[31mdisk"));
}

#[test]
fn a_deep_tree_needs_no_deep_stack() {
    let mut node: Node = serde_json::from_value(node("/x", &[])).unwrap();
    for _ in 0..2000 {
        let child = std::mem::replace(&mut node, serde_json::from_value(super::tests::node("/x", &[])).unwrap());
        node.children.push(child);
    }
    assert_eq!(draw(&node, false).len(), 2002);
    // Taken apart without recursion too.
    while let Some(child) = node.children.pop() {
        node = child;
    }
}

#[test]
fn events_are_lines_that_a_terminal_only_shows() {
    let event = |body: Value| {
        let mut event = json!({ "seq": 17, "thread": "thr_x", "at": "2026-01-01T10:20:30.000Z" });
        event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        events::line(&event)
    };
    let lines = [
        json!({ "type": "prompt", "text": "do\nthis \u{1b}]0;title\u{7}now" }),
        json!({ "type": "message", "text": "Well.", "calls": [{ "tool": "bash" }, { "tool": "ls" }] }),
        json!({ "type": "message", "text": "Done.", "calls": [] }),
        json!({ "type": "tool.intent", "tool": "bash", "arguments": { "command": "ls" } }),
        json!({ "type": "tool.result", "ok": false, "output": "CODE: no", "duration_ms": 61_000 }),
        json!({ "type": "thread.failed", "error": { "code": "STUCK", "message": "again" } }),
        json!({ "type": "thread.completed" }),
        json!({ "type": "of.tomorrow", "what": "x".repeat(200) }),
    ];
    expect![[r#"
        SEQ
           17  10:20:30  prompt               do↵this now
           17  10:20:30  message              calls bash, ls; Well.
           17  10:20:30  message              Done.
           17  10:20:30  tool.intent          bash {"command":"ls"}
           17  10:20:30  tool.result          failed in 1m01s: CODE: no
           17  10:20:30  thread.failed        STUCK: again
           17  10:20:30  thread.completed
           17  10:20:30  of.tomorrow          {"what":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
    "#]]
    .assert_eq(&format!("SEQ\n{}", lines.map(|body| event(body) + "\n").concat()));
}

#[test]
fn times_sizes_and_texts_are_short() {
    let times = [0, 999, 1000, 59_999, 60_000, 3_599_000, 3_600_000, 86_400_000, 90_000_000];
    assert_eq!(times.map(duration), ["0ms", "999ms", "1s", "59s", "1m00s", "59m59s", "1h00m", "1d00h", "1d01h"]);
    assert_eq!([0, 1023, 1024, 1536, 1 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 GiB"]);
    assert!(!bytes(u64::MAX).is_empty());
    assert_eq!((cut("äöü", 3).as_str(), cut("äöüß", 3).as_str()), ("äöü", "äö…"));
}

#[test]
fn a_runtime_is_asked_and_its_answer_printed() {
    let fake = Fake::answering(vec![result(1, &small_tree())]);
    let (out, err, exit) = typed(fake.data(), false, &["tree"]);
    assert_eq!((out.lines().count(), err.as_str(), exit), (7, "", 0));
    assert_eq!(fake.heard(), [json!({ "jsonrpc": "2.0", "id": 1, "method": "tree", "params": {} })]);

    let fake = Fake::answering(vec![result(1, &small_tree())]);
    let (out, _, _) = typed(fake.data(), true, &["tree"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), small_tree());
    assert!(!out.contains('\u{1b}'));
}

#[test]
fn lists_are_read_page_by_page() {
    let row = |number: u64| json!({ "id": format!("thr_{number}"), "status": "completed", "created_at": 9_000_000, "turns": 3, "title": "go" });
    let fake = Fake::answering(vec![
        result(1, &json!({ "items": [row(1), row(2)], "cursor": "c", "commit": 1 })),
        result(2, &json!({ "items": [row(3)], "cursor": null, "commit": 1 })),
    ]);
    let (out, _, exit) = typed(fake.data(), false, &["threads", "ls", "--limit", "150", "--status", "completed"]);
    expect![[r"
        ID     STATUS        AGE  TURNS  TITLE
        thr_1  completed  16m40s      3  go
        thr_2  completed  16m40s      3  go
        thr_3  completed  16m40s      3  go
    "]]
    .assert_eq(&out);
    assert_eq!(exit, 0);
    let asked: Vec<Value> = fake.heard().into_iter().map(|request| request["params"].clone()).collect();
    assert_eq!(
        asked,
        [json!({ "limit": 100, "status": "completed" }), json!({ "limit": 100, "status": "completed", "cursor": "c" })]
    );
}

#[test]
fn every_failure_has_its_exit_code() {
    let thread = "thr_00000000000000000000000001";
    for (words, code, exit) in [
        (vec!["threads", "show", thread], "THREAD_NOT_FOUND", 2),
        (vec!["threads", "events", thread], "THREAD_NOT_FOUND", 2),
        (vec!["db", "get", "cats", "1"], "INVALID_ARGUMENTS", 2),
        (vec!["restart", "/x"], "INVALID_ARGUMENTS", 1),
        (vec!["db", "verify"], "A_CODE_OF_TOMORROW", 1),
    ] {
        let fake = Fake::answering(vec![refusal(1, code)]);
        let (out, complaint, found) = typed(fake.data(), false, &words);
        assert_eq!((out.as_str(), complaint, found), ("", format!("{code}: no"), exit), "{words:?}");
    }
    let fake = Fake::answering(vec![]);
    assert_eq!(typed(fake.data(), false, &["tree"]).1, "the runtime is gone");
}

#[test]
fn without_a_runtime_or_a_store_it_is_said_what_to_do() {
    let home = TempDir::new().unwrap();
    let (_, complaint, exit) = typed(home.path(), false, &["tree"]);
    assert!(complaint.contains("lakitu run") && complaint.contains("--data"), "{complaint}");
    assert_eq!(exit, 1);
    let nowhere = home.path().join("nowhere");
    assert_eq!(typed(&nowhere, true, &["threads", "ls"]).0, "{\"cursor\":null,\"items\":[]}\n");
    let thread = "thr_00000000000000000000000001";
    assert_eq!(typed(&nowhere, false, &["threads", "show", thread]).2, 2);
    assert_eq!(typed(&nowhere, false, &["db", "verify"]).2, 1);
    assert!(!nowhere.exists(), "looking makes nothing");
}

#[test]
fn what_is_damaged_is_named_and_exits_with_1() {
    let finding = json!({ "table": "journal", "key": "thr_1/2", "what": "the checksum does not fit" });
    let answer = json!({ "ok": false, "findings": [finding] });
    let fake = Fake::answering(vec![result(1, &answer)]);
    let (out, _, exit) = typed(fake.data(), false, &["db", "verify"]);
    assert_eq!((out.as_str(), exit), ("journal thr_1/2 the checksum does not fit\n", 1));
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert_eq!(done(Err(closed.into())).unwrap(), 0);
}

#[test]
fn long_answers_are_joined_and_notifications_kept() {
    let note =
        |what: &str| json!({ "jsonrpc": "2.0", "method": "supervision", "params": { "what": what } }).to_string();
    let part =
        |text: &str| json!({ "jsonrpc": "2.0", "method": "part", "params": { "id": 1, "text": text } }).to_string();
    let mut lines = vec![note("a"), part("[1,"), note("b"), part("2]")];
    lines.extend(result(1, &json!({ "parts": 2 })));
    let fake = Fake::answering(vec![lines]);
    let mut client = Client::connect(fake.data()).unwrap();
    assert_eq!(client.call("x", &json!({})).unwrap(), json!([1, 2]));
    let wait = Duration::from_millis(5);
    assert_eq!(client.notification(wait).unwrap(), Some(json!({ "what": "a" })));
    assert_eq!(client.notification(wait).unwrap(), Some(json!({ "what": "b" })));
    fake.heard();
    assert!(matches!(client.notification(wait), Err(ClientError::Gone)));
}

#[test]
fn what_is_no_answer_is_no_crash() {
    for line in ["hello", "[]", r#"{"id":7,"result":1}"#, r#"{"id":1,"error":"x"}"#] {
        let fake = Fake::answering(vec![vec![line.to_owned()]]);
        let mut client = Client::connect(fake.data()).unwrap();
        assert!(matches!(client.call("x", &json!({})), Err(ClientError::Protocol(_))), "{line}");
    }
}

#[test]
fn the_tools_are_listed_with_what_may_be_assumed_of_them() {
    let nowhere = Path::new("/nonexistent");
    let (out, complaint, exit) = typed(nowhere, false, &["tools"]);
    assert_eq!((complaint.as_str(), exit), ("", 0));
    expect![[r#"
        NAME                CLASS       HINTS                   PARAMETERS                                                                     WHAT IT DOES
        apply_patch         verifiable  destructive             patch                                                                          Changes several files at once: all of the patch is applied, or nothing.
        artifact_list       keyed       destructive idempotent  limit?                                                                         Lists this thread's artifacts, the newest first.
        artifact_read       keyed       destructive idempotent  name version?                                                                  Reads an artifact of this thread back: its text, or where it stands.
        artifact_save       keyed       destructive idempotent  name content? metadata? path? type?                                            Saves a result for the user under a name, as its next version: give content, or the path of a file.
        bash                detached    destructive open-world  command cwd? description? run_in_background? timeout? timeout_secs?            Runs a command with `bash -c` in the workspace and returns its output, stdout and stderr in the order they were written.
        bash_input          keyed       destructive idempotent  job eof? text?                                                                 Gives text to the standard input of a job that was started with `run_in_background`.
        bash_kill           keyed       destructive idempotent  job                                                                            Ends a job of `bash` with everything it started: TERM, and KILL two seconds later.
        bash_list           read        read-only idempotent                                                                                   Lists the jobs that still run: commands, and what commands left running in the background.
        bash_output         read        read-only idempotent    job since? wait?                                                               Shows what a job of `bash` has put out: the whole of it, cut in the middle where it is long, or up to 50,000 bytes from the byte `since`.
        beads_close         keyed       destructive idempotent  id reason?                                                                     Closes a bead.
        beads_create        keyed       destructive idempotent  title blocked_by? description? labels? parent_id? priority? type?              Adds a bead, a task that outlives this thread, to the task graph.
        beads_dep           keyed       destructive idempotent  id add? remove?                                                                Says which beads a bead waits for: it is blocked until they are closed.
        beads_get           read        read-only idempotent    id                                                                             Shows a bead whole, with what it blocks and its parts.
        beads_list          read        read-only idempotent    limit? status? type?                                                           Lists beads, newest first, filtered by status and type.
        beads_ready         read        read-only idempotent    limit?                                                                         Lists beads to work on next: open and not blocked, most urgent first.
        beads_update        keyed       destructive idempotent  id blocked_by? description? labels? parent_id? priority? status? title? type?  Changes a bead; in_progress claims it, unless somebody else holds it.
        checkpoint_create   keyed       destructive idempotent  name? next_task?                                                               Makes a checkpoint of this thread, conversation and files, to come back to.
        checkpoint_list     keyed       destructive idempotent  limit?                                                                         Lists the checkpoints of this thread, newest first.
        checkpoint_restore  verifiable  destructive             id force?                                                                      Puts the files that you changed since a checkpoint back as they were then; the conversation goes on.
        decision_log        keyed       destructive idempotent  reasoning type alternatives? confidence? expected_outcome?                     Records a decision of yours and why, with what you did not choose.
        file_edit           verifiable  destructive             new_string old_string path replace_all?                                        Replaces a text in a file.
        file_read           read        read-only idempotent    path limit? offset?                                                            Reads a file of the workspace: text with line numbers, the text of a PDF, or an image, which you then see.
        file_write          verifiable  destructive             content path                                                                   Writes a whole file: creates it, directories included, or replaces what it holds.
        glob                read        read-only idempotent    pattern path?                                                                  Finds files by name, newest first, at most 1000.
        grep                read        read-only idempotent    pattern context? glob? ignore_case? limit? output_mode? path?                  Searches the text of files for a regular expression (Rust syntax, line by line).
        ls                  read        read-only idempotent    hidden? path?                                                                  Lists a directory, without hidden and ignored names; how many were left out is said.
        multi_edit          verifiable  destructive             edits path                                                                     Makes several edits in one file, one after the other: each is an edit as by file_edit and sees what those before it made.
    "#]].assert_eq(&out);
    let (out, ..) = typed(nowhere, true, &["tools"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    expect![[r#"{"class":"read","hints":{"destructiveHint":false,"idempotentHint":true,"openWorldHint":false,"readOnlyHint":true},"name":"beads_get","parameters":{"additionalProperties":false,"properties":{"id":{"description":"Such as bd-a3f8.","type":"string"}},"required":["id"],"type":"object"},"summary":"Shows a bead whole, with what it blocks and its parts."}"#]].assert_eq(&listed["items"][12].to_string());
}

#[test]
fn hints_follow_from_the_class_and_schemas_are_what_every_provider_takes() {
    use lakitu_kernel::tool::EffectClass;
    for spec in lakitu_actors::tools::CATALOGUE.0 {
        let hints = spec.hints();
        // What is run again without a question is harmless twice; what is not a read may destroy.
        assert_eq!(hints.read_only_hint, spec.effect == EffectClass::Read, "{}", spec.name);
        assert_eq!(hints.read_only_hint, !hints.destructive_hint, "{}", spec.name);
        let runs_again = matches!(spec.effect, EffectClass::Read | EffectClass::Keyed);
        assert_eq!(hints.idempotent_hint, runs_again, "{}", spec.name);
        assert_eq!(hints.open_world_hint, matches!(spec.effect, EffectClass::Detached | EffectClass::External));
        assert!((10..160).contains(&spec.summary().len()), "{}: {:?}", spec.name, spec.summary());
        let text = spec.schema().to_string();
        for word in ["$ref", "oneOf", "anyOf", "allOf", "$defs"] {
            assert!(!text.contains(word), "{}: {word} in {text}", spec.name);
        }
    }
}
