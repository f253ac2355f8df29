//! Random steps against a plain model: rows, indexes and feed agree.

use std::collections::{BTreeMap, BTreeSet};

use lakitu_kernel::Hash;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Do {
    Prompt(u8),
    Thread(u8),
    Job(u8, bool),
    Blob(u8),
    Release(u8),
    Refused,
    Fails,
}

fn doing() -> impl Strategy<Value = Do> {
    prop_oneof![
        any::<u8>().prop_map(Do::Prompt),
        (0..6_u8).prop_map(Do::Thread),
        (0..4_u8, any::<bool>()).prop_map(|(n, ended)| Do::Job(n, ended)),
        (0..3_u8).prop_map(Do::Blob),
        (0..3_u8).prop_map(Do::Release),
        Just(Do::Refused),
        Just(Do::Fails),
    ]
}

#[derive(Default)]
struct Model {
    events: BTreeMap<ThreadId, usize>,
    threads: BTreeMap<ThreadId, (ThreadStatus, u64)>,
    jobs: BTreeMap<(ThreadId, u64), bool>,
    blobs: BTreeMap<Hash, u64>,
}

fn blob(n: u8) -> Blob {
    // The last of them needs a file.
    Blob::of(vec![n; if n == 2 { 70_000 } else { 10 }])
}

fn op(thread: ThreadId, what: &Do, stamp: u64) -> Op {
    match what {
        Do::Prompt(n) => prompt(&n.to_string()),
        Do::Thread(status) => thread_row(thread, ThreadStatus::ALL[usize::from(*status)], stamp).into(),
        Do::Job(n, ended) => JobRow {
            thread,
            seq: Seq(u64::from(*n)),
            command: "ls".to_owned(),
            cwd: ".".to_owned(),
            boot_id: "b".to_owned(),
            attempt: 1,
            state: if *ended { JobState::Ended } else { JobState::Running },
            end: String::new(),
            started_at: Timestamp(stamp),
            ended_at: None,
            bytes: 0,
            timeout_ms: None,
        }
        .into(),
        Do::Blob(n) => blob(*n).into(),
        Do::Release(n) => Release { hash: blob(*n).hash }.into(),
        Do::Refused => Fault::Refuse.into(),
        Do::Fails => Fault::Fail.into(),
    }
}

impl Model {
    fn apply(&mut self, thread: ThreadId, whats: &[Do], stamp: u64) {
        for what in whats {
            match what {
                Do::Prompt(_) | Do::Refused => *self.events.entry(thread).or_default() += 1,
                Do::Thread(status) => {
                    self.threads.insert(thread, (ThreadStatus::ALL[usize::from(*status)], stamp));
                }
                Do::Job(n, ended) => drop(self.jobs.insert((thread, u64::from(*n)), *ended)),
                Do::Blob(n) => *self.blobs.entry(blob(*n).hash).or_default() += 1,
                Do::Release(n) => {
                    let hash = blob(*n).hash;
                    if let Some(refs) = self.blobs.get_mut(&hash) {
                        *refs -= 1;
                        if *refs == 0 {
                            self.blobs.remove(&hash);
                        }
                    }
                }
                Do::Fails => unreachable!("a step that fails is not applied"),
            }
        }
    }

