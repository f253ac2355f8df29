//! The HTTP client: one origin, TLS only where it is asked for.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::error;

/// Until a connection stands.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A connection is kept for the next turn this long; behind it many servers have closed it.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(30);

/// A client for the origin of this URL.
pub(super) fn client(endpoint: &Url) -> Result<Client, String> {
    let tls = tls(endpoint.scheme() == "https").map_err(|error| error.to_string())?;
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .https_only(endpoint.scheme() == "https")
        .connect_timeout(CONNECT_DEADLINE)
        .pool_idle_timeout(IDLE_CONNECTION_MAX)
        .user_agent(concat!("lakitu/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| error::text(&error))
}

/// The system's certificates, where they are needed: to load them is most of a client's cost. Without them nothing can be
/// reached by TLS, and nothing is: there is one origin and no redirect.
fn tls(wanted: bool) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let verified = if wanted {
        builder.with_platform_verifier()?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(verified.with_no_client_auth())
}
