//! The pure core: one path for live, restart and replay; the shape of a turn; stuck detection; stops.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use expect_test::{Expect, expect};
use lakitu_kernel::chat::{self, Finish, ModelAnswer, RawCall, Usage};
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{CheckpointReason, Event, EventBody, FileVersion, PreparedFile, Resumed, Settings};
use lakitu_kernel::image::{Image, MediaType};
use lakitu_kernel::ports::{FailureClass, ModelFailure};
use lakitu_kernel::tool::{EffectClass, ToolOutcome};
use lakitu_kernel::{ErrorCode, Hash, Seq, ThreadId, ToolError, Turn, limits};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod consent;
mod images;
mod kept;
mod one_path;

/// What goes out behind the prefix, as text.
fn wire(state: &State) -> String {
    String::from_utf8(state.history.body(|image| Bytes::from(format!("<{}>", image.name))).concat()).unwrap()
}

fn settings(max_turns: Option<u32>) -> Settings {
    Settings {
        model: "m".into(),
        mode: lakitu_kernel::mode::Mode::Build,
        workspace: PathBuf::from("/w"),
        artifacts: PathBuf::from("/a"),
        max_turns,
        timeout_ms: None,
        asking: lakitu_kernel::event::Asking::default(),
    }
}

fn call(class: EffectClass, id: &str, arguments: &str) -> Checked {
    Checked {
        raw: RawCall { id: id.into(), name: format!("{class:?}").to_lowercase(), arguments: arguments.into() },
        outcome: Ok((class, json!({}))),
        needs_consent: None,
    }
}

fn answer(turn: u32, text: &str, calls: Vec<Checked>) -> Msg {
    let model = ModelAnswer {
        text: text.into(),
        calls: calls.iter().map(|call| call.raw.clone()).collect(),
        finish: Finish::Stop,
        usage: None,
        model: None,
        opaque: None,
    };
    Msg::Answer { turn: Turn(turn), answer: Box::new(Answer { model, calls, request: None, first: None }) }
}

fn done(intent: Seq, output: &str) -> Msg {
    Msg::Result { intent, outcome: ToolOutcome::ok(output), duration_ms: 1 }
}

/// A thread that was started and prompted, driven by hand.
struct Drive {
    state: State,
    journal: Vec<Event>,
}

impl Drive {
    fn new(max_turns: Option<u32>) -> Self {
        let mut drive = Self { state: State::new(ThreadId(1)), journal: Vec::new() };
        drive.take(Msg::Start {
            prefix: Hash::of(b"p"),
            settings: settings(max_turns),
            boundary: "b".into(),
            metadata: None,
        });
        drive.take(Msg::Prompt { text: "go".into() });
        drive
    }

    fn take(&mut self, msg: Msg) -> &mut Self {
        self.state.take(msg, Timestamp(7), |_, event| self.journal.push(event.clone()));
        self
    }

    fn intents(&self) -> Vec<Seq> {
        let open = self.state.acting().into_iter().flat_map(|acting| &acting.calls);
        open.filter(|call| call.result.is_none()).map(|call| call.intent).collect()
    }

    fn shows(&self, expected: &Expect) {
        let lines: Vec<_> = self.journal.iter().skip(2).map(line).collect();
        expected.assert_eq(&(lines.join("\n") + "\nwanted " + &format!("{:?}", wanted(&self.state))));
    }
}