    fn check(&self, bench: &Bench) {
        bench.read(|r| {
            for thread in [A, B] {
                let count = self.events.get(&thread).copied().unwrap_or(0);
                assert_eq!(r.events(thread, Seq::ZERO, 10_000).unwrap().len(), count);
                let jobs: Vec<_> = r.jobs(thread).unwrap().iter().map(|job| (thread, job.seq.0)).collect();
                assert_eq!(jobs, self.jobs.keys().filter(|key| key.0 == thread).copied().collect::<Vec<_>>());
                let one = |n| r.job(thread, Seq(n)).unwrap().map(|job| (job.thread, job.seq.0));
                let expected = |n| self.jobs.contains_key(&(thread, n)).then_some((thread, n));
                (0..=10).for_each(|n| assert_eq!(one(n), expected(n)));
            }
            for status in ThreadStatus::ALL {
                let page = r.threads_by(&ThreadsBy::Status(status), 10, None).unwrap().items;
                let found: BTreeSet<_> = page.iter().map(|row| (row.id, row.updated_at.0)).collect();
                let expected = self.threads.iter().filter(|(_, row)| row.0 == status).map(|(id, row)| (*id, row.1));
                assert_eq!(found, expected.collect());
            }
            let open: BTreeSet<_> = r.open_jobs().unwrap().iter().map(|job| (job.thread, job.seq.0)).collect();
            assert_eq!(open, self.jobs.iter().filter(|(_, ended)| !**ended).map(|(key, _)| *key).collect());
            let blobs = r.dump("blobs", None, 10).unwrap().items;
            let blobs: BTreeMap<_, _> = blobs
                .iter()
                .map(|row| (row["key"].as_str().unwrap().to_owned(), row["row"]["refs"].as_u64().unwrap()))
                .collect();
            assert_eq!(blobs, self.blobs.iter().map(|(hash, refs)| (hash.to_string(), *refs)).collect());
            self.check_feed(r);
        });
        let findings = bench.verify();
        let settled = |finding: &Finding| finding.what.contains("has no result");
        assert!(findings.iter().all(settled), "{findings:?}");
    }

    /// Whoever follows the feed has the same keys as whoever reads the rows.
    fn check_feed(&self, reading: &Reading) {
        let mut known: BTreeSet<(String, String)> = BTreeSet::new();
        let mut after = 0;
        loop {
            let changes = reading.changes(after, 3).unwrap();
            let Some(last) = changes.last() else { break };
            assert!(changes.is_sorted_by_key(|change| (change.commit, change.n)) && changes[0].commit > after);
            after = last.commit;
            for change in changes {
                let key = (change.table, change.key);
                match change.op {
                    ChangeOp::Put => drop(known.insert(key)),
                    ChangeOp::Delete => assert!(known.remove(&key), "{key:?} was never put"),
                }
            }
        }
        let threads = self.threads.keys().map(|id| ("threads".to_owned(), id.to_string()));
        let jobs = self.jobs.keys().map(|key| ("jobs".to_owned(), (key.0, Seq(key.1)).text()));
        let blobs = self.blobs.keys().map(|hash| ("blobs".to_owned(), hash.to_string()));
        assert_eq!(known, threads.chain(jobs).chain(blobs).collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(
        groups in proptest::collection::vec(
            proptest::collection::vec((any::<bool>(), proptest::collection::vec(doing(), 0..5)), 1..4),
            1..8,
        ),
    ) {
        let bench = Bench::new();
        let mut writer = bench.writer();
        let (mut model, mut stamp) = (Model::default(), 0);
        for (round, group) in groups.into_iter().enumerate() {
            if round % 3 == 2 {
                drop(writer);
                writer = bench.writer();
            }
            let mut steps = Vec::new();
            for (first, whats) in group {
                let thread = if first { A } else { B };
                stamp += 1;
                let expected = model.events.get(&thread).copied().unwrap_or(0) as u64;
                // A blob under its own key makes two quiet steps differ.
                let ops = whats.iter().map(|what| op(thread, what, stamp)).chain([op(thread, &Do::Thread(0), stamp)]).collect();
                steps.push(Arc::new(step(thread, expected, ops)));
                if !whats.iter().any(|what| matches!(what, Do::Fails)) {
                    let whats: Vec<_> = whats.into_iter().chain([Do::Thread(0)]).collect();
                    model.apply(thread, &whats, stamp);
                }
            }
            let results = writer.commit(&steps);
            let again = writer.commit(&steps);
            for ((step, result), again) in steps.iter().zip(results).zip(again) {
                let fails = step.ops.iter().any(|op| matches!(op, Op::Fault(Fault::Fail)));
                prop_assert_eq!(result.is_err(), fails, "{:?}", result);
                if !fails {
                    prop_assert_eq!(result, again, "sent again");
                }
            }
            model.check(&bench);
        }
    }
}
