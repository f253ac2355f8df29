//! The translation, by rows.

use lakitu_kernel::ToolError;
use lakitu_kernel::chat::ModelAnswer;
use lakitu_kernel::ports::ModelFailure;
use serde_json::{Value, json};

use super::Translation;
use crate::gateway::AnswerStream;

mod history;
mod prefix;
mod request;
mod response;
mod stream;

/// A request's translation, read again.
fn translated(chat: &Value) -> Value {
    serde_json::from_slice(&request(chat.to_string().as_bytes()).unwrap()).unwrap()
}

/// The translation of these messages alone, with the cache marks taken out.
fn messages(messages: &Value) -> Value {
    let mut body = translated(&json!({"model": "claude-sonnet-4-5", "messages": messages}));
    strip_marks(&mut body);
    body["messages"].take()
}

/// Takes every cache mark out.
fn strip_marks(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("cache_control");
            fields.values_mut().for_each(strip_marks);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_marks),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A stream as Anthropic sends it, from its events' data, one a line.
fn sse(events: &str) -> String {
    let lines = events.lines().map(str::trim).filter(|line| !line.is_empty());
    let event = |data: &str| {
        let kind = serde_json::from_str::<Value>(data).unwrap()["type"].as_str().unwrap().to_owned();
        format!("event: {kind}\ndata: {data}\n\n")
    };
    lines.map(event).collect()
}

/// A request as it is sent to a model of which nothing was learnt.
fn request(chat: &[u8]) -> Result<Vec<u8>, ToolError> {
    super::request(chat, super::MAX_TOKENS_DEFAULT)
}

/// What a stream's pieces translate to, and whether it was whole.
fn pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(String, bool), ModelFailure> {
    let mut translation = Translation::new(1_700_000_000);
    let mut out = Vec::new();
    for piece in pieces {
        translation.push(piece, &mut out)?;
    }
    Ok((String::from_utf8(out).unwrap(), translation.is_done()))
}

/// The answer that a stream of chunks is.
fn answer(chunks: &[u8]) -> Result<ModelAnswer, ModelFailure> {
    let mut stream = AnswerStream::new(std::sync::Arc::new(|_| {}));
    stream.push(chunks)?;
    stream.end()
}
