//! What follows from a message: events. Pure; the shell evolves and commits them.

use lakitu_kernel::bead::BeadChange;
use lakitu_kernel::chat::{Finish, ModelAnswer, RawCall};
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::edit::PutBackFor;
use lakitu_kernel::event::{Call, CheckpointReason, Event, EventBody, PreparedFile, RequestMark, Resumed, Settings};
use lakitu_kernel::mode::Mode;
use lakitu_kernel::ports::{FailureClass, ModelFailure};
use lakitu_kernel::tool::{Catalogue, EffectClass, ToolOutcome};
use lakitu_kernel::{CheckpointId, ErrorCode, Hash, Seq, ThreadId, ToolError, Turn, limits};
use serde_json::Value;

use super::restoring::recorded;
use super::room::{self, Pruning};
use super::state::{CallState, End, Phase, State};
use crate::checkpoint::{CHECKPOINT_CREATE, CHECKPOINT_RESTORE, meant};

/// Everything that can happen to a thread.
#[derive(Debug, Clone)]
pub(crate) enum Msg {
    /// The thread begins.
    Start { prefix: Hash, settings: Settings, boundary: String, metadata: Option<Value> },
    /// A person's text. During a run it is taken in before the next model call.
    Prompt { text: String },
    /// The run goes on, perhaps with other settings, and with another prefix where they need one.
    Resume { why: Resumed, change: Option<(Settings, Option<Hash>)> },
    /// The model's whole answer. One to an older turn is dropped.
    Answer { turn: Turn, answer: Box<Answer> },
    /// There is none, and no retry will bring one.
    NoAnswer { turn: Turn, failure: ModelFailure },
    /// There is none yet, because the gateway cannot be reached.
    Stalled { turn: Turn, reason: String },
    /// Nothing happened for long, or what was waited for came to no end.
    Quiet { reason: String },
    /// The redo record of a call, or why there is none.
    Prepared { intent: Seq, outcome: Result<Vec<PreparedFile>, ToolError> },
    /// Somebody says whether a call may be made that waits for that.
    Approve { call_id: String, allow: bool },
    /// The thread was made out of another one's events up to `at`, perhaps to work in another place.
    Fork { from: ThreadId, at: Seq, change: Option<(Settings, Hash)> },
    /// A checkpoint is made by hand, or was gone back to.
    Checkpoint(Checkpointing),
    /// What became of a call.
    Result { intent: Seq, outcome: ToolOutcome, duration_ms: u64 },
    /// Files are to be put back, by this redo record.
    Restore { put_back_for: PutBackFor, files: Vec<PreparedFile> },
    /// What became of that.
    Restored { outcome: ToolOutcome },
    /// The call is to be started again; `began` tells whether it had begun, which may happen a bounded number of times.
    Restart { intent: Seq, began: bool },
    /// The run stops. Open calls get a result: those in `unknown` may have had an effect, the others never began.
    Stop { how: Stop, unknown: Vec<Seq> },
}

/// What is done with a checkpoint by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checkpointing {
    /// It is made.
    Create {
        /// What to call it.
        name: Option<String>,
        /// What is to be done from there.
        next_task: Option<String>,
    },
    /// It was gone back to.
    Restored {
        /// Which one.
        id: CheckpointId,
        /// The thread that goes on from it.
        to: ThreadId,
    },
}

/// How a run is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It is given up, and every command of its thread with it.
    Cancel,
    /// It is given up; jobs that no call waits for go on.
    CancelTurn,
    /// It goes on later.
    Checkpoint(CheckpointReason, Option<ToolError>),
    /// It goes on when the runtime, which ends, comes up again.
    Shutdown,
    /// It cannot go on.
    Fail(ToolError),
}

/// A model's answer whose calls were looked at.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer; its calls are in `calls`.
    pub model: ModelAnswer,
    /// Its calls, checked.
    pub calls: Vec<Checked>,
    /// The request that it is the answer to.
    pub request: Option<RequestMark>,
    /// The redo record of the first call, if that needs one: it shares the commit of the intents.
    pub first: Option<Result<Vec<PreparedFile>, ToolError>>,
}

