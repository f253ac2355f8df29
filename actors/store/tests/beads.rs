//! Beads: what becomes of changes, against a plain model, among many who claim, and in a large graph.

use std::cell::Cell;
use std::collections::BTreeSet;

use lakitu_kernel::limits::{BEAD_DESCRIPTION_CHARS_MAX, BEAD_TITLE_CHARS_MAX};
use lakitu_kernel::{BeadStatus, ErrorCode, ToolError};
use proptest::prelude::*;

use super::*;
use crate::planning::change as change_beads;
use crate::planning::{BeadPatch, Change, Changed, Done, ImportLine, Imported, NewBead, exported};
use crate::store::row::{Source, Visit, Walk};
use crate::store::tables::beads::ready;

/// A writer, and the number of the last change.
struct Desk {
    bench: Bench,
    writer: Writer,
    changes: u128,
}

fn new(title: &str) -> NewBead {
    NewBead {
        title: title.to_owned(),
        kind: None,
        priority: None,
        description: None,
        labels: vec![],
        parent_id: None,
        blocked_by: vec![],
    }
}

fn status(word: &str) -> BeadPatch {
    BeadPatch { status: Some(word.to_owned()), ..BeadPatch::default() }
}

impl Desk {
    fn new() -> Self {
        let bench = Bench::in_memory();
        Self { writer: bench.writer(), bench, changes: 0 }
    }

    fn ask(&mut self, by: &str, change: Change) -> Result<Done, ToolError> {
        self.changes += 1;
        let (key, at) = (BeadKey::Person(self.changes), Timestamp(1_000 + u64::try_from(self.changes).unwrap()));
        one(&self.writer, step(ThreadId(0), 0, vec![ChangeBeads { key, by: by.to_owned(), at, change }.into()]))
            .unwrap();
        self.bench.read(|reading| reading.bead_answer(key).unwrap().unwrap().answer)
    }

    fn bead(&mut self, by: &str, change: Change) -> Result<Changed, ToolError> {
        match self.ask(by, change)? {
            Done::Bead(changed) => Ok(*changed),
            Done::Imported(_) => panic!("an import"),
        }
    }

    fn create(&mut self, new: NewBead) -> String {
        self.bead("ann", Change::Create(new)).unwrap().id.to_string()
    }

    fn update(&mut self, by: &str, id: &str, patch: BeadPatch) -> Result<Changed, ToolError> {
        self.bead(by, Change::Update { id: id.to_owned(), patch })
    }

    fn depend(&mut self, id: &str, on: &str) -> Result<Changed, ToolError> {
        self.bead("ann", Change::Depend { id: id.to_owned(), add: vec![on.to_owned()], remove: vec![] })
    }

    fn import(&mut self, text: &str) -> Imported {
        let lines = text.lines().zip(1..).map(|(text, number)| ImportLine { number, text: text.to_owned() }).collect();
        match self.ask("ann", Change::Import(lines)).unwrap() {
            Done::Imported(imported) => imported,
            Done::Bead(_) => panic!("one bead"),
        }
    }

    fn row(&self, id: &str) -> BeadRow {
        self.bench.read(|reading| reading.bead(&id.parse().unwrap()).unwrap().unwrap())
    }

    fn status_of(&self, id: &str) -> BeadStatus {
        self.row(id).status
    }

    fn ready(&self) -> Vec<String> {
        self.bench.read(|reading| {
            reading.beads_ready(100, None).unwrap().items.into_iter().map(|row| row.id.to_string()).collect()
        })
    }

    fn is_sound(&self) {
        assert_eq!(self.bench.verify(), vec![]);
    }
}

#[test]
fn closing_a_blocker_frees_what_waited_and_opening_it_again_blocks_it() {
    let mut desk = Desk::new();
    let (a, b) = (desk.create(new("a")), desk.create(new("b")));
    let c = desk.create(NewBead { blocked_by: vec![a.clone(), b.clone()], ..new("c") });
    assert_eq!((desk.status_of(&c), desk.ready()), (BeadStatus::Blocked, vec![a.clone(), b.clone()]));

    assert_eq!(desk.update("ann", &a, status("closed")).unwrap().freed, vec![]);
    let changed = desk.update("ann", &b, BeadPatch { reason: Some("done".into()), ..status("closed") }).unwrap();
    assert_eq!((changed.freed_count, changed.freed[0].to_string()), (1, c.clone()));
    assert_eq!((desk.status_of(&c), desk.ready()), (BeadStatus::Open, vec![c.clone()]));
    let closed = desk.row(&b);
    assert!(closed.closed_at.is_some() && closed.close_reason.as_deref() == Some("done"));

    assert!(desk.update("ann", &b, status("closed")).unwrap().unchanged, "closed twice is closed once");
    desk.update("ann", &b, status("open")).unwrap();
    let opened = desk.row(&b);
    assert!(opened.closed_at.is_none() && opened.close_reason.is_none());
    assert_eq!(desk.status_of(&c), BeadStatus::Blocked);
    desk.is_sound();
}

