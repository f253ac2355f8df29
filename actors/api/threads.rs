//! What is asked of threads.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lakitu_kernel::event::{EventBody, Resumed};
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use super::answers::{GivenUp, Message, Page, Question, Started, Taken, Thread, WholeThread};
use super::asked::{self, Id, json};
use super::error::ApiError;
use super::requests::{Approve, Cancel, ListMessages, ListThreads, Say, StartThread, cursor, limit, not_ours};
use crate::runtime::origin;
use crate::store::{Reading, ThreadRow, ThreadStatus, ThreadsBy};
use crate::threads::agent::CallState;
use crate::threads::cancel::{Cancelled, Scope};
use crate::threads::hub::Published;
use crate::threads::{journal, not_found};

/// Events of a conversation that are looked through at a time.
const EVENTS: usize = 128;
/// A page of messages ends with the one that brings it past this, in bytes.
const PAGE_BYTES: usize = 1024 * 1024;

pub(super) async fn start(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, ApiError> {
    let mut asked: StartThread = json(request).await?;
    let (settings, prompt) = (asked.settings(&shared.parts.settings)?, asked.whole_prompt()?);
    let mut origin = origin(&shared.wiring, settings, prompt).await;
    origin.metadata = asked.metadata()?;
    // A store that is away is told while nothing has begun: later nobody could say what will become of it.
    shared.read(|reading| Ok(reading.commit()?)).await?;
    let thread = shared.threads.new_id();
    // From before it is started, so that nothing is missed.
    let mut listener = shared.wiring.hub.listen(thread);
    shared.threads.start(thread, origin).await?;
    durable(&mut listener).await?;
    let mut response = (StatusCode::CREATED, Json(Started { thread })).into_response();
    if let Ok(at) = HeaderValue::try_from(format!("/v1/threads/{thread}")) {
        response.headers_mut().insert(LOCATION, at);
    }
    Ok(response)
}

/// Waits for a new thread's first step.
async fn durable(listener: &mut broadcast::Receiver<Published>) -> Result<(), ApiError> {
    loop {
        match listener.recv().await {
            Ok(Published::Durable(seq)) if seq == Seq::ZERO => {}
            Ok(Published::Live(_)) => {}
            // Only what is durable is followed by so much that some of it is missed.
            Ok(Published::Event(_) | Published::Durable(_)) | Err(RecvError::Lagged(_)) => return Ok(()),
            Ok(Published::Gone(error)) => return Err(error.into()),
            Err(RecvError::Closed) => return Err(ToolError::new(ErrorCode::Internal, "the runtime ended").into()),
        }
    }
}

pub(super) async fn say(
    State(shared): State<Arc<Shared>>,
    id: Id,
    request: Request,
) -> Result<(StatusCode, Json<Taken>), ApiError> {
    let thread = asked::thread(id)?;
    let Say { prompt } = json(request).await?;
    let seq = shared.threads.prompt(thread, prompt, shared.askable(thread).await?).await?;
    Ok((StatusCode::ACCEPTED, Json(Taken { thread, seq })))
}

pub(super) async fn cancel(State(shared): State<Arc<Shared>>, id: Id, uri: Uri) -> Result<Json<GivenUp>, ApiError> {
    let thread = asked::thread(id)?;
    let Cancel { scope, job } = asked::query(&uri)?;
    let Cancelled { seq, done } = shared.threads.cancel(thread, Scope::meant(scope, job.as_deref())?).await?;
    Ok(Json(GivenUp { thread, seq, done }))
}

pub(super) async fn resume(State(shared): State<Arc<Shared>>, id: Id) -> Result<(StatusCode, Json<Taken>), ApiError> {
    let thread = asked::thread(id)?;
    let row = shared.read(move |reading| known(reading, thread)).await?;
    match row.status {
        ThreadStatus::Checkpointed | ThreadStatus::Failed => {}
        // Left behind by an earlier process; one that has an actor goes on already.
        ThreadStatus::Running | ThreadStatus::Waiting
            if shared.wiring.nodes.node(&format!("/threads/{thread}")).is_none() => {}
        ThreadStatus::Running | ThreadStatus::Waiting => return Err(busy("the thread runs already")),
        ThreadStatus::Completed | ThreadStatus::Cancelled => {
            return Err(busy("the last run came to its end: POST its next prompt to /messages"));
        }
    }
    let change = shared.askable(thread).await?;
    let seq = shared.threads.resume(thread, Resumed::Resume, change).await?;
    Ok((StatusCode::ACCEPTED, Json(Taken { thread, seq })))
}

pub(super) async fn approve(
    State(shared): State<Arc<Shared>>,
    id: Id,
    request: Request,
) -> Result<Json<Taken>, ApiError> {
    let thread = asked::thread(id)?;
    let Approve { call_id, allow } = json(request).await?;
    let seq = shared.threads.approve(thread, call_id, allow).await?;
    Ok(Json(Taken { thread, seq }))
}

fn busy(message: &str) -> ApiError {
    ToolError::new(ErrorCode::ThreadBusy, message).into()
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Json<Page<Thread>>, ApiError> {
    let asked: ListThreads = asked::query(&uri)?;
    let limit = limit(asked.limit)?;
    let cursor = cursor(asked.cursor)?;
    let by = asked.status.map_or(ThreadsBy::All, |status| ThreadsBy::Status(status.into()));
    let page = shared.read(move |reading| Ok(reading.threads_by(&by, limit, cursor.as_deref())?)).await?;
    let items = page.items.into_iter().map(Thread::from).collect();
    Ok(Json(Page { items, cursor: page.cursor, commit: page.commit }))
}

pub(super) async fn show(State(shared): State<Arc<Shared>>, id: Id) -> Result<Json<WholeThread>, ApiError> {
    let thread = asked::thread(id)?;
    Ok(Json(shared.read(move |reading| whole(reading, thread)).await?))
}

fn whole(reading: &Reading, thread: ThreadId) -> Result<WholeThread, ToolError> {
    let row = known(reading, thread)?;
    let state = journal::fold(reading, thread)?;
    let question = |call: &CallState| Question {
        call_id: call.call.call_id.clone(),
        tool: call.call.tool.clone(),
        arguments: call.arguments.clone(),
        reason: call.asked.clone().unwrap_or_default(),
    };
    let questions = state.questions().map(question).collect();
    let settings = state.settings;
    let first = reading.events(thread, Seq::ZERO, 1)?.pop().map(|event| event.body);
    let metadata = if let Some(EventBody::ThreadStarted { metadata, .. }) = first { metadata } else { None };
    Ok(WholeThread {
        thread: row.into(),
        max_turns: settings.as_ref().and_then(|settings| settings.max_turns),
        timeout_ms: settings.as_ref().and_then(|settings| settings.timeout_ms),
        questions,
        metadata,
        commit: reading.commit()?,
    })
}

pub(super) async fn messages(
    State(shared): State<Arc<Shared>>,
    id: Id,
    uri: Uri,
) -> Result<Json<Page<Message>>, ApiError> {
    let thread = asked::thread(id)?;
    let asked: ListMessages = asked::query(&uri)?;
    let limit = limit(asked.limit)?;
    let after = match asked.cursor.as_deref() {
        None => Seq::ZERO,
        Some(cursor) => Seq(cursor.parse().map_err(|_| not_ours())?),
    };
    Ok(Json(shared.read(move |reading| conversation(reading, thread, after, limit)).await?))
}

fn conversation(reading: &Reading, thread: ThreadId, after: Seq, limit: usize) -> Result<Page<Message>, ToolError> {
    let last = known(reading, thread)?.last_seq;
    let (mut items, mut bytes, mut at) = (Vec::new(), 0, after);
    while at < last && items.len() < limit && bytes < PAGE_BYTES {
        let events = reading.events(thread, at, EVENTS)?;
        if events.is_empty() {
            break;
        }
        for event in events {
            if items.len() >= limit || bytes >= PAGE_BYTES {
                break;
            }
            at = event.seq;
            let before = items.len();
            items.extend(Message::of(event));
            bytes += items.get(before).map_or(0, size);
        }
    }
    Ok(Page { items, cursor: (at < last).then(|| at.to_string()), commit: reading.commit()? })
}

/// A message's weight, roughly.
fn size(message: &Message) -> usize {
    match message {
        Message::User { text, .. } | Message::Tool { text, .. } => text.len(),
        Message::Assistant { text, calls, .. } => {
            text.len() + calls.iter().map(|call| call.arguments.len()).sum::<usize>()
        }
    }
}

/// A thread's row.
pub(super) fn known(reading: &Reading, thread: ThreadId) -> Result<ThreadRow, ToolError> {
    reading.thread(thread)?.ok_or_else(|| not_found(thread))
}
