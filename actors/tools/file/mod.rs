//! `/tools/file`: the door to files. Parent `/tools`, permanent: it holds no state of its own, so a restart costs nothing.
//! Hands out what the calls share; the calls themselves run as tasks of the registry of running effects.
//!
//! Read `redo` first (what a write is), then `view` (what a read shows), `edit` (the pure core), `locks`.
//!
//! **Invariant:** `prepare` and recovery's first look write nothing; a write carries out bytes that are durable already.
//! **Invariant:** a path's lock is held until the result of the call that changed it is durable.

use std::path::PathBuf;
use std::sync::Arc;

use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::error::{ErrorCode, ToolError};
use lakitu_kernel::limits::PREPARE_DEADLINE;
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError};
use lakitu_kernel::tool::{ToolCall, ToolOutcome};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

mod carry;
mod closest;
mod compare;
mod diff;
mod edit;
mod listing;
mod locks;
mod multi_edit;
mod patch;
pub mod pdf;
mod picture;
mod read;
mod redo;
mod restore;
mod search;
#[cfg(test)]
mod tests;
mod unified;
mod view;
mod write;

pub use edit::{EditArgs, FILE_EDIT, Replace};
pub use locks::PathLocks;
pub use multi_edit::{MULTI_EDIT, MultiEditArgs};
pub use patch::{APPLY_PATCH, PatchArgs};
pub use read::{FILE_READ, ReadArgs};
pub use restore::{Found, PutBack};
pub use search::{GLOB, GREP, GlobArgs, GrepArgs, LS, LsArgs, OutputMode};
pub use unified::{Side, unified};
pub use write::{FILE_WRITE, WriteArgs};

pub(crate) use carry::line_changes;
pub(crate) use read::whole;
pub(crate) use search::Level;

use crate::tools::workspace::{FileError, Roots};
use crate::tools::{Ask, Place, Redo, Settled};
use locks::LockTable;
use search::{SEARCH_DEADLINE, Span};

/// Calls that use the disk at a time; the others wait. More would only keep threads busy.
const CALLS_AT_A_TIME: usize = 16;
/// How often a path is located again that leads elsewhere once its lock is held.
const RELOCATED_MAX: u32 = 3;

/// Another name of an argument, and its own.
type Alias = (&'static str, &'static str);

/// How models call a path.
const PATH_ALIASES: [Alias; 3] = [("file_path", "path"), ("filePath", "path"), ("filename", "path")];

/// Both lists as one, of `ALL` names; another number does not compile.
const fn aliases<const ONE: usize, const TWO: usize, const ALL: usize>(
    one: [Alias; ONE],
    two: [Alias; TWO],
) -> [Alias; ALL] {
    assert!(ONE + TWO == ALL, "as many as there are in both");
    let mut all = [("", ""); ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < ONE { one[at] } else { two[at - ONE] };
        at += 1;
    }
    all
}

/// What the calls of this category share.
///
/// It lives in the wiring, and the actor hands it out: locks survive a restart of the actor.
#[derive(Debug, Clone)]
pub struct FileTools(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    outputs: PathBuf,
    data: PathBuf,
    locks: LockTable,
    permits: Arc<Semaphore>,
    /// Turns documents into text.
    reader: pdf::Reader,
}

/// A redo record, and the locks on its paths: to be held until the call's result is durable.
#[derive(Debug)]
pub struct Prepared {
    /// What is to be done.
    pub redo: Redo,
    /// On every path of it.
    pub locks: PathLocks,
}

/// A call's arguments by tool.
#[derive(Debug)]
enum Args {
    Read(ReadArgs),
    Glob(GlobArgs),
    Grep(GrepArgs),
    Ls(LsArgs),
    Write(WriteArgs),
    Edit(EditArgs),
    MultiEdit(MultiEditArgs),
    Patch(patch::Patch),
}

