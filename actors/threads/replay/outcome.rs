//! The messages of which the next events of a journal may have come. Pure.

#![allow(clippy::wildcard_enum_match_arm, reason = "of many kinds of events a few are looked for")]

use bytes::Bytes;
use lakitu_kernel::bead::BeadChange;
use lakitu_kernel::chat::{Finish, ModelAnswer, RawCall, Usage};
use lakitu_kernel::edit::Changes;
use lakitu_kernel::event::{Call, Event, EventBody};
use lakitu_kernel::image::Image;
use lakitu_kernel::ports::{FailureClass, ModelFailure};
use lakitu_kernel::tool::{EffectClass, ToolOutcome};
use lakitu_kernel::{ErrorCode, Seq, ToolError, Turn};

use crate::checkpoint::CHECKPOINT_RESTORE;
use crate::threads::agent::{Answer, Checked, Checkpointing, Msg, State, Stop};

/// In the order in which they are tried. None: no message begins with such an event.
pub(super) fn candidates(state: &State, journal: &[Event]) -> Vec<Msg> {
    let Some(event) = journal.first() else { return Vec::new() };
    match &event.body {
        EventBody::ThreadStarted { prefix, settings, boundary, metadata, wire: _ } => vec![Msg::Start {
            prefix: *prefix,
            settings: settings.clone(),
            boundary: boundary.clone(),
            metadata: metadata.clone(),
        }],
        EventBody::ThreadResumed { why, settings, prefix } => {
            let change = settings.clone().map(|settings| (settings, *prefix));
            vec![Msg::Resume { why: *why, change }]
        }
        EventBody::ThreadForked { from, at, settings, prefix } => {
            vec![Msg::Fork { from: *from, at: *at, change: settings.clone().zip(*prefix) }]
        }
        EventBody::Prompt { text } => vec![Msg::Prompt { text: text.clone() }],
        EventBody::Message { .. } => {
            let Some(answer) = answer(journal) else { return Vec::new() };
            // A result behind the intents may have been the first call's preparation, or have come for itself.
            let alone = answer.first.is_some().then(|| Answer { first: None, ..answer.clone() });
            let turn = answered(&event.body).unwrap_or_default();
            std::iter::once(answer).chain(alone).map(|answer| Msg::Answer { turn, answer: Box::new(answer) }).collect()
        }
        EventBody::ApprovalAnswered { call_id, allow } => {
            vec![Msg::Approve { call_id: call_id.clone(), allow: *allow }]
        }
        EventBody::ToolPrepared { call_id, files } => {
            vec![Msg::Prepared { intent: intent(state, call_id), outcome: Ok(files.clone()) }]
        }
        EventBody::ToolRestarted { call_id, began, start: _ } => {
            vec![Msg::Restart { intent: intent(state, call_id), began: *began }]
        }
        // A result that came, or one of those that a stop gives.
        EventBody::ToolResult { .. }
        | EventBody::CheckpointCreated { .. }
        | EventBody::CheckpointRestored { .. }
        | EventBody::BeadChanged { .. }
        | EventBody::ArtifactSaved { .. }
        | EventBody::EditRecorded { call_id: Some(_), .. }
        | EventBody::ToolIntent { .. } => result(state, journal).into_iter().chain(stop(state, journal)).collect(),
        EventBody::EditRestoring { put_back_for, files } => {
            vec![Msg::Restore { put_back_for: put_back_for.clone(), files: files.clone() }]
        }
        EventBody::EditRecorded { call_id: None, .. } | EventBody::EditRestored { .. } => {
            let (changes, journal) = recorded(journal);
            let Some(EventBody::EditRestored { error, .. }) = journal.first().map(|event| &event.body) else {
                return Vec::new();
            };
            let outcome = error.clone().map_or_else(|| ToolOutcome::ok(""), ToolOutcome::from);
            vec![Msg::Restored { outcome: outcome.with_changes(changes) }]
        }
        EventBody::HistoryPruned { turn, refused, .. } => {
            let class = if *refused { FailureClass::Fatal } else { FailureClass::TooLong };
            vec![Msg::NoAnswer { turn: *turn, failure: failure(class) }]
        }
        EventBody::ModelNudged { turn } => {
            vec![Msg::NoAnswer { turn: *turn, failure: failure(FailureClass::Empty) }]
        }
        EventBody::Stalled { reason } => {
            vec![Msg::Stalled { turn: state.turn(), reason: reason.clone() }, Msg::Quiet { reason: reason.clone() }]
        }
        EventBody::ThreadFailed { .. } | EventBody::ThreadCheckpointed { .. } | EventBody::ThreadCancelled {} => {
            stop(state, journal).into_iter().collect()
        }
        // These stand behind what they follow from.
        EventBody::ApprovalAsked { .. }
        | EventBody::Decision { .. }
        | EventBody::HistoryRepaired { .. }
        | EventBody::Usage { .. }
        | EventBody::ThreadCompleted {} => Vec::new(),
    }
}

