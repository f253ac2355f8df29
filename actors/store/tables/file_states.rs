//! `fileState`: the latest access to each file, with the field names of the original's table.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{Hash, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::StoreError;
use crate::store::key::Key as _;
use crate::store::read::Reading;
use crate::store::row::{self, Field, Index, Row, Walk, text_part};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::tables::edits::{EditKey, EditRow};
use crate::store::tables::{THREAD, with_id};
use crate::store::verify::Findings;
use crate::store::write::Tables;

/// What was done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOperation {
    /// Read.
    Read,
    /// Written as a whole, or removed.
    Write,
    /// Changed in part.
    Edit,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileStateRow {
    /// The file, absolute.
    pub path: String,
    /// What was done last.
    pub last_operation: FileOperation,
    /// When.
    pub last_access_at: Timestamp,
    /// The version that was seen or made; none: the file was removed, or not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<Hash>,
    /// Its size in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Who accessed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<ThreadId>,
    /// How often it was accessed.
    pub access_count: u64,
    /// When it was accessed first.
    pub created_at: Timestamp,
    /// Its last recorded change, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_edit_id: Option<String>,
}

impl Row for FileStateRow {
    type Key = String;
    const NAME: &'static str = "fileState";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] = &[
        Index { table: "fileState.by_path", by: &[Field::text("path")], sort: |row| text_part(&row.path) },
        Index {
            table: "fileState.by_thread",
            by: &[THREAD],
            sort: |row| row.thread_id.map_or_else(Vec::new, |thread| thread.bytes()),
        },
    ];

    fn key(&self) -> String {
        self.path.clone()
    }

    fn json(&self) -> Value {
        with_id(self, self.created_at)
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.each::<Self>(&Walk::all(Self::NAME), &mut |row| {
            let Some(text) = row.last_edit_id else { return Ok(()) };
            let edit = EditKey::from_text(&text).map(|key| row::get::<EditRow>(reading, &key)).transpose();
            // One that is there and cannot be read is a finding of its own table.
            let found = edit.map_or(true, |edit| edit.flatten().is_some());
            if !found {
                findings.add(Self::NAME, row.path, format!("it names the edit {text}, which is missing"));
            }
            Ok(())
        })
    }
}

impl FileStateRow {
    /// The row after an access.
    fn after(known: Option<Self>, access: &Access) -> Self {
        let (access_count, created_at, last_edit_id) =
            known.map_or((0, access.at, None), |known| (known.access_count, known.created_at, known.last_edit_id));
        Self {
            path: access.path.clone(),
            last_operation: access.operation,
            last_access_at: access.at,
            content_hash: access.hash,
            size: access.size,
            thread_id: Some(access.thread),
            access_count: access_count.saturating_add(1),
            created_at,
            last_edit_id,
        }
    }

    /// Takes an edit in.
    pub(crate) fn edited(edit: &EditRow, tables: &mut Tables<'_>) -> Result<(), StoreError> {
        let partial = edit.before.is_some() && edit.after.is_some() && edit.tool != "file_write";
        let access = Access {
            path: edit.path.clone(),
            operation: if partial { FileOperation::Edit } else { FileOperation::Write },
            thread: edit.thread,
            at: edit.created_at,
            hash: edit.after.and_then(|state| state.hash),
            size: edit.after.map(|state| state.bytes),
        };
        let known = row::get(tables, &edit.path)?;
        let row = Self { last_edit_id: Some(edit.key().text()), ..Self::after(known, &access) };
        tables.put(&row).map(drop)
    }
}

/// Notes an access that changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The file, absolute.
    pub path: String,
    /// What was done.
    pub operation: FileOperation,
    /// By whom.
    pub thread: ThreadId,
    /// When.
    pub at: Timestamp,
    /// The version that was seen.
    pub hash: Option<Hash>,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
}

impl Operation for Access {
    type Plan = Option<FileStateRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        Ok(Ok(row::get(tables, &self.path)?))
    }

    fn apply(&self, known: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        to.tables.put(&FileStateRow::after(known, self)).map(drop)
    }
}
