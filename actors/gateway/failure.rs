//! What a failure means. Pure: HTTP, a stream that carries an error and a script all come here.
//!
//! | class | what is such a failure | what is done | and when that does not help |
//! |---|---|---|---|
//! | `Retry` | not reached, connection broken, a deadline missed; 408, 409, 425, 429, 5xx; a cut answer, a page or nothing in its place; a status 2xx that is not 200 | made again, with full jitter or when `Retry-After` says; five in a row that name no time open the [breaker](super::breaker) | checkpointed `gateway`: exit 4 |
//! | `Overloaded` | 503, 529, an error in band that says so | as `Retry`; from the third in a row on the next fallback model is asked | checkpointed `gateway`: exit 4 |
//! | `Senseless` | an answer that came, and that no repetition of the same need mend: an event that is none or too long, no terminal behind the reason to stop, calls without a reason to stop | as `Retry`, [`SENSELESS_MAX`](super::call::SENSELESS_MAX) times; then the next fallback model is asked | becomes `Refused` |
//! | `Empty` | a whole answer with no word and no call: thinking or white space alone, or nothing | made again once; then the model is told so, once a turn, and asked anew | checkpointed `gateway`: exit 4 |
//! | `Credentials` | 401; a token file that cannot be read | the token is read again and the call made again, once | checkpointed `gateway`: exit 4 |
//! | `TooLong` | 413; 400 or 422 that speaks of the context's length | room is made and the call made again | checkpointed `token_limit`: exit 3 |
//! | `FallBack` | 400, 404 or 422 that says that there is no such model | the next fallback model is asked; this one is skipped from now on | becomes `Refused` |
//! | `OverBudget` | 402; 400, 429 or an error in band for want of credit or of a session's budget | nothing: there must be more of it | checkpointed `budget_limit`: exit 3 |
//! | `Refused` | 403, 405, any other 404, a redirect, 502 for a refused key of the gateway's own, every other status | nothing: somebody has to put it right | checkpointed `gateway`: exit 4 |
//! | `Fatal` | any other 400 or 422; a script that does not fit; a fault of the runtime | nothing | failed: exit 1 |

use std::time::Duration;

use lakitu_kernel::ports::{FailureClass, ModelFailure};
use lakitu_kernel::{ErrorCode, ToolError};
use serde_json::Value;

/// What is quoted of a foreign text in a message: 2 KiB.
pub const QUOTE_BYTES_MAX: usize = 2048;
/// The longest wait that a gateway may ask for: 300 s.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// The other side was not reached, or the connection to it broke; `stage` says where.
pub fn unreachable(stage: &str, what: &str) -> ModelFailure {
    let message = format!("the gateway cannot be reached ({stage}): {what}");
    failure(FailureClass::Retry { after: None }, ErrorCode::GatewayUnreachable, message)
}

/// The other side answered with something that is not the protocol. Made again like a 502: proxies do this.
pub fn protocol(what: impl Into<String>) -> ModelFailure {
    failure(FailureClass::Retry { after: None }, ErrorCode::GatewayProtocol, what.into())
}

/// An answer that came, and that nothing can be made of. It may have been paid for, so it is not made again for ever.
pub fn senseless(what: impl Into<String>) -> ModelFailure {
    failure(FailureClass::Senseless, ErrorCode::GatewayProtocol, what.into())
}

/// A whole answer that says nothing.
pub fn empty() -> ModelFailure {
    failure(FailureClass::Empty, ErrorCode::GatewayProtocol, "the model's answer is empty".to_owned())
}

/// The answer was cut off before its end.
pub fn cut(what: &str) -> ModelFailure {
    unreachable("body", &format!("the answer was cut off: {what}"))
}

/// The provider's filter, or the model itself, refused. What was said until then is no answer, and no call of it runs.
pub fn filtered(said: &str) -> ModelFailure {
    let said = quote(said.as_bytes());
    let behind = if said.is_empty() { String::new() } else { format!(", after: {said}") };
    let message = format!("the answer was refused by the model or filtered by its provider{behind}");
    failure(FailureClass::Fatal, ErrorCode::GatewayRejected, message)
}

