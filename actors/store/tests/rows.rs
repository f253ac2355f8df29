//! Rows: what is damaged is one error, and `verify` names it.

use lakitu_kernel::Hash;
use lakitu_kernel::limits::BLOB_INLINE_BYTES_MAX;

use super::super::row::Row;
use super::*;

fn flip(table: &mut redb::Table<'_, &'static [u8], &'static [u8]>, key: &[u8]) {
    let mut value = table.get(key).unwrap().unwrap().value().to_vec();
    *value.last_mut().unwrap() ^= 1;
    table.insert(key, value.as_slice()).unwrap();
}
use redb::ReadableTable;

fn found(bench: &Bench) -> Vec<(String, String)> {
    bench.verify().into_iter().map(|finding| (finding.table, finding.key)).collect()
}

#[test]
fn a_damaged_row_is_one_error_that_names_it() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a"), thread_row(A, ThreadStatus::Running, 1).into()])).unwrap();
    one(&writer, step(B, 0, vec![prompt("b"), thread_row(B, ThreadStatus::Running, 2).into()])).unwrap();
    drop(writer);
    bench.tamper(|table| flip(table, &A.bytes()), "threads");
    let writer = bench.writer();
    let error = bench.read(|r| r.thread(A).unwrap_err());
    assert_eq!(error.code(), lakitu_kernel::ErrorCode::StoreCorrupt);
    assert_eq!(error.to_string(), format!("threads {A} is damaged: the checksum does not fit"));
    assert_eq!(bench.read(|r| r.thread(B).unwrap().unwrap().last_seq), Seq(1));
    assert_eq!(found(&bench), [("threads".to_owned(), A.to_string())]);
    let shown = bench.read(|r| r.dump("threads", None, 10).unwrap());
    assert!(shown.items[0]["corrupt"].is_string() && shown.items[1]["row"].is_object(), "{shown:?}");
    // The thread whose row it is cannot be written; all others can.
    let group = [step(A, 1, vec![prompt("a2")]), step(B, 1, vec![prompt("b2")])].map(Arc::new);
    let results = writer.commit(&group);
    assert!(matches!(results[0], Err(StoreError::Corrupt { .. })), "{results:?}");
    assert!(results[1].is_ok());
}

#[test]
fn a_journal_that_was_changed_cut_or_spliced_is_found() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, (0..6).map(|n| prompt(&n.to_string())).collect())).unwrap();
    drop(writer);
    let key = |seq| (A, Seq(seq)).bytes();
    bench.tamper(
        |table| {
            table.remove(key(2).as_slice()).unwrap();
            // A record whose own checksum fits, in a chain that it does not belong to.
            let body = EventBody::Prompt { text: "forged".to_owned() };
            let row = JournalRow { thread: A, seq: Seq(5), prev: 1, at: Timestamp(1), step: None, body };
            table.insert(key(5).as_slice(), super::super::row::encode(&row).unwrap().as_slice()).unwrap();
        },
        "journal",
    );
    let _writer = bench.writer();
    let whats: Vec<_> = bench.verify().into_iter().map(|f| (f.key, f.what)).collect();
    let at = |seq| (A, Seq(seq)).text();
    assert_eq!(
        whats,
        [
            (at(3), "the events between 1 and 3 are missing".to_owned()),
            (at(5), "the chain is broken: it was written behind another record".to_owned()),
            (at(6), "the chain is broken: it was written behind another record".to_owned()),
        ]
    );
    let error = bench.read(|r| r.events(A, Seq::ZERO, 10).unwrap_err());
    assert_eq!(error, StoreError::corrupt("journal", at(2), "the event is missing"));
}

#[test]
fn indexes_that_do_not_fit_their_rows_are_found() {
    let bench = Bench::new();
    let writer = bench.writer();
    for (id, at) in [(A, 1), (B, 2)] {
        one(&writer, step(id, 0, vec![prompt("p"), thread_row(id, ThreadStatus::Running, at).into()])).unwrap();
    }
    drop(writer);
    let a_by_status = [[0].as_slice(), &1_u64.to_be_bytes(), &A.bytes()].concat();
    bench.tamper(
        |table| {
            table.remove(a_by_status.as_slice()).unwrap();
            table.insert(b"nonsense".as_slice(), B.bytes().as_slice()).unwrap();
        },
        "threads.by_status",
    );
    let _writer = bench.writer();
    let by_status = "threads.by_status".to_owned();
    assert_eq!(found(&bench), [(by_status.clone(), A.to_string()), (by_status, B.to_string())]);
}

