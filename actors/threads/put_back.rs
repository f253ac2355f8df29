//! Files of a thread are put back to earlier versions: all of them or none, journaled in the thread, and carried on with
//! wherever a runtime was killed over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_kernel::edit::{PutBackFor, Version};
use lakitu_kernel::tool::ToolCall;
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError, pathname};
use serde_json::Value;

use super::agent::AgentMsg;
use super::desk::Desk;
use super::restore::{ChangedSince, Since, put_backs_of};
use super::{Threads, crashing};
use crate::effects::Prepared;
use crate::store::{EditRow, Edits, Reading, RestoringRow, StoreError, ThreadStatus, kept};
use crate::tools::file::{Found, PutBack};
use crate::tools::workspace::Content;
use crate::tools::{Ask, Place};
use crate::work::enter_file;

/// Why an edit is taken back, as characters.
const REASON_CHARS_MAX: usize = 1000;

/// Edits that are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Whose they are.
    pub thread: ThreadId,
    /// The edits, as they were before; at least one.
    pub edits: Vec<EditRow>,
    /// The event with which their taking back was done.
    pub seq: Seq,
}

impl PutBack {
    /// A file that is to be put back to a version whose bytes are in the blob store; none: to no file.
    pub fn to(reading: &Reading, path: String, found: Found, to: Option<Version>) -> Result<Self, StoreError> {
        let content =
            |Version { kind, mode, hash }| Ok::<_, StoreError>(Content { kind, mode, bytes: reading.blob(hash)? });
        let to = to.map(content).transpose()?;
        Ok(Self { path, found, to })
    }
}

impl Threads {
    /// Puts files of a thread back, verifiably: a redo record is durable in its journal before the first is written, and
    /// whoever finds it after a crash carries it on. Durable when this returns, with the position of the event that says
    /// so.
    ///
    /// # Errors
    /// `CONFLICT`, with every file named that is not what it may be: nothing was changed. `THREAD_BUSY` while a run is on.
    pub async fn put_back(
        &self,
        thread: ThreadId,
        put_back_for: PutBackFor,
        files: Vec<PutBack>,
    ) -> Result<Seq, ToolError> {
        if self.wiring.closed.load(std::sync::atomic::Ordering::Acquire) {
            return Err(ToolError::new(ErrorCode::Unavailable, "the runtime is about to end; nothing new is begun"));
        }
        let place = self.place(thread).await?;
        // What an earlier process was killed over is carried on with first: it holds the same locks.
        let finished = self.ask(thread, |reply| AgentMsg::Restored { reply }).await;
        if let Err(error) = finished {
            tracing::warn!(%thread, %error, "files that were being put back are not");
        }
        let call = ToolCall {
            thread,
            intent: Seq::ZERO,
            call_id: String::new(),
            tool: "rollback",
            arguments: Value::Null,
            start: 1,
        };
        let ask = Ask { call, place: Arc::new(place), known: Arc::default(), lease: None };
        let tools = enter_file(&self.wiring).await?;
        let prepared = tools.prepare_put_back(&ask, files).await?;
        let prepared = Prepared { redo: Arc::new(prepared.redo), locks: Arc::new(prepared.locks) };
        let asked = self.ask(thread, |reply| AgentMsg::Restore { put_back_for, prepared, reply }).await?;
        // Its agent crashed over it, and its successor carries it on: nobody here knows what comes of it.
        asked.ok_or_else(|| crashing(thread))
    }

    /// Sees to it that no run is on: one that an earlier process was killed in, and with which nobody goes on, is stopped
    /// where it is, after what its last write did was found out. Durable when this returns.
    ///
    /// # Errors
    /// `THREAD_BUSY` while a run is on.
    pub(super) async fn end_abandoned_run(&self, thread: ThreadId) -> Result<(), ToolError> {
        let row = self.wiring.store.read(move |reading| reading.thread(thread)).await.map_err(ToolError::from)?;
        if row.is_none_or(|row| !runs(row.status)) {
            return Ok(());
        }
        let asked = self.ask(thread, |reply| AgentMsg::Abandon { reply }).await?;
        asked.map(drop).ok_or_else(|| crashing(thread))
    }

