//! Repair, backup, compaction.

use lakitu_kernel::tool::EffectClass;

use super::super::row::{Row as _, encode};
use super::*;

impl Bench {
    /// The writer is gone, and with it the process's hold on the directory.
    fn offline(&self) {
        *self.store.args().opening.shared.owner.try_lock().unwrap() = None;
    }

    fn repair(&self) -> Repair {
        self.offline();
        OpenStore::repair(self.data(), Timestamp(5)).unwrap()
    }
}

fn append(body: EventBody) -> Op {
    Append { at: Timestamp(1), body }.into()
}

fn intent(call_id: &str) -> Op {
    append(EventBody::ToolIntent {
        call_id: call_id.to_owned(),
        tool: "bash".to_owned(),
        arguments: serde_json::json!({}),
        effect: EffectClass::Detached,
    })
}

fn files(bench: &Bench, ending: &str) -> usize {
    let names = std::fs::read_dir(bench.data()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(ending)).count()
}

#[test]
fn where_nothing_is_wrong_a_repair_touches_nothing() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a"), thread_row(A, ThreadStatus::Running, 1).into()])).unwrap();
    drop(writer);
    bench.offline();
    let before = bench.fingerprint_offline();
    let done = bench.repair();
    assert_eq!(done, Repair { findings: vec![], salvage: None, changed: vec![], left: vec![] });
    assert_eq!(bench.fingerprint_offline(), before);
    assert_eq!(files(&bench, "corrupt"), 0);
}

#[test]
fn a_repair_sets_the_file_aside_and_makes_indexes_and_numbers_anew() {
    let bench = Bench::new();
    let writer = bench.writer();
    for (id, at) in [(A, 1), (B, 2)] {
        one(&writer, step(id, 0, vec![prompt("p"), thread_row(id, ThreadStatus::Running, at).into()])).unwrap();
    }
    drop(writer);
    bench
        .tamper(|table| drop(table.insert(b"nonsense".as_slice(), B.bytes().as_slice()).unwrap()), "threads.by_status");
    let wrong = encode(&thread_row(A, ThreadStatus::Running, 1)).unwrap();
    bench.tamper(|table| drop(table.insert(A.bytes().as_slice(), wrong.as_slice()).unwrap()), "threads");
    bench.tamper(|table| drop(table.insert(b"bad".as_slice(), b"row".as_slice()).unwrap()), "jobs");
    let done = bench.repair();
    assert_eq!(done.findings.len(), 3, "{:?}", done.findings);
    assert_eq!(done.left, []);
    let salvage = done.salvage.unwrap();
    assert_eq!((salvage.lost, salvage.incomplete), (vec!["jobs 626164".to_owned()], vec![]));
    assert!(salvage.set_aside.exists());
    let what = "it is running at 1".to_owned();
    assert_eq!(done.changed, [Finding { table: "threads".to_owned(), key: A.to_string(), what }]);
    let writer = bench.writer();
    assert_eq!(bench.verify(), []);
    assert_eq!(bench.read(|r| r.thread(A).unwrap().unwrap().last_seq), Seq(1));
    one(&writer, step(A, 1, vec![prompt("goes on")])).unwrap();
}

