//! What is asked of the store: over the socket while somebody owns it, by the command line itself otherwise. Both get
//! the same answer.

use lakitu_kernel::event::EventBody;
use lakitu_kernel::limits::CHECKPOINTS_PER_THREAD_MAX;
use lakitu_kernel::{ErrorCode, Event, Seq, ThreadId, ToolError};
use serde::Serialize;
use serde_json::{Value, json};

use super::protocol::{CheckpointsLs, DbDump, DbGet, ThreadsEvents, ThreadsLs};
use crate::store::{Finding, Reading, Row, StoreError, ThreadRow, ThreadStatus, ThreadsBy};
use crate::threads::not_found;

/// Threads a page.
pub const THREADS_PAGE_MAX: usize = 100;
/// Events or rows a page.
pub const ROWS_PAGE_MAX: usize = 1000;
/// A page ends with the row that brings it past this, in bytes.
const PAGE_BYTES: usize = 256 * 1024;
/// How many events are looked through at a time for the last message.
const LOOK_BACK: u64 = 256;

pub(super) type Answer = Result<Value, ToolError>;

/// `threads.ls`: a page of threads, the newest first; of one status, the last changed first.
pub fn threads_ls(reading: &Reading, asked: ThreadsLs) -> Answer {
    let limit = within(asked.limit, 50, THREADS_PAGE_MAX)?;
    let by = match asked.status.as_deref() {
        None => ThreadsBy::All,
        Some(text) => ThreadsBy::Status(status(text)?),
    };
    let page = reading.threads_by(&by, limit, asked.cursor.as_deref())?;
    let items: Vec<Value> = page.items.iter().map(Row::json).collect();
    Ok(json!({ "items": items, "cursor": page.cursor, "commit": page.commit }))
}

/// A thread's status from its name.
pub fn status(text: &str) -> Result<ThreadStatus, ToolError> {
    ThreadStatus::from_wire(text).ok_or_else(|| {
        let all = ThreadStatus::ALL.map(ThreadStatus::as_str).join(", ");
        invalid(format!("a status is one of: {all}"))
    })
}

/// `threads.show`: the row, the last message, and the calls that have no result.
pub fn threads_show(reading: &Reading, id: ThreadId) -> Answer {
    let row = known(reading, id)?;
    let (message, after) = last_message(reading, &row)?;
    let answered = |id: &str| {
        after.iter().any(|event| matches!(&event.body, EventBody::ToolResult { call_id, .. } if call_id == id))
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "one of many kinds of events")]
    let asked = |id: &str| {
        after.iter().rev().find_map(|event| match &event.body {
            EventBody::ApprovalAsked { call_id, reason, .. } if call_id == id => Some(reason.clone()),
            _ => None,
        })
    };
    let begun = |id: &str| {
        let begins = |event: &&Event| matches!(&event.body, EventBody::ToolIntent { call_id, .. } if call_id == id);
        after.iter().find(begins).map(|event| event.at.to_string())
    };
    let calls = message
        .as_ref()
        .and_then(|event| if let EventBody::Message { calls, .. } = &event.body { Some(calls) } else { None });
    let open: Vec<Value> = calls
        .into_iter()
        .flatten()
        .filter(|call| !answered(&call.call_id))
        .map(|call| {
            let begun = begun(&call.call_id);
            let asked = begun.is_none().then(|| asked(&call.call_id)).flatten();
            let mut open = json!({ "call_id": call.call_id, "tool": call.tool, "begun_at": begun });
            if let Some(reason) = asked {
                open["waits_for_consent"] = reason.into();
            }
            open
        })
        .collect();
    Ok(json!({ "thread": row.json(), "last_message": message, "open_calls": open, "commit": reading.commit()? }))
}

/// The last message of the model, and what follows it.
fn last_message(reading: &Reading, row: &ThreadRow) -> Result<(Option<Event>, Vec<Event>), StoreError> {
    let mut after: Vec<Event> = Vec::new();
    let mut behind = row.last_seq.0;
    while behind > 0 {
        let from = behind.saturating_sub(LOOK_BACK);
        let window = usize::try_from(behind - from).unwrap_or(usize::MAX);
        let mut events = reading.events(row.id, Seq(from), window)?;
        if let Some(at) = events.iter().rposition(|event| matches!(event.body, EventBody::Message { .. })) {
            let mut rest = events.split_off(at + 1);
            rest.append(&mut after);
            return Ok((events.pop(), rest));
        }
        events.append(&mut after);
        (after, behind) = (events, from);
    }
    Ok((None, after))
}

