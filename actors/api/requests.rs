//! What is asked, as JSON and behind the `?`. The document is made of these types.

use lakitu_kernel::Seq;
use lakitu_kernel::event::Settings;
use lakitu_kernel::mode::Mode;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::answers::Status;
use super::error::ApiError;
use crate::threads::cancel::ScopeName;

/// The longest time that a run can be given: 30 days.
const TIMEOUT_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// What is kept of a caller's own: 16 KiB.
const METADATA_BYTES_MAX: usize = 16 * 1024;
/// The last event that can be named: what every JSON has exactly.
const AT_SEQ_MAX: u64 = 9_007_199_254_740_991;
/// A model's name.
const MODEL_CHARS_MAX: usize = 256;

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
pub(super) fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(from: D) -> Result<Option<N>, D::Error> {
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
            settings.mode = mode;
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

/// A thread made out of another one's beginning.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fork {
    /// The last event that both have, or the last before it with a valid history. Default: all of it.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(min = 2, max = 9_007_199_254_740_991_u64))]
    at_seq: Option<u64>,
}

impl Fork {
    pub(super) fn at_seq(&self) -> Result<Option<Seq>, ApiError> {
        match self.at_seq {
            None => Ok(None),
            // The first prompt, and the last number that JSON has exactly.
            Some(at @ 2..=AT_SEQ_MAX) => Ok(Some(Seq(at))),
            Some(_) => Err(ApiError::invalid(format!("`at_seq` is 2, which is the first prompt, to {AT_SEQ_MAX}"))),
        }
    }
}

/// A checkpoint of a thread as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MakeCheckpoint {
    /// What to call it.
    #[schemars(length(max = 200), regex(pattern = r"\S"))]
    pub(super) name: Option<String>,
    /// What is to be done from there: whoever resumes the thread has it said to the model.
    #[schemars(length(max = 10_000), regex(pattern = r"\S"))]
    pub(super) next_task: Option<String>,
}

/// How a checkpoint is gone back to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RestoreCheckpoint {
    /// Whether files are put back that somebody else changed since.
    pub(super) force: bool,
}

/// The answer to a call that waits for consent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    /// The call, as its `approval.asked` event names it.
    pub(super) call_id: String,
    /// Whether it may be made.
    pub(super) allow: bool,
}

/// What of a thread is given up.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    /// `thread`: the run with all its commands and jobs. `turn`: the run and the commands that its calls wait for. Default:
    /// thread.
    pub(super) scope: Option<ScopeName>,
    /// This job alone, whatever the scope.
    #[schemars(regex(pattern = "^job_[0-9]{1,19}$"))]
    pub(super) job: Option<String>,
}

/// An actor.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OnActor {
    /// Its path, as in `/tools/bash`.
    pub(super) path: String,
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

/// A page of a list of checkpoints, the newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListCheckpoints {
    /// Only those of this thread.
    #[schemars(regex(pattern = "^thr_[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    pub(super) thread: Option<String>,
    /// Items a page. Default: 50. A page with many files has fewer.
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

/// A cursor as we make them: the store reads other forms of the same numbers too.
pub(super) fn cursor(asked: Option<String>) -> Result<Option<String>, ApiError> {
    let ours =
        |cursor: &str| !cursor.is_empty() && cursor.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if asked.as_deref().is_some_and(|cursor| !ours(cursor)) { Err(not_ours()) } else { Ok(asked) }
}

pub(super) fn not_ours() -> ApiError {
    ApiError::invalid("`cursor` is the one of the page before, as it came")
}

/// The limit of a page.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    const MOST: usize = 100;
    let limit = asked.unwrap_or(50);
    if (1..=MOST).contains(&limit) { Ok(limit) } else { Err(ApiError::invalid(format!("`limit` is 1 to {MOST}"))) }
}
