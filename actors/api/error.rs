//! What goes wrong, as it is told: `{"error":{"code","message"}}` with the fitting status.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use lakitu_kernel::ports::Disbelief;
use lakitu_kernel::supervise::ControlError;
use lakitu_kernel::{ErrorCode, ToolError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::store::query::QueryError;

/// Codes that only requests have, beside [`ErrorCode`]'s.
const OWN: [&str; 16] = [
    BAD_REQUEST,
    INVALID_JSON,
    TOKEN_MISSING,
    TOKEN_INVALID,
    TOKEN_EXPIRED,
    SCOPE_MISSING,
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    NOT_FOUND,
    ACTOR_NOT_FOUND,
    TABLE_NOT_FOUND,
    INDEX_NOT_FOUND,
    METHOD_NOT_ALLOWED,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    TOO_MANY_REQUESTS,
];
const BAD_REQUEST: &str = "BAD_REQUEST";
const INVALID_JSON: &str = "INVALID_JSON";
const TOKEN_MISSING: &str = "TOKEN_MISSING";
const TOKEN_INVALID: &str = "TOKEN_INVALID";
const TOKEN_EXPIRED: &str = "TOKEN_EXPIRED";
const SCOPE_MISSING: &str = "SCOPE_MISSING";
const FOREIGN_HOST: &str = "FOREIGN_HOST";
const FOREIGN_ORIGIN: &str = "FOREIGN_ORIGIN";
const NOT_FOUND: &str = "NOT_FOUND";
const ACTOR_NOT_FOUND: &str = "ACTOR_NOT_FOUND";
const TABLE_NOT_FOUND: &str = "TABLE_NOT_FOUND";
const INDEX_NOT_FOUND: &str = "INDEX_NOT_FOUND";
const METHOD_NOT_ALLOWED: &str = "METHOD_NOT_ALLOWED";
const BODY_TOO_LARGE: &str = "BODY_TOO_LARGE";
const UNSUPPORTED_MEDIA_TYPE: &str = "UNSUPPORTED_MEDIA_TYPE";
const TOO_MANY_REQUESTS: &str = "TOO_MANY_REQUESTS";

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    fn unauthorized(code: &'static str, message: impl Into<String>, challenge: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, message).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, BAD_REQUEST, message)
    }

    pub(super) fn no_json(error: &serde_json::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_JSON, format!("the body is not JSON: {error}"))
    }

    /// It was understood, and cannot be done.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        ToolError::new(ErrorCode::InvalidArguments, message).into()
    }

    pub(super) fn no_token(message: &str) -> Self {
        Self::unauthorized(TOKEN_MISSING, message, "Bearer")
    }

    pub(super) fn no_scope(scope: &str) -> Self {
        let message = format!("this token's scope does not hold `{scope}`");
        Self::new(StatusCode::FORBIDDEN, SCOPE_MISSING, message)
            .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"insufficient_scope\""))
    }

    /// A page of any name can reach this machine through its visitor's browser; it cannot hide that name.
    pub(super) fn foreign_host() -> Self {
        let message = "the request's Host is not one of this server's names ([api] hosts)";
        Self::new(StatusCode::FORBIDDEN, FOREIGN_HOST, message)
    }

    pub(super) fn foreign_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, FOREIGN_ORIGIN, "pages of another origin are not answered")
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, NOT_FOUND, "there is no such path; /openapi.json lists what there is")
    }

    pub(super) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED, "this path has no such method")
    }

    pub(super) fn slow(within: std::time::Duration) -> Self {
        let message = format!("the request's body did not come within {} s", within.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::Timeout.as_str(), message)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the request's body is over {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, BODY_TOO_LARGE, message)
    }

    pub(super) fn no_json_type() -> Self {
        let message = "the body must be JSON: send `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub(super) fn too_many(message: &str, after_seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_REQUESTS, message)
            .with(RETRY_AFTER, HeaderValue::from(after_seconds))
    }

    /// The message of an answer that cannot have one.
    pub(super) fn body(&self) -> serde_json::Value {
        json!({ "error": { "code": self.code, "message": self.message } })
    }
}