/// `threads.events`: a page of a thread's journal.
pub fn threads_events(reading: &Reading, asked: ThreadsEvents) -> Answer {
    let limit = within(asked.limit, 100, ROWS_PAGE_MAX)?;
    let row = known(reading, asked.id)?;
    let mut last = match asked.cursor.as_deref() {
        Some(cursor) => Seq(cursor.parse().map_err(|_| invalid(format!("{cursor:?} is no cursor")))?),
        None => asked.after.unwrap_or_default(),
    };
    let mut page = Items::new(limit);
    while let Some(next) = page.next() {
        let events = reading.events(asked.id, last, next)?;
        let Some(newest) = events.last() else { break };
        last = newest.seq;
        events.iter().for_each(|event| page.push(event));
    }
    let cursor = (last < row.last_seq).then(|| last.to_string());
    Ok(json!({ "items": page.rows, "cursor": cursor, "commit": reading.commit()? }))
}

/// `checkpoints.ls`: checkpoints, the newest first.
pub fn checkpoints_ls(reading: &Reading, asked: CheckpointsLs) -> Answer {
    let limit = within(asked.limit, 50, CHECKPOINTS_PER_THREAD_MAX)?;
    let rows = match asked.thread {
        Some(thread) => {
            known(reading, thread)?;
            reading.checkpoints_of(thread)?.into_iter().rev().take(limit).collect()
        }
        None => reading.checkpoints(limit)?,
    };
    let items: Vec<Value> = rows.iter().map(Row::json).collect();
    Ok(json!({ "items": items, "cursor": null, "commit": reading.commit()? }))
}

/// `db.tables`: every table with its size.
pub fn db_tables(reading: &Reading) -> Answer {
    Ok(json!({ "items": reading.tables()?, "cursor": null, "commit": reading.commit()? }))
}

/// `db.get`: one row, or none.
pub fn db_get(reading: &Reading, asked: DbGet) -> Answer {
    let row = reading.get(&asked.table, &asked.key)?;
    Ok(json!({ "table": asked.table, "key": asked.key, "row": row, "commit": reading.commit()? }))
}

/// `db.dump`: a page of a table.
pub fn db_dump(reading: &Reading, asked: DbDump) -> Answer {
    let limit = within(asked.limit, 100, ROWS_PAGE_MAX)?;
    let (mut page, mut cursor) = (Items::new(limit), asked.cursor);
    while let Some(next) = page.next() {
        let part = reading.dump(&asked.table, cursor.as_deref(), next)?;
        part.items.iter().for_each(|row| page.push(row));
        cursor = part.cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(json!({ "items": page.rows, "cursor": cursor, "commit": reading.commit()? }))
}

/// `db.verify`: what is wrong.
pub fn findings(found: &[Finding]) -> Value {
    json!({ "ok": found.is_empty(), "findings": found })
}

/// A page under way: bounded in rows and in bytes, whatever a row's size.
struct Items {
    rows: Vec<Value>,
    limit: usize,
    bytes: usize,
    step: usize,
}

impl Items {
    fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), limit, bytes: 0, step: 1 }
    }

    /// How many rows are read next: more and more, so that neither large rows nor small ones cost much.
    fn next(&mut self) -> Option<usize> {
        let left = self.limit - self.rows.len();
        if left == 0 || self.bytes >= PAGE_BYTES {
            return None;
        }
        let mean = self.bytes / self.rows.len().max(1);
        let fitting = (PAGE_BYTES - self.bytes) / mean.max(1) + 1;
        let next = self.step.min(left).min(fitting);
        self.step *= 2;
        Some(next)
    }

    fn push(&mut self, item: &impl Serialize) {
        let value = serde_json::to_value(item).unwrap_or_default();
        self.bytes += value.to_string().len();
        self.rows.push(value);
    }
}

fn known(reading: &Reading, id: ThreadId) -> Result<ThreadRow, ToolError> {
    reading.thread(id)?.ok_or_else(|| not_found(id))
}

pub(super) fn within(asked: Option<usize>, default: usize, max: usize) -> Result<usize, ToolError> {
    let limit = asked.unwrap_or(default);
    if (1..=max).contains(&limit) { Ok(limit) } else { Err(invalid(format!("`limit` is 1 to {max}"))) }
}

fn invalid(message: String) -> ToolError {
    ToolError::new(ErrorCode::InvalidArguments, message)
}
