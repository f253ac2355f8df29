//! One command from its start, or from where a runtime before this one left it, to its outcome.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakitu_keeper::KeeperError;
use lakitu_keeper::protocol::{Call, CallState, JobState, RefusalCode, Reply, Start, Status};
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::Link;
use super::command::BashArgs;
use super::job::JobId;
use super::keeper_of::{KeeperOf, Known, RECONNECT_AFTER, lives_on};
use super::runner::{ANSWERS_WITHIN, GRACE, JobFacts, Shared};
use super::{place, report, spool};
use crate::tools::{Ask, Settled};

/// A keeper may be ending when it is asked; so often another one is asked.
const STARTS_TRIED: u32 = 3;

/// One command on its way.
struct Running<'a> {
    shared: &'a Shared,
    keeper: Arc<KeeperOf>,
    thread: ThreadId,
    intent: Seq,
    attempt: u32,
    args: BashArgs,
    /// The call waits until then.
    until: Instant,
    told: spool::Follower,
}

/// What the call that started a command can say of it, once it has waited long enough.
enum Over {
    /// It ended.
    Ended { status: Status, survives: bool },
    /// It goes on as a job.
    GoesOn(JobState),
    /// It ended, and nobody wrote down how.
    Lost(&'static str),
}

/// How a start was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// It runs since now.
    Now,
    /// An earlier request began it; what became of it is to be found out.
    Before,
}

const KEEPER_DIED: &str = "the process that watched the command was killed, and the command with it";
const KEEPER_HUNG: &str = "the process that watched the command did not answer and was killed, and the command with it";
const BOOT_ENDED: &str = "the machine was restarted while the command was under way";

/// Checked arguments as their type.
pub(super) fn arguments<A: DeserializeOwned>(value: &Value) -> Result<A, ToolError> {
    A::deserialize(value).map_err(|error| ToolError::new(ErrorCode::InvalidArguments, error.to_string()))
}

/// `bash`.
pub(super) async fn command(shared: &Shared, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let args: BashArgs = arguments(&ask.call.arguments)?;
    let directory = place::directory(&ask.place.workspace, args.cwd.as_deref())?;
    let keeper = shared.keeper(ask.call.thread).await;
    // In this order: a stop revokes first, and then counts.
    let stops = keeper.stops();
    if ask.is_revoked() {
        return Err(ToolError::new(ErrorCode::Cancelled, "the run was stopped before the command began"));
    }
    crash_point(CrashPoint::BeforeEffect);
    let begun = begin(shared, &keeper, ask, request(shared, ask, &args, directory), stops).await?;
    crash_point(CrashPoint::DuringEffect);
    if args.run_in_background && begun == Begun::Now {
        crash_point(CrashPoint::AfterEffect);
        return Ok(report::started(JobId(ask.call.intent.0)));
    }
    let until = Instant::now() + args.patience();
    let mut running = Running::new(shared, keeper, ask, (ask.call.start, args), until);
    let over = running.wait().await;
    crash_point(CrashPoint::AfterEffect);
    Ok(running.outcome(&over))
}

fn request(shared: &Shared, ask: &Ask, wanted: &BashArgs, cwd: PathBuf) -> Start {
    // The dashes: a command may begin with one.
    let argv = [shared.shell.as_str(), "-c", "--", wanted.command.as_str()];
    Start {
        seq: ask.call.intent.0,
        attempt: ask.call.start,
        argv: argv.map(str::to_owned).to_vec(),
        cwd,
        env: shared.env.clone(),
        // The call's own time is over earlier; then the command goes on as a job.
        timeout_ms: u64::try_from(shared.settings.job_lifetime.as_millis()).unwrap_or(u64::MAX),
        label: wanted.label(),
        // A command that somebody waits for must not wait for somebody.
        input: wanted.run_in_background,
    }
}

