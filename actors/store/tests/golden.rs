//! Format 1, frozen: a database that this version made once is read by every later one, row for row.
//!
//! `cargo test -p lakitu-actors make_the_golden_database -- --ignored` makes the files in `tests/golden/` anew. That is for
//! a new table or a new format alone: a file that is there was written by a version that people have.

use std::path::PathBuf;

use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};

use lakitu_kernel::Hash;
use lakitu_kernel::edit::{FileChange, FileKind, FileState};

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/store/tests/golden"))
}

/// Something in every table that a step can write.
fn fill(bench: &Bench) {
    let writer = bench.writer();
    let at = Timestamp(1);
    let append = |body| Op::from(Append { at, body });
    let call = |call_id: &str| EventBody::ToolIntent {
        call_id: call_id.to_owned(),
        tool: "bash".to_owned(),
        arguments: serde_json::json!({ "command": "ls", "n": [1, 2.5, null] }),
        effect: lakitu_kernel::tool::EffectClass::Detached,
    };
    let result = EventBody::ToolResult {
        call_id: "c1".to_owned(),
        ok: false,
        output: "ünïcode\n".to_owned(),
        error: Some(lakitu_kernel::ToolError::new(lakitu_kernel::ErrorCode::CommandFailed, "exit 1")),
        files: vec![],
        images: vec![],
        duration_ms: 7,
    };
    let job = JobRow {
        thread: A,
        seq: Seq(2),
        command: "ls".to_owned(),
        cwd: ".".to_owned(),
        boot_id: "boot".to_owned(),
        attempt: 1,
        state: JobState::Ended,
        end: "exit 1".to_owned(),
        started_at: at,
        ended_at: Some(Timestamp(2)),
        bytes: 9,
        timeout_ms: Some(1_000),
    };
    let execution = ExecutionRow {
        thread_id: A,
        seq: Seq(2),
        decision_id: Some("d".to_owned()),
        tool_name: "bash".to_owned(),
        input: serde_json::json!({ "command": "ls" }),
        output: Some("text".into()),
        success: false,
        duration_ms: 7,
        error: Some("COMMAND_FAILED: exit 1".to_owned()),
        timestamp: at,
    };
    let decision: DecisionRow = serde_json::from_value(serde_json::json!({
        "threadId": A, "seq": 2, "task": "look", "decisionType": "tool_selection", "selectedTools": ["bash"],
        "reasoning": "it lists", "alternatives": [{ "option": "glob", "reason": "less" }], "confidence": 0.5,
        "timestamp": 1, "outcome": "failure"
    }))
    .unwrap();
    let ops = vec![prompt("a"), append(call("c1")), append(result), thread_row(A, ThreadStatus::Completed, 1).into()];
    one(&writer, step(A, 0, ops)).unwrap();
    let snapshot = Snapshot { thread: A, seq: Seq(3), version: 1, bytes: "state".into() };
    let ops = vec![job.into(), execution.into(), decision.into(), snapshot.into(), Blob::of("small").into()];
    let ops = ops.into_iter().chain(of_files(at)).collect();
    one(&writer, step(A, 3, ops)).unwrap();
    let id = lakitu_kernel::CheckpointId { thread: B, seq: Seq(1) };
    let put_back_for = lakitu_kernel::edit::PutBackFor::Checkpoint { id };
    let restoring = append(EventBody::EditRestoring { put_back_for, files: vec![] });
    let row = RestoringRow { thread: B, began: Seq(2), at };
    let ops = vec![prompt("b"), restoring, row.into(), thread_row(B, ThreadStatus::Running, 2).into()];
    one(&writer, step(B, 0, ops)).unwrap();
}

