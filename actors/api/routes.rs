//! What can be asked: one table, from which both the router and the document are made.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, patch, post};
use lakitu_kernel::supervise::Node;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::answers::{Alive, GivenUp, Message, Page, Readiness, Started, Taken, Thread, WholeThread, Wished};
use super::artifacts::{Artifact, ListArtifacts};
use super::beads::{self, Bead, CreateBead, UpdateBead};
use super::checkpoints::answers::{Checkpoint, Forked, Made, WentBack};
use super::error::ApiError;
use super::guard::{self, Scope};
use super::requests::{
    Approve, Cancel, Follow, Fork, ListCheckpoints, ListMessages, ListThreads, MakeCheckpoint, OnActor,
    RestoreCheckpoint, Say, StartThread,
};
use super::tables::{FollowRows, ListRows, TableRow, Tables};
use super::{Shared, artifacts, checkpoints, events, operate, tables, threads};

/// A type's schema.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a good answer holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    Json(SchemaOf),
    /// Any JSON object.
    Object,
    /// Server-sent events; what there is to say of them.
    Events(&'static str),
    /// Whatever it is.
    Bytes,
}

/// One thing that can be asked.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// What a token must hold; none: no token is asked for.
    pub(super) scope: Option<Scope>,
    pub(super) serve: fn() -> MethodRouter<Arc<Shared>>,
    /// A type whose fields stand behind the `?`.
    pub(super) query: Option<SchemaOf>,
    pub(super) body: Option<SchemaOf>,
    /// Whether it can be left out.
    pub(super) body_optional: bool,
    /// The good answer: its status, and what it holds.
    pub(super) good: (u16, Content),
    /// What else can come of it, beside what its parts imply.
    pub(super) bad: &'static [u16],
}

const fn of<T: JsonSchema>() -> SchemaOf {
    SchemaGenerator::subschema_for::<T>
}

const fn json<T: JsonSchema>() -> Content {
    Content::Json(of::<T>())
}

/// A reading route without anything to say.
const fn reading(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    serve: fn() -> MethodRouter<Arc<Shared>>,
    content: Content,
) -> Route {
    let scope = Some(Scope::Read);
    Route {
        method: "get",
        path,
        id,
        summary,
        scope,
        serve,
        query: None,
        body: None,
        body_optional: false,
        good: (200, content),
        bad: &[],
    }
}

const fn writing(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    serve: fn() -> MethodRouter<Arc<Shared>>,
    good: (u16, Content),
) -> Route {
    let scope = Some(Scope::Write);
    Route {
        method: "post",
        path,
        id,
        summary,
        scope,
        serve,
        query: None,
        body: None,
        body_optional: false,
        good,
        bad: &[409],
    }
}

const LIVE: &str = "An event's `id` is its `seq`, and it comes once. Events that are told live have none; `gap` tells that \
                    some of them were missed.";
const CHANGES: &str = "An event `change` has `{commit, table, id, op, row?}`: with `put` the row as it is now; `leave`, it is \
                       no longer one of those that are asked for; `delete`, it was removed. The `id` is the commit, with \
                       its last change. What a cut-off reader reads again tells the same rows as they are then. 410: what \
                       follows that commit is no longer kept, read the list again.";

