//! `/tools/bash`: commands. Parent `/tools`, permanent; keepers that still live are attached when they are needed.
//!
//! A command runs under its thread's keeper, a process of its own (`keeper/`), which outlives this one for a while. So
//! the end of an actor, of a waiting call or of the whole runtime is not the end of a command: whoever comes next asks
//! the keeper, or reads what it wrote down. Read `run.rs` first.
//!
//! **Invariant:** a (call, attempt) runs at most once, whoever asks however often: its claim is taken once.
//! **Invariant:** only a deadline, a cancel, `bash_kill`, a stop and the lease end a command; a dropped future does not.

mod client;
mod command;
mod counts;
mod env;
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
pub use job::JobId;
pub use kill::{BASH_KILL, KillArgs};
pub use list::{BASH_LIST, ListArgs};
pub use output::{BASH_OUTPUT, OutputArgs};
pub use runner::{BashSettings, BashTools, JobFacts, OutputSink};
pub use starter::KeeperStarter;
