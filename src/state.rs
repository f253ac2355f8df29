//! What a runtime's tables hold: rows by their indexes, what changes of them, and what they say all together.

use lakitu_actors::store::{Reading, Store, StoreError};
use lakitu_kernel::{ThreadId, ToolError};
use serde_json::Value;

pub use lakitu_actors::store::query::{
    PublicIndex, PublicTable, Query, QueryError, TableChange, TableChanges, Told, public,
};
pub use lakitu_actors::store::statistics::{DecisionStats, Outcomes};
pub use lakitu_actors::store::{
    ArtifactRow, BeadRow, CheckpointRow, DecisionRow, EditRow, ExecutionRow, FileStateRow, Page, ThreadRow,
};

/// Changes that are read at a time.
const CHANGES_READ: usize = 64;

/// The tables of a runtime.
pub struct State<'a>(pub(crate) &'a Store);

impl State<'_> {
    /// Asks anything, in one read transaction: it sees one commit. An answer must come within a second.
    ///
    /// # Errors
    /// What is the matter with the store, or with the question.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reading) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ToolError> {
        Ok(self.0.read(question).await?)
    }

    /// A page of rows, as they are shown outside, from `cursor` on.
    ///
    /// # Errors
    /// What is the matter with the store, or with the cursor.
    pub async fn rows(&self, query: &Query, limit: usize, cursor: Option<String>) -> Result<Page<Value>, ToolError> {
        let query = query.clone();
        self.read(move |reading| query.page(reading, limit, cursor.as_deref())).await
    }

    /// What changes of these rows behind a commit, which a page or an earlier call told; waits until something does.
    ///
    /// # Errors
    /// `CHANGES_TRUNCATED`: what follows that commit is no longer kept, and the rows are to be read again. And what is the
    /// matter with the store.
    pub async fn changes(&self, query: &Query, after: u64) -> Result<TableChanges, ToolError> {
        let (mut commits, mut after) = (self.0.watch(), after);
        loop {
            let query = query.clone();
            let found = self.read(move |reading| query.changes(reading, after, CHANGES_READ)).await?;
            if !found.items.is_empty() {
                return Ok(found);
            }
            after = found.upto;
            if !found.more {
                // An error: the runtime has stopped. The next read says so.
                let _ = commits.wait_for(|commit| *commit > after).await;
            }
        }
    }

    /// How a thread's decisions turned out.
    ///
    /// # Errors
    /// What is the matter with the store.
    pub async fn decisions(&self, thread: ThreadId) -> Result<DecisionStats, ToolError> {
        self.read(move |reading| Ok(DecisionStats::of(&reading.decisions(thread)?))).await
    }
}
