//! `agentDecisions`: what a turn decided to do, with the field names of the original's table.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{Seq, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::StoreError;
use crate::store::key::Key;
use crate::store::row::{self, Index, Row};
use crate::store::step::{Doing, Operation, Refusal, put_operation};
use crate::store::tables::{THREAD, with_id};
use crate::store::write::Tables;

/// What kind of decision it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionType {
    /// Which tools to call.
    ToolSelection,
    /// What to change in a file.
    FileEdit,
    /// How to cut a task.
    TaskBreakdown,
    /// How to check something.
    Verification,
    /// To take something back.
    Rollback,
    /// To keep a state.
    Checkpoint,
    /// How to go on after an error.
    ErrorRecovery,
}

impl DecisionType {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::ToolSelection,
        Self::FileEdit,
        Self::TaskBreakdown,
        Self::Verification,
        Self::Rollback,
        Self::Checkpoint,
        Self::ErrorRecovery,
    ];
}

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionOutcome {
    /// What was expected.
    Success,
    /// A part of it.
    PartialSuccess,
    /// Not what was expected.
    Failure,
    /// It was given up.
    Abandoned,
}

/// What could have been decided instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// What it was.
    pub option: String,
    /// Why it was not taken.
    pub reason: String,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRow {
    /// Whose decision it was.
    pub thread_id: ThreadId,
    /// The seq of its event.
    pub seq: Seq,
    /// What it was about.
    pub task: String,
    /// What kind it is.
    pub decision_type: DecisionType,
    /// The tools that were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_tools: Option<Vec<String>>,
    /// Why.
    pub reasoning: String,
    /// What was expected of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_outcome: Option<String>,
    /// What else could have been done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternatives: Option<Vec<Alternative>>,
    /// From 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// When it was made.
    pub timestamp: Timestamp,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<DecisionOutcome>,
    /// What happened instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_result: Option<String>,
    /// A note on the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_notes: Option<String>,
    /// When the outcome was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_recorded_at: Option<Timestamp>,
}

impl Row for DecisionRow {
    type Key = (ThreadId, Seq);
    const NAME: &'static str = "agentDecisions";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] =
        &[Index { table: "agentDecisions.by_thread", by: &[THREAD], sort: |row| row.thread_id.bytes() }];

    fn key(&self) -> (ThreadId, Seq) {
        (self.thread_id, self.seq)
    }

    fn json(&self) -> Value {
        with_id(self, self.timestamp)
    }
}

put_operation!(DecisionRow);

/// Says what came of a decision. The first outcome stands: what is told again is what was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordOutcome {
    /// Whose decision.
    pub thread: ThreadId,
    /// Which.
    pub decision: Seq,
    /// What came of it.
    pub outcome: DecisionOutcome,
    /// What happened, in a line.
    pub actual_result: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Operation for RecordOutcome {
    type Plan = Option<DecisionRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        let row: Option<DecisionRow> = row::get(tables, &(self.thread, self.decision))?;
        Ok(Ok(row.filter(|row| row.outcome.is_none())))
    }

    fn apply(&self, known: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        let Some(mut row) = known else { return Ok(()) };
        row.outcome = Some(self.outcome);
        row.actual_result.clone_from(&self.actual_result);
        row.outcome_recorded_at = Some(self.at);
        to.tables.put(&row).map(drop)
    }
}
