//! Going back to a checkpoint: the files that the agent changed since stand again as they did then, and a new thread has
//! the conversation of then. The old one keeps its own: nothing is lost by going back.
//!
//! Files first, verifiably (`put_back`), then the new thread, then a note of both. Whoever is interrupted asks again: files
//! that are back already are left as they are.

use std::collections::BTreeMap;

use lakitu_kernel::edit::{FileState, PutBackFor, Version};
use lakitu_kernel::limits::{CHECKPOINT_FILES_MAX, STEP_EVENTS_MAX};
use lakitu_kernel::{CheckpointId, ErrorCode, Event, EventBody, ThreadId, ToolError};
use serde::{Deserialize, Serialize};

use super::Threads;
use crate::checkpoint::{RestoreArgs, meant};
use crate::store::{CheckpointRow, Store};
use crate::tools::file::{Found, PutBack};
use crate::tools::{Ask, arguments};

/// A checkpoint that was gone back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBack {
    /// Which one.
    pub checkpoint: CheckpointId,
    /// The thread that goes on from it.
    pub thread: ThreadId,
    /// The files that are as they were then, by path.
    pub files: Vec<String>,
}

/// What a file was before the agent's first change behind a checkpoint, and what the last one left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    before: Option<FileState>,
    after: Option<FileState>,
}

impl Threads {
    /// Goes back to a checkpoint. Durable when this returns.
    ///
    /// # Errors
    /// `CONFLICT` where somebody else changed one of the files since, unless `force`: all of them are named, and nothing
    /// was changed. `CHECKPOINT_NOT_FOUND`; `THREAD_BUSY` while a run is on. One that an earlier process was killed in is
    /// none: it is stopped where it is.
    pub async fn restore(&self, id: CheckpointId, force: bool) -> Result<WentBack, ToolError> {
        let store = &self.wiring.store;
        let row = store.read(move |reading| reading.checkpoint(id)).await.map_err(ToolError::from)?;
        let row = row.ok_or_else(|| no_checkpoint(id))?;
        self.end_abandoned_run(id.thread).await?;
        let files = put_backs(store, id.thread, &row, force).await?;
        let names = files.iter().map(|file| file.path.clone()).collect();
        if !files.is_empty() {
            self.put_back(id.thread, PutBackFor::Checkpoint { id }, files).await?;
        }
        let forked = self.fork(id.thread, Some(row.as_of), None).await?;
        self.restored(id, forked.thread).await?;
        Ok(WentBack { checkpoint: id, thread: forked.thread, files: names })
    }
}

/// There is no such checkpoint.
pub(crate) fn no_checkpoint(id: CheckpointId) -> ToolError {
    let message = format!("there is no checkpoint {id}; `lakitu checkpoints ls` lists those that are kept");
    ToolError::new(ErrorCode::CheckpointNotFound, message)
}

/// What a call of `checkpoint_restore` puts back: files that its thread changed since.
///
/// # Errors
/// Those of [`Threads::restore`], but for `THREAD_BUSY`.
pub(crate) async fn called(store: &Store, ask: &Ask) -> Result<Vec<PutBack>, ToolError> {
    let RestoreArgs { id, force } = arguments(&ask.call.arguments)?;
    let none = || {
        let message = format!("there is no checkpoint {id} of this thread; checkpoint_list tells those that there are");
        ToolError::new(ErrorCode::CheckpointNotFound, message)
    };
    let asked = meant(&id, ask.call.thread).ok_or_else(none)?;
    let row = store.read(move |reading| reading.checkpoint(asked)).await.map_err(ToolError::from)?;
    put_backs(store, ask.call.thread, &row.ok_or_else(none)?, force).await
}

