//! What goes wrong, as `OpenAI` clients read it: `{"error":{"message","type","code","param":null}}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use lakitu_actors::gateway::failure::said;
use lakitu_kernel::ports::ModelFailure;
use lakitu_kernel::{ErrorCode, ToolError};
use serde_json::json;

use crate::adapters::Refusal;
use crate::token::Invalid;

/// Says to who asked that the same request will fare no better.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The gateway's own key was not taken.
const UPSTREAM_REFUSED: &str = "upstream_refused";

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, message: message.into(), headers: Vec::new() }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The request cannot be understood.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request", message)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the request's body is over {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", message)
    }

    pub(super) fn slow(within: Duration) -> Self {
        let message = format!("the request's body did not come within {} s", within.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "request_timeout", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", "not_found", message)
    }

    pub(super) fn wrong_method() -> Self {
        let message = "this path has no such method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message)
    }

    /// No token came, or one in no way that is understood.
    pub(super) fn no_token(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "missing_token", message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(super) fn no_scope(scope: &str) -> Self {
        let message = format!("this token's scope does not hold `{scope}`");
        Self::new(StatusCode::FORBIDDEN, "permission_error", "insufficient_scope", message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"insufficient_scope\""))
    }

    /// Without tokens a request may come from a program of this machine, and from no page that a browser shows.
    pub(super) fn foreign_page() -> Self {
        let message = "this gateway checks no tokens, so it answers no browser and no other host name than loopback's; \
                       give it a secret_file";
        Self::new(StatusCode::FORBIDDEN, "permission_error", "loopback_only", message)
    }

    pub(super) fn no_price(model: &str) -> Self {
        let message = format!(
            "this token's budget is in US dollars, and the gateway knows no price of the model {model:?}: it must be \
             configured under [gateway.server.prices]"
        );
        Self::new(StatusCode::FORBIDDEN, "permission_error", "price_unknown", message)
    }

    /// It will not help to ask again, which this status alone would not say.
    pub(super) fn over_budget(what: &str) -> Self {
        let message = format!("the session's budget of {what} is used up");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", "budget_exceeded", message)
            .with(X_SHOULD_RETRY, HeaderValue::from_static("false"))
    }

    pub(super) fn busy(message: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too_many_requests", message)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Others' requests take all the room that there is for them.
    pub(super) fn full() -> Self {
        let message = "the requests that are under way are too large together: try again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "requests_too_large_together", message)
            .with(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The provider was silent for too long.
    pub(super) fn late(upstream: &str, what: &str) -> Self {
        let message = format!("the upstream `{upstream}` is too late: {what}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream_error", "upstream_timeout", message)
    }

    /// The provider did not answer, or not as it should.
    pub(super) fn upstream(upstream: &str, error: &ToolError) -> Self {
        let code = match error.code {
            ErrorCode::GatewayProtocol => "upstream_protocol",
            ErrorCode::GatewayRefused => UPSTREAM_REFUSED,
            _ => "upstream_unreachable",
        };
        let message = format!("the upstream `{upstream}` gave no answer: {}", error.message);
        Self::new(StatusCode::BAD_GATEWAY, "upstream_error", code, message)
    }

    /// The provider does not take the key that the gateway has for it. As 401 or 403 it would speak of the asker's own
    /// token, which is good; and it will not help to ask again, which this status alone would not say.
    fn key_refused(upstream: &str, status: u16, body: &[u8]) -> Self {
        let said = said(body);
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let message = format!("the upstream `{upstream}` refused the gateway's key for it (HTTP {status}){said}");
        Self::new(StatusCode::BAD_GATEWAY, "upstream_error", UPSTREAM_REFUSED, message)
            .with(X_SHOULD_RETRY, HeaderValue::from_static("false"))
    }

    /// Another status than 200 where its body is not to be relayed.
    pub(super) fn from_refusal(upstream: &str, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(failure) => Self::upstream(upstream, &failure.error),
            Refusal::Status { code: code @ (401 | 403), body, .. } => Self::key_refused(upstream, code, &body),
            Refusal::Status { code, body, .. } => {
                let what = format!("HTTP {code} in place of an answer {}", said(&body));
                Self::upstream(upstream, &ToolError::new(ErrorCode::GatewayProtocol, what.trim_end()))
            }
        }
    }

    /// Many failures as one. That all were late is worth another try; where one was not, its reason is to be put right.
    pub(super) fn worst(failures: impl Iterator<Item = Self>) -> Option<Self> {
        let mut failures: Vec<Self> = failures.collect();
        failures.sort_by_key(|failure| failure.status == StatusCode::GATEWAY_TIMEOUT);
        let message = failures.iter().map(|failure| &*failure.message).collect::<Vec<_>>().join("; ");
        let worst = failures.into_iter().next()?;
        Some(Self { message, ..worst })
    }

    /// The provider says what it was told in confidence.
    pub(super) fn quoted(upstream: &str) -> Self {
        let message =
            format!("the answer of the upstream `{upstream}` quotes the gateway's key for it, and was broken off");
        Self::new(StatusCode::BAD_GATEWAY, "upstream_error", "upstream_quotes_key", message)
    }

    /// What a failed call means for who asked. A request that cannot be translated is the asker's own.
    pub(super) fn failed(upstream: &str, failure: &ModelFailure) -> Self {
        match failure.error.code {
            ErrorCode::InvalidArguments | ErrorCode::GatewayRejected | ErrorCode::ScriptMismatch => {
                Self::bad(format!("the upstream `{upstream}`: {}", failure.error.message))
            }
            _ => Self::upstream(upstream, &failure.error),
        }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal", message)
    }

    /// A status that a script plays.
    pub(super) fn played(status: u16, after: Option<Duration>, message: &str) -> Response<Body> {
        let body = json!({"error": {"message": message, "type": "script_error", "code": "script", "param": null}});
        relayed(status, after, body.to_string().into_bytes())
    }

    fn body(&self) -> String {
        let Self { message, kind, code, .. } = self;
        json!({"error": {"message": message, "type": kind, "code": code, "param": null}}).to_string()
    }

    /// The same in the middle of a stream.
    pub(super) fn event(&self) -> String {
        format!("data: {}\n\n", self.body())
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let code = if invalid == Invalid::Expired { "token_expired" } else { "invalid_token" };
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", code, invalid.to_string())
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

/// What the provider answered in place of an answer: its status, its body, its wish to be left alone.
pub(super) fn refused(upstream: &str, refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Failed(failure) => ApiError::failed(upstream, &failure).into_response(),
        refusal @ Refusal::Status { code: 401 | 403, .. } => ApiError::from_refusal(upstream, refusal).into_response(),
        Refusal::Status { code: code @ 400..=599, after, body } if !body.trim_ascii().is_empty() => {
            relayed(code, after, body)
        }
        Refusal::Status { code: code @ 400..=599, after, .. } => {
            let message = format!("the upstream `{upstream}` answered {code} and said no more");
            let error = ApiError::new(StatusCode::BAD_GATEWAY, "upstream_error", "upstream_status", message);
            relayed(code, after, error.body().into_bytes())
        }
        refusal @ Refusal::Status { .. } => ApiError::from_refusal(upstream, refusal).into_response(),
    }
}

fn relayed(status: u16, after: Option<Duration>, body: Vec<u8>) -> Response<Body> {
    let json = matches!(body.trim_ascii().first(), Some(b'{' | b'['));
    let content = if json { "application/json" } else { "text/plain; charset=utf-8" };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = after {
        // Whole seconds, upwards: a part of one must not become none.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
