//! `/store`: one redb file, one writer. Parent `/`, permanent; rebuilt from the file (verified, repaired, set aside or
//! refused).
//!
//! **Invariant:** only this actor writes the database; what belongs together is one [`Step`].
//! **Invariant:** at most one commit is under way; what arrives meanwhile shares the next one. No timer: an idle writer
//! commits at once.
//! **Invariant:** a successor opens the file only when its predecessor's last commit has ended.
//!
//! Read `step` first (what is committed), then `row` and a table (`tables/jobs.rs`), then `commit` (the writer).

mod backup;
mod blob_files;
mod commit;
mod compact;
mod damaged;
mod error;
#[cfg(test)]
mod faults;
mod handle;
mod home;
mod key;
mod offline;
mod open;
pub mod query;
mod read;
mod registry;
mod repair;
mod row;
mod salvage;
pub mod statistics;
mod step;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::Hash;
use lakitu_kernel::limits::STEPS_QUEUED_MAX;
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError, boxed};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::blocking::spawn_blocking;
use commit::{Opening, Writer};

pub use backup::Backup;
pub use compact::Compacted;
pub use error::StoreError;
pub use handle::{Store, StoreOptions};
pub use key::Key;
pub use offline::OpenStore;
pub use open::{CACHE_BYTES, Opened};
pub use read::{Page, Reading, TableInfo};
pub use repair::Repair;
pub(crate) use row::hex;
pub use row::{Index, Row};
pub use salvage::Salvage;
pub use step::{Committed, Step};
pub use tables::*;
pub use verify::{Finding, Findings, verify};

/// What the store can be told.
#[derive(Debug)]
pub enum StoreMsg {
    /// Commit a step. The answer comes when it is durable.
    Submit {
        /// The step; shared, because a sender keeps it until it has the answer.
        step: Arc<Step>,
        /// Where the answer goes.
        reply: Reply<Result<Committed, StoreError>>,
    },
    /// Give what the file does not need back to the disk, when nothing is to be committed.
    Compact {
        /// Where the answer goes.
        reply: Reply<Result<Compacted, StoreError>>,
    },
    /// The writer has ended what it did.
    Idle,
    /// Files of blobs that nothing named when they were looked at.
    Orphans(Vec<Hash>),
}

impl Message for StoreMsg {
    fn name(&self) -> &'static str {
        match self {
            StoreMsg::Submit { .. } => "Submit",
            StoreMsg::Compact { .. } => "Compact",
            StoreMsg::Idle => "Idle",
            StoreMsg::Orphans(_) => "Orphans",
        }
    }
}

/// What the actor is started from; see [`Store::args`].
#[derive(Clone)]
pub struct StoreArgs {
    opening: Opening,
}

type Waiting = (Arc<Step>, Reply<Result<Committed, StoreError>>);

/// The actor: what waits, and what the writer is doing. The writer itself works on a thread that may block.
pub struct StoreActor {
    me: Me<StoreMsg>,
    writer: Arc<Writer>,
    queue: VecDeque<Waiting>,
    orphans: Vec<Hash>,
    compacting: Option<Reply<Result<Compacted, StoreError>>>,
    // Ends with the work that is under way; none: the writer is idle.
    working: Option<oneshot::Receiver<Result<(), String>>>,
    tasks: JoinSet<()>,
    commits: u64,
    steps: u64,
}

/// How long a start waits for its predecessor's last commit. Past it the start has failed and is tried again.
const PREDECESSOR_DEADLINE: Duration = Duration::from_secs(20);
/// Steps of one commit: more would keep the first of them waiting.
const GROUP_MAX: usize = 256;

/// What the writer does at a time.
enum Work {
    Commit(Vec<Waiting>),
    Sweep(Vec<Hash>),
    Compact(Reply<Result<Compacted, StoreError>>),
}

