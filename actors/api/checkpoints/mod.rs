//! What is asked of states of threads: forks, checkpoints, going back.

pub(super) mod answers;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lakitu_kernel::{ThreadId, ToolError};
use serde::Serialize;

use self::answers::{Checkpoint, Forked, Made, WentBack};
use super::Shared;
use super::answers::Page;
use super::asked::{self, Id, json, json_if_any};
use super::error::ApiError;
use super::requests::{Fork, ListCheckpoints, MakeCheckpoint, RestoreCheckpoint, cursor, limit};
use crate::checkpoint::CreateArgs;
use crate::store::{CheckpointsBy, Reading};
use crate::threads::not_found;

/// A page ends with the checkpoint that brings it past this, in bytes: one can name a thousand files.
const PAGE_BYTES: usize = 1024 * 1024;

pub(super) async fn fork(State(shared): State<Arc<Shared>>, id: Id, request: Request) -> Result<Response, ApiError> {
    let from = asked::thread(id)?;
    let at = json::<Fork>(request).await?.at_seq()?;
    let crate::threads::fork::Forked { thread, from, at, files: _ } = shared.threads.fork(from, at, None).await?;
    Ok(new_thread(thread, Forked { thread, from, at_seq: at }))
}

/// A thread that was not there before, and where it is now.
fn new_thread(thread: ThreadId, told: impl Serialize) -> Response {
    let mut response = (StatusCode::CREATED, Json(told)).into_response();
    if let Ok(at) = HeaderValue::try_from(format!("/v1/threads/{thread}")) {
        response.headers_mut().insert(LOCATION, at);
    }
    response
}

pub(super) async fn make(
    State(shared): State<Arc<Shared>>,
    id: Id,
    request: Request,
) -> Result<(StatusCode, Json<Made>), ApiError> {
    let thread = asked::thread(id)?;
    let MakeCheckpoint { name, next_task } = json_if_any(request).await?;
    let id = shared.threads.checkpoint(thread, CreateArgs { name, next_task }).await?;
    Ok((StatusCode::CREATED, Json(Made { id: id.to_string(), thread })))
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Json<Page<Checkpoint>>, ApiError> {
    let asked: ListCheckpoints = asked::query(&uri)?;
    let (limit, cursor) = (limit(asked.limit)?, cursor(asked.cursor)?);
    let by = match asked.thread {
        Some(id) => CheckpointsBy::Thread(id.parse().map_err(|_| ApiError::invalid("`thread` is a thread's id"))?),
        None => CheckpointsBy::All,
    };
    Ok(Json(shared.read(move |reading| page(reading, by, limit, cursor.as_deref())).await?))
}

fn page(
    reading: &Reading,
    by: CheckpointsBy,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Page<Checkpoint>, ToolError> {
    if let CheckpointsBy::Thread(thread) = by {
        reading.thread(thread)?.ok_or_else(|| not_found(thread))?;
    }
    let mut page = Page { items: Vec::new(), cursor: cursor.map(str::to_owned), commit: reading.commit()? };
    let mut bytes = 0;
    loop {
        let found = reading.checkpoints_by(by, 1, page.cursor.as_deref())?;
        page.cursor = found.cursor;
        for row in found.items {
            let item = Checkpoint::from(row);
            bytes += serde_json::to_string(&item).map_or(0, |text| text.len());
            page.items.push(item);
        }
        if page.cursor.is_none() || page.items.len() >= limit || bytes >= PAGE_BYTES {
            return Ok(page);
        }
    }
}

pub(super) async fn restore(State(shared): State<Arc<Shared>>, id: Id, request: Request) -> Result<Response, ApiError> {
    let id = asked::checkpoint(id)?;
    let RestoreCheckpoint { force } = json_if_any(request).await?;
    let went = shared.threads.restore(id, force).await?;
    let told = WentBack { checkpoint: went.checkpoint.to_string(), thread: went.thread, files: went.files };
    Ok(new_thread(went.thread, told))
}