#[test]
fn a_ring_is_refused_and_shown() {
    let mut desk = Desk::new();
    let ids: Vec<String> = (0..4).map(|n| desk.create(new(&n.to_string()))).collect();
    for pair in ids.windows(2) {
        desk.depend(&pair[1], &pair[0]).unwrap();
    }
    let refused = desk.depend(&ids[0], &ids[3]).unwrap_err();
    assert_eq!(refused.code, ErrorCode::BeadCycle);
    let ring = format!("{} → {} → {} → {} → {}", ids[0], ids[3], ids[2], ids[1], ids[0]);
    assert!(refused.message.contains(&ring), "{refused}");
    let itself = desk.depend(&ids[0], &ids[0]).unwrap_err();
    assert!(itself.message.contains(&format!("{0} → {0}", ids[0])), "{itself}");

    let child = desk.create(NewBead { parent_id: Some(ids[0].clone()), ..new("child") });
    let patch = BeadPatch { parent_id: Some(child.clone()), ..BeadPatch::default() };
    assert_eq!(desk.update("ann", &ids[0], patch).unwrap_err().code, ErrorCode::BeadCycle);
    desk.is_sound();
}

#[test]
fn what_does_not_fit_is_refused_with_nothing_changed() {
    let mut desk = Desk::new();
    let id = desk.create(new(&"😀".repeat(BEAD_TITLE_CHARS_MAX)));
    let before = desk.row(&id);
    let create = |new| Change::Create(new);
    let update = |patch| Change::Update { id: id.clone(), patch };
    let with = BeadPatch::default;
    for (change, code) in [
        (create(new(&"😀".repeat(BEAD_TITLE_CHARS_MAX + 1))), ErrorCode::InvalidArguments),
        (create(new(" ")), ErrorCode::InvalidArguments),
        (create(new("two\nlines")), ErrorCode::InvalidArguments),
        (create(NewBead { priority: Some(5), ..new("x") }), ErrorCode::InvalidArguments),
        (create(NewBead { kind: Some("story".into()), ..new("x") }), ErrorCode::InvalidArguments),
        (create(NewBead { blocked_by: vec!["bd-none".into()], ..new("x") }), ErrorCode::BeadNotFound),
        (create(NewBead { parent_id: Some("bd-none".into()), ..new("x") }), ErrorCode::BeadNotFound),
        (
            update(BeadPatch { description: Some("ä".repeat(BEAD_DESCRIPTION_CHARS_MAX + 1)), ..with() }),
            ErrorCode::InvalidArguments,
        ),
        (update(BeadPatch { labels: Some(vec!["x".repeat(101)]), ..with() }), ErrorCode::InvalidArguments),
        (
            update(BeadPatch { labels: Some((0..51).map(|n| n.to_string()).collect()), ..with() }),
            ErrorCode::InvalidArguments,
        ),
        (
            update(BeadPatch { blocked_by: Some((0..101).map(|n| format!("b-{n}")).collect()), ..with() }),
            ErrorCode::InvalidArguments,
        ),
        (update(status("done")), ErrorCode::InvalidArguments),
        (update(status("blocked")), ErrorCode::InvalidArguments),
        (update(BeadPatch { reason: Some("why".into()), ..with() }), ErrorCode::Conflict),
        (Change::Update { id: "bd-none".into(), patch: status("open") }, ErrorCode::BeadNotFound),
        (Change::Update { id: "../x".into(), patch: status("open") }, ErrorCode::InvalidArguments),
    ] {
        let shown = format!("{change:?}");
        assert_eq!(desk.ask("ann", change).unwrap_err().code, code, "{shown}");
    }
    let longest = BeadPatch { description: Some("ä".repeat(BEAD_DESCRIPTION_CHARS_MAX)), ..with() };
    desk.update("ann", &id, longest).unwrap();
    assert_eq!(desk.row(&id).title, before.title);
    assert_eq!(desk.bench.read(|reading| reading.beads_after(None, 10).unwrap().len()), 1);
}

