//! The tools that change beads: their arguments, and the change that each of them asks for.

use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use lakitu_kernel::{ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::planning::{BeadPatch, Change, NewBead};
use crate::tools::{Ask, arguments};

const fn keyed<A: Arguments>(name: &'static str, prompt: &'static str) -> ToolSpec {
    ToolSpec::of::<A>(name, prompt, EffectClass::Keyed, Category::Beads)
}

/// `beads_create`.
pub const BEADS_CREATE: ToolSpec = keyed::<CreateArgs>("beads_create", include_str!("create.md"));
/// `beads_update`.
pub const BEADS_UPDATE: ToolSpec = keyed::<UpdateArgs>("beads_update", include_str!("update.md"));
/// `beads_close`.
pub const BEADS_CLOSE: ToolSpec = keyed::<CloseArgs>("beads_close", include_str!("close.md"));
/// `beads_dep`.
pub const BEADS_DEP: ToolSpec = keyed::<DepArgs>("beads_dep", include_str!("dep.md"));

/// Arguments of `beads_create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct CreateArgs {
    /// One line, at most 200 characters.
    pub title: String,
    /// task (default), bug, feature, chore or epic.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// 0 (critical) to 4 (some day); 2 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// What done means, and what one must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The epic that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// Ids that must be closed first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<String>,
}

impl Arguments for CreateArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("subject", "title"), ("issue_type", "type"), ("parent", "parent_id"), ("deps", "blocked_by")];
}

/// Arguments of `beads_update`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct UpdateArgs {
    /// Such as bd-a3f8.
    pub id: String,
    /// `in_progress` (claims it), `open` or `closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// One line, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// As for `beads_create`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// 0 (critical) to 4 (some day).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Replaces the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Replace the old ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Its epic; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// Replaces all that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<Vec<String>>,
}

const ID: (&str, &str) = ("bead_id", "id");
const ISSUE: (&str, &str) = ("issue_id", "id");

impl Arguments for UpdateArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[ID, ISSUE, ("issue_type", "type"), ("parent", "parent_id"), ("deps", "blocked_by")];
}

/// Arguments of `beads_close`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct CloseArgs {
    /// Such as bd-a3f8.
    pub id: String,
    /// What was done, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Arguments for CloseArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[ID, ISSUE, ("close_reason", "reason")];
}

/// Arguments of `beads_dep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct DepArgs {
    /// The one that waits.
    pub id: String,
    /// Ids that it waits for from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Ids that it no longer waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl Arguments for DepArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[ID, ISSUE];

    fn check(&self) -> Result<(), String> {
        if self.add.is_empty() && self.remove.is_empty() {
            return Err("say in add or remove what it waits for".to_owned());
        }
        Ok(())
    }
}

/// What a call asks for.
pub(super) fn asked(ask: &Ask) -> Result<Change, ToolError> {
    let given = &ask.call.arguments;
    let tool = ask.call.tool;
    if tool == BEADS_CREATE.name {
        let CreateArgs { title, kind, priority, description, labels, parent_id, blocked_by } = arguments(given)?;
        return Ok(Change::Create(NewBead { title, kind, priority, description, labels, parent_id, blocked_by }));
    }
    if tool == BEADS_UPDATE.name {
        let UpdateArgs { id, status, title, kind, priority, description, labels, parent_id, blocked_by } =
            arguments(given)?;
        let patch =
            BeadPatch { status, title, kind, priority, description, labels, parent_id, blocked_by, reason: None };
        return Ok(Change::Update { id, patch });
    }
    if tool == BEADS_CLOSE.name {
        let CloseArgs { id, reason } = arguments(given)?;
        let patch = BeadPatch { status: Some("closed".to_owned()), reason, ..BeadPatch::default() };
        return Ok(Change::Update { id, patch });
    }
    if tool == BEADS_DEP.name {
        let DepArgs { id, add, remove } = arguments(given)?;
        return Ok(Change::Depend { id, add, remove });
    }
    Err(ToolError::new(ErrorCode::UnknownTool, "there is no such tool"))
}