/// Has the command started. Sending the same start again is safe: its claim is taken once.
async fn begin(shared: &Shared, keeper: &KeeperOf, ask: &Ask, start: Start, stops: u64) -> Result<Begun, ToolError> {
    for _ in 0..STARTS_TRIED {
        let link = keeper.start(shared, &ask.place, stops).await?;
        if keeper.is_cancelled(start.seq) {
            return Err(ToolError::new(ErrorCode::Cancelled, "it was cancelled before the command began"));
        }
        match link.request(Call::Start(start.clone())).await {
            Ok(_) => {
                if keeper.is_cancelled(start.seq) {
                    // The kill may have come before the start; its end is waited for like any other.
                    let _ = link.request(Call::Kill { seq: start.seq }).await;
                }
                return Ok(Begun::Now);
            }
            Err(KeeperError::Refused(refusal)) => match refusal.code {
                // By the start that was sent before the connection broke. What became of it is found out by waiting.
                RefusalCode::AlreadyClaimed => return Ok(Begun::Before),
                RefusalCode::ShuttingDown => drop(link.ended(ANSWERS_WITHIN).await),
                RefusalCode::SpawnFailed => {
                    return Err(failed(format!("it could not be started: {}", refusal.message)));
                }
                RefusalCode::TooManyJobs => {
                    let message = format!("{}; end some with bash_kill (bash_list names them)", refusal.message);
                    return Err(failed(message));
                }
                RefusalCode::Storage => {
                    let message = format!("nothing ran, because the runtime's disk refuses: {}", refusal.message);
                    return Err(ToolError::new(ErrorCode::StoreFailed, message));
                }
                RefusalCode::BadRequest
                | RefusalCode::UnknownRequest
                | RefusalCode::LineTooLong
                | RefusalCode::UnsupportedVersion
                | RefusalCode::HelloFirst
                | RefusalCode::NotFound
                | RefusalCode::InputClosed
                | RefusalCode::InputFull
                | RefusalCode::KeeperAlive
                | RefusalCode::BadSpec
                | RefusalCode::StartupFailed
                | RefusalCode::NotConfined => return Err(ToolError::new(ErrorCode::Internal, refusal.to_string())),
            },
            Err(KeeperError::Closed) => drop(link.ended(ANSWERS_WITHIN).await),
            Err(error @ (KeeperError::Timeout | KeeperError::Corrupt { .. } | KeeperError::Io(_))) => {
                tracing::warn!(%error, "a keeper does not answer a start");
                keeper.give_up(&link).await;
            }
        }
    }
    Err(ToolError::new(ErrorCode::Unavailable, "commands cannot be run at the moment: keepers end as they are asked"))
}

fn failed(message: String) -> ToolError {
    ToolError::new(ErrorCode::CommandFailed, message)
}

/// Settles a `bash` whose result is missing.
pub(super) async fn recover(shared: &Shared, ask: &Ask, job: &JobFacts) -> Settled {
    let args: BashArgs = match arguments(&ask.call.arguments) {
        Ok(args) => args,
        Err(error) => return Settled::Outcome(error.into()),
    };
    let keeper = shared.keeper(ask.call.thread).await;
    let patience = args.patience();
    let mut running = Running::new(shared, keeper.clone(), ask, (job.attempt, args), Instant::now());
    let seq = ask.call.intent.0;
    let over = match keeper.known(shared, seq, Some(job.attempt)).await {
        Known::Running(_, state) => {
            let ran = Duration::from_millis(state.elapsed_ms);
            running.until = Instant::now() + patience.saturating_sub(ran);
            running.wait().await
        }
        Known::Ended { status, survives } => Over::Ended { status, survives },
        Known::Nothing => match lakitu_keeper::boot_id() {
            Ok(boot) if boot == job.boot_id => match lakitu_keeper::claim(&keeper.dir, seq, job.attempt) {
                Ok(true) => return Settled::NeverBegan,
                Ok(false) => running.again().await,
                Err(error) => return Settled::Outcome(unreadable(&error).into()),
            },
            Ok(_) => Over::Lost(BOOT_ENDED),
            Err(error) => return Settled::Outcome(unreadable(&error).into()),
        },
    };
    Settled::Outcome(running.outcome(&over))
}

fn unreadable(error: &std::io::Error) -> ToolError {
    ToolError::new(ErrorCode::Interrupted, format!("whether the command began cannot be found out: {error}"))
}

impl<'a> Running<'a> {
    fn new(
        shared: &'a Shared,
        keeper: Arc<KeeperOf>,
        ask: &Ask,
        (attempt, args): (u32, BashArgs),
        until: Instant,
    ) -> Self {
        Self {
            shared,
            keeper,
            thread: ask.call.thread,
            intent: ask.call.intent,
            attempt,
            args,
            until,
            told: spool::Follower::default(),
        }
    }

    /// The claim was taken between the question and now, or its taker died: looks once more.
    async fn again(&mut self) -> Over {
        match self.keeper.known(self.shared, self.intent.0, Some(self.attempt)).await {
            Known::Running(..) => self.wait().await,
            Known::Ended { status, survives } => Over::Ended { status, survives },
            Known::Nothing => Over::Lost(KEEPER_DIED),
        }
    }

