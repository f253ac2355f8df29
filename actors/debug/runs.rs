//! Runs that a command hands over to the runtime that serves its data: begun, followed and stopped through the socket.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use lakitu_kernel::event::{CheckpointReason, Settings};
use lakitu_kernel::{ErrorCode, ToolError, limits};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;
use super::methods::params;
use super::protocol::{
    Began, RpcError, RunEnd, ThreadsApprove, ThreadsCancel, ThreadsDraft, ThreadsFollow, ThreadsPrompt, ThreadsResume,
    ThreadsStart, ThreadsStop, notice,
};
use crate::store::ThreadRow;
use crate::threads::Threads;
use crate::threads::agent::Stop;
use crate::threads::cancel::{Cancelled, Scope};
use crate::threads::desk::{Begin, Desk, Found, Wish};
use crate::threads::follow::{Following, Heard};
use crate::wiring::Wiring;

/// The methods after which a run is heard.
pub(super) const FOLLOWED: [&str; 4] = ["threads.start", "threads.prompt", "threads.resume", "threads.follow"];

/// Where runs are handed over.
pub(super) struct Counter {
    pub(super) wiring: Weak<Wiring>,
    /// How new threads begin; none: this runtime is one run's own.
    pub(super) serves: Option<Settings>,
}

impl Counter {
    /// The workspace of runs that name none, where any are taken.
    pub(super) fn workspace(&self) -> Option<PathBuf> {
        self.serves.as_ref().map(|settings| settings.workspace.clone())
    }
}

type Begun = (Began, Option<Following>);

/// One of [`FOLLOWED`].
pub(super) async fn begin(shared: &Shared, method: &str, given: Value, draft: String) -> Result<Begun, RpcError> {
    let (wiring, serves) = open(shared)?;
    let desk = Desk::new(wiring.clone());
    match method {
        "threads.start" => {
            let asked: ThreadsStart = params(given)?;
            let settings = Box::new(valid(&asked.wish)?.over(serves));
            let thread = Threads::new(wiring).new_id();
            run(&desk, Begin::New(thread, settings, draft + &asked.prompt), None).await
        }
        "threads.prompt" => {
            let asked: ThreadsPrompt = params(given)?;
            let row = desk.addressed(asked.id, serves.workspace.clone()).await?;
            let change = valid(&asked.wish)?.change(&desk.settings(row.id).await?);
            run(&desk, Begin::Prompt(row.id, change, draft + &asked.prompt), Some(row)).await
        }
        "threads.resume" => {
            let asked: ThreadsResume = params(given)?;
            let row = match desk.to_resume(asked.id).await? {
                Found::Unfinished(row) => row,
                Found::Settled(row) => {
                    let began = Began { thread: row.id, after: row.last_seq, settled: true, before: Some(row) };
                    return Ok((began, None));
                }
            };
            if asked.no_adopt {
                desk.end_survivors(row.id).await;
            }
            let change = valid(&asked.wish)?.change(&desk.settings(row.id).await?);
            run(&desk, Begin::Resume(row.id, change), Some(row)).await
        }
        _ => {
            let asked: ThreadsFollow = params(given)?;
            let row = desk.thread(asked.id).await?;
            let run = Following::new(&wiring, asked.id, asked.after).from_journal();
            let began = Began { thread: asked.id, after: asked.after, settled: false, before: Some(row) };
            Ok((began, Some(run)))
        }
    }
}

async fn run(desk: &Desk, begin: Begin, before: Option<ThreadRow>) -> Result<Begun, RpcError> {
    let run = desk.begin(begin).await?;
    Ok((Began { thread: run.thread, after: run.heard(), settled: false, before }, Some(run)))
}

/// `threads.draft`
pub(super) fn draft(draft: &mut String, given: Value) -> Result<Value, RpcError> {
    let ThreadsDraft { text } = params(given)?;
    let bytes = draft.len() + text.len();
    if bytes > limits::PROMPT_BYTES_MAX {
        draft.clear();
        let message = format!("the prompt has more than {} bytes: put it in a file", limits::PROMPT_BYTES_MAX);
        return Err(RpcError::failed(ErrorCode::InvalidArguments, message));
    }
    draft.push_str(&text);
    Ok(json!({ "bytes": bytes }))
}

/// `threads.stop`
pub(super) async fn stop(shared: &Shared, asked: ThreadsStop) -> Result<Value, RpcError> {
    let (wiring, _) = open(shared)?;
    let how = Stop::Checkpoint(CheckpointReason::Interrupted, None);
    let seq = Threads::new(wiring).stop(asked.id, how).await?;
    Ok(json!({ "thread": asked.id, "seq": seq }))
}

/// `threads.cancel`
pub(super) async fn cancel(shared: &Shared, asked: ThreadsCancel) -> Result<Value, RpcError> {
    let (wiring, _) = open(shared)?;
    let scope = Scope::meant(asked.scope, asked.job.as_deref())?;
    let Cancelled { seq, done } = Threads::new(wiring).cancel(asked.id, scope).await?;
    Ok(json!({ "thread": asked.id, "seq": seq, "done": done }))
}

/// `threads.approve`
pub(super) async fn approve(shared: &Shared, asked: ThreadsApprove) -> Result<Value, RpcError> {
    let (wiring, _) = open(shared)?;
    let seq = Threads::new(wiring).approve(asked.id, asked.call_id, asked.allow).await?;
    Ok(json!({ "thread": asked.id, "seq": seq }))
}

/// Tells a run to its end. While the client's queue is full it is not heard, and what it misses live is counted.
pub(super) async fn tell(mut run: Following, queue: mpsc::Sender<String>) {
    loop {
        let (lines, over) = match run.next().await {
            Ok(Some(Heard::Event(event))) => (notice("event", &*event), false),
            Ok(Some(Heard::Live(event))) => (notice("live", &*event), false),
            Ok(None) => (notice("end", &RunEnd { error: None }), true),
            Ok(Some(Heard::Gone(error))) | Err(error) => (notice("end", &RunEnd { error: Some(error.into()) }), true),
        };
        for line in lines {
            if queue.send(line).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
    }
}

/// The runtime's parts, whoever's it is.
pub(super) fn wiring(shared: &Shared) -> Result<Arc<Wiring>, RpcError> {
    let refused = |message: &str| RpcError::failed(ErrorCode::Unavailable, message);
    let counter = shared.counter.get().ok_or_else(|| refused("the runtime is coming up"))?;
    counter.wiring.upgrade().ok_or_else(|| refused("the runtime is about to end"))
}

fn open(shared: &Shared) -> Result<(Arc<Wiring>, &Settings), RpcError> {
    let refused = |code, message: &str| RpcError::failed(code, message);
    let counter = shared.counter.get().ok_or_else(|| refused(ErrorCode::Unavailable, "the runtime is coming up"))?;
    let serves = counter.serves.as_ref();
    let serves =
        serves.ok_or_else(|| refused(ErrorCode::Conflict, "this runtime is one run's own; it takes no other"))?;
    let wiring =
        counter.wiring.upgrade().ok_or_else(|| refused(ErrorCode::Unavailable, "the runtime is about to end"))?;
    Ok((wiring, serves))
}

/// What goes into a thread's settings is looked at first: it holds for the thread's whole life.
fn valid(wish: &Wish) -> Result<&Wish, ToolError> {
    let invalid = |message: String| Err(ToolError::new(ErrorCode::InvalidArguments, message));
    for (name, path) in [("workspace", &wish.workspace), ("artifacts", &wish.artifacts)] {
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return invalid(format!("`{name}` is an absolute path"));
        }
    }
    Ok(wish)
}
