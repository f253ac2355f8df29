//! The command line: what is typed becomes a call of the library, what comes of it becomes output and an exit code.

mod args;
mod consent;
mod demo;
mod doctor;
mod gateway;
mod handover;
mod hear;
mod hidden;
mod log;
mod model;
pub mod operate;
mod paths;
mod providers;
mod run;
mod secrets;
mod signals;
pub mod terminal;
mod token;
mod up;

use std::fmt;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use lakitu_actors::tools::file::pdf::Reader;
use lakitu_keeper::Zygote;
use lakitu_kernel::{ErrorCode, ToolError};

pub use args::Cli;
use args::Command;
pub use secrets::Secrets;

/// Why a command could not do what was asked, with the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub exit: u8,
    /// One paragraph for a person.
    pub message: String,
}

impl Failure {
    /// Usage, configuration, or something named by the user that is not there.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: 2, message: message.into() }
    }

    /// Whether it is the lack of any model.
    pub(crate) fn is_no_model(&self) -> bool {
        self.message == model::NO_MODEL
    }

    /// Anything else.
    pub fn other(message: impl Into<String>) -> Self {
        Self { exit: 1, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        let exit = match error.code {
            ErrorCode::InvalidConfig
            | ErrorCode::NotConfined
            | ErrorCode::ThreadNotFound
            | ErrorCode::CheckpointNotFound
            | ErrorCode::ArtifactNotFound
            | ErrorCode::BeadNotFound
            | ErrorCode::InvalidArguments => 2,
            ErrorCode::StoreBusy | ErrorCode::AddressInUse => 75,
            ErrorCode::GatewayUnreachable | ErrorCode::GatewayRefused => 4,
            _ => 1,
        };
        Self { exit, message: error.to_string() }
    }
}

/// Everything that `main` prepares before the first thread.
pub struct Prepared {
    /// Who starts keepers; none where the command runs nothing.
    pub zygote: Option<Zygote>,
    /// Secrets that were taken out of the environment.
    pub secrets: Secrets,
}

/// Whether the command that was typed runs tools, or tries how they would run, and so needs a zygote. Looked at before
/// anything is parsed: the zygote is forked first of all.
pub fn runs_tools(mut args: impl Iterator<Item = std::ffi::OsString>) -> bool {
    args.any(|arg| ["up", "run", "continue", "resume", "demo", "doctor", "rollback"].iter().any(|name| arg == *name))
}

/// This very program reads documents, in a process of its own.
fn reader() -> Reader {
    Reader::at("/proc/self/exe")
}

/// Does what was typed.
pub fn main(prepared: Prepared) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // A closed pipe is no reason to fail.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match dispatch(cli, prepared) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure.message);
            ExitCode::from(failure.exit)
        }
    }
}

/// A failure before anything was parsed.
pub fn fail(message: &str) -> ExitCode {
    complain(message);
    ExitCode::FAILURE
}

/// A result, for standard output. A reader that had enough is nothing wrong.
fn put(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("the result cannot be written: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A diagnostic, for standard error. Names of others' files and others' words may stand in it.
fn complain(message: &str) {
    use std::io::Write;
    let mut shown = "lakitu: ".to_owned();
    terminal::escape::Filter::new().push(message, &mut shown);
    if let Some(width) = terminal::Facts::detect().width {
        let lines = shown.lines().flat_map(|line| terminal::words::folded(line, width));
        shown = lines.collect::<Vec<_>>().join("\n");
    }
    // A terminal that is gone is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{shown}");
}

/// The runtime cannot go on: ends the process. What was acknowledged is durable, and `resume` goes on from it.
fn give_up(why: String) {
    complain(&format!("the runtime gave up: {why}"));
    std::process::exit(70);
}

/// `lakitu completions`
fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lakitu", &mut script);
    put(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

fn dispatch(cli: Cli, prepared: Prepared) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Up(args) => up::up(&global, &args, prepared),
        Command::Run(args) => run::run(&global, args, prepared),
        Command::Continue(args) => run::continue_thread(&global, args, prepared),
        Command::Resume(args) => run::resume(&global, args, prepared),
        Command::Demo(args) => demo::demo(&global, args, prepared),
        Command::Doctor(args) => doctor::doctor(&global, &args, prepared),
        Command::Gateway(args) => gateway::gateway(&global, args, &prepared),
        Command::Token(command) => token::token(&global, &command, &prepared),
        Command::Completions { shell } => completions(shell),
        Command::Operate(command) => operate::run(&global, &command, prepared),
    }
}