fn line(event: &Event) -> String {
    let detail = match &event.body {
        EventBody::BeadChanged { call_id, id, status, .. } => format!("{call_id} {id} {status}"),
        EventBody::ArtifactSaved { call_id, artifact } => format!("{call_id} {} {}", artifact.name, artifact.version),
        EventBody::Message { text, calls, .. } => {
            format!("{text:?} {:?}", calls.iter().map(|call| &call.call_id).collect::<Vec<_>>())
        }
        EventBody::ToolIntent { call_id, effect, .. } | EventBody::ApprovalAsked { call_id, effect, .. } => {
            format!("{call_id} {effect:?}")
        }
        EventBody::ApprovalAnswered { call_id, allow } => format!("{call_id} {allow}"),
        EventBody::ToolPrepared { call_id, .. } => call_id.clone(),
        EventBody::ToolRestarted { call_id, start, .. } => format!("{call_id} {start}"),
        EventBody::ToolResult { call_id, output, .. } => format!("{call_id} {output:?}"),
        EventBody::HistoryRepaired { call_id, reason } => format!("{call_id:?} {reason}"),
        EventBody::ThreadFailed { error } => error.to_string(),
        EventBody::ThreadCheckpointed { reason, .. } => format!("{reason:?}"),
        EventBody::Prompt { text } => text.clone(),
        EventBody::CheckpointCreated { id, .. } | EventBody::CheckpointRestored { id, .. } => id.to_string(),
        EventBody::ThreadForked { at, .. } => at.to_string(),
        EventBody::ThreadStarted { .. }
        | EventBody::ThreadResumed { .. }
        | EventBody::Decision { .. }
        | EventBody::Usage { .. }
        | EventBody::HistoryPruned { .. }
        | EventBody::ModelNudged { .. }
        | EventBody::EditRecorded { .. }
        | EventBody::EditRestoring { .. }
        | EventBody::EditRestored { .. }
        | EventBody::Stalled { .. }
        | EventBody::ThreadCompleted {}
        | EventBody::ThreadCancelled {} => String::new(),
    };
    format!("{} {} {detail}", event.seq, event.body.name()).trim_end().to_owned()
}

#[test]
fn a_resume_that_comes_behind_the_end_of_the_run_changes_nothing() {
    for cancelled in [false, true] {
        let mut drive = Drive::new(None);
        if cancelled {
            drive.take(Msg::Stop { how: Stop::Cancel, unknown: vec![] });
        } else {
            drive.take(answer(1, "done", vec![]));
        }
        let end = drive.state.clone();
        for why in [Resumed::Resume, Resumed::Boot] {
            drive.take(Msg::Resume { why, change: None });
        }
        assert_eq!(drive.state, end);
        drive.take(Msg::Resume { why: Resumed::Continue, change: None }).take(Msg::Prompt { text: "more".into() });
        assert_eq!(drive.state.phase, Phase::Thinking);
    }
}

