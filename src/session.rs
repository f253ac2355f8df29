//! One runtime in this process, and a thread run on it to its end: what the commands and the library share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_actors::debug::LogLevel;
use lakitu_actors::runtime::{Exit, Parts, Runtime, origin};
use lakitu_actors::store::{ThreadRow, ThreadsBy};
use lakitu_actors::threads::Threads;
use lakitu_actors::threads::agent::{Change, is_end};
use lakitu_actors::threads::follow::{self, Follower, Reads};
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::{Resumed, Settings};
use lakitu_kernel::ports::Gateway;
use lakitu_kernel::supervise::NodeState;
use lakitu_kernel::{ErrorCode, Event, LiveEvent, Seq, ThreadId, ToolError, limits};

/// What a session is opened with.
pub struct Opening {
    /// The valid configuration.
    pub config: Config,
    /// The data directory, absolute.
    pub data: PathBuf,
    /// Who answers for the model.
    pub upstream: Arc<dyn Gateway>,
    /// Who starts keepers.
    pub starter: KeeperStarter,
    /// Files that commands must not see.
    pub hidden: Vec<PathBuf>,
    /// Ends the process when a core actor blocks its thread for good; none: nobody watches.
    pub exit: Option<Exit>,
    /// Changes the log's level; none: it is fixed.
    pub log: Option<Arc<dyn LogLevel>>,
}

/// A runtime in this process.
pub struct Session {
    runtime: Runtime,
    upstream: Arc<dyn Gateway>,
}

/// How a run begins.
pub enum Begin {
    /// A new thread with its first prompt.
    New(ThreadId, Box<Settings>, String),
    /// The next prompt of a thread.
    Prompt(ThreadId, Option<Box<Settings>>, String),
    /// A thread goes on from where it stopped.
    Resume(ThreadId, Option<Box<Settings>>),
}

/// What is heard of a run.
pub enum Heard {
    /// A durable event.
    Event(Arc<Event>),
    /// Told while it happens.
    Live(Arc<LiveEvent>),
}

impl Begin {
    /// The thread that it is about.
    pub fn thread(&self) -> ThreadId {
        match self {
            Begin::New(thread, ..) | Begin::Prompt(thread, ..) | Begin::Resume(thread, _) => *thread,
        }
    }
}

