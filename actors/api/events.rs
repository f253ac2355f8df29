//! A thread's events as they happen, as server-sent events.
//!
//! A reader that is too slow misses what is told live, and a `gap` says so; what is durable is read again from the
//! journal, so that each of these comes once, in order, whatever was cut off in between.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use bytes::Bytes;
use futures_util::stream;
use lakitu_kernel::ports::Caller;
use lakitu_kernel::{ErrorCode, Event, LiveEvent, Seq, ToolError};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::ApiError;
use super::requests::Follow;
use super::threads::known;
use super::{Shared, accept, asked};
use crate::threads::follow::{Follower, Heard, Reads};

/// What a reader that was cut off says it has.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// A sign of life where nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events that are read from the journal at a time: they wait in memory for the reader.
const READ_EVENTS: usize = 32;
/// How soon a reader that was cut off comes back.
const FIRST_WORDS: &str = "retry: 1000\n\n";

pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Arc<Caller>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    let thread = asked::thread(id)?;
    let after = after(&headers, &uri)?;
    let last = shared.read(move |reading| known(reading, thread)).await?.last_seq;
    if after > last {
        let message =
            format!("the thread's last event is {last}, and {after} is to be read already: not of this thread");
        return Err(ToolError::new(ErrorCode::Conflict, message).into());
    }
    let busy = |_| ApiError::too_many("too many streams of events are open", 1);
    let place = shared.streams.clone().try_acquire_owned().map_err(busy)?;
    let reads = Reads { events: READ_EVENTS, places: shared.reads.clone() };
    let left = Duration::from_millis(caller.expires.0.saturating_sub(shared.wiring.clock.now().0));
    let telling = Telling {
        follower: Follower::new(&shared.wiring, thread, after, reads).from_journal(),
        begun: false,
        until: Instant::now() + left,
        closing: shared.closing.clone(),
        _place: place,
    };
    let frames = stream::unfold(telling, |mut telling| async {
        let frame = telling.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), telling))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers before they pass them on are asked not to.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// What the reader has. A browser that comes back asks for the same address as before, so its header counts.
fn after(headers: &HeaderMap, uri: &Uri) -> Result<Seq, ApiError> {
    let asked: Follow = asked::query(uri)?;
    let mut all = headers.get_all(LAST_EVENT_ID).into_iter();
    let (first, second) = (all.next(), all.next());
    match (first, second) {
        (None, _) => Ok(Seq(asked.after.unwrap_or(0))),
        (Some(id), None) => {
            let seq = id.to_str().ok().and_then(|id| id.trim().parse().ok());
            Ok(Seq(seq.ok_or_else(|| ApiError::invalid("Last-Event-ID is the `id` of an event: its seq"))?))
        }
        (Some(_), Some(_)) => Err(ApiError::invalid("there is more than one Last-Event-ID header")),
    }
}

/// One stream.
struct Telling {
    follower: Follower,
    begun: bool,
    /// The token's end.
    until: Instant,
    closing: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Telling {
    /// What is sent next; nothing: the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(Bytes::from_static(FIRST_WORDS.as_bytes()));
        }
        let heard = tokio::select! {
            biased;
            () = accept::closed(&mut self.closing) => return None,
            () = sleep_until(self.until) => return None,
            heard = timeout_at(Instant::now() + HEARTBEAT, self.follower.next()) => heard,
        };
        Some(match heard {
            Ok(Ok(Heard::Event(event))) => durable(&event),
            Ok(Ok(Heard::Live(event))) => live(&event),
            // Its journal has no word of it, so it is no event; the next prompt or resume says why.
            Ok(Ok(Heard::Gone(error))) => format!(": the run cannot go on: {}\n\n", error.code).into(),
            Ok(Err(error)) => {
                // A journal that cannot be read now: the reader comes back to where it is.
                tracing::warn!(%error, "a stream of events ends");
                return None;
            }
            Err(_) => Bytes::from_static(b":\n\n"),
        })
    }
}

fn durable(event: &Event) -> Bytes {
    frame(&format!("id: {}\nevent: {}\n", event.seq, event.body.name()), event)
}

fn live(event: &LiveEvent) -> Bytes {
    frame(&format!("event: {}\n", event.name()), event)
}

/// JSON has no line ends outside of its own escapes, so it is one line.
fn frame(head: &str, event: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("{head}data: {data}\n\n").into()
}
