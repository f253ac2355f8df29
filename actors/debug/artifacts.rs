//! Artifacts as the socket and the command line show them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lakitu_kernel::limits::{ARTIFACTS_PER_QUERY_MAX, ARTIFACTS_PER_THREAD_MAX};
use lakitu_kernel::{ArtifactId, ErrorCode, ThreadId, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rows::{Answer, within};
use crate::store::{ArtifactRow, ArtifactsBy, Reading, Row as _};
use crate::threads::not_found;

/// Of `artifacts.ls`: versions, the newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsLs {
    /// Only those of this thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// At most so many: 1 to 100, default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where the page begins: the cursor of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Of `artifacts.get`. Answered with `{artifact, content}`, the content in base64.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsGet {
    /// An id, or a name.
    pub artifact: String,
    /// Whose it is, of a name. None: of the thread that saved it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// Which one, of a name. None: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// `artifacts.ls`
pub fn ls(reading: &Reading, asked: ArtifactsLs) -> Answer {
    let limit = within(asked.limit, 50, ARTIFACTS_PER_QUERY_MAX)?;
    let by = match asked.thread {
        Some(thread) => {
            reading.thread(thread)?.ok_or_else(|| not_found(thread))?;
            ArtifactsBy::Thread(thread)
        }
        None => ArtifactsBy::All,
    };
    let page = reading.artifacts_by(&by, limit, asked.cursor.as_deref())?;
    let items: Vec<Value> = page.items.iter().map(ArtifactRow::json).collect();
    Ok(json!({ "items": items, "cursor": page.cursor, "commit": page.commit }))
}

/// `artifacts.get`
pub fn get(reading: &Reading, asked: ArtifactsGet) -> Answer {
    let row = find(reading, &asked)?;
    let content = STANDARD.encode(reading.blob(row.content_hash)?);
    Ok(json!({ "artifact": row.json(), "content": content }))
}

fn find(reading: &Reading, asked: &ArtifactsGet) -> Result<ArtifactRow, ToolError> {
    let missing = |what: String| {
        ToolError::new(
            ErrorCode::ArtifactNotFound,
            format!("there is no {what}; `lakitu artifacts ls` lists what there is"),
        )
    };
    let name = &asked.artifact;
    let short: String = name.chars().take(80).collect();
    if let Ok(id) = name.parse::<ArtifactId>() {
        return reading.artifact(id)?.ok_or_else(|| missing(format!("artifact {id}")));
    }
    let thread = match asked.thread {
        Some(thread) => thread,
        None => reading.artifact_named(name)?.ok_or_else(|| missing(format!("artifact {short:?}")))?.thread_id,
    };
    let looked_at = if asked.version.is_none() { 1 } else { ARTIFACTS_PER_THREAD_MAX };
    let versions = reading.artifact_versions(thread, name, looked_at)?;
    let mut found = versions.into_iter().filter(|row| asked.version.is_none_or(|version| version == row.version));
    found.next().ok_or_else(|| {
        let version = asked.version.map_or_else(String::new, |version| format!(", version {version},"));
        missing(format!("artifact {short:?}{version} of {thread}"))
    })
}
