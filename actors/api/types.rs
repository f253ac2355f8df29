//! What is asked and answered, as JSON. The document is made of these types.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::event::{Call, Event, EventBody, Settings};
use lakitu_kernel::{Seq, ThreadId, ToolError};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};

use super::error::ApiError;
use crate::store::{ThreadRow, ThreadStatus};

/// The longest time that a run can be given: 30 days.
const TIMEOUT_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// What is kept of a caller's own: 16 KiB.
const METADATA_BYTES_MAX: usize = 16 * 1024;
/// A model's name.
const MODEL_CHARS_MAX: usize = 256;

/// How the agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Plan,
    Build,
    Review,
    Debug,
    Explore,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Mode::Plan => "plan",
            Mode::Build => "build",
            Mode::Review => "review",
            Mode::Debug => "debug",
            Mode::Explore => "explore",
        }
    }
}

/// A new thread.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartThread {
    /// What is to be done.
    #[schemars(regex(pattern = r"\S"))]
    pub(super) prompt: String,
    /// What is to be known for it, put before the prompt: text, or JSON of any form.
    #[serde(default)]
    pub(super) context: Option<Value>,
    /// How the agent works. Default: build.
    #[serde(default)]
    pub(super) mode: Option<Mode>,
    /// The model. Default: as configured.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub(super) model: Option<String>,
    /// Time of a run, in milliseconds: past it the thread is checkpointed. At most 30 days.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 1, max = 2_592_000_000_u64))]
    pub(super) timeout_ms: Option<u64>,
    /// Turns of a run: past it the thread is checkpointed.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub(super) max_turns: Option<u32>,
    /// Kept with the thread and given back with it: at most 16 KiB.
    #[serde(default)]
    pub(super) metadata: Option<Map<String, Value>>,
}

/// A whole number, as JSON has them: `7.0` is one.
fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(from: D) -> Result<Option<N>, D::Error> {
    /// Up to here every whole number is a floating point number of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Some(number) = Option::<Number>::deserialize(from)? else { return Ok(None) };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and within bounds")]
    let rounded = || {
        number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=EXACT).contains(float)).map(|float| float as u64)
    };
    let found = number.as_u64().or_else(rounded).and_then(|found| N::try_from(found).ok());
    found.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is no whole number in range")))
}

impl StartThread {
    /// The settings of the thread, on top of what is usual.
    pub(super) fn settings(&self, usual: &Settings) -> Result<Settings, ApiError> {
        let mut settings = usual.clone();
        if let Some(model) = &self.model {
            if !(1..=MODEL_CHARS_MAX).contains(&model.chars().count()) {
                return Err(ApiError::invalid(format!("`model` has 1 to {MODEL_CHARS_MAX} characters")));
            }
            settings.model.clone_from(model);
        }
        if let Some(mode) = self.mode {
            mode.as_str().clone_into(&mut settings.mode);
        }
        if let Some(ms) = self.timeout_ms {
            if !(1..=TIMEOUT_MS_MAX).contains(&ms) {
                return Err(ApiError::invalid(format!("`timeout_ms` is 1 to {TIMEOUT_MS_MAX}")));
            }
            settings.timeout_ms = Some(ms);
        }
        if let Some(turns) = self.max_turns {
            if turns == 0 {
                return Err(ApiError::invalid("`max_turns` is at least 1"));
            }
            settings.max_turns = Some(turns);
        }
        Ok(settings)
    }

    /// The first prompt, what is to be known for it before it.
    pub(super) fn whole_prompt(&self) -> Result<String, ApiError> {
        if self.prompt.trim().is_empty() {
            return Err(ApiError::invalid("the prompt is empty"));
        }
        Ok(match &self.context {
            None => self.prompt.clone(),
            Some(Value::String(text)) => format!("{text}\n\n{}", self.prompt),
            Some(json) => format!("{json:#}\n\n{}", self.prompt),
        })
    }

