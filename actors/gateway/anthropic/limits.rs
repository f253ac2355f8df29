//! How long an answer may become: Anthropic wants to be told, and refuses more than the model can say.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::gateway::failure::said;

/// Where neither the request nor a refusal says it: as much as every model since Claude 4 can say.
pub const MAX_TOKENS_DEFAULT: u64 = 32_000;
/// Models whose limits are kept; of one more each call is refused once.
const MODELS_MAX: usize = 256;

/// What models can say at most, as far as they refused more.
#[derive(Debug, Default)]
pub struct OutputLimits(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct Asked {
    model: String,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
}

impl OutputLimits {
    /// How long the answer to this Chat Completions request may become where it does not say it itself.
    pub fn of(&self, chat: &[u8]) -> u64 {
        if self.0.is_empty() {
            return MAX_TOKENS_DEFAULT;
        }
        let asked = serde_json::from_slice::<Asked>(chat).ok();
        asked.and_then(|asked| self.0.get(&asked.model).copied()).unwrap_or(MAX_TOKENS_DEFAULT)
    }

    /// Learns from a refusal of this request, with status 400. None where it is about something else, or where the request
    /// named the length itself; else what the model can say.
    pub fn learn(&mut self, chat: &[u8], refusal: &[u8]) -> Option<u64> {
        let limit = limit_in(&said(refusal)).filter(|limit| (1..MAX_TOKENS_DEFAULT).contains(limit))?;
        let asked: Asked = serde_json::from_slice(chat).ok()?;
        if asked.max_tokens.is_some() || asked.max_completion_tokens.is_some() {
            return None;
        }
        if self.0.len() < MODELS_MAX || self.0.contains_key(&asked.model) {
            self.0.insert(asked.model, limit);
        }
        Some(limit)
    }
}

/// `max_tokens: 32000 > 4096, which is the maximum allowed number of output tokens for …`
fn limit_in(text: &str) -> Option<u64> {
    let (_, text) = text.split_once("max_tokens: ")?;
    let (asked, text) = text.split_once(" > ")?;
    let (limit, text) = text.split_once(|char: char| !char.is_ascii_digit())?;
    asked.parse::<u64>().ok().filter(|_| text.contains("output tokens"))?;
    limit.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(model: &str, more: &str) -> Vec<u8> {
        format!("{{\"model\":\"{model}\",\"messages\":[]{more}}}").into_bytes()
    }

    fn refusal(limit: u64) -> String {
        format!(
            "{{\"error\":{{\"type\":\"invalid_request_error\",\"message\":\"max_tokens: 32000 > {limit}, which is the \
             maximum allowed number of output tokens for claude-3-opus-20240229\"}}}}"
        )
    }

    #[test]
    fn a_models_limit_is_learnt_from_its_refusal_and_of_no_other() {
        let mut limits = OutputLimits::default();
        assert_eq!(limits.of(&chat("old", "")), MAX_TOKENS_DEFAULT);
        assert_eq!(limits.learn(&chat("old", ""), refusal(4096).as_bytes()), Some(4096));
        assert_eq!((limits.of(&chat("old", "")), limits.of(&chat("new", ""))), (4096, MAX_TOKENS_DEFAULT));
        assert_eq!(limits.learn(&chat("old", ""), refusal(2048).as_bytes()), Some(2048));
        assert_eq!(limits.of(&chat("old", "")), 2048);
    }

    #[test]
    fn what_teaches_nothing_is_not_learnt() {
        let mut limits = OutputLimits::default();
        for text in [
            "max_tokens: 32000 > 4096",
            "max_tokens: 32000 > 4096 tokens, context",
            "max_tokens: Field required",
            "max_tokens: many > 4096, which is the maximum allowed number of output tokens",
            "max_tokens: 32000 > few, which is the maximum allowed number of output tokens",
            "max_tokens: 32000 > 99999999999999999999, which is the maximum allowed number of output tokens",
            "prompt is too long",
            "",
        ] {
            assert_eq!(limits.learn(&chat("old", ""), text.as_bytes()), None, "{text}");
        }
        for limit in [0, MAX_TOKENS_DEFAULT, u64::MAX] {
            assert_eq!(limits.learn(&chat("old", ""), refusal(limit).as_bytes()), None, "{limit}");
        }
        for own in [",\"max_tokens\":32000", ",\"max_completion_tokens\":5"] {
            assert_eq!(limits.learn(&chat("old", own), refusal(4096).as_bytes()), None, "{own}");
        }
        assert_eq!(limits.learn(b"{}", refusal(4096).as_bytes()), None);
        assert!(limits.0.is_empty());
    }

    #[test]
    fn so_many_models_are_kept_and_one_more_is_told_and_not_kept() {
        let mut limits = OutputLimits::default();
        for model in 0..=MODELS_MAX {
            assert_eq!(limits.learn(&chat(&model.to_string(), ""), refusal(4096).as_bytes()), Some(4096));
        }
        assert_eq!(limits.0.len(), MODELS_MAX);
        assert_eq!(limits.learn(&chat("0", ""), refusal(7).as_bytes()), Some(7));
        assert_eq!(limits.of(&chat("0", "")), 7);
    }
}
