//! `artifact_read` and `artifact_list`

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lakitu_kernel::limits::{ARTIFACTS_PER_QUERY_MAX, ARTIFACTS_PER_THREAD_MAX, OUTPUT_BYTES_MAX};
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use lakitu_kernel::{ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::{ArtifactRow, ArtifactsBy, Store};
use crate::tools::{Ask, arguments, text};

/// Keyed, though it changes nothing: so it comes behind the calls before it, whose rows are durable by then.
const fn reads<A: Arguments>(name: &'static str, prompt: &'static str) -> ToolSpec {
    ToolSpec::of::<A>(name, prompt, EffectClass::Keyed, Category::Artifact)
}

/// Reads one.
pub const ARTIFACT_READ: ToolSpec = reads::<ReadArgs>("artifact_read", include_str!("read.md"));
/// Lists them.
pub const ARTIFACT_LIST: ToolSpec = reads::<ListArgs>("artifact_list", include_str!("list.md"));

/// Without `limit`, so many are listed.
const LISTED: i64 = 50;

/// Arguments of `artifact_read`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ReadArgs {
    /// Such as report.md.
    pub name: String,
    /// The newest if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

impl Arguments for ReadArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[("filename", "name")];
}

/// Arguments of `artifact_list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct ListArgs {
    /// At most 100; 50 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

impl Arguments for ListArgs {}

/// Reads one.
pub(super) async fn read(store: &Store, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let ReadArgs { name, version } = arguments(&ask.call.arguments)?;
    let (thread, asked) = (ask.call.thread, name.clone());
    let found = store.read(move |reading| {
        let versions = reading.artifact_versions(thread, &asked, ARTIFACTS_PER_THREAD_MAX)?;
        let newest = versions.first().map(|row| row.version);
        let row = versions.into_iter().find(|row| version.is_none_or(|version| version == row.version));
        let content = row.as_ref().map(|row| reading.blob(row.content_hash)).transpose()?;
        Ok((row, content, newest))
    });
    let (row, content, newest) = found.await.map_err(ToolError::from)?;
    let Some((row, content)) = row.zip(content) else {
        let message = match newest {
            Some(newest) => format!("{name} has the versions 1 to {newest}"),
            None => format!("this thread saved no artifact {name:?}; artifact_list names those that there are"),
        };
        return Err(ToolError::new(ErrorCode::ArtifactNotFound, message));
    };
    Ok(ToolOutcome::ok(match std::str::from_utf8(&content) {
        Ok(_) => text::truncate(&content, OUTPUT_BYTES_MAX, &row.path),
        Err(_) => format!("{} is no text; the newest version stands at {}", line(&row), row.path),
    }))
}

/// Lists them, each name once.
pub(super) async fn list(store: &Store, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let ListArgs { limit } = arguments(&ask.call.arguments)?;
    let limit = usize::try_from(limit.unwrap_or(LISTED)).unwrap_or(1).clamp(1, ARTIFACTS_PER_QUERY_MAX);
    let by = ArtifactsBy::Thread(ask.call.thread);
    let all = store.read(move |reading| reading.artifacts_by(&by, ARTIFACTS_PER_THREAD_MAX, None)).await;
    let mut names = BTreeSet::new();
    let mut newest = all.map_err(ToolError::from)?.items;
    newest.retain(|row| names.insert(row.name.clone()));
    if newest.is_empty() {
        return Ok(ToolOutcome::ok("This thread saved no artifact yet."));
    }
    let mut out = String::new();
    for row in newest.iter().take(limit) {
        let _ = writeln!(out, "{}", line(row));
    }
    if newest.len() > limit {
        let _ = writeln!(out, "[{} more]", newest.len() - limit);
    }
    Ok(ToolOutcome::ok(out.trim_end()))
}

fn line(row: &ArtifactRow) -> String {
    let ArtifactRow { name, version, mime, size, .. } = row;
    format!("{name}, version {version} ({mime}, {size} bytes)")
}
