//! A thread again from its journal, with nothing asked outside: whatever came from outside stands in the journal, and all
//! else follows from it. What does not follow is a divergence, and the first one is named.
//!
//! Each event is either the outcome of something outside (an answer, a result, a prompt) or follows from the state. So the
//! journal is read as messages again, `decide` is asked what comes of each, and that is compared with what stands there. A
//! request is made again and compared by its hash with the one that was answered.

mod outcome;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lakitu_kernel::chat::{self, SUFFIX};
use lakitu_kernel::event::RequestMark;
use lakitu_kernel::image::ImageRef;
use lakitu_kernel::{CheckpointId, Event, EventBody, Hash, Seq, ThreadId, ToolError, Turn, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agent::State;
use super::{agent, not_found};
use crate::store::{Op, Reading, Store, StoreError};

/// Events that are read in one transaction.
const READ_AT_ONCE: usize = 256;

/// What a replay came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// The thread.
    pub thread: ThreadId,
    /// Events that were gone through.
    pub events: u64,
    /// Requests that were made again and had the bytes of before.
    pub requests: u64,
    /// Requests of which the journal does not say what they were: it was written by an older version.
    pub requests_unknown: u64,
    /// The first thing that came out otherwise; none: all of it is the same.
    pub divergence: Option<Divergence>,
}

/// Where a journal and its replay part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The event.
    pub seq: Seq,
    /// Its type.
    pub event: String,
    /// The field, as a path into the event.
    pub field: String,
    /// The first byte of the field that differs, in its JSON.
    pub byte: u64,
    /// What stands in the journal there, or the beginning of it.
    pub journal: String,
    /// What the replay has there.
    pub replay: String,
}

/// Goes through a thread's journal again.
pub async fn replay(store: &Store, thread: ThreadId) -> Result<Replayed, ToolError> {
    let mut replay = Replay::new(thread);
    loop {
        let mut next = replay;
        let read = store.read(move |reading| {
            let more = next.advance(reading)?;
            Ok((next, more))
        });
        let (now, more) = read.await.map_err(ToolError::from)?;
        replay = now;
        if !more {
            return replay.done();
        }
    }
}

/// The same, over a store that nobody owns.
pub fn replay_file(reading: &Reading, thread: ThreadId) -> Result<Replayed, ToolError> {
    let mut replay = Replay::new(thread);
    while replay.advance(reading).map_err(ToolError::from)? {}
    replay.done()
}

/// Goes through events alone: no request is made again.
#[cfg(test)]
pub(crate) fn of(thread: ThreadId, events: &[Event]) -> Option<Divergence> {
    let mut replay = Replay::new(thread);
    replay.ahead.extend(events.iter().cloned());
    while !replay.ahead.is_empty() && replay.divergence.is_none() {
        replay.one(None).unwrap();
    }
    replay.divergence
}

/// A replay under way.
struct Replay {
    state: State,
    /// Read and not gone through.
    ahead: VecDeque<Event>,
    read_up_to: Seq,
    /// The beginning of every request, and its blob.
    prefix: Option<(Hash, Bytes)>,
    images: BTreeMap<Hash, Bytes>,
    /// The request under way, and the prefix when it was first made.
    asked: Option<((Turn, u8), Option<Hash>)>,
    requests: u64,
    unknown: u64,
    divergence: Option<Divergence>,
}

impl Replay {
    fn new(thread: ThreadId) -> Self {
        Self {
            state: State::new(thread),
            ahead: VecDeque::new(),
            read_up_to: Seq::ZERO,
            prefix: None,
            images: BTreeMap::new(),
            asked: None,
            requests: 0,
            unknown: 0,
            divergence: None,
        }
    }

    fn done(self) -> Result<Replayed, ToolError> {
        let thread = self.state.thread;
        if self.read_up_to == Seq::ZERO {
            return Err(not_found(thread));
        }
        let (events, requests, requests_unknown) = (self.state.seq.0, self.requests, self.unknown);
        Ok(Replayed { thread, events, requests, requests_unknown, divergence: self.divergence })
    }

    /// Reads a piece of the journal and goes through it. Says whether there is more to do.
    fn advance(&mut self, reading: &Reading) -> Result<bool, StoreError> {
        let events = reading.events(self.state.thread, self.read_up_to, READ_AT_ONCE)?;
        let last = events.len() < READ_AT_ONCE;
        self.read_up_to = events.last().map_or(self.read_up_to, |event| event.seq);
        self.ahead.extend(events);
        // What belongs together came in one step, and is looked at together.
        while self.divergence.is_none()
            && (self.ahead.len() > limits::STEP_EVENTS_MAX || (last && !self.ahead.is_empty()))
        {
            self.one(Some(reading))?;
        }
        if last && self.divergence.is_none() {
            self.compare_row(reading)?;
        }
        Ok(!last && self.divergence.is_none())
    }

