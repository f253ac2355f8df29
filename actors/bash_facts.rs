//! What the store knows of commands: those that an earlier process started, and those that outlived their calls.

use std::sync::Arc;

use lakitu_kernel::{Seq, ThreadId, ToolError};

use crate::effects::Care;
use crate::store::{JobRow, JobState, Op, Reading, Step, StoreError, ThreadRow, ThreadStatus};
use crate::tools::Ask;
use crate::tools::bash::{BashTools, JobFacts, JobId};
use crate::wiring::Wiring;

/// The tools, and the facts of the command's `jobs` row.
pub(crate) async fn of(wiring: &Wiring, ask: &Ask) -> Result<(BashTools, JobFacts), ToolError> {
    let tools = crate::work::enter_bash(wiring).await?;
    let (thread, intent) = (ask.call.thread, ask.call.intent);
    let row = wiring.store.read(move |reading| reading.job(thread, intent)).await.map_err(ToolError::from)?;
    // Without a row it was not a command: the other shell tools need no facts.
    let facts = row.map_or(JobFacts { boot_id: String::new(), attempt: ask.call.start }, |row| JobFacts {
        boot_id: row.boot_id,
        attempt: row.attempt,
    });
    Ok((tools, facts))
}

/// Writes down how a thread's jobs ended. Those that are still waited for have a call that will tell.
///
/// To be called while nothing of the thread begins. What cannot be written now is found again by whoever comes next.
pub(crate) async fn settle(wiring: &Wiring, thread: ThreadId, waited_for: impl Fn(Seq) -> bool) {
    /// A thread that begins again writes a few steps meanwhile: its prompt, that it goes on.
    const TRIES: u32 = 8;
    for _ in 0..TRIES {
        match try_settle(wiring, thread, &waited_for).await {
            Ok(()) => return,
            Err(StoreError::OwnershipLost { .. }) => {
                tracing::debug!(%thread, "the thread went on between the look and the step: another look");
            }
            Err(error) => return tracing::warn!(%thread, %error, "how jobs ended is not written down"),
        }
    }
    tracing::debug!(%thread, "the thread goes on too fast: how its jobs ended is written down at its end");
}

async fn try_settle(wiring: &Wiring, thread: ThreadId, waited_for: impl Fn(Seq) -> bool) -> Result<(), StoreError> {
    let read = wiring.store.read(move |reading| Ok((reading.open_jobs_of(thread)?, reading.last_seq(thread)?)));
    let (open, expected) = read.await?;
    let mut ops = Vec::new();
    for job in open.into_iter().filter(|job| !waited_for(job.seq)) {
        ops.extend(ended(wiring, job).await.map(Op::from));
    }
    if ops.is_empty() {
        return Ok(());
    }
    wiring.store.submit(Step { thread, expected, ops }).await.map(drop)
}

/// Looks after what a settled thread has left running, for as long as that lives: how it ended is written down then, and
/// the keeper let go of. `settled` is the thread's last event: what is asked of it later is its agent's.
pub(crate) fn look_after(wiring: &Arc<Wiring>, thread: ThreadId, settled: Seq) {
    let (key, own) = (Care { thread, settled }, wiring.clone());
    // One that looks after an earlier end knows nothing of what began since.
    wiring.care.keys_of(&thread).iter().filter(|before| **before != key).for_each(|before| wiring.care.cancel(before));
    let work = |_| async move {
        own.manifests.settled((thread, settled)).await;
        // Those that ended while the run was on; the others when the last of them has.
        settle(&own, thread, |job| job > settled).await;
        own.bash_tools.quiet(thread).await;
        settle(&own, thread, |job| job > settled).await;
        own.bash_tools.rest(thread).await;
        // Nobody waits for this outcome.
        own.care.cancel(&key);
    };
    wiring.care.begin(key, work, drop);
}

async fn ended(wiring: &Wiring, job: JobRow) -> Option<JobRow> {
    let end = wiring.bash_tools.end_of(job.thread, JobId(job.seq.0)).await?;
    let ended_at = end.at.or_else(|| Some(wiring.clock.now()));
    Some(JobRow { state: JobState::Ended, end: end.how, ended_at, bytes: end.bytes, ..job })
}

/// Finds what the settled threads of an earlier process left running: it goes on under this one, as it would have under
/// that. An unfinished thread's jobs are found by its agent.
pub(crate) async fn adopt(wiring: &Arc<Wiring>) -> Result<(), ToolError> {
    for row in wiring.store.read(settled_with_jobs).await.map_err(ToolError::from)? {
        wiring.bash_tools.adopt(row.id).await;
        // What somebody asks of it from now on is its agent's.
        settle(wiring, row.id, |job| job > row.last_seq).await;
        look_after(wiring, row.id, row.last_seq);
    }
    Ok(())
}

fn settled_with_jobs(reading: &Reading) -> Result<Vec<ThreadRow>, StoreError> {
    let mut threads: Vec<ThreadId> = reading.open_jobs()?.iter().map(|job| job.thread).collect();
    threads.dedup();
    let mut rows = Vec::new();
    for thread in threads {
        let row = reading.thread(thread)?;
        rows.extend(row.filter(|row| {
            matches!(row.status, ThreadStatus::Completed | ThreadStatus::Failed | ThreadStatus::Cancelled)
        }));
    }
    Ok(rows)
}