#[test]
fn last_seq_is_the_stores_own_and_open_intents_of_a_settled_thread_are_found() {
    let bench = Bench::new();
    let writer = bench.writer();
    let intent = EventBody::ToolIntent {
        call_id: "c1".to_owned(),
        tool: "bash".to_owned(),
        arguments: serde_json::json!({ "command": "ls", "n": [1, 2.5, null] }),
        effect: lakitu_kernel::tool::EffectClass::Detached,
    };
    let ops = vec![
        thread_row(A, ThreadStatus::Completed, 1).into(),
        Op::from(Append { at: Timestamp(1), body: intent.clone() }),
    ];
    let done = one(&writer, step(A, 0, ops)).unwrap();
    assert_eq!(bench.read(|r| r.thread(A).unwrap().unwrap().last_seq), Seq(1));
    assert_eq!(bench.read(|r| r.events(A, Seq::ZERO, 9).unwrap()), done.events);
    assert_eq!(done.events[0].body, intent);
    let findings = bench.verify();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].what, "it is completed and call c1 has no result");
}

#[test]
fn a_blob_stands_in_its_row_up_to_64_kib_and_in_a_file_past_it() {
    let bench = Bench::new();
    let writer = bench.writer();
    let file = |hash: Hash| bench.data().join(format!("blobs/{}/{hash}", &hash.to_string()[..2]));
    for (size, in_file) in [(0, false), (BLOB_INLINE_BYTES_MAX, false), (BLOB_INLINE_BYTES_MAX + 1, true)] {
        let blob = Blob::of(vec![7; size]);
        let hash = blob.hash;
        one(&writer, step(A, 0, vec![blob.clone().into()])).unwrap();
        assert_eq!(file(hash).exists(), in_file, "{size}");
        assert_eq!(bench.read(|r| r.blob(hash).unwrap()), blob.bytes);
        // A second reference, then both go.
        one(&writer, step(B, 0, vec![blob.into()])).unwrap();
        one(&writer, step(A, 0, vec![Release { hash }.into()])).unwrap();
        assert_eq!(bench.read(|r| r.blob(hash).unwrap().len()), size);
        one(&writer, step(B, 0, vec![Release { hash }.into()])).unwrap();
        assert!(!file(hash).exists());
        assert!(bench.read(|r| r.blob(hash).is_err()));
    }
    assert_eq!(bench.verify(), []);
}

#[test]
fn a_blob_whose_file_is_gone_or_changed_is_found_and_never_given_out() {
    let bench = Bench::new();
    let writer = bench.writer();
    let (gone, changed) = (Blob::of(vec![1; 100_000]), Blob::of(vec![2; 100_000]));
    one(&writer, step(A, 0, vec![gone.clone().into(), changed.clone().into()])).unwrap();
    let file = |hash: Hash| bench.data().join(format!("blobs/{}/{hash}", &hash.to_string()[..2]));
    std::fs::remove_file(file(gone.hash)).unwrap();
    std::fs::write(file(changed.hash), vec![3; 100_000]).unwrap();
    let mut keys: Vec<_> = found(&bench).into_iter().map(|(_, key)| key).collect();
    keys.sort();
    let mut expected = [gone.hash.to_string(), changed.hash.to_string()];
    expected.sort();
    assert_eq!(keys, expected);
    assert!(bench.read(|r| r.blob(changed.hash).is_err()));
    let wrong = Blob { hash: Hash::of(b"a"), bytes: "b".into() };
    assert!(matches!(one(&writer, step(B, 0, vec![wrong.into()])), Err(StoreError::Invalid(_))));
}

#[test]
fn a_file_that_no_row_names_is_swept_and_one_that_came_in_between_stays() {
    let bench = Bench::new();
    let writer = bench.writer();
    let files = super::super::blob_files::BlobFiles::new(bench.data());
    let (orphan, late) = (Blob::of(vec![1; 100_000]), Blob::of(vec![2; 100_000]));
    files.write(orphan.hash, &orphan.bytes).unwrap();
    files.write(late.hash, &late.bytes).unwrap();
    let orphans = writer.orphans().unwrap();
    assert_eq!(orphans.len(), 2);
    one(&writer, step(A, 0, vec![late.clone().into()])).unwrap();
    writer.sweep(&orphans).unwrap();
    assert_eq!(files.list().unwrap(), [late.hash]);
    assert_eq!(bench.verify(), []);
}

