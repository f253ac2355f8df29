//! A request, field by field.

use std::collections::BTreeMap;
use std::fmt::Display;

use lakitu_kernel::{ErrorCode, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::blocks::{Block, Turn};
use super::history::History;
use super::marks;
use super::options::{self, Room};
use super::tools::{self, Tool};

/// Fields that Anthropic has no word for and whose absence would be noticed, with the values that mean nothing.
const REFUSED: [(&str, &str); 10] = [
    ("n", "1"),
    ("logprobs", "false"),
    ("top_logprobs", "0"),
    ("response_format", r#"{"type":"text"}"#),
    ("functions", "[]"),
    ("function_call", r#""auto""#),
    ("logit_bias", "{}"),
    ("modalities", r#"["text"]"#),
    ("audio", "null"),
    ("web_search_options", "null"),
];

/// A Messages request.
#[derive(Serialize)]
struct Body<'a> {
    model: String,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_sequences: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
}

/// A Chat Completions request as a Messages request, whose answer may have so many tokens where it does not say it itself.
/// The error names the field that cannot be translated.
///
/// Refused are `n` over 1, `logprobs`, `response_format`, `functions` and what else would change the answer by its
/// absence. Passed over are `stream_options` (usage always comes), `seed`, `frequency_penalty`, `presence_penalty`,
/// `store`, `metadata`, `service_tier`, `prediction`, `verbosity`, `prompt_cache_key`, `strict` of a function, `name`
/// of a message, `detail` of an image, and every field that is not known. Where thinking cannot be had (a call is
/// forced, the answer may have 1,024 tokens or less, calls are under way that began without it) it is not asked for.
pub fn request(chat: &[u8], max_tokens: u64) -> Result<Vec<u8>, ToolError> {
    let fields = Fields::of(chat)?;
    fields.refuse()?;
    let model: String = fields.read("model")?.ok_or_else(|| rejected("model", "is missing"))?;
    let mut tools = tools::tools(&fields)?;
    let choice = tools::choice(&fields, &tools)?;
    let messages: Vec<&RawValue> = fields.read("messages")?.ok_or_else(|| rejected("messages", "are missing"))?;
    let mut history = History::default();
    for (at, message) in messages.into_iter().enumerate() {
        history.take(&format!("messages[{at}]"), message)?;
    }
    if history.turns.is_empty() {
        return Err(rejected("messages", "hold nothing that is asked"));
    }
    let max_tokens = options::max_tokens(&fields)?.unwrap_or(max_tokens);
    let room = Room { max_tokens, forced: choice.forced, may_think: history.may_think() };
    let thinking = options::thinking(&fields, &model, room)?;
    let (temperature, top_p) = options::sampling(&fields, &model, thinking.thinking.is_some())?;
    marks::set(&mut tools, &mut history);
    let user: Option<String> = fields.read("user")?;
    let body = Body {
        model,
        max_tokens,
        stream: fields.read("stream")?,
        metadata: user.filter(|user| !user.is_empty()).map(|user| json!({"user_id": user})),
        stop_sequences: options::stop_sequences(&fields)?,
        temperature,
        top_p,
        thinking: thinking.thinking,
        output_config: thinking.output_config,
        tool_choice: choice.value,
        tools,
        system: history.system,
        messages: history.turns,
    };
    serde_json::to_vec(&body).map_err(|error| rejected("messages", format!("cannot be written again: {error}")))
}

/// Whether a Chat Completions request asks for a stream.
pub fn wants_stream(chat: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        stream: Option<bool>,
    }
    serde_json::from_slice::<Asked>(chat).is_ok_and(|asked| asked.stream == Some(true))
}

/// The fields of a request, each read when it is asked for: so an error can name it.
pub(super) struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    fn of(chat: &'a [u8]) -> Result<Self, ToolError> {
        let fields = serde_json::from_slice(chat).map_err(|error| {
            ToolError::new(ErrorCode::GatewayRejected, format!("the request is not a JSON object: {error}"))
        })?;
        Ok(Self(fields))
    }

    /// A field; nothing where it is missing or null.
    pub(super) fn read<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, ToolError> {
        self.0.get(name).map_or(Ok(None), |raw| parse(name, raw))
    }

    fn refuse(&self) -> Result<(), ToolError> {
        for (name, harmless) in REFUSED {
            let value: Option<Value> = self.read(name)?;
            if value.is_some_and(|value| serde_json::from_str(harmless).ok() != Some(value)) {
                return Err(rejected(name, "cannot be expressed with Anthropic"));
            }
        }
        Ok(())
    }
}

/// What stands at a path of the request.
pub(super) fn parse<'a, T: Deserialize<'a>>(path: &str, raw: &'a RawValue) -> Result<T, ToolError> {
    serde_json::from_str(raw.get()).map_err(|error| rejected(path, format!("is not understood: {error}")))
}

/// A request that cannot be translated.
pub(super) fn rejected(path: &str, why: impl Display) -> ToolError {
    ToolError::new(ErrorCode::GatewayRejected, format!("`{path}` {why}"))
}
