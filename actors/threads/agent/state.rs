//! What a thread is, derived from its journal and from nothing else.
//!
//! **Invariant:** the state changes only by [`State::evolve`]: live, at a restart, in a replay.
//! **Invariant:** no clock, no randomness, no I/O here; the same events give the same state and the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::chat::{self, Usd};
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{Call, CheckpointReason, Event, EventBody, PreparedFile, Resumed, Settings};
use lakitu_kernel::image::ImageRef;
use lakitu_kernel::planted::{Planted, planted};
use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{ErrorCode, Hash, Seq, ThreadId, ToolError, Turn, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::history::History;
use super::kept::Kept;
use super::restoring::Restoring;
use super::room;
use crate::tools::Known;

/// A thread, as its journal tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Which thread.
    pub thread: ThreadId,
    /// The last event taken in.
    pub seq: Seq,
    /// When it was started.
    pub created_at: Timestamp,
    /// How it was started; nothing before `thread.started`.
    pub settings: Option<Settings>,
    /// The blob with which every request begins.
    pub prefix: Option<Hash>,
    /// What encloses text from outside.
    pub boundary: String,
    /// What it is doing.
    pub phase: Phase,
    /// The gateway cannot be reached, or nothing else has happened for long either.
    #[serde(default)]
    pub stalled: bool,
    /// Turns that were answered, over the thread's whole life.
    pub answered: Turn,
    /// The present run: limits count anew from its start.
    pub run: Run,
    /// Every message after the system's, as wire bytes.
    pub history: History,
    /// The last turn for which room was made in the prompt.
    pub pruned: Option<Turn>,
    /// The last turn whose model said nothing and was told so.
    #[serde(default)]
    pub nudged: Option<Turn>,
    /// Answers in a row that were cut off.
    pub cuts: u32,
    /// Prompts that arrived during the run and wait for the next model call.
    pub inbox: Vec<String>,
    /// The versions of files that the thread has seen or made.
    pub known: Known,
    /// Ids of calls that are taken: providers repeat theirs.
    pub call_ids: BTreeSet<String>,
    /// The last turn's calls with their results, and how often in a row they were the same.
    pub streak: Streak,
    /// Files that are being put back to earlier versions: nothing else runs until that is done.
    #[serde(default)]
    pub restoring: Option<Restoring>,
    /// What it used so far.
    pub totals: Totals,
    /// The beginning of the first prompt.
    pub title: String,
    /// What the model said last.
    pub text: String,
    /// What a checkpoint would hold.
    pub kept: Kept,
}

/// What a thread is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing: no run yet, or the last one ended so.
    Settled(End),
    /// The model is asked for the next turn.
    Thinking,
    /// The model gave an answer without calls: the run is about to be completed.
    Answered,
    /// The calls of the last turn are under way.
    Acting(Acting),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// There was none yet.
    New,
    /// Completed.
    Completed,
    /// Failed.
    Failed(ToolError),
    /// Stopped where it can go on.
    Checkpointed(CheckpointReason, Option<ToolError>),
    /// Given up.
    Cancelled,
}

/// The calls of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acting {
    /// In the order in which the model called.
    pub calls: Vec<CallState>,
    /// The last event that changed one of them.
    pub touched: Seq,
    /// The event of the decision that they belong to.
    pub decision: Seq,
}

/// A call of the turn under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallState {
    /// As the model asked for it.
    pub call: Call,
    /// Where its intent stands.
    pub intent: Seq,
    /// Checked arguments.
    pub arguments: Value,
    /// What recovery may assume.
    pub effect: EffectClass,
    /// 1, or more after restarts.
    pub start: u32,
    /// How often it had begun and was started again.
    pub crashes: u32,
    /// Where the last start was decided: it must be durable before the call begins.
    pub decided: Seq,
    /// When that was.
    pub decided_at: Timestamp,
    /// Its redo record.
    pub prepared: Option<Vec<PreparedFile>>,
    /// Its result, as it goes on the wire.
    pub result: Option<Bytes>,
    /// Why it needs somebody's consent, while it waits for that: it has no intent yet.
    pub asked: Option<String>,
    /// What its result shows.
    pub images: Vec<ImageRef>,
    /// Tells results apart, for stuck detection.
    pub fingerprint: Option<Hash>,
    /// The code of its result, where that is a failure.
    pub failed: Option<ErrorCode>,
}

