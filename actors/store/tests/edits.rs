//! The chain of a file's versions.

use lakitu_kernel::Hash;
use lakitu_kernel::edit::{FileChange, FileKind, FileState};

use redb::ReadableTable as _;

use super::super::row::Row as _;
use super::*;

fn state(text: &str, kept: bool) -> Option<FileState> {
    let hash = Some(Hash::of(text.as_bytes()));
    (!text.is_empty()).then_some(FileState { kind: FileKind::File, hash, mode: 0o644, bytes: text.len() as u64, kept })
}

/// A change of `/w/a` from one text to another; an empty one: no file.
fn edit(thread: ThreadId, seq: u64, tool: &str, (before, after): (&str, &str)) -> Op {
    let change = FileChange {
        path: "a".to_owned(),
        before: state(before, false),
        after: state(after, false),
        added: 1,
        removed: 1,
        verified: false,
    };
    EditRow::new((thread, (Seq(seq), 0)), "/w/a".to_owned(), tool.to_owned(), &change, Timestamp(seq)).into()
}

/// `tool version`, and a sign where somebody else changed the file before; the oldest first.
fn chain(bench: &Bench) -> Vec<String> {
    let by = EditsBy { thread: None, path: Some("/w/a".to_owned()) };
    let mut rows = bench.read(|reading| reading.edits_by(&by, 100, None).unwrap()).items;
    rows.reverse();
    rows.iter().map(|row| format!("{} {}{}", row.tool, row.version, if row.outside { " !" } else { "" })).collect()
}

#[test]
fn versions_of_a_file_are_numbered_over_all_threads_and_what_nobody_recorded_is_marked() {
    let bench = Bench::new();
    let writer = bench.writer();
    let at = |thread, seq, ops| one(&writer, step(thread, seq, ops)).unwrap();
    at(A, 0, vec![prompt("a"), edit(A, 1, "file_write", ("", "1"))]);
    at(B, 0, vec![prompt("b"), edit(B, 1, "file_edit", ("1", "2"))]);
    // A command of A saw what B wrote meanwhile: it is told already.
    at(A, 1, vec![prompt("a"), edit(A, 2, "bash", ("1", "2"))]);
    // What a tool did is told whatever it looks like.
    at(A, 2, vec![prompt("a"), edit(A, 3, "file_edit", ("1", "2"))]);
    at(A, 3, vec![prompt("a"), edit(A, 4, "bash", ("2", "")), edit(A, 5, "bash", ("", "3"))]);
    at(A, 4, vec![prompt("a"), edit(A, 6, "rollback", ("x", "3"))]);
    assert_eq!(chain(&bench), ["file_write 1", "file_edit 2", "file_edit 3 !", "bash 4", "bash 5", "rollback 6 !"]);
    assert_eq!(bench.verify(), []);
    let row = bench.read(|reading| reading.get("fileState", "/w/a").unwrap().unwrap());
    assert_eq!((&row["accessCount"], &row["lastOperation"]), (&6.into(), &"edit".into()), "{row}");
}

#[test]
fn a_chain_that_was_broken_and_bytes_that_are_gone_are_found() {
    let bench = Bench::new();
    let writer = bench.writer();
    let ops = vec![prompt("a"), edit(A, 1, "file_write", ("", "1")), edit(A, 2, "file_write", ("1", "2"))];
    one(&writer, step(A, 0, ops)).unwrap();
    drop(writer);
    let key = |seq| (A, (Seq(seq), 0_u32)).bytes();
    bench.tamper(
        |table| {
            let value = table.get(key(2).as_slice()).unwrap().unwrap().value().to_vec();
            let row: EditRow = super::super::row::decode(&key(2), &value).unwrap();
            let forged = EditRow { before: state("other", false), after: state("lost", true), ..row };
            table.insert(key(2).as_slice(), super::super::row::encode(&forged).unwrap().as_slice()).unwrap();
        },
        EditRow::NAME,
    );
    let _writer = bench.writer();
    let found: Vec<String> = bench.verify().into_iter().map(|finding| finding.what).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("it names the blob") && found[0].ends_with("which is missing"), "{found:?}");
    assert!(found[1].contains("left another version than it found"), "{found:?}");
}
