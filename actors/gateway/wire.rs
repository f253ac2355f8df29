//! What providers send, as leniently as can be read: nearly everything is optional, and what is read as JSON at all is
//! judged later.

use lakitu_kernel::chat::{Usage, Usd};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// More tokens than this in one call are a provider's mistake.
const TOKENS_MAX: u64 = 1_000_000_000;

/// A `chat.completion.chunk`, or a whole `chat.completion`.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    pub(super) choices: Option<Vec<Choice>>,
    /// Raw, because a number in it that does not exist must not cost the answer.
    pub(super) usage: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "text")]
    pub(super) model: Option<String>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(default, deserialize_with = "index")]
    pub(super) index: Option<i64>,
    pub(super) delta: Option<Message>,
    pub(super) message: Option<Message>,
    #[serde(default, deserialize_with = "text")]
    pub(super) finish_reason: Option<String>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Message {
    pub(super) content: Option<Value>,
    pub(super) refusal: Option<Value>,
    pub(super) reasoning: Option<Value>,
    pub(super) reasoning_content: Option<Value>,
    pub(super) reasoning_details: Option<Value>,
    pub(super) tool_calls: Option<Vec<Option<Fragment>>>,
}

/// A piece of a call.
#[derive(Debug, Deserialize)]
pub(super) struct Fragment {
    #[serde(default, deserialize_with = "index")]
    pub(super) index: Option<i64>,
    pub(super) id: Option<Value>,
    pub(super) function: Option<Function>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Function {
    #[serde(default, deserialize_with = "text")]
    pub(super) name: Option<String>,
    /// Raw, because some send the object itself, and its text is what counts.
    pub(super) arguments: Option<Box<RawValue>>,
}

impl Fragment {
    /// The provider's id; empty where there is none.
    pub(super) fn id(&self) -> String {
        match &self.id {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
        }
    }
}

impl Function {
    /// The piece of the arguments' text that came.
    pub(super) fn arguments(&self) -> String {
        let Some(raw) = &self.arguments else { return String::new() };
        // A string holds the text; everything else is the text.
        let text = serde_json::from_str(raw.get());
        let text = text.or_else(|error| serde_json::from_slice(&paired(raw.get().as_bytes()).ok_or(error)?));
        text.unwrap_or_else(|_| raw.get().to_owned())
    }
}

impl Chunk {
    /// Reads a chunk.
    pub(super) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json).or_else(|error| serde_json::from_slice(&paired(json).ok_or(error)?))
    }
}

/// JSON text in which halves of surrogate pairs that stand alone are replaced: some cut a text between them, and none can
/// be read. None where there is no such half.
fn paired(json: &[u8]) -> Option<Vec<u8>> {
    const ESCAPE: usize = "\\u0000".len();
    let unit = |at: usize| {
        let digits = json.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut mended, mut at) = (Vec::new(), 0);
    while at < json.len() {
        let (high, low) = (unit(at), unit(at + ESCAPE));
        let (length, alone) = match (high, low) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (2 * ESCAPE, false),
            (Some(0xd800..=0xdfff), _) => (ESCAPE, true),
            // Behind a backslash the next character means nothing by itself.
            _ if json[at] == b'\\' => (2, false),
            _ => (1, false),
        };
        let end = json.len().min(at + length);
        if alone {
            mended.extend_from_slice(b"\\ufffd");
        } else {
            mended.extend_from_slice(&json[at..end]);
        }
        at = end;
    }
    (mended != json).then_some(mended)
}

/// A text; nothing in place of anything else.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// A whole number, be it written as a text or with a point; nothing in place of anything else.
fn index<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    /// No answer has so many of anything.
    const MOST: f64 = 1e9;
    let raw = Box::<RawValue>::deserialize(from)?;
    let text = raw.get().trim_matches('"').trim();
    let number = text.parse::<f64>().ok().filter(|number| number.fract() == 0.0 && number.abs() < MOST);
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
    Ok(number.map(|number| number as i64))
}

/// Text out of a string, or out of a list of parts that hold some.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

/// Usage by whatever names it came. What cannot be is 0; nothing where nothing was counted.
pub fn usage_of(raw: &RawValue) -> Option<Usage> {
    let usage: Value = serde_json::from_str(raw.get()).ok()?;
    let tokens = |paths: &[&str]| paths.iter().find_map(|path| usage.pointer(path).and_then(tokens));
    let input = tokens(&["/prompt_tokens", "/input_tokens"]);
    let output = tokens(&["/completion_tokens", "/output_tokens"]);
    if input.is_none() && output.is_none() {
        return None;
    }
    let cached =
        ["/prompt_tokens_details/cached_tokens", "/input_tokens_details/cached_tokens", "/prompt_cache_hit_tokens"];
    let cache_write = [
        "/prompt_tokens_details/cache_write_tokens",
        "/prompt_tokens_details/cache_creation_tokens",
        "/cache_creation_input_tokens",
    ];
    let input_tokens = input.unwrap_or(0);
    let cached_tokens = tokens(&cached).unwrap_or(0).min(input_tokens);
    Some(Usage {
        input_tokens,
        output_tokens: output.unwrap_or(0),
        cached_tokens,
        cache_write_tokens: tokens(&cache_write).unwrap_or(0).min(input_tokens - cached_tokens),
        cost: usage.get("cost").and_then(Value::as_f64).and_then(Usd::from_dollars),
    })
}

/// A count of tokens; 0 for one that cannot be.
fn tokens(value: &Value) -> Option<u64> {
    let number = value.as_number()?;
    let count = number.as_u64().or_else(|| {
        let count = number.as_f64()?;
        // Within the bounds the conversion is exact enough: counts are whole.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        (count.is_finite() && (0.0..=1e9).contains(&count)).then_some(count as u64)
    });
    Some(count.filter(|count| *count <= TOKENS_MAX).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_normalised_and_what_cannot_be_is_nothing() {
        type Counts = (u64, u64, u64, u64);
        let rows: &[(&str, Option<Counts>)] = &[
            (
                r#"{"prompt_tokens":10,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":8}}"#,
                Some((10, 2, 8, 0)),
            ),
            (
                r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":6,"cache_write_tokens":3}}"#,
                Some((10, 0, 6, 3)),
            ),
            (r#"{"prompt_tokens":10,"cache_creation_input_tokens":4}"#, Some((10, 0, 0, 4))),
            (
                r#"{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":6,"cache_creation_tokens":50}}"#,
                Some((10, 0, 6, 4)),
            ),
            (r#"{"input_tokens":3,"output_tokens":4}"#, Some((3, 4, 0, 0))),
            (r#"{"prompt_tokens":5,"prompt_cache_hit_tokens":50}"#, Some((5, 0, 5, 0))),
            (r#"{"prompt_tokens":-1,"completion_tokens":1e30}"#, Some((0, 0, 0, 0))),
            (r#"{"prompt_tokens":7.0,"completion_tokens":18446744073709551615}"#, Some((7, 0, 0, 0))),
            (r#"{"prompt_tokens":1e400}"#, None),
            (r#"{"prompt_tokens":"many"}"#, None),
            ("null", None),
            ("[]", None),
        ];
        for (json, expected) in rows {
            let raw = RawValue::from_string((*json).to_owned()).unwrap();
            let counts = usage_of(&raw).map(|usage| {
                let Usage { input_tokens, output_tokens, cached_tokens, cache_write_tokens, cost: _ } = usage;
                (input_tokens, output_tokens, cached_tokens, cache_write_tokens)
            });
            assert_eq!(counts, *expected, "{json}");
        }
    }
}
