//! What a runtime goes on with when it comes up: every run that was under way when its predecessor was killed, and every
//! one that its predecessor stopped because it was itself told to end. Whatever else stopped a thread, it stays.

use lakitu_kernel::supervise::boxed;
use std::sync::Arc;

use lakitu_kernel::event::{EventBody, Resumed};
use lakitu_kernel::{Seq, ThreadId, ToolError};
use tokio::task::JoinSet;

use super::Threads;
use super::follow::{Following, Heard};
use crate::store::{Reading, StoreError, ThreadRow, ThreadStatus, ThreadsBy};
use crate::wiring::Wiring;

/// Threads that are looked at in one read transaction: it must stay short.
const PAGE: usize = 100;

/// Goes on with what is unfinished, the last active first, so many at a time; before that, with the jobs of threads that
/// are not. Returns when the last of them has ended, or waits for somebody's consent.
pub async fn go_on(wiring: Arc<Wiring>, at_a_time: usize) {
    if let Err(error) = crate::bash_facts::adopt(&wiring).await {
        tracing::error!(%error, "jobs that were left running are not looked for: their keepers' lease ends them");
    }
    if at_a_time == 0 {
        return;
    }
    let mut waiting = match unfinished(&wiring).await {
        Ok(found) => found.into_iter(),
        Err(error) => return tracing::error!(%error, "what is unfinished cannot be told; nothing is gone on with"),
    };
    let mut runs = JoinSet::new();
    loop {
        while runs.len() < at_a_time
            && let Some(row) = waiting.next()
        {
            let wiring = wiring.clone();
            runs.spawn(boxed(async move {
                let thread = row.id;
                if let Err(error) = one(&wiring, row).await {
                    tracing::warn!(%thread, %error, "an unfinished thread does not go on");
                }
            }));
        }
        if runs.join_next().await.is_none() {
            return;
        }
    }
}

/// The threads that go on, the last active first.
pub async fn unfinished(wiring: &Wiring) -> Result<Vec<ThreadRow>, ToolError> {
    let mut found = Vec::new();
    for status in [ThreadStatus::Running, ThreadStatus::Waiting, ThreadStatus::Checkpointed] {
        let mut cursor: Option<String> = None;
        loop {
            let read = wiring.store.read(move |reading| page(reading, status, cursor.as_deref()));
            let (rows, next) = read.await.map_err(ToolError::from)?;
            found.extend(rows);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
    }
    found.sort_by_key(|row| std::cmp::Reverse(row.updated_at));
    Ok(found)
}

fn page(
    reading: &Reading,
    status: ThreadStatus,
    cursor: Option<&str>,
) -> Result<(Vec<ThreadRow>, Option<String>), StoreError> {
    let page = reading.threads_by(&ThreadsBy::Status(status), PAGE, cursor)?;
    let mut rows = Vec::new();
    for row in page.items {
        if status != ThreadStatus::Checkpointed || goes_on(reading, row.id, row.last_seq)? {
            rows.push(row);
        }
    }
    Ok((rows, page.cursor))
}

/// Whether a checkpointed thread was stopped by the end of its runtime alone.
fn goes_on(reading: &Reading, thread: ThreadId, last: Seq) -> Result<bool, StoreError> {
    let events = reading.events(thread, Seq(last.0.saturating_sub(1)), 1)?;
    Ok(events.iter().any(|event| matches!(event.body, EventBody::ThreadCheckpointed { goes_on: true, .. })))
}

async fn one(wiring: &Arc<Wiring>, row: ThreadRow) -> Result<(), ToolError> {
    let (thread, last) = (row.id, row.last_seq);
    let now = wiring.store.read(move |reading| reading.thread(thread)).await.map_err(ToolError::from)?;
    if now.is_none_or(|now| now.last_seq != last) {
        // Somebody spoke to it meanwhile: it goes on as they said.
        return Ok(());
    }
    let mut run = Following::new(wiring, thread, last);
    Threads::new(wiring.clone()).resume(thread, Resumed::Boot, None).await?;
    while let Some(heard) = run.next().await? {
        // It may wait for somebody for days: that keeps no other thread from going on.
        if matches!(&heard, Heard::Event(event) if matches!(event.body, EventBody::ApprovalAsked { .. })) {
            break;
        }
    }
    Ok(())
}
