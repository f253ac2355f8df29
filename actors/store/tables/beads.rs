//! `beads`: tasks of the durable task graph, with the field names of the original's table.
//!
//! `status` is what a reader may rely on: a bead is `blocked` exactly as long as one that it waits for is there and not
//! done. What it was before stands in `once_free`, and comes back with the end of the last of them. Only a bead that the
//! `bd` tool brought can be `blocked` by itself.

use std::ops::ControlFlow;

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{BeadId, BeadStatus, BeadType, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{THREAD, with_id};
use crate::store::StoreError;
use crate::store::key::Key;
use crate::store::read::Reading;
use crate::store::row::{self, Fan, Field, Index, Row, Source, Walk, text_part};
use crate::store::verify::Findings;

/// One bead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BeadRow {
    /// Its name.
    pub id: BeadId,
    /// What is to be done, in a line.
    pub title: String,
    /// What kind of work it is.
    #[serde(rename = "type")]
    pub kind: BeadType,
    /// What is being done about it.
    pub status: BeadStatus,
    /// What it is once nothing is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once_free: Option<BeadStatus>,
    /// From 0, critical, to 4, some day.
    pub priority: u8,
    /// The thread that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<ThreadId>,
    /// The bead that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<BeadId>,
    /// The beads that it waits for. One that is not there is not waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<BeadId>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Who holds it: a thread's id, or a person's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody last changed it. That it was freed or blocked by another bead's end is no change of it.
    pub updated_at: Timestamp,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// Why it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<String>,
    /// The record that the `bd` tool wrote of it, whole: what it has and this row has not goes back out as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Value>,
}

impl Key for BeadId {
    fn bytes(&self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    }
    fn text(&self) -> String {
        self.to_string()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

const BY_STATUS: &str = "beads.by_status";
const BY_TYPE: &str = "beads.by_type";
const BY_TYPE_AND_STATUS: &str = "beads.by_type_and_status";
const BY_CREATED: &str = "beads.by_created";
const BY_THREAD: &str = "beads.by_thread";
const BY_PARENT: &str = "beads.by_parent";
const BY_BLOCKER: &str = "beads.by_blocker";
const BY_READY: &str = "beads.by_ready";

impl Row for BeadRow {
    type Key = BeadId;
    const NAME: &'static str = "beads";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] = &[
        Index {
            table: BY_STATUS,
            by: &[Field::text("status")],
            sort: |row| [text_part(row.status.as_str()), row.age()].concat(),
        },
        Index {
            table: BY_TYPE,
            by: &[Field::text("type")],
            sort: |row| [text_part(row.kind.as_str()), row.age()].concat(),
        },
        Index {
            table: BY_TYPE_AND_STATUS,
            by: &[Field::text("type"), Field::text("status")],
            sort: |row| [text_part(row.kind.as_str()), text_part(row.status.as_str()), row.age()].concat(),
        },
        Index { table: BY_CREATED, by: &[], sort: Self::age },
    ];
    const FANS: &'static [Fan<Self>] = &[
        Fan {
            table: BY_THREAD,
            by: &[THREAD],
            sorts: |row| row.thread_id.map(|id| [id.bytes(), row.age()].concat()).into_iter().collect(),
        },
        Fan {
            table: BY_PARENT,
            by: &[Field::text("parentId")],
            sorts: |row| {
                row.parent_id.iter().map(|id| [child_part(id, row.status.is_done()), row.age()].concat()).collect()
            },
        },
        Fan {
            table: BY_BLOCKER,
            by: &[Field::text("blockedBy")],
            sorts: |row| row.blocked_by.iter().map(|id| text_part(id.as_str())).collect(),
        },
        // Most urgent first, then oldest first: the order in which they are asked for.
        Fan {
            table: BY_READY,
            by: &[],
            sorts: |row| {
                let ready = row.status == BeadStatus::Open;
                ready.then(|| [vec![row.priority], row.age()].concat()).into_iter().collect()
            },
        },
    ];

    fn key(&self) -> BeadId {
        self.id.clone()
    }

    fn json(&self) -> Value {
        let mut json = with_id(self, self.created_at);
        if let Some(fields) = json.as_object_mut() {
            for ours in ["onceFree", "imported"] {
                fields.remove(ours);
            }
        }
        json
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.each::<Self>(&Walk::all(Self::NAME), &mut |row| {
            let waits = !open_blockers(reading, &row, 1)?.is_empty();
            let agrees = match row.status {
                BeadStatus::Blocked => waits == row.once_free.is_some(),
                BeadStatus::Open | BeadStatus::InProgress => !waits,
                BeadStatus::Closed | BeadStatus::Other(_) => true,
            };
            if !agrees {
                let what = format!("it is {}, which does not agree with what it waits for", row.status);
                findings.add(Self::NAME, row.id.text(), what);
            }
            Ok(())
        })
    }
}

fn child_part(parent: &BeadId, done: bool) -> Vec<u8> {
    [text_part(parent.as_str()), vec![u8::from(done)]].concat()
}

impl BeadRow {
    fn age(&self) -> Vec<u8> {
        self.created_at.0.to_be_bytes().to_vec()
    }
}

