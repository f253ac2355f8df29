//! A Messages stream as a Chat Completions stream, event by event.

use std::collections::BTreeMap;

use lakitu_kernel::limits::STREAM_EVENT_BYTES_MAX;
use lakitu_kernel::ports::ModelFailure;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::wire::{Block, Delta, End, Event, Message, Usage, finish, hidden, thought, translated_error};
use crate::gateway::failure::{quote, senseless};
use crate::gateway::sse::Sse;
use crate::gateway::stream::ANSWER_BYTES_MAX;

/// Reads one response's server-sent events and writes them as `chat.completion.chunk`s.
#[derive(Debug, Clone)]
pub struct Translation {
    created: u64,
    sse: Sse,
    head: Option<Head>,
    /// The blocks that have begun and not ended, by Anthropic's index.
    open: BTreeMap<u64, Open>,
    /// Calls so far: OpenAI counts them apart from everything else.
    calls: u64,
    /// Thoughts so far, so that the pieces of each find together.
    thoughts: u64,
    stop_reason: Option<String>,
    usage: Usage,
    bytes_seen: usize,
    end: Option<Ended>,
}

/// What `message_start` told.
#[derive(Debug, Clone)]
struct Head {
    id: String,
    model: String,
}

/// A block that has begun.
#[derive(Debug, Clone)]
enum Open {
    Text,
    Thinking {
        index: u64,
    },
    Call {
        index: u64,
        /// What its arguments are if no piece of them comes.
        unless_told: Option<String>,
    },
    /// One that is passed over, or that was whole when it began.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// `message_stop` came.
    Done,
    /// An error was handed on: nothing behind it counts.
    Failed,
}

impl Translation {
    /// A translation of a stream that began at this time (seconds), which every chunk carries.
    pub fn new(created: u64) -> Self {
        Self {
            created,
            sse: Sse::new(STREAM_EVENT_BYTES_MAX),
            head: None,
            open: BTreeMap::new(),
            calls: 0,
            thoughts: 0,
            stop_reason: None,
            usage: Usage::default(),
            bytes_seen: 0,
            end: None,
        }
    }

    /// Whether the answer is whole: `message_stop` came, and `[DONE]` was written.
    pub fn is_done(&self) -> bool {
        self.end == Some(Ended::Done)
    }

