//! An answer on its way from a provider to who asked: its bytes as they come, when they come.
//!
//! **Invariant:** the provider's answer belongs to the body that is being sent. When who asked is gone, the body is
//! dropped, and with it the call.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lakitu_actors::gateway::Deadlines;
use lakitu_actors::gateway::failure::cut;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::ending::Ending;
use super::error::{ApiError, refused};
use super::meter::Meter;
use super::unasked::Unasked;
use crate::adapters::{Answering, Call, Quoted, Redactor, Upstream, Watch};

/// What is held while an answer is under way.
pub(super) struct Held {
    /// The place among all calls.
    pub(super) _permit: OwnedSemaphorePermit,
    /// Who counts what it uses.
    pub(super) meter: Option<Meter>,
    /// Who leaves out the usage that was asked for on the gateway's own behalf.
    pub(super) unasked: Option<Unasked>,
}

/// Whom to ask, and how long to wait.
pub(super) struct Asking<'a> {
    /// The provider's name.
    pub(super) name: &'a str,
    pub(super) upstream: &'a Upstream,
    pub(super) deadlines: Deadlines,
    /// Whether a stream is wanted. An answer in one piece comes when it is made, so its first byte may be its last.
    pub(super) stream: bool,
}

/// Asks, and passes on what comes.
pub(super) async fn relay(asking: Asking<'_>, call: Call, mut held: Held) -> Response<Body> {
    let Asking { name, upstream, deadlines, stream } = asking;
    let until = Instant::now() + deadlines.total;
    let (first, within) = if stream {
        ((Instant::now() + deadlines.first_byte).min(until), deadlines.first_byte)
    } else {
        (until, deadlines.total)
    };
    let mut answering = match timeout_at(first, upstream.call(call)).await {
        Ok(Ok(answering)) => answering,
        Ok(Err(refusal)) => return refused(name, refusal),
        Err(_) => return ApiError::late(name, &format!("no first byte within {} s", secs(within))).into_response(),
    };
    let (watch, redactor) = (answering.watch(), answering.redactor());
    let content = answering.content_type().filter(|content| !watch.finds(content.as_bytes()));
    let events = is_events(content.as_ref(), stream);
    if let Some(meter) = &mut held.meter {
        meter.answered(events);
    }
    let default = if events { "text/event-stream" } else { "application/json" };
    let mut passing = Passing {
        name: name.to_owned(),
        answering: Some(answering),
        watch,
        redactor,
        ending: (stream || events).then(Ending::default),
        idle: if events { deadlines.idle } else { deadlines.total },
        until,
        events,
        at_event: true,
        held,
    };
    // Before anything of an answer in one piece is told, a failure can still be told in its place.
    let first = match if events { Ok(None) } else { passing.piece().await } {
        Ok(first) => first.map(Ok),
        Err(failure) => return failure.into_response(),
    };
    let rest = stream::unfold(passing, |mut passing| async { Some((passing.next().await?, passing)) });
    let mut response = Response::new(Body::from_stream(stream::iter(first).chain(rest)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content.unwrap_or(HeaderValue::from_static(default)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Whether what comes is a stream of events: where the provider does not say so, what was asked for decides.
fn is_events(content: Option<&HeaderValue>, stream: bool) -> bool {
    let is = |kind: &str| {
        content.is_some_and(|content| {
            let named = content.as_bytes().get(..kind.len());
            named.is_some_and(|named| named.eq_ignore_ascii_case(kind.as_bytes()))
        })
    };
    is("text/event-stream") || (stream && !is("application/json"))
}

struct Passing {
    name: String,
    /// None once it came to its end.
    answering: Option<Answering>,
    watch: Watch,
    /// Takes the key out of what is said of a failure, which may quote the provider.
    redactor: Redactor,
    /// Whether a stream came to its end.
    ending: Option<Ending>,
    idle: Duration,
    until: Instant,
    events: bool,
    /// Whether what was sent ends with a whole event.
    at_event: bool,
    held: Held,
}

/// What breaks a body off so that it is seen to be broken.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut off")]
pub(super) struct CutOff;

impl Passing {
    async fn next(&mut self) -> Option<Result<Bytes, CutOff>> {
        match self.piece().await {
            Ok(piece) => piece.map(Ok),
            // A stream can say what happened to it; anything else can only be seen to be broken.
            Err(failure) => Some(if self.events { Ok(self.last_words(&failure)) } else { Err(CutOff) }),
        }
    }

    /// What is passed on next; none at the end, and behind a failure.
    async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(answering) = &mut self.answering {
            let at = (Instant::now() + self.idle).min(self.until);
            let failed = match timeout_at(at, answering.chunk()).await {
                Ok(Ok(Some(piece))) => {
                    if let Some(meter) = &mut self.held.meter {
                        meter.pass(&piece);
                    }
                    if let Some(ending) = &mut self.ending {
                        ending.pass(&piece);
                    }
                    match self.held_back(piece) {
                        Ok(piece) if piece.is_empty() => continue,
                        Ok(piece) => {
                            self.at_event = piece.ends_with(b"\n\n") || piece.ends_with(b"\r\n\r\n");
                            return Ok(Some(piece));
                        }
                        Err(Quoted) => ApiError::quoted(&self.name),
                    }
                }
                Ok(Ok(None)) if answering.framed() || self.ending.as_ref().is_none_or(Ending::is_told) => {
                    self.answering = None;
                    return Ok(Some(self.rest()).filter(|rest| !rest.is_empty()));
                }
                Ok(Ok(None)) => ApiError::failed(&self.name, &cut("`[DONE]` is missing")),
                Ok(Err(mut failure)) => {
                    self.redactor.redact(&mut failure.error.message);
                    ApiError::failed(&self.name, &failure)
                }
                Err(_) if at == self.until => ApiError::late(&self.name, "the answer takes too long as a whole"),
                Err(_) => ApiError::late(&self.name, &format!("no more data within {} s", secs(self.idle))),
            };
            self.answering = None;
            return Err(failed);
        }
        Ok(None)
    }

    /// What may be passed on now that this piece came.
    fn held_back(&mut self, piece: Bytes) -> Result<Bytes, Quoted> {
        let piece = self.watch.pass(piece)?;
        Ok(match self.unasked() {
            Some(unasked) => unasked.pass(&piece),
            None => piece,
        })
    }

    /// What was held back, at the end.
    fn rest(&mut self) -> Bytes {
        let rest = self.watch.rest();
        match self.unasked() {
            Some(unasked) => [unasked.pass(&rest), unasked.rest()].concat().into(),
            None => rest,
        }
    }

    fn unasked(&mut self) -> Option<&mut Unasked> {
        self.held.unasked.as_mut().filter(|_| self.events)
    }

    fn last_words(&self, error: &ApiError) -> Bytes {
        let before = if self.at_event { "" } else { "\n\n" };
        Bytes::from(format!("{before}{}", error.event()))
    }
}

fn secs(duration: Duration) -> f32 {
    duration.as_secs_f32()
}
