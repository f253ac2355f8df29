//! What clients ask of public tables, against a plain model: rows by any index, pages, and what subscribers are told.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::blob_files::BlobFiles;
use super::super::query::{Query, Told, public};
use super::super::write::Tables;
use super::*;

/// A bead as its fields have it: its name, and what it is found by.
#[derive(Debug, Clone, PartialEq)]
struct Bead {
    status: &'static str,
    kind: &'static str,
    thread: Option<ThreadId>,
    parent: Option<u8>,
    waits_for: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Do {
    Put(u8, Bead),
    Delete(u8),
    /// A subscriber reads a list, or what changed.
    Look(usize),
}

fn name(n: u8) -> String {
    format!("b-{n}")
}

impl Bead {
    fn row(&self, n: u8) -> BeadRow {
        let waits: Vec<String> = self.waits_for.iter().copied().map(name).collect();
        serde_json::from_value(json!({
            "id": name(n), "title": "t", "type": self.kind, "status": self.status, "priority": 2,
            "threadId": self.thread, "parentId": self.parent.map(name), "blockedBy": waits,
            "createdAt": u64::from(n) / 2, "updatedAt": 0,
        }))
        .unwrap()
    }

    /// Whether it is one of those that this question is for.
    fn is(&self, index: Option<&str>, eq: Option<&Value>) -> bool {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        match (index, eq) {
            (None | Some("by_created"), _) => true,
            (Some("by_ready"), _) => self.status == "open",
            (Some("by_status"), Some(eq)) => text(eq) == self.status,
            (Some("by_type_and_status"), Some(Value::Array(both))) => {
                text(&both[0]) == self.kind && both.get(1).is_none_or(|status| text(status) == self.status)
            }
            (Some("by_thread"), Some(eq)) => self.thread.is_some_and(|thread| thread.to_string() == text(eq)),
            (Some("by_thread"), None) => self.thread.is_some(),
            (Some("by_parent"), Some(eq)) => self.parent.is_some_and(|parent| name(parent) == text(eq)),
            (Some("by_blocker"), Some(eq)) => self.waits_for.iter().any(|other| name(*other) == text(eq)),
            other => panic!("{other:?}"),
        }
    }
}

fn questions() -> Vec<(Option<&'static str>, Option<Value>)> {
    vec![
        (None, None),
        (Some("by_created"), None),
        (Some("by_ready"), None),
        (Some("by_status"), Some(json!("open"))),
        (Some("by_type_and_status"), Some(json!(["bug"]))),
        (Some("by_type_and_status"), Some(json!(["bug", "closed"]))),
        (Some("by_thread"), Some(json!(A.to_string()))),
        (Some("by_thread"), None),
        (Some("by_parent"), Some(json!("b-1"))),
        (Some("by_blocker"), Some(json!("b-2"))),
    ]
}

fn bead() -> impl Strategy<Value = Bead> {
    let parts = (
        prop::sample::select(vec!["open", "closed", "in_progress"]),
        prop::sample::select(vec!["bug", "task"]),
        prop::option::of(prop::sample::select(vec![A, B])),
        prop::option::of(0..3_u8),
        prop::sample::subsequence(vec![1_u8, 2, 3], 0..3),
    );
    parts.prop_map(|(status, kind, thread, parent, waits_for)| Bead { status, kind, thread, parent, waits_for })
}

fn doing() -> impl Strategy<Value = Do> {
    prop_oneof![
        4 => (0..6_u8, bead()).prop_map(|(n, bead)| Do::Put(n, bead)),
        1 => (0..6_u8).prop_map(Do::Delete),
        2 => (0..10_usize).prop_map(Do::Look),
    ]
}

/// Whoever reads a list once, and from then on what changed of it.
#[derive(Default)]
struct Subscriber {
    at: Option<u64>,
    rows: BTreeMap<String, Value>,
}

impl Subscriber {
    fn look(&mut self, query: &Query, reading: &Reading) {
        let Some(at) = self.at else {
            let (mut cursor, mut commit) = (None, 0);
            loop {
                let page = query.page(reading, 2, cursor.as_deref()).unwrap();
                let rows = page.items.into_iter().map(|row| (row["_id"].as_str().unwrap().to_owned(), row));
                self.rows.extend(rows);
                (cursor, commit) = (page.cursor, commit.max(page.commit));
                if cursor.is_none() {
                    self.at = Some(commit);
                    return;
                }
            }
        };
        let found = query.changes(reading, at, 1).unwrap();
        for change in found.items {
            match change.told {
                Told::Put { row } => drop(self.rows.insert(change.id, row)),
                // One that came and went between two looks was never known.
                Told::Leave | Told::Delete => drop(self.rows.remove(&change.id)),
            }
        }
        assert!(found.upto > at || !found.more);
        self.at = Some(found.upto);
        if found.more {
            self.look(query, reading);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 256, ..ProptestConfig::default() })]