#[test]
fn a_journal_is_ended_before_its_hole_with_what_was_derived_from_behind_it() {
    let bench = Bench::new();
    let writer = bench.writer();
    let ops = vec![prompt("1"), prompt("2"), prompt("3"), thread_row(A, ThreadStatus::Completed, 1).into()];
    one(&writer, step(A, 0, ops)).unwrap();
    let snapshot = Snapshot { thread: A, seq: Seq(3), version: 1, bytes: "state".into() };
    let execution = ExecutionRow {
        thread_id: A,
        seq: Seq(3),
        decision_id: None,
        tool_name: "bash".to_owned(),
        input: serde_json::json!({}),
        output: None,
        success: true,
        duration_ms: 1,
        error: None,
        timestamp: Timestamp(1),
    };
    one(&writer, step(A, 3, vec![snapshot.into(), execution.into()])).unwrap();
    one(&writer, step(B, 0, vec![prompt("b")])).unwrap();
    drop(writer);
    bench.tamper(|table| drop(table.remove((A, Seq(2)).bytes().as_slice()).unwrap()), "journal");
    let done = bench.repair();
    assert_eq!(done.left, []);
    let whats: Vec<_> = done.changed.into_iter().map(|finding| finding.what).collect();
    assert_eq!(
        whats,
        ["it ends at 1: 1 events behind a hole are only in the file set aside", "it is checkpointed at 1"]
    );
    let writer = bench.writer();
    assert_eq!(bench.read(|r| texts(&r.events(A, Seq::ZERO, 9).unwrap())), ["1 1"]);
    assert_eq!(bench.read(|r| texts(&r.events(B, Seq::ZERO, 9).unwrap())), ["1 b"], "no other thread is touched");
    assert_eq!(bench.read(|r| (r.snapshot(A).unwrap(), r.executions(A).unwrap().len())), (None, 0));
    one(&writer, step(A, 1, vec![prompt("again")])).unwrap();
    assert_eq!(bench.verify(), []);
}

#[test]
fn a_settled_thread_with_an_open_call_is_to_be_resumed_and_a_changed_blob_is_set_aside() {
    let bench = Bench::new();
    let writer = bench.writer();
    let blob = Blob::of(vec![1; 100_000]);
    let ops = vec![thread_row(A, ThreadStatus::Completed, 1).into(), intent("c1"), blob.clone().into()];
    one(&writer, step(A, 0, ops)).unwrap();
    drop(writer);
    let folder = bench.data().join("blobs").join(&blob.hash.to_string()[..2]);
    std::fs::write(folder.join(blob.hash.to_string()), "changed").unwrap();
    let done = bench.repair();
    assert_eq!((done.findings.len(), done.left), (2, vec![]));
    assert_eq!(std::fs::read(folder.join(format!("{}.corrupt", blob.hash))).unwrap(), b"changed");
    let writer = bench.writer();
    assert_eq!(bench.read(|r| r.thread(A).unwrap().unwrap().status), ThreadStatus::Checkpointed);
    // The same bytes can come back.
    one(&writer, step(A, 1, vec![blob.clone().into()])).unwrap();
    assert_eq!(bench.read(|r| r.blob(blob.hash).unwrap()), blob.bytes);
}

#[test]
fn what_cannot_be_made_anew_is_left_and_told() {
    let bench = Bench::new();
    let writer = bench.writer();
    let settings = serde_json::json!({ "call_id": "c", "files": [{ "path": "a", "mode": 420,
        "hash_before": null, "hash_after": lakitu_kernel::Hash::of(b"gone") }] });
    let files = serde_json::from_value(settings["files"].clone()).unwrap();
    one(&writer, step(A, 0, vec![append(EventBody::ToolPrepared { call_id: "c".to_owned(), files })])).unwrap();
    drop(writer);
    let done = bench.repair();
    assert_eq!(done.left, done.findings);
    assert_eq!(done.left.len(), 1);
}

#[test]
fn a_file_that_does_not_open_is_repaired_too() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    drop(writer);
    std::fs::write(bench.data().join("lakitu.redb"), vec![42; 9_000]).unwrap();
    let done = bench.repair();
    assert!(!done.salvage.unwrap().incomplete.is_empty());
    assert_eq!(done.left, []);
    let _writer = bench.writer();
    assert_eq!(bench.verify(), []);
}

