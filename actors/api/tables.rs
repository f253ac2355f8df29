//! The tables: their rows by their indexes, and what changes of them as it is committed.
//!
//! A subscriber reads a list, and then the changes behind the commit that the list was read at: it misses none, and sees
//! some twice where it was cut off. Each tells the row as it is now, so that twice is as good as once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, Uri};
use axum::{Extension, Json};
use bytes::Bytes;
use lakitu_kernel::ports::{BoxFuture, Caller};
use lakitu_kernel::{ErrorCode, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::answers::Page;
use super::asked::{self, Id};
use super::error::ApiError;
use super::requests::{cursor, limit};
use super::{Shared, sse};
use crate::debug::edits::listed_diff;
use crate::store::query::{self, PublicTable, Query, QueryError, TableChanges};
use crate::store::{EditRow, Reading, Row as _};

/// The tables, each with its indexes.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Tables {
    /// The tables.
    items: Vec<Table>,
    /// The commit that they were read at.
    commit: u64,
}

/// A table.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Table {
    /// Its name.
    name: String,
    /// How many rows it has.
    rows: u64,
    /// Its indexes.
    indexes: Vec<TableIndex>,
}

/// An index of a table.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TableIndex {
    /// Its name.
    name: String,
    /// The fields that it can be asked by, in this order. None: it is an order, and holds what it is made for.
    fields: Vec<String>,
}

impl From<PublicTable> for Table {
    fn from(table: PublicTable) -> Self {
        let index = |index: query::PublicIndex| TableIndex {
            name: index.name.to_owned(),
            fields: index.fields.into_iter().map(str::to_owned).collect(),
        };
        let indexes = table.indexes.into_iter().map(index).collect();
        Self { name: table.name.to_owned(), rows: table.rows, indexes }
    }
}

/// A row, with the original's names for its fields: each has `_id` and `_creationTime` (in milliseconds since 1970).
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct TableRow(Map<String, Value>);

/// Strings of JSON, in a list or alone, that need no escapes.
const EQ: &str = r#"^("[^"\\\x00-\x1f]*"|\["[^"\\\x00-\x1f]*"(,"[^"\\\x00-\x1f]*")*\])$"#;

/// A page of a table's rows, in the order of the index, or of their ids.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRows {
    /// One of the table's indexes: by what rows are found, and the order in which they come.
    index: Option<String>,
    /// Only rows whose field has this value: a JSON string, or a list of strings for the index's first fields.
    #[schemars(regex(pattern = EQ))]
    eq: Option<String>,
    /// Items a page. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
    /// Where the page begins: the cursor of the one before.
    #[schemars(regex(pattern = "^([0-9a-f]{2})+$"))]
    cursor: Option<String>,
}

/// A table's changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FollowRows {
    /// Only changes behind this commit: a list's `commit`. A `Last-Event-ID` header counts before it. Default: from now.
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    after: Option<u64>,
    /// As in a list.
    index: Option<String>,
    /// As in a list: of a row that is one of these no longer, `leave` tells.
    #[schemars(regex(pattern = EQ))]
    eq: Option<String>,
}

/// Changes that are read at a time: they wait in memory for the reader.
const READ_CHANGES: usize = 64;

fn rows(table: Id, index: Option<&str>, eq: Option<&str>) -> Result<Query, ApiError> {
    let Path(table) = table.map_err(|_| QueryError::NoTable)?;
    let eq = eq.map(|eq| serde_json::from_str::<Value>(eq).map_err(|_| QueryError::NoValue)).transpose()?;
    Ok(Query::new(&table, index, eq.as_ref())?)
}