/// An answer with another status than 200. `body` is what came with it, of any length and content.
pub fn status(status: u16, after: Option<Duration>, body: &[u8]) -> ModelFailure {
    let said = said(body);
    let quoted = if said.is_empty() { String::new() } else { format!(": {said}") };
    let after = after.map(|after| after.min(RETRY_AFTER_MAX));
    let unreached = ErrorCode::GatewayUnreachable;
    let (class, code, hint) = match status {
        401 => (FailureClass::Credentials, ErrorCode::GatewayRefused, "the token was rejected; give a valid one"),
        402 => (FailureClass::OverBudget, ErrorCode::GatewayRefused, "payment is required; add credit at the gateway"),
        403 => (FailureClass::Refused, ErrorCode::GatewayRefused, "this token may not make this call"),
        413 => (FailureClass::TooLong, ErrorCode::GatewayRejected, "the request is too large"),
        400 | 422 if speaks_of_length(&said, body) => {
            (FailureClass::TooLong, ErrorCode::GatewayRejected, "the request is longer than the model's context")
        }
        400 | 404 | 422 if speaks_of_model(&said, body) => (
            FailureClass::FallBack,
            ErrorCode::GatewayRejected,
            "the gateway has no such model; check the model's name",
        ),
        400 if speaks_of_credit(&said) => {
            (FailureClass::OverBudget, ErrorCode::GatewayRefused, "the credit is used up; add some at the gateway")
        }
        400 | 422 => (FailureClass::Fatal, ErrorCode::GatewayRejected, "the request was rejected"),
        429 if holds(body, "\"budget_exceeded\"") => (
            FailureClass::OverBudget,
            ErrorCode::GatewayRefused,
            "this token's budget is used up; whoever runs the gateway can make one with more",
        ),
        429 if holds(body, "insufficient_quota") => {
            (FailureClass::OverBudget, ErrorCode::GatewayRefused, "the credit is used up; add some at the gateway")
        }
        502 if holds(body, "\"upstream_refused\"") => (
            FailureClass::Refused,
            ErrorCode::GatewayRefused,
            "the gateway's own key is refused by the provider; whoever runs the gateway has to give it a valid one",
        ),
        503 | 529 => (FailureClass::Overloaded { after }, unreached, "the gateway could not answer"),
        408 | 409 | 425 | 429 | 500..=599 => (FailureClass::Retry { after }, unreached, "the gateway could not answer"),
        300..=399 => (
            FailureClass::Refused,
            ErrorCode::GatewayRejected,
            "the gateway redirects, which is not followed; configure the URL that it redirects to",
        ),
        404 | 405 => {
            (FailureClass::Refused, ErrorCode::GatewayRejected, "no chat completions here; check the gateway's URL")
        }
        _ => (FailureClass::Refused, ErrorCode::GatewayRejected, "the gateway refused the request"),
    };
    failure(class, code, format!("HTTP {status}, {hint}{quoted}"))
}

/// An `error` object that came inside an answer with status 200, whole or in mid-stream.
pub fn in_band(error: &Value) -> ModelFailure {
    let field = |name: &str| error.get(name);
    let code = field("code").or_else(|| field("status")).or_else(|| field("status_code"));
    let number = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
    if let Some(known) = number.and_then(|number| u16::try_from(number).ok()).filter(|code| (300..600).contains(code)) {
        return status(known, None, error.to_string().as_bytes());
    }
    let text = said(error.to_string().as_bytes());
    let kind = [field("type"), code].into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let message = format!("the gateway sent an error in place of an answer: {text}");
    if speaks_of_length(&text, kind.as_bytes()) {
        return failure(FailureClass::TooLong, ErrorCode::GatewayRejected, message);
    }
    if speaks_of_model(&text, kind.as_bytes()) {
        return failure(FailureClass::FallBack, ErrorCode::GatewayRejected, message);
    }
    if kind.contains("invalid_request") {
        return failure(FailureClass::Fatal, ErrorCode::GatewayRejected, message);
    }
    if kind.contains("authentication") || kind.contains("invalid_api_key") {
        return failure(FailureClass::Credentials, ErrorCode::GatewayRefused, message);
    }
    if kind.contains("insufficient_quota") || speaks_of_credit(&text) {
        return failure(FailureClass::OverBudget, ErrorCode::GatewayRefused, message);
    }
    if kind.contains("permission") {
        return failure(FailureClass::Refused, ErrorCode::GatewayRefused, message);
    }
    let busy = kind.contains("overloaded") || text.to_ascii_lowercase().contains("overloaded");
    let class = if busy { FailureClass::Overloaded { after: None } } else { FailureClass::Retry { after: None } };
    failure(class, ErrorCode::GatewayUnreachable, message)
}

