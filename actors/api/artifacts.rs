//! What is asked of artifacts.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response, Uri};
use lakitu_kernel::{ArtifactId, ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shared;
use super::answers::Page;
use super::asked::{self, Id};
use super::error::ApiError;
use super::requests::{cursor, limit};
use crate::store::{ArtifactRow, ArtifactsBy, Reading};
use crate::threads::not_found;

/// A page of a list of artifacts, the newest first: each version is an item.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArtifacts {
    /// Only those of this thread.
    #[schemars(regex(pattern = "^thr_[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    thread: Option<String>,
    /// Items a page. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
    /// Where the page begins: the cursor of the one before.
    #[schemars(regex(pattern = "^([0-9a-f]{2}){1,64}$"))]
    cursor: Option<String>,
}

/// A version of what a thread made for somebody.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Artifact {
    /// Its id.
    #[serde(rename = "_id")]
    id: String,
    /// When it was saved, in milliseconds since 1970.
    #[serde(rename = "_creationTime")]
    creation_time: u64,
    /// Its name; each thread has its own.
    name: String,
    /// Counts what the thread saved under that name, from 1.
    version: u32,
    /// What it is, as a MIME type.
    #[serde(rename = "type")]
    mime: String,
    /// Where it was put, and where the next version takes its place.
    path: String,
    /// The SHA-256 of its content.
    content_hash: String,
    /// In bytes.
    size: u64,
    /// Who made it.
    thread_id: String,
    /// When it was saved, in milliseconds since 1970.
    created_at: u64,
    /// What whoever saved it has to say of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

impl From<ArtifactRow> for Artifact {
    fn from(row: ArtifactRow) -> Self {
        Self {
            id: row.id.to_string(),
            creation_time: row.created_at.0,
            name: row.name,
            version: row.version,
            mime: row.mime,
            path: row.path,
            content_hash: row.content_hash.to_string(),
            size: row.size,
            thread_id: row.thread_id.to_string(),
            created_at: row.created_at.0,
            metadata: row.metadata,
        }
    }
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Json<Page<Artifact>>, ApiError> {
    let asked: ListArtifacts = asked::query(&uri)?;
    let (limit, cursor) = (limit(asked.limit)?, cursor(asked.cursor)?);
    let by = match asked.thread {
        Some(id) => ArtifactsBy::Thread(id.parse().map_err(|_| ApiError::invalid("`thread` is a thread's id"))?),
        None => ArtifactsBy::All,
    };
    let read = move |reading: &Reading| {
        if let ArtifactsBy::Thread(thread) = by {
            reading.thread(thread)?.ok_or_else(|| not_found(thread))?;
        }
        let page = reading.artifacts_by(&by, limit, cursor.as_deref())?;
        let items = page.items.into_iter().map(Artifact::from).collect();
        Ok(Page { items, cursor: page.cursor, commit: page.commit })
    };
    Ok(Json(shared.read(read).await?))
}

fn row(reading: &Reading, id: ArtifactId) -> Result<ArtifactRow, ToolError> {
    reading.artifact(id)?.ok_or_else(missing)
}

fn missing() -> ToolError {
    ToolError::new(ErrorCode::ArtifactNotFound, "there is no such artifact; GET /v1/artifacts lists what there is")
}

/// The artifact that the path names. What is no id names none.
fn id(path: Id) -> Result<ArtifactId, ApiError> {
    path.ok().and_then(|axum::extract::Path(id)| id.parse().ok()).ok_or_else(|| missing().into())
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, path: Id) -> Result<Json<Artifact>, ApiError> {
    let id = id(path)?;
    Ok(Json(shared.read(move |reading| row(reading, id)).await?.into()))
}

/// The bytes, as what they are said to be. A browser is told to keep them and show nothing of them: an agent wrote them.
pub(super) async fn content(State(shared): State<Arc<Shared>>, path: Id) -> Result<Response<Body>, ApiError> {
    let id = id(path)?;
    let read = move |reading: &Reading| {
        let row = row(reading, id)?;
        let content = reading.blob(row.content_hash)?;
        Ok((row, content))
    };
    let (row, content) = shared.read(read).await?;
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    let mime = HeaderValue::try_from(row.mime);
    headers.insert(CONTENT_TYPE, mime.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", row.content_hash)) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}