    #[test]
    fn lists_pages_and_subscribers_agree_with_the_model(
        commits in proptest::collection::vec(proptest::collection::vec(doing(), 1..5), 1..12),
    ) {
        let bench = Bench::new();
        drop(bench.writer());
        let database = redb::Database::open(bench.data().join("lakitu.redb")).unwrap();
        let files = BlobFiles::new(bench.data());
        let questions = questions();
        let queries: Vec<Query> =
            questions.iter().map(|(index, eq)| Query::new("beads", *index, eq.as_ref()).unwrap()).collect();
        let mut subscribers: Vec<Subscriber> = queries.iter().map(|_| Subscriber::default()).collect();
        let mut model: BTreeMap<u8, Bead> = BTreeMap::new();
        for commit in commits {
            let txn = database.begin_write().unwrap();
            let mut tables = Tables::new(&txn, &files, Timestamp(1_000)).unwrap();
            for one in &commit {
                match one {
                    Do::Put(n, bead) => {
                        tables.put(&bead.row(*n)).unwrap();
                        model.insert(*n, bead.clone());
                    }
                    Do::Delete(n) => {
                        let there = tables.delete::<BeadRow>(&name(*n).parse().unwrap()).unwrap();
                        prop_assert_eq!(there, model.remove(n).is_some());
                    }
                    Do::Look(_) => {}
                }
            }
            tables.close().unwrap();
            txn.commit().unwrap();
            let reading = Reading::unbounded(redb::ReadableDatabase::begin_read(&database).unwrap(), &files);
            for one in &commit {
                if let Do::Look(who) = one {
                    subscribers[*who].look(&queries[*who], &reading);
                }
            }
        }
        let reading = Reading::unbounded(redb::ReadableDatabase::begin_read(&database).unwrap(), &files);
        for ((subscriber, query), (index, eq)) in subscribers.iter_mut().zip(&queries).zip(&questions) {
            subscriber.look(query, &reading);
            let are = model.iter().filter(|(_, bead)| bead.is(*index, eq.as_ref()));
            let expected: BTreeMap<String, Value> = are.map(|(n, bead)| (name(*n), bead.row(*n).json())).collect();
            prop_assert_eq!(&subscriber.rows, &expected, "{:?} {:?}", index, eq);
        }
    }
}

#[test]
fn a_question_that_cannot_be_asked_says_what_can() {
    let why = |table: &str, index: Option<&str>, eq: Option<Value>| {
        Query::new(table, index, eq.as_ref()).unwrap_err().to_string()
    };
    assert!(why("journal", None, None).contains("there are toolExecutions"), "not a public one");
    assert!(why("beads", Some("by_colour"), None).contains("by_status, by_type"));
    assert!(why("beads", None, Some(json!("x"))).contains("none is named; beads has by_status"));
    assert!(why("beads", Some("by_created"), Some(json!("x"))).contains("it is an order"));
    assert!(why("artifacts", Some("by_thread_and_name"), Some(json!([A, "n", "m"]))).contains("threadId, name, and"));
    for none in [json!([]), json!(7), json!(["bug", 7]), json!(null), json!({})] {
        assert!(why("beads", Some("by_type_and_status"), Some(none)).starts_with("`eq` is a JSON string"));
    }
}

#[test]
fn a_value_that_no_row_can_have_finds_none() {
    let bench = Bench::new();
    let _writer = bench.writer();
    for (table, index, eq) in [("artifacts", "by_thread", "nobody"), ("checkpoints", "by_status", "lost")] {
        let query = Query::new(table, Some(index), Some(&json!(eq))).unwrap();
        assert_eq!(bench.read(|r| query.page(r, 10, None).unwrap().items), Vec::<Value>::new());
        assert_eq!(bench.read(|r| query.changes(r, 0, 10).unwrap().items), []);
    }
}

/// The original's tables, as far as something writes them, with its indexes.
#[test]
fn the_originals_tables_have_its_indexes() {
    let own: [(&str, &[&str]); 7] = [
        ("beads", &["by_status", "by_type", "by_thread", "by_parent"]),
        ("fileState", &["by_path", "by_thread"]),
        ("editHistory", &["by_path", "by_thread"]),
        ("agentDecisions", &["by_thread"]),
        ("toolExecutions", &["by_thread", "by_tool"]),
        ("artifacts", &["by_name", "by_thread"]),
        ("checkpoints", &["by_session", "by_thread", "by_status"]),
    ];
    let mut names: Vec<&str> = public().collect();
    names.sort_unstable();
    let mut expected: Vec<&str> = own.iter().map(|(table, _)| *table).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for (table, indexes) in own {
        for index in indexes {
            Query::new(table, Some(index), None).unwrap();
        }
    }
}
