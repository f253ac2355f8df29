//! What can be asked, and who may ask it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lakitu_actors::gateway::ScriptGateway;
use serde_json::{Value, json};

use super::asked::Asked;
use super::error::ApiError;
use super::meter::Meter;
use super::relay::{Asking, Held, relay};
use super::unasked::Unasked;
use super::upstreams::Way;
use super::{Shared, script};
use crate::adapters::Call;
use crate::token::{Claims, renewed};

/// What names a call.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Browsers alone send it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(completions))
        .route("/v1/token/refresh", post(refresh))
        .fallback(async || ApiError::not_found("there is no such path here"))
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .with_state(shared)
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

async fn models(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, ApiError> {
    shared.admit(request.headers(), Some("llm"))?;
    Ok(Json(shared.upstreams.models(shared.deadlines.total).await?))
}

async fn completions(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response<Body>, ApiError> {
    let claims = shared.admit(request.headers(), Some("llm"))?;
    let busy = |_| ApiError::busy("too many calls are under way");
    let permit = shared.calls.clone().try_acquire_owned().map_err(busy)?;
    let idempotency_key = idempotency_key(request.headers())?;
    let body = shared.bodies.read(request).await?;
    let asked = Asked::read(&body)?;
    let budget = claims.as_ref().is_some_and(|claims| claims.budget.is_some());
    let routed = shared.upstreams.route(&asked, &body, budget)?;
    let now = shared.now();
    let tab = match &claims {
        Some(claims) => shared.ledger.open(claims, &asked.model, routed.price, now)?,
        None => None,
    };
    let unasked = (budget && asked.stream && !asked.stream_usage).then(Unasked::default);
    let held = Held { _permit: permit, meter: tab.map(|tab| Meter::new(tab, body.len())), unasked };
    let name = routed.name;
    Ok(match routed.way {
        Way::Http(upstream) => {
            let asking = Asking { name, upstream, deadlines: shared.deadlines, stream: asked.stream };
            relay(asking, Call { body: routed.body, idempotency_key }, held).await
        }
        Way::Script(play) => {
            let body = routed.body.concat().into();
            let request = ScriptGateway::request(idempotency_key.as_deref(), routed.model, body);
            script::answer(name, play, request, (&asked, now), held).await
        }
    })
}

async fn refresh(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, ApiError> {
    let claims = shared.admit(request.headers(), None)?;
    let (Some(old), Some(keys)) = (claims, &shared.keys) else {
        return Err(ApiError::not_found("this gateway checks no tokens, so it makes none"));
    };
    let new = renewed(&old, &*shared.clock, &*shared.random);
    let token = keys.sign(&new).map_err(ApiError::internal)?;
    Ok(Json(json!({"token": token, "expires_at": new.exp})))
}

impl Shared {
    fn now(&self) -> u64 {
        self.clock.now().0 / 1000
    }

    /// Lets a request in, by its token where tokens are checked.
    fn admit(&self, headers: &HeaderMap, scope: Option<&str>) -> Result<Option<Claims>, ApiError> {
        let Some(keys) = &self.keys else {
            return if is_of_this_machine(headers) { Ok(None) } else { Err(ApiError::foreign_page()) };
        };
        let claims = keys.verify(bearer(headers)?)?;
        match scope.filter(|scope| !claims.may(scope)) {
            Some(missing) => Err(ApiError::no_scope(missing)),
            None => Ok(Some(claims)),
        }
    }
}

/// The one token of a request. Of two nobody could say which one counts.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut all = headers.get_all(AUTHORIZATION).into_iter();
    let given = all.next().ok_or_else(|| ApiError::no_token("send `Authorization: Bearer TOKEN`"))?;
    if all.next().is_some() {
        return Err(ApiError::no_token("there is more than one Authorization header"));
    }
    let token = given.to_str().ok().and_then(|value| value.split_once(' '));
    let token = token.and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then_some(token));
    token.ok_or_else(|| ApiError::no_token("the Authorization header must be `Bearer TOKEN`"))
}

/// A page in a browser can reach loopback too, by a name of its own if need be; what it cannot do is hide that.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let loopback = host.is_none_or(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    loopback && !headers.contains_key(ORIGIN) && !headers.contains_key(FETCH_SITE)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().map_err(|_| ApiError::bad("the Idempotency-Key is not plain text"))?;
    Ok(Some(key.to_owned()))
}
