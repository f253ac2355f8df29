//! Steps: all or nothing, once.

use super::*;

#[test]
fn a_step_sent_again_is_answered_with_what_it_did() {
    let bench = Bench::new();
    let writer = bench.writer();
    let first = step(A, 0, vec![prompt("a"), prompt("b")]);
    let done = one(&writer, first.clone()).unwrap();
    assert_eq!(texts(&done.events), ["1 a", "2 b"]);
    one(&writer, step(A, 2, vec![prompt("c")])).unwrap();
    let again = one(&writer, first).unwrap();
    assert_eq!(again, done, "the commit that it was a part of, not a new one");
    assert_eq!(bench.read(|r| texts(&r.events(A, Seq::ZERO, 10).unwrap())), ["1 a", "2 b", "3 c"]);
    assert_eq!(bench.verify(), []);
}

#[test]
fn a_position_taken_by_another_step_is_ownership_lost_and_one_beyond_the_end_a_gap() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a"), prompt("b")])).unwrap();
    let lost = |expected| StoreError::OwnershipLost { thread: A, expected: Seq(expected), last: Seq(2) };
    assert_eq!(one(&writer, step(A, 0, vec![prompt("other")])), Err(lost(0)));
    assert_eq!(one(&writer, step(A, 1, vec![prompt("b")])), Err(lost(1)), "no step begins there");
    let gap = StoreError::Gap { thread: A, expected: Seq(3), last: Seq(2) };
    assert_eq!(one(&writer, step(A, 3, vec![prompt("d")])), Err(gap));
    assert_eq!(bench.read(|r| r.commit().unwrap()), 1, "a refused step makes no commit");
}

#[test]
fn a_step_without_events_is_done_once_too() {
    let bench = Bench::new();
    let writer = bench.writer();
    let blob = Blob::of("x");
    let hash = blob.hash;
    let quiet = step(A, 0, vec![blob.into()]);
    let done = one(&writer, quiet.clone()).unwrap();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    assert_eq!(one(&writer, quiet), Ok(done));
    assert_eq!(bench.read(|r| r.get("blobs", &hash.to_string()).unwrap().unwrap()["refs"].clone()), 1);
    let late = one(&writer, step(A, 0, vec![Blob::of("y").into()]));
    assert!(matches!(late, Err(StoreError::OwnershipLost { .. })), "{late:?}");
}

#[test]
fn a_steps_bound_is_exact() {
    let bench = Bench::new();
    let writer = bench.writer();
    let max = lakitu_kernel::limits::STEP_EVENTS_MAX;
    let ops = |n| (0..n).map(|_| prompt("p")).collect::<Vec<_>>();
    assert_eq!(one(&writer, step(A, 0, ops(max + 1))), Err(StoreError::TooLarge { events: max + 1, max }));
    assert_eq!(one(&writer, step(A, 0, ops(max))).unwrap().events.len(), max);
}

#[test]
fn a_refusal_is_the_ops_event_and_the_step_goes_on() {
    let bench = Bench::new();
    let writer = bench.writer();
    let done = one(&writer, step(A, 0, vec![prompt("a"), Fault::Refuse.into(), Fault::Allow.into(), prompt("b")]));
    let told = texts(&done.unwrap().events);
    assert_eq!(told[1], r#"2 Stalled { reason: "CONFLICT: claimed by another thread" }"#);
    assert_eq!(told[2], r#"3 Stalled { reason: "claimed" }"#);
    assert_eq!(told[3], "4 b");
}

#[test]
fn a_panic_or_an_error_inside_an_op_hits_only_the_guilty_step() {
    for fault in [Fault::Panic, Fault::Fail] {
        let bench = Bench::new();
        let writer = bench.writer();
        let group: Vec<_> = [
            step(A, 0, vec![prompt("a")]),
            step(B, 0, vec![prompt("half"), Blob::of("half").into(), fault.into()]),
            step(A, 1, vec![prompt("b")]),
        ]
        .map(Arc::new)
        .into();
        let results = writer.commit(&group);
        assert_eq!(texts(&results[0].as_ref().unwrap().events), ["1 a"]);
        assert!(matches!(&results[1], Err(StoreError::Io(_))), "{results:?}");
        assert_eq!(texts(&results[2].as_ref().unwrap().events), ["2 b"]);
        assert_eq!(bench.read(|r| r.last_seq(B).unwrap()), Seq::ZERO, "nothing is half-written");
        assert_eq!(bench.read(|r| r.dump("blobs", None, 10).unwrap().items.len()), 0);
        assert_eq!(bench.verify(), []);
    }
}

#[test]
fn steps_of_one_group_share_a_commit_and_see_each_other() {
    let bench = Bench::new();
    let writer = bench.writer();
    let group: Vec<_> = (0..3).map(|n| Arc::new(step(A, n, vec![prompt("p")]))).collect();
    let commits: Vec<_> = writer.commit(&group).into_iter().map(|done| done.unwrap().commit).collect();
    assert_eq!(commits, [1, 1, 1]);
}

#[test]
fn a_failed_flush_is_survived_and_the_step_done_once() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    bench.store.disk().fail_flushes(1);
    let done = one(&writer, step(A, 1, vec![prompt("b")])).unwrap();
    assert_eq!(texts(&done.events), ["2 b"]);
    assert_eq!(bench.read(|r| texts(&r.events(A, Seq::ZERO, 10).unwrap())), ["1 a", "2 b"]);
    bench.store.disk().fail_flushes(100);
    assert!(matches!(one(&writer, step(A, 2, vec![prompt("c")])), Err(StoreError::Io(_))));
    bench.store.disk().fail_flushes(0);
    one(&writer, step(A, 2, vec![prompt("c")])).unwrap();
    assert_eq!(bench.verify(), []);
}

#[test]
fn on_a_full_disk_the_ballast_goes_writers_are_told_and_reads_go_on() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    writer.keep_ballast();
    let ballast = bench.data().join("ballast");
    assert!(ballast.exists());
    bench.store.disk().full(true);
    assert_eq!(one(&writer, step(A, 1, vec![prompt("b")])), Err(StoreError::Full));
    assert!(!ballast.exists());
    assert_eq!(bench.read(|r| texts(&r.events(A, Seq::ZERO, 10).unwrap())), ["1 a"]);
    assert_eq!(one(&writer, step(A, 1, vec![prompt("b")])), Err(StoreError::Full));
    bench.store.disk().full(false);
    one(&writer, step(A, 1, vec![prompt("b")])).unwrap();
    assert_eq!(bench.verify(), []);
}