#[test]
fn rows_are_shown_under_the_originals_names() {
    let bench = Bench::new();
    let writer = bench.writer();
    let execution = ExecutionRow {
        thread_id: A,
        seq: Seq(1),
        decision_id: Some("1".to_owned()),
        tool_name: "grep".to_owned(),
        input: serde_json::json!({ "pattern": "x" }),
        output: Some("none".into()),
        success: true,
        duration_ms: 5,
        error: None,
        timestamp: Timestamp(9),
    };
    one(&writer, step(A, 0, vec![prompt("p"), execution.into()])).unwrap();
    let key = (A, Seq(1)).text();
    expect_test::expect![[r#"
        {
          "_creationTime": 9,
          "_id": "thr_0000000000000000000000000A/1",
          "decisionId": "1",
          "durationMs": 5,
          "input": {
            "pattern": "x"
          },
          "output": "none",
          "success": true,
          "threadId": "thr_0000000000000000000000000A",
          "timestamp": 9,
          "toolName": "grep"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&bench.read(|r| r.get("toolExecutions", &key).unwrap())).unwrap());
    let unknown = bench.read(|r| r.get("nope", "1").unwrap_err());
    assert!(unknown.to_string().contains("toolExecutions"), "{unknown}");
    assert!(bench.read(|r| r.get(JournalRow::NAME, "x").is_err()));
}

#[test]
fn lists_page_in_order_and_follow_the_index() {
    let bench = Bench::new();
    let writer = bench.writer();
    for n in 1..=5_u64 {
        let status = if n == 3 { ThreadStatus::Failed } else { ThreadStatus::Running };
        let id = ThreadId(u128::from(n));
        one(&writer, step(id, 0, vec![prompt("p"), thread_row(id, status, n).into()])).unwrap();
    }
    let page = |by: &ThreadsBy, cursor: Option<&str>| {
        let page = bench.read(|r| r.threads_by(by, 2, cursor).unwrap());
        (page.items.iter().map(|row| row.id.0).collect::<Vec<_>>(), page.cursor)
    };
    for (by, expected) in [
        (ThreadsBy::All, vec![5, 4, 3, 2, 1]),
        (ThreadsBy::Status(ThreadStatus::Running), vec![5, 4, 2, 1]),
        (ThreadsBy::Workspace("/work".into()), vec![5, 4, 3, 2, 1]),
        (ThreadsBy::Workspace("/other".into()), vec![]),
    ] {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (items, next) = page(&by, cursor.as_deref());
            all.extend(items);
            if next.is_none() {
                break;
            }
            cursor = next;
        }
        assert_eq!(all, expected, "{by:?}");
    }
    assert!(bench.read(|r| r.threads_by(&ThreadsBy::All, 2, Some("zz")).is_err()));
}

#[test]
fn a_blob_that_a_thread_still_needs_and_that_is_missing_is_found() {
    let bench = Bench::new();
    let writer = bench.writer();
    let (kept, missing) = (Blob::of("kept"), Hash::of(b"missing"));
    let append = |body| Op::from(Append { at: Timestamp(1), body });
    let prepared = |call: &str| EventBody::ToolPrepared {
        call_id: call.to_owned(),
        files: vec![lakitu_kernel::event::PreparedFile {
            kind: lakitu_kernel::edit::FileKind::File,
            kind_before: None,
            mode_before: None,
            path: "a".to_owned(),
            mode: 0o644,
            hash_before: Some(kept.hash),
            hash_after: Some(missing),
        }],
    };
    let shown = |hash| lakitu_kernel::image::ImageRef {
        hash,
        media_type: lakitu_kernel::image::MediaType::Png,
        width: 1,
        height: 1,
        bytes: 4,
        name: "a.png".to_owned(),
    };
    let result = |images| EventBody::ToolResult {
        call_id: "done".to_owned(),
        ok: true,
        output: String::new(),
        error: None,
        files: vec![],
        images,
        duration_ms: 1,
    };
    let ops = vec![
        kept.clone().into(),
        append(prepared("done")),
        append(result(vec![shown(kept.hash)])),
        append(prepared("open")),
    ];
    one(&writer, step(A, 0, ops)).unwrap();
    assert_eq!(found(&bench), [("journal".to_owned(), (A, Seq(3)).text())]);
    // Images are needed for good.
    one(&writer, step(A, 3, vec![append(result(vec![shown(missing)])), append(result(vec![]))])).unwrap();
    assert_eq!(found(&bench)[1..], [("journal".to_owned(), (A, Seq(4)).text())]);
}
