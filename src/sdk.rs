//! The three calls of the library: start a thread, continue it, run it with a time limit.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lakitu_kernel::event::{Asking, CheckpointReason, EventBody, Settings};
use lakitu_kernel::{ErrorCode, ThreadId, ToolError};
use serde_json::Value;

use lakitu_actors::planning::Beads;
use lakitu_actors::threads::desk::Begin;
use lakitu_actors::threads::follow::Heard;

use crate::session::{Opening, Session};
use crate::state::State;

/// A runtime in this process. Two of them, on two data directories, do not know of each other.
pub struct Lakitu {
    session: Session,
    model: String,
    workspace: PathBuf,
}

/// A tool call that a run made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCalled {
    /// The tool.
    pub tool: String,
    /// Its checked arguments.
    pub arguments: Value,
    /// What the model was told.
    pub result: String,
    /// Whether it did what was asked.
    pub ok: bool,
}

/// A run that came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Its thread.
    pub thread: ThreadId,
    /// What the model said last.
    pub text: String,
    /// Every call, in the order of their results.
    pub tool_calls: Vec<ToolCalled>,
    /// How long it took.
    pub duration: Duration,
}

/// What became of a run with a time limit.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It came to its end.
    Completed(Finished),
    /// It was stopped where it can go on: nothing of it runs any more.
    Incomplete(Finished, CheckpointReason),
    /// Its end is written down and nothing of it is begun any more, but something that cannot be cut off (a write that a
    /// disk does not answer) had not ended [`ENDED_WITHIN`] after that.
    StillEnding(Finished, CheckpointReason),
}

/// How long a run whose time is up is waited for once its end is written down.
pub const ENDED_WITHIN: Duration = Duration::from_secs(40);
/// How long after its limit the end of a run may take to be written down.
const WRITTEN_WITHIN: Duration = Duration::from_mins(2);

impl Lakitu {
    /// Starts a runtime that works in `workspace` and asks `model`.
    pub async fn open(opening: Opening, workspace: PathBuf, model: impl Into<String>) -> Result<Self, ToolError> {
        Ok(Self { session: Session::open(opening).await?, model: model.into(), workspace })
    }

    /// The session beneath: its runtime, its threads.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What its tables hold.
    pub fn state(&self) -> State<'_> {
        State(&self.session.runtime().wiring.store)
    }

    /// Its task graph. What is claimed is held by the name `by`.
    pub fn beads(&self, by: impl Into<String>) -> Beads<'_> {
        let wiring = &self.session.runtime().wiring;
        Beads { store: &wiring.store, clock: &*wiring.clock, randomness: &*wiring.randomness, by: by.into() }
    }

    /// Stops everything. Commands that still run are ended.
    pub async fn close(self) {
        self.session.close().await;
    }

    fn settings(&self, timeout: Option<Duration>) -> Settings {
        Settings {
            model: self.model.clone(),
            mode: lakitu_kernel::mode::Mode::Build,
            artifacts: self.session.runtime().wiring.store.data().join("artifacts"),
            workspace: self.workspace.clone(),
            max_turns: None,
            timeout_ms: timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            asking: Asking::default(),
        }
    }

    async fn follow(&self, begin: Begin) -> Result<Outcome, ToolError> {
        let started = Instant::now();
        let mut run = self.session.begin(begin).await?;
        let mut finished =
            Finished { thread: run.thread, text: String::new(), tool_calls: Vec::new(), duration: Duration::ZERO };
        let mut intents: Vec<(String, String, Value)> = Vec::new();
        let mut end = None;
        while let Some(heard) = run.next().await? {
            let Heard::Event(event) = heard else { continue };
            match &event.body {
                EventBody::Message { text, .. } => finished.text.clone_from(text),
                EventBody::ToolIntent { call_id, tool, arguments, .. } => {
                    intents.push((call_id.clone(), tool.clone(), arguments.clone()));
                }
                EventBody::ToolResult { call_id, ok, output, .. } => {
                    let intent = intents.iter().position(|(id, ..)| id == call_id).map(|at| intents.swap_remove(at));
                    let (_, tool, arguments) = intent.unwrap_or_default();
                    finished.tool_calls.push(ToolCalled { tool, arguments, result: output.clone(), ok: *ok });
                }
                body => end = Some(body.clone()),
            }
        }
        finished.duration = started.elapsed();
        match end {
            Some(EventBody::ThreadCompleted {}) => Ok(Outcome::Completed(finished)),
            Some(EventBody::ThreadCheckpointed { reason, error: None, .. }) => {
                Ok(Outcome::Incomplete(finished, reason))
            }
            Some(EventBody::ThreadCheckpointed { error: Some(error), .. } | EventBody::ThreadFailed { error }) => {
                Err(error)
            }
            _ => Err(ToolError::new(ErrorCode::Cancelled, "the run was cancelled")),
        }
    }
}