impl Args {
    fn of(call: &ToolCall) -> Result<Self, FileError> {
        fn typed<T: DeserializeOwned>(call: &ToolCall) -> Result<T, FileError> {
            T::deserialize(&call.arguments)
                .map_err(|error| FileError::Fault(format!("unchecked arguments of {}: {error}", call.tool)))
        }
        match call.tool {
            name if name == FILE_READ.name => typed(call).map(Self::Read),
            name if name == GLOB.name => typed(call).map(Self::Glob),
            name if name == GREP.name => typed(call).map(Self::Grep),
            name if name == LS.name => typed(call).map(Self::Ls),
            name if name == FILE_WRITE.name => typed(call).map(Self::Write),
            name if name == FILE_EDIT.name => typed(call).map(Self::Edit),
            name if name == MULTI_EDIT.name => typed(call).map(Self::MultiEdit),
            name if name == APPLY_PATCH.name => typed(call).and_then(|args: PatchArgs| {
                patch::Patch::parse(&args.patch).map(Self::Patch).map_err(FileError::Fault)
            }),
            other => Err(FileError::Fault(format!("{other} is no tool of this category"))),
        }
    }

    /// The paths of the files that the call changes.
    fn paths(&self) -> Vec<&str> {
        match self {
            Self::Read(_) | Self::Glob(_) | Self::Grep(_) | Self::Ls(_) => Vec::new(),
            Self::Write(args) => vec![&args.path],
            Self::Edit(args) => vec![&args.path],
            Self::MultiEdit(args) => vec![&args.path],
            Self::Patch(patch) => patch.paths(),
        }
    }
}

/// What is done on files, which hands its outcome on itself.
type Work = Box<dyn FnOnce(&Roots, &Ask) + Send>;

impl FileTools {
    /// `outputs` may be read by every call; everything else in `data` is out of reach, wherever it lies.
    pub fn new(outputs: PathBuf, data: PathBuf, reader: pdf::Reader) -> Self {
        let permits = Arc::new(Semaphore::new(CALLS_AT_A_TIME));
        Self(Arc::new(Shared { outputs, data, locks: LockTable::default(), permits, reader }))
    }

    /// The names of paths for rules: each as it was given, and as links lead it. Relative to the workspace, or absolute.
    pub async fn names(&self, place: &Arc<Place>, paths: Vec<String>) -> Result<Vec<Vec<String>>, ToolError> {
        let (shared, place, given) = (self.0.clone(), place.clone(), paths.clone());
        let found = crate::blocking::spawn_blocking(move || {
            let roots = Roots::open(&place, &shared.outputs, &shared.data).ok()?;
            Some(given.iter().map(|path| roots.names(path)).collect())
        });
        let found = timeout(PREPARE_DEADLINE, found).await.map_err(|_| {
            let s = PREPARE_DEADLINE.as_secs();
            ToolError::new(
                ErrorCode::Timeout,
                format!("what the paths lead to was not found out within {s} s; nothing ran"),
            )
        })?;
        // A workspace that cannot be opened is nowhere that a link could lead from.
        Ok(found.ok().flatten().unwrap_or_else(|| paths.into_iter().map(|path| vec![path]).collect()))
    }

