//! Server-sent events, as the HTML standard describes them (9.2): what every stream has in common.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};
use bytes::Bytes;
use futures_util::stream;
use lakitu_kernel::ports::{BoxFuture, Caller};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::ApiError;
use super::{Shared, accept};

/// What a reader that was cut off says it has.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A sign of life where nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a reader that was cut off comes back.
const FIRST_WORDS: &str = "retry: 1000\n\n";

/// What a stream tells.
pub(super) trait Telling: Send + 'static {
    /// What is told next; nothing: the stream ends. Dropped and asked again, it misses nothing.
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>>;

    /// What is said where nothing happens.
    fn heartbeat(&self) -> Bytes {
        Bytes::from_static(b":\n\n")
    }
}

/// One stream.
struct Streaming<T> {
    telling: T,
    begun: bool,
    /// The token's end.
    until: Instant,
    closing: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

/// Tells it until the token ends, the port is closed or nobody listens.
pub(super) fn stream(shared: &Arc<Shared>, caller: &Caller, telling: impl Telling) -> Result<Response<Body>, ApiError> {
    let busy = |_| ApiError::too_many("too many streams of events are open", 1);
    let place = shared.streams.clone().try_acquire_owned().map_err(busy)?;
    let left = Duration::from_millis(caller.expires.0.saturating_sub(shared.wiring.clock.now().0));
    let (until, closing) = (Instant::now() + left, shared.closing.clone());
    let streaming = Streaming { telling, begun: false, until, closing, _place: place };
    let frames = stream::unfold(streaming, |mut streaming| async {
        let frame = streaming.next().await?;
        Some((Ok::<_, Infallible>(frame), streaming))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers before they pass them on are asked not to.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

impl<T: Telling> Streaming<T> {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(Bytes::from_static(FIRST_WORDS.as_bytes()));
        }
        let told = tokio::select! {
            biased;
            () = accept::closed(&mut self.closing) => return None,
            () = sleep_until(self.until) => return None,
            told = timeout_at(Instant::now() + HEARTBEAT, self.telling.next()) => told,
        };
        told.unwrap_or_else(|_| Some(self.telling.heartbeat()))
    }
}

/// What the reader has, where it says so. A browser that comes back asks for the same address as before, so its header
/// counts before what stands in that.
pub(super) fn last_event_id(headers: &HeaderMap, what: &str) -> Result<Option<u64>, ApiError> {
    let mut all = headers.get_all(LAST_EVENT_ID).into_iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(id), None) => {
            let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
            id.map(Some).ok_or_else(|| ApiError::invalid(format!("Last-Event-ID is the `id` of an event: {what}")))
        }
        (Some(_), Some(_)) => Err(ApiError::invalid("there is more than one Last-Event-ID header")),
    }
}

/// One event. JSON has no line ends outside of its own escapes, so it is one line.
pub(super) fn frame(id: Option<u64>, name: &str, event: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {name}\ndata: {data}\n\n").into()
}
