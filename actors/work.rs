//! What an effect does, as the task that the registry owns. It holds no actor's state: actors hand out what calls share,
//! and may end meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::chat::ModelRequest;
use lakitu_kernel::config::Price;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::edit::Changes;
use lakitu_kernel::event::{Asking, PreparedFile, RequestMark};
use lakitu_kernel::mode::Mode;
use lakitu_kernel::planted::{Planted, planted};
use lakitu_kernel::policy::{self, About, Verdict};
use lakitu_kernel::ports::{Delta, DeltaSink};
use lakitu_kernel::supervise::{Address, CallError, Guarded, Message, Reply};
use lakitu_kernel::tool::{Category, EffectClass, ToolCall, ToolOutcome};
use lakitu_kernel::{ErrorCode, Hash, LiveEvent, Seq, ThreadId, ToolError, Turn, limits};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::bash_facts;
use crate::checkpoint::{CHECKPOINT_RESTORE, CheckpointMsg, told_restored};
use crate::effects::{Done, Lease, Prepared};
use crate::gateway::{GatewayMsg, Notice};
use crate::threads::agent::{AgentMsg, Answer, Checked, check, decision_log, unasked};
use crate::threads::hub::Hub;
use crate::threads::restore;
use crate::tools::artifact::ArtifactMsg;
use crate::tools::bash::{BASH, BashMsg, BashTools};
use crate::tools::beads::BeadsMsg;
use crate::tools::file::{FileMsg, FileTools};
use crate::tools::{Ask, Known, Place, Redo, RedoFile, Settled};
use crate::wiring::Wiring;

/// How long a call waits for a service that is restarting.
pub(crate) const SERVICE_DEADLINE: Duration = Duration::from_secs(20);

/// A question to the model.
pub(crate) struct Asked {
    pub(crate) request: ModelRequest,
    /// Nobody outside hears of the answer before everything up to here is durable.
    pub(crate) rests_on: Seq,
    pub(crate) place: Arc<Place>,
    pub(crate) known: Known,
    /// What its answer may call.
    pub(crate) mode: Mode,
    /// Who is asked about it.
    pub(crate) asking: Asking,
}

/// A call to run or to look at.
pub(crate) struct ToolWork {
    pub(crate) ask: Ask,
    /// Its redo record as the journal has it.
    pub(crate) files: Vec<PreparedFile>,
    /// The same with its bytes, where this process computed it.
    pub(crate) redo: Option<Arc<Redo>>,
    /// Whether it may have begun before.
    pub(crate) again: bool,
}

/// Asks the model, looks at the calls of its answer, and prepares the first one if it needs a redo record.
pub(crate) async fn ask_model(wiring: Arc<Wiring>, asked: Asked, lease: Lease) -> Done {
    let Asked { request, rests_on, place, known, mode, asking } = asked;
    let (thread, turn) = (request.thread, request.turn);
    let asked = request.model.clone();
    let mark = RequestMark::of(&request.body);
    let route = match enter(&wiring.gateway, |reply| GatewayMsg::Open { reply }).await {
        Ok(route) => route,
        Err(error) => {
            return Done::NoAnswer(crate::gateway::failure::unreachable("the gateway service", &error.to_string()));
        }
    };
    let gate = Gate { hub: wiring.hub.clone(), thread, turn, rests_on, held: Guarded::default() };
    let retries = wiring.clone();
    let told = move |notice: Notice| match notice {
        Notice::Retry(retry) => {
            let mut reason = retry.error.to_string();
            if let Some(model) = &retry.model {
                reason.push_str("; the next model asked is ");
                reason.push_str(model);
            }
            retries.hub.troubled(thread, Some(retry.error));
            retries.hub.live(thread, LiveEvent::Retry { attempt: retry.attempt - 1, after_ms: retry.after_ms, reason });
        }
        Notice::Held(error) => retries.hub.troubled(thread, Some(error)),
        // Where the agent cannot take it, the thread is shown as running: its successor asks the model anew.
        Notice::Stalled(error) => drop(retries.agent(thread).send(AgentMsg::Stalled(turn, error.to_string()))),
    };
    match route.complete(request, gate.sink(), told).await {
        Ok(mut model) => {
            if let Some(usage) = &mut model.usage {
                let named = model.model.as_deref().and_then(|name| price(&wiring.prices, name));
                usage.cost = usage.cost.or_else(|| named.or_else(|| price(&wiring.prices, &asked))?.of(usage));
            }
            let request = Some(mark);
            let calls = consented(&wiring, check(&model, wiring.catalogue, mode), &place, asking).await;
            answered(&wiring, Answer { model, calls, request, first: None }, move |tool, arguments| {
                // Its intent has no position yet; locks are kept under "before the first".
                let call = ToolCall { thread, intent: Seq::ZERO, call_id: String::new(), tool, arguments, start: 1 };
                Ask { call, place, known, lease: Some(lease) }
            })
            .await
        }
        Err(failure) => Done::NoAnswer(failure),
    }
}

