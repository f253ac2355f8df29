//! How beads are changed from outside of the store.

use lakitu_kernel::clock::{Clock, Randomness};
use lakitu_kernel::{BeadId, ErrorCode, Seq, ThreadId, ToolError};

use super::changes::{self, BeadPatch, Change, Changed, Done, ImportLine, Imported, NewBead};
use crate::store::{BeadKey, BeadRow, BeadsBy, ChangeBeads, Op, Page, Step, Store, StoreError};

/// Changes of beads belong to no thread's journal: who made them is told of by an event of its own.
const NOBODY: ThreadId = ThreadId(0);

/// Changes beads, once for this key: asked again, it gives what came of it the first time.
///
/// # Errors
/// Why it cannot be, or what is the matter with the store.
pub async fn change(store: &Store, asked: ChangeBeads) -> Result<Done, ToolError> {
    let key = asked.key;
    let step = Step { thread: NOBODY, expected: Seq::ZERO, ops: vec![Op::from(asked)] };
    store.submit(step).await.map_err(ToolError::from)?;
    let row = store.read(move |reading| reading.bead_answer(key)).await.map_err(ToolError::from)?;
    let gone = || ToolError::new(ErrorCode::Unknown, "what came of it is not known any more: look at the bead");
    row.ok_or_else(gone)?.answer
}

/// A person's hand on the beads.
pub struct Beads<'a> {
    /// Where they are.
    pub store: &'a Store,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Where names come from.
    pub randomness: &'a dyn Randomness,
    /// Who it is: what they claim is held by that name.
    pub by: String,
}

impl Beads<'_> {
    /// Changes beads, in any way.
    pub async fn ask(&self, change: Change) -> Result<Done, ToolError> {
        let at = self.clock.now();
        let number = u128::from(at.0) << 64 | u128::from(u64::try_from(self.randomness.u128() >> 64).unwrap_or(0));
        self::change(self.store, ChangeBeads { key: BeadKey::Person(number), by: self.by.clone(), at, change }).await
    }

    async fn one(&self, change: Change) -> Result<Changed, ToolError> {
        match self.ask(change).await? {
            Done::Bead(changed) => Ok(*changed),
            Done::Imported(_) => Err(ToolError::new(ErrorCode::Internal, "an answer to something else")),
        }
    }

    /// Makes a bead.
    pub async fn create(&self, new: NewBead) -> Result<Changed, ToolError> {
        self.one(Change::Create(new)).await
    }

    /// Changes one.
    pub async fn update(&self, id: String, patch: BeadPatch) -> Result<Changed, ToolError> {
        self.one(Change::Update { id, patch }).await
    }

    /// Closes one.
    pub async fn close(&self, id: String, reason: Option<String>) -> Result<Changed, ToolError> {
        self.update(id, BeadPatch { status: Some("closed".to_owned()), reason, ..BeadPatch::default() }).await
    }

    /// Has one wait for others, or no longer.
    pub async fn depend(&self, id: String, add: Vec<String>, remove: Vec<String>) -> Result<Changed, ToolError> {
        self.one(Change::Depend { id, add, remove }).await
    }

    /// Merges lines of the `bd` tool's JSONL in, all or none.
    pub async fn import(&self, lines: Vec<ImportLine>) -> Result<Imported, ToolError> {
        match self.ask(Change::Import(lines)).await? {
            Done::Imported(imported) => Ok(imported),
            Done::Bead(_) => Err(ToolError::new(ErrorCode::Internal, "an answer to something else")),
        }
    }

    /// One bead.
    pub async fn get(&self, id: &str) -> Result<Option<BeadRow>, ToolError> {
        let id: BeadId = changes::id(id)?;
        self.read(move |reading| reading.bead(&id)).await
    }

    /// Beads, the newest first, from `cursor` on.
    pub async fn list(&self, by: BeadsBy, limit: usize, cursor: Option<String>) -> Result<Page<BeadRow>, ToolError> {
        self.read(move |reading| reading.beads_by(&by, limit, cursor.as_deref())).await
    }

    /// Beads that nobody holds and nothing blocks, the most urgent first and of those the oldest.
    pub async fn ready(&self, limit: usize) -> Result<Page<BeadRow>, ToolError> {
        self.read(move |reading| reading.beads_ready(limit, None)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&crate::store::Reading) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ToolError> {
        self.store.read(question).await.map_err(ToolError::from)
    }
}
