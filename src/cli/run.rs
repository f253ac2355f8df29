//! `run`, `continue`, `resume`: a thread in this process, to the end of its run.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;

use lakitu_actors::store::{ThreadRow, ThreadStatus, ThreadsBy};
use lakitu_actors::threads::agent::Stop;
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::config::{Config, ConfineCommands};
use lakitu_kernel::event::{CheckpointReason, Settings};
use lakitu_kernel::ports::{BoxFuture, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError};
use tokio::time::MissedTickBehavior;

use super::args::{ContinueArgs, Global, Output, ResumeArgs, RunArgs, RunFlags};
use super::model::Wish;
use super::signals::Signals;
use super::terminal::{End, Facts, Loudness, Summary, Ui};
use super::{Failure, Prepared, paths};
use crate::session::{Begin, Heard, Opening, Run, Session};

/// What shows a run.
pub(super) fn ui(global: &Global, output: Output) -> Ui {
    let loudness = match (global.quiet, global.verbose) {
        (true, _) => Loudness::Quiet,
        (false, true) => Loudness::Verbose,
        (false, false) => Loudness::Normal,
    };
    Ui::new(output.into(), loudness, Facts::detect())
}

/// How often what moves on the terminal moves.
const TICK: Duration = Duration::from_millis(100);

/// Everything that a run needs and that flags, configuration and environment say.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) workspace: PathBuf,
    pub(super) data: PathBuf,
    /// Or why there is none: what needs no model is done without.
    pub(super) upstream: Result<Arc<dyn Gateway>, Failure>,
    /// The model of a new thread.
    pub(super) model: String,
    pub(super) hidden: Vec<PathBuf>,
    pub(super) ui: Ui,
}

/// `lakitu run`
pub(super) fn run(global: &Global, args: RunArgs, prepared: Prepared) -> Result<u8, Failure> {
    let prompt = prompt(args.prompt)?;
    let plan = Plan::of(global, &args.flags, &prepared)?;
    let plan = plan.with_model()?;
    let settings = plan.settings(&args.flags)?;
    plan.execute(prepared, async move |session: &Session| {
        Ok(Next::Begin(Begin::New(session.threads().new_id(), Box::new(settings), prompt)))
    })
}

/// `lakitu continue`
pub(super) fn continue_thread(global: &Global, args: ContinueArgs, prepared: Prepared) -> Result<u8, Failure> {
    if args.last && args.thread.is_some() && args.prompt.is_some() {
        return Err(Failure::usage("--last stands in place of THREAD; give one of them"));
    }
    // With `--last` the first word is the prompt.
    let (thread, words) = if args.last { (None, args.thread.or(args.prompt)) } else { (args.thread, args.prompt) };
    let thread = thread.map(|id| thread_id(&id)).transpose()?;
    let prompt = prompt(words)?;
    let plan = Plan::of(global, &args.flags, &prepared)?.with_model()?;
    let (flags, workspace) = (args.flags, plan.workspace.clone());
    plan.execute(prepared, async move |session: &Session| {
        let thread = match thread {
            Some(thread) => session.thread(thread).await?.id,
            None => newest(session, ThreadsBy::Workspace(workspace)).await?.ok_or_else(no_thread)?.id,
        };
        let change = changed(session.settings(thread).await?, &flags)?;
        Ok(Next::Begin(Begin::Prompt(thread, change, prompt)))
    })
}

