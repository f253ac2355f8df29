//! A run that is handed over to the `up` that serves its data: it runs there, and is heard, shown and stopped here.

mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::debug::protocol::{
    Began, Nothing, RpcError, ThreadsApprove, ThreadsDraft, ThreadsEvents, ThreadsFollow, ThreadsPrompt, ThreadsResume,
    ThreadsStart, ThreadsStop,
};
use lakitu_actors::threads::desk::{Wish, none_yet};
use lakitu_actors::threads::follow::Heard;
use lakitu_actors::threads::not_found;
use lakitu_kernel::ports::BoxFuture;
use lakitu_kernel::{ErrorCode, Event, Seq, ThreadId, ToolError};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use self::wire::{Notice, Wire, WireError};
use super::Failure;
use super::args::RunFlags;
use super::hear::{BEFORE, Source, finish, hear, recall};
use super::signals::Signals;
use super::terminal::{Summary, Ui};

/// What another process that owns the data ends with.
const OWNED: u8 = 75;
/// What the end of the runtime ends with.
const GONE: u8 = 70;
/// A prompt that is longer goes over in pieces; escaped, a piece still fits into a line.
const PIECE_BYTES: usize = 128 * 1024;
/// A runtime that went away is looked for so long: it may be started again.
const RETURNS_WITHIN: Duration = Duration::from_secs(10);
/// A runtime that says within this who it is can take a run over. One that stands still owns its data all the same.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const LOOKED_FOR_EVERY: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// A new thread.
    Start { prompt: String },
    /// The next prompt of a thread; none: of the newest in the workspace.
    Prompt { thread: Option<ThreadId>, prompt: String },
    /// A thread goes on; none: the unfinished one that was last active.
    Resume { thread: Option<ThreadId>, no_adopt: bool },
}

/// What a command asks of an `up`.
pub(super) struct Order {
    ask: Ask,
    wish: Wish,
    /// A flag that only a runtime of this process could honour.
    own: Option<&'static str>,
    /// The workspace that the run is in, where that is said here and not by its thread.
    workspace: Option<PathBuf>,
}

/// Of `version`.
#[derive(Debug, Deserialize)]
struct Version {
    pid: u32,
    /// The workspace of an `up`; none: it is none.
    #[serde(default)]
    up: Option<PathBuf>,
}

/// Of `threads.events`.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Event>,
    cursor: Option<String>,
}

impl Order {
    pub(super) fn new(ask: Ask, wish: Wish, flags: &RunFlags, workspace: &Path) -> Self {
        let own = [
            (flags.source.script.is_some(), "--script"),
            (flags.source.gateway.is_some(), "--gateway"),
            (flags.source.token_file.is_some(), "--token-file"),
            (flags.no_confine, "--no-confine"),
        ];
        let own = own.into_iter().find_map(|(given, flag)| given.then_some(flag));
        let stored = matches!(&ask, Ask::Prompt { thread: Some(_), .. } | Ask::Resume { .. });
        let workspace = (!stored || flags.workspace.is_some()).then(|| workspace.to_owned());
        Self { ask, wish, own, workspace }
    }

    /// The artifacts directory, where that is said here.
    pub(super) fn artifacts(&self) -> Option<&Path> {
        self.wish.artifacts.as_deref()
    }

    /// What it is about is not there, where there is no database at all.
    pub(super) fn finds_nothing(&self) -> Option<ToolError> {
        match self.ask {
            Ask::Start { .. } => None,
            Ask::Prompt { thread: Some(thread), .. } | Ask::Resume { thread: Some(thread), .. } => {
                Some(not_found(thread))
            }
            Ask::Prompt { thread: None, .. } | Ask::Resume { thread: None, .. } => Some(none_yet()),
        }
    }

    /// Whether it cannot be done without a model, whatever is found.
    pub(super) fn needs_model(&self) -> bool {
        match self.ask {
            Ask::Start { .. } | Ask::Prompt { .. } => true,
            Ask::Resume { .. } => false,
        }
    }

