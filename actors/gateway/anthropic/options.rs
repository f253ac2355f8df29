//! How the model is to answer: how long, how freely, how thoughtfully.

use lakitu_kernel::ToolError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{Fields, rejected};

/// The smallest budget for thinking that Anthropic takes.
const BUDGET_MIN: u64 = 1024;

/// The field `thinking`, and what of `output_config` belongs to it.
#[derive(Debug, Default)]
pub(super) struct Thinking {
    pub(super) thinking: Option<Value>,
    pub(super) output_config: Option<Value>,
}

/// What limits thinking in this request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Of the whole answer.
    pub(super) max_tokens: u64,
    /// A function must be called: thinking is then refused.
    pub(super) forced: bool,
    /// Whether the conversation is at a place where thinking with a budget may be asked for.
    pub(super) may_think: bool,
}

/// `reasoning`, as OpenRouter has it.
#[derive(Deserialize, Default)]
struct Reasoning {
    effort: Option<String>,
    max_tokens: Option<u64>,
    enabled: Option<bool>,
}

/// How long the answer may become, where that is said.
pub(super) fn max_tokens(fields: &Fields<'_>) -> Result<Option<u64>, ToolError> {
    let newer: Option<u64> = fields.read("max_completion_tokens")?;
    let older: Option<u64> = fields.read("max_tokens")?;
    Ok(newer.or(older))
}

/// `stop` as a list. Anthropic takes no sequence of white space, and a stop that is left out is one that is run over.
pub(super) fn stop_sequences(fields: &Fields<'_>) -> Result<Option<Vec<String>>, ToolError> {
    let mut stops = match fields.read::<Value>("stop")? {
        None => return Ok(None),
        Some(Value::String(stop)) => vec![stop],
        Some(list) => serde_json::from_value(list).map_err(|_| rejected("stop", "is neither a text nor some"))?,
    };
    stops.retain(|stop| !stop.is_empty());
    if stops.iter().any(|stop| stop.trim().is_empty()) {
        return Err(rejected("stop", "holds a sequence of white space alone, which Anthropic does not take"));
    }
    Ok((!stops.is_empty()).then_some(stops))
}

/// `temperature` (OpenAI's goes to 2) and `top_p`. With thinking they are refused, and by newer models altogether:
/// there they are left out, because most clients set them without meaning anything by it.
pub(super) fn sampling(
    fields: &Fields<'_>,
    model: &str,
    thinks: bool,
) -> Result<(Option<f64>, Option<f64>), ToolError> {
    let temperature: Option<f64> = fields.read("temperature")?;
    let top_p: Option<f64> = fields.read("top_p")?;
    if thinks || version(model).is_some_and(|version| version >= (4, 7)) {
        return Ok((None, None));
    }
    // All of the probability is what is meant without it, and some models do not take both.
    Ok((temperature.map(|value| value.clamp(0.0, 1.0)), top_p.filter(|share| *share < 1.0)))
}

/// `reasoning_effort` or `reasoning`. Anthropic's own `thinking` and `output_config` go before both, as they are.
pub(super) fn thinking(fields: &Fields<'_>, model: &str, room: Room) -> Result<Thinking, ToolError> {
    let output_config = fields.read("output_config")?;
    if let Some(given) = fields.read("thinking")? {
        return Ok(Thinking { thinking: Some(given), output_config });
    }
    let none = Thinking { thinking: None, output_config: output_config.clone() };
    let reasoning: Reasoning = fields.read("reasoning")?.unwrap_or_default();
    let effort = reasoning.effort.or(fields.read("reasoning_effort")?);
    let asked = effort.is_some() || reasoning.max_tokens.is_some() || reasoning.enabled == Some(true);
    if !asked || reasoning.enabled == Some(false) || effort.as_deref() == Some("none") || room.forced {
        return Ok(none);
    }
    let effort = effort.as_deref();
    if let Some(version) = version(model).filter(|version| *version >= (4, 6)) {
        // Without `display` the newest keep their thoughts to themselves.
        let thinking = Some(json!({"type": "adaptive", "display": "summarized"}));
        let effort = effort.map(|effort| json!({"effort": adaptive(effort, version)}));
        return Ok(Thinking { thinking, output_config: output_config.or(effort) });
    }
    let budget = reasoning.max_tokens.unwrap_or_else(|| room.max_tokens.saturating_mul(percent(effort)) / 100);
    // At least one token is left for the answer.
    let budget = budget.max(BUDGET_MIN).min(room.max_tokens.saturating_sub(1));
    if budget < BUDGET_MIN || !room.may_think {
        return Ok(none);
    }
    Ok(Thinking { thinking: Some(json!({"type": "enabled", "budget_tokens": budget})), output_config })
}

/// What of the answer's tokens an effort may think with, as OpenRouter has it.
fn percent(effort: Option<&str>) -> u64 {
    match effort {
        Some("max" | "xhigh") => 95,
        Some("high") => 80,
        Some("low") => 20,
        Some("minimal") => 10,
        Some(_) | None => 50,
    }
}

/// An effort in the words of models that set their budget themselves.
fn adaptive(effort: &str, version: (u64, u64)) -> &str {
    match effort {
        "minimal" => "low",
        "xhigh" if version < (4, 7) => "high",
        "low" | "high" | "xhigh" | "max" => effort,
        _ => "medium",
    }
}

/// The version in the name of one of Anthropic's models (`claude-opus-4-5-20251101`, `claude-3-7-sonnet-latest`). From
/// 4.6 on they take no budget for thinking but find their own; from 4.7 on no temperature.
fn version(model: &str) -> Option<(u64, u64)> {
    let (_, name) = model.split_once("claude-")?;
    // What is longer than two digits is a date.
    let mut numbers = name
        .split(['-', '.', '@', ':'])
        .skip_while(|part| part.parse::<u64>().is_err())
        .map_while(|part| part.parse::<u64>().ok().filter(|_| part.len() <= 2));
    let major = numbers.next()?;
    Some((major, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_tells_its_version() {
        let rows = [
            ("claude-3-7-sonnet-20250219", Some((3, 7))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-opus-4-1-20250805", Some((4, 1))),
            ("anthropic/claude-opus-4.7", Some((4, 7))),
            ("us.anthropic.claude-opus-4-6-v1:0", Some((4, 6))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-opus-5-5", Some((5, 5))),
            ("claude-preview", None),
            ("gpt-5", None),
        ];
        for (model, expected) in rows {
            assert_eq!(version(model), expected, "{model}");
        }
    }
}
