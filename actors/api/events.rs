//! A thread's events as they happen, as server-sent events.
//!
//! A reader that is too slow misses what is told live, and a `gap` says so; what is durable is read again from the
//! journal, so that each of these comes once, in order, whatever was cut off in between.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, Uri};
use bytes::Bytes;
use lakitu_kernel::ports::{BoxFuture, Caller};
use lakitu_kernel::{ErrorCode, Seq, ToolError};

use super::error::ApiError;
use super::requests::Follow;
use super::threads::known;
use super::{Shared, asked, sse};
use crate::threads::follow::{Follower, Heard, Reads};

/// Events that are read from the journal at a time: they wait in memory for the reader.
const READ_EVENTS: usize = 32;

pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Arc<Caller>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    let thread = asked::thread(id)?;
    let asked: Follow = asked::query(&uri)?;
    let after = Seq(sse::last_event_id(&headers, "its seq")?.or(asked.after).unwrap_or(0));
    let last = shared.read(move |reading| known(reading, thread)).await?.last_seq;
    if after > last {
        let message =
            format!("the thread's last event is {last}, and {after} is to be read already: not of this thread");
        return Err(ToolError::new(ErrorCode::Conflict, message).into());
    }
    let reads = Reads { events: READ_EVENTS, places: shared.reads.clone() };
    sse::stream(&shared, &caller, Telling(Follower::new(&shared.wiring, thread, after, reads).from_journal()))
}

struct Telling(Follower);

impl sse::Telling for Telling {
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async {
            Some(match self.0.next().await {
                Ok(Heard::Event(event)) => sse::frame(Some(event.seq.0), event.body.name(), &event),
                Ok(Heard::Live(event)) => sse::frame(None, event.name(), &event),
                // Its journal has no word of it, so it is no event; the next prompt or resume says why.
                Ok(Heard::Gone(error)) => format!(": the run cannot go on: {}\n\n", error.code).into(),
                Err(error) => {
                    // A journal that cannot be read now: the reader comes back to where it is.
                    tracing::warn!(%error, "a stream of events ends");
                    return None;
                }
            })
        })
    }
}
