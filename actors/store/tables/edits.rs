//! `editHistory`: every change of a file that a thread made, with the field names of the original's table. The bytes
//! before and after are blobs; a diff is made of them when somebody asks for it.

use std::ops::ControlFlow;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::edit::{FileChange, FileState};
use lakitu_kernel::{Hash, Seq, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::store::StoreError;
use crate::store::key::Key;
use crate::store::read::Reading;
use crate::store::row::{self, Field, Index, Row, Source, Walk, text_part};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::tables::THREAD;
use crate::store::tables::blobs::is_known;
use crate::store::tables::file_states::FileStateRow;
use crate::store::verify::Findings;
use crate::store::write::Tables;
use crate::tools::bash::BASH;

/// An edit's name: its thread, its `edit.recorded` event, its place in that.
pub type EditKey = (ThreadId, (Seq, u32));

/// One change of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditRow {
    /// Whose change it was.
    pub thread: ThreadId,
    /// The event that recorded it.
    pub seq: Seq,
    /// Which of that event's it is.
    pub n: u32,
    /// The file, absolute.
    pub path: String,
    /// What changed it: a tool's name, or `rollback`.
    pub tool: String,
    /// 1 for the first recorded change of this path, then without gaps. The store sets it.
    pub version: u64,
    /// Whether something else changed the file between the change before and this one. The store sets it.
    pub outside: bool,
    /// What stood there; none: no file.
    pub before: Option<FileState>,
    /// What stands there after it; none: no file.
    pub after: Option<FileState>,
    /// Lines that are new.
    pub added: u64,
    /// Lines that are gone.
    pub removed: u64,
    /// Whether the file was read back behind the change, and was what it was to be. Set by that check, and by nothing else.
    #[serde(default)]
    pub verified: bool,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_reason: Option<String>,
}

const BY_PATH: &str = "editHistory.by_path";

fn path_range(path: &str) -> Walk {
    Walk::prefix(BY_PATH, &text_part(path))
}

/// The hash as the original has it: empty where there is no file.
fn shown(state: Option<FileState>) -> String {
    state.and_then(|state| state.hash).map_or_else(String::new, |hash| hash.to_string())
}

impl Row for EditRow {
    type Key = EditKey;
    const NAME: &'static str = "editHistory";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] = &[
        Index {
            table: BY_PATH,
            by: &[Field::text("path")],
            sort: |row| [text_part(&row.path), row.version.to_be_bytes().to_vec()].concat(),
        },
        Index { table: "editHistory.by_thread", by: &[THREAD], sort: |row| row.thread.bytes() },
    ];

    fn key(&self) -> EditKey {
        (self.thread, (self.seq, self.n))
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "_id": self.key().text(),
            "_creationTime": self.created_at.0,
            "path": self.path,
            "fileStateId": self.path,
            "oldContentHash": shown(self.before),
            "newContentHash": shown(self.after),
            "verified": self.verified,
            "threadId": self.thread,
            "createdAt": self.created_at.0,
            "tool": self.tool,
            "version": self.version,
            "changedOutside": self.outside,
            "before": self.before,
            "after": self.after,
            "added": self.added,
            "removed": self.removed,
        });
        if let (Some(fields), Some(at)) = (json.as_object_mut(), self.rolled_back_at) {
            fields.insert("rolledBack".to_owned(), true.into());
            fields.insert("rolledBackAt".to_owned(), at.0.into());
            fields.insert("rollbackReason".to_owned(), self.rollback_reason.clone().into());
        }
        json
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        let mut before: Option<EditRow> = None;
        reading.walk(&Walk::all(BY_PATH), &mut |_, key| {
            // What an index names and is not there is found by the look that every table gets.
            let Some(value) = reading.fetch(Self::NAME, key)? else { return Ok(ControlFlow::Continue(())) };
            let Ok(row) = row::decode::<Self>(key, &value) else { return Ok(ControlFlow::Continue(())) };
            row.inspect_blobs(reading, findings)?;
            let last = before.take().filter(|last| last.path == row.path);
            row.inspect_chain(last.as_ref(), findings);
            before = Some(row);
            Ok(ControlFlow::Continue(()))
        })
    }
}

impl EditRow {
    /// The row of a change; what the store knows of the path is filled in when it is written.
    pub fn new(key: EditKey, path: String, tool: String, change: &FileChange, at: Timestamp) -> Self {
        let (thread, (seq, n)) = key;
        Self {
            thread,
            seq,
            n,
            path,
            tool,
            version: 0,
            outside: false,
            before: change.before,
            after: change.after,
            added: change.added,
            removed: change.removed,
            verified: change.verified,
            created_at: at,
            rolled_back_at: None,
            rollback_reason: None,
        }
    }

    fn inspect_blobs(&self, reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        let kept = [self.before, self.after].into_iter().flatten().filter(|state| state.kept);
        for hash in kept.filter_map(|state| state.hash) {
            if !is_known(reading, hash)? {
                findings.add(Self::NAME, self.key().text(), format!("it names the blob {hash}, which is missing"));
            }
        }
        Ok(())
    }

    fn inspect_chain(&self, last: Option<&EditRow>, findings: &mut Findings) {
        let expected = last.map_or(0, |last| last.version) + 1;
        if self.version != expected {
            let what = format!("it is version {} of {}, expected {expected}", self.version, self.path);
            findings.add(Self::NAME, self.key().text(), what);
        } else if !self.outside && last.is_some_and(|last| differ(last.after, self.before)) {
            let what = format!(
                "the change of {} before it left another version than it found, and no outside change is recorded",
                self.path
            );
            findings.add(Self::NAME, self.key().text(), what);
        }
    }
}

