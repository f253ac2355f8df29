//! Steps: what a thread commits at once, all or nothing.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::STEP_EVENTS_MAX;
use lakitu_kernel::planted::{Planted, planted};
use lakitu_kernel::{Event, EventBody, Hash, Seq, ThreadId, ToolError};
use serde::Serialize;

use super::error::StoreError;
use super::row;
use super::tables::{self, JournalRow, Op, StepMark, StepRow, ThreadRow};
use super::write::Tables;

/// One transaction of a thread: a contiguous range of events and the rows that go with them.
///
/// Sent again, the same step is answered with what it did the first time. (A step without events is recognised by its
/// ops alone, as long as its thread is where it was: give such a step a time, so that two of them differ.)
#[derive(Debug, Clone)]
pub struct Step {
    /// Whose step it is.
    pub thread: ThreadId,
    /// The thread's last event before it.
    pub expected: Seq,
    /// What it does, in order; an op sees what those before it did.
    pub ops: Vec<Op>,
}

impl Step {
    /// How many events it adds.
    pub fn events(&self) -> usize {
        self.ops.iter().map(Op::events).sum()
    }

    /// What it is recognised by when it comes again.
    fn digest(&self) -> Result<Hash, StoreError> {
        let mut hasher = blake3::Hasher::new();
        self.ops
            .serialize(&mut rmp_serde::Serializer::new(&mut hasher).with_struct_map())
            .map_err(|error| StoreError::Invalid(format!("the step cannot be encoded: {error}")))?;
        Ok(Hash(*hasher.finalize().as_bytes()))
    }
}

/// A step that is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// The commit that it is a part of; several steps may share one.
    pub commit: u64,
    /// Its events, with their positions.
    pub events: Vec<Event>,
}

/// An op's answer when what it asks for cannot be: a claim that was lost, a cycle, a quota. It is a result, not a
/// failure: the step goes on, and the op's event tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub ToolError);

/// A step while it is done, inside the write transaction.
pub(crate) struct Doing<'a, 'txn> {
    pub(crate) tables: &'a mut Tables<'txn>,
    thread: ThreadId,
    last: Seq,
    chain: u32,
    mark: Option<StepMark>,
    events: Vec<Event>,
    threads: Vec<ThreadRow>,
}

/// What an op of a step is. `check` reads, `apply` fails only where the disk does; both run inside the transaction.
pub(crate) trait Operation: Serialize {
    /// What `check` found out for `apply`.
    type Plan;

    /// How many events it adds: the same number whether it is refused or not.
    fn events(&self) -> usize {
        0
    }

    /// Whether it can be done. An `Err` is no refusal: it fails the step.
    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError>;

    /// Its events.
    fn told(&self, _verdict: Result<&Self::Plan, &Refusal>) -> Vec<(Timestamp, EventBody)> {
        Vec::new()
    }

    /// Does it.
    fn apply(&self, plan: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError>;
}

/// Runs one op.
pub(crate) fn run<O: Operation>(operation: &O, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
    let verdict = operation.check(to.tables)?;
    for (at, body) in operation.told(verdict.as_ref()) {
        to.append(at, body)?;
    }
    match verdict {
        Ok(plan) => operation.apply(plan, to),
        Err(_) => Ok(()),
    }
}

impl Doing<'_, '_> {
    fn append(&mut self, at: Timestamp, body: EventBody) -> Result<(), StoreError> {
        let row = JournalRow {
            thread: self.thread,
            seq: self.last.next(),
            prev: self.chain,
            at,
            // The first event of a step carries its mark.
            step: self.mark.take(),
            body,
        };
        let value = self.tables.put(&row)?;
        self.chain = row::checksum(&value).unwrap_or_default();
        self.last = row.seq;
        self.events.push(row.into_event());
        Ok(())
    }

    /// A thread's row is written when all ops are done, because its `last_seq` is known only then.
    pub(crate) fn thread_row(&mut self, row: ThreadRow) {
        self.threads.retain(|other| other.id != row.id);
        self.threads.push(row);
    }