    /// Goes through what comes of one message. Without a store no request is made again.
    fn one(&mut self, reading: Option<&Reading>) -> Result<(), StoreError> {
        if let Some(reading) = reading {
            self.requests(reading)?;
        }
        if self.divergence.is_some() {
            return Ok(());
        }
        let mut candidates = outcome::candidates(&self.state, self.ahead.make_contiguous()).into_iter().peekable();
        let mut found = None;
        while let Some(msg) = candidates.next() {
            // As a rule there is one, and what it makes of the state is not taken back.
            let before = candidates.peek().is_some().then(|| self.state.clone());
            match follow(&mut self.state, msg, self.ahead.make_contiguous()) {
                Ok(taken) => {
                    self.ahead.drain(..taken);
                    self.turned();
                    return Ok(());
                }
                Err(divergence) => found = found.or(Some(divergence)),
            }
            if let Some(before) = before {
                self.state = before;
            }
        }
        self.divergence = found.or_else(|| self.ahead.front().map(unexpected));
        Ok(())
    }

    /// A request keeps the prefix that it was made with, whatever is changed before its answer comes; one that is made
    /// again after a restart has the newest.
    fn turned(&mut self) {
        let request = (self.state.turn(), self.state.changes());
        if self.asked.is_none_or(|(asked, _)| asked != request) {
            self.asked = Some((request, self.state.prefix));
        }
    }

    /// Makes the request again that the next event is the answer to.
    fn requests(&mut self, reading: &Reading) -> Result<(), StoreError> {
        let Some(Event { seq, body: EventBody::Message { request, .. }, .. }) = self.ahead.front() else {
            return Ok(());
        };
        let (seq, Some(recorded)) = (*seq, *request) else {
            self.unknown += 1;
            return Ok(());
        };
        let mut made = RequestMark::of(&self.body(reading, self.state.prefix)?);
        let first = self.asked.and_then(|(_, prefix)| prefix).filter(|prefix| Some(*prefix) != self.state.prefix);
        if let Some(first) = first.filter(|_| made != recorded) {
            made = RequestMark::of(&self.body(reading, Some(first))?);
        }
        if made == recorded {
            self.requests += 1;
            return Ok(());
        }
        self.divergence = Some(Divergence {
            seq,
            event: "message".to_owned(),
            field: "request".to_owned(),
            byte: 0,
            journal: format!("{} ({} bytes)", recorded.hash, recorded.bytes),
            replay: format!("{} ({} bytes)", made.hash, made.bytes),
        });
        Ok(())
    }

    fn body(&mut self, reading: &Reading, prefix: Option<Hash>) -> Result<Vec<Bytes>, StoreError> {
        if let Some(hash) = prefix.filter(|hash| self.prefix.as_ref().is_none_or(|(known, _)| known != hash)) {
            self.prefix = Some((hash, reading.blob(hash)?));
        }
        let shown: Vec<ImageRef> = self.state.history.images().cloned().collect();
        self.images.retain(|hash, _| shown.iter().any(|image| image.hash == *hash));
        for image in shown {
            if let Entry::Vacant(place) = self.images.entry(image.hash) {
                place.insert(chat::image_part(image.media_type, &reading.blob(image.hash)?));
            }
        }
        let mut body: Vec<Bytes> = self.prefix.iter().map(|(_, prefix)| prefix.clone()).collect();
        body.extend(self.state.history.body(|image| self.images.get(&image.hash).cloned().unwrap_or_default()));
        body.push(Bytes::from_static(SUFFIX));
        Ok(body)
    }

    /// The thread's row is derived from its journal, but for when it was written.
    fn compare_row(&mut self, reading: &Reading) -> Result<(), StoreError> {
        // Of a thread that goes on meanwhile, the row is newer.
        let row = reading.thread(self.state.thread)?.filter(|row| row.last_seq == self.state.seq);
        let Some(row) = row else { return Ok(()) };
        let Some(Op::Thread(derived)) = agent::thread_row(&self.state, row.updated_at) else { return Ok(()) };
        let generation = row.generation;
        let derived = crate::store::ThreadRow { generation, ..derived };
        let json = |row: &crate::store::ThreadRow| serde_json::to_value(row).unwrap_or_default();
        if let Some((field, byte, journal, replay)) = difference("", &json(&row), &json(&derived)) {
            let (seq, event) = (self.state.seq, "the row in threads".to_owned());
            self.divergence = Some(Divergence { seq, event, field, byte, journal, replay });
        }
        Ok(())
    }
}

