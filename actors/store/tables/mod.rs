//! The tables. Each is one file: its record, its key, its indexes, and the op that writes it. It is made known by one
//! line in the list below; everything that goes over all tables goes over that list.

mod artifacts;
mod bead_calls;
pub(crate) mod beads;
mod blobs;
mod changes;
mod checkpoints;
mod decisions;
mod edits;
mod executions;
mod file_states;
mod jobs;
mod journal;
mod meta;
mod restorings;
mod snapshots;
mod steps;
mod threads;

pub use artifacts::{ArtifactRow, ArtifactsBy};
pub use bead_calls::{BeadCallRow, BeadKey, ChangeBeads};
pub use beads::{BeadRow, BeadsBy, Progress};
pub use blobs::{Blob, BlobRow, Release};
pub use changes::{Change, ChangeOp, Left};
pub use checkpoints::{
    BeadSnapshot, CheckpointRow, CheckpointStatus, CheckpointsBy, CheckpointsEnd, FileSnapshot, ForgetCheckpoint,
    MakeCheckpoint, MessageRange, RestoreCheckpoint, SettleCheckpoints,
};
pub use decisions::{Alternative, DecisionOutcome, DecisionRow, DecisionType, RecordOutcome};
pub use edits::{EditKey, EditRow, Edits, EditsBy, TakeBack, kept};
pub use executions::ExecutionRow;
pub use file_states::{Access, FileOperation, FileStateRow};
pub use jobs::{JobRow, JobState};
pub use journal::{Append, JournalRow};
pub use meta::{FORMAT, MetaRow};
pub use restorings::{EndRestoring, RestoringRow};
pub use snapshots::Snapshot;
pub use steps::StepRow;
pub use threads::{ThreadRow, ThreadStatus, ThreadsBy, Usage};

pub(crate) use artifacts::{named as artifact_named, saved_by as artifacts_saved_by, versions as artifact_versions};
pub(crate) use bead_calls::answer as bead_answer;
pub(crate) use blobs::{names_file, read_blob};
#[cfg(test)]
pub(crate) use changes::trim_to;
pub(crate) use changes::{behind as changes_behind, record, trim};
pub(crate) use checkpoints::{BY_CREATED as CHECKPOINTS_BY_CREATED, of_thread as checkpoints_of};
pub(crate) use jobs::{BY_STATE as JOBS_BY_STATE, state_part};
pub(crate) use journal::{StepMark, events, last_seq, open_intents, stored_step};

use std::ops::Bound;

use lakitu_kernel::ThreadId;
use lakitu_kernel::clock::Timestamp;
use serde_json::Value;

use super::StoreError;
use super::key::Key as _;
use super::registry::{AnyTable, Typed};
use super::row::{self, Field, Row, Source, Walk};

/// The field that names a row's thread.
const THREAD: Field = Field::key::<ThreadId>("threadId");
use super::step::Operation;

/// A row as the original's tables show theirs: with `_id` and `_creationTime` (ms), without what only we store.
fn with_id<R: Row>(row: &R, created: Timestamp) -> Value {
    let mut json = serde_json::to_value(row).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("seq");
        fields.remove("id");
        fields.insert("_id".to_owned(), row.key().text().into());
        fields.insert("_creationTime".to_owned(), created.0.into());
    }
    json
}

