//! `/tools`: what the tools of all categories share, and the catalogue. Parent `/`, permanent; a supervisor with one child
//! a category, so that one category's crashes take no other along.
//!
//! A tool actor keeps the door: it owns what its calls share (open workspaces, locks, keepers, permits) and hands it
//! out. The call itself runs as a task in the registry of running effects, so that no actor's end is the call's end.

use crate::effects::Lease;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::event::PreparedFile;
use lakitu_kernel::tool::{Catalogue, ToolCall, ToolOutcome};
use lakitu_kernel::{ErrorCode, Hash, ToolError};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The tools on offer, sorted by name: their order in the prompt.
pub const CATALOGUE: Catalogue = Catalogue(&[
    file::APPLY_PATCH,
    artifact::ARTIFACT_LIST,
    artifact::ARTIFACT_READ,
    artifact::ARTIFACT_SAVE,
    bash::BASH,
    bash::BASH_INPUT,
    bash::BASH_KILL,
    bash::BASH_LIST,
    bash::BASH_OUTPUT,
    beads::BEADS_CLOSE,
    beads::BEADS_CREATE,
    beads::BEADS_DEP,
    beads::BEADS_GET,
    beads::BEADS_LIST,
    beads::BEADS_READY,
    beads::BEADS_UPDATE,
    crate::checkpoint::CHECKPOINT_CREATE,
    crate::checkpoint::CHECKPOINT_LIST,
    crate::checkpoint::CHECKPOINT_RESTORE,
    crate::threads::agent::DECISION_LOG,
    file::FILE_EDIT,
    file::FILE_READ,
    file::FILE_WRITE,
    file::GLOB,
    file::GREP,
    file::LS,
    file::MULTI_EDIT,
]);

pub mod artifact;
pub mod bash;
pub mod beads;
pub mod file;
pub mod manifest;
pub mod text;
pub mod workspace;

/// Where a thread works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The root of everything that file tools reach, and where commands start.
    pub workspace: PathBuf,
    /// Where the agent puts what it makes.
    pub artifacts: PathBuf,
}

/// The versions of files that a thread has seen or made, by path relative to the workspace.
pub type Known = Arc<BTreeMap<String, Hash>>;

/// The checked arguments of a call, as their type.
pub(crate) fn arguments<T: DeserializeOwned>(arguments: &Value) -> Result<T, ToolError> {
    T::deserialize(arguments)
        .map_err(|error| ToolError::new(ErrorCode::Internal, format!("unchecked arguments: {error}")))
}

/// A call with everything that running it needs.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The call.
    pub call: ToolCall,
    /// Where its thread works.
    pub place: Arc<Place>,
    /// What its thread knows of files.
    pub known: Known,
    /// The effect that it belongs to: what a tool leaves to a blocked thread keeps it.
    pub lease: Option<Lease>,
}

impl Ask {
    /// Whether the call must not begin any more: its run was stopped before it did.
    pub fn is_revoked(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_revoked)
    }

    /// The same, as a part of this effect.
    #[must_use]
    pub fn leased(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }
}

/// A file of a redo record with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedoFile {
    /// What stands in the journal.
    pub file: PreparedFile,
    /// The bytes behind `hash_before`.
    pub before: Option<Bytes>,
    /// The bytes behind `hash_after`.
    pub after: Option<Bytes>,
}

/// The redo record of a `verifiable` call: recovery writes these bytes, and never computes an edit again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Redo {
    /// Sorted by path.
    pub files: Vec<RedoFile>,
}

/// What recovery found out about a call whose result is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Its outcome is known, or known to be unknowable.
    Outcome(ToolOutcome),
    /// It never began and never can: it may be started.
    NeverBegan,
}