/// Starts a thread: the prompt, with `context` (text or JSON) before it. Returns when its run came to its end.
pub async fn start_thread(lakitu: &Lakitu, prompt: &str, context: Option<&Value>) -> Result<Finished, ToolError> {
    let settings = Box::new(lakitu.settings(None));
    let begin = Begin::New(lakitu.session.threads().new_id(), settings, with_context(prompt, context));
    completed(lakitu.follow(begin).await?)
}

/// Gives a thread its next prompt, with its whole history. Returns when the run came to its end.
pub async fn continue_thread(lakitu: &Lakitu, thread: ThreadId, prompt: &str) -> Result<Finished, ToolError> {
    completed(lakitu.follow(Begin::Prompt(thread, None, prompt.to_owned())).await?)
}

/// Runs a prompt with a time limit. At the limit the run is really stopped: no call, no write and no process of it comes
/// after this returns. Where a disk does not answer, that is told, and not waited for without end: by
/// [`Outcome::StillEnding`], or by `TIMEOUT` where not even the run's end can be written down.
pub async fn run_with_timeout(
    lakitu: &Lakitu,
    prompt: &str,
    context: Option<&Value>,
    timeout: Duration,
) -> Result<Outcome, ToolError> {
    let settings = Box::new(lakitu.settings(Some(timeout)));
    let begin = Begin::New(lakitu.session.threads().new_id(), settings, with_context(prompt, context));
    let thread = begin.thread();
    let ends = timeout.saturating_add(WRITTEN_WITHIN);
    let Ok(outcome) = tokio::time::timeout(ends, lakitu.follow(begin)).await else {
        let message = format!("the end of {thread} was not written down {} s after its time", WRITTEN_WITHIN.as_secs());
        return Err(ToolError::new(ErrorCode::Timeout, message));
    };
    // What could not be cut off ends before this returns.
    let idle = tokio::time::timeout(ENDED_WITHIN, lakitu.session.runtime().wiring.effects.idle(&thread)).await;
    Ok(match outcome? {
        Outcome::Incomplete(finished, reason) if idle.is_err() => Outcome::StillEnding(finished, reason),
        outcome => outcome,
    })
}

fn with_context(prompt: &str, context: Option<&Value>) -> String {
    match context {
        None | Some(Value::Null) => prompt.to_owned(),
        Some(Value::String(text)) => format!("{text}\n\n{prompt}"),
        Some(json) => format!("{json:#}\n\n{prompt}"),
    }
}

fn completed(outcome: Outcome) -> Result<Finished, ToolError> {
    match outcome {
        Outcome::Completed(finished) => Ok(finished),
        Outcome::Incomplete(finished, reason) | Outcome::StillEnding(finished, reason) => {
            Err(ToolError::new(ErrorCode::Timeout, format!("{} was checkpointed: {reason:?}", finished.thread)))
        }
    }
}
