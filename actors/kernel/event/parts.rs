//! What events are made of.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::edit::FileKind;
use crate::hash::Hash;
use crate::mode::Mode;
/// What a thread stores of how it was started; a flag given again replaces the stored value from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The model's name, as the gateway knows it.
    pub model: String,
    /// The agent's mode: `build`, `plan` …
    pub mode: Mode,
    /// Where the agent works.
    pub workspace: PathBuf,
    /// Where it puts what it makes.
    pub artifacts: PathBuf,
    /// Turns of one run; past it the thread is checkpointed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Time of one run, in milliseconds; past it the thread is checkpointed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Who is asked before a call is made.
    #[serde(default, skip_serializing_if = "Asking::is_default")]
    pub asking: Asking,
}

impl Settings {
    /// Whether requests begin in the same way with both.
    pub fn same_prefix(&self, other: &Self) -> bool {
        let of = |set: &Self| (set.model.clone(), set.mode, set.workspace.clone(), set.artifacts.clone());
        of(self) == of(other)
    }
}

/// Who is asked before a call is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// Whoever runs this wants to be asked before anything is changed that no rule allows.
    #[serde(default)]
    pub every_change: bool,
    /// Somebody can be asked in this run. Where nobody can, a call that needs consent is refused at once.
    #[serde(default)]
    pub somebody: bool,
}

impl Asking {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A tool call as the model asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// Unique within the thread: providers repeat theirs, so it is made unique before it is stored.
    pub call_id: String,
    /// The name that was called, known or not.
    pub tool: String,
    /// The arguments' text as it goes back on the wire: a JSON object (`{}` where it was none).
    pub arguments: String,
}

/// A file in a redo record: enough to do the write again, and to tell whether it was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedFile {
    /// Relative to the workspace; what of it is no UTF-8 is escaped ([`crate::pathname`]).
    pub path: String,
    /// What it is after the write; where it is removed, what it was.
    #[serde(default, skip_serializing_if = "FileKind::is_file")]
    pub kind: FileKind,
    /// What it was before, where that is of another kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind_before: Option<FileKind>,
    /// Permission bits after the write.
    pub mode: u32,
    /// Permission bits before it, where they are others: then they tell the version before from the one after, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_before: Option<u32>,
    /// What stood there before; none: there was no file.
    pub hash_before: Option<Hash>,
    /// What stands there afterwards; none: the file is removed.
    pub hash_after: Option<Hash>,
}

impl PreparedFile {
    /// What stood there before, and the hash of its bytes; none: nothing.
    pub fn before(&self) -> Option<(FileKind, Hash)> {
        self.hash_before.map(|hash| (self.kind_before.unwrap_or(self.kind), hash))
    }

    /// What is to stand there, and the hash of its bytes; none: nothing.
    pub fn after(&self) -> Option<(FileKind, Hash)> {
        self.hash_after.map(|hash| (self.kind, hash))
    }

    /// The same, backwards.
    #[must_use]
    pub fn inverted(&self) -> Self {
        let kind = self.kind_before.unwrap_or(self.kind);
        let mode = self.mode_before.unwrap_or(self.mode);
        Self {
            path: self.path.clone(),
            kind,
            kind_before: Some(self.kind).filter(|before| *before != kind),
            mode,
            mode_before: Some(self.mode).filter(|before| *before != mode),
            hash_before: self.hash_after,
            hash_after: self.hash_before,
        }
    }
}

/// A version of a file that the thread has seen or made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Relative to the workspace.
    pub path: String,
    /// The hash of its bytes.
    pub hash: Hash,
}

/// The bytes of a request, told by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMark {
    /// Of the whole body.
    pub hash: Hash,
    /// The body's length.
    pub bytes: u64,
}

impl RequestMark {
    /// Of a body in pieces.
    pub fn of(body: &[bytes::Bytes]) -> Self {
        let bytes = body.iter().map(|piece| piece.len() as u64).sum();
        Self { hash: Hash::of_pieces(body.iter().map(AsRef::as_ref)), bytes }
    }
}

/// What made a thread go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resumed {
    /// Another prompt follows.
    Continue,
    /// Asked to go on from where it stopped.
    Resume,
    /// The runtime came up again and goes on with what was unfinished.
    Boot,
}

/// Why a thread was checkpointed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointReason {
    /// The run's time was used up.
    Timeout,
    /// The run's turns were used up.
    TurnLimit,
    /// The prompt no longer fits the model.
    TokenLimit,
    /// What was to be spent on it is spent.
    BudgetLimit,
    /// Asked for.
    Manual,
    /// Ctrl-C, SIGTERM.
    Interrupted,
    /// The gateway could not be reached, or refused.
    Gateway,
    /// An error from which the run can go on later.
    ErrorRecovery,
}
