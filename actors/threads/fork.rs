//! A thread made out of another one's beginning.
//!
//! The new journal begins with the other one's events, byte for byte, so its requests begin with the same bytes and nothing
//! of it depends on the other thread any more. They are copied in steps without a row of the thread: it is there once all of
//! them are, with the last step. One that is cut off before leaves events that no row names and no one finds.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::event::{CheckpointReason, Settings};
use lakitu_kernel::{ErrorCode, Event, EventBody, Hash, Seq, ThreadId, ToolError, pathname};
use serde::{Deserialize, Serialize};

use super::agent::{ChangedFiles, Msg, State, Stop, Wanted, append, thread_row, wanted};
use super::{Threads, aside, not_found, prompt};
use crate::store::{Blob, Op, Step};
use crate::wiring::Wiring;

/// Events that are copied in one step.
const COPIED_AT_ONCE: usize = 512;

/// A new thread, and where it left the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// The new thread.
    pub thread: ThreadId,
    /// The other one.
    pub from: ThreadId,
    /// The last event that both have.
    pub at: Seq,
    /// The files that were put into its workspace, where it has one of its own.
    pub files: Vec<String>,
}

impl Threads {
    /// Makes a thread whose conversation is that of another one up to `at`; none: all of it. Where that is no point with a
    /// valid history, the last one before it is taken. A call that is open there is `INTERRUPTED`, or never began. With a
    /// workspace, which must be empty or not be there yet, it works in that, and finds there the files that the agent
    /// had changed by then.
    pub async fn fork(&self, from: ThreadId, at: Option<Seq>, workspace: Option<PathBuf>) -> Result<Forked, ToolError> {
        let wiring = &self.wiring;
        let row = wiring.store.read(move |reading| reading.thread(from)).await.map_err(ToolError::from)?;
        let row = row.ok_or_else(|| not_found(from))?;
        let thread = self.new_id();
        let (at, mut state) = whole(wiring, (from, thread), at.unwrap_or(row.last_seq).min(row.last_seq)).await?;
        if state.history.is_empty() {
            let message = format!("nothing was said in {from} up to event {at}; the first prompt is event 2");
            return Err(ToolError::new(ErrorCode::InvalidArguments, message));
        }
        let (change, files) = match workspace {
            Some(workspace) => moved(wiring, &state, workspace).await?,
            None => (None, Vec::new()),
        };
        copy(wiring, (from, thread), at).await?;
        let expected = state.seq;
        let mut ops = Vec::new();
        let change = change.map(|(settings, prefix)| {
            let hash = Hash::of(&prefix);
            ops.push(Op::from(Blob { hash, bytes: prefix }));
            (settings, hash)
        });
        ops.extend(aside::decided(&mut state, Msg::Fork { from, at, change }, wiring));
        let under_way = |work: Wanted| match work {
            Wanted::Tool { intent, .. } => Some(intent),
            Wanted::Model { .. } | Wanted::Prepare { .. } | Wanted::PutBack(_) => None,
        };
        let unknown = wanted(&state).into_iter().filter_map(under_way).collect();
        let stop = Msg::Stop { how: Stop::Checkpoint(CheckpointReason::Manual, None), unknown };
        ops.extend(aside::decided(&mut state, stop, wiring));
        ops.extend(thread_row(&state, wiring.clock.now()));
        wiring.store.submit(Step { thread, expected, ops }).await.map_err(ToolError::from)?;
        Ok(Forked { thread, from, at, files })
    }
}

/// The last event up to `at` behind which the history is whole, and the state there.
async fn whole(wiring: &Wiring, (from, thread): (ThreadId, ThreadId), at: Seq) -> Result<(Seq, State), ToolError> {
    let mut at = at;
    loop {
        let near = wiring.store.read(move |reading| reading.events(from, Seq(at.0.saturating_sub(1)), 2));
        let near = near.await.map_err(ToolError::from)?;
        let torn = matches!(near.as_slice(), [last, next] if belongs(last, next));
        if !torn {
            let state = fold(wiring, from, thread, at).await?;
            if at <= Seq(1) || state.conclude().is_empty() {
                return Ok((at, state));
            }
        }
        at = Seq(at.0.saturating_sub(1));
    }
}

