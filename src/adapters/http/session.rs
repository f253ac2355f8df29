//! What a session token says of itself. Pure.
//!
//! It is read without being verified: whoever verifies it is the gateway. Only a token that says that it is one for a
//! Lakitu gateway is looked at, so that nothing is ever done with a provider's key but sending it where it belongs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
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

/// A session token as a gateway would make it, with a signature that nobody looks at.
#[cfg(test)]
pub(super) fn made(payload: &Value) -> String {
    format!("eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload.to_string()))
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
}
