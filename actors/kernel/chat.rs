//! The wire to the model: OpenAI Chat Completions, as canonical bytes.
//!
//! A request is the thread's prefix, then one chunk of bytes for each message, then an end: `prefix chunk chunk … ]}`.
//! A chunk is made once, when its event is taken into the state, by the rules of the thread's wire version. So the
//! prompt of the next turn begins with the bytes of this one's, and a resumed thread sends what it would have sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::Call;
use crate::id::{ThreadId, Turn};
use crate::image::MediaType;
use crate::tool::ToolSpec;

/// The version of the rules below. A thread keeps the one that it was started with.
pub const WIRE_VERSION: u8 = 1;

/// A request to a model.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// The thread that asks.
    pub thread: ThreadId,
    /// The turn that it asks for.
    pub turn: Turn,
    /// The model that is asked; it stands in the body too.
    pub model: String,
    /// The JSON body, in pieces that are sent one after the other.
    pub body: Vec<Bytes>,
}

impl ModelRequest {
    /// `<thread>:<turn>`: the same for every attempt, so that an answer is paid once.
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.thread, self.turn)
    }

    /// The body as one piece.
    pub fn body_bytes(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.body.iter().map(Bytes::len).sum());
        self.body.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole
    }
}

/// A call as it came over the wire, not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawCall {
    /// The provider's id; may be empty or repeated.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// The arguments' text.
    pub arguments: String,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It had said what it wanted.
    Stop,
    /// It waits for results.
    ToolCalls,
    /// It ran out of room: what it said is cut off, and so may be its last call.
    Length,
    /// The provider filtered it.
    ContentFilter,
}

/// Money, in billionths of a US dollar, so that sums of it are exact. On the wire it is a number of dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Usd(pub u64);

impl Usd {
    const BILLIONTHS: f64 = 1e9;

    /// An amount of dollars; none for what is no amount.
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let billionths = (dollars * Self::BILLIONTHS).round();
        // Within the bounds the conversion is exact enough.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
        (0.0..=1e15).contains(&billionths).then_some(Self(billionths as u64))
    }

    /// The same in dollars.
    pub fn dollars(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a millionth of a cent does not matter here")]
        let billionths = self.0 as f64;
        billionths / Self::BILLIONTHS
    }

    /// Two amounts, of which either may not be known, together.
    pub fn sum(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).reduce(|one, other| Self(one.0.saturating_add(other.0)))
    }
}

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

impl<'de> serde::Deserialize<'de> for Usd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let dollars = f64::deserialize(deserializer)?;
        Self::from_dollars(dollars).ok_or_else(|| serde::de::Error::custom("an amount of dollars is a number from 0"))
    }
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Of the tokens in, those that came from a cache.
    pub cached_tokens: u64,
    /// Of the tokens in, those that were put into a cache, where that has a price of its own.
    pub cache_write_tokens: u64,
    /// What it cost, where the provider says so or its price is known.
    pub cost: Option<Usd>,
}

/// A model's whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAnswer {
    /// What it said.
    pub text: String,
    /// What it called, in order.
    pub calls: Vec<RawCall>,
    /// Why it stopped.
    pub finish: Finish,
    /// What it used, where the provider said so.
    pub usage: Option<Usage>,
    /// The model that answered, where the provider said so.
    pub model: Option<String>,
    /// Fields of the message that go back unchanged (`reasoning_details`, `reasoning_content` …): an object or nothing.
    pub opaque: Option<Value>,
}

/// The beginning of every request of a thread: everything up to the first message after the system's.
pub fn prefix(model: &str, system: &str, tools: impl IntoIterator<Item = &'static ToolSpec>) -> Bytes {
    let tools: Vec<Value> = tools
        .into_iter()
        .map(|spec| json!({"type": "function", "function": {"name": spec.name, "description": spec.prompt.trim_end(), "parameters": spec.schema()}}))
        .collect();
    let mut head = String::from("{\"model\":");
    head.push_str(&text(model));
    head.push_str(",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    if !tools.is_empty() {
        head.push_str(",\"tools\":");
        head.push_str(&Value::Array(tools).to_string());
    }
    head.push_str(",\"messages\":[{\"role\":\"system\",\"content\":");
    head.push_str(&text(system));
    head.push('}');
    Bytes::from(head)
}

/// The end of every request.
pub const SUFFIX: &[u8] = b"]}";

