//! Who may ask: by what name, from which page, with what token, how often.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Response};
use axum::middleware::Next;
use axum::response::IntoResponse;
use futures_util::FutureExt as _;
use lakitu_kernel::ports::Caller;
use lakitu_kernel::{ErrorCode, ToolError};
use tokio::time::timeout;

use super::Shared;
use super::error::ApiError;

/// Until a request has its answer; streams begin within it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(45);

/// What a token may do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Read,
    Write,
    Admin,
}

impl Scope {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "api:read",
            Scope::Write => "api:write",
            Scope::Admin => "api:admin",
        }
    }
}

/// Names by which the server is reached.
#[derive(Debug)]
pub(super) struct Hosts {
    at: SocketAddr,
    names: Vec<String>,
}

impl Hosts {
    pub(super) fn new(at: SocketAddr, names: &[String]) -> Self {
        Self { at, names: names.iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        if self.names.iter().any(|known| *known == host || known == name) {
            return true;
        }
        let own_port = authority.port_u16().unwrap_or(80) == self.at.port();
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // An address is no name that somebody could point elsewhere; which of them all lead here is not known.
            Ok(_) if self.at.ip().is_unspecified() => true,
            Ok(ip) => own_port && (ip == self.at.ip() || ip.is_loopback()),
            Err(_) => own_port && name == "localhost",
        }
    }
}

/// Before anything else: a page in a browser can reach this machine by a name of its own, and cannot hide it.
pub(super) async fn door(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response<axum::body::Body> {
    match check_door(&shared.hosts, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_door(hosts: &Hosts, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let host = only(headers, HOST)?.ok_or_else(|| ApiError::bad("the request has no Host"))?;
    let host = host.to_str().map_err(|_| ApiError::bad("the Host is not plain text"))?;
    let other = request.uri().authority().is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host));
    if other || !hosts.knows(host) {
        return Err(ApiError::foreign_host());
    }
    let Some(origin) = only(headers, ORIGIN)? else { return Ok(()) };
    let own = |scheme: &str| origin.as_bytes().eq_ignore_ascii_case(format!("{scheme}{host}").as_bytes());
    if own("http://") || own("https://") { Ok(()) } else { Err(ApiError::foreign_origin()) }
}

/// Of two nobody could say which one counts.
fn only(headers: &HeaderMap, name: axum::http::HeaderName) -> Result<Option<&HeaderValue>, ApiError> {
    let mut all = headers.get_all(&name).into_iter();
    let first = all.next();
    if all.next().is_some() { Err(ApiError::bad(format!("there is more than one {name} header"))) } else { Ok(first) }
}

/// Lets a request in by its token, and gives it its time.
pub(super) async fn admit(
    State((shared, scope)): State<(Arc<Shared>, Option<Scope>)>,
    mut request: Request,
    next: Next,
) -> Response<axum::body::Body> {
    if let Some(scope) = scope {
        match caller(&shared, request.headers(), scope) {
            Ok(caller) => drop(request.extensions_mut().insert(Arc::new(caller))),
            Err(error) => return error.into_response(),
        }
    }
    let failed = |code, message| ApiError::from(ToolError::new(code, message)).into_response();
    // A fault in one request is that request's answer, and not the end of its connection.
    match timeout(REQUEST_DEADLINE, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => failed(ErrorCode::Internal, "a fault of the server; its log says more"),
        Err(_) => failed(ErrorCode::Unknown, "no answer in time; what was asked for may have been done"),
    }
}

fn caller(shared: &Shared, headers: &HeaderMap, scope: Scope) -> Result<Caller, ApiError> {
    let caller = shared.parts.authority.verify(bearer(headers)?)?;
    if !caller.scopes.iter().any(|held| held == scope.as_str()) {
        return Err(ApiError::no_scope(scope.as_str()));
    }
    shared.rates.take(&caller.token).map_err(|wait| {
        ApiError::too_many("this token asks too often", wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    })?;
    Ok(caller)
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let given = only(headers, AUTHORIZATION)
        .map_err(|_| ApiError::no_token("there is more than one Authorization header"))?
        .ok_or_else(|| ApiError::no_token("send `Authorization: Bearer TOKEN`"))?;
    let token = given.to_str().ok().and_then(|value| value.split_once(' '));
    let token = token.and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then_some(token));
    token.ok_or_else(|| ApiError::no_token("the Authorization header must be `Bearer TOKEN`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_by_its_own_names_alone() {
        let hosts = |at: &str, names: &[&str]| {
            Hosts::new(at.parse().unwrap(), &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let local = hosts("127.0.0.1:3210", &["box.example", "other.example:8443"]);
        for known in
            ["127.0.0.1:3210", "localhost:3210", "LOCALHOST:3210", "[::1]:3210", "box.example", "Box.example:1"]
        {
            assert!(local.knows(known), "{known}");
        }
        assert!(local.knows("other.example:8443"));
        for foreign in [
            "",
            "localhost",
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:3211",
            "evil.example:3210",
            "10.0.0.1:3210",
            "other.example",
            "other.example:1",
            "localhost.evil.example:3210",
            "evil@localhost.:3210",
            "a b",
        ] {
            assert!(!local.knows(foreign), "{foreign}");
        }
        let open = hosts("0.0.0.0:3210", &[]);
        for known in ["10.0.0.1:8080", "10.0.0.1", "localhost:3210", "[2001:db8::1]:3210"] {
            assert!(open.knows(known), "{known}");
        }
        for foreign in ["evil.example:3210", "localhost:3211"] {
            assert!(!open.knows(foreign), "{foreign}");
        }
        assert!(hosts("127.0.0.1:80", &[]).knows("localhost"));
    }
}
