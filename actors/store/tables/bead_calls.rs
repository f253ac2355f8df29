//! `beadCalls`: what came of changes of beads, under the key of whoever asked, so that asking again is asking once.
//!
//! A thread's row holds its newest call: the one before it has its result in the journal by then. A person's stays for a
//! while, until its answer has been read.

use std::ops::Bound;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::BEADS_PER_QUERY_MAX;
use lakitu_kernel::{Hash, Seq, ThreadId, ToolError};
use serde::{Deserialize, Serialize};

use crate::planning::{BLOCKERS_NAMED, ImportLine};
use crate::planning::{Caller, Change, Changed, Decided, Done, Graph, Imported, Merged, Problem, Stop, decide, merge};
use crate::store::StoreError;
use crate::store::key::Key as _;
use crate::store::row::{self, Row, Source, Walk};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::tables::beads::{self, BeadRow};
use crate::store::write::Tables;

/// Under what an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeadKey {
    /// Of a person, by a number that nobody else has and that grows with time.
    Person(u128),
    /// Of a thread's call, by where its intent stands.
    Call(ThreadId, Seq),
}

impl BeadKey {
    /// Each thread has one row.
    fn row(self) -> (u64, u128) {
        match self {
            Self::Person(number) => (0, number),
            Self::Call(thread, _) => (1, thread.0),
        }
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BeadCallRow {
    /// Whose it was.
    pub key: BeadKey,
    /// When it was done.
    pub at: Timestamp,
    /// What came of it.
    pub answer: Result<Done, ToolError>,
}

impl Row for BeadCallRow {
    type Key = (u64, u128);
    const NAME: &'static str = "beadCalls";
    const FEED: bool = false;

    fn key(&self) -> (u64, u128) {
        self.key.row()
    }
}

/// What came of the change with this key.
pub(crate) fn answer(source: &(impl Source + ?Sized), key: BeadKey) -> Result<Option<BeadCallRow>, StoreError> {
    Ok(row::get::<BeadCallRow>(source, &key.row())?.filter(|row| row.key == key))
}

/// Changes beads, once for its key. What came of it is read with that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeBeads {
    /// Whose it is.
    pub key: BeadKey,
    /// Who holds what is claimed.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// How long a person's answer is kept: 10 min, in milliseconds.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// Old answers that go with a new one: more than one, so that the table shrinks.
const TRIMMED_AT_ONCE: usize = 8;

impl Operation for ChangeBeads {
    type Plan = ();

    fn check(&self, _: &Tables<'_>) -> Result<Result<(), Refusal>, StoreError> {
        Ok(Ok(()))
    }

    fn apply(&self, (): (), to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        let tables = &mut *to.tables;
        if answer(tables, self.key)?.is_some() {
            return Ok(());
        }
        let answer = match self.done(tables) {
            Ok(done) => Ok(done),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.trim(tables)?;
        tables.put(&BeadCallRow { key: self.key, at: self.at, answer }).map(drop)
    }
}

impl ChangeBeads {
    fn caller(&self) -> Caller<'_> {
        let (thread, seq) = match self.key {
            BeadKey::Person(_) => (None, Seq::ZERO),
            BeadKey::Call(thread, seq) => (Some(thread), seq),
        };
        let (kind, number) = self.key.row();
        let seed = [kind.to_be_bytes().as_slice(), &number.to_be_bytes(), &seq.0.to_be_bytes()].concat();
        Caller { name: &self.by, thread, at: self.at, seed: Hash::of(&seed) }
    }

    /// Everything is decided before anything is written, but for an import: its lines rest on those before them.
    fn done(&self, tables: &mut Tables<'_>) -> Result<Done, Stop> {
        match &self.change {
            Change::Import(lines) => Ok(Done::Imported(import(tables, lines)?)),
            change @ (Change::Create(_) | Change::Update { .. } | Change::Depend { .. }) => {
                let decided = decide(tables, self.caller(), change)?;
                put(tables, &decided)?;
                Ok(Done::Bead(Box::new(told(tables, decided)?)))
            }
        }
    }

    fn trim(&self, tables: &mut Tables<'_>) -> Result<(), StoreError> {
        let oldest = u128::from(self.at.0.saturating_sub(KEPT_MS)) << 64;
        let mut old = Walk::all(BeadCallRow::NAME);
        old.to = Bound::Excluded((0_u64, oldest).bytes());
        for row in row::rows::<BeadCallRow>(tables, &old, TRIMMED_AT_ONCE)? {
            tables.delete::<BeadCallRow>(&row.key())?;
        }
        Ok(())
    }
}

fn put(tables: &mut Tables<'_>, decided: &Decided) -> Result<(), StoreError> {
    decided.puts.iter().try_for_each(|row| tables.put(row).map(drop))
}

fn told(tables: &Tables<'_>, decided: Decided) -> Result<Changed, StoreError> {
    let Decided { row, puts, mut freed } = decided;
    let freed_count = freed.len() as u64;
    freed.truncate(BEADS_PER_QUERY_MAX);
    let children = beads::progress(tables, &row.id)?;
    let parent = match &row.parent_id {
        Some(id) => Some((id.clone(), beads::progress(tables, id)?)),
        None => None,
    };
    Ok(Changed {
        waits_for: if row.status.is_done() { Vec::new() } else { beads::open_blockers(tables, &row, BLOCKERS_NAMED)? },
        children: (children.total > 0).then_some(children),
        parent,
        freed,
        freed_count,
        unchanged: puts.is_empty(),
        id: row.id,
        title: row.title,
        status: row.status,
    })
}

fn import(tables: &mut Tables<'_>, lines: &[ImportLine]) -> Result<Imported, StoreError> {
    let mut imported = Imported::default();
    for line in lines {
        match merge(tables, line) {
            Ok(Merged::Created(decided)) => {
                put(tables, &decided)?;
                imported.created += 1;
            }
            Ok(Merged::Updated(decided)) => {
                put(tables, &decided)?;
                imported.updated += 1;
            }
            Ok(Merged::Kept) => imported.kept += 1,
            Err(Stop::Refused(error)) => {
                imported.problems.push(Problem { line: line.number, what: error.message });
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
    Ok(imported)
}

impl Graph for Tables<'_> {
    fn bead(&self, id: &lakitu_kernel::BeadId) -> Result<Option<BeadRow>, StoreError> {
        row::get(self, id)
    }

    fn waiting_for(&self, id: &lakitu_kernel::BeadId) -> Result<Vec<lakitu_kernel::BeadId>, StoreError> {
        beads::waiting_for(self, id)
    }

    fn open_blockers(&self, bead: &BeadRow, limit: usize) -> Result<Vec<lakitu_kernel::BeadId>, StoreError> {
        beads::open_blockers(self, bead, limit)
    }

    fn count(&self) -> Result<u64, StoreError> {
        Source::count(self, BeadRow::NAME)
    }
}
