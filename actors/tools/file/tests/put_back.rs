//! Files are put back to versions, all of them or none.

use proptest::prelude::*;

use super::*;
use lakitu_kernel::edit::{FileKind, Version};

use crate::tools::workspace::{Content, temp_name};

type State = Option<(u32, Vec<u8>)>;

impl Bench {
    fn restoring(&mut self) -> Ask {
        self.seq += 1;
        let call = ToolCall {
            thread: ThreadId(1),
            intent: Seq(self.seq),
            call_id: String::new(),
            tool: "rollback",
            arguments: json!(null),
            start: 1,
        };
        Ask { call, place: self.place.clone(), known: Known::default(), lease: None }
    }

    fn state(&self, below: &str) -> State {
        let bytes = std::fs::read(self.path(below)).ok()?;
        Some((self.path(below).metadata().unwrap().permissions().mode() & 0o7777, bytes))
    }

    fn set(&self, below: &str, state: &State) {
        let _ = std::fs::remove_file(self.path(below));
        if let Some((mode, bytes)) = state {
            self.put(below, bytes);
            std::fs::set_permissions(self.path(below), std::fs::Permissions::from_mode(*mode)).unwrap();
        }
    }

    async fn put_back(&mut self, files: Vec<PutBack>) -> Result<ToolOutcome, ToolError> {
        let ask = self.restoring();
        let prepared = self.tools.prepare_put_back(&ask, files).await?;
        Ok(self.tools.put_back(&ask, &prepared.redo).await)
    }
}

fn version(state: &State) -> Option<Version> {
    state.as_ref().map(|(mode, bytes)| Version { kind: FileKind::File, mode: *mode, hash: Hash::of(bytes) })
}

fn back(path: &str, found: &State, to: &State) -> PutBack {
    let to = to.clone().map(|(mode, bytes)| Content { kind: FileKind::File, mode, bytes: bytes.into() });
    PutBack { path: path.to_owned(), found: Found::Only(version(found)), to }
}

fn states() -> impl Strategy<Value = State> {
    let bytes = prop_oneof![
        Just(Vec::new()),
        Just(b"\xef\xbb\xbfone\r\ntwo\r\n".to_vec()),
        Just(b"caf\xe9\n\0".to_vec()),
        Just(vec![b'x'; 1024 * 1024]),
        "([ab]?(\r?\n)?){0,8}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..64),
    ];
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o600), Just(0o444), Just(0o2755)];
    prop::option::weighted(0.8, (mode, bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// A file goes through any versions; taken back from the last to the first it is each of them again, to the byte and the
    /// bit, and whoever is killed over it finds one of both.
    #[test]
    fn any_history_is_taken_back_step_by_step(history in prop::collection::vec(states(), 2..6)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut bench = bench();
            bench.set("a", history.last().unwrap());
            for pair in history.windows(2).rev() {
                let ask = bench.restoring();
                let prepared = bench.tools.prepare_put_back(&ask, vec![back("a", &pair[1], &pair[0])]).await.unwrap();
                prop_assert_eq!(bench.state("a"), pair[1].clone(), "nothing is written by looking");
                let live = bench.tools.put_back(&ask, &prepared.redo).await;
                prop_assert_eq!(&live.error, &None);
                prop_assert_eq!(bench.state("a"), pair[0].clone());
                // As a runtime does that finds the record after a crash: before its effect, and behind it.
                drop(prepared.locks);
                for found in pair {
                    bench.set("a", found);
                    let settled = bench.tools.recover(&ask, Some(&prepared.redo)).await;
                    prop_assert_eq!(settled, Settled::Outcome(live.clone()));
                    prop_assert_eq!(bench.state("a"), pair[0].clone());
                }
            }
            Ok(())
        })?;
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of the states there are")]
fn of(text: &str) -> State {
    Some((0o644, text.into()))
}

#[tokio::test]
async fn of_many_files_none_is_put_back_where_one_is_another_and_each_such_one_is_named() {
    let mut bench = bench();
    for (name, now) in [("a", "2"), ("b", "mine"), ("d", "2")] {
        bench.set(name, &of(now));
    }
    let files = vec![
        back("a", &of("2"), &of("1")),
        back("b", &of("2"), &of("1")),
        back("c", &of("2"), &of("1")),
        // Where it is to be already, by whomever.
        back("d", &of("3"), &of("2")),
    ];
    let error = bench.put_back(files).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(error.message.ends_with("nothing was put back: b, c"), "{error}");
    assert_eq!((bench.state("a"), bench.state("b")), (of("2"), of("mine")));

    symlink("a", bench.path("c")).unwrap();
    std::fs::create_dir(bench.path("e")).unwrap();
    let files = vec![back("c", &of("2"), &of("1")), back("e", &None, &of("1"))];
    let error = bench.put_back(files).await.unwrap_err();
    assert!(error.message.ends_with("nothing was put back: c, e"), "{error}");
    // Nor is a link followed out of the workspace.
    symlink("/tmp", bench.path("out")).unwrap();
    assert!(bench.put_back(vec![back("out/x", &None, &of("1"))]).await.is_err());
    assert!(bench.put_back(vec![back("../x", &None, &of("1"))]).await.is_err());
}

#[tokio::test]
async fn many_files_are_put_back_from_wherever_a_kill_left_them() {
    let (before, after) = ([of("1"), None, Some((0o755, b"x".to_vec()))], [of("2"), of("new"), of("x")]);
    let names = ["a", "b", "c"];
    for done in 0..8_u8 {
        let mut bench = bench();
        names.iter().zip(&after).for_each(|(name, state)| bench.set(name, state));
        let files = (0..3).map(|n| back(names[n], &after[n], &before[n])).collect();
        let ask = bench.restoring();
        let redo = bench.tools.prepare_put_back(&ask, files).await.unwrap().redo;
        for n in (0..3).filter(|n| done & (1 << n) != 0) {
            bench.set(names[n], &before[n]);
        }
        bench.put(&temp_name(ask.call.thread, ask.call.intent), "half");
        let Settled::Outcome(outcome) = bench.tools.recover(&ask, Some(&redo)).await else { panic!("not settled") };
        assert_eq!(outcome.error, None, "{done}");
        assert_eq!(outcome.changes.files.len(), 3, "{done}");
        assert_eq!(names.map(|name| bench.state(name)), before, "{done}");
        assert_eq!(bench.names(), ["a", "c"], "{done}");
    }
}
