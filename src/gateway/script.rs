//! A script's answers, as a provider would send them.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use lakitu_actors::gateway::{ScriptGateway, Unplayed};
use lakitu_kernel::chat::{Finish, ModelAnswer, ModelRequest, RawCall, Usage};
use lakitu_kernel::ports::Delta;
use lakitu_kernel::supervise::Guarded;
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::error::ApiError;
use super::relay::{CutOff, Held};

/// Plays a turn.
pub(super) async fn answer(
    name: &str,
    script: &ScriptGateway,
    request: ModelRequest,
    (asked, created): (&Asked, u64),
    mut held: Held,
) -> Response<Body> {
    let shown = Arc::new(Guarded::new(Vec::new()));
    let sink = Arc::clone(&shown);
    let outcome = script.play(&request, Arc::new(move |delta| sink.with(|shown| shown.push(delta)))).await;
    let deltas = shown.with(std::mem::take);
    let say = Say { model: &request.model, id: format!("chatcmpl-{}-{}", request.thread, request.turn), created };
    let (mut pieces, cut) = match &outcome {
        Ok(answer) if asked.stream => (say.stream(deltas, Some((answer, asked.stream_usage))), false),
        Ok(answer) => (vec![say.whole(answer)], false),
        Err(Unplayed::Cut) if asked.stream => (say.stream(deltas, None), true),
        // The beginning of an answer in one piece.
        Err(Unplayed::Cut) => (vec![format!("{{\"id\":\"{}\",", say.id)], true),
        Err(Unplayed::Fail { status, after, message }) => return ApiError::played(*status, *after, message),
        Err(Unplayed::Unfit(failure)) => return ApiError::failed(name, failure).into_response(),
    };
    if let Some(meter) = &mut held.meter {
        meter.answered(asked.stream);
        if let Ok(ModelAnswer { usage: Some(usage), .. }) = &outcome {
            meter.told(*usage);
        }
    }
    let content = if asked.stream { "text/event-stream" } else { "application/json" };
    let end = cut.then_some(Err(CutOff));
    let body = pieces.drain(..).map(|piece| Ok(Bytes::from(piece))).chain(end).collect::<Vec<_>>();
    // What is held is held until the last piece is on its way.
    let body = stream::unfold((body.into_iter(), held), |(mut pieces, held)| async {
        // A piece of its own for each: they leave one by one, as they would where they take their time.
        tokio::task::yield_now().await;
        Some((pieces.next()?, (pieces, held)))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What every chunk of an answer says.
struct Say<'a> {
    model: &'a str,
    id: String,
    created: u64,
}

impl Say<'_> {
    fn object(&self, object: &str, choices: Value) -> Value {
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices})
    }

    fn chunk(&self, delta: Value, finish: Option<&str>) -> String {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!("data: {}\n\n", self.object("chat.completion.chunk", choice))
    }

    /// Every chunk; without an answer, only those up to where it was cut off.
    fn stream(&self, deltas: Vec<Delta>, answer: Option<(&ModelAnswer, bool)>) -> Vec<String> {
        let mut chunks = vec![self.chunk(json!({"role": "assistant", "content": ""}), None)];
        chunks.extend(deltas.into_iter().filter_map(|delta| match delta {
            // A sign of life: what it stands for comes below.
            Delta::Text(text) if text.is_empty() => None,
            Delta::Text(text) => Some(self.chunk(json!({"content": text}), None)),
            Delta::Thinking(text) => Some(self.chunk(json!({"reasoning_content": text}), None)),
        }));
        let Some((answer, with_usage)) = answer else { return chunks };
        for (index, call) in answer.calls.iter().enumerate() {
            chunks
                .extend(fragments(index, call).into_iter().map(|part| self.chunk(json!({"tool_calls": [part]}), None)));
        }
        chunks.push(self.chunk(json!({}), Some(finish(answer.finish))));
        if let Some(used) = answer.usage.filter(|_| with_usage) {
            let mut last = self.object("chat.completion.chunk", json!([]));
            last["usage"] = usage(used);
            chunks.push(format!("data: {last}\n\n"));
        }
        chunks.push("data: [DONE]\n\n".to_owned());
        chunks
    }

    fn whole(&self, answer: &ModelAnswer) -> String {
        let calls: Vec<Value> = answer.calls.iter().map(|call| wire(call, &call.arguments)).collect();
        let mut message = answer.opaque.as_ref().and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
        message.insert("role".to_owned(), json!("assistant"));
        let silent = answer.text.is_empty() && !calls.is_empty();
        message.insert("content".to_owned(), if silent { Value::Null } else { json!(answer.text) });
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), json!(calls));
        }
        let choice = json!([{"index": 0, "message": message, "finish_reason": finish(answer.finish)}]);
        let mut whole = self.object("chat.completion", choice);
        if let Some(used) = answer.usage {
            whole["usage"] = usage(used);
        }
        whole.to_string()
    }
}

/// A call as it is streamed: its name first, then its arguments in two pieces.
fn fragments(index: usize, call: &RawCall) -> Vec<Value> {
    let mut head = wire(call, "");
    head["index"] = json!(index);
    let middle = (call.arguments.len() / 2..=call.arguments.len()).find(|at| call.arguments.is_char_boundary(*at));
    let (first, last) = call.arguments.split_at(middle.unwrap_or(0));
    let rest = [first, last].into_iter().filter(|piece| !piece.is_empty());
    std::iter::once(head).chain(rest.map(|piece| json!({"index": index, "function": {"arguments": piece}}))).collect()
}

fn wire(call: &RawCall, arguments: &str) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length => "length",
        Finish::ContentFilter => "content_filter",
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}