/// A run: from a prompt or a resume until the thread stops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The event with which it began.
    pub began: Seq,
    /// Turns answered in it.
    pub turns: u32,
    /// When it began.
    pub started_at: Timestamp,
}

/// The same calls with the same results in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streak {
    /// Of the last turn's calls and results.
    pub fingerprint: Option<Hash>,
    /// How often in a row.
    pub count: u32,
}

/// Sums over a thread's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Tool calls with a result.
    pub tool_calls: u64,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Of the tokens in, those that came from a cache.
    pub cached_tokens: u64,
    /// What they cost, where that is known.
    pub cost: Option<Usd>,
}

impl Totals {
    fn used(&mut self, input: u64, output: u64, cached: u64, cost: Option<Usd>) {
        self.input_tokens += input;
        self.output_tokens += output;
        self.cached_tokens += cached;
        self.cost = Usd::sum(self.cost, cost);
    }
}

impl State {
    /// A thread of which nothing is known yet.
    pub fn new(thread: ThreadId) -> Self {
        Self {
            thread,
            seq: Seq::ZERO,
            created_at: Timestamp(0),
            settings: None,
            prefix: None,
            boundary: String::new(),
            phase: Phase::Settled(End::New),
            stalled: false,
            answered: Turn(0),
            run: Run::default(),
            history: History::default(),
            pruned: None,
            nudged: None,
            cuts: 0,
            inbox: Vec::new(),
            known: Arc::new(BTreeMap::new()),
            call_ids: BTreeSet::new(),
            streak: Streak::default(),
            restoring: None,
            totals: Totals::default(),
            title: String::new(),
            text: String::new(),
            kept: Kept::default(),
        }
    }

    /// The turn that is asked for next: always one more than there are answers.
    pub fn turn(&self) -> Turn {
        Turn(self.answered.0 + 1)
    }