/// A page of a table's rows, of all threads or of one, the newest first; and the key in the walked range of the last, where
/// there are more.
fn newest<R: Row>(
    source: &(impl Source + ?Sized),
    (by_created, created): (&'static str, fn(&R) -> Timestamp),
    of: Option<ThreadId>,
    limit: usize,
    behind: Option<Vec<u8>>,
) -> Result<(Vec<R>, Option<Vec<u8>>), StoreError> {
    let walk = match of {
        None => Walk::all(by_created).down(),
        Some(thread) => Walk::prefix(R::NAME, &thread.bytes()).down(),
    };
    // One of another list leads to nobody else's: what stands above this one is all behind it.
    let walk = match (behind, &walk.to) {
        (Some(key), Bound::Excluded(end)) if key >= *end => walk,
        (Some(key), _) => walk.after(key),
        (None, _) => walk,
    };
    let mut rows: Vec<R> = match of {
        None => row::rows_by(source, &walk, limit + 1)?,
        Some(_) => row::rows(source, &walk, limit + 1)?,
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more).map(|row| match of {
        None => [&created(row).0.to_be_bytes()[..], &row.key().bytes()].concat(),
        Some(_) => row.key().bytes(),
    });
    Ok((rows, last))
}

macro_rules! tables {
    (
        rows { $($row:ident,)+ }
        ops { $($(#[doc = $doc:literal])+ $(#[cfg($cfg:meta)])? $op:ident($operation:ty),)+ }
    ) => {
        /// Every table.
        pub(crate) static ALL: &[&dyn AnyTable] = &[$(&Typed::<$row>::NEW),+];

        /// What a step does.
        #[derive(Debug, Clone, serde::Serialize)]
        pub enum Op {
            $($(#[doc = $doc])+ $(#[cfg($cfg)])? $op($operation),)+
        }

        impl Op {
            /// How many events it adds, whatever becomes of it.
            pub(crate) fn events(&self) -> usize {
                match self { $($(#[cfg($cfg)])? Op::$op(operation) => operation.events(),)+ }
            }

            /// Does it.
            pub(crate) fn run(&self, to: &mut super::step::Doing<'_, '_>) -> Result<(), super::StoreError> {
                match self { $($(#[cfg($cfg)])? Op::$op(operation) => super::step::run(operation, to),)+ }
            }
        }

        $($(#[cfg($cfg)])? impl From<$operation> for Op {
            fn from(operation: $operation) -> Self {
                Op::$op(operation)
            }
        })+
    };
}

tables! {
    rows {
        ThreadRow,
        JournalRow,
        Snapshot,
        ExecutionRow,
        DecisionRow,
        FileStateRow,
        EditRow,
        BlobRow,
        JobRow,
        CheckpointRow,
        RestoringRow,
        ArtifactRow,
        BeadRow,
        BeadCallRow,
        Change,
        StepRow,
        MetaRow,
    }
    ops {
        /// Adds an event to the thread's journal.
        Append(Append),
        /// Inserts or replaces a thread's row. Its `last_seq` is set by the store.
        Thread(ThreadRow),
        /// Inserts or replaces a tool execution.
        Execution(ExecutionRow),
        /// Inserts or replaces a decision.
        Decision(DecisionRow),
        /// Says what came of a decision.
        RecordOutcome(RecordOutcome),
        /// Notes that a file was accessed and not changed.
        Access(Access),
        /// Records a change of a file, unless it is recorded already.
        Edit(EditRow),
        /// Marks an edit as taken back.
        TakeBack(TakeBack),
        /// Inserts or replaces a job.
        Job(JobRow),
        /// Adds a checkpoint; the active one before it is superseded.
        Checkpoint(MakeCheckpoint),
        /// Notes that a checkpoint was gone back to.
        RestoreCheckpoint(RestoreCheckpoint),
        /// Tells a thread's checkpoints what became of it.
        SettleCheckpoints(SettleCheckpoints),
        /// Removes a checkpoint.
        ForgetCheckpoint(ForgetCheckpoint),
        /// Files of a thread are about to be put back.
        Restoring(RestoringRow),
        /// They are, or cannot be.
        EndRestoring(EndRestoring),
        /// Adds a version of an artifact.
        Artifact(ArtifactRow),
        /// Changes beads, once for its key.
        Beads(ChangeBeads),
        /// Adds a reference to a blob, and the blob where it is new.
        Blob(Blob),
        /// Takes a reference from a blob; with the last one it goes.
        Release(Release),
        /// Replaces a thread's snapshot.
        Snapshot(Snapshot),
        /// What only tests do.
        #[cfg(test)]
        Fault(crate::store::faults::Fault),
    }
}