impl Work {
    /// Blocks. Answers come from here, so that a restart of the actor does not lose them.
    fn run(self, writer: &Writer) {
        match self {
            Work::Commit(group) => {
                let (steps, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
                for (reply, result) in replies.into_iter().zip(writer.commit(&steps)) {
                    reply.send(result);
                }
                writer.restore_ballast();
            }
            Work::Compact(reply) => reply.send(writer.compact()),
            Work::Sweep(orphans) => {
                if let Err(error) = writer.sweep(&orphans) {
                    tracing::warn!(%error, "files that no blob names could not be removed");
                }
            }
        }
    }
}

impl StoreActor {
    /// Takes notice of ended work. `Err`: the writer panicked, its database is not to be trusted any more.
    fn settle(&mut self, ended: Result<Result<(), String>, oneshot::error::RecvError>) -> Result<(), Crash> {
        self.working = None;
        self.me.gauge(0, self.commits);
        self.me.gauge(1, self.steps);
        self.me.gauge(2, self.writer.file_bytes());
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Crash::new(format!("the writer failed: {why}"))),
            Err(error) => Err(Crash::new(format!("the writer was lost: {error}"))),
        }
    }

    /// Looks whether the writer has ended, without waiting for it.
    fn look(&mut self) -> Result<(), Crash> {
        let Some(working) = self.working.as_mut() else { return Ok(()) };
        match working.try_recv() {
            Ok(ended) => self.settle(Ok(ended)),
            Err(oneshot::error::TryRecvError::Empty) => Ok(()),
            Err(oneshot::error::TryRecvError::Closed) => self.settle(Ok(Err("its task ended".to_owned()))),
        }
    }

    /// Gives an idle writer what waits.
    fn go_on(&mut self) {
        if self.working.is_some() {
            return;
        }
        let group: Vec<Waiting> = self.queue.drain(..self.queue.len().min(GROUP_MAX)).collect();
        let work = if !group.is_empty() {
            self.commits += 1;
            self.steps += group.len() as u64;
            Work::Commit(group)
        } else if let Some(reply) = self.compacting.take() {
            Work::Compact(reply)
        } else if !self.orphans.is_empty() {
            Work::Sweep(std::mem::take(&mut self.orphans))
        } else {
            return;
        };
        let (writer, address) = (self.writer.clone(), self.me.address().clone());
        let (end, working) = oneshot::channel();
        self.working = Some(working);
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(boxed(async move {
            let ended = spawn_blocking(move || work.run(&writer)).await;
            let _ = end.send(ended.map_err(|error| error.to_string()));
            // A full mailbox holds messages at which the actor looks by itself; a closed one belongs to nobody.
            let _ = address.send(StoreMsg::Idle);
        }));
    }
}

/// The ballast is written when the first steps are durable: they would wait for its 4 MiB.
const BALLAST_AFTER: Duration = Duration::from_secs(2);

/// What can wait until the store runs: blobs' files that a crash left without a row, and the ballast.
async fn tidy(writer: Arc<Writer>, me: Me<StoreMsg>) {
    let looking = writer.clone();
    match spawn_blocking(move || looking.orphans()).await {
        // Lost where the mailbox is full: the next start finds them again.
        Ok(Ok(orphans)) if !orphans.is_empty() => me.address().tell(StoreMsg::Orphans(orphans)),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the blobs' files could not be looked through"),
        Err(error) => tracing::warn!(%error, "the look through the blobs' files failed"),
    }
    sleep(BALLAST_AFTER).await;
    if let Err(error) = spawn_blocking(move || writer.keep_ballast()).await {
        tracing::warn!(%error, "the ballast could not be written");
    }
}

impl Service for StoreActor {
    type Msg = StoreMsg;
    type Args = StoreArgs;
    const KIND: &'static str = "store";
    const GAUGES: &'static [&'static str] = &["commits", "steps", "file_bytes"];

    async fn start(args: StoreArgs, me: Me<StoreMsg>) -> Result<Self, StartError> {
        let StoreArgs { opening } = args;
        let shared = opening.shared.clone();
        let owner = timeout(PREDECESSOR_DEADLINE, shared.owner.clone().lock_owned())
            .await
            .map_err(|_| StartError::new("the predecessor's commit has not ended"))?;
        let writer = match spawn_blocking(move || Writer::open(opening, owner)).await? {
            Ok((writer, opened)) => {
                shared.start.send_replace(Some(Ok(opened)));
                Arc::new(writer)
            }
            Err(error) => {
                let why = StartError::new(format!("{}: {error}", error.code()));
                shared.start.send_replace(Some(Err(error)));
                return Err(why);
            }
        };
        me.gauge(2, writer.file_bytes());
        let mut tasks = JoinSet::new();
        tasks.spawn(boxed(tidy(writer.clone(), me.clone())));
        let (queue, orphans) = (VecDeque::new(), Vec::new());
        Ok(Self { me, writer, queue, orphans, compacting: None, working: None, tasks, commits: 0, steps: 0 })
    }

    async fn handle(&mut self, msg: StoreMsg) -> Result<(), Crash> {
        match msg {
            StoreMsg::Submit { reply, .. } if self.queue.len() >= STEPS_QUEUED_MAX => {
                reply.send(Err(StoreError::Unavailable));
            }
            StoreMsg::Submit { step, reply } => self.queue.push_back((step, reply)),
            StoreMsg::Compact { reply } if self.compacting.is_some() => reply.send(Err(StoreError::Unavailable)),
            StoreMsg::Compact { reply } => self.compacting = Some(reply),
            StoreMsg::Orphans(orphans) => self.orphans = orphans,
            StoreMsg::Idle => {}
        }
        self.look()?;
        self.go_on();
        Ok(())
    }

    async fn stop(&mut self) {
        // What was taken in is committed: nobody would tell its senders otherwise.
        self.orphans.clear();
        self.compacting = None;
        self.writer.leave();
        while let Some(working) = self.working.take() {
            let ended = working.await;
            if let Err(crash) = self.settle(ended) {
                tracing::error!(%crash, "the store stops with steps that were not committed");
                return;
            }
            self.go_on();
        }
        // The tidying holds the writer too: the database is closed when the last of them lets go.
        self.tasks.shutdown().await;
    }
}
