//! What the store can answer with instead of a result.

use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError};

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Reads still work; the next step is tried again by itself.
    #[error("the disk is full: free space, then go on")]
    Full,
    /// The step's position is taken by another step: somebody else continued this thread.
    #[error(
        "{thread} was continued by another writer: behind {expected} stands another step, its last event is {last}"
    )]
    OwnershipLost {
        /// The thread.
        thread: ThreadId,
        /// What the step took for the last position.
        expected: Seq,
        /// What it is.
        last: Seq,
    },
    /// The step lies behind the journal's end: a step before it is missing.
    #[error("{thread} ends at {last}, a step behind {expected} leaves a gap")]
    Gap {
        /// The thread.
        thread: ThreadId,
        /// What the step took for the last position.
        expected: Seq,
        /// What it is.
        last: Seq,
    },
    /// One row cannot be read.
    #[error("{table} {key} is damaged: {what}")]
    Corrupt {
        /// The table.
        table: String,
        /// The row's key as text.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// The database has a newer format. It was not touched.
    #[error("the database has format {found}, this version knows {known}: use the newer version")]
    TooNew {
        /// Its format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// Another process owns the data directory.
    #[error("the data directory is owned by process {pid}")]
    Busy {
        /// That process; 0 where it could not be read.
        pid: u32,
    },
    /// The database is missing or empty although there was one.
    #[error(
        "{path} is missing or empty, but it held generation {generation}: put it back, or remove `store.stamp` too"
    )]
    Missing {
        /// The database file.
        path: String,
        /// The generation of what is gone.
        generation: u64,
    },
    /// The step is larger than a step may be.
    #[error("the step has {events} events, at most {max} are allowed")]
    TooLarge {
        /// Its events.
        events: usize,
        /// How many it may have.
        max: usize,
    },
    /// The question cannot be asked: no such table, a key that is none.
    #[error("{0}")]
    Invalid(String),
    /// The change feed no longer holds what follows this commit.
    #[error("changes behind commit {after} are no longer kept, the oldest kept follow {oldest}: read the rows again")]
    Truncated {
        /// The subscriber's position.
        after: u64,
        /// The oldest position from which the feed is whole.
        oldest: u64,
    },
    /// The store is starting or restarting. Nothing happened; ask again.
    #[error("the store is restarting")]
    Unavailable,
    /// The disk or the database failed.
    #[error("{0}")]
    Io(String),
}

impl StoreError {
    /// The code that it has for everybody outside.
    pub fn code(&self) -> ErrorCode {
        match self {
            StoreError::Full => ErrorCode::StoreFull,
            StoreError::OwnershipLost { .. } => ErrorCode::OwnershipLost,
            StoreError::Gap { .. } => ErrorCode::Conflict,
            StoreError::Corrupt { .. } | StoreError::Missing { .. } => ErrorCode::StoreCorrupt,
            StoreError::TooNew { .. } => ErrorCode::StoreTooNew,
            StoreError::Busy { .. } => ErrorCode::StoreBusy,
            StoreError::TooLarge { .. } | StoreError::Invalid(_) => ErrorCode::InvalidArguments,
            StoreError::Truncated { .. } => ErrorCode::ChangesTruncated,
            StoreError::Unavailable => ErrorCode::Unavailable,
            StoreError::Io(_) => ErrorCode::StoreFailed,
        }
    }

    /// A row that cannot be read.
    pub(crate) fn corrupt(table: &str, key: impl Into<String>, what: impl Into<String>) -> Self {
        StoreError::Corrupt { table: table.to_owned(), key: key.into(), what: what.into() }
    }
}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        ToolError::new(error.code(), error.to_string())
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        if full { StoreError::Full } else { StoreError::Io(error.to_string()) }
    }
}

impl From<redb::StorageError> for StoreError {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(io) => io.into(),
            redb::StorageError::Corrupted(what) => StoreError::corrupt("the database file", "", what),
            // The reader lost its database to a reopening: it asks again.
            redb::StorageError::DatabaseClosed => StoreError::Unavailable,
            redb::StorageError::PreviousIo
            | redb::StorageError::ValueTooLarge(_)
            | redb::StorageError::Backend(_)
            | redb::StorageError::Unsupported
            | redb::StorageError::LockPoisoned(_)
            // redb's enum is open to more variants.
            | _ => StoreError::Io(error.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),+) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                match error {
                    redb::$error::Storage(storage) => storage.into(),
                    other => StoreError::Io(other.to_string()),
                }
            }
        }
    )+};
}

from_redb!(TableError, TransactionError, CommitError, CompactionError, DatabaseError);