/// A call whose arguments were looked at. Nothing has run.
#[derive(Debug, Clone)]
pub struct Checked {
    /// As it came.
    pub raw: RawCall,
    /// Its effect class and canonical arguments, or what the model is told.
    pub outcome: Result<(EffectClass, Value), ToolError>,
    /// Why somebody has to consent first.
    pub needs_consent: Option<String>,
}

/// Looks at an answer's calls: known tool, whole arguments, of the right form.
pub(crate) fn check(answer: &ModelAnswer, tools: Catalogue, mode: Mode) -> Vec<Checked> {
    let last = answer.calls.len().saturating_sub(1);
    let checked = |(index, raw): (usize, &RawCall)| {
        let cut = answer.finish == Finish::Length && index == last;
        let outcome = if index >= limits::CALLS_PER_TURN_MAX {
            let message =
                format!("at most {} calls are taken in one turn; call again in the next", limits::CALLS_PER_TURN_MAX);
            Err(ToolError::new(ErrorCode::InvalidArguments, message))
        } else if cut {
            let message =
                "the answer was cut off at the model's output limit within this call; call again with less in it";
            Err(ToolError::new(ErrorCode::TruncatedArguments, message))
        } else {
            tools.find(&raw.name, mode).and_then(|spec| Ok((spec.effect, spec.check(&raw.arguments)?)))
        };
        Checked { raw: raw.clone(), outcome, needs_consent: None }
    };
    answer.calls.iter().enumerate().map(checked).collect()
}

impl State {
    /// Takes a message in: decides, evolves, and concludes what follows. Each event, which must become durable, is
    /// handed out with the state that it is about to change.
    pub(crate) fn take(&mut self, msg: Msg, at: Timestamp, mut each: impl FnMut(&State, &Event)) {
        let mut next = self.decide(msg);
        while !next.is_empty() {
            for body in next {
                let event = Event { seq: self.seq.next(), thread: self.thread, at, body };
                each(self, &event);
                self.evolve(&event);
            }
            next = self.conclude();
        }
    }

    /// What follows from a message, before the state has changed.
    pub(crate) fn decide(&self, msg: Msg) -> Vec<EventBody> {
        match msg {
            Msg::Start { prefix, settings, boundary, metadata } => {
                let wire = lakitu_kernel::chat::WIRE_VERSION;
                vec![EventBody::ThreadStarted { prefix, settings, wire, boundary, metadata }]
            }
            Msg::Prompt { text } => vec![EventBody::Prompt { text }],
            Msg::Resume { why, change } => self.resume(why, change),
            Msg::Approve { call_id, allow } => self.approved(&call_id, allow),
            Msg::Answer { turn, answer } if self.awaits(turn) => self.answered(turn, *answer),
            Msg::NoAnswer { turn, failure } if self.awaits(turn) => vec![self.unanswered(turn, failure)],
            Msg::Stalled { turn, reason } if self.awaits(turn) && !self.stalled => vec![EventBody::Stalled { reason }],
            Msg::Quiet { reason } if self.is_running() && !self.stalled => vec![EventBody::Stalled { reason }],
            Msg::Answer { .. } | Msg::NoAnswer { .. } | Msg::Stalled { .. } | Msg::Quiet { .. } => Vec::new(),
            Msg::Prepared { intent, outcome } => self.prepared(intent, outcome),
            Msg::Fork { from, at, change } => {
                let (settings, prefix) = change.unzip();
                vec![EventBody::ThreadForked { from, at, settings, prefix }]
            }
            Msg::Checkpoint(Checkpointing::Create { name, next_task }) => {
                let id = CheckpointId { thread: self.thread, seq: self.seq.next() };
                vec![EventBody::CheckpointCreated { id, name, next_task }]
            }
            Msg::Checkpoint(Checkpointing::Restored { id, to }) => vec![EventBody::CheckpointRestored { id, to }],
            Msg::Result { intent, outcome, duration_ms } => match self.call(intent) {
                Some(call) if call.result.is_none() => {
                    let made = outcome.error.is_none().then(|| self.made(call)).flatten();
                    made.into_iter().chain(told(&call.call.call_id, outcome, duration_ms)).collect()
                }
                Some(_) | None => Vec::new(),
            },
            Msg::Restore { put_back_for, files } => vec![EventBody::EditRestoring { put_back_for, files }],
            Msg::Restored { outcome } => self.restored(outcome),
            Msg::Restart { intent, began } => self.restart(intent, began),
            Msg::Stop { how, unknown } => self.stop(how, &unknown),
        }
    }

