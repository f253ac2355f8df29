//! What is asked of the runtime itself: is it there, is it well, what does it consist of.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use lakitu_kernel::supervise::Node;
use lakitu_kernel::{ErrorCode, ToolError};

use super::Shared;
use super::answers::{Alive, Readiness, Wished};
use super::asked::json;
use super::error::ApiError;
use super::openapi;
use super::requests::OnActor;

pub(super) async fn health() -> Json<Alive> {
    Json(Alive { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let not_running = shared.wiring.nodes.not_running_permanent();
    if not_running.is_empty() {
        return Json(Readiness { status: "ready", not_running, error: None }).into_response();
    }
    let error = ToolError::new(ErrorCode::Unavailable, format!("not running: {}", not_running.join(", ")));
    let told = Readiness { status: "not_ready", not_running, error: Some(error) };
    (StatusCode::SERVICE_UNAVAILABLE, Json(told)).into_response()
}

pub(super) async fn actors(State(shared): State<Arc<Shared>>) -> Json<Node> {
    Json(shared.wiring.nodes.tree())
}

pub(super) async fn restart(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<(StatusCode, Json<Wished>), ApiError> {
    let OnActor { path } = json(request).await?;
    shared.wiring.nodes.restart(&path)?;
    Ok((StatusCode::ACCEPTED, Json(Wished { path })))
}

pub(super) async fn stop(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<(StatusCode, Json<Wished>), ApiError> {
    let OnActor { path } = json(request).await?;
    shared.wiring.nodes.stop(&path)?;
    Ok((StatusCode::ACCEPTED, Json(Wished { path })))
}

pub(super) async fn document(State(shared): State<Arc<Shared>>) -> Response {
    let document = shared.document.get_or_init(|| openapi::document().to_string().into()).clone();
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}