    pub(super) fn metadata(&mut self) -> Result<Option<Value>, ApiError> {
        let metadata = self.metadata.take().map(Value::Object);
        match &metadata {
            Some(value) if value.to_string().len() > METADATA_BYTES_MAX => {
                Err(ApiError::invalid(format!("`metadata` has at most {METADATA_BYTES_MAX} bytes")))
            }
            Some(_) | None => Ok(metadata),
        }
    }
}

/// The next prompt of a thread.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Say {
    /// What is to be done. During a run it is taken in before the next model call.
    #[schemars(regex(pattern = r"\S"))]
    pub(super) prompt: String,
}

/// An actor.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OnActor {
    /// Its path, as in `/tools/bash`.
    pub(super) path: String,
}

/// The thread was started.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Started {
    /// Its id.
    #[schemars(with = "String")]
    pub(super) thread: ThreadId,
}

/// It is durable.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Taken {
    /// The thread's id.
    #[schemars(with = "String")]
    pub(super) thread: ThreadId,
    /// The event that says so, or the last one where there was nothing to do.
    #[schemars(with = "u64")]
    pub(super) seq: Seq,
}

/// The wish was handed on; `/v1/actors` shows what becomes of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Wished {
    /// The actor's path.
    pub(super) path: String,
}

/// It is alive.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Alive {
    /// `ok`.
    pub(super) status: &'static str,
    /// The program's version.
    pub(super) version: &'static str,
}

/// Whether every permanent actor runs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Readiness {
    /// `ready`, or `not_ready`.
    pub(super) status: &'static str,
    /// The paths of those that do not run.
    pub(super) not_running: Vec<String>,
    /// Only where it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ToolError>,
}

/// What a thread is doing.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Running,
    Waiting,
    Completed,
    Failed,
    Checkpointed,
    Cancelled,
}

impl From<ThreadStatus> for Status {
    fn from(status: ThreadStatus) -> Self {
        match status {
            ThreadStatus::Running => Status::Running,
            ThreadStatus::Waiting => Status::Waiting,
            ThreadStatus::Completed => Status::Completed,
            ThreadStatus::Failed => Status::Failed,
            ThreadStatus::Checkpointed => Status::Checkpointed,
            ThreadStatus::Cancelled => Status::Cancelled,
        }
    }
}

impl From<Status> for ThreadStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => ThreadStatus::Running,
            Status::Waiting => ThreadStatus::Waiting,
            Status::Completed => ThreadStatus::Completed,
            Status::Failed => ThreadStatus::Failed,
            Status::Checkpointed => ThreadStatus::Checkpointed,
            Status::Cancelled => ThreadStatus::Cancelled,
        }
    }
}

/// Tokens that a thread's model calls used.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Used {
    /// Tokens in, cached ones included.
    input_tokens: u64,
    /// Tokens out.
    output_tokens: u64,
    /// Of the tokens in, those that came from a cache.
    cached_tokens: u64,
    /// What they cost, in US dollars, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    cost_usd: Option<lakitu_kernel::chat::Usd>,
}

/// A thread.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Thread {
    /// Its id.
    #[schemars(with = "String")]
    pub(super) id: ThreadId,
    /// What it is doing.
    pub(super) status: Status,
    /// The beginning of the first prompt.
    title: String,
    /// The model it talks to.
    model: String,
    /// How the agent works.
    mode: String,
    /// Where it works.
    workspace: String,
    /// When it was started, in milliseconds since 1970.
    #[schemars(with = "u64")]
    created_at: Timestamp,
    /// When it last changed, in milliseconds since 1970.
    #[schemars(with = "u64")]
    updated_at: Timestamp,
    /// Its last event.
    #[schemars(with = "u64")]
    last_seq: Seq,
    /// Model calls so far.
    turns: u32,
    /// Tool calls so far.
    tool_calls: u32,
    /// Tokens so far.
    usage: Used,
    /// Why the last run ended, where that says more than the status.
    reason: Option<String>,
    /// The error that the last run ended with.
    error: Option<ToolError>,
}