#[test]
fn a_claim_is_taken_once_and_a_bead_that_waits_cannot_be_claimed() {
    let mut desk = Desk::new();
    let (a, b) = (desk.create(new("a")), desk.create(new("b")));
    desk.depend(&b, &a).unwrap();
    assert_eq!(desk.update("ann", &b, status("in_progress")).unwrap_err().code, ErrorCode::BeadBlocked);
    desk.update("ann", &a, status("in_progress")).unwrap();
    assert!(desk.update("ann", &a, status("in_progress")).unwrap().unchanged, "it is hers");
    let lost = desk.update("bob", &a, status("in_progress")).unwrap_err();
    assert!(lost.code == ErrorCode::BeadHeld && lost.message.contains("ann"), "{lost}");
    desk.update("bob", &a, status("open")).unwrap();
    desk.update("bob", &a, status("in_progress")).unwrap();
    assert_eq!(desk.row(&a).assignee.as_deref(), Some("bob"));
    // Blocked while it is held, it comes back to who held it.
    let c = desk.create(new("c"));
    desk.depend(&a, &c).unwrap();
    assert_eq!(desk.status_of(&a), BeadStatus::Blocked);
    desk.update("ann", &c, status("closed")).unwrap();
    assert_eq!((desk.status_of(&a), desk.row(&a).assignee.as_deref()), (BeadStatus::InProgress, Some("bob")));
    assert_eq!(desk.update("ann", &c, status("in_progress")).unwrap_err().code, ErrorCode::BeadHeld);
}

#[test]
fn an_epic_shows_how_far_its_children_are() {
    let mut desk = Desk::new();
    let epic = desk.create(NewBead { kind: Some("epic".into()), ..new("epic") });
    let children: Vec<_> =
        (0..3).map(|n| desk.create(NewBead { parent_id: Some(epic.clone()), ..new(&n.to_string()) })).collect();
    let (_, far) = desk.update("ann", &children[1], status("closed")).unwrap().parent.unwrap();
    assert_eq!(far, Progress { closed: 1, total: 3 });
    let listed = desk.bench.read(|reading| reading.bead_children(&epic.parse().unwrap(), 10).unwrap());
    let listed: Vec<_> = listed.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(listed, [&children[0], &children[2], &children[1]].map(Clone::clone));
}

