//! `bash_output`, `bash_kill` and `bash_list`: what can be done with jobs.

use lakitu_keeper::KeeperError;
use lakitu_keeper::protocol::{Call, RefusalCode, Status};
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{ErrorCode, ToolError};
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::client::Seen;
use super::job::JobId;
use super::keeper_of::{KeeperOf, Known};
use super::kill::KillArgs;
use super::output::OutputArgs;
use super::report::{self, JobView};
use super::run::arguments;
use super::runner::{GRACE, Shared};
use super::spool;
use crate::tools::Ask;

/// `bash_output`.
pub(super) async fn output(shared: &Shared, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let OutputArgs { job, since, wait } = arguments(&ask.call.arguments)?;
    crash_point(CrashPoint::BeforeEffect);
    let keeper = shared.keeper(ask.call.thread).await;
    if wait > 0 {
        // That the time is over is no failure: what there is by then is shown.
        let _ = timeout(Duration::from_millis(wait), news(shared, &keeper, job, since)).await;
    }
    // Asked before the output is read: what is said to be the end has all its output before it.
    let known = keeper.known(shared, job.0, None).await;
    let path = keeper.spool(job.0);
    if matches!(known, Known::Nothing) && !path.exists() {
        return Err(not_found(job));
    }
    let length = spool::length(&path);
    let read =
        since.map_or_else(|| spool::shown(&path, length).map(|text| (text, length)), |from| spool::page(&path, from));
    let (text, next) = read
        .map_err(|error| ToolError::new(ErrorCode::Internal, format!("the output of {job} cannot be read: {error}")))?;
    let text = kept(text, &known, &path);
    let view = match &known {
        Known::Running(_, state) => JobView::Running(state),
        Known::Ended { status, survives } => JobView::Ended { status, survives: *survives },
        Known::Nothing => JobView::Unknown,
    };
    crash_point(CrashPoint::AfterEffect);
    Ok(ToolOutcome::ok(report::job_output(job, &text, next, &view)))
}

/// The output; where it was removed since the command ended, that it was.
fn kept(text: String, known: &Known, path: &Path) -> String {
    match known {
        Known::Ended { status, .. } if status.bytes > 0 && !path.exists() => {
            format!("(its output of {} bytes is no longer kept)", status.bytes)
        }
        Known::Ended { .. } | Known::Running(..) | Known::Nothing => text,
    }
}

/// Waits until a job's command ends or, where a byte is given, until there is output behind that.
async fn news(shared: &Shared, keeper: &KeeperOf, job: JobId, since: Option<u64>) {
    let there = |bytes: u64| since.is_some_and(|since| bytes > since);
    if there(spool::length(&keeper.spool(job.0))) {
        return;
    }
    let Some(link) = keeper.attach(shared).await else { return };
    let mut seen = link.seen();
    let ended = |seen: &Seen| seen.jobs.get(&job.0).is_none_or(|job| job.status.is_some());
    // What a command left behind may write on after its end.
    let had_ended = ended(&seen.borrow());
    if had_ended && since.is_none() {
        return;
    }
    let gone = |seen: &Seen| seen.closed || seen.jobs.get(&job.0).is_none_or(|job| job.gone);
    let news = |seen: &Seen| {
        gone(seen) || (ended(seen) && !had_ended) || seen.jobs.get(&job.0).is_some_and(|job| there(job.bytes))
    };
    // An error means that the connection is closed.
    let _ = seen.wait_for(news).await;
}

/// `bash_kill`.
pub(super) async fn kill(shared: &Shared, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let KillArgs { job } = arguments(&ask.call.arguments)?;
    let keeper = shared.keeper(ask.call.thread).await;
    crash_point(CrashPoint::BeforeEffect);
    let Some(link) = keeper.attach(shared).await else { return ended(shared, &keeper, job, true).await };
    match link.request(Call::Kill { seq: job.0 }).await {
        Ok(_) => crash_point(CrashPoint::DuringEffect),
        Err(KeeperError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
            return ended(shared, &keeper, job, true).await;
        }
        Err(error) => {
            return Err(ToolError::new(
                ErrorCode::Unavailable,
                format!("{job} cannot be ended at the moment: {error}"),
            ));
        }
    }
    if timeout(GRACE, link.gone(job.0)).await.is_err() {
        let message =
            format!("{job} was told to end and has not within {} s; bash_list says whether it lives", GRACE.as_secs());
        return Err(ToolError::new(ErrorCode::Timeout, message));
    }
    crash_point(CrashPoint::AfterEffect);
    ended(shared, &keeper, job, false).await
}

async fn ended(shared: &Shared, keeper: &KeeperOf, job: JobId, already: bool) -> Result<ToolOutcome, ToolError> {
    let status: Option<Status> = match keeper.known(shared, job.0, None).await {
        Known::Ended { status, .. } => Some(status),
        Known::Running(..) | Known::Nothing => None,
    };
    if status.is_none() && already && !keeper.spool(job.0).exists() {
        return Err(not_found(job));
    }
    Ok(ToolOutcome::ok(report::killed(job, status.as_ref(), already)))
}

/// `bash_list`.
pub(super) async fn list(shared: &Shared, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let keeper = shared.keeper(ask.call.thread).await;
    crash_point(CrashPoint::BeforeEffect);
    let Some(link) = keeper.attach(shared).await else { return Ok(ToolOutcome::ok(report::job_list(&[]))) };
    let jobs = link.list().await.map_err(|error| {
        ToolError::new(ErrorCode::Unavailable, format!("the jobs cannot be listed at the moment: {error}"))
    })?;
    crash_point(CrashPoint::AfterEffect);
    Ok(ToolOutcome::ok(report::job_list(&jobs)))
}

pub(super) fn not_found(job: JobId) -> ToolError {
    ToolError::new(
        ErrorCode::JobNotFound,
        format!("there is no {job} in this thread; bash_list names the running ones"),
    )
}
