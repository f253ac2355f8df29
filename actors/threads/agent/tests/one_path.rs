//! One path: live state, state folded from the journal, and state folded over a snapshot are one and the same.

use super::*;
use crate::threads::replay;

/// Whether each result has its call's one intent before it, and nothing is wanted of a call that waits for consent.
fn intended(drive: &Drive) -> bool {
    let mut intents = BTreeSet::new();
    #[allow(clippy::wildcard_enum_match_arm, reason = "some of many kinds of events")]
    let each = drive.journal.iter().all(|event| match &event.body {
        EventBody::ToolIntent { call_id, .. } => intents.insert(call_id),
        EventBody::ToolResult { call_id, .. } | EventBody::ToolPrepared { call_id, .. } => intents.contains(call_id),
        _ => true,
    });
    let of = |intent| drive.state.call(intent).is_some_and(|call| call.asked.is_none());
    each && wanted(&drive.state).iter().all(|work| match work {
        Wanted::Tool { intent, .. } | Wanted::Prepare { intent, .. } => of(*intent),
        Wanted::Model { .. } | Wanted::PutBack(_) => true,
    })
}

/// A call that waits for consent; where none does, one that may not be there.
fn question(state: &State, dice: u8) -> String {
    let asked: Vec<&CallState> = state.questions().collect();
    let call = asked.get(dice as usize % asked.len().max(1));
    call.map_or_else(|| format!("id{}", dice % 5), |call| call.call.call_id.clone())
}

/// A checkpoint by hand.
fn checkpoint(dice: u8, task: u8) -> Msg {
    let next_task = dice.is_multiple_of(2).then(|| format!("n{task}"));
    Msg::Checkpoint(Checkpointing::Create { name: None, next_task })
}

/// A random message, aimed at what the state is doing so that runs get deep.
fn random(state: &State, dice: &[u8]) -> Msg {
    let at = |index: usize| dice.get(index).copied().unwrap_or(0);
    let open: Vec<Seq> = state.acting().into_iter().flat_map(|acting| &acting.calls).map(|call| call.intent).collect();
    let intent = open.get(at(1) as usize % open.len().max(1)).copied().unwrap_or(Seq(u64::from(at(1))));
    let error = || ToolError::new(ErrorCode::ALL[at(2) as usize % ErrorCode::ALL.len()], format!("e{}", at(3)));
    match at(0) % 20 {
        0..=4 => {
            let classes = [EffectClass::Read, EffectClass::Verifiable, EffectClass::Detached, EffectClass::Keyed];
            let calls: Vec<Checked> = (0..at(1) % 4)
                .map(|n| {
                    let mut one =
                        call(classes[at(2).wrapping_add(n) as usize % 4], &format!("id{}", at(3) % 5), "{\"a\":1}");
                    if at(4) % 5 == 0 {
                        one.raw.arguments = "[".into();
                        one.outcome = Err(error());
                    } else if at(11).wrapping_add(n) % 4 == 0 {
                        one.needs_consent = Some("why".into());
                    }
                    one
                })
                .collect();
            let Msg::Answer { mut answer, .. } = answer(0, &format!("t{}", at(5)), calls) else { unreachable!() };
            answer.model.usage = Some(Usage { input_tokens: u64::from(at(6)), output_tokens: 1, ..Usage::default() });
            answer.model.opaque = (at(7) % 3 == 0).then(|| json!({"reasoning_details": [at(7)]}));
            let prepared = |call: &Checked| {
                call.needs_consent.is_none() && matches!(call.outcome, Ok((EffectClass::Verifiable, _)))
            };
            if answer.calls.first().is_some_and(prepared) && at(8) % 2 == 0 {
                answer.first = Some(if at(9) % 2 == 0 { Ok(vec![]) } else { Err(error()) });
            }
            let turn = if at(10) % 8 == 0 { Turn(u32::from(at(10))) } else { state.turn() };
            Msg::Answer { turn, answer }
        }
        5..=9 => {
            let outcome = if at(2) % 3 == 0 {
                error().into()
            } else {
                ToolOutcome::ok(format!("o{}", at(3) % 3).repeat(1 + usize::from(at(7) % 4 == 0) * 400))
            };
            let outcome = if at(9) % 3 == 0 { outcome.with_image(image(at(10), 1 << (at(11) % 24))) } else { outcome };
            let files = vec![FileVersion { path: format!("f{}", at(4) % 3), hash: Hash::of(&[at(5)]) }];
            let outcome = state.fitting(outcome.with_files(files));
            Msg::Result { intent, outcome, duration_ms: u64::from(at(6)) }
        }
        10 => Msg::Prepared { intent, outcome: if at(2) % 2 == 0 { Ok(vec![]) } else { Err(error()) } },
        11 => Msg::Prompt { text: format!("p{}", at(1)) },
        12 => Msg::Restart { intent, began: at(2) % 2 == 0 },
        13 => {
            let mut with = settings(None);
            with.asking.somebody = at(3) % 2 == 0;
            let change = (at(2) % 2 == 0).then_some((with, None));
            Msg::Resume { why: [Resumed::Continue, Resumed::Resume, Resumed::Boot][at(1) as usize % 3], change }
        }
        14 => {
            let class = [FailureClass::Fatal, FailureClass::Refused, FailureClass::TooLong, FailureClass::Empty]
                [at(1) as usize % 4];
            let rejected = || ToolError::new(ErrorCode::GatewayRejected, "no images here");
            let error = if at(4) % 2 == 0 { rejected() } else { error() };
            Msg::NoAnswer { turn: state.turn(), failure: ModelFailure { class, error } }
        }
        15 | 16 => Msg::Approve { call_id: question(state, at(1)), allow: at(2) % 2 == 0 },
        17 if at(2) % 2 == 0 => Msg::Quiet { reason: "nothing".into() },
        17 => Msg::Stalled { turn: Turn(state.answered.0 + u32::from(at(1) % 2)), reason: "away".into() },
        18 => checkpoint(at(1), at(2)),
        _ => Msg::Stop {
            how: [Stop::Cancel, Stop::Checkpoint(CheckpointReason::Manual, None), Stop::Fail(error())]
                [at(1) as usize % 3]
                .clone(),
            unknown: if at(2) % 2 == 0 { open } else { vec![] },
        },
    }
}

