//! The one error of this crate's callers.

use std::io;

use crate::protocol::Refusal;

/// Why a keeper could not be started, reached or read.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The other side understood and said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The other side did not answer in time; what was asked may still happen.
    #[error("no answer in time")]
    Timeout,
    /// The other side is gone; what was asked may have happened.
    #[error("the connection is closed")]
    Closed,
    /// A line or a file that this version cannot read.
    #[error("cannot read {what}: {why}")]
    Corrupt {
        /// Which line or file.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl KeeperError {
    pub(crate) fn corrupt(what: impl Into<String>, why: &dyn std::fmt::Display) -> Self {
        Self::Corrupt { what: what.into(), why: why.to_string() }
    }
}