#[test]
fn reads_run_side_by_side_and_every_other_call_waits_for_the_results_before_it() {
    let mut drive = Drive::new(None);
    let calls = vec![
        call(EffectClass::Read, "a", "{}"),
        call(EffectClass::Read, "b", "{}"),
        call(EffectClass::Detached, "c", "{}"),
        call(EffectClass::Read, "d", "{}"),
    ];
    drive.take(answer(1, "look", calls));
    let intents = drive.intents();
    assert_eq!(wanted(&drive.state).len(), 2);
    drive.take(done(intents[1], "B")).take(done(intents[0], "A"));
    drive.shows(&expect![[r#"
        3 message "look" ["a", "b", "c", "d"]
        4 decision
        5 tool.intent a Read
        6 tool.intent b Read
        7 tool.intent c Detached
        8 tool.intent d Read
        9 tool.result b "B"
        10 tool.result a "A"
        wanted [Tool { intent: Seq(7), start: 1, after: Seq(10) }]"#]]);
    drive.take(done(intents[2], "C")).take(done(intents[3], "D"));
    assert_eq!(wanted(&drive.state), [Wanted::Model { turn: Turn(2), changes: 0 }]);
    let wire = wire(&drive.state);
    let order: Vec<_> =
        ["<b>\\nA", "<b>\\nB", "<b>\\nC", "<b>\\nD"].iter().map(|mark| wire.find(mark).unwrap()).collect();
    assert!(order.is_sorted(), "results stand in call order: {wire}");
}

#[test]
fn a_verifiable_call_is_prepared_before_it_runs_and_a_failed_preparation_is_its_result() {
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", vec![call(EffectClass::Verifiable, "a", "{}"), call(EffectClass::Verifiable, "b", "{}")]));
    let intents = drive.intents();
    assert_eq!(wanted(&drive.state), [Wanted::Prepare { intent: intents[0], after: Seq::ZERO }]);
    let file = PreparedFile {
        path: "x".into(),
        mode: 0o644,
        kind: lakitu_kernel::edit::FileKind::File,
        kind_before: None,
        mode_before: None,
        hash_before: None,
        hash_after: Some(Hash::of(b"x")),
    };
    drive.take(Msg::Prepared { intent: intents[0], outcome: Ok(vec![file]) });
    assert!(matches!(wanted(&drive.state)[..], [Wanted::Tool { start: 1, .. }]));
    drive.take(done(intents[0], "written"));
    drive.take(Msg::Prepared {
        intent: intents[1],
        outcome: Err(ToolError::new(ErrorCode::EditMismatch, "occurs 0 times")),
    });
    drive.shows(&expect![[r#"
        3 message "" ["a", "b"]
        4 decision
        5 tool.intent a Verifiable
        6 tool.intent b Verifiable
        7 tool.prepared a
        8 tool.result a "written"
        9 tool.result b "EDIT_MISMATCH: occurs 0 times"
        wanted [Model { turn: Turn(2), changes: 0 }]"#]]);
}

#[test]
fn ids_that_are_taken_and_arguments_that_are_no_object_are_mended_and_the_mending_is_journaled() {
    let mut drive = Drive::new(None);
    let broken = Checked {
        raw: RawCall { id: "a".into(), name: "read".into(), arguments: "{\"x".into() },
        outcome: Err(ToolError::new(ErrorCode::TruncatedArguments, "cut")),
        needs_consent: None,
    };
    drive.take(answer(1, "", vec![call(EffectClass::Read, "a", "{}"), broken, call(EffectClass::Read, "", "{}")]));
    drive.shows(&expect![[r#"
        3 message "" ["a", "call_1_2", "call_1_3"]
        4 decision
        5 history.repaired Some("call_1_2") the provider's id "a" was empty or taken; the arguments were no JSON object; {} stands in their place
        6 history.repaired Some("call_1_3") the provider's id "" was empty or taken
        7 tool.intent a Read
        8 tool.intent call_1_2 Read
        9 tool.intent call_1_3 Read
        10 tool.result call_1_2 "TRUNCATED_ARGUMENTS: cut"
        wanted [Tool { intent: Seq(7), start: 1, after: Seq(7) }, Tool { intent: Seq(9), start: 1, after: Seq(9) }]"#]]);
}

#[test]
fn the_same_call_with_the_same_result_is_told_at_three_and_ended_at_five() {
    let mut drive = Drive::new(None);
    for turn in 1..=limits::STUCK_ENDED_AT {
        assert!(drive.state.is_running(), "ended before turn {turn}");
        drive.take(answer(turn, "", vec![call(EffectClass::Read, "", "{\"path\":\"a\"}")]));
        let intent = drive.intents()[0];
        drive.take(done(intent, "same"));
        let wire = wire(&drive.state);
        let told = wire.matches("[lakitu]").count();
        assert_eq!(
            told,
            (turn.min(limits::STUCK_ENDED_AT - 1).saturating_sub(limits::STUCK_TOLD_AT - 1)) as usize,
            "turn {turn}"
        );
    }
    let Some(End::Failed(error)) = drive.state.end() else { panic!("{:?}", drive.state.phase) };
    assert_eq!(error.code, ErrorCode::Stuck);
}

#[test]
fn another_result_or_another_argument_breaks_the_streak() {
    let mut drive = Drive::new(None);
    for turn in 1..=12 {
        let arguments = format!("{{\"n\":{}}}", turn % 2);
        drive.take(answer(turn, "", vec![call(EffectClass::Read, "", &arguments)]));
        let intent = drive.intents()[0];
        drive.take(done(intent, "same"));
    }
    assert!(drive.state.is_running());
}

#[test]
fn a_prompt_during_the_run_goes_out_with_the_next_model_call_and_keeps_the_run_going() {
    let mut drive = Drive::new(None);
    drive.take(Msg::Prompt { text: "also this".into() }).take(answer(1, "fine", vec![]));
    assert_eq!(wanted(&drive.state), [Wanted::Model { turn: Turn(2), changes: 0 }]);
    let wire = wire(&drive.state);
    assert!(wire.find("fine").unwrap() < wire.find("also this").unwrap(), "{wire}");
    drive.take(answer(2, "done", vec![]));
    assert_eq!(drive.state.end(), Some(&End::Completed));
}

#[test]
fn turns_are_limited_per_run_and_a_resume_counts_anew() {
    let mut drive = Drive::new(Some(1));
    drive.take(answer(1, "", vec![call(EffectClass::Read, "a", "{}")]));
    let intent = drive.intents()[0];
    drive.take(done(intent, "A"));
    assert_eq!(drive.state.end(), Some(&End::Checkpointed(CheckpointReason::TurnLimit, None)));
    drive.take(Msg::Resume { why: Resumed::Resume, change: None });
    assert_eq!(wanted(&drive.state), [Wanted::Model { turn: Turn(2), changes: 0 }]);
    drive.take(answer(2, "done", vec![]));
    assert_eq!(drive.state.end(), Some(&End::Completed));
}

#[test]
fn a_stop_gives_every_open_call_a_result_that_says_whether_it_began() {
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", vec![call(EffectClass::Detached, "a", "{}"), call(EffectClass::Read, "b", "{}")]));
    let unknown = vec![drive.intents()[0]];
    drive.take(Msg::Stop { how: Stop::Checkpoint(CheckpointReason::Interrupted, None), unknown });
    drive.shows(&expect![[r#"
        3 message "" ["a", "b"]
        4 decision
        5 tool.intent a Detached
        6 tool.intent b Read
        7 tool.result a "INTERRUPTED: the run was stopped while this was under way; how far it got is not known"
        8 tool.result b "CANCELLED: the run was stopped before this began; nothing of it ran"
        9 thread.checkpointed Interrupted
        wanted []"#]]);
}

#[test]
fn a_call_is_started_twice_and_not_a_third_time() {
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", vec![call(EffectClass::Read, "a", "{}")]));
    let intent = drive.intents()[0];
    drive.take(Msg::Restart { intent, began: true });
    assert!(matches!(wanted(&drive.state)[..], [Wanted::Tool { start: 2, after: Seq(6), .. }]));
    drive.take(Msg::Restart { intent, began: true });
    assert_eq!(wanted(&drive.state), [Wanted::Model { turn: Turn(2), changes: 0 }]);
    assert!(
        matches!(&drive.journal.last().unwrap().body, EventBody::ToolResult { error: Some(error), .. } if error.code == ErrorCode::CrashedTwice)
    );
}

#[test]
fn a_stall_is_told_once_a_call_and_ends_with_the_answer() {
    let mut drive = Drive::new(None);
    let stalled = |turn| Msg::Stalled { turn: Turn(turn), reason: "GATEWAY_UNREACHABLE: down".into() };
    drive.take(stalled(2)).take(stalled(1)).take(stalled(1));
    drive.take(Msg::Prompt { text: "still there?".into() });
    assert!(drive.state.stalled, "a prompt is no answer");
    drive.take(answer(1, "", vec![call(EffectClass::Read, "a", "{}")]));
    assert!(!drive.state.stalled);
    let intent = drive.intents()[0];
    drive.take(done(intent, "A")).take(stalled(2)).take(Msg::Stop { how: Stop::Cancel, unknown: vec![] });
    assert!(!drive.state.stalled);
    drive.shows(&expect![[r#"
        3 stalled
        4 prompt still there?
        5 message "" ["a"]
        6 decision
        7 tool.intent a Read
        8 tool.result a "A"
        9 stalled
        10 thread.cancelled
        wanted []"#]]);
}

#[test]
fn a_late_or_repeated_answer_changes_nothing() {
    let mut drive = Drive::new(None);
    drive.take(answer(1, "", vec![call(EffectClass::Read, "a", "{}")]));
    let intent = drive.intents()[0];
    drive.take(done(intent, "A"));
    let before = drive.state.clone();
    drive.take(answer(1, "again", vec![])).take(done(intent, "again")).take(Msg::Restart { intent, began: true });
    drive.take(Msg::Prepared { intent, outcome: Ok(vec![]) });
    assert_eq!(drive.state, before);
}

/// An image that is named so; only its size matters.
fn image(name: u8, bytes: u64) -> Image {
    let mut image = Image::new(vec![name], MediaType::Png, (1, 1), format!("i{name}"));
    image.about.bytes = bytes;
    image
}

/// How many images went out of a prompt.
fn notes(body: &[u8]) -> usize {
    String::from_utf8_lossy(body).matches("taken out of the prompt").count()
}

/// The next request of this state, as bytes.
fn request(state: &State) -> Vec<u8> {
    let prefix = lakitu_kernel::chat::prefix("m", "s", []);
    let mut pieces = vec![prefix];
    pieces.extend(state.history.body(|image| chat::image_part(image.media_type, &image.hash.0.repeat(20))));
    pieces.push(Bytes::from_static(lakitu_kernel::chat::SUFFIX));
    pieces.concat()
}
