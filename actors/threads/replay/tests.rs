//! What a replay finds, and how it is named. That every journal replays is said by `agent/tests/one_path.rs`.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{CheckpointReason, RequestMark, Settings};
use lakitu_kernel::mode::Mode;

use super::*;
use crate::threads::agent::{Answer, Checkpointing, Msg, Stop};
use lakitu_kernel::chat::{Finish, ModelAnswer};

const THREAD: ThreadId = ThreadId(1);

fn settings(max_turns: Option<u32>) -> Settings {
    Settings {
        model: "m".into(),
        mode: Mode::Build,
        workspace: "/w".into(),
        artifacts: "/a".into(),
        max_turns,
        timeout_ms: None,
        asking: lakitu_kernel::event::Asking::default(),
    }
}

fn answer(turn: u32, text: &str, cut: bool) -> Msg {
    let finish = if cut { Finish::Length } else { Finish::Stop };
    let model = ModelAnswer { text: text.into(), calls: Vec::new(), finish, usage: None, model: None, opaque: None };
    let request = Some(RequestMark::of(&[Bytes::from_static(b"{}")]));
    Msg::Answer { turn: Turn(turn), answer: Box::new(Answer { model, calls: Vec::new(), request, first: None }) }
}

/// A thread that came to its turns' limit, and went on.
fn journal() -> Vec<Event> {
    let (mut state, mut events) = (State::new(THREAD), Vec::new());
    let msgs = [
        Msg::Start { prefix: Hash::of(b"p"), settings: settings(Some(1)), boundary: "b".into(), metadata: None },
        Msg::Prompt { text: "go".into() },
        answer(1, "half", true),
        Msg::Checkpoint(Checkpointing::Create { name: Some("here".into()), next_task: None }),
        Msg::Resume { why: lakitu_kernel::event::Resumed::Resume, change: None },
        answer(2, "whole", false),
    ];
    for msg in msgs {
        state.take(msg, Timestamp(7), |_, event| events.push(event.clone()));
    }
    events
}

#[test]
fn the_first_divergence_is_named_with_event_field_and_byte() {
    let events = journal();
    let names: Vec<_> = events.iter().map(|event| event.body.name()).collect();
    assert_eq!(
        names,
        [
            "thread.started",
            "prompt",
            "message",
            "thread.checkpointed",
            "checkpoint.created",
            "thread.resumed",
            "message",
            "thread.completed"
        ]
    );
    assert_eq!(of(THREAD, &events), None);

    let mut reason = events.clone();
    let EventBody::ThreadCheckpointed { reason: why, .. } = &mut reason[3].body else { panic!() };
    *why = CheckpointReason::TokenLimit;
    let found = of(THREAD, &reason).unwrap();
    assert_eq!((found.seq, found.event.as_str(), found.field.as_str()), (Seq(4), "thread.checkpointed", "reason"));
    assert_eq!((found.byte, found.journal.as_str(), found.replay.as_str()), (2, "oken_limit\"", "urn_limit\""));

    let mut late = events.clone();
    late[7].body = EventBody::ThreadCancelled {};
    let found = of(THREAD, &late).unwrap();
    assert_eq!((found.seq, found.field.as_str()), (Seq(8), "type"));

    let mut cut = events.clone();
    cut.truncate(7);
    let found = of(THREAD, &cut).unwrap();
    assert_eq!((found.seq, found.event.as_str(), found.journal.as_str()), (Seq(8), "thread.completed", "the end"));

    let mut twice = events;
    let again = twice[6].clone();
    twice.push(Event { seq: Seq(9), ..again });
    let found = of(THREAD, &twice).unwrap();
    assert_eq!((found.seq, found.replay.as_str()), (Seq(9), "no such event follows"));
}

#[test]
fn a_stop_is_replayed_as_one_with_the_results_that_it_gave() {
    let mut events = journal();
    let mut state = State::new(THREAD);
    events.iter().for_each(|event| state.evolve(event));
    for msg in [Msg::Prompt { text: "more".into() }, Msg::Stop { how: Stop::Shutdown, unknown: Vec::new() }] {
        state.take(msg, Timestamp(8), |_, event| events.push(event.clone()));
    }
    assert_eq!(of(THREAD, &events), None);
}
