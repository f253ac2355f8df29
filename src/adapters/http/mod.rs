//! A model behind HTTP: any server that speaks `OpenAI` Chat Completions.
//!
//! **Invariant:** one fixed origin. No redirect is followed, no proxy is taken from the environment, and nothing is ever
//! tried again without TLS: the token goes where the configuration says and nowhere else.
//! **Invariant:** no message holds the token, whatever the other side quotes back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use lakitu_actors::gateway::failure::{QUOTE_BYTES_MAX, RETRY_AFTER_MAX, cut, protocol, status};
use lakitu_actors::gateway::{AnswerStream, BodyEnd, Progress};
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::Clock;
use lakitu_kernel::ports::{BoxFuture, Delta, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, ToolError};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, Response, Url};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::secret::{Secret, TokenSource};

mod error;

/// Until a connection stands.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A connection is kept for the next turn this long; behind it many servers have closed it.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(30);
/// How long the body of an error is waited for: the status is known, this is only what to say about it.
const ERROR_BODY_DEADLINE: Duration = Duration::from_secs(5);
/// How long the end of a body is waited for when the answer is complete, so that its connection can be used again.
const BODY_END_DEADLINE: Duration = Duration::from_millis(20);

/// The upstream. Cheap to clone; its connections are shared.
#[derive(Debug, Clone)]
pub struct HttpGateway {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    endpoint: Url,
    token: TokenSource,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("HttpGateway")
            .field("endpoint", &self.endpoint.as_str())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl HttpGateway {
    /// An upstream at this base URL, with or without a trailing `/v1`. Connects to nothing yet.
    pub fn new(base: &str, token: TokenSource, clock: Arc<dyn Clock>) -> Result<Self, ToolError> {
        let endpoint = endpoint(base)?;
        let client = client(&endpoint)
            .map_err(|error| ToolError::new(ErrorCode::InvalidConfig, format!("no HTTP client: {error}")))?;
        Ok(Self { inner: Arc::new(Inner { client, endpoint, token, clock }) })
    }
}

impl Gateway for HttpGateway {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.complete(request, deltas).await })
    }
}

/// `{base}/v1/chat/completions`.
fn endpoint(base: &str) -> Result<Url, ToolError> {
    let wrong = |what: &str| ToolError::new(ErrorCode::InvalidConfig, format!("the gateway's URL {what}"));
    let mut url = Url::parse(base.trim()).map_err(|error| wrong(&format!("is not one: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("must begin with http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds credentials; put the token into a token file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must not have a query or a fragment"));
    }
    let path = url.path().trim_end_matches('/');
    let path = format!("{}/v1/chat/completions", path.strip_suffix("/v1").unwrap_or(path));
    url.set_path(&path);
    Ok(url)
}

fn client(endpoint: &Url) -> Result<Client, String> {
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

impl Inner {
    async fn complete(&self, request: ModelRequest, deltas: DeltaSink) -> Result<ModelAnswer, ModelFailure> {
        let token = self.token.read().map_err(|what| ModelFailure {
            // As if it had been refused: it is read once more, for it may be just being replaced.
            class: FailureClass::Credentials,
            error: ToolError::new(ErrorCode::GatewayRefused, what),
        })?;
        let outcome = self.attempt(request, token.as_ref(), deltas).await;
        outcome.map_err(|mut failure| {
            if let Some(token) = &token {
                failure.error.message = token.redact(&failure.error.message);
            }
            failure
        })
    }

    async fn attempt(
        &self,
        request: ModelRequest,
        token: Option<&Secret>,
        deltas: DeltaSink,
    ) -> Result<ModelAnswer, ModelFailure> {
        let headers = headers(&request, token)?;
        let call = self.client.post(self.endpoint.clone()).headers(headers).body(body(request.body));
        let response = call.send().await.map_err(|error| error::failure(&error))?;
        // The head is a sign of life.
        deltas(Delta::Text(String::new()));
        match response.status().as_u16() {
            200 => read(response, deltas).await,
            code @ 201..=299 => Err(protocol(format!("HTTP {code} in place of an answer"))),
            code => Err(self.refusal(code, response).await),
        }
    }

    /// What another status says, with as much of its body as will be shown.
    async fn refusal(&self, code: u16, mut response: Response) -> ModelFailure {
        let after = self.retry_after(response.headers());
        let mut body = Vec::new();
        // More than is shown, because the message may stand deep in JSON.
        let read = async {
            while body.len() < QUOTE_BYTES_MAX * 8 {
                let Ok(Some(piece)) = response.chunk().await else { break };
                body.extend_from_slice(&piece);
            }
        };
        let _ = tokio::time::timeout(ERROR_BODY_DEADLINE, read).await;
        status(code, after, &body)
    }

    /// What `Retry-After` asks for, by the other side's own clock where it tells it.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let now = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let now = now.unwrap_or_else(|| UNIX_EPOCH + Duration::from_millis(self.clock.now().0));
        let texts = |name: &'static str| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        let exact = texts("retry-after-ms").find_map(|ms| seconds(ms, 1e-3));
        exact.or_else(|| texts(RETRY_AFTER.as_str()).find_map(|text| seconds(text, 1.0).or_else(|| until(text, now))))
    }
}

/// A number of units as a wait within bounds; nothing for what is no such number.
fn seconds(text: &str, unit: f64) -> Option<Duration> {
    let wait = text.trim().parse::<f64>().ok().filter(|wait| wait.is_finite() && *wait >= 0.0)? * unit;
    Some(Duration::from_secs_f64(wait.min(RETRY_AFTER_MAX.as_secs_f64())))
}

/// The wait until a date, within bounds; none for one that has passed.
fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(RETRY_AFTER_MAX))
}

fn headers(request: &ModelRequest, token: Option<&Secret>) -> Result<HeaderMap, ModelFailure> {
    let unfit = |what: &str| ModelFailure {
        class: FailureClass::Refused,
        error: ToolError::new(ErrorCode::GatewayRefused, format!("{what} cannot be sent in a header")),
    };
    let length: usize = request.body.iter().map(Bytes::len).sum();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let key = HeaderValue::from_str(&request.idempotency_key()).map_err(|_| unfit("the idempotency key"))?;
    headers.insert("idempotency-key", key);
    if let Some(token) = token {
        let bearer = format!("Bearer {}", token.expose());
        let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| unfit("the token"))?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// The pieces one after the other, uncopied. Their length stands in the head, so they are not sent as chunks, which
/// some servers refuse in requests.
fn body(pieces: Vec<Bytes>) -> Body {
    Body::wrap_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
}

async fn read(mut response: Response, deltas: DeltaSink) -> Result<ModelAnswer, ModelFailure> {
    let framed = response.content_length().is_some() || response.headers().contains_key("transfer-encoding");
    let mut answer = AnswerStream::new(Arc::clone(&deltas));
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => match answer.push(&piece)? {
                Progress::Data => deltas(Delta::Text(String::new())),
                Progress::Nothing => {}
                Progress::Done => break,
            },
            Ok(None) => return answer.end(if framed { BodyEnd::Framed } else { BodyEnd::Closed }),
            Err(error) => return Err(cut(&error::text(&error))),
        }
    }
    if framed {
        let end = async {
            while let Ok(Some(piece)) = response.chunk().await
                && answer.push(&piece).is_ok()
            {}
        };
        let _ = tokio::time::timeout(BODY_END_DEADLINE, end).await;
    }
    answer.end(BodyEnd::Closed)
}

#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
