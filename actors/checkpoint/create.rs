//! `checkpoint_create`: its arguments, and what the model is told.

use lakitu_kernel::limits::{CHECKPOINT_NAME_CHARS_MAX, CHECKPOINT_TASK_CHARS_MAX};
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use lakitu_kernel::{CheckpointId, ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tools::Ask;

/// `checkpoint_create`.
///
/// Keyed: the row is written in the step of the call's result, under the position of its intent.
pub const CHECKPOINT_CREATE: ToolSpec = ToolSpec::of::<CreateArgs>(
    "checkpoint_create",
    include_str!("create.md"),
    EffectClass::Keyed,
    Category::Checkpoint,
);

/// Arguments of `checkpoint_create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateArgs {
    /// What to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What to do next from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_task: Option<String>,
}

impl Arguments for CreateArgs {
    fn check(&self) -> Result<(), String> {
        for (what, text, max) in
            [("name", &self.name, CHECKPOINT_NAME_CHARS_MAX), ("next_task", &self.next_task, CHECKPOINT_TASK_CHARS_MAX)]
        {
            let chars = text.as_ref().map_or(0, |text| text.chars().count());
            if chars > max {
                return Err(format!("{what} has {chars} characters; at most {max} are taken"));
            }
            if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
                return Err(format!("{what} is empty; leave it out, or say something"));
            }
        }
        Ok(())
    }
}

impl CreateArgs {
    /// The same, where it comes from a person.
    pub fn checked(self) -> Result<Self, ToolError> {
        match self.check() {
            Ok(()) => Ok(self),
            Err(message) => Err(ToolError::new(ErrorCode::InvalidArguments, message)),
        }
    }
}

/// What the model is told. The thread's state is what goes into the row, and the agent alone has it.
pub(super) fn told(ask: &Ask) -> ToolOutcome {
    let id = CheckpointId { thread: ask.call.thread, seq: ask.call.intent };
    ToolOutcome::ok(format!("{id} holds the conversation and the files that you changed, as they are now"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_taken_and_one_character_more_is_not() {
        let name =
            |chars: usize| CHECKPOINT_CREATE.check(&serde_json::json!({ "name": "ä".repeat(chars) }).to_string());
        assert!(name(CHECKPOINT_NAME_CHARS_MAX).is_ok());
        assert!(name(CHECKPOINT_NAME_CHARS_MAX + 1).unwrap_err().message.contains("201 characters"));
        let task = |text: &str| CHECKPOINT_CREATE.check(&serde_json::json!({ "next_task": text }).to_string());
        assert!(task(&"x".repeat(CHECKPOINT_TASK_CHARS_MAX)).is_ok());
        assert!(task(&"x".repeat(CHECKPOINT_TASK_CHARS_MAX + 1)).is_err());
        assert!(task(" ").is_err());
        assert_eq!(CHECKPOINT_CREATE.check("{}"), Ok(serde_json::json!({})));
    }
}
