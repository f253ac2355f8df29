//! What a request says, read within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use futures_util::StreamExt as _;
use lakitu_kernel::limits::API_BODY_BYTES_MAX;
use lakitu_kernel::{ErrorCode, ThreadId, ToolError};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use tokio::time::timeout;

use super::error::ApiError;

/// Until a body is there.
const BODY_DEADLINE: Duration = Duration::from_secs(20);
/// Of a body that is too large, so much is read past: who is still sending reads no answer.
const READ_PAST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The body.
pub(super) async fn json<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    if !is_json(request.headers()) {
        return Err(ApiError::no_json_type());
    }
    let body = timeout(BODY_DEADLINE, body(request.into_body())).await.map_err(|_| ApiError::slow(BODY_DEADLINE))??;
    // A list of a type's fields in order would be taken for it.
    if serde_json::from_slice::<Vec<IgnoredAny>>(&body).is_ok() {
        return Err(ApiError::invalid("the body is a list; an object is expected"));
    }
    serde_json::from_slice(&body).map_err(|error| match error.classify() {
        Category::Data => ApiError::invalid(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => ApiError::no_json(&error),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).and_then(|content| content.to_str().ok());
    let kind = content.and_then(|content| content.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

async fn body(body: Body) -> Result<Bytes, ApiError> {
    let (mut stream, mut whole, mut came) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| ApiError::bad("the body did not come whole"))?;
        came += piece.len();
        if came <= API_BODY_BYTES_MAX {
            whole.extend_from_slice(&piece);
        } else if came > READ_PAST_BYTES_MAX {
            break;
        }
    }
    if came > API_BODY_BYTES_MAX { Err(ApiError::too_large(API_BODY_BYTES_MAX)) } else { Ok(whole.into()) }
}

/// What stands behind the `?`.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|rejection| ApiError::invalid(rejection.body_text()))
}

/// The thread that the path names. What is no id names none.
pub(super) fn thread(path: Result<Path<String>, PathRejection>) -> Result<ThreadId, ApiError> {
    path.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| {
        ToolError::new(ErrorCode::ThreadNotFound, "there is no such thread; GET /v1/threads lists what there is").into()
    })
}
