//! A script as it is written, and how it becomes turns. Unknown keys are refused with their line: a script that is
//! misread would test something else than its author meant.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lakitu_kernel::chat::{Finish, RawCall, Usage};
use serde::Deserialize;
use serde_json::Value;

/// A script that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be read.
    #[error("the script {path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        error: String,
    },
    /// Not the YAML of a script; the text names key and line.
    #[error("the script is not one: {0}")]
    Yaml(String),
    /// An entry that means nothing.
    #[error("the script's {place} {what}")]
    Entry {
        /// Which entry.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScript {
    #[serde(default)]
    pub(super) turns: Vec<RawEntry>,
    #[serde(default)]
    pub(super) agents: BTreeMap<String, RawAgent>,
    #[serde(default)]
    pub(super) side: Vec<RawEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) turns: Vec<RawEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEntry {
    text: Option<String>,
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Vec<RawToolCall>,
    expect: Option<Expect>,
    delay_ms: Option<u64>,
    finish: Option<RawFinish>,
    usage: Option<RawUsage>,
    fail: Option<RawFail>,
    cut: Option<RawCut>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToolCall {
    name: String,
    #[serde(default)]
    arguments: Value,
    id: Option<String>,
}

/// What a request must hold for the turn to be played.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Of the last result of a tool.
    pub(super) last_tool_result: Option<Match>,
    /// Of the last message of a person.
    pub(super) last_user: Option<Match>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Match {
    #[serde(default)]
    pub(super) contains: OneOrMany,
    #[serde(default)]
    pub(super) not_contains: OneOrMany,
}

/// A text, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawFinish {
    Stop,
    ToolCalls,
    Length,
    ContentFilter,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names that usage has everywhere")]
struct RawUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    cached_tokens: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFail {
    status: u16,
    retry_after: Option<u64>,
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCut {
    after_chunks: usize,
}

/// A turn that can be played.
#[derive(Debug)]
pub(super) struct ScriptTurn {
    /// What happens to the requests for this turn first, each once.
    pub(super) disturbances: Vec<(Disturbance, AtomicBool)>,
    pub(super) expect: Option<Expect>,
    pub(super) delay: Duration,
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) calls: Vec<RawCall>,
    pub(super) finish: Finish,
    pub(super) usage: Option<Usage>,
}

/// What goes wrong with a request.
#[derive(Debug)]
pub(super) enum Disturbance {
    /// It is answered with this status.
    Fail { status: u16, after: Option<Duration>, message: String },
    /// Its answer breaks off behind so many pieces.
    Cut { after_chunks: usize },
}

pub(super) fn parse(yaml: &str) -> Result<RawScript, ScriptError> {
    serde_norway::from_str(yaml).map_err(|error| {
        let mut what = error.to_string();
        // Errors of the outermost mapping come without their place.
        if error.location().is_none_or(|place| place.line() <= 1) && !what.contains(" line ") {
            let key = what.split('`').nth(1).unwrap_or_default();
            let line = yaml.lines().position(|line| line.split(':').next() == Some(key)).unwrap_or(0) + 1;
            what = format!("{what} at line {line}");
        }
        ScriptError::Yaml(what)
    })
}

/// The turns of one list of entries; `list` is its name, for errors.
pub(super) fn turns(list: &str, entries: Vec<RawEntry>) -> Result<Vec<ScriptTurn>, ScriptError> {
    let mut turns = Vec::new();
    let mut disturbances = Vec::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let wrong = |what: &str| ScriptError::Entry { place: format!("{list}[{at}]"), what: what.to_owned() };
        if entry.fail.is_some() || entry.cut.is_some() {
            disturbances.push((disturbance(entry).map_err(wrong)?, AtomicBool::new(false)));
        } else {
            let mut turn = turn(turns.len() + 1, entry).map_err(wrong)?;
            turn.disturbances = std::mem::take(&mut disturbances);
            turns.push(turn);
        }
    }
    if disturbances.is_empty() {
        return Ok(turns);
    }
    Err(ScriptError::Entry {
        place: list.to_owned(),
        what: "ends with `fail` or `cut`: they stand before a turn".into(),
    })
}

fn disturbance(entry: RawEntry) -> Result<Disturbance, &'static str> {
    let RawEntry { text, thinking, tool_calls, expect, delay_ms, finish, usage, fail, cut } = entry;
    let says = text.is_some() || thinking.is_some() || !tool_calls.is_empty() || finish.is_some() || usage.is_some();
    if says || expect.is_some() || delay_ms.is_some() {
        return Err("has `fail` or `cut` beside other keys: they are entries of their own");
    }
    match (fail, cut) {
        (Some(fail), None) if !(300..600).contains(&fail.status) => Err("fails with a status that is not 300 to 599"),
        (Some(fail), None) => Ok(Disturbance::Fail {
            status: fail.status,
            after: fail.retry_after.map(Duration::from_secs),
            message: fail.message.unwrap_or_else(|| "the script says so".into()),
        }),
        (None, Some(cut)) => Ok(Disturbance::Cut { after_chunks: cut.after_chunks }),
        (Some(_), Some(_)) | (None, None) => Err("has both `fail` and `cut`"),
    }
}

fn turn(number: usize, entry: RawEntry) -> Result<ScriptTurn, &'static str> {
    let text = entry.text.unwrap_or_default();
    let thinking = entry.thinking.unwrap_or_default();
    if text.is_empty() && thinking.is_empty() && entry.tool_calls.is_empty() {
        return Err("says nothing and calls nothing");
    }
    let calls: Vec<RawCall> = entry
        .tool_calls
        .into_iter()
        .enumerate()
        .map(|(at, call)| RawCall {
            id: call.id.unwrap_or_else(|| format!("call_{number}_{}", at + 1)),
            name: call.name,
            arguments: match call.arguments {
                Value::Null => "{}".into(),
                // As it stands: so a test sends what is no JSON at all.
                Value::String(text) => text,
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
            },
        })
        .collect();
    let finish = match entry.finish {
        Some(RawFinish::Length) => Finish::Length,
        Some(RawFinish::ContentFilter) => Finish::ContentFilter,
        Some(RawFinish::Stop) => Finish::Stop,
        None if calls.is_empty() => Finish::Stop,
        Some(RawFinish::ToolCalls) | None => Finish::ToolCalls,
    };
    let usage = entry.usage.map(|usage| Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cached_tokens: usage.cached_tokens,
        ..Usage::default()
    });
    Ok(ScriptTurn {
        disturbances: Vec::new(),
        expect: entry.expect,
        delay: Duration::from_millis(entry.delay_ms.unwrap_or(0)),
        text,
        thinking,
        calls,
        finish,
        usage,
    })
}