    /// What follows from the state alone.
    pub(crate) fn conclude(&self) -> Vec<EventBody> {
        match &self.phase {
            Phase::Answered => vec![EventBody::ThreadCompleted {}],
            Phase::Thinking if self.streak.count >= limits::STUCK_ENDED_AT => {
                let message = format!("the same call gave the same result {} times in a row", self.streak.count);
                vec![EventBody::ThreadFailed { error: ToolError::new(ErrorCode::Stuck, message) }]
            }
            Phase::Thinking if self.cuts >= limits::CUT_ANSWERS_MAX => {
                let message =
                    format!("the answer was cut off at the model's output limit {} times in a row", self.cuts);
                let error = Some(ToolError::new(ErrorCode::TruncatedAnswer, message));
                vec![EventBody::ThreadCheckpointed { reason: CheckpointReason::TokenLimit, error, goes_on: false }]
            }
            Phase::Thinking
                if self.settings.as_ref().and_then(|set| set.max_turns).is_some_and(|max| self.run.turns >= max) =>
            {
                vec![checkpointed(CheckpointReason::TurnLimit, None)]
            }
            Phase::Thinking | Phase::Settled(_) | Phase::Acting(_) => Vec::new(),
        }
    }

    fn awaits(&self, turn: Turn) -> bool {
        self.phase == Phase::Thinking && self.turn() == turn
    }

    /// The checkpoint that a call made or put files back to, where it is one that does.
    fn made(&self, call: &CallState) -> Option<EventBody> {
        let text = |name| call.arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        if call.call.tool == CHECKPOINT_RESTORE.name {
            let id = meant(&text("id")?, self.thread)?;
            return Some(EventBody::CheckpointRestored { id, to: self.thread });
        }
        (call.call.tool == CHECKPOINT_CREATE.name).then(|| EventBody::CheckpointCreated {
            id: CheckpointId { thread: self.thread, seq: call.intent },
            name: text("name"),
            next_task: text("next_task"),
        })
    }

    fn answered(&self, turn: Turn, answer: Answer) -> Vec<EventBody> {
        let Answer { model, calls: mut checked, request, first } = answer;
        let dropped = checked.len().saturating_sub(limits::CALLS_ANSWERED_PER_TURN_MAX);
        checked.truncate(limits::CALLS_ANSWERED_PER_TURN_MAX);
        let (calls, mut repairs) = self.wire_calls(turn, &checked);
        if dropped > 0 {
            let reason = format!(
                "{dropped} calls past the {} that one turn may have were dropped",
                limits::CALLS_ANSWERED_PER_TURN_MAX
            );
            repairs.push(EventBody::HistoryRepaired { call_id: None, reason });
        }
        let cut = model.finish == Finish::Length && calls.is_empty();
        let tools: Vec<String> = calls.iter().map(|call| call.tool.clone()).collect();
        let mut events = vec![EventBody::Message {
            role: "assistant".to_owned(),
            turn,
            text: model.text.clone(),
            calls: calls.clone(),
            opaque: model.opaque,
            cut,
            request,
        }];
        if let Some(usage) = model.usage {
            let asked = self.settings.as_ref().map(|settings| settings.model.clone());
            events.push(EventBody::Usage {
                turn,
                model: model.model.or(asked).unwrap_or_default(),
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
                cached_tokens: usage.cached_tokens,
                cost_usd: usage.cost,
            });
        }
        if calls.is_empty() {
            return events;
        }
        events.push(EventBody::Decision { turn, tools, reasoning: model.text });
        events.extend(repairs);
        let mut results = Vec::new();
        for (call, checked) in calls.iter().zip(&checked) {
            let (effect, arguments) = match &checked.outcome {
                Ok((effect, arguments)) => (*effect, arguments.clone()),
                Err(error) => {
                    results.push(result(&call.call_id, error.clone().into(), 0));
                    // What was asked for stands in the message; nothing of it runs.
                    (EffectClass::Read, Value::Null)
                }
            };
            let (call_id, tool) = (call.call_id.clone(), call.tool.clone());
            events.push(match &checked.needs_consent {
                Some(reason) => EventBody::ApprovalAsked { call_id, tool, arguments, effect, reason: reason.clone() },
                None => EventBody::ToolIntent { call_id, tool, arguments, effect },
            });
        }
        match (first, calls.first()) {
            (Some(Ok(files)), Some(call)) => {
                events.push(EventBody::ToolPrepared { call_id: call.call_id.clone(), files })
            }
            (Some(Err(error)), Some(call)) => events.push(result(&call.call_id, error.into(), 0)),
            (None, _) | (Some(_), None) => {}
        }
        events.extend(results);
        events
    }