impl Session {
    /// Starts a runtime on a data directory. Fails with `STORE_BUSY` where another process owns it.
    pub async fn open(opening: Opening) -> Result<Self, ToolError> {
        let Opening { config, data, upstream, starter, hidden, exit, log } = opening;
        let mut parts = Parts::new(config, data, upstream.clone(), starter);
        parts.hidden = hidden;
        parts.exit = exit;
        if let Some(log) = log {
            parts.log = log;
        }
        let runtime = Runtime::start(parts).await.map_err(internal)?;
        runtime.settled().await;
        match runtime.wiring.nodes.node("/store").map(|node| (node.state, node.last_error)) {
            Some((NodeState::Running, _)) => Ok(Self { runtime, upstream }),
            failed => {
                let error = match runtime.wiring.store.last_start() {
                    Some(Err(error)) => error.into(),
                    Some(Ok(_)) | None => internal(failed.and_then(|(_, error)| error).unwrap_or_default()),
                };
                runtime.stop().await;
                Err(error)
            }
        }
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What callers do with threads.
    pub fn threads(&self) -> Threads {
        self.runtime.threads()
    }

    /// A thread's row.
    pub async fn thread(&self, thread: ThreadId) -> Result<ThreadRow, ToolError> {
        let row =
            self.runtime.wiring.store.read(move |reading| reading.thread(thread)).await.map_err(ToolError::from)?;
        row.ok_or_else(|| lakitu_actors::threads::not_found(thread))
    }

    /// The newest threads.
    pub async fn newest(&self, by: ThreadsBy, limit: usize) -> Result<Vec<ThreadRow>, ToolError> {
        let read = self.runtime.wiring.store.read(move |reading| reading.threads_by(&by, limit, None));
        Ok(read.await.map_err(ToolError::from)?.items)
    }

    /// A thread's settings, as its journal has them.
    pub async fn settings(&self, thread: ThreadId) -> Result<Settings, ToolError> {
        let read =
            self.runtime.wiring.store.read(move |reading| lakitu_actors::threads::journal::fold(reading, thread));
        read.await.map_err(ToolError::from)?.settings.ok_or_else(|| lakitu_actors::threads::not_found(thread))
    }

    /// The events of a thread behind `after`.
    pub async fn events(&self, thread: ThreadId, after: Seq) -> Result<Vec<Event>, ToolError> {
        let read =
            self.runtime.wiring.store.read(move |reading| reading.events(thread, after, limits::STEP_EVENTS_MAX));
        read.await.map_err(ToolError::from)
    }

    /// Begins a run. What happens in it is heard on [`Run::next`].
    pub async fn begin(&self, begin: Begin) -> Result<Run<'_>, ToolError> {
        let (wiring, threads) = (&self.runtime.wiring, self.threads());
        let change = |settings: Option<Box<Settings>>, boundary: &str| {
            settings.map(|settings| Change {
                prefix: lakitu_actors::threads::prompt::prefix(&settings, boundary, wiring.catalogue),
                settings: *settings,
            })
        };
        match begin {
            Begin::New(thread, settings, prompt) => {
                let run = Run::new(self, thread, Seq::ZERO);
                threads.start(thread, origin(wiring, *settings, prompt)).await?;
                Ok(run)
            }
            Begin::Prompt(thread, settings, prompt) => {
                let (row, boundary) = (self.thread(thread).await?, self.boundary(thread).await?);
                let run = Run::new(self, thread, row.last_seq);
                threads.prompt(thread, prompt, change(settings, &boundary)).await?;
                Ok(run)
            }
            Begin::Resume(thread, settings) => {
                let (row, boundary) = (self.thread(thread).await?, self.boundary(thread).await?);
                let run = Run::new(self, thread, row.last_seq);
                threads.resume(thread, Resumed::Resume, change(settings, &boundary)).await?;
                Ok(run)
            }
        }
    }

    async fn boundary(&self, thread: ThreadId) -> Result<String, ToolError> {
        let read =
            self.runtime.wiring.store.read(move |reading| lakitu_actors::threads::journal::fold(reading, thread));
        Ok(read.await.map_err(ToolError::from)?.boundary)
    }

    /// Waits for the end of the root, which nobody asked for: then the runtime has given up.
    pub async fn gave_up(&self) -> lakitu_kernel::supervise::Ended {
        self.runtime.wait().await
    }

    /// Stops everything. Commands that still run are ended.
    pub async fn close(self) {
        self.runtime.stop().await;
    }
}

/// A run that was begun.
pub struct Run<'a> {
    session: &'a Session,
    /// Its thread.
    pub thread: ThreadId,
    follower: Follower,
    ended: bool,
}

impl<'a> Run<'a> {
    fn new(session: &'a Session, thread: ThreadId, heard: Seq) -> Self {
        let follower = Follower::new(&session.runtime.wiring, thread, heard, Reads::default());
        Self { session, thread, follower, ended: false }
    }

    /// What happens next; nothing once the run has ended. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Heard>, ToolError> {
        if self.ended {
            return Ok(None);
        }
        Ok(Some(match self.follower.next().await? {
            follow::Heard::Event(event) => {
                self.ended = is_end(&event);
                Heard::Event(event)
            }
            follow::Heard::Live(event) => Heard::Live(event),
            follow::Heard::Gone(error) => return Err(error),
        }))
    }

    /// Asks the upstream whether everything it expected came: a script may have turns left over.
    pub fn leftovers(&self) -> Result<(), ToolError> {
        self.session.upstream.finish()
    }
}

/// Where a workspace's data stands when nothing says so.
pub fn default_data(workspace: &Path, env: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let state = env("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| env("HOME").map(|home| home.join(".local/state"))).unwrap_or_else(std::env::temp_dir);
    let name = workspace.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned());
    let hash = lakitu_kernel::Hash::of(workspace.as_os_str().as_encoded_bytes()).to_string();
    state.join("lakitu").join(format!("{name}-{}", &hash[..12]))
}

fn internal(error: impl std::fmt::Display) -> ToolError {
    ToolError::new(ErrorCode::Internal, error.to_string())
}