    /// Computes the redo record of a `verifiable` call and takes the locks of its paths. Writes nothing.
    pub async fn prepare(&self, ask: &Ask) -> Result<Prepared, ToolError> {
        let deadline = Instant::now() + PREPARE_DEADLINE;
        let holder = (ask.call.thread, ask.call.intent);
        for _ in 0..RELOCATED_MAX {
            let located = self.blocking(ask, |roots, ask| redo::locate(roots, &Args::of(&ask.call)?.paths()));
            let paths = within(deadline, located).await?;
            let locks = self.0.locks.take(paths, holder, deadline).await?;
            let planned = self.blocking(ask, |roots, ask| match Args::of(&ask.call)? {
                Args::Write(args) => redo::plan_write(roots, &args, &ask.known),
                Args::Edit(args) => redo::plan_edit(roots, &args, &ask.known),
                Args::MultiEdit(args) => redo::plan_multi_edit(roots, &args, &ask.known),
                Args::Patch(patch) => patch::plan_patch(roots, &patch, &ask.known),
                Args::Read(_) | Args::Glob(_) | Args::Grep(_) | Args::Ls(_) => {
                    Err(FileError::Fault("a read has no redo record".to_owned()))
                }
            });
            let (paths, redo) = within(deadline, planned).await?;
            // A link on the path may have been turned while the lock was waited for.
            if locks.are_of(&paths) {
                return Ok(Prepared { redo, locks });
            }
        }
        Err(FileError::Changed("the path leads to another file each time it is looked at; try again".to_owned()).into())
    }

    /// Computes the redo record that puts files back, and takes the locks of their paths. Writes nothing. Fails with
    /// `CONFLICT`, naming them, where files are not what they may be.
    ///
    /// The call of `ask` is looked at for its key alone.
    pub async fn prepare_put_back(&self, ask: &Ask, files: Vec<PutBack>) -> Result<Prepared, ToolError> {
        let deadline = Instant::now() + PREPARE_DEADLINE;
        let files = Arc::new(files);
        let asked = files.clone();
        let places = self.blocking(ask, move |roots, _| restore::places(roots, &asked));
        let paths = within(deadline, places).await?;
        let locks = self.0.locks.take(paths, (ask.call.thread, ask.call.intent), deadline).await?;
        let planned = self.blocking(ask, move |roots, _| restore::plan(roots, &files));
        Ok(Prepared { redo: within(deadline, planned).await?, locks })
    }

    /// Carries out a redo record whose locks are held, whatever of it is done already.
    pub async fn put_back(&self, ask: &Ask, redo: &Redo) -> ToolOutcome {
        let redo = redo.clone();
        let settled = self.blocking(ask, move |roots, ask| {
            if ask.is_revoked() {
                return Err(FileError::Revoked);
            }
            crash_point(CrashPoint::BeforeEffect);
            let settled = carry::settle(roots, ask, &redo);
            crash_point(CrashPoint::AfterEffect);
            settled
        });
        match settled.await {
            Ok(Settled::Outcome(outcome)) => outcome,
            Ok(Settled::NeverBegan) => {
                ToolError::from(FileError::Fault("a record without an outcome".to_owned())).into()
            }
            Err(error) => ToolError::from(error).into(),
        }
    }

    /// Does it: a read, or the writes of a redo record.
    pub async fn run(&self, ask: &Ask, redo: Option<&Redo>) -> ToolOutcome {
        let redo = redo.cloned();
        let span = Span::of(SEARCH_DEADLINE);
        // Where nobody waits any more, a search ends; a write goes on to its end.
        let _stop = span.stop_on_drop();
        let reader = self.0.reader.clone();
        let done = self.blocking(ask, move |roots, ask| match (Args::of(&ask.call)?, &redo) {
            (Args::Read(args), _) => reading(|| read::read(roots, &args, &reader, &span)),
            (Args::Glob(args), _) => reading(|| search::glob(roots, &args, &span)),
            (Args::Grep(args), _) => reading(|| search::grep(roots, &args, &span)),
            (Args::Ls(args), _) => reading(|| search::ls(roots, &args)),
            (Args::Write(_) | Args::Edit(_) | Args::MultiEdit(_) | Args::Patch(_), redo) => match redo {
                Some(_) if ask.is_revoked() => Err(FileError::Revoked),
                Some(redo) => carry::apply(roots, ask, redo),
                None => Err(FileError::Fault("a write without a redo record".to_owned())),
            },
        });
        done.await.map_err(ToolError::from).into()
    }