/// What a model costs, by its name or, where it is asked through a gateway as `NAME/MODEL`, by the model's own.
fn price<'a>(prices: &'a BTreeMap<String, Price>, model: &str) -> Option<&'a Price> {
    prices.get(model).or_else(|| prices.get(model.split_once('/')?.1))
}

/// The calls as the policy has them: made, asked about, or refused.
async fn consented(wiring: &Wiring, mut calls: Vec<Checked>, place: &Arc<Place>, asking: Asking) -> Vec<Checked> {
    if wiring.policy.is_empty() && !asking.every_change {
        return calls;
    }
    for call in &mut calls {
        let Ok((effect, arguments)) = &call.outcome else { continue };
        let Some(spec) = wiring.catalogue.get(&call.raw.name) else { continue };
        let about = match spec.subject.about(arguments) {
            About::Paths(given) => {
                match wiring.file_tools.names(place, given.into_iter().flatten().collect()).await {
                    Ok(names) => About::Paths(names),
                    // No rule can be asked, so nothing is allowed.
                    Err(error) => {
                        call.outcome = Err(error);
                        continue;
                    }
                }
            }
            about @ (About::Nothing | About::Command(_)) => about,
        };
        let reads = effect.hints().read_only_hint;
        match wiring.policy.judge(&policy::Asked { tool: spec.name, reads, about }, asking.every_change) {
            Verdict::Allow => {}
            Verdict::Ask(why) if asking.somebody => call.needs_consent = Some(why),
            Verdict::Ask(why) => call.outcome = Err(unasked(&why)),
            Verdict::Deny(why) => call.outcome = Err(denied(spec.category, &why)),
        }
    }
    calls
}

fn denied(category: Category, why: &str) -> ToolError {
    let (code, what) = match category {
        Category::Bash => (ErrorCode::DangerousCommand, "command"),
        Category::File | Category::Artifact | Category::Beads | Category::Checkpoint | Category::Agent => {
            (ErrorCode::PermissionDenied, "call")
        }
    };
    let message = format!(
        "the policy refuses this {what} ({why}); nothing ran. Find another way, and do not try to get around it"
    );
    ToolError::new(code, message)
}

