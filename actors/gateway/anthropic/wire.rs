//! What Anthropic sends, leniently: what is not known is passed over, here as there where it is used.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// An event of a stream. Its parts are raw, because those of an event that is not known may be anything.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) message: Option<&'a RawValue>,
    pub(super) content_block: Option<&'a RawValue>,
    pub(super) delta: Option<&'a RawValue>,
    pub(super) usage: Option<&'a RawValue>,
    pub(super) error: Option<&'a RawValue>,
}

/// A message: the head of a stream, or a whole response.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    #[serde(borrow)]
    pub(super) content: Option<Vec<Block<'a>>>,
    pub(super) stop_reason: Option<String>,
    pub(super) usage: Option<&'a RawValue>,
    pub(super) error: Option<&'a RawValue>,
}

/// A block: whole in a response, at its beginning in a stream.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) data: Option<String>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    /// Raw, because its text is what counts.
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

/// A piece of a block.
#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Unknown,
}

/// How a message ends.
#[derive(Deserialize)]
pub(super) struct End {
    pub(super) stop_reason: Option<String>,
}

/// What a call used. The counts are cumulative: a later one replaces an earlier one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    input: Option<u64>,
    output: Option<u64>,
    cache_write: Option<u64>,
    cache_read: Option<u64>,
}

impl Usage {
    /// Takes counts in; what cannot be one counts as missing.
    pub(super) fn take(&mut self, raw: Option<&RawValue>) {
        let Some(Ok(usage)) = raw.map(|raw| serde_json::from_str::<Map<String, Value>>(raw.get())) else { return };
        let count = |name: &str, known: Option<u64>| usage.get(name).and_then(Value::as_u64).or(known);
        *self = Self {
            input: count("input_tokens", self.input),
            output: count("output_tokens", self.output),
            cache_write: count("cache_creation_input_tokens", self.cache_write),
            cache_read: count("cache_read_input_tokens", self.cache_read),
        };
    }

    /// The counts as OpenAI has them: there the tokens of the prompt include those that the cache had or took.
    pub(super) fn translated(&self) -> Option<Value> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let [input, output, write, read] =
            [self.input, self.output, self.cache_write, self.cache_read].map(Option::unwrap_or_default);
        let prompt = input.saturating_add(write).saturating_add(read);
        Some(json!({
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt.saturating_add(output),
            "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
        }))
    }
}

/// Why the model stopped, in OpenAI's words.
pub(super) fn finish(stop_reason: &str) -> &'static str {
    match stop_reason {
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "refusal" => "content_filter",
        // `end_turn`, `stop_sequence`, `pause_turn`, and what comes to be.
        _ => "stop",
    }
}

/// A detail of thinking as it begins or goes on: the pieces under one index are one block.
pub(super) fn thought(index: u64, text: &str, signature: Option<&str>) -> Value {
    let mut detail = json!({"type": "reasoning.text", "text": text, "format": super::THINKING_FORMAT, "index": index});
    if let Some(signature) = signature {
        detail["signature"] = json!(signature);
    }
    detail
}

/// A detail of thinking that is hidden.
pub(super) fn hidden(index: u64, data: &str) -> Value {
    json!({"type": "reasoning.encrypted", "data": data, "format": super::THINKING_FORMAT, "index": index})
}

/// An error as OpenAI clients read it; the code is the HTTP status that belongs to its type.
pub(super) fn translated_error(error: &Value) -> Value {
    let field = |name: &str| error.get(name).and_then(Value::as_str);
    let kind = field("type").unwrap_or("error");
    let code = match kind {
        "invalid_request_error" => Some(400),
        "authentication_error" => Some(401),
        "billing_error" => Some(402),
        "permission_error" => Some(403),
        "not_found_error" => Some(404),
        "request_too_large" => Some(413),
        "rate_limit_error" => Some(429),
        "api_error" => Some(500),
        "timeout_error" => Some(504),
        "overloaded_error" => Some(529),
        _ => None,
    };
    json!({"message": field("message").unwrap_or(kind), "type": kind, "code": code})
}
