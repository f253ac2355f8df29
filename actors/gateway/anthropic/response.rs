//! A whole response, and an error in place of one.

use lakitu_kernel::ports::ModelFailure;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wire::{Message, Usage, finish, hidden, thought, translated_error};
use crate::gateway::failure::{in_band, protocol, quote};

/// A whole Messages response, not streamed, as a `chat.completion`. `created` is the time in seconds.
pub fn response(message: &[u8], created: u64) -> Result<Vec<u8>, ModelFailure> {
    let not_a_message = |why: &str| protocol(format!("the answer is not a message ({why}): {}", quote(message)));
    let whole: Message<'_> = serde_json::from_slice(message).map_err(|error| not_a_message(&error.to_string()))?;
    if let Some(error) = whole.error {
        let error: Value = serde_json::from_str(error.get()).unwrap_or_default();
        return Err(in_band(&translated_error(&error)));
    }
    let blocks = whole.content.ok_or_else(|| not_a_message("it has no content"))?;
    let stop_reason = whole.stop_reason.ok_or_else(|| not_a_message("it does not say why it ends"))?;
    let (mut text, mut reasoning) = (String::new(), String::new());
    let (mut details, mut calls): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for block in blocks {
        match block.kind.as_str() {
            "text" => text.push_str(&block.text.unwrap_or_default()),
            "thinking" => {
                let said = block.thinking.unwrap_or_default();
                details.push(thought(details.len() as u64, &said, block.signature.as_deref()));
                reasoning.push_str(&said);
            }
            "redacted_thinking" => details.push(hidden(details.len() as u64, &block.data.unwrap_or_default())),
            "tool_use" => {
                let arguments = block.input.map_or("{}", |input| input.get());
                let function = json!({"name": block.name.unwrap_or_default(), "arguments": arguments});
                calls.push(json!({"id": block.id.unwrap_or_default(), "type": "function", "function": function}));
            }
            _ => {}
        }
    }
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { Value::String(text) };
    let mut message = json!({"role": "assistant", "content": content});
    for (name, list) in [("reasoning_details", details), ("tool_calls", calls)] {
        if !list.is_empty() {
            message[name] = Value::Array(list);
        }
    }
    if !reasoning.is_empty() {
        message["reasoning"] = Value::String(reasoning);
    }
    let mut usage = Usage::default();
    usage.take(whole.usage);
    let mut completion = json!({
        "id": whole.id.unwrap_or_default(),
        "object": "chat.completion",
        "created": created,
        "model": whole.model.unwrap_or_default(),
        "choices": [{
            "index": 0,
            "message": message,
            "finish_reason": finish(&stop_reason),
            "native_finish_reason": stop_reason,
        }],
    });
    if let Some(usage) = usage.translated() {
        completion["usage"] = usage;
    }
    Ok(completion.to_string().into_bytes())
}

/// An error body of Anthropic (`{"type":"error","error":{"type","message"}}`) as an OpenAI error body
/// (`{"error":{"message","type","code"}}`). Everything else passes through unchanged.
pub fn error(body: &[u8]) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Body {
        r#type: String,
        error: Map<String, Value>,
    }
    match serde_json::from_slice(body) {
        Ok(Body { r#type, error }) if r#type == "error" => {
            json!({"error": translated_error(&Value::Object(error))}).to_string().into_bytes()
        }
        Ok(_) | Err(_) => body.to_vec(),
    }
}
