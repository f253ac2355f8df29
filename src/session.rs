//! One runtime in this process, and a thread run on it to its end: what the commands and the library share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_actors::api::ApiParts;
use lakitu_actors::debug::LogLevel;
use lakitu_actors::gateway::Patience;
use lakitu_actors::runtime::{Exit, Parts, Runtime};
use lakitu_actors::threads::Threads;
use lakitu_actors::threads::desk::{Begin, Desk};
use lakitu_actors::threads::follow::Following;
use lakitu_actors::tools::bash::{KeeperStarter, confine};
use lakitu_actors::tools::file::pdf::Reader;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::Settings;
use lakitu_kernel::ports::Gateway;
use lakitu_kernel::supervise::NodeState;
use lakitu_kernel::{ErrorCode, Event, Seq, ThreadId, ToolError, limits};

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
    /// How long a model call is made again; none: as configured.
    pub patience: Option<Patience>,
    /// How threads begin that others start on this runtime; none: it takes none.
    pub serves: Option<Settings>,
    /// What the HTTP API is made of; none: there is none.
    pub api: Option<ApiParts>,
    /// Who turns documents into text.
    pub reader: Reader,
    /// Changes the log's level; none: it is fixed.
    pub log: Option<Arc<dyn LogLevel>>,
}

/// A runtime in this process.
pub struct Session {
    runtime: Runtime,
    upstream: Arc<dyn Gateway>,
}

impl Session {
    /// Starts a runtime on a data directory. Fails with `STORE_BUSY` where another process owns it, with `NOT_CONFINED`
    /// where commands must be confined and cannot.
    pub async fn open(opening: Opening) -> Result<Self, ToolError> {
        let Opening { config, data, upstream, starter, hidden, exit, log, patience, serves, api, reader } = opening;
        confine::check(&config.confine)?;
        let mut parts = Parts::new(config, data, upstream.clone(), starter);
        parts.hidden = hidden;
        parts.exit = exit;
        (parts.patience, parts.serves, parts.api, parts.reader) = (patience, serves, api, reader);
        if let Some(log) = log {
            parts.log = log;
        }
        let runtime = Runtime::start(parts).await.map_err(internal)?;
        runtime.settled().await;
        match runtime.wiring.nodes.node("/store").map(|node| (node.state, node.last_error)) {
            Some((NodeState::Running, _)) => {
                runtime.threads().finish_put_backs().await;
                Ok(Self { runtime, upstream })
            }
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

    /// The runtime alone, for whoever ends it in their own way.
    pub fn into_runtime(self) -> Runtime {
        self.runtime
    }

    /// What callers do with threads.
    pub fn threads(&self) -> Threads {
        self.runtime.threads()
    }

    /// Where people ask something of threads.
    pub fn desk(&self) -> Desk {
        Desk::new(self.runtime.wiring.clone())
    }

    /// The events of a thread behind `after`.
    pub async fn events(&self, thread: ThreadId, after: Seq) -> Result<Vec<Event>, ToolError> {
        let read =
            self.runtime.wiring.store.read(move |reading| reading.events(thread, after, limits::STEP_EVENTS_MAX));
        read.await.map_err(ToolError::from)
    }

    /// Begins a run. What happens in it is heard on what this returns.
    pub async fn begin(&self, begin: Begin) -> Result<Following, ToolError> {
        self.desk().begin(begin).await
    }

    /// Asks the upstream whether everything it expected came: a script may have turns left over.
    pub fn leftovers(&self) -> Result<(), ToolError> {
        self.upstream.finish()
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
