//! What a person asks of threads, whichever way it comes in: a command in this process, the debug socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::event::{Asking, Resumed, Settings};
use lakitu_kernel::mode::Mode;
use lakitu_kernel::{CheckpointId, ErrorCode, Seq, ThreadId, ToolError};
use serde::{Deserialize, Serialize};

use super::agent::Change;
use super::follow::Following;
use super::{Threads, journal, not_found, prompt};
use crate::checkpoint::CreateArgs;
use crate::runtime::origin;
use crate::store::{StoreError, ThreadRow, ThreadStatus, ThreadsBy};
use crate::wiring::Wiring;

/// Surviving commands that are to be ended may take so long.
const JOBS_END_WITHIN: Duration = Duration::from_secs(5);

/// What is said about a run; what is not said stays as it is stored or configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// Where the agent works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<PathBuf>,
    /// Where it puts what it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<PathBuf>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Turns of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Time of a run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Somebody wants to be asked before anything is changed that no rule allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<bool>,
    /// Whether somebody can be asked in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub somebody: Option<bool>,
}

impl Wish {
    /// These settings with what is wished in their place.
    pub fn over(&self, stored: &Settings) -> Settings {
        Settings {
            model: self.model.clone().unwrap_or_else(|| stored.model.clone()),
            mode: self.mode.unwrap_or(stored.mode),
            workspace: self.workspace.clone().unwrap_or_else(|| stored.workspace.clone()),
            artifacts: self.artifacts.clone().unwrap_or_else(|| stored.artifacts.clone()),
            max_turns: self.max_turns.or(stored.max_turns),
            timeout_ms: self.timeout_ms.or(stored.timeout_ms),
            asking: Asking {
                every_change: self.ask.unwrap_or(stored.asking.every_change),
                somebody: self.somebody.unwrap_or(stored.asking.somebody),
            },
        }
    }

    /// The same as a change; nothing where nothing changes.
    pub fn change(&self, stored: &Settings) -> Option<Box<Settings>> {
        let wished = self.over(stored);
        (wished != *stored).then(|| Box::new(wished))
    }
}

/// How a run begins.
#[derive(Debug, Clone)]
pub enum Begin {
    /// A new thread with its first prompt.
    New(ThreadId, Box<Settings>, String),
    /// The next prompt of a thread.
    Prompt(ThreadId, Option<Box<Settings>>, String),
    /// A thread goes on from where it stopped.
    Resume(ThreadId, Option<Box<Settings>>),
}

impl Begin {
    /// The thread that it is about.
    pub fn thread(&self) -> ThreadId {
        match self {
            Begin::New(thread, ..) | Begin::Prompt(thread, ..) | Begin::Resume(thread, _) => *thread,
        }
    }
}

/// What `resume` finds.
#[derive(Debug, Clone)]
pub enum Found {
    /// A thread that goes on.
    Unfinished(ThreadRow),
    /// None does: the thread that was named, or the newest.
    Settled(ThreadRow),
}

/// Where people ask. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    wiring: Arc<Wiring>,
}

impl Desk {
    /// In front of a runtime's threads.
    pub fn new(wiring: Arc<Wiring>) -> Self {
        Self { wiring }
    }

    /// A thread's row.
    pub async fn thread(&self, thread: ThreadId) -> Result<ThreadRow, ToolError> {
        let row = self.wiring.store.read(move |reading| reading.thread(thread)).await.map_err(ToolError::from)?;
        row.ok_or_else(|| not_found(thread))
    }

    /// The first of such threads.
    pub async fn newest(&self, by: ThreadsBy) -> Result<Option<ThreadRow>, ToolError> {
        let read = self.wiring.store.read(move |reading| reading.threads_by(&by, 1, None));
        Ok(read.await.map_err(ToolError::from)?.items.into_iter().next())
    }

    /// A thread's settings, as its journal has them.
    pub async fn settings(&self, thread: ThreadId) -> Result<Settings, ToolError> {
        Ok(self.stored(thread).await?.0)
    }

    /// The thread that the next prompt is for: this one, or the newest of the workspace.
    pub async fn addressed(&self, named: Option<ThreadId>, workspace: PathBuf) -> Result<ThreadRow, ToolError> {
        match named {
            Some(thread) => self.thread(thread).await,
            None => self.newest(ThreadsBy::Workspace(workspace)).await?.ok_or_else(none_yet),
        }
    }

