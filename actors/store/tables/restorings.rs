//! `restorings`: threads whose files are being put back. Each begins with an `edit.restoring` and ends with its
//! `edit.restored`; one that is here when a runtime comes up is what an earlier one was killed over.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{EventBody, Seq, ThreadId};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::key::Key as _;
use crate::store::read::Reading;
use crate::store::row::{Row, Walk};
use crate::store::step::{Doing, Operation, Refusal, put_operation};
use crate::store::tables::journal;
use crate::store::verify::Findings;
use crate::store::write::Tables;

/// A thread whose files are being put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoringRow {
    /// Which one.
    pub thread: ThreadId,
    /// Its `edit.restoring`.
    pub began: Seq,
    /// When that was.
    pub at: Timestamp,
}

impl Row for RestoringRow {
    type Key = ThreadId;
    const NAME: &'static str = "restorings";

    fn key(&self) -> ThreadId {
        self.thread
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.each::<Self>(&Walk::all(Self::NAME), &mut |row| {
            let there = journal::events(reading, row.thread, Seq(row.began.0.saturating_sub(1)), 1)?;
            if !there.iter().any(|event| matches!(event.body, EventBody::EditRestoring { .. })) {
                let what = format!("event {} does not announce that files are put back", row.began);
                findings.add(Self::NAME, row.thread.text(), what);
            }
            Ok(())
        })
    }
}

put_operation!(RestoringRow);

/// Files of a thread are put back, or cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EndRestoring {
    /// Which thread's.
    pub thread: ThreadId,
}

impl Operation for EndRestoring {
    type Plan = ();

    fn check(&self, _: &Tables<'_>) -> Result<Result<(), Refusal>, StoreError> {
        Ok(Ok(()))
    }

    fn apply(&self, (): (), to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        to.tables.delete::<RestoringRow>(&self.thread).map(drop)
    }
}