/// What is known of files, and a checkpoint that names one.
fn of_files(at: Timestamp) -> [Op; 6] {
    let checkpoint: CheckpointRow = serde_json::from_value(serde_json::json!({
        "id": lakitu_kernel::CheckpointId { thread: A, seq: Seq(3) }, "sessionId": "s", "threadId": A, "asOf": 3, "iteration": 1,
        "messageHistory": { "first": 1, "last": 3, "count": 2 },
        "fileState": [{ "path": "a", "contentHash": Hash::of(b"small"), "size": 5, "lastModified": 1, "mode": 420 }],
        "nextTask": "go on", "reason": "manual", "status": "active", "createdAt": 1
    }))
    .unwrap();
    let hash = Some(Hash::of(b"small"));
    let change = FileChange {
        path: "a".to_owned(),
        before: None,
        after: Some(FileState { kind: FileKind::File, hash, mode: 0o644, bytes: 5, kept: true }),
        added: 1,
        removed: 0,
        verified: true,
    };
    let edit = EditRow::new((A, (Seq(3), 0)), "/w/a".to_owned(), "file_write".to_owned(), &change, at);
    let artifact = ArtifactRow {
        id: lakitu_kernel::ArtifactId { thread: A, seq: Seq(2) },
        name: "ünï.md".to_owned(),
        version: 1,
        mime: "text/markdown".to_owned(),
        path: "/a/ünï.md".to_owned(),
        content_hash: Hash::of(b"small"),
        size: 5,
        thread_id: A,
        created_at: at,
        metadata: Some(serde_json::json!({ "n": [1, 2.5, null] })),
    };
    let (path, operation) = ("/w/b".to_owned(), FileOperation::Read);
    let access = Access { path, operation, thread: A, at, hash, size: Some(5) };
    let new = crate::planning::NewBead {
        title: "ünï".to_owned(),
        kind: Some("bug".to_owned()),
        priority: Some(0),
        description: Some("why".to_owned()),
        labels: vec!["x".to_owned()],
        parent_id: None,
        blocked_by: vec![],
    };
    let line =
        r#"{"id":"p-1","title":"t","status":"hooked","updated_at":"2025-10-14T21:00:00.5Z","future":[1,2.5,null]}"#;
    let lines = vec![crate::planning::ImportLine { number: 1, text: line.to_owned() }];
    let bead = |key, change| ChangeBeads { key, by: "ann".to_owned(), at, change };
    let created = bead(BeadKey::Call(A, Seq(3)), crate::planning::Change::Create(new));
    let imported = bead(BeadKey::Person(7), crate::planning::Change::Import(lines));
    [
        edit.into(),
        artifact.into(),
        access.into(),
        MakeCheckpoint { row: checkpoint, beads: Vec::new() }.into(),
        created.into(),
        imported.into(),
    ]
}

/// Every row as it is shown, but the one that each opening changes.
fn shown(bench: &Bench) -> String {
    let tables = bench.read(|reading| reading.tables().unwrap());
    let rows = tables.iter().filter(|table| table.rows > 0 && table.name != "meta").map(|table| {
        let items = bench.read(|reading| reading.dump(&table.name, None, 1_000).unwrap().items);
        let lines = items.iter().fold(String::new(), |lines, row| lines + &row.to_string() + "\n");
        format!("{}\n{lines}", table.name)
    });
    rows.collect()
}

#[test]
#[ignore = "makes the fixture"]
fn make_the_golden_database() {
    let bench = Bench::new();
    fill(&bench);
    let file = std::fs::read(bench.data().join("lakitu.redb")).unwrap();
    std::fs::write(folder().join("format-1.redb.lz4"), compress_prepend_size(&file)).unwrap();
    let _writer = bench.writer();
    std::fs::write(folder().join("format-1.txt"), shown(&bench)).unwrap();
}

#[test]
fn the_golden_database_of_format_1_is_read_row_for_row_and_goes_on() {
    let bench = Bench::new();
    let packed = std::fs::read(folder().join("format-1.redb.lz4")).unwrap();
    std::fs::write(bench.data().join("lakitu.redb"), decompress_size_prepended(&packed).unwrap()).unwrap();
    let (writer, opened) = bench.try_writer().unwrap();
    assert_eq!(opened, Opened { generation: 2, created: false, salvaged: None });
    assert_eq!(FORMAT, 1, "another format needs a golden database of its own beside this one");
    assert_eq!(shown(&bench), std::fs::read_to_string(folder().join("format-1.txt")).unwrap());
    assert_eq!(bench.verify(), []);
    assert_eq!(one(&writer, step(A, 3, vec![prompt("goes on")])).unwrap().events[0].seq, Seq(4));
}
