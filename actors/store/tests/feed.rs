//! The change feed: at least once, in order, until the horizon.

use super::super::tables::trim_to;
use super::super::write::Tables;
use super::*;

fn changes(bench: &Bench, after: u64, limit: usize) -> Vec<(u64, String)> {
    let changes = bench.read(|r| r.changes(after, limit).unwrap());
    changes
        .into_iter()
        .map(|change| (change.commit, format!("{:?} {} {}", change.op, change.table, change.key)))
        .collect()
}

#[test]
fn every_change_is_told_in_order_and_whole_commits_at_a_time() {
    let bench = Bench::new();
    let writer = bench.writer();
    let blob = Blob::of("x");
    let hash = blob.hash;
    one(&writer, step(A, 0, vec![prompt("p"), blob.into(), thread_row(A, ThreadStatus::Running, 1).into()])).unwrap();
    one(&writer, step(A, 1, vec![prompt("q")])).unwrap();
    one(&writer, step(A, 2, vec![Release { hash }.into()])).unwrap();
    let all = [
        (1, format!("Put blobs {hash}")),
        (1, format!("Put threads {A}")),
        (2, format!("Put threads {A}")),
        (3, format!("Delete blobs {hash}")),
    ];
    assert_eq!(changes(&bench, 0, 100), all);
    assert_eq!(changes(&bench, 0, 1), all[..2], "the commit is not cut");
    assert_eq!(changes(&bench, 1, 1), all[2..3]);
    assert_eq!(changes(&bench, 3, 1), []);
}

#[test]
fn numbers_go_on_over_a_restart() {
    let bench = Bench::new();
    let writer = bench.writer();
    let row = || thread_row(A, ThreadStatus::Running, 1).into();
    one(&writer, step(A, 0, vec![prompt("p"), row()])).unwrap();
    drop(writer);
    let (writer, opened) = bench.try_writer().unwrap();
    assert_eq!(opened.generation, 2);
    assert_eq!(*bench.store.watch().borrow(), 1);
    assert_eq!(one(&writer, step(A, 1, vec![prompt("q"), row()])).unwrap().commit, 2);
    assert_eq!(changes(&bench, 0, 100).iter().map(|(commit, _)| *commit).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_is_older_than_a_day_goes_and_who_needed_it_is_told() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("p"), thread_row(A, ThreadStatus::Running, 1).into()])).unwrap();
    one(&writer, step(A, 1, vec![prompt("q")])).unwrap();
    bench.clock.0.fetch_add(24 * 3600 * 1000 + 1, Ordering::SeqCst);
    one(&writer, step(A, 2, vec![prompt("r")])).unwrap();
    assert_eq!(bench.read(|r| r.changes(1, 10)), Err(StoreError::Truncated { after: 1, oldest: 2 }));
    assert_eq!(changes(&bench, 2, 10).len(), 1);
    assert_eq!(bench.verify(), []);
}

#[test]
fn what_is_too_much_goes_too() {
    let bench = Bench::new();
    let writer = bench.writer();
    for n in 0..4 {
        one(&writer, step(A, n, vec![prompt("p"), thread_row(A, ThreadStatus::Running, n).into()])).unwrap();
    }
    drop(writer);
    let database = redb::Database::open(bench.data().join("lakitu.redb")).unwrap();
    let files = super::super::blob_files::BlobFiles::new(bench.data());
    let txn = database.begin_write().unwrap();
    let mut tables = Tables::new(&txn, &files, Timestamp(1_000)).unwrap();
    trim_to(&mut tables, 3).unwrap();
    tables.close().unwrap();
    txn.commit().unwrap();
    drop(database);
    let _writer = bench.writer();
    assert_eq!(bench.read(|r| r.changes(0, 10)), Err(StoreError::Truncated { after: 0, oldest: 1 }));
    assert_eq!(changes(&bench, 1, 10).len(), 3);
}
