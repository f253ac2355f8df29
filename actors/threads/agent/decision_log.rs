//! `decision_log`: its arguments, and what the model is told.

use lakitu_kernel::limits::{DECISION_ALTERNATIVES_MAX, DECISION_TEXT_CHARS_MAX};
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use lakitu_kernel::{Seq, ThreadId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::store::{Alternative, DecisionType};

/// `decision_log`.
///
/// Keyed: the row is written in the step of the call's result, under the position of its intent.
pub const DECISION_LOG: ToolSpec =
    ToolSpec::of::<LogArgs>("decision_log", include_str!("decision_log.md"), EffectClass::Keyed, Category::Agent);

/// Arguments of `decision_log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LogArgs {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(schema_with = "kinds")]
    pub kind: DecisionType,
    /// Why it is so.
    pub reasoning: String,
    /// What else there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "others")]
    pub alternatives: Option<Vec<Alternative>>,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// What should come of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_outcome: Option<String>,
}

/// The names alone: what documents the variants would be paid for in every request.
fn kinds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": DecisionType::ALL })
}

fn others(_: &mut SchemaGenerator) -> Schema {
    let text = json_schema!({ "type": "string" });
    json_schema!({
        "type": "array",
        "items": { "type": "object", "required": ["option", "reason"], "properties": { "option": text, "reason": text } }
    })
}

impl Arguments for LogArgs {
    fn check(&self) -> Result<(), String> {
        if self.reasoning.trim().is_empty() {
            return Err("reasoning is empty; say why".to_owned());
        }
        if self.confidence.is_some_and(|confidence| !(0.0..=1.0).contains(&confidence)) {
            return Err("confidence is from 0 to 1".to_owned());
        }
        let alternatives = self.alternatives.as_deref().unwrap_or_default();
        if alternatives.len() > DECISION_ALTERNATIVES_MAX {
            let count = alternatives.len();
            return Err(format!("{count} alternatives; at most {DECISION_ALTERNATIVES_MAX} are taken"));
        }
        let of_alternatives = alternatives.iter().flat_map(|other| [&other.option, &other.reason]);
        let texts = [&self.reasoning].into_iter().chain(&self.expected_outcome).chain(of_alternatives);
        match texts.map(|text| text.chars().count()).find(|chars| *chars > DECISION_TEXT_CHARS_MAX) {
            Some(chars) => Err(format!("a text has {chars} characters; at most {DECISION_TEXT_CHARS_MAX} are taken")),
            None => Ok(()),
        }
    }
}

/// What the model is told. The thread's state is what goes into the row, and the agent alone has it.
pub(crate) fn told(thread: ThreadId, intent: Seq) -> ToolOutcome {
    ToolOutcome::ok(format!("decision {thread}:{intent} is recorded"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(change: impl FnOnce(&mut Value)) -> Result<Value, String> {
        let mut args = json!({ "type": "task_breakdown", "reasoning": "small steps" });
        change(&mut args);
        DECISION_LOG.check(&args.to_string()).map_err(|error| error.message)
    }

    #[test]
    fn what_says_why_is_taken_and_what_is_too_much_is_not() {
        check(|_| ()).unwrap();
        assert!(check(|args| args["reasoning"] = json!(" ")).unwrap_err().contains("say why"));
        check(|args| args["reasoning"] = json!("ä".repeat(DECISION_TEXT_CHARS_MAX))).unwrap();
        check(|args| args["reasoning"] = json!("ä".repeat(DECISION_TEXT_CHARS_MAX + 1))).unwrap_err();
        for confidence in [0.0, 1.0] {
            check(|args| args["confidence"] = json!(confidence)).unwrap();
        }
        for confidence in [-0.1, 1.1] {
            assert!(check(|args| args["confidence"] = json!(confidence)).unwrap_err().contains("0 to 1"));
        }
        let other = json!({ "option": "one step", "reason": "too large" });
        check(|args| args["alternatives"] = json!(vec![&other; DECISION_ALTERNATIVES_MAX])).unwrap();
        let many = check(|args| args["alternatives"] = json!(vec![&other; DECISION_ALTERNATIVES_MAX + 1]));
        assert!(many.unwrap_err().contains("11 alternatives"));
        assert!(check(|args| args["type"] = json!("guess")).is_err());
    }
}