    /// The calls as they go back on the wire: ids unique within the thread, arguments JSON objects. What had to be
    /// mended is an event of its own.
    fn wire_calls(&self, turn: Turn, checked: &[Checked]) -> (Vec<Call>, Vec<EventBody>) {
        let mut taken = std::collections::BTreeSet::new();
        let mut repairs = Vec::new();
        let mut calls = Vec::new();
        for (index, Checked { raw, .. }) in checked.iter().enumerate() {
            let mut reasons = Vec::new();
            let mut call_id = raw.id.clone();
            if call_id.is_empty() || self.call_ids.contains(&call_id) || !taken.insert(call_id.clone()) {
                call_id = format!("call_{turn}_{}", index + 1);
                while self.call_ids.contains(&call_id) || !taken.insert(call_id.clone()) {
                    call_id.push('x');
                }
                reasons.push(format!("the provider's id {:?} was empty or taken", shortened(&raw.id)));
            }
            let object = serde_json::from_str::<serde_json::Map<String, Value>>(&raw.arguments).is_ok();
            if !object {
                reasons.push("the arguments were no JSON object; {} stands in their place".to_owned());
            }
            let arguments = if object { raw.arguments.clone() } else { "{}".to_owned() };
            if !reasons.is_empty() {
                repairs.push(EventBody::HistoryRepaired { call_id: Some(call_id.clone()), reason: reasons.join("; ") });
            }
            let tool = wire_name(&raw.name);
            calls.push(Call { call_id, tool, arguments });
        }
        (calls, repairs)
    }

    /// A prompt that does not fit is made shorter once a turn, a model that says nothing is told so once a turn, and a prompt
    /// that is refused loses its images: the model may take none, or not this one. Everything else ends the run.
    fn unanswered(&self, turn: Turn, failure: ModelFailure) -> EventBody {
        if failure.class == FailureClass::Empty && self.nudged != Some(turn) {
            return EventBody::ModelNudged { turn };
        }
        if self.pruned == Some(turn) {
            return no_answer(failure);
        }
        let refused = failure.error.code == ErrorCode::GatewayRejected;
        let (refused, pruning) = match failure.class {
            FailureClass::TooLong => (false, room::to_prune(&self.history)),
            FailureClass::Fatal | FailureClass::Refused | FailureClass::FallBack if refused => {
                (true, room::images_to_prune(&self.history))
            }
            FailureClass::Fatal
            | FailureClass::Refused
            | FailureClass::FallBack
            | FailureClass::Credentials
            | FailureClass::Retry { .. }
            | FailureClass::Senseless
            | FailureClass::Empty
            | FailureClass::OverBudget
            | FailureClass::Overloaded { .. } => (false, None),
        };
        match pruning {
            Some(Pruning { results, images, bytes }) => {
                EventBody::HistoryPruned { turn, results, bytes, images, refused }
            }
            None => no_answer(failure),
        }
    }

    /// The outcome as it is taken in: the images of one turn are bounded.
    pub(super) fn fitting(&self, outcome: ToolOutcome) -> ToolOutcome {
        let (mut count, mut bytes) = (outcome.images.len(), 0);
        bytes += outcome.images.iter().map(|image| image.about.bytes).sum::<u64>();
        for image in self.acting().into_iter().flat_map(|acting| &acting.calls).flat_map(|call| &call.images) {
            count += 1;
            bytes += image.bytes;
        }
        let fits = count <= limits::TURN_IMAGES_MAX && bytes <= limits::TURN_IMAGES_BYTES_MAX;
        if outcome.images.is_empty() || fits {
            return outcome;
        }
        let message = format!(
            "one turn shows at most {} images, of {} bytes together; read this one in the next turn",
            limits::TURN_IMAGES_MAX,
            limits::TURN_IMAGES_BYTES_MAX
        );
        ToolError::new(ErrorCode::FileTooLarge, message).into()
    }