/// Takes a message into the state as the journal has it; gives how many events came of it, or where it has others.
fn follow(state: &mut State, msg: agent::Msg, journal: &[Event]) -> Result<usize, Divergence> {
    let mut taken = 0;
    let mut next = state.decide(msg);
    if next.is_empty() {
        return Err(journal.first().map_or_else(|| missing(state, "nothing"), unexpected));
    }
    while !next.is_empty() {
        for body in next {
            // What was mended came from outside as it was: that it was mended stands there alone.
            while let Some(event) = journal.get(taken).filter(|event| is_repair(event) && event.body != body) {
                state.evolve(event);
                taken += 1;
            }
            let Some(event) = journal.get(taken) else { return Err(missing(state, body.name())) };
            let body = of_its_thread(body, event);
            if event.body != body {
                return Err(compared(event, &body));
            }
            state.evolve(event);
            taken += 1;
        }
        next = state.conclude();
    }
    Ok(taken)
}

/// What a fork took over names the checkpoints of the thread in which they were made: there they are.
fn of_its_thread(body: EventBody, event: &Event) -> EventBody {
    match (body, &event.body) {
        (EventBody::CheckpointCreated { id, name, next_task }, EventBody::CheckpointCreated { id: journal, .. }) => {
            EventBody::CheckpointCreated { id: CheckpointId { thread: journal.thread, ..id }, name, next_task }
        }
        (EventBody::CheckpointRestored { id, to }, EventBody::CheckpointRestored { id: journal, to: there }) => {
            let thread = if id.thread == to { journal.thread } else { id.thread };
            EventBody::CheckpointRestored { id: CheckpointId { thread, ..id }, to: *there }
        }
        (body, _) => body,
    }
}

fn is_repair(event: &Event) -> bool {
    matches!(event.body, EventBody::HistoryRepaired { .. })
}

/// The journal has an event that nothing leads to.
fn unexpected(event: &Event) -> Divergence {
    Divergence {
        seq: event.seq,
        event: event.body.name().to_owned(),
        field: "type".to_owned(),
        byte: 0,
        journal: event.body.name().to_owned(),
        replay: "no such event follows".to_owned(),
    }
}

/// The journal ends before an event that follows.
fn missing(state: &State, name: &str) -> Divergence {
    Divergence {
        seq: state.seq.next(),
        event: name.to_owned(),
        field: "type".to_owned(),
        byte: 0,
        journal: "the end".to_owned(),
        replay: name.to_owned(),
    }
}

fn compared(event: &Event, body: &EventBody) -> Divergence {
    let json = |body: &EventBody| serde_json::to_value(body).unwrap_or_default();
    let found = difference("", &json(&event.body), &json(body));
    let (field, byte, journal, replay) = found.unwrap_or_default();
    Divergence { seq: event.seq, event: event.body.name().to_owned(), field, byte, journal, replay }
}

/// The first field in which two values differ, the first byte in it, and both from there on.
fn difference(path: &str, one: &Value, other: &Value) -> Option<(String, u64, String, String)> {
    if one == other {
        return None;
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (one, other) {
        (Value::Object(a), Value::Object(b)) if a.get("type") == b.get("type") => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            let at = |map: &serde_json::Map<String, Value>, name: &str| map.get(name).cloned().unwrap_or_default();
            names.into_iter().find_map(|name| difference(&below(name), &at(a, name), &at(b, name)))
        }
        (Value::Object(a), Value::Object(b)) => {
            difference(&below("type"), a.get("type").unwrap_or(&Value::Null), b.get("type").unwrap_or(&Value::Null))
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|at| {
            let of = |list: &[Value]| list.get(at).cloned().unwrap_or_default();
            difference(&below(&at.to_string()), &of(a), &of(b))
        }),
        (_, _) => {
            let (one, other) = (one.to_string(), other.to_string());
            let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let from =
                |text: &str| text.get(text.floor_char_boundary(same)..).unwrap_or_default().chars().take(80).collect();
            Some((path.to_owned(), same as u64, from(&one), from(&other)))
        }
    }
}