/// Whether these are certainly two versions.
fn differ(one: Option<FileState>, other: Option<FileState>) -> bool {
    match (one, other) {
        (None, None) => false,
        (Some(one), Some(other)) => {
            one.kind != other.kind || one.hash.zip(other.hash).is_some_and(|(one, other)| one != other)
        }
        (None, Some(_)) | (Some(_), None) => true,
    }
}

impl Operation for EditRow {
    type Plan = Option<Self>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        let last = row::rows_by::<Self>(tables, &path_range(&self.path).down(), 1)?.into_iter().next();
        // What a command is seen to have changed may be what a file tool of another thread wrote meanwhile.
        let told = last.as_ref().is_some_and(|last| {
            self.tool == BASH.name
                && last.thread != self.thread
                && !differ(last.before, self.before)
                && !differ(last.after, self.after)
        });
        if told {
            return Ok(Ok(None));
        }
        let outside = last.as_ref().is_some_and(|last| differ(last.after, self.before));
        let version = last.map_or(0, |last| last.version) + 1;
        Ok(Ok(Some(Self { version, outside, ..self.clone() })))
    }

    fn apply(&self, plan: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        let Some(row) = plan else { return Ok(()) };
        to.tables.put(&row)?;
        FileStateRow::edited(&row, to.tables)
    }
}

/// Edits that are taken back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Edits {
    /// One.
    One(EditKey),
    /// All that one event recorded: what one call changed.
    Step(ThreadId, Seq),
    /// All of a thread.
    Thread(ThreadId),
}

impl Edits {
    /// As a person names them: `THREAD/SEQ/N`, `THREAD/SEQ` or `THREAD`.
    pub fn from_text(text: &str) -> Option<Self> {
        if let Some(edit) = EditKey::from_text(text) {
            return Some(Self::One(edit));
        }
        match text.split_once('/') {
            Some((thread, seq)) => Some(Self::Step(thread.parse().ok()?, Seq(seq.parse().ok()?))),
            None => text.parse().ok().map(Self::Thread),
        }
    }

    /// The same, back.
    pub fn text(&self) -> String {
        match self {
            Self::One(edit) => edit.text(),
            Self::Step(thread, seq) => format!("{thread}/{}", seq.0),
            Self::Thread(thread) => thread.to_string(),
        }
    }

    /// Whose they are.
    pub fn thread(&self) -> ThreadId {
        match self {
            Self::One((thread, _)) | Self::Step(thread, _) | Self::Thread(thread) => *thread,
        }
    }

    /// The rows, in the order in which they came.
    pub(crate) fn rows(&self, source: &(impl Source + ?Sized)) -> Result<Vec<EditRow>, StoreError> {
        let prefix = match self {
            Self::One(edit) => return Ok(row::get(source, edit)?.into_iter().collect()),
            Self::Step(thread, seq) => [thread.bytes(), seq.bytes()].concat(),
            Self::Thread(thread) => thread.bytes(),
        };
        let mut rows = Vec::new();
        source.walk(&Walk::prefix(EditRow::NAME, &prefix), &mut |key, value| {
            rows.push(row::decode(key, value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }
}

/// Marks edits as taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TakeBack {
    /// Which.
    pub edits: Edits,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Operation for TakeBack {
    type Plan = Vec<EditRow>;

    fn check(&self, tables: &Tables<'_>) -> Result<Result<Self::Plan, Refusal>, StoreError> {
        Ok(Ok(self.edits.rows(tables)?))
    }

    fn apply(&self, known: Self::Plan, to: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        for row in known {
            // What a taking back left is told by its own edits, which are no part of it.
            if row.rolled_back_at.is_some() && !matches!(self.edits, Edits::One(_)) {
                continue;
            }
            let (rolled_back_at, rollback_reason) = (Some(self.at), Some(self.reason.clone()));
            to.tables.put(&EditRow { rolled_back_at, rollback_reason, ..row })?;
        }
        Ok(())
    }
}

/// Which edits a list holds; the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EditsBy {
    /// Of this thread.
    pub thread: Option<ThreadId>,
    /// Of this file, absolute.
    pub path: Option<String>,
}

impl EditsBy {
    fn walk(&self) -> Walk {
        match (&self.path, self.thread) {
            (Some(path), _) => path_range(path).down(),
            (None, Some(thread)) => Walk::prefix(EditRow::NAME, &thread.bytes()).down(),
            (None, None) => Walk::all(EditRow::NAME).down(),
        }
    }

    /// One page of them, and the key in the walked range of the last one looked at.
    pub(crate) fn page(
        &self,
        reading: &Reading,
        limit: usize,
        behind: Option<Vec<u8>>,
    ) -> Result<(Vec<EditRow>, Option<Vec<u8>>), StoreError> {
        let walk = behind.map_or_else(|| self.walk(), |key| self.walk().after(key));
        let (mut rows, mut last) = (Vec::new(), None);
        reading.walk(&walk, &mut |key, value| {
            let row: EditRow = if walk.table == EditRow::NAME {
                row::decode(key, value)?
            } else {
                let Some(found) = reading.fetch(EditRow::NAME, value)? else { return Ok(ControlFlow::Continue(())) };
                row::decode(value, &found)?
            };
            if self.thread.is_none_or(|thread| row.thread == thread) {
                rows.push(row);
            }
            last = Some(key.to_vec());
            Ok(if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok((rows, last))
    }
}

/// The hash of a side of an edit whose bytes are kept.
pub fn kept(state: FileState) -> Option<Hash> {
    state.hash.filter(|_| state.kept)
}