    /// Whether a run is on.
    pub fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Settled(_))
    }

    /// The turn's calls, while they are under way.
    pub fn acting(&self) -> Option<&Acting> {
        match &self.phase {
            Phase::Acting(acting) => Some(acting),
            Phase::Settled(_) | Phase::Thinking | Phase::Answered => None,
        }
    }

    /// The call with this intent, while it is under way.
    pub fn call(&self, intent: Seq) -> Option<&CallState> {
        self.acting()?.calls.iter().find(|call| call.intent == intent && intent != Seq::ZERO)
    }

    /// The calls that wait for somebody's consent.
    pub fn questions(&self) -> impl Iterator<Item = &CallState> {
        let calls = self.acting().into_iter().flat_map(|acting| &acting.calls);
        calls.filter(|call| call.asked.is_some() && call.result.is_none())
    }

    /// The call of that id, while it waits for somebody's consent.
    pub fn question(&self, call_id: &str) -> Option<&CallState> {
        self.questions().find(|call| call.call.call_id == call_id)
    }

    /// Whether the run waits for something outside of it: the gateway to come back, what has not ended for long, or
    /// somebody's consent.
    pub fn is_waiting(&self) -> bool {
        self.stalled || self.questions().next().is_some()
    }

    /// Takes an event in.
    pub fn evolve(&mut self, event: &Event) {
        self.seq = event.seq;
        self.kept.take(event);
        match &event.body {
            EventBody::ThreadStarted { prefix, settings, boundary, wire: _, metadata: _ } => {
                self.created_at = event.at;
                self.settings = Some(settings.clone());
                self.prefix = Some(*prefix);
                self.boundary.clone_from(boundary);
            }
            EventBody::ThreadResumed { why, settings, prefix } => {
                self.resumed(*why, settings.as_ref(), *prefix, event.at)
            }
            EventBody::Prompt { text } => self.prompted(text, event.at),
            EventBody::Message { text, calls, opaque, turn, cut, role: _, request: _ } => {
                self.answered = *turn;
                self.stalled = false;
                self.run.turns += 1;
                self.text.clone_from(text);
                self.history.push(chat::assistant(text, calls, opaque.as_ref()));
                self.message(calls, *cut);
            }
            EventBody::ApprovalAsked { .. }
            | EventBody::ToolIntent { .. }
            | EventBody::ToolPrepared { .. }
            | EventBody::ToolRestarted { .. }
            | EventBody::ToolResult { .. } => self.call_changed(event),
            EventBody::Usage { input_tokens, output_tokens, cached_tokens, cost_usd, turn: _, model: _ } => {
                self.totals.used(*input_tokens, *output_tokens, *cached_tokens, *cost_usd);
            }
            EventBody::Decision { .. } => {
                if let Phase::Acting(acting) = &mut self.phase {
                    acting.decision = self.seq;
                }
            }
            EventBody::HistoryPruned { turn, results, images, refused, bytes: _ } => {
                self.pruned = Some(*turn);
                self.take_out(*results, *images, *refused);
            }
            EventBody::ModelNudged { turn } => self.nudge(*turn),
            EventBody::EditRestoring { put_back_for, files } => {
                let (put_back_for, files) = (put_back_for.clone(), files.clone());
                self.restoring = Some(Restoring { began: event.seq, put_back_for, files });
            }
            EventBody::EditRestored { .. } => self.restoring = None,
            EventBody::HistoryRepaired { .. }
            | EventBody::ApprovalAnswered { .. }
            | EventBody::BeadChanged { .. }
            | EventBody::ArtifactSaved { .. }
            | EventBody::EditRecorded { .. }
            | EventBody::CheckpointCreated { .. }
            | EventBody::CheckpointRestored { .. } => {}
            EventBody::ThreadForked { settings, prefix, from: _, at: _ } => {
                self.created_at = event.at;
                self.settings = settings.clone().or(self.settings.take());
                self.prefix = prefix.or(self.prefix);
                self.restoring = None;
            }
            EventBody::Stalled { .. } => self.stalled = true,
            EventBody::ThreadCompleted {} => self.settle(End::Completed),
            EventBody::ThreadFailed { error } => self.settle(End::Failed(error.clone())),
            EventBody::ThreadCheckpointed { reason, error, goes_on: _ } => {
                self.settle(End::Checkpointed(*reason, error.clone()))
            }
            EventBody::ThreadCancelled {} => self.settle(End::Cancelled),
        }
    }

    /// Takes an event in that is about one call of the turn.
    fn call_changed(&mut self, event: &Event) {
        let (seq, at) = (event.seq, event.at);
        #[allow(clippy::wildcard_enum_match_arm, reason = "`evolve` hands the others to whom they are about")]
        match &event.body {
            EventBody::ApprovalAsked { call_id, arguments, effect, reason, tool: _ } => {
                self.touch(call_id, |call| {
                    call.asked = Some(reason.clone());
                    call.arguments = arguments.clone();
                    call.effect = *effect;
                });
            }
            EventBody::ToolIntent { call_id, arguments, effect, tool: _ } => {
                self.touch(call_id, |call| {
                    call.intent = seq;
                    call.asked = None;
                    (call.decided, call.decided_at) = (seq, at);
                    call.arguments = arguments.clone();
                    call.effect = *effect;
                });
            }
            EventBody::ToolPrepared { call_id, files } => {
                self.touch(call_id, |call| call.prepared = Some(files.clone()))
            }
            EventBody::ToolRestarted { call_id, start, began } => {
                self.touch(call_id, |call| {
                    (call.start, call.decided, call.decided_at) = (*start, seq, at);
                    call.crashes += u32::from(*began);
                });
            }
            EventBody::ToolResult { call_id, ok, output, files, images, error, duration_ms: _ } => {
                let known = Arc::make_mut(&mut self.known);
                known.extend(files.iter().map(|file| (file.path.clone(), file.hash)));
                self.totals.tool_calls += 1;
                self.stalled = false;
                let chunk = chat::tool(call_id, &enclosed(output, *ok, &self.boundary));
                let outcome = outcome(output, images);
                self.touch(call_id, |call| {
                    call.result = Some(chunk);
                    call.images.clone_from(images);
                    call.fingerprint = Some(fingerprint(&call.call, outcome));
                    call.failed = error.as_ref().map(|error| error.code);
                });
                self.results_in();
            }
            _ => {}
        }
    }

    fn take_out(&mut self, results: u32, images: u32, refused: bool) {
        if let Some(short) = room::pruned(&self.history, results, images, refused) {
            self.history = short;
        }
    }

    fn nudge(&mut self, turn: Turn) {
        self.nudged = Some(turn);
        self.history
            .push(chat::user("[lakitu] Your answer was empty. Go on with what is left to do, or say what came of it."));
        self.take_inbox();
    }

    /// How often the present turn's prompt was changed: each time the model is asked anew.
    pub(crate) fn changes(&self) -> u8 {
        let turn = Some(self.turn());
        u8::from(self.pruned == turn) + u8::from(self.nudged == turn)
    }

    fn settle(&mut self, end: End) {
        self.phase = Phase::Settled(end);
        self.stalled = false;
    }

    fn resumed(&mut self, why: Resumed, settings: Option<&Settings>, prefix: Option<Hash>, at: Timestamp) {
        if let Some(settings) = settings {
            self.settings = Some(settings.clone());
        }
        self.prefix = prefix.or(self.prefix);
        self.stalled = false;
        self.run = Run { began: self.seq, turns: 0, started_at: at };
        self.streak = Streak::default();
        self.cuts = 0;
        // `continue` brings a prompt, which starts the run; the others go on from where the history stands.
        if !self.is_running() && why != Resumed::Continue {
            // What was said to the run that stopped, and not taken in by then.
            self.take_inbox();
            if let Some(task) = self.kept.next_task.take() {
                self.history.push(chat::user(&task));
            }
            self.phase = Phase::Thinking;
        }
    }

    fn prompted(&mut self, text: &str, at: Timestamp) {
        if self.title.is_empty() {
            self.title = text.chars().take(80).collect();
        }
        if self.is_running() {
            self.inbox.push(text.to_owned());
        } else {
            self.run = Run { began: self.seq, turns: 0, started_at: at };
            self.streak = Streak::default();
            self.cuts = 0;
            self.take_inbox();
            self.history.push(chat::user(text));
            self.phase = Phase::Thinking;
        }
    }

    fn message(&mut self, calls: &[Call], cut: bool) {
        self.cuts = if cut { self.cuts + 1 } else { 0 };
        if cut {
            self.history.push(chat::user(
                "[lakitu] Your answer was cut off at the output limit. Go on from where it ends, in smaller parts.",
            ));
            self.phase = Phase::Thinking;
            self.take_inbox();
            return;
        }
        if calls.is_empty() {
            self.streak = Streak::default();
            self.phase = if self.take_inbox() { Phase::Thinking } else { Phase::Answered };
            return;
        }
        self.call_ids.extend(calls.iter().map(|call| call.call_id.clone()));
        let calls = calls
            .iter()
            .map(|call| CallState {
                call: call.clone(),
                intent: Seq::ZERO,
                arguments: Value::Null,
                effect: EffectClass::Read,
                start: 1,
                crashes: 0,
                decided: Seq::ZERO,
                decided_at: Timestamp(0),
                prepared: None,
                result: None,
                asked: None,
                images: Vec::new(),
                fingerprint: None,
                failed: None,
            })
            .collect();
        self.phase = Phase::Acting(Acting { calls, touched: self.seq, decision: Seq::ZERO });
    }

    fn touch(&mut self, call_id: &str, change: impl FnOnce(&mut CallState)) {
        if let Phase::Acting(acting) = &mut self.phase {
            acting.touched = self.seq;
            if let Some(call) = acting.calls.iter_mut().find(|call| call.call.call_id == call_id) {
                change(call);
            }
        }
    }

    /// Once every call has its result, they go on the wire in call order, and the model is asked again.
    fn results_in(&mut self) {
        let Phase::Acting(acting) = &mut self.phase else { return };
        if acting.calls.iter().any(|call| call.result.is_none()) {
            return;
        }
        let calls = std::mem::take(&mut acting.calls);
        self.phase = Phase::Thinking;
        let (mut all, mut images) = (Vec::new(), Vec::new());
        for (n, call) in calls.into_iter().enumerate() {
            if n == 1 && planted(Planted::ForgottenSecondResult) {
                continue;
            }
            call.result.into_iter().for_each(|chunk| self.history.push(chunk));
            call.fingerprint.into_iter().for_each(|hash| all.extend_from_slice(&hash.0));
            images.extend(call.images);
        }
        self.show(&images);
        let turn = Some(Hash::of(&all));
        let count = if self.streak.fingerprint == turn { self.streak.count + 1 } else { 1 };
        self.streak = Streak { fingerprint: turn, count };
        if (limits::STUCK_TOLD_AT..limits::STUCK_ENDED_AT).contains(&count) {
            self.history.push(chat::user(&format!(
                "[lakitu] The same call gave the same result {count} times in a row. Do something else, or say what is \
                 in the way; at {} the run is ended.",
                limits::STUCK_ENDED_AT
            )));
        }
        self.take_inbox();
    }

    /// Shows what the turn's calls gave. Where that comes to more than a prompt may have, everything older goes out of it.
    fn show(&mut self, images: &[ImageRef]) {
        if images.is_empty() {
            return;
        }
        let (mut count, mut bytes) = (images.len(), images.iter().map(|image| image.bytes).sum::<u64>());
        let older = u32::try_from(self.history.images().count()).unwrap_or(u32::MAX);
        for image in self.history.images() {
            count += 1;
            bytes += image.bytes;
        }
        if older > 0 && (count > limits::PROMPT_IMAGES_MAX || bytes > limits::PROMPT_IMAGES_BYTES_MAX) {
            self.take_out(0, older, false);
        }
        self.history.show(images);
    }

    /// Every image that the next request shows, or the one behind it.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        let of_calls = self.acting().into_iter().flat_map(|acting| &acting.calls).flat_map(|call| &call.images);
        self.history.images().chain(of_calls)
    }

    fn take_inbox(&mut self) -> bool {
        let prompts = std::mem::take(&mut self.inbox);
        prompts.iter().for_each(|text| self.history.push(chat::user(text)));
        !prompts.is_empty()
    }
}