    /// What was asked is asked again, of whoever is there now; where that is nobody, it is refused. Behind the end of its run
    /// a thread goes on with a prompt alone: whoever asked for less asked before the end came.
    fn resume(&self, why: Resumed, change: Option<(Settings, Option<Hash>)>) -> Vec<EventBody> {
        if why != Resumed::Continue && matches!(self.end(), Some(End::Completed | End::Cancelled)) {
            return Vec::new();
        }
        let (settings, prefix) = change.unzip();
        let asking = settings.as_ref().or(self.settings.as_ref()).map(|settings| settings.asking).unwrap_or_default();
        let mut events = vec![EventBody::ThreadResumed { why, settings, prefix: prefix.flatten() }];
        for call in self.questions() {
            if asking.somebody {
                events.push(asked(call));
            } else {
                events.extend(never_began(call, unasked(call.asked.as_deref().unwrap_or_default())));
            }
        }
        events
    }

    fn approved(&self, call_id: &str, allow: bool) -> Vec<EventBody> {
        let Some(call) = self.question(call_id) else { return Vec::new() };
        let answered = EventBody::ApprovalAnswered { call_id: call_id.to_owned(), allow };
        if allow {
            return vec![answered, intent(call, call.effect)];
        }
        let message =
            "the person who was asked does not allow this; nothing ran. Do without it, or say what it is needed for";
        let refused = ToolError::new(ErrorCode::PermissionDenied, message);
        std::iter::once(answered).chain(never_began(call, refused)).collect()
    }

    fn prepared(&self, intent: Seq, outcome: Result<Vec<PreparedFile>, ToolError>) -> Vec<EventBody> {
        let Some(call) = self.call(intent).filter(|call| call.result.is_none() && call.prepared.is_none()) else {
            return Vec::new();
        };
        let call_id = call.call.call_id.clone();
        match outcome {
            Ok(files) => vec![EventBody::ToolPrepared { call_id, files }],
            Err(error) => vec![result(&call_id, error.into(), 0)],
        }
    }

    fn restart(&self, intent: Seq, began: bool) -> Vec<EventBody> {
        let Some(call) = self.call(intent).filter(|call| call.result.is_none()) else { return Vec::new() };
        let call_id = call.call.call_id.clone();
        // The restarts of a call that had begun stand behind its first start.
        if !began || call.crashes + 1 < limits::STARTS_MAX {
            return vec![EventBody::ToolRestarted { call_id, start: call.start + 1, began }];
        }
        let message = format!(
            "the runtime ended {} times while this call was under way; it is not started again",
            limits::STARTS_MAX
        );
        vec![result(&call_id, ToolError::new(ErrorCode::CrashedTwice, message).into(), 0)]
    }

    fn stop(&self, how: Stop, unknown: &[Seq]) -> Vec<EventBody> {
        if !self.is_running() {
            return Vec::new();
        }
        let open = self.acting().into_iter().flat_map(|acting| &acting.calls).filter(|call| call.result.is_none());
        let mut events: Vec<EventBody> = open
            .flat_map(|call| {
                // Without an intent it provably never began, whatever is said of it.
                if call.intent != Seq::ZERO && unknown.contains(&call.intent) {
                    let message = "the run was stopped while this was under way; how far it got is not known";
                    let error = ToolError::new(ErrorCode::Interrupted, message);
                    return vec![result(&call.call.call_id, error.into(), 0)];
                }
                let message = "the run was stopped before this began; nothing of it ran";
                never_began(call, ToolError::new(ErrorCode::Cancelled, message))
            })
            .collect();
        events.push(match how {
            Stop::Cancel | Stop::CancelTurn => EventBody::ThreadCancelled {},
            Stop::Checkpoint(reason, error) => checkpointed(reason, error),
            Stop::Shutdown => {
                EventBody::ThreadCheckpointed { reason: CheckpointReason::Interrupted, error: None, goes_on: true }
            }
            Stop::Fail(error) => EventBody::ThreadFailed { error },
        });
        events
    }