impl From<Disbelief> for ApiError {
    fn from(disbelief: Disbelief) -> Self {
        let code = if disbelief.expired { TOKEN_EXPIRED } else { TOKEN_INVALID };
        Self::unauthorized(code, disbelief.why, "Bearer error=\"invalid_token\"")
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match &error {
            // The text is the client's own, of any length.
            ControlError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, ACTOR_NOT_FOUND, "there is no such actor"),
            ControlError::Root => Self::invalid(error.to_string()),
            ControlError::Unavailable(_) => ToolError::new(ErrorCode::Unavailable, error.to_string()).into(),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match &error {
            QueryError::NoTable => Self::new(StatusCode::NOT_FOUND, TABLE_NOT_FOUND, error.to_string()),
            QueryError::NoIndex(_) => Self::new(StatusCode::NOT_FOUND, INDEX_NOT_FOUND, error.to_string()),
            QueryError::NoValue => Self::invalid(error.to_string()),
        }
    }
}

impl From<ToolError> for ApiError {
    fn from(error: ToolError) -> Self {
        let status = status(error.code);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(%error, "a request failed");
        }
        let told = Self::new(status, error.code.as_str(), error.message);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return told.with(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        told
    }
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidArguments => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::FileNotFound
        | ErrorCode::JobNotFound
        | ErrorCode::ThreadNotFound
        | ErrorCode::CheckpointNotFound
        | ErrorCode::ArtifactNotFound
        | ErrorCode::BeadNotFound => StatusCode::NOT_FOUND,
        ErrorCode::ThreadBusy
        | ErrorCode::Conflict
        | ErrorCode::OwnershipLost
        | ErrorCode::BeadHeld
        | ErrorCode::BeadBlocked
        | ErrorCode::BeadCycle => StatusCode::CONFLICT,
        ErrorCode::ChangesTruncated => StatusCode::GONE,
        ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::StoreFull => StatusCode::SERVICE_UNAVAILABLE,
        // What may have been done is not to be sent again unseen, which 503 would invite to.
        ErrorCode::Unknown
        | ErrorCode::FileTooLarge
        | ErrorCode::EditMismatch
        | ErrorCode::FileChanged
        | ErrorCode::CommandTimeout
        | ErrorCode::CommandFailed
        | ErrorCode::InputClosed
        | ErrorCode::DangerousCommand
        | ErrorCode::TruncatedArguments
        | ErrorCode::UnknownTool
        | ErrorCode::NotInMode
        | ErrorCode::TruncatedAnswer
        | ErrorCode::Interrupted
        | ErrorCode::Cancelled
        | ErrorCode::CrashedTwice
        | ErrorCode::Stuck
        | ErrorCode::CrashLoop
        | ErrorCode::StoreCorrupt
        | ErrorCode::StoreFailed
        | ErrorCode::StoreTooNew
        | ErrorCode::StoreBusy
        | ErrorCode::GatewayUnreachable
        | ErrorCode::GatewayRefused
        | ErrorCode::GatewayProtocol
        | ErrorCode::GatewayRejected
        | ErrorCode::ScriptMismatch
        | ErrorCode::AddressInUse
        | ErrorCode::InvalidConfig
        | ErrorCode::NotConfined
        | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.header.map(|(name, value)| (Some(name), value)));
        response
    }
}

/// For the document alone: what [`ApiError`] looks like.
pub(super) struct ErrorAnswer;

impl JsonSchema for ErrorAnswer {
    fn schema_name() -> Cow<'static, str> {
        "Error".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let codes: Vec<&str> = OWN.into_iter().chain(ErrorCode::ALL.iter().map(|code| code.as_str())).collect();
        json_schema!({
            "type": "object",
            "required": ["error"],
            "properties": { "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": { "type": "string", "enum": codes, "description": "What to branch on." },
                    "message": { "type": "string", "description": "What to do differently." },
                },
            } },
        })
    }
}
