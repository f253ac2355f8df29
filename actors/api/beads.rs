//! What is asked of beads.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lakitu_kernel::ports::Caller;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shared;
use super::asked::json;
use super::error::ApiError;
use super::requests::whole;
use crate::debug::beads::{BeadsChange, change};
use crate::planning::{self, BeadPatch, Change, NewBead};

/// One plain line with something in it.
macro_rules! line {
    () => {
        r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    };
}

/// What kind of work a bead is.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BeadType {
    Task,
    Bug,
    Feature,
    Chore,
    Epic,
}

impl BeadType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Bug => "bug",
            Self::Feature => "feature",
            Self::Chore => "chore",
            Self::Epic => "epic",
        }
    }
}

/// What a bead can be brought to. It becomes `blocked` by what it waits for.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BeadWish {
    Open,
    InProgress,
    Closed,
}

impl BeadWish {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InProgress => "in_progress",
            Self::Closed => "closed",
        }
    }
}

/// A bead's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Name(#[schemars(regex(pattern = r"^[A-Za-z0-9._:@+-]{1,128}$"))] String);

/// A word to find a bead by.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Label(#[schemars(length(min = 1, max = 100), regex(pattern = line!()))] String);

/// A bead that is to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBead {
    /// What is to be done, in a line.
    #[schemars(length(min = 1, max = 200), regex(pattern = line!()))]
    title: String,
    /// What kind of work it is. Default: task.
    #[serde(default, rename = "type")]
    kind: Option<BeadType>,
    /// From 0, critical, to 4, some day. Default: 2.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(max = 4))]
    priority: Option<u8>,
    /// More about it.
    #[serde(default)]
    #[schemars(length(max = 10_000), regex(pattern = r"^[^\x00]*$"))]
    description: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    #[schemars(length(max = 50))]
    labels: Vec<Label>,
    /// The bead that it is a part of.
    #[serde(default)]
    parent_id: Option<Name>,
    /// The beads that it waits for.
    #[serde(default)]
    #[schemars(length(max = 100))]
    blocked_by: Vec<Name>,
}

/// What is to be changed of a bead; what is left out stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateBead {
    /// `in_progress` claims it, `open` lets go of it or opens it again, `closed` closes it.
    #[serde(default)]
    status: Option<BeadWish>,
    /// What is to be done, in a line.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200), regex(pattern = line!()))]
    title: Option<String>,
    /// What kind of work it is.
    #[serde(default, rename = "type")]
    kind: Option<BeadType>,
    /// From 0, critical, to 4, some day.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(max = 4))]
    priority: Option<u8>,
    /// More about it; empty: nothing.
    #[serde(default)]
    #[schemars(length(max = 10_000), regex(pattern = r"^[^\x00]*$"))]
    description: Option<String>,
    /// Words to find it by, in place of those that it has.
    #[serde(default)]
    #[schemars(length(max = 50))]
    labels: Option<Vec<Label>>,
    /// The bead that it is a part of; empty: none.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._:@+-]{0,128}$"))]
    parent_id: Option<String>,
    /// The beads that it waits for, in place of those that it has.
    #[serde(default)]
    #[schemars(length(max = 100))]
    blocked_by: Option<Vec<Name>>,
    /// Why it is closed, with `status` `closed` or of one that is.
    #[serde(default)]
    #[schemars(length(max = 10_000), regex(pattern = r"^[^\x00]*$"))]
    reason: Option<String>,
}

/// A bead: a row of the table `beads`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "the document is made of it; rows make their own JSON")]
pub(super) struct Bead {
    /// Its name.
    #[serde(rename = "_id")]
    id: String,
    /// When it was made, in ms since 1970.
    #[serde(rename = "_creationTime")]
    creation_time: u64,
    /// What is to be done.
    title: String,
    /// What kind of work it is. One that the `bd` tool brought may be of another than those that can be given.
    #[serde(rename = "type")]
    kind: String,
    /// What is being done about it: `open`, `in_progress`, `blocked`, `closed`, or one that the `bd` tool brought.
    status: String,
    /// From 0, critical, to 4, some day.
    priority: u8,
    /// The thread that made it.
    thread_id: Option<String>,
    /// The bead that it is a part of.
    parent_id: Option<String>,
    /// The beads that it waits for.
    #[serde(default)]
    blocked_by: Vec<String>,
    /// More about it.
    description: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    labels: Vec<String>,
    /// Who holds it.
    assignee: Option<String>,
    /// When it was made.
    created_at: u64,
    /// When somebody last changed it.
    updated_at: u64,
    /// When it was closed.
    closed_at: Option<u64>,
    /// Why it was closed.
    close_reason: Option<String>,
    /// How far its children are, where it has any.
    progress: Option<Far>,
}

/// How far a bead's children are.
#[derive(Debug, Serialize, JsonSchema)]
#[allow(dead_code, reason = "the document is made of it; rows make their own JSON")]
pub(super) struct Far {
    /// Those that are done.
    closed: u64,
    /// All of them.
    total: u64,
}

fn names(names: Vec<Name>) -> Vec<String> {
    names.into_iter().map(|name| name.0).collect()
}

fn words(labels: Vec<Label>) -> Vec<String> {
    labels.into_iter().map(|label| label.0).collect()
}

/// Whoever the token was made for.
fn by(request: &Request) -> String {
    let subject = request.extensions().get::<Arc<Caller>>().map(|caller| caller.subject.as_str()).unwrap_or_default();
    let plain: String = subject.chars().filter(|char| !char.is_control()).take(200).collect();
    if plain.trim().is_empty() { "api".to_owned() } else { plain }
}

/// `POST /v1/beads`
pub(super) async fn create(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    let by = by(&request);
    let CreateBead { title, kind, priority, description, labels, parent_id, blocked_by } = json(request).await?;
    let new = NewBead {
        title,
        kind: kind.map(|kind| kind.as_str().to_owned()),
        priority,
        description,
        labels: words(labels),
        parent_id: parent_id.map(|name| planning::bead_id(&name.0)).transpose()?.map(|id| id.to_string()),
        blocked_by: names(blocked_by),
    };
    let done = change(&shared.wiring, BeadsChange { by, change: Change::Create(new) }).await?;
    let bead = done["bead"].clone();
    let place = format!("/v1/beads/{}", bead["_id"].as_str().unwrap_or_default());
    let mut answer = (StatusCode::CREATED, Json(bead)).into_response();
    if let Ok(place) = HeaderValue::from_str(&place) {
        answer.headers_mut().insert(LOCATION, place);
    }
    Ok(answer)
}

/// `PATCH /v1/beads/{id}`
pub(super) async fn update(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Ok(Path(id)) = id else { return Err(ApiError::not_found()) };
    let by = by(&request);
    let asked: UpdateBead = json(request).await?;
    // What is no name is no bead's.
    let id = planning::bead_id(&id).map_err(|_| ApiError::not_found())?.to_string();
    let UpdateBead { status, title, kind, priority, description, labels, parent_id, blocked_by, reason } = asked;
    let patch = BeadPatch {
        status: status.map(|status| status.as_str().to_owned()),
        title,
        kind: kind.map(|kind| kind.as_str().to_owned()),
        priority,
        description,
        labels: labels.map(words),
        parent_id,
        blocked_by: blocked_by.map(names),
        reason,
    };
    let done = change(&shared.wiring, BeadsChange { by, change: Change::Update { id, patch } }).await?;
    Ok(Json(done["bead"].clone()))
}
