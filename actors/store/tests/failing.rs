//! A disk that fails, at each of its operations in turn, that is full, or that can only be read: whoever asked is told
//! with a typed error, nothing is lost or there by half, and it goes on when the cause is gone.

use super::disk::{Failure, Faulty};
use super::*;

/// Steps that depend on each other, with a blob that has a file of its own.
fn script() -> Vec<Vec<Arc<Step>>> {
    let blob = Blob::of(vec![7; 70_000]);
    let small = Blob::of("small");
    let release = Release { hash: blob.hash };
    let row = |id, at| Op::from(thread_row(id, ThreadStatus::Running, at));
    let group = |steps: Vec<Step>| steps.into_iter().map(Arc::new).collect();
    vec![
        group(vec![step(A, 0, vec![prompt("a"), row(A, 1)]), step(B, 0, vec![prompt("b"), blob.into()])]),
        group(vec![step(A, 1, vec![prompt(&"x".repeat(9_000)), small.clone().into()])]),
        group(vec![step(B, 1, vec![prompt("c"), release.into()]), step(A, 2, vec![row(A, 2)])]),
        group(vec![step(A, 2, vec![prompt("d"), small.into(), row(A, 3)]), step(B, 2, vec![prompt("e")])]),
    ]
}

/// What a reader sees, but the numbers of commits: a group that was taken apart has more of them.
fn seen(bench: &Bench) -> Vec<String> {
    bench.read(|reading| {
        let events = [A, B].into_iter().flat_map(|thread| reading.events(thread, Seq::ZERO, 100).unwrap());
        let rows = ["threads", "blobs"].into_iter().flat_map(|table| reading.dump(table, None, 100).unwrap().items);
        events.map(|event| format!("{event:?}")).chain(rows.map(|row| row.to_string())).collect()
    })
}

/// Does what of the script is not done yet. Errors must be of the expected kind.
fn work(bench: &Bench, done: &mut usize, expected: Option<Failure>) {
    let told = |error: &StoreError| match expected {
        Some(Failure::Broken) => assert!(matches!(error, StoreError::Io(_)), "{error:?}"),
        Some(Failure::Full) => assert_eq!(error, &StoreError::Full),
        None => panic!("nothing fails any more: {error}"),
    };
    let (writer, opened) = match bench.try_writer() {
        Ok(opened) => opened,
        Err(error) => return told(&error),
    };
    assert_eq!(opened.salvaged, None, "a disk that fails is no damaged file");
    for group in script().iter().skip(*done) {
        // What is not known to be done is sent again, as senders do.
        let results = writer.commit(group);
        if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
            return told(error);
        }
        *done += 1;
    }
}

fn at_each_operation(how: Failure, large_from: u64) {
    let new = || {
        let mut bench = Bench::in_memory();
        bench.store.large_from(large_from);
        bench
    };
    let whole = new();
    whole.store.disk().fail(how, Faulty::Only(0));
    let mut all = 0;
    work(&whole, &mut all, None);
    assert_eq!(all, script().len());
    let operations = whole.store.disk().heal();
    assert!(operations > 10, "{operations}");
    let expected = {
        let _writer = whole.writer();
        seen(&whole)
    };
    for n in 1..=operations {
        for which in [Faulty::Only(n), Faulty::From(n)] {
            let bench = new();
            bench.store.disk().fail(how, which);
            let mut done = 0;
            work(&bench, &mut done, Some(how));
            bench.store.disk().heal();
            let acknowledged = done;
            work(&bench, &mut done, None);
            let _writer = bench.writer();
            assert_eq!(seen(&bench), expected, "{how:?} {which:?}, {acknowledged} groups were acknowledged");
            assert_eq!(bench.verify(), [], "{which:?}");
            let aside = std::fs::read_dir(bench.data()).unwrap().map(|file| file.unwrap().file_name());
            assert!(!aside.into_iter().any(|name| name.to_string_lossy().contains("corrupt")), "{which:?}");
        }
    }
}

#[test]
fn an_error_of_the_disk_at_any_operation_loses_nothing_of_a_small_file() {
    at_each_operation(Failure::Broken, u64::MAX);
}

#[test]
fn an_error_of_the_disk_at_any_operation_loses_nothing_of_a_large_file() {
    at_each_operation(Failure::Broken, 0);
}

#[test]
fn a_disk_that_is_full_at_any_write_loses_nothing() {
    at_each_operation(Failure::Full, u64::MAX);
    at_each_operation(Failure::Full, 0);
}

#[test]
fn on_a_disk_that_can_only_be_read_reads_go_on_and_writes_when_it_is_back() {
    for large_from in [u64::MAX, 0] {
        let mut bench = Bench::in_memory();
        bench.store.large_from(large_from);
        let writer = bench.writer();
        one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
        bench.store.disk().read_only(true);
        for _ in 0..2 {
            assert!(matches!(one(&writer, step(A, 1, vec![prompt("b")])), Err(StoreError::Io(_))));
            assert_eq!(bench.read(|r| texts(&r.events(A, Seq::ZERO, 10).unwrap())), ["1 a"]);
        }
        bench.store.disk().read_only(false);
        one(&writer, step(A, 1, vec![prompt("b")])).unwrap();
        assert_eq!(bench.read(|r| texts(&r.events(A, Seq::ZERO, 10).unwrap())), ["1 a", "2 b"]);
        assert_eq!(bench.verify(), []);
    }
}
