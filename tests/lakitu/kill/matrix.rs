//! Every tool, killed at every boundary of a call.

use std::time::Duration;

use lakitu_actors::tools::CATALOGUE;
use lakitu_kernel::tool::ToolSpec;

use super::binary::Binary;
use super::fixtures::{FIXTURES, Fixture};
use super::journal::Journal;
use super::pool;

/// Where a call can be cut: between two durable states, or within the effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boundary {
    BeforeC0,
    BeforeC1,
    AfterC1,
    BeforeEffect,
    DuringEffect,
    AfterEffect,
    BeforeC2,
    AfterC2,
}

const BOUNDARIES: [Boundary; 8] = [
    Boundary::BeforeC0,
    Boundary::BeforeC1,
    Boundary::AfterC1,
    Boundary::BeforeEffect,
    Boundary::DuringEffect,
    Boundary::AfterEffect,
    Boundary::BeforeC2,
    Boundary::AfterC2,
];

/// A tool and a boundary, with the passing of a crash point that is this boundary.
struct Case {
    fixture: &'static Fixture,
    boundary: Boundary,
    point: String,
}

/// The crash points that a run of the fixture passed, and those within the call.
struct Trace {
    all: Vec<String>,
    within: Vec<String>,
}

impl Trace {
    fn of(fixture: &Fixture) -> Self {
        let binary = fixture.binary();
        let all = binary.traced();
        let journal = binary.journal().unwrap();
        journal.assert_completed(fixture.calls());
        check_effect(fixture, &binary, &journal);
        // C0, two for each turn with a call, and the last answer's: what a boundary's number rests on.
        let commits = all.iter().filter(|point| point.starts_with("after_commit:")).count();
        // How a job ended that outlived its call may be one more, behind all others.
        let expected = 2 + 2 * fixture.calls() + usize::from(fixture.prepared_alone) + fixture.commits;
        assert!((expected..=expected + 1).contains(&commits), "{}: {all:?}", fixture.tool);
        let at = |point: String| all.iter().position(|passed| *passed == point).unwrap();
        let (c1, c2) = (at(format!("after_commit:{}", fixture.c1())), at(format!("before_commit:{}", fixture.c2())));
        let within = all[c1 + 1..c2].to_vec();
        Self { all, within }
    }

    fn point(&self, fixture: &Fixture, boundary: Boundary) -> Option<String> {
        let c1 = fixture.c1();
        let within = |name: &str| self.within.iter().find(|point| point.split(':').next() == Some(name)).cloned();
        let point = match boundary {
            Boundary::BeforeC0 => "before_commit:1".to_owned(),
            Boundary::BeforeC1 => format!("before_commit:{c1}"),
            Boundary::AfterC1 => format!("after_commit:{c1}"),
            Boundary::BeforeEffect => within("before_effect")?,
            Boundary::DuringEffect => within("during_effect")?,
            Boundary::AfterEffect => within("after_effect")?,
            Boundary::BeforeC2 => format!("before_commit:{}", fixture.c2()),
            Boundary::AfterC2 => format!("after_commit:{}", fixture.c2()),
        };
        assert!(self.all.contains(&point), "{point} in {:?}", self.all);
        Some(point)
    }
}

impl Fixture {
    /// The number of the commit with the call's intent, or with the redo record that it waits for: C0 is the first, each
    /// turn before had two.
    fn c1(&self) -> usize {
        2 * self.turn() + usize::from(self.prepared_alone)
    }

    /// The number of the commit with its result: what the call itself commits comes before it.
    fn c2(&self) -> usize {
        self.c1() + self.commits + 1
    }
}

fn fixtures(spec: &ToolSpec) -> Vec<&'static Fixture> {
    let found: Vec<_> = FIXTURES.iter().filter(|fixture| fixture.tool == spec.name).collect();
    assert!(!found.is_empty(), "the tool {} has no recovery fixture: add one to FIXTURES", spec.name);
    found
}

