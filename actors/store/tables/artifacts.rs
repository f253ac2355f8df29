//! `artifacts`: what threads made for somebody, each version a row, with the field names of the original's table. The
//! content is a blob.

use std::ops::ControlFlow;

use lakitu_kernel::artifact::Saved;
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{ArtifactId, Hash, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::THREAD;
use crate::store::StoreError;
use crate::store::key::Key as _;
use crate::store::read::Reading;
use crate::store::row::{self, Field, Index, Row, Source, Walk, text_part};
use crate::store::step::put_operation;
use crate::store::verify::Findings;

/// One version of an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactRow {
    /// Its thread, and where the intent of the call stands that saved it.
    pub id: ArtifactId,
    /// Its name; each thread has its own.
    pub name: String,
    /// Counts what the thread saved under that name, from 1.
    pub version: u32,
    /// What it is, as a MIME type.
    #[serde(rename = "type")]
    pub mime: String,
    /// Where it was put, and where the next version takes its place.
    pub path: String,
    /// Of its content, a blob.
    pub content_hash: Hash,
    /// In bytes.
    pub size: u64,
    /// Who made it.
    pub thread_id: ThreadId,
    /// When it was saved.
    pub created_at: Timestamp,
    /// What whoever saved it has to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

impl ArtifactRow {
    /// The row of what a call saved.
    pub fn new(id: ArtifactId, saved: &Saved, at: Timestamp) -> Self {
        Self {
            id,
            name: saved.name.clone(),
            version: saved.version,
            mime: saved.mime.clone(),
            path: saved.path.to_string_lossy().into_owned(),
            content_hash: saved.hash,
            size: saved.bytes,
            thread_id: id.thread,
            created_at: at,
            metadata: saved.metadata.clone(),
        }
    }
}

const BY_NAME: &str = "artifacts.by_name";
const BY_THREAD_AND_NAME: &str = "artifacts.by_thread_and_name";
const BY_CREATED: &str = "artifacts.by_created";

impl Row for ArtifactRow {
    type Key = ArtifactId;
    const NAME: &'static str = "artifacts";
    const PUBLIC: bool = true;
    const INDEXES: &'static [Index<Self>] = &[
        Index {
            table: BY_NAME,
            by: &[Field::text("name")],
            sort: |row| [text_part(&row.name), row.created_at.0.to_be_bytes().to_vec()].concat(),
        },
        Index { table: "artifacts.by_thread", by: &[THREAD], sort: |row| row.thread_id.bytes() },
        Index {
            table: BY_THREAD_AND_NAME,
            by: &[THREAD, Field::text("name")],
            sort: |row| of_name(row.thread_id, &row.name),
        },
        Index { table: BY_CREATED, by: &[], sort: |row| row.created_at.0.to_be_bytes().to_vec() },
    ];

    fn key(&self) -> ArtifactId {
        self.id
    }

    fn json(&self) -> Value {
        super::with_id(self, self.created_at)
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        reading.each::<Self>(&Walk::all(Self::NAME), &mut |row| {
            if !super::blobs::is_known(reading, row.content_hash)? {
                findings.add(Self::NAME, row.id.text(), format!("its content {} is missing", row.content_hash));
            }
            Ok(())
        })
    }
}

put_operation!(ArtifactRow);

fn of_name(thread: ThreadId, name: &str) -> Vec<u8> {
    [thread.bytes(), text_part(name)].concat()
}

/// The versions of a thread's artifact, the newest first.
pub(crate) fn versions(
    source: &(impl Source + ?Sized),
    thread: ThreadId,
    name: &str,
    limit: usize,
) -> Result<Vec<ArtifactRow>, StoreError> {
    row::rows_by(source, &Walk::prefix(BY_THREAD_AND_NAME, &of_name(thread, name)).down(), limit)
}

/// How many versions of artifacts a thread saved.
pub(crate) fn saved_by(source: &(impl Source + ?Sized), thread: ThreadId) -> Result<usize, StoreError> {
    let mut saved = 0;
    source.walk(&Walk::prefix(ArtifactRow::NAME, &thread.bytes()), &mut |_, _| {
        saved += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(saved)
}

/// The artifact of that name that was saved last.
pub(crate) fn named(source: &(impl Source + ?Sized), name: &str) -> Result<Option<ArtifactRow>, StoreError> {
    Ok(row::rows_by(source, &Walk::prefix(BY_NAME, &text_part(name)).down(), 1)?.pop())
}

/// Which artifacts a list holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactsBy {
    /// All, the newest first.
    All,
    /// Those of this thread, the newest first.
    Thread(ThreadId),
}

impl ArtifactsBy {
    /// One page of them, and the key in the walked range of the last where there are more.
    pub(crate) fn page(
        &self,
        source: &(impl Source + ?Sized),
        limit: usize,
        behind: Option<Vec<u8>>,
    ) -> Result<(Vec<ArtifactRow>, Option<Vec<u8>>), StoreError> {
        let of = match self {
            Self::All => None,
            Self::Thread(thread) => Some(*thread),
        };
        super::newest(source, (BY_CREATED, |row: &ArtifactRow| row.created_at), of, limit, behind)
    }
}
