//! Files are put back to earlier versions, outside of any turn: a redo record in the journal, then its effect, then what
//! came of it. Only in a thread whose run has ended: a run's own calls would not know what changed under them.

use lakitu_kernel::edit::{Changes, PutBackFor};
use lakitu_kernel::event::{EventBody, PreparedFile};
use lakitu_kernel::supervise::Reply;
use lakitu_kernel::tool::{ToolCall, ToolOutcome};
use lakitu_kernel::{ErrorCode, Seq, ToolError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commit::files_of;
use super::state::State;
use super::{Agent, Msg};
use crate::deadlines;
use crate::effects::{Done, Key, Prepared};
use crate::tools::Ask;

/// Files that are being put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// Where it was announced.
    pub began: Seq,
    /// What for.
    pub put_back_for: PutBackFor,
    /// The redo record.
    pub files: Vec<PreparedFile>,
}

/// Who waits for files to be put back.
pub(super) type Restorer = Reply<Result<Seq, ToolError>>;

/// Those who wait at a time; more are refused.
const RESTORERS_MAX: usize = 16;

impl State {
    pub(super) fn restored(&self, outcome: ToolOutcome) -> Vec<EventBody> {
        let Some(restoring) = &self.restoring else { return Vec::new() };
        let ToolOutcome { error, changes, output: _, files: _, images: _, bead: _, artifact: _ } = outcome;
        let restored = EventBody::EditRestored { restoring: restoring.began, error };
        recorded(None, changes).into_iter().chain([restored]).collect()
    }
}

/// A run is on.
pub(super) fn busy() -> ToolError {
    let message =
        "a run is on in this thread, which would not know what changes under it; nothing was changed: stop it first";
    ToolError::new(ErrorCode::ThreadBusy, message)
}

/// What was changed in files; nothing where nothing was.
pub(super) fn recorded(call_id: Option<&str>, changes: Changes) -> Option<EventBody> {
    let told = !changes.is_empty();
    let Changes { files, left_out, blobs: _ } = changes;
    told.then(|| EventBody::EditRecorded { call_id: call_id.map(str::to_owned), files, left_out })
}

impl Agent {
    /// Begins to put files back, by a redo record that was computed under locks.
    pub(super) fn restore(&mut self, put_back_for: PutBackFor, prepared: Prepared, reply: Restorer) {
        if self.state.is_running() || self.state.restoring.is_some() || self.state.settings.is_none() {
            return reply.send(Err(busy()));
        }
        let files = prepared.redo.files.iter().map(|file| file.file.clone()).collect();
        self.blobs.extend(files_of(&prepared.redo));
        self.take(Msg::Restore { put_back_for, files });
        self.redos.insert(self.state.seq, prepared);
        self.restorers.push(reply);
    }

    /// Answers once no file is being put back.
    pub(super) fn restored(&mut self, reply: Restorer) {
        if self.state.restoring.is_none() {
            self.when_durable(self.state.seq, reply);
        } else if self.restorers.len() < RESTORERS_MAX {
            self.restorers.push(reply);
        } else {
            let message = "too many wait for files of this thread to be put back";
            reply.send(Err(ToolError::new(ErrorCode::ThreadBusy, message)));
        }
    }

    /// Carries out the redo record, or what an earlier process left of it: both are the same, because every file is
    /// looked at first.
    pub(super) fn put_back(&self, key: Key, began: Seq) {
        let Some((restoring, place)) = self.state.restoring.as_ref().zip(self.place()) else { return };
        let call = ToolCall {
            thread: self.state.thread,
            intent: began,
            call_id: String::new(),
            tool: "rollback",
            arguments: Value::Null,
            start: 1,
        };
        let ask = Ask { call, place, known: self.state.known.clone(), lease: None };
        let prepared = self.redos.get(&began).cloned();
        let locks = prepared.as_ref().map(|prepared| prepared.locks.clone());
        let redo = prepared.map(|prepared| prepared.redo);
        let files = restoring.files.clone();
        let within = Some(deadlines::put_back());
        self.wiring
            .begin(key, within, |lease| crate::work::put_back(self.wiring.clone(), ask.leased(lease), files, redo));
        if let Some(locks) = locks {
            self.wiring.effects.hold(&key, Box::new(locks));
        }
    }

    /// The redo record is carried out, or cannot be.
    pub(super) fn put_back_ended(&mut self, began: Seq, done: Done) {
        self.redos.remove(&began);
        let outcome = match done {
            Done::Tool(outcome, _) => outcome,
            Done::Panicked(why) => ToolError::new(ErrorCode::Internal, why).into(),
            Done::Late(within) => {
                let s = within.as_secs();
                let message = format!("files were not all put back within {s} s; once the disk answers, do it again");
                ToolError::new(ErrorCode::Timeout, message).into()
            }
            Done::Answer(..) | Done::NoAnswer(_) | Done::Prepared(_) | Done::Examined(_) | Done::Over => {
                tracing::error!(?began, "files were put back with another effect's outcome");
                return;
            }
        };
        let error = outcome.error.clone();
        self.take(Msg::Restored { outcome });
        let seq = self.state.seq;
        for reply in std::mem::take(&mut self.restorers) {
            let error = error.clone();
            self.when_durable_then(seq, move |durable| {
                reply.send(durable.and_then(|seq| error.map_or(Ok(seq), Err)));
            });
        }
    }
}
