//! `journal`: the events of every thread, in order. Everything else of a thread is derived from it.
//!
//! A payload begins with the checksum of the thread's record before it, so a record that was lost or changed breaks
//! the chain even where its own checksum fits.

use std::ops::{Bound, ControlFlow};

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{Event, EventBody, Hash, Seq, ThreadId};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::key::Key;
use crate::store::read::Reading;
use crate::store::row::{self, Row, Source, Walk};
use crate::store::step::{Doing, Operation, Refusal};
use crate::store::tables::blobs::is_known;
use crate::store::verify::Findings;
use crate::store::write::Tables;

/// By what a step is recognised; stands in the record of its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepMark {
    /// The hash of its ops.
    pub digest: Hash,
    /// How many events it added.
    pub events: u32,
    /// The commit that it was a part of.
    pub commit: u64,
}

/// One event as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalRow {
    /// Whose it is.
    pub thread: ThreadId,
    /// Its position.
    pub seq: Seq,
    /// The checksum of the record before it; 0 for the first. Stands before the map.
    #[serde(skip)]
    pub prev: u32,
    /// When it was decided.
    pub at: Timestamp,
    /// The step that it is the first event of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepMark>,
    /// What happened.
    pub body: EventBody,
}

impl JournalRow {
    /// The event that it holds.
    pub fn into_event(self) -> Event {
        Event { seq: self.seq, thread: self.thread, at: self.at, body: self.body }
    }
}

impl Row for JournalRow {
    type Key = (ThreadId, Seq);
    const NAME: &'static str = "journal";
    // Each step changes its thread's row too, and that change is told.
    const FEED: bool = false;

    fn key(&self) -> (ThreadId, Seq) {
        (self.thread, self.seq)
    }

    fn payload(&self) -> Result<Vec<u8>, String> {
        let mut payload = self.prev.to_le_bytes().to_vec();
        rmp_serde::encode::write_named(&mut payload, self).map_err(|error| error.to_string())?;
        Ok(payload)
    }

    fn from_payload(_version: u8, payload: &[u8]) -> Result<Self, String> {
        let (prev, map) = payload.split_first_chunk().ok_or("the value is cut off")?;
        let row: Self = rmp_serde::from_slice(map).map_err(|error| error.to_string())?;
        Ok(Self { prev: u32::from_le_bytes(*prev), ..row })
    }

    fn inspect(reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        let (mut before, mut needed) = (None, Needed::default());
        reading.walk(&Walk::all(Self::NAME), &mut |key, value| {
            // What cannot be read is found by the look that every table gets.
            let Some((thread, seq)) = <(ThreadId, Seq)>::from_bytes(key) else { return Ok(ControlFlow::Continue(())) };
            let text = (thread, seq).text();
            let (last, chain) = match before {
                Some((other, last, chain)) if other == thread => (last, chain),
                Some(_) | None => {
                    needed.look(reading, findings)?;
                    (Seq::ZERO, 0)
                }
            };
            let row = row::decode::<Self>(key, value).ok();
            if seq != last.next() {
                findings.add(Self::NAME, text, format!("the events between {last} and {seq} are missing"));
            } else if row.as_ref().is_some_and(|row| row.prev != chain) {
                findings.add(Self::NAME, text, "the chain is broken: it was written behind another record".to_owned());
            }
            if let Some(row) = row {
                needed.take(row);
            }
            before = Some((thread, seq, row::checksum(value).unwrap_or_default()));
            Ok(ControlFlow::Continue(()))
        })?;
        needed.look(reading, findings)
    }
}

/// The blobs that a thread needs from here on: its prefix, the redo records of calls without a result, and images.
#[derive(Default)]
struct Needed {
    blobs: Vec<((ThreadId, Seq), For, Hash)>,
}

#[derive(PartialEq, Eq, Clone)]
enum For {
    Prefix,
    /// The redo record of a call.
    Call(String),
    /// The redo record of files that are put back.
    PutBack,
    Image,
}