async fn answered(wiring: &Arc<Wiring>, mut answer: Answer, ask: impl FnOnce(&'static str, Value) -> Ask) -> Done {
    // Nothing is prepared, and no path locked, while somebody is asked.
    let first = answer.calls.first().filter(|call| call.needs_consent.is_none()).and_then(|call| match &call.outcome {
        Ok((EffectClass::Verifiable, arguments)) => {
            // A record that is made of the journal waits until that is durable.
            let spec = wiring.catalogue.get(&call.raw.name).filter(|spec| spec.category == Category::File)?;
            Some((spec.name, arguments.clone()))
        }
        Ok(_) | Err(_) => None,
    });
    let Some((tool, arguments)) = first else { return Done::Answer(Arc::new(answer), None) };
    match prepared(wiring, ask(tool, arguments)).await {
        Ok(prepared) => {
            answer.first = Some(Ok(prepared.redo.files.iter().map(|file| file.file.clone()).collect()));
            Done::Answer(Arc::new(answer), Some(prepared))
        }
        Err(error) => {
            answer.first = Some(Err(error));
            Done::Answer(Arc::new(answer), None)
        }
    }
}

/// Ends every command of a thread, and what they left behind; or only the commands of these calls.
pub(crate) async fn end_jobs(wiring: Arc<Wiring>, thread: ThreadId, only: Option<Vec<Seq>>) -> Done {
    match only {
        None => wiring.bash_tools.kill_all(thread, limits::STOP_DEADLINE).await,
        Some(calls) => {
            for call in calls {
                wiring.bash_tools.end_job(thread, call, limits::STOP_DEADLINE).await;
            }
        }
    }
    Done::Over
}

/// Computes a redo record; writes nothing.
pub(crate) async fn prepare(wiring: Arc<Wiring>, ask: Ask) -> Done {
    Done::Prepared(prepared(&wiring, ask).await)
}

async fn prepared(wiring: &Wiring, ask: Ask) -> Result<Prepared, ToolError> {
    let tools = enter_file(wiring).await?;
    let prepared = if ask.call.tool == CHECKPOINT_RESTORE.name {
        tools.prepare_put_back(&ask, restore::called(&wiring.store, &ask).await?).await?
    } else {
        tools.prepare(&ask).await?
    };
    Ok(Prepared { redo: Arc::new(prepared.redo), locks: Arc::new(prepared.locks) })
}

/// Runs a call. Where it may have begun before, a redo record is rolled forward instead.
pub(crate) async fn run(wiring: Arc<Wiring>, work: ToolWork) -> Done {
    let begun = Instant::now();
    let outcome = match wiring.catalogue.get(work.ask.call.tool) {
        Some(spec) => {
            let deadline = (spec.deadline)(&work.ask.call.arguments);
            // What may leave something behind is never dropped half-way: the tool keeps its own deadline, and this one
            // stands behind it for reads only.
            let running = run_in(&wiring, &work, spec.category);
            if spec.effect == EffectClass::Read {
                timeout(deadline, running).await.unwrap_or_else(|_| late(deadline).into())
            } else {
                running.await
            }
        }
        None => ToolError::new(ErrorCode::UnknownTool, "there is no such tool").into(),
    };
    Done::Tool(outcome, u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

async fn run_in(wiring: &Wiring, work: &ToolWork, category: Category) -> ToolOutcome {
    match category {
        Category::File => match enter_file(wiring).await {
            Ok(tools) => run_file(wiring, &tools, work).await,
            Err(error) => error.into(),
        },
        Category::Artifact => run_artifact(wiring, &work.ask).await.into(),
        Category::Beads => run_beads(wiring, &work.ask).await.into(),
        Category::Checkpoint if work.ask.call.tool == CHECKPOINT_RESTORE.name => {
            put_back_called(wiring, work).await.into()
        }
        Category::Checkpoint => run_checkpoint(wiring, &work.ask).await.into(),
        Category::Agent => run_own(&work.ask),
        Category::Bash => match enter_bash(wiring).await {
            Ok(tools) => {
                let call = &work.ask.call;
                let _named = wiring.hub.name_command(call.thread, call.intent, call.call_id.clone());
                run_bash(wiring, &tools, &work.ask).await
            }
            Err(error) => error.into(),
        },
    }
}

async fn run_artifact(wiring: &Wiring, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let tools = enter(&wiring.artifact, |reply| ArtifactMsg::Enter { reply }).await;
    tools.map_err(|error| away("/tools/artifact", error))?.run(ask).await
}

async fn run_beads(wiring: &Wiring, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let tools = enter(&wiring.beads, |reply| BeadsMsg::Enter { reply }).await;
    tools.map_err(|error| away("/tools/beads", error))?.run(ask).await
}

/// A call whose whole effect is a row beside its result.
fn run_own(ask: &Ask) -> ToolOutcome {
    crash_point(CrashPoint::BeforeEffect);
    let outcome = decision_log::told(ask.call.thread, ask.call.intent);
    crash_point(CrashPoint::AfterEffect);
    outcome
}

async fn run_checkpoint(wiring: &Wiring, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let tools = enter(&wiring.checkpoint, |reply| CheckpointMsg::Enter { reply }).await;
    tools.map_err(|error| away("/checkpoint", error))?.run(ask).await
}

/// The files of a call of `checkpoint_restore`, whatever of its redo record is done already.
async fn put_back_called(wiring: &Wiring, work: &ToolWork) -> Result<ToolOutcome, ToolError> {
    let tools = enter_file(wiring).await?;
    // Where this process computed the record, its locks are held.
    let (redo, locked) = match &work.redo {
        Some(redo) => (redo.clone(), !work.again),
        None => (Arc::new(load_redo(wiring, &work.files).await?), false),
    };
    // Whatever of it is done already: every file is looked at first.
    let mut outcome =
        if locked { tools.put_back(&work.ask, &redo).await } else { rolled_forward(&tools, &work.ask, &redo).await };
    if outcome.error.is_none() {
        outcome.output = told_restored(&redo);
    }
    Ok(outcome)
}

/// A redo record that an earlier process may have begun with.
async fn rolled_forward(tools: &FileTools, ask: &Ask, redo: &Redo) -> ToolOutcome {
    match tools.recover(ask, Some(redo)).await {
        Settled::Outcome(outcome) => outcome,
        Settled::NeverBegan => ToolError::new(ErrorCode::Internal, "files without a redo record").into(),
    }
}

/// A call of this category; of one that may change files, with what it changed.
async fn run_bash(wiring: &Wiring, tools: &BashTools, ask: &Ask) -> ToolOutcome {
    if ask.call.tool != BASH.name {
        return tools.run(ask).await;
    }
    let workspace = &ask.place.workspace;
    let before = wiring.manifests.before(workspace, (ask.call.thread, ask.call.intent)).await;
    let mut outcome = tools.run(ask).await;
    if let Some(before) = before {
        outcome.changes = wiring.manifests.after(before, workspace).await;
    }
    outcome
}

async fn run_file(wiring: &Wiring, tools: &FileTools, work: &ToolWork) -> ToolOutcome {
    if work.files.is_empty() {
        return tools.run(&work.ask, None).await;
    }
    let redo = match &work.redo {
        Some(redo) => redo.clone(),
        None => match load_redo(wiring, &work.files).await {
            Ok(redo) => Arc::new(redo),
            Err(error) => return error.into(),
        },
    };
    if work.again {
        return match tools.recover(&work.ask, Some(&redo)).await {
            Settled::Outcome(outcome) => outcome,
            Settled::NeverBegan => tools.run(&work.ask, Some(&redo)).await,
        };
    }
    tools.run(&work.ask, Some(&redo)).await
}

/// Puts files back by a redo record, whatever of it is done already.
pub(crate) async fn put_back(wiring: Arc<Wiring>, ask: Ask, files: Vec<PreparedFile>, redo: Option<Arc<Redo>>) -> Done {
    let begun = Instant::now();
    let outcome = async {
        let tools = enter_file(&wiring).await?;
        Ok(match redo {
            // Its locks are held.
            Some(redo) => tools.put_back(&ask, &redo).await,
            None => rolled_forward(&tools, &ask, &load_redo(&wiring, &files).await?).await,
        })
    };
    let outcome: ToolOutcome = outcome.await.into();
    Done::Tool(outcome, u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Finds out what became of a call that an earlier process left, and settles it by its class.
pub(crate) async fn examine(wiring: Arc<Wiring>, work: ToolWork) -> Done {
    let category = wiring.catalogue.get(work.ask.call.tool).map(|spec| spec.category);
    let settled = match category {
        // Doing it twice is doing it once, or its redo record is rolled forward.
        Some(
            category @ (Category::File | Category::Artifact | Category::Beads | Category::Checkpoint | Category::Agent),
        ) => Settled::Outcome(run_in(&wiring, &work, category).await),
        Some(Category::Bash) if planted(Planted::RerunOfDetached) => Settled::NeverBegan,
        Some(Category::Bash) => match bash_facts::of(&wiring, &work.ask).await {
            Ok((tools, facts)) => {
                let call = &work.ask.call;
                let _named = wiring.hub.name_command(call.thread, call.intent, call.call_id.clone());
                let settled = tools.recover(&work.ask, facts).await;
                looked_at_again(&wiring, &work.ask, settled).await
            }
            Err(error) => Settled::Outcome(error.into()),
        },
        None => Settled::Outcome(ToolError::new(ErrorCode::UnknownTool, "this version has no such tool").into()),
    };
    Done::Examined(settled)
}

/// What a command changed that an earlier process began: since that looked at the workspace before it.
async fn looked_at_again(wiring: &Wiring, ask: &Ask, settled: Settled) -> Settled {
    match settled {
        Settled::Outcome(mut outcome) if ask.call.tool == BASH.name => {
            let command = (ask.call.thread, ask.call.intent);
            let changes = wiring.manifests.adopted(&ask.place.workspace, command).await;
            outcome.changes = changes.unwrap_or_else(|| Changes {
                left_out: Some(
                    "the runtime was restarted while the command ran, and nothing is left of what it noted before it: what \
                     the command changed is not recorded"
                        .to_owned(),
                ),
                ..Changes::default()
            });
            Settled::Outcome(outcome)
        }
        Settled::Outcome(_) | Settled::NeverBegan => settled,
    }
}

/// A redo record's bytes, from the store.
async fn load_redo(wiring: &Wiring, files: &[PreparedFile]) -> Result<Redo, ToolError> {
    let files = files.to_vec();
    let read = wiring.store.read(move |reading| {
        let blob = |hash: Option<Hash>| hash.map(|hash| reading.blob(hash)).transpose();
        let load =
            |file: PreparedFile| Ok(RedoFile { before: blob(file.hash_before)?, after: blob(file.hash_after)?, file });
        files.into_iter().map(load).collect::<Result<Vec<_>, _>>()
    });
    Ok(Redo { files: read.await.map_err(ToolError::from)? })
}

pub(crate) async fn enter_file(wiring: &Wiring) -> Result<FileTools, ToolError> {
    enter(&wiring.file, |reply| FileMsg::Enter { reply }).await.map_err(|error| away("/tools/file", error))
}

pub(crate) async fn enter_bash(wiring: &Wiring) -> Result<BashTools, ToolError> {
    enter(&wiring.bash, |reply| BashMsg::Enter { reply }).await.map_err(|error| away("/tools/bash", error))
}

/// Asks a service for what its calls share. That changes nothing: where the service ended over it, its successor is asked.
async fn enter<M: Message, T: Send + 'static>(
    service: &Address<M>,
    msg: impl Fn(Reply<T>) -> M,
) -> Result<T, CallError> {
    let until = Instant::now() + SERVICE_DEADLINE;
    loop {
        match service.call(until.saturating_duration_since(Instant::now()), &msg).await {
            Err(CallError::Unknown) if Instant::now() < until => {}
            answer => return answer,
        }
    }
}

/// Nothing ran: all that was asked for was the door.
fn away(service: &str, error: CallError) -> ToolError {
    ToolError::new(ErrorCode::Unavailable, format!("{service} is not there ({error}); nothing ran, try again"))
}

fn late(deadline: Duration) -> ToolError {
    ToolError::new(ErrorCode::Timeout, format!("no end within {} s; ask for less at a time", deadline.as_secs()))
}

/// Holds deltas back until what the request rests on is durable.
struct Gate {
    hub: Hub,
    thread: ThreadId,
    turn: Turn,
    rests_on: Seq,
    held: Guarded<Held>,
}

#[derive(Default)]
struct Held {
    index: u64,
    waiting: VecDeque<LiveEvent>,
}

impl Gate {
    fn sink(self) -> DeltaSink {
        Arc::new(move |delta| self.pass(delta))
    }

    fn pass(&self, delta: Delta) {
        let (thinking, text) = match delta {
            Delta::Text(text) => (false, text),
            Delta::Thinking(text) => (true, text),
        };
        // An empty piece is a sign of life for deadlines, nothing to show.
        if text.is_empty() || !self.hub.is_heard(self.thread) {
            return;
        }
        let open = self.hub.durable_up_to(self.thread) >= self.rests_on;
        let ready: Vec<LiveEvent> = self.held.with(|held| {
            let (turn, index) = (self.turn, held.index);
            held.index += 1;
            let event = if thinking {
                LiveEvent::ThinkingDelta { turn, index, text }
            } else {
                LiveEvent::TextDelta { turn, index, text }
            };
            // Past the bound the oldest is lost, as with any slow listener.
            if held.waiting.len() >= limits::LIVE_EVENTS_QUEUED_MAX {
                held.waiting.pop_front();
            }
            held.waiting.push_back(event);
            if open { held.waiting.drain(..).collect() } else { Vec::new() }
        });
        ready.into_iter().for_each(|event| self.hub.live(self.thread, event));
    }
}
