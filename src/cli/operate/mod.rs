//! Operators' commands: the actor tree, threads and the store of a data directory, over the debug socket of the runtime
//! that owns it, or from the file where nobody does.
//!
//! Start with [`OperateCommand`] (what can be typed), then `source` (who answers), then a command (`threads`).

mod artifacts;
mod beads;
mod checkpoints;
mod client;
mod db;
mod edits;
mod events;
mod forks;
mod node;
mod rollback;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod threads;
mod tools;
mod tree;
mod writing;

use self::artifacts::ArtifactsCommand;
use self::beads::BeadsCommand;
use self::checkpoints::CheckpointsCommand;
use self::db::DbCommand;
use self::edits::EditsCommand;
use self::node::PathArgs;
use self::threads::ThreadsCommand;
use self::tree::TreeArgs;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use clap::Subcommand;
use lakitu_kernel::clock::{Clock, System, Timestamp};
use serde::Serialize;

use self::client::{Client, ClientError};
use super::args::Global;
use super::terminal::escape::{json_line, printable};
use super::terminal::screen::width as terminal_width;
use super::{Failure, Prepared, paths};

/// Exit code: the named thing is unknown, or the question makes no sense.
const USAGE: u8 = 2;
/// Exit code: another process owns the data directory.
const OWNED: u8 = 75;

/// What operators can do: a part of the commands there are.
#[derive(Debug, Clone, Subcommand)]
pub enum OperateCommand {
    /// Show the actor tree of a running runtime
    Tree(TreeArgs),
    /// Show one actor: its numbers and its last messages
    Inspect(PathArgs),
    /// Restart an actor
    Restart(PathArgs),
    /// Stop an actor, until it is restarted
    Stop(PathArgs),
    /// Read threads, fork them, and replay them
    #[command(subcommand)]
    Threads(ThreadsCommand),
    /// List checkpoints, make them, and go back to them
    #[command(subcommand)]
    Checkpoints(CheckpointsCommand),
    /// List what agents saved for you, and write it out
    #[command(subcommand)]
    Artifacts(ArtifactsCommand),
    /// The task graph that agents work with: list beads, make them, change them, export and import
    #[command(subcommand)]
    Beads(BeadsCommand),
    /// See what threads changed in files, and take it back
    #[command(subcommand)]
    Edits(EditsCommand),
    /// List the tools that a model is offered, with what may be assumed of each
    Tools,
    /// Read, verify, copy and compact the store
    #[command(subcommand)]
    Db(DbCommand),
}

/// Does it, on standard output. The data directory is the one of `--data`, of `--config`, or of the workspace one
/// stands in.
pub fn run(global: &Global, command: &OperateCommand, prepared: Prepared) -> Result<u8, Failure> {
    let (data, json) = (&*paths::operators_data(global)?, global.json);
    let terminal = std::io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // Buffered: a thread has thousands of events. Flushed below, and by a tree that is watched.
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut err = std::io::stderr();
    let now = System.now();
    let width = terminal.then(|| terminal_width(std::io::stdout())).flatten();
    let mut operator = Operator { data, out: &mut out, err: &mut err, width, terminal, colour, json, now };
    let outcome = operate(&mut operator, command, (global, prepared)).and_then(|()| Ok(out.flush()?));
    done(outcome)
}

/// How many items a list shows: 1 to `MOST`.
fn limit<const MOST: usize>(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| format!("1 to {MOST}"))
}

fn operate(operator: &mut Operator<'_>, command: &OperateCommand, here: (&Global, Prepared)) -> anyhow::Result<()> {
    match command {
        OperateCommand::Tree(args) => tree::tree(operator, args),
        OperateCommand::Inspect(args) => node::inspect(operator, args),
        OperateCommand::Restart(args) => node::restart(operator, args),
        OperateCommand::Stop(args) => node::stop(operator, args),
        OperateCommand::Threads(command) => threads::threads(operator, command),
        OperateCommand::Checkpoints(command) => {
            writing::end_put_backs(operator)?;
            checkpoints::checkpoints(operator, command)
        }
        OperateCommand::Artifacts(command) => artifacts::artifacts(operator, command),
        OperateCommand::Beads(command) => beads::beads(operator, command),
        OperateCommand::Edits(EditsCommand::Ls(args)) => {
            writing::end_put_backs(operator)?;
            edits::ls(operator, args)
        }
        OperateCommand::Edits(EditsCommand::Diff(args)) => {
            writing::end_put_backs(operator)?;
            edits::diff(operator, args)
        }
        OperateCommand::Edits(EditsCommand::Rollback(args)) => rollback::rollback(operator, args, here),
        OperateCommand::Tools => tools::tools(operator),
        OperateCommand::Db(command) => db::db(operator, command),
    }
}

/// What a command works with.
struct Operator<'a> {
    /// The data directory: `--data`, `--config`'s, or that of the workspace one stands in.
    data: &'a Path,
    /// Results.
    out: &'a mut dyn Write,
    /// Diagnostics.
    err: &'a mut dyn Write,
    /// The columns of `out`, where it is a terminal that tells.
    width: Option<usize>,
    /// Whether `out` is a terminal.
    terminal: bool,
    /// Whether `out` may be coloured: a terminal, and no `NO_COLOR`.
    colour: bool,
    /// Whether JSON is printed.
    json: bool,
    /// The present time: ages count from it.
    now: Timestamp,
}

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
struct Refusal {
    /// The exit code.
    exit: u8,
    /// For a person.
    message: String,
}

impl Refusal {
    fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// What becomes of a command. A reader that had enough is nothing wrong.
fn done(outcome: anyhow::Result<()>) -> Result<u8, Failure> {
    let Err(error) = outcome else { return Ok(0) };
    if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::BrokenPipe) {
        return Ok(0);
    }
    let exit = error.downcast_ref::<Refusal>().map_or(1, |refusal| refusal.exit);
    Err(Failure { exit, message: printable(&format!("{error:#}")).into_owned() })
}

impl Operator<'_> {
    /// The runtime, where the command needs one.
    fn runtime(&self) -> anyhow::Result<Client> {
        match Client::connect(self.data) {
            Ok(client) => Ok(client),
            Err(ClientError::NoRuntime) => Err(Refusal::new(1, no_runtime(self.data)).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Prints a line of a person's.
    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "{}", line.trim_end())?)
    }

    /// Prints a line of many: of one that is wider than the terminal the beginning.
    fn row(&mut self, line: &str) -> anyhow::Result<()> {
        match self.width {
            Some(width) => self.line(&table::beginning(line.trim_end(), width)),
            None => self.line(line),
        }
    }

    /// Prints a line of JSON.
    fn print_json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "{}", json_line(value)?)?)
    }
}

fn no_runtime(data: &Path) -> String {
    format!(
        "no runtime serves {}. `lakitu run` has one for as long as it runs. Or name the data \
         directory of one that runs with --data DIR.",
        data.display()
    )
}