/// `lakitu resume`
pub(super) fn resume(global: &Global, args: ResumeArgs, prepared: Prepared) -> Result<u8, Failure> {
    let named = args.thread.as_deref().map(thread_id).transpose()?;
    let plan = Plan::of(global, &args.flags, &prepared)?;
    let (flags, no_adopt) = (args.flags, args.no_adopt);
    plan.execute(prepared, async move |session: &Session| {
        let row = match named {
            Some(thread) => session.thread(thread).await?,
            None => match unfinished(session).await? {
                Some(row) => row,
                None => newest(session, ThreadsBy::All).await?.ok_or_else(no_thread)?,
            },
        };
        let goes_on = match row.status {
            ThreadStatus::Running | ThreadStatus::Waiting | ThreadStatus::Checkpointed => true,
            ThreadStatus::Failed => named.is_some(),
            ThreadStatus::Completed | ThreadStatus::Cancelled => false,
        };
        if !goes_on {
            // It may have been killed before it ended what its commands left behind: that ends with this process now.
            session.runtime().wiring.bash_tools.adopt(row.id).await;
            return Ok(Next::Show(row.id));
        }
        if no_adopt {
            session.runtime().wiring.bash_tools.kill_all(row.id, Duration::from_secs(5)).await;
        }
        let change = changed(session.settings(row.id).await?, &flags)?;
        Ok(Next::Begin(Begin::Resume(row.id, change)))
    })
}

/// What a command does once its runtime is up.
pub(super) enum Next {
    /// Begin a run and hear it to its end.
    Begin(Begin),
    /// Nothing is to be done: show how the thread ended.
    Show(ThreadId),
}

async fn newest(session: &Session, by: ThreadsBy) -> Result<Option<ThreadRow>, Failure> {
    Ok(session.newest(by, 1).await?.into_iter().next())
}

async fn unfinished(session: &Session) -> Result<Option<ThreadRow>, Failure> {
    let mut found: Option<ThreadRow> = None;
    for status in [ThreadStatus::Running, ThreadStatus::Waiting, ThreadStatus::Checkpointed] {
        let row = newest(session, ThreadsBy::Status(status)).await?;
        found = found.into_iter().chain(row).max_by_key(|row| row.updated_at);
    }
    Ok(found)
}

fn no_thread() -> Failure {
    Failure::usage(
        "there is no thread here yet; `lakitu run \"…\"` starts one. (Another workspace has its own: --workspace, --data.)",
    )
}

fn thread_id(text: &str) -> Result<ThreadId, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text:?} is {error}")))
}

/// The prompt from the command line or standard input.
fn prompt(word: Option<String>) -> Result<String, Failure> {
    let text = match word {
        Some(word) if word != "-" => word,
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("what is to be done? Give a prompt: lakitu run \"fix the failing test\""));
        }
        Some(_) | None => {
            let mut text = String::new();
            let mut input = std::io::stdin().lock().take(lakitu_kernel::limits::PROMPT_BYTES_MAX as u64 + 1);
            input
                .read_to_string(&mut text)
                .map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
            text
        }
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("the prompt is empty"));
    }
    Ok(text)
}

/// The stored settings with what flags say anew; nothing where they say nothing.
fn changed(stored: Settings, flags: &RunFlags) -> Result<Option<Box<Settings>>, Failure> {
    let workspace = match &flags.workspace {
        Some(path) => paths::workspace(Some(path), &Config::default())?,
        None => stored.workspace.clone(),
    };
    let settings = Settings {
        model: flags.model.clone().unwrap_or_else(|| stored.model.clone()),
        mode: flags.mode.map_or_else(|| stored.mode.clone(), |mode| mode.as_str().to_owned()),
        workspace,
        artifacts: flags.artifacts.as_deref().map(artifacts).transpose()?.unwrap_or_else(|| stored.artifacts.clone()),
        max_turns: flags.max_turns.or(stored.max_turns),
        timeout_ms: flags.timeout.map(millis).or(stored.timeout_ms),
    };
    Ok((settings != stored).then(|| Box::new(settings)))
}