/// Where the intent of a call under way stands.
fn intent(state: &State, call_id: &str) -> Seq {
    let calls = state.acting().into_iter().flat_map(|acting| &acting.calls);
    calls.filter(|call| call.call.call_id == call_id).map(|call| call.intent).next().unwrap_or_default()
}

fn failure(class: FailureClass) -> ModelFailure {
    ModelFailure { class, error: ToolError::new(ErrorCode::GatewayRejected, "as the journal has it") }
}

/// What was changed in files, where the journal begins with that, and what stands behind it.
fn recorded(journal: &[Event]) -> (Changes, &[Event]) {
    match journal.split_first() {
        Some((Event { body: EventBody::EditRecorded { files, left_out, .. }, .. }, behind)) => {
            (Changes { files: files.clone(), left_out: left_out.clone(), blobs: Vec::new() }, behind)
        }
        Some(_) | None => (Changes::default(), journal),
    }
}

fn result(state: &State, journal: &[Event]) -> Option<Msg> {
    match &journal.first()?.body {
        EventBody::CheckpointCreated { id, name, next_task } => match result(state, journal.get(1..)?) {
            // A call made it.
            Some(msg @ Msg::Result { intent, .. }) if intent == id.seq => Some(msg),
            Some(_) | None => {
                Some(Msg::Checkpoint(Checkpointing::Create { name: name.clone(), next_task: next_task.clone() }))
            }
        },
        EventBody::CheckpointRestored { id, to } => match result(state, journal.get(1..)?) {
            // A call put files back to it.
            Some(msg @ Msg::Result { intent, .. }) if restores(state, intent) => Some(msg),
            Some(_) | None => Some(Msg::Checkpoint(Checkpointing::Restored { id: *id, to: *to })),
        },
        EventBody::EditRecorded { .. } => {
            let (changes, journal) = recorded(journal);
            match result(state, journal)? {
                Msg::Result { intent, outcome, duration_ms } => {
                    Some(Msg::Result { intent, outcome: outcome.with_changes(changes), duration_ms })
                }
                _ => None,
            }
        }
        EventBody::BeadChanged { call_id: _, id, status, freed } => match result(state, journal.get(1..)?)? {
            Msg::Result { intent, mut outcome, duration_ms } => {
                let (id, status, freed) = (id.clone(), status.clone(), freed.clone());
                outcome.bead = Some(Box::new(BeadChange { id, status, freed }));
                Some(Msg::Result { intent, outcome, duration_ms })
            }
            _ => None,
        },
        EventBody::ArtifactSaved { call_id: _, artifact } => match result(state, journal.get(1..)?)? {
            Msg::Result { intent, mut outcome, duration_ms } => {
                outcome.artifact = Some(Box::new((artifact.clone(), Bytes::new())));
                Some(Msg::Result { intent, outcome, duration_ms })
            }
            _ => None,
        },
        EventBody::ToolResult { call_id, output, error, files, images, duration_ms, ok: _ } => {
            let images = images.iter().map(|about| Image { about: about.clone(), bytes: Bytes::new() }).collect();
            let (output, error, files) = (output.clone(), error.clone(), files.clone());
            let outcome =
                ToolOutcome { output, error, files, images, changes: Changes::default(), bead: None, artifact: None };
            Some(Msg::Result { intent: intent(state, call_id), outcome, duration_ms: *duration_ms })
        }
        _ => None,
    }
}

/// Whether the call with this intent puts files back to a checkpoint.
fn restores(state: &State, intent: Seq) -> bool {
    state.call(intent).is_some_and(|call| call.call.tool == CHECKPOINT_RESTORE.name)
}