    fn finish(mut self) -> Result<Vec<Event>, StoreError> {
        let written = self.threads.iter().any(|row| row.id == self.thread);
        if !written
            && !self.events.is_empty()
            && let Some(row) = row::get::<ThreadRow>(self.tables, &self.thread)?
        {
            self.threads.push(row);
        }
        for mut row in std::mem::take(&mut self.threads) {
            row.last_seq = if row.id == self.thread {
                self.last
            } else {
                tables::last_seq(self.tables, row.id)?.map_or(Seq::ZERO, |(last, _)| last)
            };
            self.tables.put(&row)?;
        }
        Ok(self.events)
    }
}

/// What becomes of a step before anything is written for it.
pub(crate) enum Admitted {
    /// It was stored before.
    Stored(Committed),
    /// It is to be done, behind the event whose checksum is given.
    New { digest: Hash, chain: u32 },
}

/// Whether the step may be done. Writes nothing.
pub(crate) fn admit(tables: &Tables<'_>, step: &Step) -> Result<Admitted, StoreError> {
    let events = step.events();
    if events > STEP_EVENTS_MAX {
        return Err(StoreError::TooLarge { events, max: STEP_EVENTS_MAX });
    }
    let digest = step.digest()?;
    let (last, chain) = tables::last_seq(tables, step.thread)?.unwrap_or((Seq::ZERO, 0));
    let (thread, expected) = (step.thread, step.expected);
    if expected > last {
        return Err(StoreError::Gap { thread, expected, last });
    }
    if events == 0 {
        let key = (thread, (expected, digest_key(digest)));
        if let Some(stored) = row::get::<StepRow>(tables, &key)? {
            return Ok(Admitted::Stored(Committed { commit: stored.commit, events: Vec::new() }));
        }
    } else if expected < last
        && let Some((mark, events)) = tables::stored_step(tables, thread, expected)?
        && mark.digest == digest
    {
        return Ok(Admitted::Stored(Committed { commit: mark.commit, events }));
    }
    if expected < last && !planted(Planted::NoGenerationCheck) {
        return Err(StoreError::OwnershipLost { thread, expected, last });
    }
    Ok(Admitted::New { digest, chain })
}

fn digest_key(digest: Hash) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&digest.0[..16]);
    u128::from_be_bytes(half)
}

/// Does an admitted step. After an error the transaction must be given up: half of it may be written.
pub(crate) fn carry_out(
    tables: &mut Tables<'_>,
    step: &Step,
    digest: Hash,
    chain: u32,
) -> Result<Committed, StoreError> {
    let commit = tables.commit();
    let events = step.events();
    if events == 0 {
        tables.put(&StepRow { thread: step.thread, expected: step.expected, digest: digest_key(digest), commit })?;
        tables::StepRow::trim(tables, step.thread)?;
    }
    let mark = StepMark { digest, events: u32::try_from(events).unwrap_or(u32::MAX), commit };
    let mut doing = Doing {
        tables,
        thread: step.thread,
        last: step.expected,
        chain,
        mark: Some(mark),
        events: Vec::with_capacity(events),
        threads: Vec::new(),
    };
    for op in &step.ops {
        op.run(&mut doing)?;
    }
    let stored = doing.finish()?;
    debug_assert_eq!(stored.len(), events, "an op told another number of events than it announced");
    Ok(Committed { commit, events: stored })
}

/// An op that puts a row and cannot be refused.
macro_rules! put_operation {
    ($($row:ty),+) => {$(
        impl $crate::store::step::Operation for $row {
            type Plan = ();

            fn check(
                &self,
                _: &$crate::store::write::Tables<'_>,
            ) -> Result<Result<(), $crate::store::step::Refusal>, $crate::store::StoreError> {
                Ok(Ok(()))
            }

            fn apply(
                &self,
                (): (),
                to: &mut $crate::store::step::Doing<'_, '_>,
            ) -> Result<(), $crate::store::StoreError> {
                to.tables.put(self).map(drop)
            }
        }
    )+};
}
pub(crate) use put_operation;