    /// What an `up` in that workspace cannot do.
    fn refused_by(&self, version: &Version, up: &Path) -> Option<Failure> {
        let owner = format!("`lakitu up` (process {}) serves this data directory", version.pid);
        let message = if let Some(flag) = self.own {
            format!(
                "{owner}, and a run that is handed over to it cannot have {flag}: leave it out, or stop the `up` first"
            )
        } else if let Some(other) = self.workspace.as_deref().filter(|other| *other != up) {
            let (up, other) = (up.display(), other.display());
            format!(
                "{owner} for the workspace {up}, and this run would be in {other}: run it there or with --workspace {up}, \
                 or with a data directory of its own (--data)"
            )
        } else {
            return None;
        };
        Some(Failure { exit: OWNED, message })
    }
}

/// Hands a run over; none: there is no `up` that could take it.
pub(super) fn offer(data: &Path, order: &Order, ui: &mut Ui) -> Result<Option<u8>, Failure> {
    // Nothing is there as a rule, and that is known without a runtime.
    if lakitu_actors::debug::connect(data).is_err() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::other(format!("no async runtime: {error}")))?;
    runtime.block_on(async {
        // Who does not answer as an `up` does owns the data by its lock: that is found, and told, where it is opened.
        let Ok(Some(mut wire)) = Wire::connect(data) else { return Ok(None) };
        let version = tokio::time::timeout(ANSWERS_WITHIN, wire.call::<Version>("version", &Nothing {})).await;
        let Ok(Ok(version)) = version else { return Ok(None) };
        let Some(up) = &version.up else { return Ok(None) };
        match order.refused_by(&version, up) {
            Some(failure) => Err(failure),
            None => run(wire, data, order, ui).await.map(Some),
        }
    })
}

async fn run(mut wire: Wire, data: &Path, order: &Order, ui: &mut Ui) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let began = match begin(&mut wire, order).await {
        Ok(began) => began,
        Err(WireError::Refused(said)) => {
            let error = told(said);
            let failure = Failure::from(error.clone());
            if failure.exit == 2 {
                return Err(failure);
            }
            return finish(&Summary::failed(error), ui);
        }
        Err(error) => return Err(Failure { exit: GONE, message: lost(&error).to_string() }),
    };
    let mut summary = Summary::new(began.thread);
    if began.settled {
        let events = events(&mut wire, began.thread, Seq::ZERO).await.map_err(|error| Failure::from(lost(&error)))?;
        events.iter().for_each(|event| summary.event(event));
        return finish(&summary, ui);
    }
    if let Some(row) = &began.before {
        let from = Seq(row.last_seq.0.saturating_sub(BEFORE));
        // Only what is shown of the past is missing without it.
        let events = events(&mut wire, began.thread, from).await.unwrap_or_default();
        recall(row, &events, &mut summary, ui);
    }
    let mut there = There::new(wire, data.to_owned(), &began);
    hear(&mut there, (&mut summary, ui), &signals).await;
    let code = finish(&summary, ui)?;
    Ok(if there.lost { GONE } else { code })
}

async fn begin(wire: &mut Wire, order: &Order) -> Result<Began, WireError> {
    let wish = order.wish.clone();
    match &order.ask {
        Ask::Start { prompt } => {
            let prompt = in_pieces(wire, prompt).await?;
            wire.call("threads.start", &ThreadsStart { prompt, wish }).await
        }
        Ask::Prompt { thread, prompt } => {
            let prompt = in_pieces(wire, prompt).await?;
            wire.call("threads.prompt", &ThreadsPrompt { id: *thread, prompt, wish }).await
        }
        Ask::Resume { thread, no_adopt } => {
            wire.call("threads.resume", &ThreadsResume { id: *thread, no_adopt: *no_adopt, wish }).await
        }
    }
}

/// Sends all but the last piece ahead.
async fn in_pieces(wire: &mut Wire, mut prompt: &str) -> Result<String, WireError> {
    while prompt.len() > PIECE_BYTES {
        let (text, rest) = prompt.split_at(prompt.floor_char_boundary(PIECE_BYTES));
        wire.call::<Value>("threads.draft", &ThreadsDraft { text: text.to_owned() }).await?;
        prompt = rest;
    }
    Ok(prompt.to_owned())
}

/// A thread's journal behind an event.
async fn events(wire: &mut Wire, thread: ThreadId, after: Seq) -> Result<Vec<Event>, WireError> {
    let mut all = Vec::new();
    let mut asked = ThreadsEvents { id: thread, after: Some(after), limit: None, cursor: None };
    loop {
        let page: Page = wire.call("threads.events", &asked).await?;
        all.extend(page.items);
        asked.cursor = page.cursor;
        if asked.cursor.is_none() {
            return Ok(all);
        }
    }
}

