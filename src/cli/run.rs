//! `run`, `continue`, `resume`: a thread in this process, or in the `up` that serves its data, to the end of its run.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::store::OpenStore;
use lakitu_actors::threads::desk::{Begin, Found, Wish as Asked};
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_keeper::Zygote;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::config::{Config, ConfineCommands};
use lakitu_kernel::event::{Asking, Settings};
use lakitu_kernel::limits::PROMPT_BYTES_MAX;
use lakitu_kernel::ports::{BoxFuture, DeltaSink, FailureClass, Gateway, ModelFailure};
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError};

use super::args::{ContinueArgs, Global, Output, ResumeArgs, RunArgs, RunFlags};
use super::consent::person;
use super::handover::{Ask, Order};
use super::hear::{BEFORE, Here, finish, hear, recall, show};
use super::hidden::Hidden;
use super::model::Wish;
use super::signals::Signals;
use super::terminal::{End, Facts, Loudness, Summary, Ui};
use super::{Failure, Prepared, handover, paths};
use crate::session::{Opening, Session};

/// What shows a run.
pub(super) fn ui(global: &Global, output: Output) -> Ui {
    let loudness = match (global.quiet, global.verbose) {
        (true, _) => Loudness::Quiet,
        (false, true) => Loudness::Verbose,
        (false, false) => Loudness::Normal,
    };
    Ui::new(output.into(), loudness, Facts::detect())
}

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
    /// What is asked of the `up` that serves the data, where there is one; none: nothing is handed over.
    pub(super) order: Option<Order>,
    pub(super) ui: Ui,
}

/// `lakitu run`
pub(super) fn run(global: &Global, args: RunArgs, prepared: Prepared) -> Result<u8, Failure> {
    let prompt = prompt(args.prompt, "run")?;
    let plan = Plan::of(global, &args.flags, &prepared, Ask::Start { prompt: prompt.clone() })?;
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
    if thread.is_none() && !args.last {
        return Err(Failure::usage(format!("which thread goes on? {NAME_ONE}.")));
    }
    let thread = thread.map(|id| thread_id(&id));
    let thread = thread.transpose().map_err(|failure| Failure::usage(format!("{failure}. {NAME_ONE}.")))?;
    let prompt = prompt(words, "continue --last")?;
    let plan = Plan::of(global, &args.flags, &prepared, Ask::Prompt { thread, prompt: prompt.clone() })?;
    let (asked, workspace) = (asked(&args.flags)?, plan.workspace.clone());
    plan.execute(prepared, async move |session: &Session| {
        let desk = session.desk();
        let thread = desk.addressed(thread, workspace).await?.id;
        let change = change(&asked, &desk.settings(thread).await?)?;
        Ok(Next::Begin(Begin::Prompt(thread, change, prompt)))
    })
}

/// `lakitu resume`
pub(super) fn resume(global: &Global, args: ResumeArgs, prepared: Prepared) -> Result<u8, Failure> {
    let thread = args.thread.as_deref().map(thread_id).transpose()?;
    let no_adopt = args.no_adopt;
    let plan = Plan::of(global, &args.flags, &prepared, Ask::Resume { thread, no_adopt })?;
    let asked = asked(&args.flags)?;
    plan.execute(prepared, async move |session: &Session| {
        let desk = session.desk();
        let thread = match desk.to_resume(thread).await? {
            Found::Unfinished(row) => row.id,
            Found::Settled(row) => {
                // It may have been killed before it ended what its commands left behind: that ends with this process now.
                session.runtime().wiring.bash_tools.adopt(row.id).await;
                return Ok(Next::Show(row.id));
            }
        };
        if no_adopt {
            desk.end_survivors(thread).await;
        }
        let change = change(&asked, &desk.settings(thread).await?)?;
        Ok(Next::Begin(Begin::Resume(thread, change)))
    })
}

/// What is asked for in the place of what is stored. A workspace that is gone by now is told before anything is tried in it.
fn change(asked: &Asked, stored: &Settings) -> Result<Option<Box<Settings>>, Failure> {
    let workspace = asked.over(stored).workspace;
    if !workspace.is_dir() {
        return Err(Failure::usage(format!(
            "the thread's workspace {} is not there any more. Put it back, or say where it is with --workspace.",
            workspace.display()
        )));
    }
    Ok(asked.change(stored))
}

/// What a command does once its runtime is up.
pub(super) enum Next {
    /// Begin a run and hear it to its end.
    Begin(Begin),
    /// Nothing is to be done: show how the thread ended.
    Show(ThreadId),
}

const NAME_ONE: &str =
    "Name it, or give --last for the newest of this workspace: lakitu continue --last \"now write a test\"";

fn thread_id(text: &str) -> Result<ThreadId, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{text:?} is {error}")))
}