impl Needed {
    fn take(&mut self, row: JournalRow) {
        let key = row.key();
        if let EventBody::ThreadStarted { prefix, .. } | EventBody::ThreadResumed { prefix: Some(prefix), .. } =
            row.body
        {
            self.blobs.retain(|(_, why, _)| *why != For::Prefix);
            self.blobs.push((key, For::Prefix, prefix));
        } else if let EventBody::ToolPrepared { call_id, files } = row.body {
            let hashes = files.into_iter().flat_map(|file| [file.hash_before, file.hash_after]).flatten();
            let why = For::Call(call_id);
            self.blobs.extend(hashes.map(|hash| (key, why.clone(), hash)));
        } else if let EventBody::EditRestoring { files, .. } = row.body {
            let hashes = files.into_iter().flat_map(|file| [file.hash_before, file.hash_after]).flatten();
            self.blobs.extend(hashes.map(|hash| (key, For::PutBack, hash)));
        } else if let EventBody::EditRestored { .. } = row.body {
            self.blobs.retain(|(_, why, _)| *why != For::PutBack);
        } else if let EventBody::ToolResult { call_id, images, .. } = row.body {
            let done = For::Call(call_id);
            self.blobs.retain(|(_, why, _)| *why != done);
            self.blobs.extend(images.into_iter().map(|image| (key, For::Image, image.hash)));
        }
    }

    fn look(&mut self, reading: &Reading, findings: &mut Findings) -> Result<(), StoreError> {
        for (key, _, hash) in self.blobs.drain(..) {
            if !is_known(reading, hash)? {
                findings.add(JournalRow::NAME, key.text(), format!("it names the blob {hash}, which is missing"));
            }
        }
        Ok(())
    }
}

/// Adds an event to the step's thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Append {
    /// When it was decided.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

impl Operation for Append {
    type Plan = ();

    fn events(&self) -> usize {
        1
    }

    fn check(&self, _: &Tables<'_>) -> Result<Result<(), Refusal>, StoreError> {
        Ok(Ok(()))
    }

    fn told(&self, _: Result<&(), &Refusal>) -> Vec<(Timestamp, EventBody)> {
        vec![(self.at, self.body.clone())]
    }

    fn apply(&self, (): (), _: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A thread's last event and its record's checksum.
pub(crate) fn last_seq(source: &(impl Source + ?Sized), thread: ThreadId) -> Result<Option<(Seq, u32)>, StoreError> {
    let Some((key, value)) = row::last_key(source, JournalRow::NAME, &thread.bytes())? else { return Ok(None) };
    let damaged =
        || StoreError::corrupt(JournalRow::NAME, row::key_text::<JournalRow>(&key), "the key or the frame is cut off");
    let (_, seq): (ThreadId, Seq) = Key::from_bytes(&key).ok_or_else(damaged)?;
    Ok(Some((seq, row::checksum(&value).ok_or_else(damaged)?)))
}

/// The range of a thread's events behind `after`.
pub(crate) fn behind(thread: ThreadId, after: Seq) -> Walk {
    let mut walk = Walk::prefix(JournalRow::NAME, &thread.bytes());
    walk.from = Bound::Excluded((thread, after).bytes());
    walk
}

/// The events behind `after`, in order. One that is missing is an error: a history with a hole is none.
pub(crate) fn events(
    source: &(impl Source + ?Sized),
    thread: ThreadId,
    after: Seq,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let rows: Vec<JournalRow> = row::rows(source, &behind(thread, after), limit)?;
    let mut last = after;
    for row in &rows {
        if row.seq != last.next() {
            return Err(StoreError::corrupt(JournalRow::NAME, (thread, last.next()).text(), "the event is missing"));
        }
        last = row.seq;
    }
    Ok(rows.into_iter().map(JournalRow::into_event).collect())
}

/// The step that was stored behind `expected`, if one begins there.
pub(crate) fn stored_step(
    source: &(impl Source + ?Sized),
    thread: ThreadId,
    expected: Seq,
) -> Result<Option<(StepMark, Vec<Event>)>, StoreError> {
    let first: Option<JournalRow> = row::get(source, &(thread, expected.next()))?;
    let Some(mark) = first.and_then(|row| row.step) else { return Ok(None) };
    Ok(Some((mark, events(source, thread, expected, mark.events as usize)?)))
}

/// Calls that have an intent and no result.
pub(crate) fn open_intents(source: &(impl Source + ?Sized), thread: ThreadId) -> Result<Vec<String>, StoreError> {
    let mut open = Vec::new();
    source.walk(&behind(thread, Seq::ZERO), &mut |key, value| {
        let body = row::decode::<JournalRow>(key, value).ok().map(|row| row.body);
        if let Some(EventBody::ToolIntent { call_id, .. }) = body {
            open.push(call_id);
        } else if let Some(EventBody::ToolResult { call_id, .. }) = body {
            open.retain(|other| *other != call_id);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(open)
}
