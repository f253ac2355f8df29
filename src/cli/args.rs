//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::operate::OperateCommand;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

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
Exit codes:   0 completed            3 checkpointed by a limit: `lakitu resume` goes on
              1 failed               4 the gateway is out of reach or refuses: checkpointed
              2 usage, configuration, unknown thread
             70 the runtime gave up            75 another process owns the data or the port
            130 interrupted: checkpointed

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
    /// Start the runtime and stay: the entrypoint of a sandbox
    #[command(after_help = UP)]
    Up(UpArgs),
    /// Run one prompt in a workspace
    Run(RunArgs),
    /// Give an existing thread its next prompt, with its whole history
    Continue(ContinueArgs),
    /// Go on from where a thread stopped: crash, timeout, kill, Ctrl-C
    Resume(ResumeArgs),
    /// What works here, each line ok or missing, and how to get it
    #[command(
        after_help = "Exit codes: 0 a run would work · 1 what it needs is missing or fails · 2 usage or configuration"
    )]
    Doctor(DoctorArgs),
    /// See it work: a real repository with a failing test, a scripted model, nothing to configure
    Demo(DemoArgs),
    /// Serve providers to sandboxes: their keys stay here, sandboxes hold session tokens
    #[command(after_help = GATEWAY)]
    Gateway(GatewayArgs),
    /// Make and look into session tokens for the gateway
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look into a runtime, its threads and its database
    #[command(flatten)]
    Operate(OperateCommand),
    /// Print what makes a shell complete these commands
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

const COMPLETIONS: &str = "\
bash   source <(lakitu completions bash)                                      in ~/.bashrc
zsh    lakitu completions zsh > ~/.zfunc/_lakitu                              a directory of $fpath
fish   lakitu completions fish > ~/.config/fish/completions/lakitu.fish";

const UP: &str = "\
Prints one line once everything is up, and stays:

    lakitu ready api=http://127.0.0.1:3210 socket=/home/user/.lakitu/debug.sock pid=1 confinement=namespaces

It goes on with what was unfinished when the one before it was killed, and with what that one stopped
on SIGTERM; eight threads at a time ([limits] boot_threads). Commands in the same workspace and with
the same data hand their runs over to it and show them; Ctrl-C there checkpoints that run alone:

    lakitu run --data /home/user/.lakitu --workspace /home/user/workspace \"fix the failing test\"

No token and no model server has to be there at the start: runs wait for them.

SIGTERM or Ctrl-C: takes no more work, checkpoints what runs, ends every command, and exits with 0
within [supervision] shutdown_ms. A second one quits at once. The end of the terminal is ignored. As
the first process of a sandbox it reaps orphans.

Exit codes: 0 told to end · 2 usage or configuration, no workspace · 70 the runtime gave up
            75 another process owns the data directory (its pid is named), or the API's port is taken · 130 quit";

/// Who answers for the model: of every command that asks one.
#[derive(Debug, Clone, Default, Args)]
pub struct ModelFlags {
    /// The model, as the gateway names it
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// An OpenAI-compatible server, with or without a trailing /v1
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// The file with the gateway's token [default: the variable `LAKITU_TOKEN`]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A model script in place of a model
    #[arg(long, value_name = "FILE", conflicts_with = "gateway")]
    pub script: Option<PathBuf>,
}