/// The prompt from the command line or standard input. `command`: as it is typed.
fn prompt(word: Option<String>, command: &str) -> Result<String, Failure> {
    let give = |what: &str| {
        Failure::usage(format!(
            "{what} Say what is to be done: lakitu {command} \"fix the failing test\", or pipe it in."
        ))
    };
    let (text, blank) = match word {
        Some(word) if word != "-" => (word, "the prompt is empty."),
        None if std::io::stdin().is_terminal() => return Err(give("there is no prompt.")),
        None => (piped()?, "there is no prompt, and nothing on standard input."),
        Some(_) => (piped()?, "there is no prompt on standard input."),
    };
    if text.len() > PROMPT_BYTES_MAX {
        return Err(give(&format!(
            "the prompt has more than {PROMPT_BYTES_MAX} bytes: put it in a file of the workspace."
        )));
    }
    if text.trim().is_empty() { Err(give(blank)) } else { Ok(text) }
}

fn piped() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        // One byte more than it may have shows that it has more.
        .take(PROMPT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::usage(format!("the prompt cannot be read from standard input: {error}")))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // A character that is cut at the end is not what is wrong.
        Err(error) if error.as_bytes().len() > PROMPT_BYTES_MAX => Ok(String::from_utf8_lossy(error.as_bytes()).into()),
        Err(_) => Err(Failure::usage("the prompt on standard input is not text in UTF-8")),
    }
}

/// What flags say about a run, with plain paths.
fn asked(flags: &RunFlags) -> Result<Asked, Failure> {
    Ok(Asked {
        workspace: flags
            .workspace
            .as_deref()
            .map(|path| paths::workspace(Some(path), &Config::default()))
            .transpose()?,
        artifacts: flags.artifacts.as_deref().map(artifacts).transpose()?,
        model: flags.source.model.clone(),
        mode: flags.mode.map(Into::into),
        max_turns: flags.max_turns,
        timeout_ms: flags.timeout.map(millis),
        ask: flags.ask.then_some(true),
        somebody: Some(person()),
    })
}

