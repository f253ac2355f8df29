//! What happens in a thread. The journal is the truth that everything else of a thread is derived from.
//!
//! Names and fields are a contract with everybody who reads a thread from outside. On disk an event is a named
//! MessagePack map: a new field needs `#[serde(default)]`, a name is never changed, a retired one stays reserved.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Saved;
use crate::bead::{BeadId, BeadStatus};
use crate::chat::Usd;
use crate::clock::Timestamp;
use crate::edit::{FileChange, PutBackFor};
use crate::error::ToolError;
use crate::hash::Hash;
use crate::id::{Seq, ThreadId, Turn};
use crate::image::ImageRef;
use crate::places::CheckpointId;
use crate::tool::EffectClass;

mod live;
mod parts;

pub use live::LiveEvent;
pub use parts::{Asking, Call, CheckpointReason, FileVersion, PreparedFile, RequestMark, Resumed, Settings};

/// One entry of a thread's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its position: 1, 2, 3 … without gaps.
    pub seq: Seq,
    /// The thread whose journal it is.
    pub thread: ThreadId,
    /// When it was decided.
    #[serde(serialize_with = "Timestamp::as_rfc3339", deserialize_with = "Timestamp::from_rfc3339")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventBody {
    /// The thread exists. Always the first event.
    #[serde(rename = "thread.started")]
    ThreadStarted {
        /// The blob that holds the beginning of every request of this thread.
        prefix: Hash,
        /// How it was started.
        settings: Settings,
        /// The version of the rules by which events become bytes on the wire.
        wire: u8,
        /// What text from outside is enclosed in, random per thread.
        boundary: String,
        /// What whoever started it wants to find again with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
    },
    /// A run goes on, or a new one begins: limits count anew.
    #[serde(rename = "thread.resumed")]
    ThreadResumed {
        /// What made it go on.
        why: Resumed,
        /// New settings and their prefix, where a flag replaced a stored value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<Settings>,
        /// The prefix that belongs to the new settings.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<Hash>,
    },
    /// A person's text. During a run it is taken in before the next model call.
    #[serde(rename = "prompt")]
    Prompt {
        /// The text.
        text: String,
    },
    /// The model's whole answer.
    #[serde(rename = "message")]
    Message {
        /// `assistant`.
        role: String,
        /// The turn that it is the answer of.
        turn: Turn,
        /// What it said.
        text: String,
        /// What it called, in order.
        calls: Vec<Call>,
        /// Fields of the provider that go back unchanged (reasoning and its signatures).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<Value>,
        /// Whether it was cut off at the model's output limit, and calls nothing: the model is asked to go on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cut: bool,
        /// The request that it is the answer to. A replay makes the same one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestMark>,
    },
    /// A call waits for somebody's consent. Its intent comes once it is given.
    #[serde(rename = "approval.asked")]
    ApprovalAsked {
        /// The call.
        call_id: String,
        /// The tool.
        tool: String,
        /// Its arguments, checked and with defaults filled in.
        arguments: Value,
        /// What may be assumed of it once it has begun.
        effect: EffectClass,
        /// Why it needs consent.
        reason: String,
    },
    /// Somebody was asked, and this is the answer.
    #[serde(rename = "approval.answered")]
    ApprovalAnswered {
        /// The call.
        call_id: String,
        /// Whether it may be made.
        allow: bool,
    },
    /// A call that is about to take effect: durable before it does.
    #[serde(rename = "tool.intent")]
    ToolIntent {
        /// The call.
        call_id: String,
        /// The tool.
        tool: String,
        /// Its arguments, checked and with defaults filled in.
        arguments: Value,
        /// What may be assumed if its result is missing.
        effect: EffectClass,
    },
    /// The redo record of a `verifiable` call.
    #[serde(rename = "tool.prepared")]
    ToolPrepared {
        /// The call.
        call_id: String,
        /// The files it will change.
        files: Vec<PreparedFile>,
    },
    /// A call is started again after a crash.
    #[serde(rename = "tool.restarted")]
    ToolRestarted {
        /// The call.
        call_id: String,
        /// 2 for the second start.
        start: u32,
        /// Whether the start before it had begun: that may happen a bounded number of times.
        #[serde(default)]
        began: bool,
    },
    /// What became of a call.
    #[serde(rename = "tool.result")]
    ToolResult {
        /// The call.
        call_id: String,
        /// Whether it did what was asked.
        ok: bool,
        /// What the model is told. Of a failure the first line is `CODE: message`.
        output: String,
        /// The failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ToolError>,
        /// The versions of files that it saw or made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<FileVersion>,
        /// What it shows: images, which the model sees behind the results of its turn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<ImageRef>,
        /// From its start to its end, in milliseconds.
        duration_ms: u64,
    },
    /// What a call changed in files, in the step of its result; what files were put back to, where it names no call.
    #[serde(rename = "edit.recorded")]
    EditRecorded {
        /// The call.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
        /// Each file once.
        files: Vec<FileChange>,
        /// What could not be recorded, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_out: Option<String>,
    },
    /// What a call changed among beads, in the step of its result.
    #[serde(rename = "bead.changed")]
    BeadChanged {
        /// The call.
        call_id: String,
        /// The bead.
        id: BeadId,
        /// What it is now.
        status: BeadStatus,
        /// Those that wait no longer because of it, the first hundred.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        freed: Vec<BeadId>,
    },
    /// What a call made for somebody, in the step of its result.
    #[serde(rename = "artifact.saved")]
    ArtifactSaved {
        /// The call.
        call_id: String,
        /// What it saved.
        artifact: Saved,
    },
    /// Files are about to be put back to earlier versions: durable before the first is. Nothing else runs in the thread
    /// until that is done.
    #[serde(rename = "edit.restoring")]
    EditRestoring {
        /// What for.
        put_back_for: PutBackFor,
        /// Their redo record.
        files: Vec<PreparedFile>,
    },
    /// They are put back, or that failed.
    #[serde(rename = "edit.restored")]
    EditRestored {
        /// The position of the `edit.restoring`.
        restoring: Seq,
        /// The failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ToolError>,
    },
    /// What a turn decided to do: what the model said with its calls.
    #[serde(rename = "decision")]
    Decision {
        /// The turn.
        turn: Turn,
        /// The tools that it chose, in order.
        tools: Vec<String>,
        /// What it said.
        reasoning: String,
    },
    /// The history was not valid and was mended; the rest of the journal stands on the mended one.
    #[serde(rename = "history.repaired")]
    HistoryRepaired {
        /// The call that was mended, where it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
        /// What was wrong and what was done.
        reason: String,
    },
    /// The prompt did not fit the model, or an image in it was refused: old results and images were taken out of it. They
    /// stay in the journal.
    #[serde(rename = "history.pruned")]
    HistoryPruned {
        /// The turn whose request was refused.
        turn: Turn,
        /// So many of the oldest results are no longer in the prompt, where they were long.
        results: u32,
        /// What that saved, in bytes.
        bytes: u64,
        /// So many of the oldest images are no longer in the prompt.
        #[serde(default, skip_serializing_if = "is_zero")]
        images: u32,
        /// The request was not too long: it was refused, and with it what is no longer in it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
    },
    /// The model said nothing, and said nothing again: it is told so, once a turn.
    #[serde(rename = "model.nudged")]
    ModelNudged {
        /// The turn that it did not answer.
        turn: Turn,
    },
    /// What a model call used.
    #[serde(rename = "usage")]
    Usage {
        /// The turn.
        turn: Turn,
        /// The model that answered.
        model: String,
        /// Tokens in, cached ones included.
        input_tokens: u64,
        /// Tokens out.
        output_tokens: u64,
        /// Of the tokens in, those that came from a cache.
        cached_tokens: u64,
        /// What it cost, in US dollars, where the provider says so or its price is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_usd: Option<Usd>,
    },
    /// Nothing happened for the configured time.
    #[serde(rename = "stalled")]
    Stalled {
        /// What is waited for.
        reason: String,
    },
    /// A checkpoint was made on request. One that ends a run is told by `thread.checkpointed` alone.
    #[serde(rename = "checkpoint.created")]
    CheckpointCreated {
        /// Its name in the table.
        id: CheckpointId,
        /// What whoever made it calls it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What is to be done from there: said to the model when a stopped thread is resumed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_task: Option<String>,
    },
    /// A checkpoint was gone back to: files stand as they did then, and another thread has the conversation.
    #[serde(rename = "checkpoint.restored")]
    CheckpointRestored {
        /// Its name in the table.
        id: CheckpointId,
        /// The thread that goes on from it.
        to: ThreadId,
    },
    /// The thread was made out of another one's beginning: what stands before this are its events, up to `at`.
    #[serde(rename = "thread.forked")]
    ThreadForked {
        /// The other thread.
        from: ThreadId,
        /// The last event that was taken over.
        at: Seq,
        /// New settings, where it works in another place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<Settings>,
        /// The prefix that belongs to them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<Hash>,
    },
    /// The run came to its end.
    #[serde(rename = "thread.completed")]
    ThreadCompleted {},
    /// The run failed; a prompt or `resume` by name goes on.
    #[serde(rename = "thread.failed")]
    ThreadFailed {
        /// Why.
        error: ToolError,
    },
    /// The run was stopped at a point from which it goes on.
    #[serde(rename = "thread.checkpointed")]
    ThreadCheckpointed {
        /// Why.
        reason: CheckpointReason,
        /// What stood in the way, where it was an error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ToolError>,
        /// The runtime was told to end, and goes on by itself when it comes up again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        goes_on: bool,
    },
    /// The run was given up on request.
    #[serde(rename = "thread.cancelled")]
    ThreadCancelled {},
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl EventBody {
    /// The event's type, as it stands on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            EventBody::ThreadStarted { .. } => "thread.started",
            EventBody::ThreadResumed { .. } => "thread.resumed",
            EventBody::Prompt { .. } => "prompt",
            EventBody::Message { .. } => "message",
            EventBody::ApprovalAsked { .. } => "approval.asked",
            EventBody::ApprovalAnswered { .. } => "approval.answered",
            EventBody::ToolIntent { .. } => "tool.intent",
            EventBody::ToolPrepared { .. } => "tool.prepared",
            EventBody::ToolRestarted { .. } => "tool.restarted",
            EventBody::ToolResult { .. } => "tool.result",
            EventBody::EditRecorded { .. } => "edit.recorded",
            EventBody::BeadChanged { .. } => "bead.changed",
            EventBody::ArtifactSaved { .. } => "artifact.saved",
            EventBody::EditRestoring { .. } => "edit.restoring",
            EventBody::EditRestored { .. } => "edit.restored",
            EventBody::Decision { .. } => "decision",
            EventBody::HistoryRepaired { .. } => "history.repaired",
            EventBody::HistoryPruned { .. } => "history.pruned",
            EventBody::ModelNudged { .. } => "model.nudged",
            EventBody::Usage { .. } => "usage",
            EventBody::Stalled { .. } => "stalled",
            EventBody::CheckpointCreated { .. } => "checkpoint.created",
            EventBody::CheckpointRestored { .. } => "checkpoint.restored",
            EventBody::ThreadForked { .. } => "thread.forked",
            EventBody::ThreadCompleted {} => "thread.completed",
            EventBody::ThreadFailed { .. } => "thread.failed",
            EventBody::ThreadCheckpointed { .. } => "thread.checkpointed",
            EventBody::ThreadCancelled {} => "thread.cancelled",
        }
    }
}
