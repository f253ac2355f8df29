//! Opening: whole, made new, set aside or refused.

use std::os::unix::fs::PermissionsExt;

use super::super::key::Only;
use super::super::row::encode;
use super::*;

fn filled(bench: &Bench) {
    let writer = bench.writer();
    for thread in 1..=40_u64 {
        let id = ThreadId(u128::from(thread));
        let ops = vec![
            prompt(&"x".repeat(300)),
            thread_row(id, ThreadStatus::Running, thread).into(),
            Blob::of(thread.to_string()).into(),
        ];
        one(&writer, step(id, 0, ops)).unwrap();
    }
}

#[test]
fn a_new_database_is_made_for_its_owner_alone() {
    let bench = Bench::new();
    let (_writer, opened) = bench.try_writer().unwrap();
    assert_eq!(opened, Opened { generation: 1, created: true, salvaged: None });
    assert_eq!(std::fs::metadata(bench.data()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!bench.data().join("lakitu.redb.new").exists());
}

#[test]
fn a_database_that_is_gone_or_empty_is_refused_where_there_was_one() {
    let bench = Bench::new();
    drop(bench.writer());
    let file = bench.data().join("lakitu.redb");
    std::fs::write(&file, "").unwrap();
    let refused = |bench: &Bench| matches!(bench.try_writer(), Err(StoreError::Missing { generation: 1, .. }));
    assert!(refused(&bench));
    assert_eq!(std::fs::read(&file).unwrap(), b"", "it is left as it is");
    std::fs::remove_file(&file).unwrap();
    assert!(refused(&bench));
    assert!(!file.exists());
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let bench = Bench::new();
    drop(bench.writer());
    let (file, stamp) = (bench.data().join("lakitu.redb"), bench.data().join("store.stamp"));
    let newer = MetaRow { format: FORMAT + 1, ..MetaRow::default() };
    bench.tamper(
        |table| drop(table.insert(Only.bytes().as_slice(), encode(&newer).unwrap().as_slice()).unwrap()),
        "meta",
    );
    let too_new = StoreError::TooNew { found: FORMAT + 1, known: FORMAT };
    assert_eq!(bench.try_writer().err(), Some(too_new.clone()), "by the row");
    std::fs::write(&stamp, format!(r#"{{"format":{},"generation":1,"created_at":1}}"#, FORMAT + 1)).unwrap();
    let before = std::fs::read(&file).unwrap();
    assert_eq!(bench.try_writer().err(), Some(too_new.clone()), "by the stamp");
    // A process that could not start keeps the directory until it ends.
    *bench.store.args().opening.shared.owner.try_lock().unwrap() = None;
    assert_eq!(OpenStore::read_only(bench.data()).err(), Some(too_new));
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let bench = Bench::new();
    let writer = bench.writer();
    let busy = Some(StoreError::Busy { pid: std::process::id() });
    let other = Bench {
        _dir: tempfile::tempdir().unwrap(),
        clock: bench.clock.clone(),
        store: store_on(bench.data(), bench.clock.clone()),
    };
    assert_eq!(other.try_writer().err(), busy);
    assert_eq!(OpenStore::read_only(bench.data()).err(), busy);
    writer.leave();
    drop(writer);
    OpenStore::read_only(bench.data()).unwrap().read().unwrap().tables().unwrap();
    drop(other.writer());
}

#[test]
fn a_damaged_file_is_set_aside_and_what_can_be_read_is_saved() {
    let bench = Bench::new();
    filled(&bench);
    let file = bench.data().join("lakitu.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // Every page that holds one of the threads' blobs' or prompts' rows is a candidate: one bit of one of them.
    let at = bytes.windows(300).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (writer, opened) = bench.try_writer().unwrap();
    let salvaged = opened.salvaged.expect("the damage is noticed at once");
    assert_eq!(std::fs::read(&salvaged.set_aside).unwrap()[4096..], bytes[4096..], "the damaged file is kept");
    assert_eq!(salvaged.lost.len(), 1, "{salvaged:?}");
    assert_eq!(salvaged.incomplete, Vec::<String>::new());
    assert_eq!(opened.generation, 2);
    let threads = bench.read(|r| r.threads_by(&ThreadsBy::All, 100, None).unwrap().items.len());
    assert_eq!(threads, 40);
    // Subscribers read the rows again.
    assert!(matches!(bench.read(|r| r.changes(40, 10)), Err(StoreError::Truncated { .. })));
    let lost: Vec<_> = bench.verify().into_iter().map(|finding| finding.table).collect();
    assert_eq!(lost, ["threads"], "its journal is gone, nothing else");
    one(&writer, step(B, 0, vec![prompt("goes on")])).unwrap_err();
    one(&writer, step(ThreadId(99), 0, vec![prompt("goes on")])).unwrap();
}

#[test]
fn a_file_of_nonsense_or_a_cut_one_is_set_aside_too() {
    for cut in [None, Some(5_000), Some(100)] {
        let bench = Bench::new();
        filled(&bench);
        let file = bench.data().join("lakitu.redb");
        let bytes = cut.map_or_else(|| vec![42; 9_000], |cut| std::fs::read(&file).unwrap()[..cut].to_vec());
        std::fs::write(&file, &bytes).unwrap();
        let (writer, opened) = bench.try_writer().unwrap();
        let salvaged = opened.salvaged.unwrap();
        assert_eq!(std::fs::metadata(&salvaged.set_aside).unwrap().len(), bytes.len() as u64, "{cut:?}");
        assert!(!salvaged.incomplete.is_empty());
        assert!(opened.generation > 1_000, "numbers go on above all that were given out");
        assert!(one(&writer, step(A, 0, vec![prompt("goes on")])).unwrap().commit > 1_000);
    }
}

#[test]
fn any_single_damage_is_noticed_or_harmless() {
    let bench = Bench::new();
    filled(&bench);
    let file = bench.data().join("lakitu.redb");
    let whole = std::fs::read(&file).unwrap();
    let rows = |bench: &Bench| bench.read(|r| r.tables().unwrap().into_iter().map(|t| t.rows).sum::<u64>());
    let all = {
        let _writer = bench.writer();
        rows(&bench)
    };
    // A few hundred places, spread over the file.
    for n in 0..150 {
        let mut bytes = whole.clone();
        let at = (n * 7_919_777) % bytes.len();
        bytes[at] ^= 1 << (n % 8);
        std::fs::write(&file, &bytes).unwrap();
        match bench.try_writer() {
            Ok((writer, opened)) => {
                let (count, findings) = (rows(&bench), bench.verify());
                let told = opened.salvaged.is_some();
                assert!(
                    told || (count == all && findings.is_empty()),
                    "byte {at}: {count} of {all} rows, {findings:?}"
                );
                drop(writer);
            }
            Err(error) => assert!(matches!(error, StoreError::Io(_) | StoreError::TooNew { .. }), "byte {at}: {error}"),
        }
    }
}

#[test]
fn a_crash_before_the_close_loses_nothing() {
    let bench = Bench::new();
    let writer = bench.writer();
    one(&writer, step(A, 0, vec![prompt("a")])).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in ["lakitu.redb", "store.stamp"] {
        std::fs::copy(bench.data().join(name), copy.path().join(name)).unwrap();
    }
    let other = Bench { store: store_on(copy.path(), bench.clock.clone()), _dir: copy, clock: bench.clock.clone() };
    let (_writer, opened) = other.try_writer().unwrap();
    assert_eq!(opened, Opened { generation: 2, created: false, salvaged: None });
    assert_eq!(other.read(|r| texts(&r.events(A, Seq::ZERO, 10).unwrap())), ["1 a"]);
    assert_eq!(other.verify(), []);
}