fn artifacts(path: &Path) -> Result<PathBuf, Failure> {
    paths::plain(path, "artifacts directory")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Plan {
    fn of(global: &Global, flags: &RunFlags, prepared: &Prepared, ask: Ask) -> Result<Self, Failure> {
        let mut config = paths::config(global)?;
        if flags.ask && !person() {
            return Err(Failure::usage(
                "--ask needs somebody to ask: standard input and standard error must be a terminal. Without it, what a rule \
                 of [policy] says is to be asked about is refused at once; `lakitu up` asks through its API.",
            ));
        }
        if let Some(timeout) = flags.timeout {
            config.limits.outlast(timeout);
        }
        if flags.no_confine {
            config.confine.commands = ConfineCommands::Off;
        }
        let workspace = paths::workspace(flags.workspace.as_deref(), &config)?;
        let data = paths::data(global, &config, &workspace)?;
        let artifacts = flags.artifacts.as_deref().or(config.paths.artifacts.as_deref());
        let needed: Vec<&Path> = artifacts.into_iter().chain([workspace.as_path()]).collect();
        let hidden = Hidden::of(flags.source.token_file.as_deref(), &config, Some(&data), &needed)?;
        // Without its token a run does not begin, and leaves nothing behind.
        if hidden.token().is_some_and(Path::exists) {
            hidden.prepare();
        }
        let chosen = Wish::of(&flags.source, &config, &prepared.secrets).choose();
        let (upstream, model) = match chosen.and_then(|chosen| Ok((chosen.gateway()?, chosen.model))) {
            Ok((upstream, model)) => (Ok(upstream), model),
            Err(failure) => (Err(failure), String::new()),
        };
        let output = if global.json && flags.output == Output::Text { Output::Json } else { flags.output };
        let order = Order::new(ask, asked(flags)?, flags, &workspace);
        Ok(Self {
            config,
            workspace,
            data,
            upstream,
            model,
            hidden: hidden.paths,
            order: Some(order),
            ui: ui(global, output),
        })
    }

    fn settings(&self, flags: &RunFlags) -> Result<Settings, Failure> {
        let configured = Some(self.config.limits.max_turns).filter(|turns| *turns > 0);
        let artifacts =
            flags.artifacts.as_deref().or(self.config.paths.artifacts.as_deref()).map(artifacts).transpose()?;
        Ok(Settings {
            model: self.model.clone(),
            mode: flags.mode.map(Into::into).unwrap_or_default(),
            workspace: self.workspace.clone(),
            artifacts: artifacts.unwrap_or_else(|| self.data.join("artifacts")),
            max_turns: flags.max_turns.or(configured),
            timeout_ms: flags.timeout.map(millis),
            asking: Asking { every_change: flags.ask, somebody: person() },
        })
    }

    /// Does what is to be done in the `up` that serves the data; where there is none, brings a runtime up for it and takes
    /// it down again.
    pub(super) fn execute(
        mut self,
        prepared: Prepared,
        next: impl AsyncFnOnce(&Session) -> Result<Next, Failure>,
    ) -> Result<u8, Failure> {
        let zygote = prepared.zygote.map(Arc::new);
        let code = match self.hand_over() {
            Ok(Some(code)) => Ok(code),
            Ok(None) => self.execute_here(zygote.clone(), next),
            Err(failure) => Err(failure),
        };
        end(zygote)?;
        code
    }

    fn hand_over(&mut self) -> Result<Option<u8>, Failure> {
        match &self.order {
            Some(order) => handover::offer(&self.data, order, &mut self.ui),
            None => Ok(None),
        }
    }

    fn execute_here(
        self,
        zygote: Option<Arc<Zygote>>,
        next: impl AsyncFnOnce(&Session) -> Result<Next, Failure>,
    ) -> Result<u8, Failure> {
        let Self { config, data, upstream, hidden, order, mut ui, workspace: _, model: _ } = self;
        let (upstream, missing): (Arc<dyn Gateway>, _) = match upstream {
            Ok(upstream) => (upstream, None),
            Err(missing) if order.as_ref().is_some_and(Order::needs_model) => return Err(missing),
            Err(missing) => (Arc::new(NoModel(missing.message.clone())), Some(missing)),
        };
        if let Some(nothing) = order.as_ref().filter(|_| !OpenStore::exists(&data)).and_then(Order::finds_nothing) {
            return Err(nothing.into());
        }
        let Some(zygote) = zygote else {
            return Err(Failure::other("no zygote was forked: commands cannot be run"));
        };
        // Last, because it makes them: what is refused leaves nothing behind.
        let named = order.as_ref().and_then(Order::artifacts).or(config.paths.artifacts.as_deref());
        paths::make(&data, named.map(artifacts).transpose()?.as_deref())?;
        let starter = KeeperStarter::Zygote(zygote);
        let at = data.clone();
        // One thread of conversation: a second worker would mostly be woken to find nothing to do.
        runtime(1)?.block_on(async move {
            let signals = Signals::listen()?;
            let (exit, log) = (Some(Box::new(super::give_up) as _), Some(Arc::new(super::log::start()?) as _));
            let opening = Opening {
                config,
                data,
                upstream,
                starter,
                hidden,
                exit,
                log,
                patience: None,
                serves: None,
                api: None,
                reader: super::reader(),
            };
            let session = match Session::open(opening).await {
                Ok(session) => session,
                Err(error) => return failed(paths::not_had(&at, error), &mut ui),
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
        })
    }
}

/// What the actors run on. What blocks is on threads of its own, and what is printed on the one that waits for them.
pub(super) fn runtime(workers: usize) -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    runtime.map_err(|error| Failure::other(format!("no async runtime: {error}")))
}

/// Ends the zygote, once nothing else holds it.
pub(super) fn end(zygote: Option<Arc<Zygote>>) -> Result<(), Failure> {
    match zygote.and_then(Arc::into_inner) {
        Some(zygote) => zygote.close(false).map_err(|error| Failure::other(format!("the zygote did not end: {error}"))),
        None => Ok(()),
    }
}

/// Hears a run to its end and shows it.
async fn follow(session: &Session, begin: Begin, signals: &Signals, ui: &mut Ui) -> Result<u8, Failure> {
    let mut summary = Summary::new(begin.thread());
    if let Begin::Prompt(thread, ..) | Begin::Resume(thread, _) = &begin {
        let row = session.desk().thread(*thread).await?;
        let events = session.events(row.id, Seq(row.last_seq.0.saturating_sub(BEFORE))).await?;
        recall(&row, &events, &mut summary, ui);
    }
    match session.begin(begin).await {
        Ok(run) => hear(&mut Here::new(session, run), (&mut summary, ui), signals).await,
        // What the user named wrongly has no result.
        Err(error) if Failure::from(error.clone()).exit == 2 => return Err(error.into()),
        Err(error) => summary.end = Some(End::Failed(error)),
    }
    finish(&summary, ui)
}

/// A failure before there was a thread: with a result object all the same, where one is wanted.
fn failed(error: ToolError, ui: &mut Ui) -> Result<u8, Failure> {
    let failure = Failure::from(error.clone());
    if matches!(failure.exit, 2 | 75) {
        return Err(failure);
    }
    finish(&Summary::failed(error), ui)
}

/// In place of a model where none is configured: why there is none. Nothing is begun on it.
pub(super) struct NoModel(pub(super) String);

impl NoModel {
    fn error(&self) -> ToolError {
        ToolError::new(ErrorCode::InvalidConfig, self.0.clone())
    }
}

impl Gateway for NoModel {
    fn complete(&self, _: ModelRequest, _: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let error = self.error();
        Box::pin(async { Err(ModelFailure { class: FailureClass::Refused, error }) })
    }

    fn missing(&self) -> Option<ToolError> {
        Some(self.error())
    }
}