/// `lakitu up`
#[derive(Debug, Default, Args)]
pub struct UpArgs {
    /// Where agents work; it must be there [default: [paths] workspace, /home/user/workspace]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Where they put what they make [default: [paths] artifacts, /home/user/artifacts]
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Who answers new threads.
    #[command(flatten)]
    pub source: ModelFlags,
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    read.ok_or_else(|| "a number over 0 with its unit is expected, such as 90s or 10m".to_owned())
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
    /// Who answers.
    #[command(flatten)]
    pub source: ModelFlags,
    /// How the agent works
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Turns of this run; past it the thread is checkpointed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_turns: Option<u32>,
    /// Time of this run (90s, 10m); past it the thread is checkpointed
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Let commands write wherever you may
    #[arg(long)]
    pub no_confine: bool,
    /// Ask on this terminal before anything is changed that no rule of [policy] allows
    #[arg(long)]
    pub ask: bool,
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

impl From<Mode> for lakitu_kernel::mode::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Plan => Self::Plan,
            Mode::Build => Self::Build,
            Mode::Review => Self::Review,
            Mode::Debug => Self::Debug,
            Mode::Explore => Self::Explore,
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
    /// The thread, as `lakitu threads ls` shows it; or --last
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

/// `lakitu doctor`
#[derive(Debug, Default, Args)]
pub struct DoctorArgs {
    /// Where an agent would work [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Who would answer.
    #[command(flatten)]
    pub source: ModelFlags,
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

const GATEWAY: &str = "\
Speaks OpenAI Chat Completions: POST /v1/chat/completions, GET /v1/models; also
POST /v1/token/refresh, GET /health. A model NAME/MODEL is asked of the upstream NAME, any other of
the first one by name. Upstreams stand in the configuration:

    [gateway.server]
    secret_file = \"gateway.secret\"
    [gateway.server.upstream.anthropic]
    kind = \"anthropic\"               # or openai, or script (with file in place of base_url)
    base_url = \"https://api.anthropic.com\"
    key_env = \"ANTHROPIC_API_KEY\"

Where there are none, each of OPENROUTER_API_KEY, ANTHROPIC_API_KEY and OPENAI_API_KEY (with
OPENAI_BASE_URL) that is set is one: openrouter, anthropic, openai.

Try it:  lakitu token mint --new-secret --secret-file gateway.secret > token
         lakitu gateway --secret-file gateway.secret
         lakitu run --gateway http://127.0.0.1:3211 --token-file token \"hello\"

A token's budget is counted in memory: it begins again with the process. Without a secret no token
is checked, and only programs of this machine are answered.

Exit codes: 0 stopped by a signal · 2 usage or configuration · 75 the port is taken";

/// `lakitu gateway`
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Where to listen [default: [gateway.server] bind, 127.0.0.1:3211]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<SocketAddr>,
    /// The file with the secret that tokens are signed with, 32 bytes or more [default: [gateway.server] `secret_file`]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// A model script in place of every upstream
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// `lakitu token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token, signed with the gateway's or the API's secret
    Mint(MintArgs),
    /// Print what a token says, when it ends, and whether its signature holds; exit code 1 where it is not valid
    Inspect(InspectArgs),
}

/// Who believes a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Audience {
    /// `lakitu gateway`
    #[default]
    Gateway,
    /// The HTTP API of `lakitu up`
    Api,
}

/// `lakitu token mint`
#[derive(Debug, Args)]
pub struct MintArgs {
    /// Whom it is for
    #[arg(long, value_enum, default_value_t)]
    pub audience: Audience,
    /// What it may do, in words with spaces between them [default: llm; for the API: api:read api:write]
    #[arg(long, value_name = "WORDS")]
    pub scope: Option<String>,
    /// The session that it is for [default: a new one]
    #[arg(long, value_name = "ID")]
    pub sub: Option<String>,
    /// How long it holds, at most 24h
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = duration)]
    pub ttl: Duration,
    /// The file with the secret [default: [gateway.server] `secret_file`; for the API: [api] `key_file`, else
    /// `<data>/api.key`]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Make the secret first; its file must not be there yet
    #[arg(long)]
    pub new_secret: bool,
    /// Tokens that the session may send
    #[arg(long, value_name = "N")]
    pub budget_input_tokens: Option<u64>,
    /// Tokens that the session may be answered
    #[arg(long, value_name = "N")]
    pub budget_output_tokens: Option<u64>,
    /// US dollars that the session may cost, by the gateway's configured prices
    #[arg(long, value_name = "USD")]
    pub budget_usd: Option<f64>,
}

/// `lakitu token inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The token; `-`: from standard input [default: `LAKITU_TOKEN`, else standard input]
    pub token: Option<String>,
    /// The file with the secret [default: [gateway.server] `secret_file`; for the API: [api] `key_file`, else
    /// `<data>/api.key`]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
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