pub(super) async fn tables(State(shared): State<Arc<Shared>>) -> Result<Json<Tables>, ApiError> {
    let read = shared.read(|reading| Ok((reading.public_tables()?, reading.commit()?)));
    let (tables, commit) = read.await?;
    Ok(Json(Tables { items: tables.into_iter().map(Table::from).collect(), commit }))
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    table: Id,
    uri: Uri,
) -> Result<Json<Page<TableRow>>, ApiError> {
    let asked: ListRows = asked::query(&uri)?;
    let query = rows(table, asked.index.as_deref(), asked.eq.as_deref())?;
    let (limit, cursor) = (limit(asked.limit)?, cursor(asked.cursor)?);
    let read = move |reading: &Reading| {
        let mut page = query.page(reading, limit, cursor.as_deref())?;
        if query.table() == EditRow::NAME {
            page.items.iter_mut().for_each(|row| with_diff(reading, row));
        }
        Ok(page)
    };
    let page = shared.read(read).await?;
    let row = |row: Value| if let Value::Object(fields) = row { Some(TableRow(fields)) } else { None };
    let items = page.items.into_iter().filter_map(row).collect();
    Ok(Json(Page { items, cursor: page.cursor, commit: page.commit }))
}

/// The original kept an edit's diff in its row; here it is made of the bytes before and after, where they were kept.
fn with_diff(reading: &Reading, row: &mut Value) {
    let diff = row["_id"].as_str().and_then(|id| listed_diff(reading, id));
    if let (Some(fields), Some(diff)) = (row.as_object_mut(), diff) {
        fields.insert("diff".to_owned(), diff.into());
    }
}

pub(super) async fn changes(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Arc<Caller>>,
    table: Id,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    let asked: FollowRows = asked::query(&uri)?;
    let query = rows(table, asked.index.as_deref(), asked.eq.as_deref())?;
    let after = sse::last_event_id(&headers, "a commit")?.or(asked.after);
    let first = query.clone();
    let (now, first) = shared
        .read(move |reading| {
            let now = reading.commit()?;
            Ok((now, first.changes(reading, after.unwrap_or(now).min(now), READ_CHANGES)?))
        })
        .await?;
    if let Some(after) = after.filter(|after| *after > now) {
        let message = format!("the last commit is {now}, and {after} is to be read already: not of this store");
        return Err(ToolError::new(ErrorCode::Conflict, message).into());
    }
    let commits = shared.wiring.store.watch();
    sse::stream(
        &shared.clone(),
        &caller,
        Telling { shared, query, commits, told: Telling::frames(&first), upto: first.upto, more: first.more },
    )
}

/// One subscriber's stream.
struct Telling {
    shared: Arc<Shared>,
    query: Query,
    commits: watch::Receiver<u64>,
    /// What was read and not sent yet, from the last.
    told: Vec<Bytes>,
    upto: u64,
    more: bool,
}

impl Telling {
    /// An event each, from the last. A commit's last one has its number: whoever is cut off before it reads the commit again.
    fn frames(changes: &TableChanges) -> Vec<Bytes> {
        let mut later = None;
        let frame = |change: &query::TableChange| {
            let last = later.replace(change.commit) != Some(change.commit);
            sse::frame(last.then_some(change.commit), "change", change)
        };
        changes.items.iter().rev().map(frame).collect()
    }

    async fn read(&mut self) -> Result<(), ApiError> {
        let (query, after) = (self.query.clone(), self.upto);
        let found = self.shared.read(move |reading| Ok(query.changes(reading, after, READ_CHANGES)?)).await?;
        (self.told, self.upto, self.more) = (Self::frames(&found), found.upto, found.more);
        Ok(())
    }
}

impl sse::Telling for Telling {
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async {
            loop {
                if let Some(frame) = self.told.pop() {
                    return Some(frame);
                }
                if !self.more {
                    let upto = self.upto;
                    // An error: the store is gone for good, and so is the port.
                    self.commits.wait_for(|commit| *commit > upto).await.ok()?;
                }
                // A reader that is so slow that the feed is cut behind it comes back, and is told.
                if let Err(error) = self.read().await {
                    tracing::warn!(error = %error.body(), "a stream of changes ends");
                    return None;
                }
            }
        })
    }

    /// What the reader has: commits that changed nothing here too, so that it is never far behind.
    fn heartbeat(&self) -> Bytes {
        format!("id: {}\n\n", self.upto).into()
    }
}