/// Which beads are asked for; with nothing set, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BeadsBy {
    /// In this state.
    pub status: Option<BeadStatus>,
    /// Of this kind.
    pub kind: Option<BeadType>,
}

impl BeadsBy {
    /// The part of the index that holds them and no others, newest first.
    fn walk(&self) -> Walk {
        let word = |word: &str| text_part(word);
        match (&self.kind, &self.status) {
            (Some(kind), Some(status)) => {
                Walk::prefix(BY_TYPE_AND_STATUS, &[word(kind.as_str()), word(status.as_str())].concat())
            }
            (Some(kind), None) => Walk::prefix(BY_TYPE, &word(kind.as_str())),
            (None, Some(status)) => Walk::prefix(BY_STATUS, &word(status.as_str())),
            (None, None) => Walk::all(BY_CREATED),
        }
        .down()
    }
}

/// How far an epic is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Its children that are done.
    pub closed: u64,
    /// All its children.
    pub total: u64,
}

/// Rows, and where the next ones begin.
pub(crate) type Beads = (Vec<BeadRow>, Option<Vec<u8>>);

/// Beads in the order of an index, behind `cursor`.
fn page(
    source: &(impl Source + ?Sized),
    walk: Walk,
    limit: usize,
    cursor: Option<Vec<u8>>,
) -> Result<Beads, StoreError> {
    let walk = match cursor {
        Some(key) => walk.after(key),
        None => walk,
    };
    let mut found = Vec::new();
    source.walk(&walk, &mut |entry, key| {
        if found.len() > limit {
            return Ok(ControlFlow::Break(()));
        }
        found.push((entry.to_vec(), key.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = if more { found.last().map(|(entry, _)| entry.clone()) } else { None };
    let rows = found.into_iter().map(|(_, key)| indexed(source, walk.table, &key)).collect::<Result<_, _>>()?;
    Ok((rows, last))
}

fn indexed(source: &(impl Source + ?Sized), index: &str, key: &[u8]) -> Result<BeadRow, StoreError> {
    let missing = || {
        StoreError::corrupt(BeadRow::NAME, row::key_text::<BeadRow>(key), format!("{index} names it and it is missing"))
    };
    row::decode(key, &source.fetch(BeadRow::NAME, key)?.ok_or_else(missing)?)
}

/// Beads, the newest first.
pub(crate) fn list(
    source: &(impl Source + ?Sized),
    by: &BeadsBy,
    limit: usize,
    cursor: Option<Vec<u8>>,
) -> Result<Beads, StoreError> {
    page(source, by.walk(), limit, cursor)
}

/// Beads that nobody holds and nothing blocks, the most urgent first and of those the oldest.
pub(crate) fn ready(
    source: &(impl Source + ?Sized),
    limit: usize,
    cursor: Option<Vec<u8>>,
) -> Result<Beads, StoreError> {
    page(source, Walk::all(BY_READY), limit, cursor)
}

/// Beads by name, behind one.
pub(crate) fn by_id(
    source: &(impl Source + ?Sized),
    after: Option<&BeadId>,
    limit: usize,
) -> Result<Vec<BeadRow>, StoreError> {
    let walk = Walk::all(BeadRow::NAME);
    let walk = after.map_or(walk.clone(), |id| walk.after(id.bytes()));
    row::rows(source, &walk, limit)
}

/// Those that wait for this one, done or not.
pub(crate) fn waiting_for(source: &(impl Source + ?Sized), id: &BeadId) -> Result<Vec<BeadId>, StoreError> {
    let mut found = Vec::new();
    source.walk(&Walk::prefix(BY_BLOCKER, &text_part(id.as_str())), &mut |_, key| {
        found.extend(BeadId::from_bytes(key));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Of those that a bead waits for, the first that are there and not done.
pub(crate) fn open_blockers(
    source: &(impl Source + ?Sized),
    bead: &BeadRow,
    limit: usize,
) -> Result<Vec<BeadId>, StoreError> {
    let mut open = Vec::new();
    for id in &bead.blocked_by {
        if open.len() == limit {
            break;
        }
        if row::get::<BeadRow>(source, id)?.is_some_and(|blocker| !blocker.status.is_done()) {
            open.push(id.clone());
        }
    }
    Ok(open)
}

/// How far a bead's children are. Reads the index alone.
pub(crate) fn progress(source: &(impl Source + ?Sized), id: &BeadId) -> Result<Progress, StoreError> {
    let count = |done| {
        let mut found = 0;
        source.walk(&Walk::prefix(BY_PARENT, &child_part(id, done)), &mut |_, _| {
            found += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok::<u64, StoreError>(found)
    };
    let closed = count(true)?;
    Ok(Progress { closed, total: closed + count(false)? })
}

/// The first children of a bead, those that are open first, each by age.
pub(crate) fn children(source: &(impl Source + ?Sized), id: &BeadId, limit: usize) -> Result<Vec<BeadRow>, StoreError> {
    let walk = Walk::prefix(BY_PARENT, &text_part(id.as_str()));
    Ok(page(source, walk, limit, None)?.0)
}
