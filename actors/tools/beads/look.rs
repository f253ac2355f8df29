//! The tools that show beads.

use lakitu_kernel::limits::BEADS_PER_QUERY_MAX;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use lakitu_kernel::{BeadStatus, BeadType, ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::told;
use crate::planning;
use crate::store::{BeadsBy, Store};
use crate::tools::{Ask, arguments};

const fn read<A: Arguments>(name: &'static str, prompt: &'static str) -> ToolSpec {
    ToolSpec::of::<A>(name, prompt, EffectClass::Read, Category::Beads)
}

/// `beads_list`.
pub const BEADS_LIST: ToolSpec = read::<ListArgs>("beads_list", include_str!("list.md"));
/// `beads_ready`.
pub const BEADS_READY: ToolSpec = read::<ReadyArgs>("beads_ready", include_str!("ready.md"));
/// `beads_get`.
pub const BEADS_GET: ToolSpec = read::<GetArgs>("beads_get", include_str!("get.md"));

/// Without `limit`: of `beads_list` …
const LISTED: i64 = 50;
/// … and of `beads_ready`.
const READY: i64 = 10;

/// Arguments of `beads_list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ListArgs {
    /// `open`, `in_progress`, `blocked` or `closed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// task, bug, feature, chore or epic.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// At most 100; 50 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

impl Arguments for ListArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[("issue_type", "type")];
}

/// Arguments of `beads_ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ReadyArgs {
    /// At most 100; 10 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

impl Arguments for ReadyArgs {}

/// Arguments of `beads_get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct GetArgs {
    /// Such as bd-a3f8.
    pub id: String,
}

impl Arguments for GetArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[("bead_id", "id"), ("issue_id", "id")];
}

/// A limit out of bounds is taken for the nearest one within.
fn within(limit: Option<i64>, default: i64) -> usize {
    usize::try_from(limit.unwrap_or(default)).unwrap_or(1).clamp(1, BEADS_PER_QUERY_MAX)
}

pub(super) async fn run(store: &Store, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let given = &ask.call.arguments;
    if ask.call.tool == BEADS_GET.name {
        let GetArgs { id } = arguments(given)?;
        let id = planning::bead_id(&id)?;
        let missing = format!("there is no bead {id}; beads_list names those that there are");
        let shown = store.read(move |reading| reading.bead(&id)?.map(|row| told::whole(reading, &row)).transpose());
        return match shown.await.map_err(ToolError::from)? {
            Some(text) => Ok(ToolOutcome::ok(text)),
            None => Err(ToolError::new(ErrorCode::BeadNotFound, missing)),
        };
    }
    let text = if ask.call.tool == BEADS_READY.name {
        let ReadyArgs { limit } = arguments(given)?;
        let limit = within(limit, READY);
        store.read(move |reading| told::list(reading, &reading.beads_ready(limit, None)?, "no bead is ready")).await
    } else {
        let ListArgs { status, kind, limit } = arguments(given)?;
        let limit = within(limit, LISTED);
        let by = BeadsBy { status: status.as_deref().map(BeadStatus::from), kind: kind.as_deref().map(BeadType::from) };
        store
            .read(move |reading| told::list(reading, &reading.beads_by(&by, limit, None)?, "there are no such beads"))
            .await
    };
    Ok(ToolOutcome::ok(text.map_err(ToolError::from)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_out_of_bounds_is_the_nearest_one_within() {
        let limits =
            [(None, 50), (Some(0), 1), (Some(-1), 1), (Some(100), 100), (Some(101), 100), (Some(i64::MAX), 100)];
        for (limit, expected) in limits {
            assert_eq!(within(limit, LISTED), expected, "{limit:?}");
        }
    }
}
