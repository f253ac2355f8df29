//! Running, adopting and ending commands: what a thread's effects call.

use lakitu_kernel::supervise::boxed;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lakitu_keeper::protocol::JobState;
use lakitu_keeper::{Confinement, Namespaces};
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::config::{Confine, ConfineCommands};
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::command::BASH;
use super::counts::Counts;
use super::input::BASH_INPUT;
use super::job::JobId;
use super::keeper_of::{KeeperOf, Known};
use super::kill::BASH_KILL;
use super::list::BASH_LIST;
use super::output::BASH_OUTPUT;
use super::starter::KeeperStarter;
use super::{confine, env, give, jobs, place, report, run, spool};
use crate::tools::{Ask, Place, Settled};

/// How much later than it is due a command's end may be told, or anything else of it; then its keeper hangs. Killing takes
/// two seconds.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// A keeper that answers does so within this time.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// All keepers together end within this time at [`BashTools::shutdown`].
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// Takes pieces of running commands' output: the thread, the seq of the call's intent, where in the whole output the
/// piece begins, the piece. At most 8 KiB a piece, and pieces may be left out. Must not wait.
pub type OutputSink = Arc<dyn Fn(ThreadId, Seq, u64, String) + Send + Sync>;

/// What the tools are wired with.
#[derive(Debug, Clone)]
pub struct BashSettings {
    /// The data directory, absolute. Commands do not see it, save for the outputs.
    pub data: PathBuf,
    /// Who starts keepers.
    pub starter: KeeperStarter,
    /// How long commands live on without a runtime, in milliseconds.
    pub lease_ms: u64,
    /// How long a command may run, and what it leaves behind.
    pub job_lifetime: Duration,
    /// What commands must not see beside the data directory: token and key files.
    pub hidden: Vec<PathBuf>,
    /// Whether commands get namespaces of their own.
    pub namespaces: Namespaces,
    /// Where they may write, and what they may use up.
    pub confine: Confine,
    /// The runtime's environment. Commands get what is on a list, and nothing that looks like a credential.
    pub env: Vec<(String, String)>,
}

/// What the `jobs` row of a command says, which was committed with its intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// The boot under which it was to start.
    pub boot_id: String,
    /// Which start of the call it belongs to.
    pub attempt: u32,
}

/// How a job came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// In a few words.
    pub how: String,
    /// When, where that was written down.
    pub at: Option<Timestamp>,
    /// What it put out.
    pub bytes: u64,
}

/// The shell tools of all threads. Clones are one; it lives in the wiring, so that no actor's end is a command's end.
#[derive(Clone)]
pub struct BashTools {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) settings: BashSettings,
    /// What commands are given to; looked for once.
    pub(super) shell: String,
    /// The environment of commands.
    pub(super) env: Vec<(String, String)>,
    pub(super) counts: Arc<watch::Sender<Counts>>,
    /// Whoever waits for a helper's end.
    pub(super) helpers: Mutex<JoinSet<()>>,
    pub(super) sink: OnceLock<OutputSink>,
    keepers: Mutex<HashMap<ThreadId, Arc<KeeperOf>>>,
    closed: AtomicBool,
    /// Whether it was told already that commands are less confined than they should be.
    warned: AtomicBool,
}

impl Shared {
    /// Whether no keeper is started any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Looks at what confines a keeper's commands: an error where that is too little, a warning, once, where it is less
    /// than was wanted.
    pub(super) fn look_at(&self, confinement: &Confinement) -> Result<(), ToolError> {
        match (self.settings.confine.commands, confinement) {
            (ConfineCommands::Off, _) | (_, Confinement::Yes) => Ok(()),
            (ConfineCommands::Require, Confinement::No(reason)) => Err(confine::refused(reason)),
            (ConfineCommands::Auto | ConfineCommands::On, Confinement::No(_)) | (_, Confinement::Partly(_)) => {
                if !self.warned.swap(true, Ordering::SeqCst) {
                    tracing::warn!("commands are confined: {confinement}; [confine] commands says what is wanted");
                }
                Ok(())
            }
        }
    }

