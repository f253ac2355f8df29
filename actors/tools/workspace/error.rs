//! Why a file could not be reached, read or written; each with the sentence that the model gets.

use std::io;

use lakitu_kernel::error::{ErrorCode, ToolError};
use rustix::io::Errno;

use super::names::shown;

/// Why a file could not be reached, read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path is none, or cannot be used for this.
    #[error("{0}")]
    BadPath(String),
    /// No pattern, or none that can be searched for.
    #[error("{0}")]
    BadPattern(String),
    /// Nothing stands there.
    #[error("{0}")]
    NotFound(String),
    /// The path leads outside what file tools reach.
    #[error("{path} leads outside the workspace {root}; give a path below it, relative or absolute")]
    Outside {
        /// As it was given.
        path: String,
        /// Below what it would have to lie.
        root: String,
    },
    /// What stands there refuses the operation, or is of the wrong kind.
    #[error("{path} {why}")]
    Refused {
        /// As it was given.
        path: String,
        /// A predicate: `is a directory; …`.
        why: String,
    },
    /// Over a limit.
    #[error("{path} has {bytes} bytes; at most {max} are taken{way_out}")]
    TooLarge {
        /// As it was given.
        path: String,
        /// What it has, or had when the limit was passed.
        bytes: u64,
        /// The limit.
        max: u64,
        /// What to do instead; begins with its own punctuation.
        way_out: &'static str,
    },
    /// An image with more pixels than are shown.
    #[error("{path} {why}")]
    TooWide {
        /// As it was given.
        path: String,
        /// A predicate: `has … pixels; …`.
        why: String,
    },
    /// The text to replace is not there exactly once.
    #[error("{0}")]
    Mismatch(String),
    /// Not the version that the thread knows.
    #[error("{0}")]
    Changed(String),
    /// Recovery found neither the version before nor the one after.
    #[error("{0}")]
    Conflict(String),
    /// It took too long: another call holds the path, or the system is slow.
    #[error("{0}")]
    Timeout(String),
    /// The runtime stops.
    #[error("the runtime is stopping; nothing was done")]
    Stopping,
    /// The run was stopped before it began.
    #[error("the run was stopped before this began; nothing was written")]
    Revoked,
    /// The disk is full.
    #[error("there is no space left to write {path}; free some and try again")]
    Full {
        /// As it was given.
        path: String,
    },
    /// The system failed in a way that has no better name here.
    #[error("{doing} {path}: {cause}")]
    Io {
        /// `reading`, `writing` …
        doing: &'static str,
        /// What.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// A fault of the caller.
    #[error("{0}")]
    Fault(String),
}

impl FileError {
    /// The same; where a text was not found, with this before it.
    pub(crate) fn within(self, place: &str) -> Self {
        if let Self::Mismatch(why) = self { Self::Mismatch(format!("{place}: {why}")) } else { self }
    }

    /// What a failed system call on `path` means.
    pub(crate) fn from_errno(doing: &'static str, path: impl AsRef<[u8]>, cause: Errno) -> Self {
        let path = shown(path.as_ref());
        let refused = |why: &str| Self::Refused { path: path.clone(), why: why.to_owned() };
        match cause {
            Errno::NOENT => Self::NotFound(format!("{path} does not exist")),
            Errno::ACCESS | Errno::PERM => refused("refuses this (permission denied); change its permissions first"),
            Errno::ROFS => refused("is on a read-only file system"),
            Errno::NOTDIR => refused("does not lie in a directory: a part of the path is a file"),
            Errno::ISDIR => refused("is a directory; give the path of a file"),
            Errno::LOOP => refused("is a chain of links without an end, or a link took its place meanwhile"),
            Errno::NXIO | Errno::NODEV => refused("is no regular file"),
            Errno::TXTBSY => refused("is a program that is running; end it first"),
            Errno::NAMETOOLONG => Self::BadPath(format!("{path} is too long for a path")),
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Self::Full { path },
            _ => Self::Io { doing, path, cause: cause.into() },
        }
    }

    /// The same for the standard library's errors.
    pub(crate) fn from_io(doing: &'static str, path: impl AsRef<[u8]>, cause: io::Error) -> Self {
        match Errno::from_io_error(&cause) {
            Some(errno) => Self::from_errno(doing, path, errno),
            None => Self::Io { doing, path: shown(path.as_ref()), cause },
        }
    }
}

impl From<FileError> for ToolError {
    fn from(error: FileError) -> Self {
        let code = match &error {
            FileError::BadPath(_) | FileError::BadPattern(_) => ErrorCode::InvalidArguments,
            FileError::NotFound(_) => ErrorCode::FileNotFound,
            FileError::Outside { .. } | FileError::Refused { .. } => ErrorCode::PermissionDenied,
            FileError::TooLarge { .. } | FileError::TooWide { .. } => ErrorCode::FileTooLarge,
            FileError::Mismatch(_) => ErrorCode::EditMismatch,
            FileError::Changed(_) => ErrorCode::FileChanged,
            FileError::Conflict(_) => ErrorCode::Conflict,
            FileError::Timeout(_) => ErrorCode::Timeout,
            FileError::Stopping | FileError::Revoked => ErrorCode::Cancelled,
            FileError::Full { .. } => ErrorCode::StoreFull,
            FileError::Io { cause, .. } => {
                tracing::warn!(%error, ?cause, "a file could not be used");
                ErrorCode::Internal
            }
            FileError::Fault(_) => {
                tracing::error!(%error, "a file tool was used wrongly");
                ErrorCode::Internal
            }
        };
        ToolError::new(code, error.to_string())
    }
}