    /// Takes bytes of the body in and appends what they complete to `out`. A `ping` becomes a comment, an `error` a
    /// chunk with that error; what comes behind an error or the end is passed over. After a failure the body is not to
    /// be read on, and what `out` holds is a stream that was cut.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        if self.end.is_some() {
            return Ok(());
        }
        self.bytes_seen = self.bytes_seen.saturating_add(bytes.len());
        if self.bytes_seen > ANSWER_BYTES_MAX {
            return Err(senseless(format!("the answer is over {ANSWER_BYTES_MAX} bytes")));
        }
        let mut events = Vec::new();
        let parsed = self.sse.push(bytes, &mut events);
        for event in events.iter().filter(|event| !event.trim_ascii().is_empty()) {
            self.take(event, out)?;
            if self.end.is_some() {
                return Ok(());
            }
        }
        parsed.map_err(|error| senseless(error.to_string()))
    }

    fn take(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        let event: Event<'_> = serde_json::from_slice(data)
            .map_err(|error| senseless(format!("an event of the stream is not one ({error}): {}", quote(data))))?;
        match event.kind.as_str() {
            "ping" => out.extend_from_slice(b": ping\n\n"),
            "error" => {
                let error: Value = part("error", event.error)?;
                self.write(&json!([]), &[("error", translated_error(&error))], out);
                self.end = Some(Ended::Failed);
            }
            "message_start" => {
                let Message { id, model, usage, .. } = part("message", event.message)?;
                self.usage.take(usage);
                self.head = Some(Head { id: id.unwrap_or_default(), model: model.unwrap_or_default() });
                self.say(&json!({"role": "assistant", "content": ""}), out);
            }
            "content_block_start" => {
                let index = self.index(&event)?;
                self.start(index, part("content_block", event.content_block)?, out)?;
            }
            "content_block_delta" => {
                let index = self.index(&event)?;
                self.go_on(index, part("delta", event.delta)?, out)?;
            }
            "content_block_stop" => {
                let index = self.index(&event)?;
                self.stop(index, out)?;
            }
            "message_delta" => {
                let End { stop_reason } = part("delta", event.delta)?;
                self.stop_reason = stop_reason.or(self.stop_reason.take());
                self.usage.take(event.usage);
            }
            "message_stop" => self.finish(out)?,
            // Anthropic adds kinds of events as it likes.
            _ => {}
        }
        Ok(())
    }

    /// The index of an event's block. No block comes before the message.
    fn index(&self, event: &Event<'_>) -> Result<u64, ModelFailure> {
        if self.head.is_none() {
            return Err(senseless(format!(
                "the stream begins with `{}`, not with a message",
                quote(event.kind.as_bytes())
            )));
        }
        event.index.ok_or_else(|| senseless(format!("`{}` does not say of which block", event.kind)))
    }

    fn start(&mut self, at: u64, block: Block<'_>, out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        let open = match block.kind.as_str() {
            "text" => {
                self.say_text(&block.text.unwrap_or_default(), out);
                Open::Text
            }
            "thinking" => {
                let index = self.next_thought();
                self.say_thought(index, &block.thinking.unwrap_or_default(), out);
                self.say_signature(index, &block.signature.unwrap_or_default(), out);
                Open::Thinking { index }
            }
            "redacted_thinking" => {
                let detail = hidden(self.next_thought(), &block.data.unwrap_or_default());
                self.say(&json!({"reasoning_details": [detail]}), out);
                Open::Silent
            }
            "tool_use" => {
                let index = self.calls;
                self.calls += 1;
                let function = json!({"name": block.name.unwrap_or_default(), "arguments": ""});
                let id = block.id.unwrap_or_default();
                let call = json!({"index": index, "id": id, "type": "function", "function": function});
                self.say(&json!({"tool_calls": [call]}), out);
                Open::Call { index, unless_told: Some(block.input.map_or("{}", RawValue::get).to_owned()) }
            }
            _ => Open::Silent,
        };
        match self.open.insert(at, open) {
            None => Ok(()),
            Some(_) => Err(senseless(format!("block {at} of the stream begins twice"))),
        }
    }

    fn go_on(&mut self, at: u64, delta: Delta, out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        let open = self.open.get_mut(&at);
        let open = open.ok_or_else(|| senseless(format!("a piece of block {at}, which has not begun or has ended")))?;
        match (open, delta) {
            (Open::Text, Delta::Text { text }) => self.say_text(&text, out),
            (Open::Thinking { index }, Delta::Thinking { thinking }) => {
                let index = *index;
                self.say_thought(index, &thinking, out);
            }
            (Open::Thinking { index }, Delta::Signature { signature }) => {
                let index = *index;
                self.say_signature(index, &signature, out);
            }
            (Open::Call { index, unless_told }, Delta::InputJson { partial_json }) => {
                if !partial_json.is_empty() {
                    *unless_told = None;
                    let index = *index;
                    self.say_arguments(index, &partial_json, out);
                }
            }
            (Open::Silent, _) | (_, Delta::Unknown) => {}
            (Open::Text | Open::Thinking { .. } | Open::Call { .. }, _) => {
                return Err(senseless(format!("a piece of block {at} is of another kind than the block")));
            }
        }
        Ok(())
    }

    fn stop(&mut self, at: u64, out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        match self.open.remove(&at) {
            None => return Err(senseless(format!("the end of block {at}, which has not begun or has ended"))),
            Some(Open::Call { index, unless_told: Some(arguments) }) => self.say_arguments(index, &arguments, out),
            Some(Open::Text | Open::Thinking { .. } | Open::Call { .. } | Open::Silent) => {}
        }
        Ok(())
    }

    /// The end: everything that makes the chunks an answer is written here and nowhere else.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ModelFailure> {
        let Some(stop_reason) = self.stop_reason.take() else {
            return Err(senseless("the stream ends without saying why"));
        };
        if let Some(at) = self.open.keys().next() {
            return Err(senseless(format!("the stream ends within block {at}")));
        }
        let choice = json!({
            "index": 0,
            "delta": {},
            "finish_reason": finish(&stop_reason),
            "native_finish_reason": stop_reason,
        });
        self.write(&json!([choice]), &[], out);
        if let Some(usage) = self.usage.translated() {
            self.write(&json!([]), &[("usage", usage)], out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        self.end = Some(Ended::Done);
        Ok(())
    }

    fn next_thought(&mut self) -> u64 {
        self.thoughts += 1;
        self.thoughts - 1
    }

    fn say_text(&self, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.say(&json!({"content": text}), out);
        }
    }

    /// A thought twice: as text to be shown, and as what goes back.
    fn say_thought(&self, index: u64, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.say(&json!({"reasoning": text, "reasoning_details": [thought(index, text, None)]}), out);
        }
    }

    fn say_signature(&self, index: u64, signature: &str, out: &mut Vec<u8>) {
        if !signature.is_empty() {
            self.say(&json!({"reasoning_details": [thought(index, "", Some(signature))]}), out);
        }
    }

    fn say_arguments(&self, index: u64, piece: &str, out: &mut Vec<u8>) {
        self.say(&json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), out);
    }

    fn say(&self, delta: &Value, out: &mut Vec<u8>) {
        self.write(&json!([{"index": 0, "delta": delta, "finish_reason": null}]), &[], out);
    }

    fn write(&self, choices: &Value, more: &[(&str, Value)], out: &mut Vec<u8>) {
        let (id, model) = self.head.as_ref().map_or(("", ""), |head| (&head.id, &head.model));
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": model,
            "choices": choices,
        });
        for (name, value) in more {
            chunk[*name] = value.clone();
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(chunk.to_string().as_bytes());
        out.extend_from_slice(b"\n\n");
    }
}

/// A part that an event of its kind has.
fn part<'a, T: Deserialize<'a>>(name: &str, raw: Option<&'a RawValue>) -> Result<T, ModelFailure> {
    let raw = raw.ok_or_else(|| senseless(format!("an event of the stream has no `{name}`")))?;
    serde_json::from_str(raw.get()).map_err(|error| {
        senseless(format!("`{name}` of an event of the stream is not one ({error}): {}", quote(raw.get().as_bytes())))
    })
}