/// What every strict provider asks of a history: each call answered once, in order, before anything else is said.
fn validate(body: &[u8]) -> Result<(), String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let messages = body["messages"].as_array().ok_or("no messages")?;
    let (mut due, mut ids): (Vec<String>, BTreeSet<String>) = Default::default();
    for message in messages {
        match message["role"].as_str() {
            Some("tool") => {
                let id = message["tool_call_id"].as_str().ok_or("no id")?;
                if due.is_empty() || due.remove(0) != id {
                    return Err(format!("result {id} is not due"));
                }
            }
            Some("user" | "system" | "assistant") if !due.is_empty() => return Err(format!("{due:?} unanswered")),
            Some("assistant") => {
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let id = call["id"].as_str().ok_or("no id")?.to_owned();
                    let arguments = call["function"]["arguments"].as_str().ok_or("no arguments")?;
                    serde_json::from_str::<serde_json::Map<String, Value>>(arguments)
                        .map_err(|error| error.to_string())?;
                    if !ids.insert(id.clone()) {
                        return Err(format!("id {id} twice"));
                    }
                    due.push(id);
                }
            }
            Some("user" | "system") => {}
            other => return Err(format!("role {other:?}")),
        }
    }
    if due.is_empty() { Ok(()) } else { Err(format!("{due:?} unanswered")) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Live state, state folded from the journal, and state folded over a snapshot taken at any point are one and the
    /// same, and so are the bytes of the next request, which is valid whenever the model would be asked.
    #[test]
    fn there_is_one_path(dice in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 12), 1..60), cut in any::<prop::sample::Index>()) {
        let mut drive = Drive::new(None);
        let mut previous = request(&drive.state);
        for roll in &dice {
            let msg = random(&drive.state, roll);
            let before = drive.journal.len();
            drive.take(msg);
            let now = request(&drive.state);
            let pruned = drive.journal[before..].iter().any(|event| matches!(event.body, EventBody::HistoryPruned { .. }));
            let made_room = notes(&now) > notes(&previous);
            let grew = now.starts_with(&previous[..previous.len() - 2]);
            let shrank = now.len() < previous.len();
            prop_assert!(if pruned { shrank } else { grew || made_room }, "the prompt grows at its end only");
            prop_assert!(intended(&drive), "a call that runs, or has a result, and no intent");
            prop_assert!(drive.state.history.images().count() <= limits::PROMPT_IMAGES_MAX);
            let bytes: u64 = drive.state.history.images().map(|image| image.bytes).sum();
            prop_assert!(bytes <= limits::PROMPT_IMAGES_BYTES_MAX);
            if drive.state.phase == Phase::Thinking && let Err(wrong) = validate(&now) {
                prop_assert!(false, "{wrong}: {}", String::from_utf8_lossy(&now));
            }
            previous = now;
        }
        let at = cut.index(drive.journal.len() + 1);
        let mut folded = State::new(ThreadId(1));
        drive.journal[..at].iter().for_each(|event| folded.evolve(event));
        let mut row = rows::snapshot(&folded).unwrap();
        let mut snapshot = rows::restore(&row).unwrap();
        prop_assert_eq!(&snapshot, &folded);
        row.bytes.truncate(cut.index(row.bytes.len()));
        prop_assert_eq!(rows::restore(&row), None);
        for event in &drive.journal[at..] {
            folded.evolve(event);
            snapshot.evolve(event);
        }
        prop_assert_eq!(&folded, &drive.state);
        prop_assert_eq!(&snapshot, &drive.state);
        prop_assert_eq!(request(&folded), request(&drive.state));
        prop_assert_eq!(wanted(&folded), wanted(&drive.state));
        let gapless = drive.journal.iter().enumerate().all(|(index, event)| event.seq == Seq(index as u64 + 1));
        prop_assert!(gapless);
        prop_assert_eq!(replay::of(ThreadId(1), &drive.journal), None);
    }
}