/// Whether an event says the rest of what the one before it begins: they come of one message, in one step.
fn belongs(last: &Event, next: &Event) -> bool {
    #[allow(clippy::wildcard_enum_match_arm, reason = "of many kinds of events a few belong to others")]
    match (&last.body, &next.body) {
        (
            _,
            EventBody::Usage { .. }
            | EventBody::Decision { .. }
            | EventBody::HistoryRepaired { .. }
            | EventBody::ApprovalAsked { .. }
            | EventBody::ToolIntent { .. }
            | EventBody::ThreadCompleted {},
        )
        | (EventBody::BeadChanged { .. } | EventBody::ArtifactSaved { .. }, EventBody::ToolResult { .. })
        | (EventBody::EditRecorded { .. }, EventBody::ToolResult { .. } | EventBody::EditRestored { .. })
        // That of a call: right behind one by hand stands no result.
        | (
            EventBody::CheckpointRestored { .. },
            EventBody::EditRecorded { call_id: Some(_), .. } | EventBody::ToolResult { .. },
        ) => true,
        (EventBody::CheckpointCreated { id, .. }, EventBody::ToolResult { .. }) => id.seq != last.seq,
        (EventBody::ToolIntent { call_id, .. }, EventBody::ToolResult { call_id: of, .. }) => call_id == of,
        (_, _) => false,
    }
}

/// The state that the first events of a thread make, as another one's.
async fn fold(wiring: &Wiring, from: ThreadId, thread: ThreadId, at: Seq) -> Result<State, ToolError> {
    let mut state = State::new(thread);
    while state.seq < at {
        let events = page(wiring, from, state.seq, at).await?;
        events.iter().for_each(|event| state.evolve(event));
    }
    Ok(state)
}

/// The next events of a thread, up to `at`.
async fn page(wiring: &Wiring, from: ThreadId, after: Seq, at: Seq) -> Result<Vec<Event>, ToolError> {
    let left = usize::try_from(at.0 - after.0).unwrap_or(usize::MAX).min(COPIED_AT_ONCE);
    let events = wiring.store.read(move |reading| reading.events(from, after, left)).await.map_err(ToolError::from)?;
    if events.is_empty() {
        let message = format!("the journal of {from} ends at event {after}, before {at}");
        return Err(ToolError::new(ErrorCode::StoreCorrupt, message));
    }
    Ok(events)
}

/// Copies the first events of a thread.
async fn copy(wiring: &Wiring, (from, thread): (ThreadId, ThreadId), at: Seq) -> Result<(), ToolError> {
    let mut last = Seq::ZERO;
    while last < at {
        let events = page(wiring, from, last, at).await?;
        let step = Step { thread, expected: last, ops: events.iter().map(append).collect() };
        last = events.last().map_or(at, |event| event.seq);
        wiring.store.submit(step).await.map_err(ToolError::from)?;
    }
    Ok(())
}

type Moved = (Option<(Settings, Bytes)>, Vec<String>);

/// The settings for a workspace of its own, once the files that the agent changed stand there.
async fn moved(wiring: &Arc<Wiring>, state: &State, workspace: PathBuf) -> Result<Moved, ToolError> {
    let Some(stored) = state.settings.clone() else { return Ok((None, Vec::new())) };
    let settings = Settings { workspace: workspace.clone(), ..stored };
    let files = put(wiring, &state.kept.files, workspace).await?;
    let prefix = prompt::prefix(&settings, &state.boundary, wiring.catalogue).await;
    Ok((Some((settings, prefix)), files))
}

/// Puts files into a new directory.
async fn put(wiring: &Wiring, files: &ChangedFiles, workspace: PathBuf) -> Result<Vec<String>, ToolError> {
    let new = workspace.clone();
    blocking(move || empty(&new)).await?;
    let (mut done, mut directories) = (Vec::new(), Vec::new());
    for (path, file) in files {
        let path = pathname::path(path);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let Some(hash) = file.hash.filter(|_| inside) else { continue };
        let bytes = wiring.store.read(move |reading| reading.blob(hash)).await.map_err(ToolError::from)?;
        let (target, mode) = (workspace.join(&path), file.mode);
        match file.kind {
            FileKind::File => blocking(move || new_file(&target, &bytes, mode)).await?,
            FileKind::Link => blocking(move || new_link(&target, &bytes)).await?,
            FileKind::Directory => {
                directories.push((target.clone(), mode));
                blocking(move || std::fs::create_dir_all(target)).await?;
            }
        }
        done.push(pathname::text(&path));
    }
    // At last, and the deepest first: they may forbid to put anything into them.
    for (target, mode) in directories.into_iter().rev() {
        blocking(move || std::fs::set_permissions(target, std::fs::Permissions::from_mode(mode))).await?;
    }
    Ok(done)
}

fn empty(workspace: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(workspace)?;
    match std::fs::read_dir(workspace)?.next() {
        None => Ok(()),
        Some(_) => Err(std::io::Error::other(format!("{} is not empty", workspace.display()))),
    }
}

fn new_file(target: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::io::Write;
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::File::create_new(target)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

fn new_link(target: &Path, leads_to: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::os::unix::fs::symlink(OsStr::from_bytes(leads_to), target)
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> Result<(), ToolError> {
    let done = crate::blocking::spawn_blocking(work).await;
    let failed = |error: String| ToolError::new(ErrorCode::InvalidArguments, format!("the new workspace: {error}"));
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}