    /// How the last run ended, if none is on.
    pub(crate) fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Settled(end) => Some(end),
            Phase::Thinking | Phase::Answered | Phase::Acting(_) => None,
        }
    }
}

fn checkpointed(reason: CheckpointReason, error: Option<ToolError>) -> EventBody {
    EventBody::ThreadCheckpointed { reason, error, goes_on: false }
}

/// The question that a call waits for the answer of.
fn asked(call: &CallState) -> EventBody {
    EventBody::ApprovalAsked {
        call_id: call.call.call_id.clone(),
        tool: call.call.tool.clone(),
        arguments: call.arguments.clone(),
        effect: call.effect,
        reason: call.asked.clone().unwrap_or_default(),
    }
}

fn intent(call: &CallState, effect: EffectClass) -> EventBody {
    EventBody::ToolIntent {
        call_id: call.call.call_id.clone(),
        tool: call.call.tool.clone(),
        arguments: call.arguments.clone(),
        effect,
    }
}

/// The end of a call that provably never began. One that still waits for consent has its intent now, as every call has.
fn never_began(call: &CallState, error: ToolError) -> Vec<EventBody> {
    // Nothing of it runs: as with refused arguments.
    let intent = (call.intent == Seq::ZERO).then(|| intent(call, EffectClass::Read));
    intent.into_iter().chain([result(&call.call.call_id, error.into(), 0)]).collect()
}

/// A call needs consent, and there is nobody to give it.
pub(crate) fn unasked(reason: &str) -> ToolError {
    let message = format!(
        "this needs a person's consent ({reason}), and nobody can be asked in this run; nothing ran. Do without it, or say \
         in your answer what is to be done by hand"
    );
    ToolError::new(ErrorCode::PermissionDenied, message)
}

fn no_answer(failure: ModelFailure) -> EventBody {
    let ModelFailure { class, error } = failure;
    match class {
        FailureClass::Fatal => EventBody::ThreadFailed { error },
        FailureClass::TooLong => checkpointed(CheckpointReason::TokenLimit, Some(error)),
        FailureClass::OverBudget => checkpointed(CheckpointReason::BudgetLimit, Some(error)),
        FailureClass::Retry { .. }
        | FailureClass::Overloaded { .. }
        | FailureClass::Senseless
        | FailureClass::Empty
        | FailureClass::Credentials
        | FailureClass::FallBack
        | FailureClass::Refused => checkpointed(CheckpointReason::Gateway, Some(error)),
    }
}

/// What became of a call: what it changed in files and among beads and saved, then its result.
fn told(call_id: &str, mut outcome: ToolOutcome, duration_ms: u64) -> Vec<EventBody> {
    let changes = recorded(Some(call_id), std::mem::take(&mut outcome.changes));
    let bead = outcome.bead.take().map(|bead| {
        let (BeadChange { id, status, freed }, call_id) = (*bead, call_id.to_owned());
        EventBody::BeadChanged { call_id, id, status, freed }
    });
    let artifact = outcome.artifact.take().map(|artifact| {
        let (artifact, call_id) = (artifact.0, call_id.to_owned());
        EventBody::ArtifactSaved { call_id, artifact }
    });
    changes.into_iter().chain(bead).chain(artifact).chain([result(call_id, outcome, duration_ms)]).collect()
}

fn result(call_id: &str, outcome: ToolOutcome, duration_ms: u64) -> EventBody {
    let ToolOutcome { output, error, files, images, changes: _, bead: _, artifact: _ } = outcome;
    let images = images.into_iter().map(|image| image.about).collect();
    EventBody::ToolResult {
        call_id: call_id.to_owned(),
        ok: error.is_none(),
        output,
        error,
        files,
        images,
        duration_ms,
    }
}

/// A tool's name as every provider takes it back. That of a tool there is stays as it is.
fn wire_name(name: &str) -> String {
    if name.is_empty() {
        return "unnamed".to_owned();
    }
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    shortened(name).chars().map(|char| if fits(char) { char } else { '_' }).collect()
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