/// The boundaries of a call. Those that it does not pass are named by the fixture, and by nothing else.
fn cases(fixture: &'static Fixture) -> Vec<Case> {
    let trace = Trace::of(fixture);
    let passed: Vec<&str> = trace.within.iter().filter_map(|point| point.split(':').next()).collect();
    assert_eq!(passed, fixture.passes, "the crash points of a call of {} {}", fixture.tool, fixture.way);
    let case = |boundary| Some(Case { fixture, boundary, point: trace.point(fixture, boundary)? });
    BOUNDARIES.into_iter().filter_map(case).collect()
}

#[test]
fn every_tool_is_killed_at_every_boundary_and_its_effect_happens_once() {
    let cases: Vec<Case> = CATALOGUE.0.iter().flat_map(fixtures).flat_map(cases).collect();
    pool::each(
        &cases,
        |case| format!("{} {} {:?} ({})", case.fixture.tool, case.fixture.way, case.boundary, case.point),
        killed_and_resumed,
    );
}

#[test]
fn no_recovery_fixture_is_of_a_tool_that_is_gone() {
    for fixture in FIXTURES {
        assert!(CATALOGUE.get(fixture.tool).is_some(), "{} is no tool any more", fixture.tool);
    }
}

fn killed_and_resumed(case: &Case) {
    let mut binary = case.fixture.binary();
    if case.boundary == Boundary::BeforeC0 {
        // The thread that nobody knows of may have a keeper already: idle, and bound by its lease.
        binary.set("LAKITU__KEEPER__LEASE_MS", 1000);
    }
    let killed = binary.run_until(&case.point);
    assert!(killed.was_killed(), "{} was not passed: {killed:?}", case.point);
    let left = binary.journal_of_a_copy();
    check_left_behind(case, &binary, left.as_ref());

    let resumed = binary.resume();
    assert_eq!(resumed.code(), Some(0), "{resumed:?}");
    assert_eq!(resumed.result()["status"], "completed");
    let journal = binary.journal().unwrap();
    journal.assert_completed(case.fixture.calls());
    check_effect(case.fixture, &binary, &journal);
    binary.assert_nothing_runs(Duration::from_secs(10));
}

/// What must hold in the moment of death: nothing has happened before its intent was durable, and nobody was told of a
/// result that was not.
fn check_left_behind(case: &Case, binary: &Binary, left: Option<&Journal>) {
    let result = left.and_then(|journal| journal.result(&case.fixture.call_id()));
    assert_eq!(result.is_some(), case.boundary == Boundary::AfterC2, "a result that nobody committed, or one lost");
    let effects = case.fixture.effects.map_or(0, |count| count(binary));
    match case.boundary {
        Boundary::BeforeC0 => assert!(left.is_none(), "a thread that was not committed"),
        Boundary::BeforeC1 | Boundary::AfterC1 | Boundary::BeforeEffect => {
            assert_eq!(effects, 0, "it happened before it was allowed to");
        }
        // A command has begun; whether it has come to its mark is its own affair.
        Boundary::DuringEffect => assert!(effects <= 1, "{effects} effects"),
        Boundary::AfterEffect | Boundary::BeforeC2 | Boundary::AfterC2 if case.fixture.later => {
            assert!(effects <= 1, "{effects} effects");
        }
        Boundary::AfterEffect | Boundary::BeforeC2 | Boundary::AfterC2 => {
            assert_eq!(effects, usize::from(case.fixture.effects.is_some()), "it has not happened");
        }
    }
}

/// The journal and the world tell the same. Where only the runtime was killed, every tool finds out what happened.
fn check_effect(fixture: &Fixture, binary: &Binary, journal: &Journal) {
    let result = journal.result(&fixture.call_id()).unwrap();
    assert!(result.code == fixture.code && result.output.contains(fixture.tells), "{result:?}");
    if let Some(count) = fixture.effects {
        assert_eq!(count(binary), 1, "the journal says that it happened once");
    }
    let entries = std::fs::read_dir(binary.work("")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let temporaries: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
    assert!(temporaries.is_empty(), "half-written files were left: {temporaries:?}");
}
