//! `bash_input`: a text for a job, given once.

use std::time::Duration;

use lakitu_keeper::KeeperError;
use lakitu_keeper::protocol::{Call, Input, Refusal, RefusalCode, Status};
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::limits::INPUT_DEADLINE;
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{ErrorCode, ToolError};
use tokio::time::{Instant, sleep};

use super::input::InputArgs;
use super::job::JobId;
use super::jobs::not_found;
use super::keeper_of::{KeeperOf, Known};
use super::report;
use super::run::arguments;
use super::runner::Shared;
use super::spool;
use crate::tools::Ask;

/// A keeper tells nobody that there is room again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What became of a text.
enum Given {
    /// The job has it, now or since an earlier request.
    Taken,
    /// The job is not alive. Whether it had the text before may stand in its status; `sent`: it may have.
    Over { sent: bool },
}

/// `bash_input`. `again`: an earlier process may have done it.
pub(super) async fn input(shared: &Shared, ask: &Ask, again: bool) -> Result<ToolOutcome, ToolError> {
    let InputArgs { job, text, eof } = arguments(&ask.call.arguments)?;
    let keeper = shared.keeper(ask.call.thread).await;
    // What is put out from here on may be the answer.
    let since = spool::length(&keeper.spool(job.0));
    let key = ask.call.intent.0;
    crash_point(CrashPoint::BeforeEffect);
    let given = give(shared, &keeper, Input { seq: job.0, key, text: text.clone(), end: eof }, again).await?;
    crash_point(CrashPoint::AfterEffect);
    let ended = match given {
        Given::Taken => None,
        Given::Over { sent } => Some(had_it(shared, &keeper, job, key, sent).await?),
    };
    Ok(ToolOutcome::ok(report::given(job, text.len(), eof, since, ended.as_ref())))
}

/// Gives the text as soon as there is room. Asking again is safe: a key is taken once.
async fn give(shared: &Shared, keeper: &KeeperOf, input: Input, again: bool) -> Result<Given, ToolError> {
    let until = Instant::now() + INPUT_DEADLINE;
    let mut sent = again;
    loop {
        let Some(link) = keeper.attach(shared).await else { return Ok(Given::Over { sent }) };
        let in_time = Instant::now() < until;
        match link.request(Call::Input(input.clone())).await {
            Ok(_) => return Ok(Given::Taken),
            Err(KeeperError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
                return Ok(Given::Over { sent });
            }
            Err(KeeperError::Refused(refusal)) if refusal.code == RefusalCode::InputFull && in_time => {
                sleep(ASKED_AGAIN_AFTER).await;
            }
            Err(KeeperError::Refused(refusal)) => return Err(refused(JobId(input.seq), &refusal)),
            // The keeper ended, or the connection alone did.
            Err(KeeperError::Closed) if in_time => sent = true,
            Err(error) => {
                let message = format!("whether {} was given the text is not known: {error}", JobId(input.seq));
                return Err(ToolError::new(ErrorCode::Unknown, message));
            }
        }
    }
}

fn refused(job: JobId, refusal: &Refusal) -> ToolError {
    let why = &refusal.message;
    if refusal.code == RefusalCode::InputFull {
        let message = format!(
            "{job} does not read its input: {why}, and there was no room for {} s; nothing of this text was given",
            INPUT_DEADLINE.as_secs()
        );
        return ToolError::new(ErrorCode::Timeout, message);
    }
    if refusal.code == RefusalCode::InputClosed {
        let message = format!(
            "{job} takes no input ({why}); only a command that was started with run_in_background does, until its input \
             is ended. Nothing was given"
        );
        return ToolError::new(ErrorCode::InputClosed, message);
    }
    ToolError::new(ErrorCode::Internal, format!("{job} was given nothing: {why}"))
}

/// The status of an ended job that had taken this text before it ended.
async fn had_it(shared: &Shared, keeper: &KeeperOf, job: JobId, key: u64, sent: bool) -> Result<Status, ToolError> {
    match keeper.known(shared, job.0, None).await {
        Known::Ended { status, .. } if status.last_input >= Some(key) => Ok(status),
        Known::Ended { status, .. } => {
            let message = format!("{job} has ended [{}]; nothing was given", report::end(&status));
            Err(ToolError::new(ErrorCode::JobNotFound, message))
        }
        Known::Nothing if sent => {
            let message =
                format!("{job} has ended and how was not recorded; whether it was given the text is not known");
            Err(ToolError::new(ErrorCode::Interrupted, message))
        }
        Known::Running(..) | Known::Nothing => Err(not_found(job)),
    }
}
