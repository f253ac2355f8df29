//! Changes of files, as the journal tells them.

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointId;
use crate::hash::Hash;

/// A file as it stands, or stood, at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// The hash of its bytes; none: nobody read it, because it was over what is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// Permission bits.
    pub mode: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether its bytes are in the blob store.
    pub kept: bool,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Relative to the workspace where it lies there, else absolute.
    pub path: String,
    /// What stood there; none: no file did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileState>,
    /// What stands there now; none: no file does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileState>,
    /// Lines that are new.
    pub added: u64,
    /// Lines that are gone.
    pub removed: u64,
    /// Whether it was read back behind the change, and was what it was to be: bytes and permission bits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
}

/// What a call changed in files, and the bytes that are kept of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Each file once, sorted by path.
    pub files: Vec<FileChange>,
    /// What could not be recorded, and why.
    pub left_out: Option<String>,
    /// Bytes of versions in `files` that are not in the blob store yet.
    pub blobs: Vec<bytes::Bytes>,
}

impl Changes {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.left_out.is_none()
    }
}

/// What files are put back for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PutBackFor {
    /// An edit is taken back.
    Edit {
        /// Its id in `editHistory`.
        edit: String,
        /// Why, as whoever asked for it said.
        reason: String,
    },
    /// A checkpoint is gone back to.
    Checkpoint {
        /// Which one.
        id: CheckpointId,
    },
}