fn artifacts(path: &Path) -> Result<PathBuf, Failure> {
    paths::plain(path, "artifacts directory")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Plan {
    fn of(global: &Global, flags: &RunFlags, prepared: &Prepared) -> Result<Self, Failure> {
        let mut config = paths::config(global)?;
        if flags.no_confine {
            config.confine.commands = ConfineCommands::Off;
        }
        let workspace = paths::workspace(flags.workspace.as_deref(), &config)?;
        let data = paths::data(global, &config, &workspace)?;
        let chosen = Wish::of(flags, &config, &prepared.secrets).choose();
        // Hidden from commands whether or not it is read this time.
        let token_file = flags.token_file.as_ref().or(config.gateway.token_file.as_ref());
        let hidden = token_file.into_iter().map(|path| paths::plain(path, "token file")).collect::<Result<_, _>>()?;
        let (upstream, model) = match chosen.and_then(|chosen| Ok((chosen.gateway()?, chosen.model))) {
            Ok((upstream, model)) => (Ok(upstream), model),
            Err(failure) => (Err(failure), String::new()),
        };
        let output = if global.json && flags.output == Output::Text { Output::Json } else { flags.output };
        let ui = ui(global, output);
        Ok(Self { config, workspace, data, upstream, model, hidden, ui })
    }

    /// The same, for what cannot do without a model.
    fn with_model(self) -> Result<Self, Failure> {
        Ok(Self { upstream: Ok(self.upstream?), ..self })
    }

    fn settings(&self, flags: &RunFlags) -> Result<Settings, Failure> {
        let configured = Some(self.config.limits.max_turns).filter(|turns| *turns > 0);
        let artifacts =
            flags.artifacts.as_deref().or(self.config.paths.artifacts.as_deref()).map(artifacts).transpose()?;
        Ok(Settings {
            model: self.model.clone(),
            mode: flags.mode.map_or("build", super::args::Mode::as_str).to_owned(),
            workspace: self.workspace.clone(),
            artifacts: artifacts.unwrap_or_else(|| self.data.join("artifacts")),
            max_turns: flags.max_turns.or(configured),
            timeout_ms: flags.timeout.map(millis),
        })
    }

    /// Brings a runtime up, does what is to be done on it, and takes it down again.
    pub(super) fn execute(
        self,
        prepared: Prepared,
        next: impl AsyncFnOnce(&Session) -> Result<Next, Failure>,
    ) -> Result<u8, Failure> {
        let zygote = prepared.zygote.map(Arc::new);
        let starter = match &zygote {
            Some(zygote) => KeeperStarter::Zygote(zygote.clone()),
            None => return Err(Failure::other("no zygote was forked: commands cannot be run")),
        };
        // Two workers, as many as a small sandbox has cores; what blocks is on threads of its own.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::other(format!("no async runtime: {error}")))?;
        let code = runtime.block_on(async move {
            let Self { config, data, upstream, hidden, mut ui, workspace: _, model: _ } = self;
            let signals = Signals::listen()?;
            let (exit, log) = (Some(Box::new(super::give_up) as _), Some(Arc::new(super::log::start()?) as _));
            let (upstream, missing): (Arc<dyn Gateway>, _) = match upstream {
                Ok(upstream) => (upstream, None),
                Err(missing) => (Arc::new(NoModel), Some(missing)),
            };
            let session = match Session::open(Opening { config, data, upstream, starter, hidden, exit, log }).await {
                Ok(session) => session,
                Err(error) => return failed(error, &mut ui),
            };
            let outcome = match next(&session).await {
                Ok(Next::Begin(begin)) => match missing {
                    None => follow(&session, begin, &signals, &mut ui).await,
                    Some(missing) => Err(missing),
                },
                Ok(Next::Show(thread)) => show(&session, thread, &mut ui).await,
                Err(failure) => Err(failure),
            };
            session.close().await;
            outcome
        });
        drop(runtime);
        if let Some(zygote) = zygote.and_then(Arc::into_inner) {
            zygote.close(false).map_err(|error| Failure::other(format!("the zygote did not end: {error}")))?;
        }
        code
    }
}

/// Hears a run to its end and shows it.
async fn follow(session: &Session, begin: Begin, signals: &Signals, ui: &mut Ui) -> Result<u8, Failure> {
    let mut summary = Summary::new(begin.thread());
    if let Begin::Prompt(thread, ..) | Begin::Resume(thread, _) = &begin {
        recall(session, &session.thread(*thread).await?, &mut summary, ui).await?;
    }
    match session.begin(begin).await {
        Ok(mut run) => hear(session, &mut run, (&mut summary, ui), signals).await,
        // What the user named wrongly has no result.
        Err(error) if Failure::from(error.clone()).exit == 2 => return Err(error.into()),
        Err(error) => summary.end = Some(End::Failed(error)),
    }
    finish(&summary, ui)
}

async fn hear(session: &Session, run: &mut Run<'_>, (summary, ui): (&mut Summary, &mut Ui), signals: &Signals) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stop: Option<BoxFuture<'static, Result<Seq, ToolError>>> = None;
    loop {
        tokio::select! {
            heard = run.next() => match heard {
                Ok(Some(Heard::Event(event))) => {
                    summary.event(&event);
                    ui.event(&event);
                }
                Ok(Some(Heard::Live(event))) => ui.live(&event),
                Ok(None) => break,
                Err(error) => {
                    summary.end = Some(End::Failed(error));
                    return;
                }
            },
            () = signals.first(), if !summary.interrupted => {
                summary.interrupted = true;
                let (threads, thread) = (session.threads(), run.thread);
                let how = Stop::Checkpoint(CheckpointReason::Interrupted, None);
                stop = Some(Box::pin(async move { threads.stop(thread, how).await }));
            }
            stopped = OptionFuture::from(stop.as_mut()), if stop.is_some() => {
                stop = None;
                if let Some(Err(error)) = stopped {
                    summary.end = Some(End::Failed(error));
                    return;
                }
            }
            ended = session.gave_up() => {
                super::give_up(format!("{ended:?}; `lakitu resume` goes on"));
            }
            _ = tick.tick(), if ui.moves() => ui.tick(),
        }
    }
    leftovers(run, summary);
}

/// What was before: the numbers of the thread's life so far, and the calls that may still be open.
async fn recall(session: &Session, row: &ThreadRow, summary: &mut Summary, ui: &mut Ui) -> Result<(), Failure> {
    /// More than a turn has: its calls' intents are among them.
    const BEFORE: u64 = 300;
    summary.turns = row.turns;
    summary.tool_calls = u64::from(row.tool_calls);
    summary.input_tokens = row.usage.input_tokens;
    summary.output_tokens = row.usage.output_tokens;
    summary.cached_tokens = row.usage.cached_tokens;
    summary.cost = row.usage.cost_usd;
    let events = session.events(row.id, lakitu_kernel::Seq(row.last_seq.0.saturating_sub(BEFORE))).await?;
    events.iter().filter(|event| event.seq <= row.last_seq).for_each(|event| ui.recall(event));
    Ok(())
}

/// A script with turns left over did not describe what happened.
fn leftovers(run: &Run<'_>, summary: &mut Summary) {
    if summary.ended() == End::Completed
        && let Err(error) = run.leftovers()
    {
        summary.end = Some(End::Failed(error));
    }
}

/// How a settled thread ended, from its journal.
async fn show(session: &Session, thread: ThreadId, ui: &mut Ui) -> Result<u8, Failure> {
    let mut summary = Summary::new(thread);
    let mut after = lakitu_kernel::Seq::ZERO;
    loop {
        let events = session.events(thread, after).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        events.iter().for_each(|event| summary.event(event));
    }
    finish(&summary, ui)
}

/// A failure before there was a thread: with a result object all the same, where one is wanted.
fn failed(error: ToolError, ui: &mut Ui) -> Result<u8, Failure> {
    let failure = Failure::from(error.clone());
    if matches!(failure.exit, 2 | 75) {
        return Err(failure);
    }
    let mut summary = Summary::new(ThreadId(0));
    summary.end = Some(End::Failed(error));
    finish(&summary, ui)
}

fn finish(summary: &Summary, ui: &mut Ui) -> Result<u8, Failure> {
    ui.finish(summary).map_err(|error| Failure::other(format!("the result cannot be written: {error}")))?;
    Ok(summary.exit_code())
}

/// In place of a model where none is configured. Nothing is begun on it.
struct NoModel;

impl Gateway for NoModel {
    fn complete(&self, _: ModelRequest, _: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let error = ToolError::new(ErrorCode::InvalidConfig, "no model is configured");
        Box::pin(async { Err(ModelFailure { class: FailureClass::Refused, error }) })
    }
}
