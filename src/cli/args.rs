//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use super::operate::OperateCommand;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// The runtime of an autonomous coding agent: kill it anywhere, and nothing is lost, nothing is done twice.
#[derive(Debug, Parser)]
#[command(name = "lakitu", version, arg_required_else_help = true, after_help = EXITS)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "\
Exit codes: 0 completed · 1 failed · 2 usage or configuration · 3 checkpointed by a limit (`lakitu resume` goes on)
            4 gateway out of reach or refusing · 70 the runtime gave up · 75 another process owns the data · 130 interrupted

Try it with nothing configured:  lakitu demo";

/// What every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// A configuration file, over /etc/lakitu/lakitu.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory [default: one of the workspace's own, under the state directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Only results, no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// More to see: what tools put out
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Machine-readable output
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one prompt in a workspace
    Run(RunArgs),
    /// Give an existing thread its next prompt, with its whole history
    Continue(ContinueArgs),
    /// Go on from where a thread stopped: crash, timeout, kill, Ctrl-C
    Resume(ResumeArgs),
    /// See it work: a real repository with a failing test, a scripted model, nothing to configure
    Demo(DemoArgs),
    /// Look into a runtime, its threads and its database
    #[command(flatten)]
    Operate(OperateCommand),
}

/// What `run`, `continue` and `resume` take.
#[derive(Debug, Clone, Default, Args)]
pub struct RunFlags {
    /// Where the agent works [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Where it puts what it makes [default: <data>/artifacts]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// The model, as the gateway names it
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// How the agent works
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Turns of this run; past it the thread is checkpointed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_turns: Option<u32>,
    /// Time of this run (90s, 10m); past it the thread is checkpointed
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// An OpenAI-compatible server, with or without a trailing /v1
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// The file with the gateway's token [default: the variable `LAKITU_TOKEN`]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A model script in place of a model
    #[arg(long, value_name = "FILE", conflicts_with = "gateway")]
    pub script: Option<PathBuf>,
    /// What to print: text, one JSON object, or every event a line
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// How the agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Think and plan
    Plan,
    /// Change and test
    Build,
    /// Read and criticise
    Review,
    /// Reproduce and fix
    Debug,
    /// Map the code
    Explore,
}

impl Mode {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Plan => "plan",
            Mode::Build => "build",
            Mode::Review => "review",
            Mode::Debug => "debug",
            Mode::Explore => "explore",
        }
    }
}

/// What a run prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person
    #[default]
    Text,
    /// One object at the end
    Json,
    /// Every event a line, the object last
    StreamJson,
}

/// `lakitu run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to do; `-`, or nothing with piped input: read from standard input
    pub prompt: Option<String>,
    /// How.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `lakitu continue`
#[derive(Debug, Args)]
pub struct ContinueArgs {
    /// The thread, as `lakitu threads ls` shows it
    #[arg(required_unless_present = "last")]
    pub thread: Option<String>,
    /// What to do next; `-`, or nothing with piped input: read from standard input
    pub prompt: Option<String>,
    /// The newest thread of this workspace, in place of THREAD
    #[arg(long)]
    pub last: bool,
    /// How.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `lakitu resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The thread [default: the newest unfinished one]
    pub thread: Option<String>,
    /// End commands that survived before going on
    #[arg(long)]
    pub no_adopt: bool,
    /// How.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `lakitu demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to put the repository and the data [default: a new directory under the temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

impl From<Output> for super::terminal::Output {
    fn from(output: Output) -> Self {
        match output {
            Output::Text => Self::Text,
            Output::Json => Self::Json,
            Output::StreamJson => Self::StreamJson,
        }
    }
}
