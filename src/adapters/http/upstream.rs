//! One provider behind HTTP, whatever it speaks: Chat Completions in, a Chat Completions body out.
//!
//! **Invariant:** one fixed origin. No redirect is followed, no proxy is taken from the environment, and nothing is ever
//! tried again without TLS: the key goes where the configuration says and nowhere else.
//! **Invariant:** no message and no body of an error holds the key, whatever the other side quotes back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use lakitu_actors::gateway::anthropic::{self, OutputLimits};
use lakitu_actors::gateway::failure::{RETRY_AFTER_MAX, cut, protocol, status};
use lakitu_kernel::clock::Clock;
use lakitu_kernel::ports::{FailureClass, ModelFailure};
use lakitu_kernel::supervise::Guarded;
use lakitu_kernel::{ErrorCode, ToolError};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Body, Client, Response, Url};

use super::super::secret::{Secret, TokenSource};
use super::answering::{Answering, Form};
use super::refresh::Session;
use super::{connection, dns, error};

/// How long the body of an error is waited for: the status is known, this is only what to say about it.
const ERROR_BODY_DEADLINE: Duration = Duration::from_secs(5);
/// What is read of an error's body: 64 KiB. The message may stand deep in JSON.
const ERROR_BODY_MAX: usize = 64 * 1024;
/// A list of models: 8 MiB. The longest that is known has half a megabyte.
const MODELS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `OpenAI` Chat Completions, `POST {base}/v1/chat/completions`.
    OpenAi,
    /// Anthropic Messages, `POST {base}/v1/messages`: translated both ways.
    Anthropic,
}

/// One request for an answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// The Chat Completions body, in pieces that are sent one after the other.
    pub body: Vec<Bytes>,
    /// The same for every attempt of a call.
    pub idempotency_key: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// Nobody answered, or the key cannot be read.
    Failed(ModelFailure),
    /// Another status than 200.
    Status {
        /// The status.
        code: u16,
        /// What `Retry-After` asks for.
        after: Option<Duration>,
        /// What came with it, as an `OpenAI` client reads it: at most [`ERROR_BODY_MAX`] bytes, without the key.
        body: Vec<u8>,
    },
}

impl From<Refusal> for ModelFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(failure) => failure,
            Refusal::Status { code: code @ 201..=299, .. } => protocol(format!("HTTP {code} in place of an answer")),
            Refusal::Status { code, after, body } => status(code, after, &body),
        }
    }
}

/// A provider. Cheap to clone; its connections are shared. Dropping what a call returned cancels it there.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    dialect: Dialect,
    endpoint: Url,
    key: TokenSource,
    session: Session,
    clock: Arc<dyn Clock>,
    limits: Guarded<OutputLimits>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upstream")
            .field("dialect", &self.dialect)
            .field("endpoint", &self.endpoint.as_str())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// A provider at this base URL, with or without a trailing `/v1`. Connects to nothing yet.
    pub fn new(base: &str, dialect: Dialect, key: TokenSource, clock: Arc<dyn Clock>) -> Result<Self, ToolError> {
        let refresh = below(base, "token/refresh")?;
        let endpoint = endpoint(base, dialect)?;
        let client = connection::client(&endpoint)
            .map_err(|error| ToolError::new(ErrorCode::InvalidConfig, format!("no HTTP client: {error}")))?;
        let limits = Guarded::default();
        let session = Session::new(client.clone(), refresh, key.clone(), Arc::clone(&clock));
        Ok(Self { inner: Arc::new(Inner { client, dialect, endpoint, key, session, clock, limits }) })
    }

    /// Where it is, as a person reads it.
    pub fn address(&self) -> String {
        let url = &self.inner.endpoint;
        let path = url.path().rsplit_once("/v1/").map_or("", |(before, _)| before);
        format!("{}{path}", url.origin().ascii_serialization())
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn call(&self, call: Call) -> Result<Answering, Refusal> {
        let key = self.inner.key().await?;
        let outcome = self.inner.send(call, key.as_ref()).await;
        outcome.map_err(|refusal| redacted(refusal, key.as_ref()))
    }

    /// The models that the provider has: what it sends, of at most 8 MiB.
    pub async fn models(&self) -> Result<Vec<u8>, Refusal> {
        let key = self.inner.key().await?;
        let outcome = self.inner.models(key.as_ref()).await;
        outcome.map_err(|refusal| redacted(refusal, key.as_ref()))
    }
}