/// Whether a failure says that nobody is there. One that names a time does not: the other side lives, and holds its
/// callers back itself.
pub(super) fn is_outage(failure: &ModelFailure) -> bool {
    match failure.class {
        FailureClass::Retry { after } | FailureClass::Overloaded { after } => after.is_none(),
        FailureClass::Senseless
        | FailureClass::Empty
        | FailureClass::Credentials
        | FailureClass::TooLong
        | FailureClass::FallBack
        | FailureClass::OverBudget
        | FailureClass::Refused
        | FailureClass::Fatal => false,
    }
}

/// A foreign text as it may stand in a message: at most [`QUOTE_BYTES_MAX`], and nothing that a terminal obeys.
pub fn quote(bytes: &[u8]) -> String {
    // One character may take four bytes, and what is stripped does not count: read a little more than is shown.
    let head = bytes.get(..QUOTE_BYTES_MAX * 4).unwrap_or(bytes);
    let mut shown = String::new();
    for char in String::from_utf8_lossy(head).chars() {
        let char = match char {
            '\n' | '\r' | '\t' => ' ',
            // Escapes, and what turns the direction of text around or hides in it.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => continue,
            char if char.is_control() => continue,
            char => char,
        };
        if char == ' ' && shown.ends_with(' ') {
            continue;
        }
        if shown.len() + char.len_utf8() > QUOTE_BYTES_MAX {
            break;
        }
        shown.push(char);
    }
    shown.trim().to_owned()
}

/// What an error's body says: its message where it has one, else the body.
pub fn said(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return quote(body) };
    let error = json.get("error").unwrap_or(&json);
    let text = error.get("message").or_else(|| error.get("detail")).unwrap_or(error);
    match text.as_str() {
        Some(text) => {
            // OpenRouter says the provider's own words there, and its own message is "Provider returned error".
            let raw = error.pointer("/metadata/raw").and_then(Value::as_str).unwrap_or_default();
            quote(format!("{text} {raw}").as_bytes())
        }
        None => quote(body),
    }
}

/// Whether a refusal is about money. Anthropic says so with the status of a request that is wrong.
fn speaks_of_credit(text: &str) -> bool {
    text.to_ascii_lowercase().contains("credit balance")
}

/// Whether a refusal is about the length of the prompt. Providers have no common code for it, only common words.
fn speaks_of_length(text: &str, body: &[u8]) -> bool {
    const CODES: [&str; 3] = ["context_length_exceeded", "exceed_context_size", "string_above_max_length"];
    const WORDS: [&str; 12] = [
        "context length",
        "context_length",
        "context window",
        "context limit",
        "context size",
        "prompt length is",
        "reduce the length of the",
        "maximum context",
        "prompt is too long",
        "input is too long",
        "too many tokens",
        "exceeds the maximum number of tokens",
    ];
    let text = text.to_ascii_lowercase();
    WORDS.iter().any(|words| text.contains(words)) || CODES.iter().any(|code| holds(body, code))
}

/// A model's name and what is said of it stand within so many bytes: provider's names are long.
const NEAR_BYTES: usize = 120;