/// A user's message.
pub fn user(content: &str) -> Bytes {
    Bytes::from(format!(",{{\"role\":\"user\",\"content\":{}}}", text(content)))
}

/// The beginning of a user's message that is made of parts, with commas between them.
pub const PARTS: &[u8] = b",{\"role\":\"user\",\"content\":[";
/// Its end.
pub const PARTS_END: &[u8] = b"]}";

/// A part that is text.
pub fn text_part(content: &str) -> Bytes {
    Bytes::from(format!("{{\"type\":\"text\",\"text\":{}}}", text(content)))
}

/// A part that is an image.
pub fn image_part(media_type: MediaType, bytes: &[u8]) -> Bytes {
    let mut part = String::with_capacity(image_part_len(bytes.len() as u64));
    part.push_str(IMAGE_PART);
    part.push_str(media_type.as_str());
    part.push_str(";base64,");
    STANDARD.encode_string(bytes, &mut part);
    part.push_str("\"}}");
    Bytes::from(part)
}

const IMAGE_PART: &str = "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:";

/// About how long the part of an image of so many bytes is.
pub fn image_part_len(bytes: u64) -> usize {
    /// The media type and the marks around it.
    const AROUND: usize = 22;
    let base64 = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(3).saturating_mul(4);
    base64.saturating_add(IMAGE_PART.len() + AROUND)
}

/// A tool's result.
pub fn tool(call_id: &str, content: &str) -> Bytes {
    Bytes::from(format!(",{{\"role\":\"tool\",\"tool_call_id\":{},\"content\":{}}}", text(call_id), text(content)))
}

/// The model's own message.
pub fn assistant(content: &str, calls: &[Call], opaque: Option<&Value>) -> Bytes {
    #[derive(Serialize)]
    struct Function<'a> {
        name: &'a str,
        arguments: &'a str,
    }
    #[derive(Serialize)]
    struct ToolCall<'a> {
        id: &'a str,
        r#type: &'a str,
        function: Function<'a>,
    }
    let mut message = String::from(",{\"role\":\"assistant\",\"content\":");
    // A message with calls and no text carries null: an empty string is refused by some servers.
    if content.is_empty() && !calls.is_empty() {
        message.push_str("null");
    } else {
        message.push_str(&text(content));
    }
    let empty = Map::new();
    for (key, value) in opaque.and_then(Value::as_object).unwrap_or(&empty) {
        if !matches!(key.as_str(), "role" | "content" | "tool_calls") {
            message.extend([",", &text(key), ":", &value.to_string()]);
        }
    }
    for (index, call) in calls.iter().enumerate() {
        message.push_str(if index == 0 { ",\"tool_calls\":[" } else { "," });
        let call = ToolCall {
            id: &call.call_id,
            r#type: "function",
            function: Function { name: &call.tool, arguments: &call.arguments },
        };
        // Strings alone: this cannot fail.
        message.push_str(&serde_json::to_string(&call).unwrap_or_default());
    }
    message.push_str(if calls.is_empty() { "}" } else { "]}" });
    Bytes::from(message)
}

/// A JSON string.
fn text(value: &str) -> String {
    Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_bytes_of_wire_version_1_are_frozen() {
        let call = Call { call_id: "c1".into(), tool: "bash".into(), arguments: "{\"command\":\"ls\"}".into() };
        let opaque = json!({"reasoning": "hm", "content": "ignored"});
        let request = [
            prefix("m", "You \"are\".", []),
            user("hi\n\u{1b}"),
            assistant("", std::slice::from_ref(&call), Some(&opaque)),
            tool("c1", "a\tb"),
            Bytes::from_static(PARTS),
            text_part("a \"b\":"),
            Bytes::from_static(b","),
            image_part(MediaType::Png, b"\x89PN"),
            Bytes::from_static(PARTS_END),
            assistant("done", &[], None),
            Bytes::from_static(SUFFIX),
        ]
        .concat();
        let request = String::from_utf8(request).unwrap();
        serde_json::from_str::<Value>(&request).unwrap();
        expect![[r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"system","content":"You \"are\"."},{"role":"user","content":"hi\n\u001b"},{"role":"assistant","content":null,"reasoning":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"bash","arguments":"{\"command\":\"ls\"}"}}]},{"role":"tool","tool_call_id":"c1","content":"a\tb"},{"role":"user","content":[{"type":"text","text":"a \"b\":"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]},{"role":"assistant","content":"done"}]}"#]].assert_eq(&request);
    }
}
