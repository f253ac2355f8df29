//! The HTTP client: one origin, TLS only where it is asked for.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use rustls::RootCertStore;

use super::dns::Names;
use super::error;

/// Until a connection stands.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A connection is kept for the next turn this long; behind it many servers have closed it.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(30);

/// A client for the origin of this URL.
pub(super) fn client(endpoint: &Url) -> Result<Client, String> {
    let tls = tls(endpoint.scheme() == "https")?;
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .https_only(endpoint.scheme() == "https")
        .dns_resolver(Names::of_the_system())
        .connect_timeout(CONNECT_DEADLINE)
        .pool_idle_timeout(IDLE_CONNECTION_MAX)
        .user_agent(concat!("lakitu/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|error| error::text(&error))
}

/// The certificates that TLS is verified by, where it is needed: to load the system's is most of a client's cost. Without
/// them nothing can be reached by TLS, and nothing is: there is one origin and no redirect.
fn tls(wanted: bool) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let roots = if wanted { roots()? } else { RootCertStore::empty() };
    Ok(builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

/// The system's, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name in their place; the built-in ones where the system has
/// none. Never both: what somebody took out of the system's store is not to be trusted.
fn roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
            if std::env::var_os(name).is_some() {
                let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
                return Err(format!("{name} names no certificates{why}"));
            }
        }
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}
