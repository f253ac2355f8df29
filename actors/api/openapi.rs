//! The document: every route with every answer, made from the table and the types that serve it.

use axum::http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::answers::Readiness;
use super::error::ErrorAnswer;
use super::routes::{Content, ROUTES, Route};
use super::sse::LAST_EVENT_ID;
use crate::store::query;

/// A thread's id, as its path holds it.
const ID: &str = "^thr_[0-7][0-9A-HJKMNP-TV-Z]{25}$";
/// A checkpoint's.
const CHECKPOINT_ID: &str = "^chk_[0-7][0-9A-HJKMNP-TV-Z]{25}_[0-9]{1,19}$";
/// An artifact's.
const ARTIFACT_ID: &str = "^art_[0-7][0-9A-HJKMNP-TV-Z]{25}_[0-9]{1,19}$";
/// A bead's.
const BEAD: &str = "^[A-Za-z0-9._:@+-]{1,128}$";
const EVENTS: &str = "Server-sent events, each of this form. A reader that was cut off sends the last `id` that it has as \
                      `Last-Event-ID` and goes on behind it, with nothing lost.";

/// The API's description by `OpenAPI` 3.1.
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in &ROUTES {
        let operation = operation(route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_owned(), operation);
        }
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lakitu",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Threads of an autonomous coding agent, and the actors that run them. A token is made by \
                            `lakitu token mint --audience api`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": answers(route, generator),
    });
    if let Some(scope) = route.scope {
        operation["security"] = json!([{ "token": [scope.as_str()] }]);
    }
    let parameters = parameters(route, generator);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        let schema = body(generator);
        operation["requestBody"] =
            json!({ "required": !route.body_optional, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut all = Vec::new();
    if route.path.contains("{table}") {
        let schema = json!({ "type": "string", "enum": query::public().collect::<Vec<_>>() });
        let what = "The table.";
        all.push(json!({ "name": "table", "in": "path", "required": true, "description": what, "schema": schema }));
    }
    if route.path.contains("{id}") {
        let (pattern, what) = match route.path.split('/').nth(2) {
            Some("checkpoints") => (CHECKPOINT_ID, "The checkpoint."),
            Some("artifacts") => (ARTIFACT_ID, "The artifact."),
            Some("beads") => (BEAD, "The bead."),
            _ => (ID, "The thread."),
        };
        let schema = json!({ "type": "string", "pattern": pattern });
        all.push(json!({ "name": "id", "in": "path", "required": true, "description": what, "schema": schema }));
    }
    let query = route.query.map(|query| Value::from(query(generator))).unwrap_or_default();
    for (name, schema) in query.get("properties").and_then(Value::as_object).into_iter().flatten() {
        all.push(json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": schema.get("description"),
            "schema": without_null(schema.clone()),
        }));
    }
    if let Content::Events(_) = route.good.1 {
        all.push(json!({
            "name": LAST_EVENT_ID.as_str(),
            "in": "header",
            "required": false,
            "description": "Only what comes behind this `id`.",
            "schema": { "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 },
        }));
    }
    all
}

/// What is left out of a query is left out: there is no null in one.
fn without_null(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("description");
        if let Some(Value::Array(types)) = fields.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                fields.insert("type".to_owned(), only);
            }
        }
        let null = json!({ "type": "null" });
        if let Some(Value::Array(any)) = fields.get_mut("anyOf") {
            any.retain(|kind| *kind != null);
        }
    }
    schema
}

fn answers(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let (status, content) = route.good;
    let content = match content {
        Content::Json(schema) => json!({ "application/json": { "schema": schema(generator) } }),
        Content::Object => json!({ "application/json": { "schema": { "type": "object" } } }),
        Content::Bytes => json!({ "*/*": { "schema": { "type": "string", "format": "binary" } } }),
        Content::Events(what) => json!({ "text/event-stream": { "schema": event(what) } }),
    };
    let mut all = Map::new();
    all.insert(status.to_string(), json!({ "description": words(status), "content": content }));
    let error = Value::from(generator.subschema_for::<ErrorAnswer>());
    for status in statuses(route) {
        let mut answer =
            json!({ "description": words(status), "content": { "application/json": { "schema": error } } });
        if status == 429 || (status == 503 && route.scope.is_some()) {
            let wait = json!({ "description": "Seconds to wait.", "schema": { "type": "integer" } });
            answer["headers"] = json!({ "Retry-After": wait });
        }
        all.insert(status.to_string(), answer);
    }
    if route.path == "/ready" {
        let schema = generator.subschema_for::<Readiness>();
        all.insert(
            "503".to_owned(),
            json!({
                "description": words(503),
                "content": { "application/json": { "schema": schema } },
            }),
        );
    }
    all.into()
}

fn event(what: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("{EVENTS} {what}"),
        "required": ["event", "data"],
        "properties": {
            "id": { "type": "string", "description": "What the reader has with it." },
            "event": { "type": "string", "description": "Its type." },
            "data": { "type": "string", "contentMediaType": "application/json", "description": "The event as JSON." },
        },
    })
}

/// What can come of a request beside its good answer.
fn statuses(route: &Route) -> Vec<u16> {
    // A Host or an Origin that is not ours.
    let mut all = vec![400, 403];
    if route.scope.is_some() {
        all.extend([401, 429, 500, 503]);
    }
    if route.path.contains('{') {
        all.push(404);
    }
    if route.query.is_some() {
        all.push(422);
    }
    if route.body.is_some() {
        all.extend([408, 413, 415, 422]);
    }
    all.extend(route.bad);
    all.sort_unstable();
    all.dedup();
    all
}

fn words(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_stands_in_the_document_under_a_name_of_its_own() {
        let document = document();
        for route in &ROUTES {
            assert_eq!(document["paths"][route.path][route.method]["operationId"], route.id, "{}", route.path);
        }
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        let names: BTreeSet<&str> = ROUTES.iter().map(|route| route.id).collect();
        assert_eq!((operations, names.len()), (ROUTES.len(), ROUTES.len()));
    }
}