/// A result as the model sees it: text from outside stands between marks that it cannot know. Of a failure the first
/// line, which is ours, stands before them.
fn enclosed(output: &str, ok: bool, boundary: &str) -> String {
    let (head, body) = if ok { ("", output) } else { output.split_once('\n').unwrap_or((output, "")) };
    let mut text = String::with_capacity(output.len() + 2 * boundary.len() + 16);
    text.push_str(head);
    if !body.is_empty() || ok {
        if !head.is_empty() {
            text.push('\n');
        }
        let end = if body.is_empty() || body.ends_with('\n') { "" } else { "\n" };
        text.extend(["<", boundary, ">\n", body, end, "</", boundary, ">"]);
    }
    text
}

/// Tells results apart.
fn outcome(output: &str, images: &[ImageRef]) -> Hash {
    let mut bytes = output.as_bytes().to_vec();
    images.iter().for_each(|image| bytes.extend_from_slice(&image.hash.0));
    Hash::of(&bytes)
}

fn fingerprint(call: &Call, outcome: Hash) -> Hash {
    let mut bytes = Vec::with_capacity(call.tool.len() + call.arguments.len() + 40);
    for part in [call.tool.as_bytes(), call.arguments.as_bytes()] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(&outcome.0);
    Hash::of(&bytes)
}
