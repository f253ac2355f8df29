//! What a request asks for, as far as the gateway has to know it. Everything else passes through as it came.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ApiError;

/// What was read of a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// The model.
    pub(super) model: String,
    /// Whether a stream is wanted.
    pub(super) stream: bool,
    /// Whether the stream is to say what was used.
    pub(super) stream_usage: bool,
    /// Where the model's name stands, quotes included.
    place: Range<usize>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Asked {
    /// Reads a body. A field that stands twice is refused: the provider might read the other one.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let wire: Wire<'_> = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body is not a chat completion request: {error}")))?;
        let named = wire.model.ok_or_else(|| ApiError::bad("the body names no `model`"))?;
        let model: String =
            serde_json::from_str(named.get()).map_err(|_| ApiError::bad("the body's `model` is not a string"))?;
        // The raw value is a part of the body: where it begins there is how far it stands from the body's beginning.
        let start = (named.get().as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        let place = start..start.wrapping_add(named.get().len());
        if body.get(place.clone()) != Some(named.get().as_bytes()) {
            return Err(ApiError::internal("the model's place in the body was not found"));
        }
        let stream_usage = wire.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
        Ok(Self { model, stream: wire.stream.unwrap_or(false), stream_usage, place })
    }

    /// The body with another model and not another byte.
    pub(super) fn with_model(&self, body: &Bytes, model: &str) -> Vec<Bytes> {
        if model == self.model {
            return vec![body.clone()];
        }
        let model = Value::from(model).to_string();
        vec![body.slice(..self.place.start), Bytes::from(model), body.slice(self.place.end..)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_replaced_and_nothing_else() {
        let body = " {\"a\":1e400,\"x\" : {\"model\":\"no\"} , \"mod\\u0065l\" : \"up\\/m\\u00fc\" ,\"stream\":true,\"z\":\"\\ud800\"}";
        let body = Bytes::from(body);
        let asked = Asked::read(&body).unwrap();
        assert_eq!((&*asked.model, asked.stream, asked.stream_usage), ("up/mü", true, false));
        assert_eq!(asked.with_model(&body, "up/mü"), std::slice::from_ref(&body));
        let told = asked.with_model(&body, "m\"ü").concat();
        let expected = String::from_utf8_lossy(&body).replace("\"up\\/m\\u00fc\"", "\"m\\\"ü\"");
        assert_eq!(String::from_utf8(told).unwrap(), expected);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in [
            "",
            "[]",
            "{",
            "{}",
            "{\"model\":null}",
            "{\"model\":3}",
            "{\"model\":\"\\ud800\"}",
            "{\"model\":\"a\",\"model\":\"b\"}",
            "{\"model\":\"a\",\"stream\":1}",
            "{\"model\":\"a\"} x",
        ] {
            assert!(Asked::read(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"model\":\"a\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Asked::read(deep.as_bytes()).is_ok(), "depth is the provider's business, and costs no stack");
    }
}