    /// Settles a call whose result is missing after a restart of the runtime. What was done is not done again.
    pub async fn recover(&self, ask: &Ask, redo: Option<&Redo>) -> Settled {
        // Without a redo record it was never allowed to begin.
        let Some(redo) = redo.cloned() else { return Settled::NeverBegan };
        let settled = async {
            let paths = redo.clone();
            let mut paths = self
                .blocking(ask, move |roots, _| {
                    paths
                        .files
                        .iter()
                        .map(|file| Ok(roots.exact(&file.file.path)?.absolute()))
                        .collect::<Result<Vec<_>, _>>()
                })
                .await?;
            paths.sort_unstable();
            paths.dedup();
            let deadline = Instant::now() + PREPARE_DEADLINE;
            // Whoever holds them for so long does not keep this call from being settled: the hashes decide.
            let _locks = self.0.locks.take(paths, (ask.call.thread, ask.call.intent), deadline).await.ok();
            let settle = move |roots: &Roots, ask: &Ask| {
                if ask.is_revoked() { Err(FileError::Revoked) } else { carry::settle(roots, ask, &redo) }
            };
            self.blocking(ask, settle).await
        };
        settled.await.unwrap_or_else(|error: FileError| Settled::Outcome(ToolError::from(error).into()))
    }

    /// Runs `work` where it may wait for the disk. It goes on to its end even if nobody waits for it any more, and keeps
    /// the call's locks until then.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: &Ask,
        work: impl FnOnce(&Roots, &Ask) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let (told, mut done) = oneshot::channel();
        self.on_a_thread(ask, Box::new(move |roots, ask| drop(told.send(work(roots, ask))))).await?;
        done.try_recv().unwrap_or(Err(FileError::Stopping))
    }

    /// Behind one type, because there are many types of work.
    async fn on_a_thread(&self, ask: &Ask, work: Work) -> Result<(), FileError> {
        let permit = self.0.permits.clone().acquire_owned().await.map_err(|_| FileError::Stopping)?;
        let pins = self.0.locks.pin((ask.call.thread, ask.call.intent));
        let (shared, ask) = (self.0.clone(), ask.clone());
        let task = crate::blocking::spawn_blocking(move || {
            // Opened anew each time: a workspace that was removed and made again is found.
            let outcome = Roots::open(&ask.place, &shared.outputs, &shared.data).map(|roots| work(&roots, &ask));
            drop((permit, pins));
            outcome
        });
        match task.await {
            Ok(outcome) => outcome,
            // It is settled as any panic of a call, by its effect class.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(FileError::Stopping),
            },
        }
    }
}

/// What `/tools/file` can be told.
#[derive(Debug)]
pub enum FileMsg {
    /// A call wants in.
    Enter {
        /// Gets what the calls share.
        reply: Reply<FileTools>,
    },
}

impl Message for FileMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Enter { .. } => "Enter",
        }
    }
}

/// The actor.
#[derive(Debug)]
pub struct FileActor(FileTools);

impl Service for FileActor {
    type Msg = FileMsg;
    type Args = FileTools;
    const KIND: &'static str = "tool";

    async fn start(tools: FileTools, _: Me<FileMsg>) -> Result<Self, StartError> {
        Ok(Self(tools))
    }

    async fn handle(&mut self, msg: FileMsg) -> Result<(), Crash> {
        match msg {
            FileMsg::Enter { reply } => reply.send(self.0.clone()),
        }
        Ok(())
    }
}

/// A read, between the places at which it can be killed.
fn reading(read: impl FnOnce() -> Result<ToolOutcome, FileError>) -> Result<ToolOutcome, FileError> {
    crash_point(CrashPoint::BeforeEffect);
    let outcome = read();
    crash_point(CrashPoint::AfterEffect);
    outcome
}

async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, FileError>>) -> Result<T, FileError> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| {
        let seconds = PREPARE_DEADLINE.as_secs();
        Err(FileError::Timeout(format!("preparing this took longer than {seconds} s; nothing was written: try again")))
    })
}
