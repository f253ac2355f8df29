//! `/tools/bash`: commands. Parent `/tools`, permanent; keepers that still live are attached when they are needed.
//!
//! A command runs under its thread's keeper, a process of its own (`keeper/`), which outlives this one for a while. So
//! the end of an actor, of a waiting call or of the whole runtime is not the end of a command: whoever comes next asks
//! the keeper, or reads what it wrote down. Read `run.rs` first.
//!
//! **Invariant:** a (call, attempt) runs at most once, whoever asks however often: its claim is taken once.
//! **Invariant:** only `bash_kill`, a cancel, a stop, its lifetime and the lease end a command; the end of the call that
//! started it does not, nor a dropped future.
//!
//! The actor owns nothing of this: it keeps the door, and its gauges say what goes on behind it.

use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError, boxed};
use tokio::sync::watch;
use tokio::task::JoinSet;

mod client;
mod command;
pub mod confine;
mod counts;
mod env;
mod give;
mod input;
mod job;
mod jobs;
mod keeper_of;
mod kill;
mod list;
mod output;
mod place;
mod report;
mod run;
mod runner;
mod spool;
mod starter;

pub use command::{BASH, BashArgs};
pub use counts::Counts;
pub use input::{BASH_INPUT, InputArgs};
pub use job::JobId;
pub use kill::{BASH_KILL, KillArgs};
pub use list::{BASH_LIST, ListArgs};
pub use output::{BASH_OUTPUT, OutputArgs};
pub use runner::{BashSettings, BashTools, JobEnd, JobFacts, OutputSink};
pub use starter::KeeperStarter;

/// What `/tools/bash` can be told.
#[derive(Debug)]
pub enum BashMsg {
    /// A call wants in.
    Enter {
        /// Gets the tools.
        reply: Reply<BashTools>,
    },
    /// A keeper ended without being asked to.
    KeeperLost,
}

impl Message for BashMsg {
    fn name(&self) -> &'static str {
        match self {
            BashMsg::Enter { .. } => "Enter",
            BashMsg::KeeperLost => "KeeperLost",
        }
    }
}

/// The actor at `/tools/bash`.
#[derive(Debug)]
pub struct BashActor {
    tools: BashTools,
    _gauges: JoinSet<()>,
}

impl Service for BashActor {
    type Msg = BashMsg;
    type Args = BashTools;
    const KIND: &'static str = "tool";
    const GAUGES: &'static [&'static str] = &["jobs", "keepers", "keepers_lost"];

    async fn start(tools: BashTools, me: Me<BashMsg>) -> Result<Self, StartError> {
        let mut gauges = JoinSet::new();
        gauges.spawn(boxed(show(tools.counts(), me)));
        Ok(Self { tools, _gauges: gauges })
    }

    async fn handle(&mut self, msg: BashMsg) -> Result<(), Crash> {
        match msg {
            BashMsg::Enter { reply } => {
                reply.send(self.tools.clone());
                Ok(())
            }
            // Counted like a crash: where keepers die again and again, commands are refused for a while.
            BashMsg::KeeperLost => Err(Crash::new("a keeper ended without being asked to")),
        }
    }
}

async fn show(mut counts: watch::Receiver<Counts>, me: Me<BashMsg>) {
    let mut lost = counts.borrow().keepers_lost;
    loop {
        let now = *counts.borrow_and_update();
        for (index, value) in [now.jobs, now.keepers, now.keepers_lost].into_iter().enumerate() {
            me.gauge(index, value as u64);
        }
        if now.keepers_lost > lost {
            lost = now.keepers_lost;
            me.address().tell(BashMsg::KeeperLost);
        }
        if counts.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