    /// The thread's keeper, whether or not one lives.
    pub(super) async fn keeper(&self, thread: ThreadId) -> Arc<KeeperOf> {
        let mut keepers = self.keepers.lock().await;
        keepers.entry(thread).or_insert_with(|| Arc::new(KeeperOf::new(&self.settings.data, thread))).clone()
    }
}

impl BashTools {
    /// The tools; no keeper is looked for or started yet.
    pub fn new(settings: BashSettings) -> Self {
        let env = env::of_commands(&settings.env);
        let shared = Shared {
            settings,
            shell: place::shell(&env),
            env,
            counts: Arc::new(watch::Sender::new(Counts::default())),
            helpers: Mutex::default(),
            sink: OnceLock::new(),
            keepers: Mutex::default(),
            closed: AtomicBool::new(false),
            warned: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who is told of output while it is made. The first one stays; false for a later one.
    pub fn on_output(&self, sink: OutputSink) -> bool {
        self.shared.sink.set(sink).is_ok()
    }

    /// How many jobs and keepers there are, and every change of it.
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.shared.counts.subscribe()
    }

    /// Starts the thread's keeper ahead of need. A failure is told by the first command, not here.
    pub async fn warm(&self, thread: ThreadId, place: &Place) {
        let keeper = self.shared.keeper(thread).await;
        let _ = keeper.start(&self.shared, place, keeper.stops()).await;
    }

    /// Attaches to the keeper that an earlier runtime left to the thread, if it lives: its lease is held off, and
    /// [`BashTools::shutdown`] ends it even if no command is run until then. Starts none.
    pub async fn adopt(&self, thread: ThreadId) {
        let keeper = self.shared.keeper(thread).await;
        let found = keeper.attach(&self.shared).await.is_some();
        tracing::debug!(%thread, found, "looked for a keeper that was left behind");
    }

    /// Waits until none of the thread's jobs is alive.
    pub async fn quiet(&self, thread: ThreadId) {
        let keeper = self.shared.keeper(thread).await;
        keeper.quiet(&self.shared).await;
    }

    /// The thread has nothing to do: its keeper is ended, unless a job runs there. What is known of it goes with it,
    /// unless a call is under way that uses it: a runtime that stays has many threads.
    pub async fn rest(&self, thread: ThreadId) {
        let keeper = self.shared.keepers.lock().await.get(&thread).cloned();
        let Some(keeper) = keeper else { return };
        keeper.rest().await;
        drop(keeper);
        let mut keepers = self.shared.keepers.lock().await;
        // One is the table's own: with the table locked, nobody can take another.
        if keepers.get(&thread).is_some_and(|keeper| Arc::strong_count(keeper) == 1 && keeper.is_let_go()) {
            keepers.remove(&thread);
        }
    }

    /// Threads of which something is kept here.
    pub async fn threads(&self) -> usize {
        self.shared.keepers.lock().await.len()
    }

    /// Runs a call of one of the shell tools. `bash` begins its command as attempt `ask.call.start`.
    ///
    /// Dropping the future ends no command: only [`BashTools::cancel`], [`BashTools::kill_all`] and `bash_kill` do.
    pub async fn run(&self, ask: &Ask) -> ToolOutcome {
        let tool = ask.call.tool;
        let result = if tool == BASH.name {
            run::command(&self.shared, ask).await
        } else if tool == BASH_INPUT.name {
            give::input(&self.shared, ask, false).await
        } else if tool == BASH_OUTPUT.name {
            jobs::output(&self.shared, ask).await
        } else if tool == BASH_KILL.name {
            jobs::kill(&self.shared, ask).await
        } else if tool == BASH_LIST.name {
            jobs::list(&self.shared, ask).await
        } else {
            Err(ToolError::new(ErrorCode::Internal, format!("{tool} is no shell tool")))
        };
        result.into()
    }

    /// Settles a call whose result is missing. A `bash` whose command still runs is adopted: its end is waited for.
    ///
    /// After [`Settled::NeverBegan`] the claim of `job.attempt` is taken for good: the call is started again with
    /// `call.start` = `job.attempt` + 1. The other tools are run again here.
    pub async fn recover(&self, ask: &Ask, job: JobFacts) -> Settled {
        if ask.call.tool == BASH.name {
            return run::recover(&self.shared, ask, &job).await;
        }
        if ask.call.tool == BASH_INPUT.name {
            return Settled::Outcome(give::input(&self.shared, ask, true).await.into());
        }
        Settled::Outcome(self.run(ask).await)
    }

    /// Ends one running command; the `run` that waits for it then returns its outcome. One that has not begun does not.
    pub async fn cancel(&self, thread: ThreadId, intent: Seq) {
        let keeper = self.shared.keeper(thread).await;
        keeper.cancel(&self.shared, intent.0).await;
    }

    /// The same, and waits for the end of its last process; false where that has not come by then. A keeper that does not
    /// answer is killed, and whatever runs under it.
    pub async fn end_job(&self, thread: ThreadId, intent: Seq, deadline: Duration) -> bool {
        let keeper = self.shared.keeper(thread).await;
        keeper.end_job(&self.shared, intent.0, deadline).await
    }

    /// Ends everything that the thread's commands started, and its keeper. What was asked for and has not begun is
    /// answered with `CANCELLED`. A keeper that takes longer than `deadline` is killed.
    pub async fn kill_all(&self, thread: ThreadId, deadline: Duration) {
        let keeper = self.shared.keeper(thread).await;
        keeper.end(&self.shared, deadline).await;
    }

    /// The thread's jobs: every call with a live process. Starts no keeper.
    pub async fn jobs(&self, thread: ThreadId) -> Vec<JobState> {
        let keeper = self.shared.keeper(thread).await;
        let Some(link) = keeper.attach(&self.shared).await else { return Vec::new() };
        link.list().await.unwrap_or_default()
    }

    /// How a job ended; none while it may run. Starts no keeper.
    pub async fn end_of(&self, thread: ThreadId, job: JobId) -> Option<JobEnd> {
        let keeper = self.shared.keeper(thread).await;
        match keeper.known(&self.shared, job.0, None).await {
            Known::Running(..) | Known::Ended { survives: true, .. } => None,
            Known::Ended { status, .. } => {
                let how = report::end(&status);
                Some(JobEnd { how, at: Some(Timestamp(status.ended_ms)), bytes: status.bytes })
            }
            Known::Nothing => {
                let how = "how it ended was not recorded".to_owned();
                Some(JobEnd { how, at: None, bytes: spool::length(&keeper.spool(job.0)) })
            }
        }
    }

    /// From now on no keeper is started: what would need one is answered with `CANCELLED`.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
    }

    /// Ends every keeper that this runtime has dealt with, and waits for them.
    pub async fn shutdown(&self) {
        let keepers: Vec<_> = self.shared.keepers.lock().await.values().cloned().collect();
        let mut ends = JoinSet::new();
        for keeper in keepers {
            let shared = self.shared.clone();
            ends.spawn(boxed(async move { keeper.end(&shared, SHUTDOWN_WITHIN).await }));
        }
        while ends.join_next().await.is_some() {}
        let mut helpers = self.shared.helpers.lock().await;
        // A helper ends with its keeper.
        let _ = timeout(SHUTDOWN_WITHIN, async { while helpers.join_next().await.is_some() {} }).await;
    }
}

impl std::fmt::Debug for BashTools {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = *self.shared.counts.borrow();
        out.debug_struct("BashTools").field("settings", &self.shared.settings).field("counts", &counts).finish()
    }
}