#[test]
fn a_call_that_comes_again_is_done_once() {
    let desk = Desk::new();
    let mut ids = Vec::new();
    for (seq, stamp) in [(5, 1), (5, 2), (9, 3), (9, 4)] {
        let key = BeadKey::Call(A, Seq(seq));
        let change = Change::Create(new("once"));
        // Another time makes another step of it, as a new process would.
        let op = ChangeBeads { key, by: A.to_string(), at: Timestamp(stamp), change };
        one(&desk.writer, step(ThreadId(0), 0, vec![op.into()])).unwrap();
        let Ok(Done::Bead(changed)) = desk.bench.read(|reading| reading.bead_answer(key).unwrap().unwrap().answer)
        else {
            panic!("no bead")
        };
        ids.push(changed.id);
    }
    assert!(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
    desk.bench.read(|reading| {
        assert_eq!(reading.beads_after(None, 10).unwrap().len(), 2);
        assert_eq!(reading.bead_answer(BeadKey::Call(A, Seq(5))).unwrap(), None, "its result is in the journal by now");
        assert_eq!(reading.bead(&ids[0]).unwrap().unwrap().thread_id, Some(A));
    });
}

/// What the `bd` tool wrote.
const LINES: &str = r#"{"id":"p-1","title":"one","description":"","design":"so","status":"open","priority":0,"issue_type":"feature","assignee":"al","estimated_minutes":30,"created_at":"2025-10-14T14:43:06.907657-07:00","updated_at":"2025-10-14T14:43:06.907657123-07:00","labels":["x"],"comments":[{"id":1,"text":"hm"}]}
{"id":"p-2","title":"two","status":"in_progress","priority":2,"issue_type":"gate","created_at":"2025-10-14T21:00:00Z","updated_at":"2025-10-14T21:00:00Z","dependencies":[{"issue_id":"p-2","depends_on_id":"p-1","type":"blocks","created_at":"2025-10-14T21:00:00Z","created_by":"al"},{"issue_id":"p-2","depends_on_id":"p-9","type":"discovered-from"},{"issue_id":"p-2","depends_on_id":"p-3","type":"parent-child"}]}
{"id":"p-3","title":"three","status":"hooked","priority":4,"issue_type":"epic","created_at":"2025-10-14T21:00:00Z","updated_at":"2025-10-14T21:00:00Z","future":{"a":[1,2.5,null]}}
{"id":"p-4","title":"four","status":"blocked","priority":1,"issue_type":"task","created_at":"2025-10-14T21:00:00Z","updated_at":"2025-10-14T21:00:00Z"}"#;

#[test]
fn an_import_goes_back_out_equal_in_meaning() {
    let mut desk = Desk::new();
    let imported = desk.import(LINES);
    assert_eq!((imported.created, imported.problems.clone()), (4, vec![]), "{imported:?}");
    assert_eq!((desk.status_of("p-2"), desk.status_of("p-4")), (BeadStatus::Blocked, BeadStatus::Blocked));
    assert_eq!(desk.status_of("p-3").as_str(), "hooked");
    desk.is_sound();
    for line in LINES.lines() {
        let mut before: serde_json::Value = serde_json::from_str(line).unwrap();
        // An empty text is as good as none.
        before.as_object_mut().unwrap().retain(|_, value| value != "");
        let id = before["id"].as_str().unwrap();
        assert_eq!(exported(&desk.row(id)), before);
    }
    assert_eq!(desk.import(LINES).kept, 4, "the same again changes nothing");

    // Done here, it is newer than what comes again; and what is newer there is taken, down to the nanosecond.
    desk.update("ann", "p-1", status("closed")).unwrap();
    assert_eq!((desk.status_of("p-2"), desk.import(LINES).kept), (BeadStatus::InProgress, 4));
    let out = exported(&desk.row("p-1"));
    assert_eq!(
        (&out["status"], &out["design"], &out["estimated_minutes"]),
        (&"closed".into(), &"so".into(), &30.into())
    );
    let newer = r#"{"id":"p-3","title":"drei","status":"open","priority":4,"issue_type":"epic","updated_at":"2025-10-14T21:00:00.000000001Z"}"#;
    assert_eq!(desk.import(newer).updated, 1);
    assert_eq!((desk.row("p-3").title.as_str(), desk.import(newer).kept), ("drei", 1));
}

#[test]
fn a_bad_line_is_reported_by_its_number_and_the_others_are_kept() {
    let mut desk = Desk::new();
    let good = |n: u32| format!(r#"{{"id":"p-{n}","title":"t","updated_at":"2025-10-14T21:00:00Z"}}"#);
    let cycle = |n: u32, on: u32| {
        format!(
            r#"{{"id":"p-{n}","title":"t","updated_at":"2025-10-14T21:00:00Z","dependencies":[{{"depends_on_id":"p-{on}","type":"blocks"}}]}}"#
        )
    };
    let lines = [
        good(1),
        "{".to_owned(),
        good(3),
        "[]".to_owned(),
        r#"{"id":"p-5","title":"t"}"#.to_owned(),
        good(6).replace("\"t\"", "\" \""),
        good(7).replace("p-7", "p 7"),
        good(8).replace("2025", "20x5"),
        cycle(9, 10),
        cycle(10, 9),
        good(11).replace("\"t\"", "\"t\",\"priority\":7"),
        good(12),
    ];
    let imported = desk.import(&lines.join("\n"));
    let bad: Vec<_> = imported.problems.iter().map(|problem| problem.line).collect();
    assert_eq!((imported.created, bad), (4, vec![2, 4, 5, 6, 7, 8, 10, 11]), "{:?}", imported.problems);
    assert!(imported.problems[6].what.contains("p-10 → p-9 → p-10"), "{:?}", imported.problems[6]);
    desk.is_sound();
}

/// A bead as the model has it: what was asked of it, and when it came.
#[derive(Debug, Clone)]
struct Plain {
    id: String,
    asked: &'static str,
    holder: Option<&'static str>,
    priority: u8,
    on: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Act {
    Create(u8, Option<usize>),
    Status(usize, usize, bool),
    Depend(usize, usize),
    Free(usize, usize),
    Priority(usize, u8),
}

const WORDS: [&str; 3] = ["open", "in_progress", "closed"];

fn acts() -> impl Strategy<Value = Act> {
    let n = 0..8_usize;
    prop_oneof![
        2 => (0..5_u8, proptest::option::of(n.clone())).prop_map(|(priority, on)| Act::Create(priority, on)),
        4 => (n.clone(), 0..3_usize, any::<bool>()).prop_map(|(at, word, ann)| Act::Status(at, word, ann)),
        3 => (n.clone(), n.clone()).prop_map(|(at, on)| Act::Depend(at, on)),
        1 => (n.clone(), n.clone()).prop_map(|(at, on)| Act::Free(at, on)),
        1 => (n, 0..5_u8).prop_map(|(at, priority)| Act::Priority(at, priority)),
    ]
}

#[derive(Default)]
struct Model(Vec<Plain>);

impl Model {
    fn waits(&self, at: usize) -> bool {
        self.0[at].on.iter().any(|on| self.0[*on].asked != "closed")
    }

    fn status(&self, at: usize) -> &'static str {
        let asked = self.0[at].asked;
        if asked != "closed" && self.waits(at) { "blocked" } else { asked }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        from == to || self.0[from].on.iter().any(|on| self.reaches(*on, to))
    }

    /// Does it here and there, and compares what is said of it.
    fn act(&mut self, desk: &mut Desk, act: &Act) {
        let count = self.0.len();
        let there = |at: usize| (count > 0).then(|| at % count.max(1));
        match *act {
            Act::Create(priority, on) => {
                let on: Vec<usize> = on.and_then(there).into_iter().collect();
                let blocked_by = on.iter().map(|on| self.0[*on].id.clone()).collect();
                let id = desk.create(NewBead { priority: Some(priority), blocked_by, ..new("x") });
                self.0.push(Plain { id, asked: "open", holder: None, priority, on });
            }
            Act::Status(at, word, ann) => {
                let Some(at) = there(at) else { return };
                let (word, by) = (WORDS[word], if ann { "ann" } else { "bob" });
                let done = desk.update(by, &self.0[at].id.clone(), status(word));
                let held = self.0[at].asked == "in_progress" && self.0[at].holder != Some(by);
                let can = word != "in_progress" || !(held || self.waits(at) || self.0[at].asked == "closed");
                assert_eq!(done.is_ok(), can, "{act:?} {done:?}");
                if can {
                    let bead = &mut self.0[at];
                    bead.asked = word;
                    match word {
                        "open" => bead.holder = None,
                        "in_progress" => bead.holder = Some(by),
                        _ => {}
                    }
                }
            }
            Act::Depend(at, on) => {
                let (Some(at), Some(on)) = (there(at), there(on)) else { return };
                let ring = self.reaches(on, at);
                let done = desk.depend(&self.0[at].id.clone(), &self.0[on].id.clone());
                assert_eq!(done.is_err(), ring, "{act:?} {done:?}");
                if !ring && !self.0[at].on.contains(&on) {
                    self.0[at].on.push(on);
                }
            }
            Act::Free(at, on) => {
                let (Some(at), Some(on)) = (there(at), there(on)) else { return };
                let (id, remove) = (self.0[at].id.clone(), vec![self.0[on].id.clone()]);
                desk.bead("ann", Change::Depend { id, add: vec![], remove }).unwrap();
                self.0[at].on.retain(|other| *other != on);
            }
            Act::Priority(at, priority) => {
                let Some(at) = there(at) else { return };
                let patch = BeadPatch { priority: Some(priority), ..BeadPatch::default() };
                desk.update("ann", &self.0[at].id.clone(), patch).unwrap();
                self.0[at].priority = priority;
            }
        }
    }

    fn check(&self, desk: &Desk) {
        let mut ready: Vec<_> = (0..self.0.len()).filter(|at| self.status(*at) == "open").collect();
        ready.sort_by_key(|at| (self.0[*at].priority, *at));
        assert_eq!(desk.ready(), ready.iter().map(|at| self.0[*at].id.clone()).collect::<Vec<_>>());
        for (at, bead) in self.0.iter().enumerate() {
            let row = desk.row(&bead.id);
            assert_eq!((row.status.as_str(), row.assignee.as_deref()), (self.status(at), bead.holder));
        }
        for word in ["open", "in_progress", "blocked", "closed"] {
            let by = BeadsBy { status: Some(BeadStatus::from(word)), kind: None };
            // Two at a time: cursors lead through all of them.
            let (mut found, mut cursor) = (Vec::new(), None);
            loop {
                let page = desk.bench.read(|reading| reading.beads_by(&by, 2, cursor.as_deref()).unwrap());
                found.extend(page.items.into_iter().map(|row| row.id.to_string()));
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            let of = |at: &usize| self.status(*at) == word;
            let expected: Vec<_> = (0..self.0.len()).rev().filter(of).map(|at| self.0[at].id.clone()).collect();
            assert_eq!(found, expected, "{word}");
        }
        desk.is_sound();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn beads_do_what_the_model_does(acts in proptest::collection::vec(acts(), 1..30)) {
        let (mut desk, mut model) = (Desk::new(), Model::default());
        for act in &acts {
            model.act(&mut desk, act);
        }
        model.check(&desk);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_who_claim_a_hundred_beads_each_bead_has_one_holder() {
    let bench = Bench::in_memory();
    let (mut root, _) = super::actor::run(&bench).await;
    let lines = (0..100).map(|n| ImportLine {
        number: n,
        text: format!(r#"{{"id":"p-{n}","title":"t","updated_at":"2025-10-14T21:00:00Z"}}"#),
    });
    let change = Change::Import(lines.collect());
    let asked = ChangeBeads { key: BeadKey::Person(0), by: "ann".to_owned(), at: Timestamp(1), change };
    change_beads(&bench.store, asked).await.unwrap();
    let mut claimers = tokio::task::JoinSet::new();
    for claimer in 0..64_u128 {
        let store = bench.store.clone();
        claimers.spawn(async move {
            let mut won = Vec::new();
            for n in 0..100_u64 {
                // Each begins elsewhere, so that they meet all over.
                let id = format!("p-{}", (n + 11 * u64::try_from(claimer).unwrap()) % 100);
                let change = Change::Update { id: id.clone(), patch: status("in_progress") };
                let key = BeadKey::Call(ThreadId(claimer + 1), Seq(n + 1));
                let asked = ChangeBeads { key, by: format!("claimer {claimer}"), at: Timestamp(2), change };
                match change_beads(&store, asked).await {
                    Ok(_) => won.push(id),
                    Err(error) => assert_eq!(error.code, ErrorCode::BeadHeld, "{error}"),
                }
            }
            (claimer, won)
        });
    }
    let mut holders = BTreeSet::new();
    while let Some(done) = claimers.join_next().await {
        let (claimer, won) = done.unwrap();
        holders.extend(won.into_iter().map(|id| (id, format!("claimer {claimer}"))));
    }
    let rows = bench.store.read(|reading| reading.beads_after(None, 200)).await.unwrap();
    let held: BTreeSet<_> = rows.into_iter().map(|row| (row.id.to_string(), row.assignee.unwrap())).collect();
    assert_eq!((held.len(), &holders), (100, &held), "each claim that was granted is the only one of its bead");
    root.stop(std::time::Duration::from_secs(10)).await;
}

/// Counts what is read.
struct Counting<'a> {
    reading: &'a Reading,
    read: Cell<usize>,
}

impl Source for Counting<'_> {
    fn fetch(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read.set(self.read.get() + 1);
        self.reading.fetch(table, key)
    }

    fn walk(&self, walk: &Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.reading.walk(walk, &mut |key, value| {
            self.read.set(self.read.get() + 1);
            visit(key, value)
        })
    }

    fn count(&self, table: &'static str) -> Result<u64, StoreError> {
        self.reading.count(table)
    }
}

#[test]
fn what_is_ready_among_ten_thousand_in_chains_of_a_thousand_is_read_without_a_look_at_the_rest() {
    let mut desk = Desk::new();
    let line = |n: usize| {
        let waits = if n.is_multiple_of(1000) {
            String::new()
        } else {
            format!(r#"{{"depends_on_id":"p-{}","type":"blocks"}}"#, n - 1)
        };
        format!(
            r#"{{"id":"p-{n}","title":"t","priority":1,"created_at":"2025-10-14T21:00:00Z","updated_at":"2025-10-14T21:00:00Z","dependencies":[{waits}]}}"#
        )
    };
    for chunk in 0..20 {
        let lines: Vec<String> = (chunk * 500..(chunk + 1) * 500).map(line).collect();
        assert_eq!(desk.import(&lines.join("\n")).created, 500);
    }
    desk.bench.read(|reading| {
        let counting = Counting { reading, read: Cell::new(0) };
        let (rows, _) = ready(&counting, 100, None).unwrap();
        let heads: Vec<_> = rows.iter().map(|row| row.id.to_string()).collect();
        assert_eq!(heads, (0..10).map(|n| format!("p-{}", n * 1000)).collect::<Vec<_>>());
        assert!(counting.read.get() <= 2 * heads.len(), "{} reads", counting.read.get());
    });
    // The far end of a chain cannot become its own beginning.
    let refused = desk.depend("p-0", "p-999").unwrap_err();
    assert!(refused.message.contains("981 more"), "{refused}");
}