#[test]
fn a_backup_is_a_data_directory_with_the_same_rows_and_overwrites_nothing() {
    let bench = Bench::new();
    let writer = bench.writer();
    let ops = vec![prompt("a"), thread_row(A, ThreadStatus::Running, 1).into(), Blob::of(vec![7; 90_000]).into()];
    one(&writer, step(A, 0, ops)).unwrap();
    let first = bench.read(|r| r.commit().unwrap());
    drop(writer);
    bench.offline();
    let to = tempfile::tempdir().unwrap();
    let made = OpenStore::read_only(bench.data()).unwrap().backup(to.path()).unwrap();
    assert_eq!((made.commit, made.blobs), (first, 1));
    let before = bench.fingerprint_offline();
    let mut copy = Bench::new();
    copy.store = store_on(to.path(), copy.clock.clone());
    assert_eq!(copy.fingerprint_offline(), before);
    let writer = copy.writer();
    assert_eq!(copy.verify(), []);
    one(&writer, step(A, 1, vec![prompt("goes on")])).unwrap();
    // Neither a directory with something in it, nor a file, nor a path that depends on where one stands.
    let store = OpenStore::read_only(bench.data()).unwrap();
    let file = bench.data().join("store.stamp");
    for refused in [to.path(), &file, Path::new("here")] {
        assert!(matches!(store.backup(refused), Err(StoreError::Invalid(_))), "{refused:?}");
    }
}

impl Bench {
    fn fingerprint_offline(&self) -> lakitu_kernel::Hash {
        let store = OpenStore::read_only(self.data()).unwrap();
        super::power::fingerprint(&store.read().unwrap()).unwrap()
    }
}

#[test]
fn a_backup_of_a_store_that_grows_too_much_meanwhile_is_given_up() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    for (grown, fits) in
        [(super::super::backup::GROWTH_BYTES_MAX, true), (super::super::backup::GROWTH_BYTES_MAX + 1, false)]
    {
        let to = tempfile::tempdir().unwrap();
        let done = bench.read(|reading| super::super::backup::backup(reading, to.path(), &|| grown));
        assert_eq!(done.is_ok(), fits);
        assert_eq!(to.path().join("lakitu.redb").exists(), fits, "a copy that was given up is none");
    }
}

#[test]
fn a_backup_whose_blob_is_missing_says_so() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![Blob::of(vec![7; 90_000]).into()])).unwrap();
    std::fs::remove_dir_all(bench.data().join("blobs")).unwrap();
    let to = tempfile::tempdir().unwrap();
    let done = bench.read(|reading| super::super::backup::backup(reading, to.path(), &|| 0));
    assert!(matches!(done, Err(StoreError::Corrupt { table, .. }) if table == BlobRow::NAME));
}

#[test]
fn a_compaction_gives_room_back_and_changes_no_row() {
    let bench = Bench::new();
    let writer = bench.writer();
    let mut held = Vec::new();
    for n in 0..60_u8 {
        let blob = Blob::of(vec![n; 60_000]);
        held.push(blob.hash);
        one(&writer, step(A, u64::from(n), vec![prompt("p"), blob.into()])).unwrap();
    }
    for hash in held {
        one(&writer, step(A, 60, vec![Release { hash }.into()])).unwrap();
    }
    let before = bench.read(super::power::fingerprint).unwrap();
    let live = writer.compact().unwrap();
    assert!(live.after_bytes * 4 < live.before_bytes, "{live:?}");
    assert_eq!(bench.read(super::power::fingerprint).unwrap(), before);
    one(&writer, step(A, 60, vec![prompt("goes on")])).unwrap();
    drop(writer);
    bench.offline();
    let offline = OpenStore::read_only(bench.data()).unwrap().compact().unwrap();
    assert!(offline.after_bytes <= offline.before_bytes, "{offline:?}");
    let _writer = bench.writer();
    assert_eq!(bench.verify(), []);
}

#[test]
fn a_large_file_is_not_compacted_while_others_wait_for_it() {
    let mut bench = Bench::new();
    bench.store.large_from(0);
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    assert!(matches!(writer.compact(), Err(StoreError::Invalid(_))));
    one(&writer, step(A, 1, vec![prompt("b")])).unwrap();
}
