//! `toolExecutions`: one row a tool call, with the field names of the original's table.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{Seq, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::key::Key;
use crate::store::row::{Field, Index, Row, text_part};
use crate::store::step::put_operation;
use crate::store::tables::{THREAD, with_id};

/// What became of one tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionRow {
    /// Whose call it was.
    pub thread_id: ThreadId,
    /// The seq of its intent (of its result, where it never had one).
    pub seq: Seq,
    /// The decision that it belongs to: the seq of the `decision` event, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// The tool.
    pub tool_name: String,
    /// Its arguments.
    pub input: Value,
    /// What the model was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Whether it did what was asked.
    pub success: bool,
    /// From its start to its end, in milliseconds.
    pub duration_ms: u64,
    /// The failure: `CODE: message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it ended.
    pub timestamp: Timestamp,
}

impl Row for ExecutionRow {
    type Key = (ThreadId, Seq);
    const NAME: &'static str = "toolExecutions";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] = &[
        Index { table: "toolExecutions.by_thread", by: &[THREAD], sort: |row| row.thread_id.bytes() },
        Index {
            table: "toolExecutions.by_tool",
            by: &[Field::text("toolName")],
            sort: |row| text_part(&row.tool_name),
        },
    ];

    fn key(&self) -> (ThreadId, Seq) {
        (self.thread_id, self.seq)
    }

    fn json(&self) -> Value {
        with_id(self, self.timestamp)
    }
}

put_operation!(ExecutionRow);