    /// Ends what earlier processes were killed over while they put files back. What cannot be ended now is told in the
    /// log, and ended by whoever comes to its thread next.
    pub async fn finish_put_backs(&self) {
        let open = match self.wiring.store.read(Reading::restorings).await {
            Ok(open) => open,
            Err(error) => return tracing::error!(%error, "what files were being put back cannot be told"),
        };
        for RestoringRow { thread, .. } in open {
            let row = self.wiring.store.read(move |reading| reading.thread(thread)).await;
            // A run of it that goes on begins with that.
            if row.is_ok_and(|row| row.is_some_and(|row| !runs(row.status)))
                && let Err(error) = self.ask(thread, |reply| AgentMsg::Restored { reply }).await
            {
                tracing::warn!(%thread, %error, "files that were being put back are not");
            }
        }
    }

    /// Takes edits back: one, all of a step (`THREAD/SEQ`) or all of a thread, together or not at all. What they changed has
    /// the bytes and permission bits from before them, or is gone where nothing stood.
    ///
    /// # Errors
    /// `CONFLICT` where something changed since, unless `force`; `INVALID_ARGUMENTS` where there are no such edits, or where
    /// the bytes before one were not kept.
    pub async fn rollback(&self, id: &str, reason: &str, force: bool) -> Result<RolledBack, ToolError> {
        let (which, edits) = self.edits(id).await?;
        let thread = which.thread();
        self.end_abandoned_run(thread).await?;
        let place = self.place(thread).await?;
        let mut changed = ChangedSince::new();
        for edit in &edits {
            let path = named(&edit.path, &place.workspace);
            let refused = |why: &str| ToolError::new(ErrorCode::InvalidArguments, format!("{}: {why}", edit.path));
            if edit.before.is_some_and(|before| kept(before).is_none()) {
                return Err(refused(
                    "the bytes before this edit were not kept, so it cannot be taken back; nothing was changed",
                ));
            }
            if !force && edit.after.is_some_and(|after| after.hash.is_none()) {
                return Err(refused("nobody knows what this edit left there; --force puts the file back all the same"));
            }
            Since::take(&mut changed, path, (edit.before, edit.after));
        }
        let files = put_backs_of(&self.wiring.store, changed, force).await?;
        if files.is_empty() {
            let message = format!("{id} leaves everything as it was before, so there is nothing to take back");
            return Err(ToolError::new(ErrorCode::InvalidArguments, message));
        }
        let reason = reason.chars().take(REASON_CHARS_MAX).collect();
        let put_back_for = PutBackFor::Edit { edit: which.text(), reason };
        let seq = self.put_back(thread, put_back_for, files).await?;
        Ok(RolledBack { thread, edits, seq })
    }

    async fn edits(&self, id: &str) -> Result<(Edits, Vec<EditRow>), ToolError> {
        let none = || {
            let id: String = id.chars().take(80).collect();
            ToolError::new(ErrorCode::InvalidArguments, format!("there is no edit {id}; `lakitu edits ls` lists them"))
        };
        let which = Edits::from_text(id).ok_or_else(none)?;
        let read = self.wiring.store.read(move |reading| which.rows(reading));
        let edits = read.await.map_err(ToolError::from)?;
        if edits.is_empty() { Err(none()) } else { Ok((which, edits)) }
    }

    async fn place(&self, thread: ThreadId) -> Result<Place, ToolError> {
        let settings = Desk::new(self.wiring.clone()).settings(thread).await?;
        Ok(Place { workspace: settings.workspace, artifacts: settings.artifacts })
    }
}

/// Whether a thread of this status has a run.
fn runs(status: ThreadStatus) -> bool {
    matches!(status, ThreadStatus::Running | ThreadStatus::Waiting)
}

/// A path of the tables as the journal has it.
fn named(path: &str, workspace: &Path) -> String {
    let below = Path::new(path).strip_prefix(workspace).map(Path::to_owned);
    pathname::text(&below.unwrap_or_else(|_| PathBuf::from(path)))
}
