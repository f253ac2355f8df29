//! Changes of files, as the journal tells them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::places::CheckpointId;

/// What kind of thing stands at a path. Pipes, sockets and devices are none of them: they are never recorded.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    #[default]
    File,
    /// A symbolic link; its bytes are where it leads.
    Link,
    /// A directory; it has no bytes.
    Directory,
}

impl FileKind {
    /// Whether it is a regular file: what is not said of a record is that.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    pub fn is_file(&self) -> bool {
        *self == Self::File
    }
}

/// What tells one version of what stands at a path from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// The hash of its bytes.
    pub hash: Hash,
}

/// A file, a link or a directory as it stands, or stood, at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// What it is.
    #[serde(default, skip_serializing_if = "FileKind::is_file")]
    pub kind: FileKind,
    /// The hash of its bytes: of a link, of where it leads; of a directory, of none. None: nobody read it, because it was
    /// over what is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// Permission bits; of a link always 0777.
    pub mode: u32,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether its bytes are in the blob store.
    pub kept: bool,
}

impl FileState {
    /// Which version it is, where its bytes are known.
    pub fn version(&self) -> Option<Version> {
        self.hash.map(|hash| Version { kind: self.kind, mode: self.mode, hash })
    }
}

/// A change of one file, link or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Relative to the workspace where it lies there, else absolute; what of it is no UTF-8 is escaped ([`crate::pathname`]).
    pub path: String,
    /// What stood there; none: nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileState>,
    /// What stands there now; none: nothing does.
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