impl From<ThreadRow> for Thread {
    fn from(row: ThreadRow) -> Self {
        Self {
            id: row.id,
            status: row.status.into(),
            title: row.title,
            model: row.model,
            mode: row.mode,
            workspace: row.workspace.to_string_lossy().into_owned(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_seq: row.last_seq,
            turns: row.turns,
            tool_calls: row.tool_calls,
            usage: Used {
                input_tokens: row.usage.input_tokens,
                output_tokens: row.usage.output_tokens,
                cached_tokens: row.usage.cached_tokens,
                cost_usd: row.usage.cost_usd,
            },
            reason: row.reason,
            error: row.error,
        }
    }
}

/// A thread, and how it was started.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WholeThread {
    /// What lists show of it.
    #[serde(flatten)]
    pub(super) thread: Thread,
    /// Turns of a run, where they are limited.
    pub(super) max_turns: Option<u32>,
    /// Time of a run in milliseconds, where it is limited.
    pub(super) timeout_ms: Option<u64>,
    /// What its start wanted to be kept with it.
    pub(super) metadata: Option<Value>,
    /// The commit that it was read at.
    pub(super) commit: u64,
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(super) struct Page<T> {
    /// Its items.
    pub(super) items: Vec<T>,
    /// Where the next page begins; null: this was the last.
    pub(super) cursor: Option<String>,
    /// The commit that it was read at.
    pub(super) commit: u64,
}

/// One message of a conversation.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum Message {
    /// A person's.
    User {
        /// Its event.
        seq: u64,
        /// When.
        at: String,
        /// What was said.
        text: String,
    },
    /// The model's.
    Assistant {
        /// Its event.
        seq: u64,
        /// When.
        at: String,
        /// The turn.
        turn: u32,
        /// What was said.
        text: String,
        /// The tool calls that were asked for.
        calls: Vec<Call>,
    },
    /// A tool's.
    Tool {
        /// Its event.
        seq: u64,
        /// When.
        at: String,
        /// The call that it is the result of.
        call_id: String,
        /// Whether it did what was asked.
        ok: bool,
        /// What the model was told.
        text: String,
        /// The failure.
        error: Option<ToolError>,
    },
}

impl Message {
    /// The message that an event is, if it is one.
    pub(super) fn of(event: Event) -> Option<Self> {
        let (seq, at) = (event.seq.0, event.at.to_string());
        #[allow(clippy::wildcard_enum_match_arm, reason = "a conversation is three of many kinds of events")]
        match event.body {
            EventBody::Prompt { text } => Some(Message::User { seq, at, text }),
            EventBody::Message { turn, text, calls, .. } => {
                Some(Message::Assistant { seq, at, turn: turn.0, text, calls })
            }
            EventBody::ToolResult { call_id, ok, output, error, .. } => {
                Some(Message::Tool { seq, at, call_id, ok, text: output, error })
            }
            _ => None,
        }
    }
}

/// A page of a list of threads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListThreads {
    /// Only those in this state, the last changed first; without it all of them, the newest first.
    pub(super) status: Option<Status>,
    /// Items a page. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: Option<usize>,
    /// Where the page begins: the cursor of the one before.
    #[schemars(regex(pattern = "^([0-9a-f]{2}){1,64}$"))]
    pub(super) cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListMessages {
    /// Items a page. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: Option<usize>,
    /// Where the page begins: the cursor of the one before.
    #[schemars(regex(pattern = "^[0-9]{1,19}$"))]
    pub(super) cursor: Option<String>,
}

/// A stream of events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    /// Only events behind this one; a `Last-Event-ID` header counts before it. Default: from the first one on.
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub(super) after: Option<u64>,
}

/// The limit of a page.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    const MOST: usize = 100;
    let limit = asked.unwrap_or(50);
    if (1..=MOST).contains(&limit) { Ok(limit) } else { Err(ApiError::invalid(format!("`limit` is 1 to {MOST}"))) }
}
