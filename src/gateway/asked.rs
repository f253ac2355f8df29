//! What a request asks for, as far as the gateway has to know it. Everything else passes through as it came.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

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
    /// Where the stream's options stand, braces included, and what they are.
    options: Option<(Range<usize>, Map<String, Value>)>,
    /// Where the last brace stands.
    end: usize,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "whatever_stands_there")]
    stream_options: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(rename = "include_usage")]
    _include_usage: Option<bool>,
}

/// A null too has a place, at which something else can stand.
fn whatever_stands_there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl Asked {
    /// Reads a body. A field that stands twice is refused: the provider might read the other one.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let wire: Wire<'_> = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body is not a chat completion request: {error}")))?;
        let named = wire.model.ok_or_else(|| ApiError::bad("the body names no `model`"))?;
        let model: String =
            serde_json::from_str(named.get()).map_err(|_| ApiError::bad("the body's `model` is not a string"))?;
        let place = self::place(body, named)?;
        let options = match wire.stream_options {
            Some(raw) => Some((self::place(body, raw)?, stream_options(raw)?)),
            None => None,
        };
        let wanted = options.as_ref().and_then(|(_, options)| options.get("include_usage")?.as_bool());
        let stream_usage = wanted.unwrap_or(false);
        let end = body.trim_ascii_end().len().saturating_sub(1);
        if body.get(end) != Some(&b'}') {
            return Err(ApiError::bad("the body is not a JSON object"));
        }
        Ok(Self { model, stream: wire.stream.unwrap_or(false), stream_usage, place, options, end })
    }

    /// The body with another model, with the wish for usage where that is to be added, and with not another byte.
    pub(super) fn told(&self, body: &Bytes, model: &str, with_usage: bool) -> Vec<Bytes> {
        let mut changes = Vec::new();
        if model != self.model {
            changes.push((self.place.clone(), Value::from(model).to_string()));
        }
        if with_usage && !self.stream_usage {
            changes.push(match &self.options {
                Some((place, options)) => {
                    let mut options = options.clone();
                    options.insert("include_usage".to_owned(), Value::Bool(true));
                    (place.clone(), Value::Object(options).to_string())
                }
                // There is a model before it.
                None => (self.end..self.end, ",\"stream_options\":{\"include_usage\":true}".to_owned()),
            });
        }
        changes.sort_by_key(|(place, _)| place.start);
        let mut pieces = Vec::new();
        let mut from = 0;
        for (place, text) in changes {
            pieces.extend([body.slice(from..place.start), Bytes::from(text)]);
            from = place.end;
        }
        pieces.push(body.slice(from..));
        pieces
    }
}

/// Where a value stands: it is a part of the body, so where it begins there is how far it is from the body's beginning.
fn place(body: &[u8], value: &RawValue) -> Result<Range<usize>, ApiError> {
    let start = (value.get().as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    let place = start..start.wrapping_add(value.get().len());
    if body.get(place.clone()) == Some(value.get().as_bytes()) {
        Ok(place)
    } else {
        Err(ApiError::internal("a value's place in the body was not found"))
    }
}

fn stream_options(raw: &RawValue) -> Result<Map<String, Value>, ApiError> {
    let bad = |error| ApiError::bad(format!("the body's `stream_options` are none: {error}"));
    // By its type first: of a field that stands twice a map would keep the last one.
    serde_json::from_str::<Option<StreamOptions>>(raw.get()).map_err(bad)?;
    Ok(serde_json::from_str::<Option<Map<String, Value>>>(raw.get()).map_err(bad)?.unwrap_or_default())
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
        assert_eq!(asked.told(&body, "up/mü", false), std::slice::from_ref(&body));
        let told = asked.told(&body, "m\"ü", false).concat();
        let expected = String::from_utf8_lossy(&body).replace("\"up\\/m\\u00fc\"", "\"m\\\"ü\"");
        assert_eq!(String::from_utf8(told).unwrap(), expected);
    }

    #[test]
    fn the_wish_for_usage_is_added_where_it_is_missing() {
        let usage = "\"stream_options\":{\"include_usage\":true}";
        for (body, told) in [
            ("{\"model\":\"m\" } \n", format!("{{\"model\":\"n\" ,{usage}}} \n")),
            ("{\"stream_options\":null,\"model\":\"m\"}", format!("{{{usage},\"model\":\"n\"}}")),
            ("{\"stream_options\":{},\"model\":\"m\"}", format!("{{{usage},\"model\":\"n\"}}")),
            ("{\"model\":\"m\",\"stream_options\":{\"include_usage\":false}}", format!("{{\"model\":\"n\",{usage}}}")),
            (
                "{\"model\":\"m\",\"stream_options\":{\"x\":[1]}}",
                "{\"model\":\"n\",\"stream_options\":{\"include_usage\":true,\"x\":[1]}}".to_owned(),
            ),
            (
                "{\"model\":\"m\",\"stream_options\":{ \"include_usage\": true}}",
                "{\"model\":\"n\",\"stream_options\":{ \"include_usage\": true}}".to_owned(),
            ),
        ] {
            let body = Bytes::from(body);
            let asked = Asked::read(&body).unwrap();
            let pieces = asked.told(&body, "n", true).concat();
            assert_eq!(String::from_utf8(pieces).unwrap(), told);
        }
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
            "[\"a\",true,null]",
            "{\"model\":\"a\",\"stream_options\":3}",
            "{\"model\":\"a\",\"stream_options\":{\"include_usage\":1}}",
            "{\"model\":\"a\",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}}",
        ] {
            assert!(Asked::read(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"model\":\"a\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Asked::read(deep.as_bytes()).is_ok(), "depth is the provider's business, and costs no stack");
    }
}