#[cfg(test)]
impl Upstream {
    pub(super) fn session(&self) -> &Session {
        &self.inner.session
    }
}

impl Inner {
    async fn key(&self) -> Result<Option<Secret>, Refusal> {
        self.session.token().await.map_err(|what| {
            // As if it had been refused: it is read once more, for it may be just being replaced.
            let error = ToolError::new(ErrorCode::GatewayRefused, what);
            Refusal::Failed(ModelFailure { class: FailureClass::Credentials, error })
        })
    }

    async fn send(&self, call: Call, key: Option<&Secret>) -> Result<Answering, Refusal> {
        if self.dialect == Dialect::OpenAi {
            return self.post(call, Form::Same, key).await;
        }
        let chat = call.body.concat();
        let translated = |max_tokens| self.translated(&chat, max_tokens, call.idempotency_key.clone());
        let (call, form) = translated(self.limits.with(|limits| limits.of(&chat)))?;
        match self.post(call, form, key).await {
            Err(Refusal::Status { code: 400, after, body }) => {
                match self.limits.with(|limits| limits.learn(&chat, &body)) {
                    // It is asked for as much as it can say.
                    Some(limit) => {
                        let (call, form) = translated(limit)?;
                        self.post(call, form, key).await
                    }
                    None => Err(Refusal::Status { code: 400, after, body }),
                }
            }
            outcome => outcome,
        }
    }

    async fn post(&self, call: Call, form: Form, key: Option<&Secret>) -> Result<Answering, Refusal> {
        let headers = self.headers(&call, key)?;
        let request = self.client.post(self.endpoint.clone()).headers(headers).body(body(call.body));
        let response = request.send().await.map_err(|error| Refusal::Failed(error::failure(&error)))?;
        self.session.learn(response.headers());
        match response.status().as_u16() {
            200 => Ok(Answering::new(response, form, key)),
            code => Err(self.refusal(code, response).await),
        }
    }

    /// The request as Anthropic understands it, and what its answer will be.
    fn translated(&self, chat: &[u8], max_tokens: u64, key: Option<String>) -> Result<(Call, Form), Refusal> {
        let body = anthropic::request(chat, max_tokens)
            .map_err(|error| Refusal::Failed(ModelFailure { class: FailureClass::Fatal, error }))?;
        let created = self.clock.now().0 / 1000;
        let form = if anthropic::wants_stream(chat) { Form::stream(created) } else { Form::whole(created) };
        Ok((Call { body: vec![Bytes::from(body)], idempotency_key: key }, form))
    }