/// A run in another process.
struct There {
    data: PathBuf,
    thread: ThreadId,
    heard: Seq,
    /// None: the runtime went away, and is being looked for.
    wire: Option<Wire>,
    returning: Option<BoxFuture<'static, Result<Wire, ToolError>>>,
    /// It did not come back.
    lost: bool,
    stopping: bool,
}

impl There {
    fn new(wire: Wire, data: PathBuf, began: &Began) -> Self {
        let (thread, heard) = (began.thread, began.after);
        Self { data, thread, heard, wire: Some(wire), returning: None, lost: false, stopping: false }
    }

    /// Listens again, to a runtime that closed the connection or was started anew.
    async fn come_back(&mut self) -> Result<(), ToolError> {
        let (data, follow) = (self.data.clone(), ThreadsFollow { id: self.thread, after: self.heard });
        let back = self.returning.get_or_insert_with(|| Box::pin(look_for(data, follow))).await;
        self.returning = None;
        self.lost = back.is_err();
        self.wire = Some(back?);
        if self.stopping { self.stop().await } else { Ok(()) }
    }
}

impl Source for There {
    async fn next(&mut self) -> Result<Option<Heard>, ToolError> {
        loop {
            let Some(wire) = &mut self.wire else {
                self.come_back().await?;
                continue;
            };
            match wire.notice().await {
                Ok(Notice::Event(event)) if event.seq > self.heard => {
                    self.heard = event.seq;
                    return Ok(Some(Heard::Event(Arc::from(event))));
                }
                Ok(Notice::Event(_)) => {}
                Ok(Notice::Live(event)) => return Ok(Some(Heard::Live(Arc::new(event)))),
                Ok(Notice::End(None)) => return Ok(None),
                // The runtime ends: what it made of the run stands in the journal.
                Ok(Notice::End(Some(error))) if error.is(ErrorCode::Unavailable) => self.wire = None,
                // Somebody else answered the question sooner.
                Ok(Notice::Refused(error)) if error.is(ErrorCode::ThreadBusy) => {}
                Ok(Notice::End(Some(error)) | Notice::Refused(error)) => return Err(told(error)),
                Err(WireError::Gone) => self.wire = None,
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    async fn stop(&mut self) -> Result<(), ToolError> {
        self.stopping = true;
        if let Some(wire) = &mut self.wire
            && wire.tell("threads.stop", &ThreadsStop { id: self.thread }).await.is_err()
        {
            // It is asked again once it is back.
            self.wire = None;
        }
        Ok(())
    }

    async fn answer(&mut self, call_id: String, allow: bool) -> Result<(), ToolError> {
        if let Some(wire) = &mut self.wire
            && wire.tell("threads.approve", &ThreadsApprove { id: self.thread, call_id, allow }).await.is_err()
        {
            // The question is asked again by the runtime that comes back.
            self.wire = None;
        }
        Ok(())
    }

    /// What the upstream of an `up` expects is no run's own.
    fn leftovers(&self) -> Result<(), ToolError> {
        Ok(())
    }
}

async fn look_for(data: PathBuf, follow: ThreadsFollow) -> Result<Wire, ToolError> {
    let begun = Instant::now();
    while begun.elapsed() < RETURNS_WITHIN {
        if let Ok(Some(mut wire)) = Wire::connect(&data)
            && wire.call::<Began>("threads.follow", &follow).await.is_ok()
        {
            return Ok(wire);
        }
        sleep(LOOKED_FOR_EVERY).await;
    }
    Err(lost(&WireError::Gone))
}

fn lost(error: &WireError) -> ToolError {
    match error {
        WireError::Refused(said) => told(said.clone()),
        WireError::Gone => ToolError::new(
            ErrorCode::Unavailable,
            "the `up` that this run was handed over to is gone; it goes on when that is started again, or with `lakitu resume`",
        ),
        WireError::Protocol(what) => {
            ToolError::new(ErrorCode::Internal, format!("the runtime speaks another protocol: {what}"))
        }
    }
}

/// A refusal as it would be told in this process.
fn told(said: RpcError) -> ToolError {
    let code = said.data.and_then(|data| ErrorCode::ALL.iter().copied().find(|code| code.as_str() == data.code));
    ToolError::new(code.unwrap_or(ErrorCode::Internal), said.message)
}