/// Whether a refusal says that there is no such model.
fn speaks_of_model(text: &str, body: &[u8]) -> bool {
    const WORDS: [&str; 7] = [
        "not found",
        "not exist",
        "unknown model",
        "no such model",
        "invalid model",
        "not a valid model",
        "model is not available",
    ];
    let text = text.to_ascii_lowercase();
    // Near its name: a tool that is not found is no missing model.
    let close = |(at, _): (usize, &str)| {
        let near = &text.as_bytes()[at..text.len().min(at + NEAR_BYTES)];
        WORDS.iter().any(|words| holds(near, words))
    };
    let named = text.match_indices("model").any(close) || WORDS[2..].iter().any(|words| text.contains(words));
    // Anthropic's and OpenRouter's own ways.
    let own = text.starts_with("model:") || text.contains("no endpoints found");
    named || own || holds(body, "model_not_found")
}

fn holds(body: &[u8], word: &str) -> bool {
    body.windows(word.len()).any(|window| window == word.as_bytes())
}

fn failure(class: FailureClass, code: ErrorCode, message: String) -> ModelFailure {
    ModelFailure { class, error: ToolError::new(code, message) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RETRY: FailureClass = FailureClass::Retry { after: None };
    const BUSY: FailureClass = FailureClass::Overloaded { after: None };

    #[test]
    fn every_status_has_its_class_and_code() {
        let rows: &[(u16, &str, FailureClass, ErrorCode)] = &[
            (301, "", FailureClass::Refused, ErrorCode::GatewayRejected),
            (308, "", FailureClass::Refused, ErrorCode::GatewayRejected),
            (400, "bad", FailureClass::Fatal, ErrorCode::GatewayRejected),
            (400, "maximum Context Length is 8192", FailureClass::TooLong, ErrorCode::GatewayRejected),
            (401, "", FailureClass::Credentials, ErrorCode::GatewayRefused),
            (402, "", FailureClass::OverBudget, ErrorCode::GatewayRefused),
            (403, "", FailureClass::Refused, ErrorCode::GatewayRefused),
            (404, "", FailureClass::Refused, ErrorCode::GatewayRejected),
            (404, "404 page not found", FailureClass::Refused, ErrorCode::GatewayRejected),
            (404, "model \"x\" not found, try pulling it first", FailureClass::FallBack, ErrorCode::GatewayRejected),
            (
                404,
                r#"{"error":{"message":"x","code":"model_not_found"}}"#,
                FailureClass::FallBack,
                ErrorCode::GatewayRejected,
            ),
            (
                404,
                r#"{"error":{"message":"The model `x` does not exist"}}"#,
                FailureClass::FallBack,
                ErrorCode::GatewayRejected,
            ),
            (
                404,
                r#"{"type":"error","error":{"message":"model: x"}}"#,
                FailureClass::FallBack,
                ErrorCode::GatewayRejected,
            ),
            (
                404,
                r#"{"error":{"message":"No endpoints found for x."}}"#,
                FailureClass::FallBack,
                ErrorCode::GatewayRejected,
            ),
            (
                400,
                r#"{"error":{"message":"x is not a valid model ID"}}"#,
                FailureClass::FallBack,
                ErrorCode::GatewayRejected,
            ),
            (422, "Invalid model name passed in model=x", FailureClass::FallBack, ErrorCode::GatewayRejected),
            (400, "this model takes no images", FailureClass::Fatal, ErrorCode::GatewayRejected),
            (429, r#"{"error":{"code":"insufficient_quota"}}"#, FailureClass::OverBudget, ErrorCode::GatewayRefused),
            (
                429,
                r#"{"error":{"type":"insufficient_quota","code":"budget_exceeded"}}"#,
                FailureClass::OverBudget,
                ErrorCode::GatewayRefused,
            ),
            (405, "", FailureClass::Refused, ErrorCode::GatewayRejected),
            (408, "", RETRY, ErrorCode::GatewayUnreachable),
            (413, "", FailureClass::TooLong, ErrorCode::GatewayRejected),
            (422, "", FailureClass::Fatal, ErrorCode::GatewayRejected),
            (429, "", RETRY, ErrorCode::GatewayUnreachable),
            (500, "", RETRY, ErrorCode::GatewayUnreachable),
            (502, "<html>", RETRY, ErrorCode::GatewayUnreachable),
            (503, "", BUSY, ErrorCode::GatewayUnreachable),
            (504, "", RETRY, ErrorCode::GatewayUnreachable),
            (529, "", BUSY, ErrorCode::GatewayUnreachable),
            (451, "", FailureClass::Refused, ErrorCode::GatewayRejected),
        ];
        for (code, body, class, error) in rows {
            let failure = status(*code, None, body.as_bytes());
            assert_eq!((failure.class, failure.error.code), (*class, *error), "{code} {body}");
            assert!(failure.error.message.contains(&code.to_string()));
        }
    }

    #[test]
    fn what_a_refusal_says_decides_where_its_status_does_not() {
        let rows: &[(u16, &str, FailureClass, ErrorCode)] = &[
            (400, "tool 'x' not found in the list of tools", FailureClass::Fatal, ErrorCode::GatewayRejected),
            (400, "Your credit balance is too low", FailureClass::OverBudget, ErrorCode::GatewayRefused),
            (
                400,
                r#"{"error":{"message":"Please reduce the length of the messages","code":"context_length_exceeded"}}"#,
                FailureClass::TooLong,
                ErrorCode::GatewayRejected,
            ),
            (
                400,
                r#"{"error":{"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
                FailureClass::TooLong,
                ErrorCode::GatewayRejected,
            ),
            (400, "This model's maximum prompt length is 131072", FailureClass::TooLong, ErrorCode::GatewayRejected),
        ];
        for (code, body, class, error) in rows {
            let failure = status(*code, None, body.as_bytes());
            assert_eq!((failure.class, failure.error.code), (*class, *error), "{code} {body}");
        }
    }

    #[test]
    fn an_error_in_band_is_read_by_its_code_then_by_its_words() {
        let rows = [
            (json!({"code": 429, "message": "slow down"}), RETRY),
            (json!({"code": "401"}), FailureClass::Credentials),
            (json!({"code": 402, "message": "x"}), FailureClass::OverBudget),
            (json!({"type": "insufficient_quota", "message": "x"}), FailureClass::OverBudget),
            (json!({"type": "permission_error", "message": "x"}), FailureClass::Refused),
            (json!({"code": "context_length_exceeded", "message": "x"}), FailureClass::TooLong),
            (json!({"type": "invalid_request_error", "message": "x"}), FailureClass::Fatal),
            (json!({"type": "overloaded_error"}), BUSY),
            (json!({"message": "Overloaded"}), BUSY),
            (json!({"code": 503}), BUSY),
            (json!({"code": "model_not_found"}), FailureClass::FallBack),
            (json!({"type": "server_error"}), RETRY),
            (json!("gone"), RETRY),
            (json!({"code": -1e300}), RETRY),
        ];
        for (error, class) in rows {
            assert_eq!(in_band(&error).class, class, "{error}");
        }
    }

    #[test]
    fn a_quote_is_short_and_harmless() {
        let long = quote(&vec![b'x'; 100_000]);
        assert_eq!(long.len(), QUOTE_BYTES_MAX);
        assert!(quote("ü".repeat(5000).as_bytes()).len() <= QUOTE_BYTES_MAX);
        assert_eq!(quote(b"\x1b[2Ja\n\n\tb\x07\xe2\x80\xae\xff"), "[2Ja b\u{fffd}");
        assert_eq!(
            said(br#"{"error":{"message":"Provider returned error","metadata":{"raw":"why"}}}"#),
            "Provider returned error why"
        );
    }

    #[test]
    fn a_wait_that_is_asked_for_is_bounded() {
        let failure = status(429, Some(Duration::from_secs(1_000_000_000)), b"");
        assert_eq!(failure.class, FailureClass::Retry { after: Some(RETRY_AFTER_MAX) });
    }
}