    /// Waits until the command itself has ended, or the call's time is over; over broken connections.
    async fn wait(&mut self) -> Over {
        let seq = self.intent.0;
        loop {
            let link = match self.followed().await {
                Some(link) => link,
                None => match self.keeper.known(self.shared, seq, Some(self.attempt)).await {
                    Known::Running(link, _) => link,
                    Known::Ended { status, survives } => return Over::Ended { status, survives },
                    Known::Nothing => return Over::Lost(KEEPER_DIED),
                },
            };
            match self.follow(&link).await {
                Followed::Ended(status, survives) => return Over::Ended { status, survives },
                Followed::TimeIsUp => match timeout(GRACE, link.request(Call::Status { seq })).await {
                    Ok(Ok(Reply::Status(state))) => return over(state),
                    Ok(Err(KeeperError::Closed)) if Instant::now() < self.until + GRACE => {}
                    // It never waits for anything itself.
                    Ok(_) | Err(_) => return self.give_up(&link).await,
                },
                // The keeper may live and the connection not: the next round finds out.
                Followed::Closed if Instant::now() < self.until + GRACE => drop(link.ended(RECONNECT_AFTER).await),
                Followed::Closed => return self.give_up(&link).await,
            }
        }
    }

    /// Kills a keeper that hangs, and its commands with it.
    async fn give_up(&self, link: &Link) -> Over {
        self.keeper.give_up(link).await;
        match self.keeper.known(self.shared, self.intent.0, Some(self.attempt)).await {
            Known::Ended { status, survives } => Over::Ended { status, survives },
            Known::Running(..) | Known::Nothing => Over::Lost(KEEPER_HUNG),
        }
    }

    /// The connection on which this command is already being followed.
    async fn followed(&self) -> Option<Arc<Link>> {
        let link = self.keeper.attach(self.shared).await?;
        let known = link.seen().borrow().jobs.get(&self.intent.0).is_some_and(|job| job.attempt == self.attempt);
        known.then_some(link)
    }

    async fn follow(&mut self, link: &Link) -> Followed {
        let mut seen = link.seen();
        let spool = self.keeper.spool(self.intent.0);
        loop {
            let (status, bytes, gone, closed) = {
                let now = seen.borrow_and_update();
                match now.jobs.get(&self.intent.0) {
                    Some(job) => (job.status.clone(), job.bytes, job.gone, now.closed),
                    None => return Followed::Closed,
                }
            };
            if let Some(sink) = self.shared.sink.get()
                && let Some((from, text)) = self.told.next(&spool, bytes)
            {
                sink(self.thread, self.intent, from, text);
            }
            if let Some(status) = status {
                let survives = !gone && lives_on(&status);
                return Followed::Ended(status, survives);
            }
            if closed {
                return Followed::Closed;
            }
            match timeout_at(self.until, seen.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Followed::Closed,
                Err(_) => return Followed::TimeIsUp,
            }
        }
    }

    fn outcome(&self, over: &Over) -> ToolOutcome {
        let spool = self.keeper.spool(self.intent.0);
        let shown =
            |to: u64| spool::shown(&spool, to).unwrap_or_else(|error| format!("[its output cannot be read: {error}]"));
        let (job, background) = (JobId(self.intent.0), self.args.run_in_background);
        let had_started = background.then(|| report::had_started(job));
        let note = self.args.note().or(had_started);
        match over {
            Over::Ended { status, survives } => report::ended(report::Ended {
                job,
                status,
                survives: *survives,
                output: &shown(status.bytes),
                note: note.as_deref(),
            }),
            Over::GoesOn(_) if background => report::started(job),
            Over::GoesOn(state) => report::goes_on(state, self.args.patience(), &shown(state.bytes), note.as_deref()),
            Over::Lost(why) => {
                let claim = self.keeper.dir.join(self.intent.0.to_string()).join(format!("claim.{}", self.attempt));
                let bytes = spool::length(&spool);
                report::interrupted(report::Evidence {
                    why,
                    started: spool::modified(&claim),
                    last_output: spool::modified(&spool),
                    spool: &spool,
                    bytes,
                    output: &shown(bytes),
                })
            }
        }
    }
}

enum Followed {
    Ended(Status, bool),
    Closed,
    TimeIsUp,
}

/// What a keeper that was asked for a call's state says of it.
fn over(state: CallState) -> Over {
    match (state.job, state.status) {
        (Some(job), None) => Over::GoesOn(job),
        (job, Some(status)) => {
            let survives = job.is_some() && lives_on(&status);
            Over::Ended { status, survives }
        }
        (None, None) => Over::Lost(KEEPER_DIED),
    }
}