    /// The models that the provider has, as it lists them.
    async fn models(&self, key: Option<&Secret>) -> Result<Vec<u8>, Refusal> {
        let mut url = self.endpoint.clone();
        let path = url.path().rsplit_once("/v1/").map(|(before, _)| format!("{before}/v1/models"));
        url.set_path(&path.unwrap_or_default());
        if self.dialect == Dialect::Anthropic {
            // Without it only the first twenty are told.
            url.set_query(Some("limit=1000"));
        }
        let mut headers = self.credentials(key)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let request = self.client.get(url).headers(headers);
        let mut response = request.send().await.map_err(|error| Refusal::Failed(error::failure(&error)))?;
        if response.status().as_u16() != 200 {
            return Err(self.refusal(response.status().as_u16(), response).await);
        }
        let mut body = Vec::new();
        let broken = |error: reqwest::Error| Refusal::Failed(cut(&error::text(&error)));
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if body.len() + piece.len() > MODELS_BYTES_MAX {
                return Err(Refusal::Failed(protocol(format!("the list of models is over {MODELS_BYTES_MAX} bytes"))));
            }
            body.extend_from_slice(&piece);
        }
        if key.is_some_and(|key| key.watch().finds(&body)) {
            return Err(Refusal::Failed(protocol("the list of models quotes the key")));
        }
        Ok(body)
    }

    /// What every request says of who asks, and in which version of the provider's words.
    fn credentials(&self, key: Option<&Secret>) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        if self.dialect == Dialect::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static(anthropic::VERSION));
        }
        if let Some(key) = key {
            let (name, value) = match self.dialect {
                Dialect::OpenAi => (AUTHORIZATION, format!("Bearer {}", key.expose())),
                Dialect::Anthropic => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
            };
            let mut value = HeaderValue::from_str(&value).map_err(|_| unfit("the token"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn headers(&self, call: &Call, key: Option<&Secret>) -> Result<HeaderMap, Refusal> {
        let length: usize = call.body.iter().map(Bytes::len).sum();
        let mut headers = self.credentials(key)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(key) = &call.idempotency_key {
            let key = HeaderValue::from_str(key).map_err(|_| unfit("the idempotency key"))?;
            headers.insert("idempotency-key", key);
        }
        Ok(headers)
    }

    /// What another status says, with a bounded beginning of its body.
    async fn refusal(&self, code: u16, mut response: Response) -> Refusal {
        let after = self.retry_after(response.headers());
        let mut body = Vec::new();
        let read = async {
            while body.len() < ERROR_BODY_MAX {
                let Ok(Some(piece)) = response.chunk().await else { break };
                body.extend_from_slice(&piece);
            }
        };
        let _ = tokio::time::timeout(ERROR_BODY_DEADLINE, read).await;
        body.truncate(ERROR_BODY_MAX);
        if self.dialect == Dialect::Anthropic {
            body = anthropic::error(&body);
        }
        Refusal::Status { code, after, body }
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

/// `{base}/v1/` and what the dialect has there.
pub(super) fn endpoint(base: &str, dialect: Dialect) -> Result<Url, ToolError> {
    match dialect {
        Dialect::OpenAi => below(base, "chat/completions"),
        Dialect::Anthropic => below(base, "messages"),
    }
}

/// `{base}/v1/` and this.
fn below(base: &str, last: &str) -> Result<Url, ToolError> {
    let wrong = |what: &str| ToolError::new(ErrorCode::InvalidConfig, format!("the gateway's URL {what}"));
    let hint = if base.is_ascii() { "" } else { "; a name in another script is written as xn--…" };
    let mut url = Url::parse(base.trim()).map_err(|error| wrong(&format!("is not one: {error}{hint}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("must begin with http:// or https:// and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds credentials; put the token into a token file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must not have a query or a fragment"));
    }
    let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    if literal.is_some_and(dns::is_impossible) {
        return Err(wrong("leads to where no gateway can be"));
    }
    let path = url.path().trim_end_matches('/');
    let path = format!("{}/v1/{last}", path.strip_suffix("/v1").unwrap_or(path));
    url.set_path(&path);
    Ok(url)
}

fn unfit(what: &str) -> Refusal {
    let error = ToolError::new(ErrorCode::GatewayRefused, format!("{what} cannot be sent in a header"));
    Refusal::Failed(ModelFailure { class: FailureClass::Refused, error })
}

fn redacted(refusal: Refusal, key: Option<&Secret>) -> Refusal {
    let Some(key) = key else { return refusal };
    match refusal {
        Refusal::Failed(mut failure) => {
            failure.error.message = key.redact(&failure.error.message);
            Refusal::Failed(failure)
        }
        Refusal::Status { code, after, body } => {
            let body = key.redact(&String::from_utf8_lossy(&body)).into_bytes();
            Refusal::Status { code, after, body }
        }
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

/// The pieces one after the other, uncopied. Their length stands in the head, so they are not sent as chunks, which
/// some servers refuse in requests.
fn body(pieces: Vec<Bytes>) -> Body {
    Body::wrap_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
}
