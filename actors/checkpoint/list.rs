//! `checkpoint_list`: its arguments, and what the model is told.

use std::fmt::Write as _;

use lakitu_kernel::limits::CHECKPOINTS_PER_THREAD_MAX;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::CheckpointRow;

/// Without `limit`.
const LISTED: usize = 20;

/// `checkpoint_list`. Not `read`: those run side by side, and it must not overtake the one that is made before it.
pub const CHECKPOINT_LIST: ToolSpec =
    ToolSpec::of::<ListArgs>("checkpoint_list", include_str!("list.md"), EffectClass::Keyed, Category::Checkpoint);

/// Arguments of `checkpoint_list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListArgs {
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl Arguments for ListArgs {
    fn check(&self) -> Result<(), String> {
        match self.limit {
            Some(limit) if !(1..=CHECKPOINTS_PER_THREAD_MAX).contains(&limit) => {
                Err(format!("limit is 1 to {CHECKPOINTS_PER_THREAD_MAX}"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What the model is told of the thread's checkpoints, the oldest of which comes first in `rows`.
pub(super) fn told(rows: &[CheckpointRow], args: &ListArgs) -> ToolOutcome {
    let mut text = String::new();
    for row in rows.iter().rev().take(args.limit.unwrap_or(LISTED)) {
        let CheckpointRow { id, status, created_at, next_task, .. } = row;
        let name = row.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        let task: String = next_task.chars().take(200).collect();
        let (status, files) = (status.as_str(), row.file_state.len());
        let _ = writeln!(text, "{id}{name} {status}, {created_at}, files changed: {files}, next: {task}");
    }
    ToolOutcome::ok(if text.is_empty() { "there are no checkpoints of this thread".to_owned() } else { text })
}