/// What has to be put back so that the files of this thread's agent are as they were at a checkpoint: one of its own, or
/// one of a thread that it was forked from since.
async fn put_backs(
    store: &Store,
    thread: ThreadId,
    row: &CheckpointRow,
    force: bool,
) -> Result<Vec<PutBack>, ToolError> {
    let mut changed = ChangedSince::new();
    let (mut last, mut is_of_it) = (row.as_of, row.id.thread == thread);
    loop {
        let read = store.read(move |reading| reading.events(thread, last, STEP_EVENTS_MAX));
        let events = read.await.map_err(ToolError::from)?;
        let Some(newest) = events.last() else { break };
        last = newest.seq;
        events.iter().for_each(|event| changes(&mut changed, event));
        is_of_it |= events.iter().any(|event| takes_over(event, row));
    }
    if !is_of_it {
        let message = format!("{} is a checkpoint of another thread; checkpoint_list tells those of this one", row.id);
        return Err(ToolError::new(ErrorCode::CheckpointNotFound, message));
    }
    put_backs_of(store, changed, force).await
}

/// Files by their path, with what they were and what was left.
pub(crate) type ChangedSince = BTreeMap<String, Since>;

/// What has to be put back so that none of these changes stands.
pub(crate) async fn put_backs_of(
    store: &Store,
    mut changed: ChangedSince,
    force: bool,
) -> Result<Vec<PutBack>, ToolError> {
    changed.retain(|_, since| !same(since.before, since.after));
    if changed.len() > CHECKPOINT_FILES_MAX {
        let message =
            format!("{} files changed since; at most {CHECKPOINT_FILES_MAX} are put back at once", changed.len());
        return Err(ToolError::new(ErrorCode::FileTooLarge, message));
    }
    let mut files = Vec::with_capacity(changed.len());
    for (path, since) in planned(changed, force)? {
        let read = store.read(move |reading| PutBack::to(reading, path, since.1, since.0));
        files.push(read.await.map_err(ToolError::from)?);
    }
    Ok(files)
}

/// Whether a journal is behind this the one of the checkpoint's thread, up to the checkpoint at least.
fn takes_over(event: &Event, row: &CheckpointRow) -> bool {
    matches!(&event.body, EventBody::ThreadForked { from, at, .. } if *from == row.id.thread && *at >= row.as_of)
}

/// Takes in what an event recorded.
pub(crate) fn changes(changed: &mut ChangedSince, event: &Event) {
    let EventBody::EditRecorded { files, .. } = &event.body else { return };
    for file in files {
        Since::take(changed, file.path.clone(), (file.before, file.after));
    }
}

impl Since {
    /// Takes in a later change of a file.
    pub(crate) fn take(
        changed: &mut ChangedSince,
        path: String,
        (before, after): (Option<FileState>, Option<FileState>),
    ) {
        changed.entry(path).or_insert(Self { before, after }).after = after;
    }
}

fn same(one: Option<FileState>, other: Option<FileState>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.version().is_some() && one.version() == other.version(),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// A version to go back to, and what may be found in its place.
type Plan = (Option<Version>, Found);

fn planned(changed: BTreeMap<String, Since>, force: bool) -> Result<Vec<(String, Plan)>, ToolError> {
    let (mut plans, mut refused) = (Vec::new(), Vec::new());
    for (path, since) in changed {
        let to = since.before.map(|before| before.version().filter(|_| before.kept));
        let found = match since.after {
            _ if force => Some(Found::Anything),
            None => Some(Found::Only(None)),
            Some(after) => after.version().map(|version| Found::Only(Some(version))),
        };
        match (to, found) {
            (Some(None), _) => refused.push(format!("{path}: its bytes of then were not kept")),
            (_, None) => {
                refused.push(format!("{path}: nobody knows what was left there; forced, it is put back all the same"))
            }
            (None, Some(found)) => plans.push((path, (None, found))),
            (Some(Some(version)), Some(found)) => plans.push((path, (Some(version), found))),
        }
    }
    if refused.is_empty() {
        return Ok(plans);
    }
    let message = format!("files that cannot be put back, so nothing was changed:\n{}", refused.join("\n"));
    Err(ToolError::new(ErrorCode::Conflict, message))
}