pub(super) static ROUTES: [Route; 27] = [
    Route { scope: None, ..reading("/health", "health", "It is alive", || get(operate::health), json::<Alive>()) },
    Route {
        scope: None,
        ..reading("/ready", "ready", "Every permanent actor runs", || get(operate::ready), json::<Readiness>())
    },
    reading("/openapi.json", "openapi", "This document", || get(operate::document), Content::Object),
    Route {
        query: Some(ListThreads::json_schema),
        ..reading("/v1/threads", "listThreads", "Lists threads", || get(threads::list), json::<Page<Thread>>())
    },
    Route {
        body: Some(of::<StartThread>()),
        bad: &[],
        ..writing(
            "/v1/threads",
            "startThread",
            "Starts a thread; answered once it is durable",
            || post(threads::start),
            (201, json::<Started>()),
        )
    },
    reading("/v1/threads/{id}", "showThread", "A thread", || get(threads::show), json::<WholeThread>()),
    Route {
        query: Some(ListMessages::json_schema),
        ..reading(
            "/v1/threads/{id}/messages",
            "listMessages",
            "A thread's conversation, in order",
            || get(threads::messages),
            json::<Page<Message>>(),
        )
    },
    Route {
        body: Some(of::<Say>()),
        ..writing(
            "/v1/threads/{id}/messages",
            "continueThread",
            "Gives a thread its next prompt",
            || post(threads::say),
            (202, json::<Taken>()),
        )
    },
    Route {
        query: Some(Cancel::json_schema),
        ..writing(
            "/v1/threads/{id}/cancel",
            "cancelThread",
            "Gives a thread's run up, if one is on, or one of its jobs; answered within a second",
            || post(threads::cancel),
            (200, json::<GivenUp>()),
        )
    },
    Route {
        body: Some(of::<Approve>()),
        ..writing(
            "/v1/threads/{id}/approve",
            "approveCall",
            "Says whether a call may be made that waits for consent",
            || post(threads::approve),
            (200, json::<Taken>()),
        )
    },
    writing(
        "/v1/threads/{id}/resume",
        "resumeThread",
        "Goes on from where a thread stopped",
        || post(threads::resume),
        (202, json::<Taken>()),
    ),
    Route {
        query: Some(Follow::json_schema),
        bad: &[409],
        ..reading(
            "/v1/threads/{id}/events",
            "followThread",
            "A thread's events, and what happens from now on",
            || get(events::events),
            Content::Events(LIVE),
        )
    },
    Route {
        body: Some(of::<Fork>()),
        ..writing(
            "/v1/threads/{id}/fork",
            "forkThread",
            "Makes a thread out of this one's beginning; what is open there is told as interrupted",
            || post(checkpoints::fork),
            (201, json::<Forked>()),
        )
    },
    Route {
        body: Some(of::<MakeCheckpoint>()),
        body_optional: true,
        ..writing(
            "/v1/threads/{id}/checkpoint",
            "checkpointThread",
            "Makes a checkpoint of a thread as it is, running or not; a run goes on",
            || post(checkpoints::make),
            (201, json::<Made>()),
        )
    },
    Route {
        query: Some(ListCheckpoints::json_schema),
        bad: &[404],
        ..reading(
            "/v1/checkpoints",
            "listCheckpoints",
            "Lists checkpoints, the newest first",
            || get(checkpoints::list),
            json::<Page<Checkpoint>>(),
        )
    },
    Route {
        body: Some(of::<RestoreCheckpoint>()),
        body_optional: true,
        ..writing(
            "/v1/checkpoints/{id}/restore",
            "restoreCheckpoint",
            "Goes back: files that the agent changed since are as they were then, and a new thread has the conversation",
            || post(checkpoints::restore),
            (201, json::<WentBack>()),
        )
    },
    Route {
        query: Some(ListArtifacts::json_schema),
        bad: &[404],
        ..reading(
            "/v1/artifacts",
            "listArtifacts",
            "Lists what threads saved for somebody, the newest first: each version is an item",
            || get(artifacts::list),
            json::<Page<Artifact>>(),
        )
    },
    reading("/v1/artifacts/{id}", "getArtifact", "Shows an artifact", || get(artifacts::show), json::<Artifact>()),
    reading(
        "/v1/artifacts/{id}/content",
        "getArtifactContent",
        "Gives an artifact's content, with its own type",
        || get(artifacts::content),
        Content::Bytes,
    ),
    reading(
        "/v1/tables",
        "listTables",
        "The tables, and what each can be asked by",
        || get(tables::tables),
        json::<Tables>(),
    ),
    Route {
        query: Some(ListRows::json_schema),
        ..reading(
            "/v1/tables/{table}",
            "listRows",
            "A table's rows, by any of its indexes",
            || get(tables::list),
            json::<Page<TableRow>>(),
        )
    },
    Route {
        query: Some(FollowRows::json_schema),
        bad: &[409, 410],
        ..reading(
            "/v1/tables/{table}/changes",
            "followRows",
            "What changes of a table's rows, as it is committed",
            || get(tables::changes),
            Content::Events(CHANGES),
        )
    },
    Route {
        body: Some(of::<CreateBead>()),
        bad: &[404],
        ..writing("/v1/beads", "createBead", "Makes a bead", || post(beads::create), (201, json::<Bead>()))
    },
    Route {
        method: "patch",
        body: Some(of::<UpdateBead>()),
        ..writing(
            "/v1/beads/{id}",
            "updateBead",
            "Changes a bead: claims it, closes it, says what it waits for",
            || patch(beads::update),
            (200, json::<Bead>()),
        )
    },
    reading("/v1/actors", "showActors", "The tree of actors", || get(operate::actors), json::<Node>()),
    Route {
        scope: Some(Scope::Admin),
        body: Some(of::<OnActor>()),
        bad: &[404],
        ..writing(
            "/v1/actors/restart",
            "restartActor",
            "Restarts an actor",
            || post(operate::restart),
            (202, json::<Wished>()),
        )
    },
    Route {
        scope: Some(Scope::Admin),
        body: Some(of::<OnActor>()),
        bad: &[404],
        ..writing(
            "/v1/actors/stop",
            "stopActor",
            "Stops an actor until it is restarted",
            || post(operate::stop),
            (202, json::<Wished>()),
        )
    },
];

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let guard = from_fn_with_state((shared.clone(), route.scope), guard::admit);
        router = router.route(route.path, (route.serve)().layer(guard));
    }
    router
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .layer(from_fn_with_state(shared.clone(), guard::door))
        .with_state(shared)
}