    /// What goes on: this thread, or the unfinished one that was last active; where there is none, the newest.
    pub async fn to_resume(&self, named: Option<ThreadId>) -> Result<Found, ToolError> {
        let row = match named {
            Some(thread) => self.thread(thread).await?,
            None => match self.unfinished().await? {
                Some(row) => row,
                None => self.newest(ThreadsBy::All).await?.ok_or_else(none_yet)?,
            },
        };
        let goes_on = match row.status {
            ThreadStatus::Running | ThreadStatus::Waiting | ThreadStatus::Checkpointed => true,
            ThreadStatus::Failed => named.is_some(),
            ThreadStatus::Completed | ThreadStatus::Cancelled => false,
        };
        Ok(if goes_on { Found::Unfinished(row) } else { Found::Settled(row) })
    }

    async fn unfinished(&self) -> Result<Option<ThreadRow>, ToolError> {
        let mut found: Option<ThreadRow> = None;
        for status in [ThreadStatus::Running, ThreadStatus::Waiting, ThreadStatus::Checkpointed] {
            let row = self.newest(ThreadsBy::Status(status)).await?;
            found = found.into_iter().chain(row).max_by_key(|row| row.updated_at);
        }
        Ok(found)
    }

    /// Makes a checkpoint of a thread, or of the newest.
    pub async fn checkpoint(&self, named: Option<ThreadId>, args: CreateArgs) -> Result<CheckpointId, ToolError> {
        let thread = match named {
            Some(thread) => thread,
            None => self.newest(ThreadsBy::All).await?.ok_or_else(none_yet)?.id,
        };
        Threads::new(self.wiring.clone()).checkpoint(thread, args).await
    }

    /// Ends the commands of a thread that survived an earlier process.
    pub async fn end_survivors(&self, thread: ThreadId) {
        self.wiring.bash_tools.kill_all(thread, JOBS_END_WITHIN).await;
    }

    /// Begins a run. What happens in it is heard on what this returns.
    pub async fn begin(&self, begin: Begin) -> Result<Following, ToolError> {
        let (wiring, threads) = (&self.wiring, Threads::new(self.wiring.clone()));
        match begin {
            Begin::New(thread, settings, prompt) => {
                let run = Following::new(wiring, thread, Seq::ZERO);
                threads.start(thread, origin(wiring, *settings, prompt).await).await?;
                Ok(run)
            }
            Begin::Prompt(thread, settings, prompt) => {
                let (run, change) = self.next_run(thread, settings).await?;
                threads.prompt(thread, prompt, change).await?;
                Ok(run)
            }
            Begin::Resume(thread, settings) => {
                let (run, change) = self.next_run(thread, settings).await?;
                threads.resume(thread, Resumed::Resume, change).await?;
                Ok(run)
            }
        }
    }

    async fn next_run(
        &self,
        thread: ThreadId,
        settings: Option<Box<Settings>>,
    ) -> Result<(Following, Option<Change>), ToolError> {
        let row = self.thread(thread).await?;
        let change = match settings {
            None => None,
            Some(settings) => Some(self.changed(thread, *settings).await?),
        };
        Ok((Following::new(&self.wiring, thread, row.last_seq), change))
    }

    /// What replaces a thread's settings. Requests begin as before, unless what stands there is among it.
    async fn changed(&self, thread: ThreadId, settings: Settings) -> Result<Change, ToolError> {
        let (stored, boundary) = self.stored(thread).await?;
        let prefix = if settings.same_prefix(&stored) {
            None
        } else {
            Some(prompt::prefix(&settings, &boundary, self.wiring.catalogue).await)
        };
        Ok(Change { settings, prefix })
    }

    /// What of a wish is not as the thread has it; nothing where all of it is.
    pub async fn change(&self, thread: ThreadId, wish: &Wish) -> Result<Option<Change>, ToolError> {
        match wish.change(&self.settings(thread).await?) {
            Some(settings) => Ok(Some(self.changed(thread, *settings).await?)),
            None => Ok(None),
        }
    }

    async fn stored(&self, thread: ThreadId) -> Result<(Settings, String), ToolError> {
        let read = self.wiring.store.read(move |reading| -> Result<_, StoreError> {
            let state = journal::fold(reading, thread)?;
            Ok((state.settings, state.boundary))
        });
        let (settings, boundary) = read.await.map_err(ToolError::from)?;
        Ok((settings.ok_or_else(|| not_found(thread))?, boundary))
    }
}

/// Nothing was named, and there is no thread that could be meant.
pub fn none_yet() -> ToolError {
    ToolError::new(
        ErrorCode::ThreadNotFound,
        "there is no thread here yet; `lakitu run \"…\"` starts one. (Another workspace has its own: --workspace, --data.)",
    )
}
