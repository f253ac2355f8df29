//! What a session token says of itself. Pure.
//!
//! It is read without being verified: whoever verifies it is the gateway. Only a token that says that it is one for a
//! Lakitu gateway is looked at, so that nothing is ever done with a provider's key but sending it where it belongs.

use serde::Deserialize;
use serde_json::Value;

use super::super::secret::Secret;

/// Who a session token is for.
const AUDIENCE: &str = "lakitu-gateway";
/// It is replaced at the latest so long before its end.
const BEFORE_END_S: u64 = 60;

/// From when to when a session token holds, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Life {
    pub(super) exp: u64,
    #[serde(default)]
    iat: Option<u64>,
}

impl Life {
    /// The life of a session token; none of any other token.
    pub(super) fn of(token: &Secret) -> Option<Self> {
        let mut parts = token.expose().split('.');
        let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let payload: Value = serde_json::from_slice(&base64url(payload)?).ok()?;
        let is_ours = match payload.get("aud")? {
            Value::String(audience) => audience == AUDIENCE,
            Value::Array(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        };
        if is_ours { serde_json::from_value(payload).ok() } else { None }
    }

    /// When it is to be replaced: at 80 % of its life, or a minute before its end, whichever is first.
    pub(super) fn refresh_at(self) -> u64 {
        let most = self.iat.map_or(u64::MAX, |iat| iat + self.exp.saturating_sub(iat) / 5 * 4);
        most.min(self.exp.saturating_sub(BEFORE_END_S))
    }
}

/// Base64 for URLs, without padding; none where it is not that.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        if group.len() == 1 {
            return None;
        }
        let mut bits = 0_u32;
        for char in group {
            let six = match char {
                b'A'..=b'Z' => char - b'A',
                b'a'..=b'z' => char - b'a' + 26,
                b'0'..=b'9' => char - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let missing = 4 - group.len();
        bits <<= 6 * missing;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - missing]);
    }
    Some(bytes)
}

/// A session token as a gateway would make it, with a signature that nobody looks at.
#[cfg(test)]
pub(super) fn made(payload: &Value) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::from("eyJhbGciOiJIUzI1NiJ9.");
    for group in payload.to_string().as_bytes().chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).for_each(|at| text.push(DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char));
    }
    text + ".c2lnbmF0dXJl"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn life(payload: &Value) -> Option<Life> {
        Life::of(&Secret::new(&made(payload)))
    }

    #[test]
    fn only_a_token_for_a_lakitu_gateway_has_a_life() {
        for aud in [json!("lakitu-gateway"), json!(["lakitu-api", "lakitu-gateway"])] {
            assert_eq!(life(&json!({"aud": aud, "exp": 7, "sub": "ü"})), Some(Life { exp: 7, iat: None }));
        }
        for other in [
            json!({"aud": "lakitu-api", "exp": 7}),
            json!({"aud": "lakitu-gateway"}),
            json!({"aud": "lakitu-gateway", "exp": -7}),
            json!({"aud": {}, "exp": 7}),
            json!({"exp": 7}),
            json!(["lakitu-gateway"]),
        ] {
            assert_eq!(life(&other), None, "{other}");
        }
        let whole = made(&json!({"aud": "lakitu-gateway", "exp": 7}));
        for other in ["sk-or-v1-0123", "a.b", "a.b.c", "..", "", &whole[..whole.len() / 2], &format!("{whole}.x")] {
            assert_eq!(Life::of(&Secret::new(other)), None, "{other}");
        }
    }

    #[test]
    fn it_is_replaced_at_four_fifths_or_a_minute_before_its_end() {
        for (iat, exp, at) in [(Some(1000), 2000, 1800), (Some(1000), 1100, 1040), (None, 2000, 1940), (None, 30, 0)] {
            assert_eq!(Life { exp, iat }.refresh_at(), at);
        }
    }

    #[test]
    fn base64_is_read_as_it_was_written() {
        for length in 0..70 {
            let text = "ü~?".repeat(length)[..2 * (length / 2)].to_owned();
            let token = made(&json!(text));
            let payload = token.split('.').nth(1).unwrap();
            assert_eq!(base64url(payload).unwrap(), json!(text).to_string().as_bytes());
        }
        for wrong in ["A", "AAAAA", "A=", "A+", "ü"] {
            assert_eq!(base64url(wrong), None);
        }
    }
}