/// The stop whose results begin here, and whose end stands behind them.
fn stop(state: &State, journal: &[Event]) -> Option<Msg> {
    let mut unknown = Vec::new();
    for event in journal {
        let how = match &event.body {
            EventBody::ToolIntent { .. } => continue,
            EventBody::ToolResult { call_id, error, .. } => {
                if error.as_ref().is_some_and(|error| error.code == ErrorCode::Interrupted) {
                    unknown.push(intent(state, call_id));
                }
                continue;
            }
            EventBody::ThreadCancelled {} => Stop::Cancel,
            EventBody::ThreadFailed { error } => Stop::Fail(error.clone()),
            EventBody::ThreadCheckpointed { goes_on: true, .. } => Stop::Shutdown,
            EventBody::ThreadCheckpointed { reason, error, .. } => Stop::Checkpoint(*reason, error.clone()),
            _ => return None,
        };
        return Some(Msg::Stop { how, unknown });
    }
    None
}

fn answered(body: &EventBody) -> Option<Turn> {
    if let EventBody::Message { turn, .. } = body { Some(*turn) } else { None }
}

/// The answer that a message and what stands behind it came of.
fn answer(journal: &[Event]) -> Option<Answer> {
    let EventBody::Message { text, calls, opaque, cut, request, turn: _, role: _ } = &journal.first()?.body else {
        return None;
    };
    let mut behind = journal.get(1..)?.iter().peekable();
    let used = behind.peek().and_then(|event| match &event.body {
        EventBody::Usage { model, input_tokens, output_tokens, cached_tokens, cost_usd, turn: _ } => {
            let usage = Usage {
                input_tokens: *input_tokens,
                output_tokens: *output_tokens,
                cached_tokens: *cached_tokens,
                cost: *cost_usd,
                ..Usage::default()
            };
            Some((usage, model.clone()))
        }
        _ => None,
    });
    let (usage, model) = used.unzip();
    let rest: Vec<&Event> = behind.collect();
    let checked: Vec<Checked> = calls.iter().map(|call| checked(call, &rest)).collect();
    let first = calls.first().zip(checked.first()).and_then(|(call, checked)| first(call, checked, calls, &rest));
    let finish = if *cut { Finish::Length } else { Finish::Stop };
    let raw = checked.iter().map(|checked| checked.raw.clone()).collect();
    let model = ModelAnswer { text: text.clone(), calls: raw, finish, usage, model, opaque: opaque.clone() };
    Some(Answer { model, calls: checked, request: *request, first })
}

/// What a look at a call's arguments came to.
fn checked(call: &Call, behind: &[&Event]) -> Checked {
    let raw = RawCall { id: call.call_id.clone(), name: call.tool.clone(), arguments: call.arguments.clone() };
    let mut checked = Checked { raw, outcome: Ok((EffectClass::Read, serde_json::Value::Null)), needs_consent: None };
    for event in behind {
        match &event.body {
            EventBody::ToolIntent { call_id, arguments, effect, .. } if *call_id == call.call_id => {
                checked.outcome = Ok((*effect, arguments.clone()));
                // Of a call whose arguments were refused none stand in its intent.
                if !arguments.is_null() {
                    return checked;
                }
            }
            EventBody::ApprovalAsked { call_id, arguments, effect, reason, .. } if *call_id == call.call_id => {
                checked.outcome = Ok((*effect, arguments.clone()));
                checked.needs_consent = Some(reason.clone());
                return checked;
            }
            EventBody::ToolResult { call_id, error: Some(error), .. } if *call_id == call.call_id => {
                checked.outcome = Err(error.clone());
                return checked;
            }
            EventBody::Message { .. } => return checked,
            _ => {}
        }
    }
    checked
}

/// The redo record of the first call, or why there was none, where it stands behind the intents.
fn first(
    call: &Call,
    checked: &Checked,
    calls: &[Call],
    behind: &[&Event],
) -> Option<Result<Vec<lakitu_kernel::event::PreparedFile>, ToolError>> {
    let verifiable = matches!(checked.outcome, Ok((EffectClass::Verifiable, _)));
    if !verifiable || checked.needs_consent.is_some() {
        return None;
    }
    let is_last = |event: &&&Event| match &event.body {
        EventBody::ToolIntent { call_id, .. } | EventBody::ApprovalAsked { call_id, .. } => {
            calls.last().is_some_and(|last| last.call_id == *call_id)
        }
        _ => false,
    };
    let at = behind.iter().position(|event| is_last(&event))?;
    match &behind.get(at + 1)?.body {
        EventBody::ToolPrepared { call_id, files } if *call_id == call.call_id => Some(Ok(files.clone())),
        EventBody::ToolResult { call_id, error: Some(error), .. } if *call_id == call.call_id => {
            Some(Err(error.clone()))
        }
        _ => None,
    }
}
