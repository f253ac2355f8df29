//! What a data directory says of its thread, and what must hold of it at every moment.

use std::collections::BTreeMap;
use std::path::Path;

use lakitu_actors::gateway::validate::validate;
use lakitu_actors::store::{
    ExecutionRow, JobRow, OpenStore, Reading, StoreError, ThreadRow, ThreadStatus, ThreadsBy, verify,
};
use lakitu_actors::threads::agent::{Phase, State};
use lakitu_actors::threads::journal::{fold, replay};
use lakitu_actors::threads::replay::replay_file;
use lakitu_kernel::chat::{self, SUFFIX};
use lakitu_kernel::event::Call;
use lakitu_kernel::image::ImageRef;
use lakitu_kernel::{ErrorCode, Event, EventBody};

/// More than any thread here has.
const EVENTS_MAX: usize = 100_000;

/// A thread as its data directory has it. It was checked: see [`Journal::read`].
pub(super) struct Journal {
    pub(super) row: ThreadRow,
    pub(super) events: Vec<Event>,
    executions: Vec<ExecutionRow>,
    pub(super) jobs: Vec<JobRow>,
}

/// A call's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) ok: bool,
    pub(super) code: Option<ErrorCode>,
    pub(super) output: String,
}

impl Journal {
    /// Reads it and checks what holds at every moment, a crash's included: rows are whole, `seq` has no gap, each call
    /// has at most one result, and each request that was or is to be sent is valid. None where there is no thread.
    pub(super) fn read(data: &Path) -> Option<Self> {
        let store = match OpenStore::read_only(data) {
            Ok(store) => store,
            // It was killed before it had one.
            Err(StoreError::Invalid(_)) => return None,
            Err(error) => panic!("the database cannot be opened: {error}"),
        };
        let reading = store.read().unwrap();
        assert_eq!(verify(&reading).unwrap(), [], "the database is not clean");
        let mut rows = reading.threads_by(&ThreadsBy::All, 10, None).unwrap().items;
        assert!(rows.len() <= 1, "more than one thread: {rows:?}");
        let row = rows.pop()?;
        let events = reading.events(row.id, lakitu_kernel::Seq::ZERO, EVENTS_MAX).unwrap();
        let executions = reading.executions(row.id).unwrap();
        let jobs = reading.jobs(row.id).unwrap();
        let journal = Self { row, events, executions, jobs };
        journal.check_order();
        journal.check_calls();
        journal.check_requests(&reading);
        journal.check_decisions(&reading);
        let replayed = replay_file(&reading, journal.row.id).unwrap();
        assert_eq!(replayed.divergence, None, "the journal does not replay");
        let made = |event: &&Event| {
            matches!(event.body, EventBody::CheckpointCreated { .. } | EventBody::ThreadCheckpointed { .. })
        };
        let checkpoints = reading.checkpoints_of(journal.row.id).unwrap().len();
        assert_eq!(checkpoints, journal.events.iter().filter(made).count(), "checkpoints and their events");
        Some(journal)
    }

    /// The events alone, of the only thread, unchecked; none where there is no thread.
    pub(super) fn events(data: &Path) -> Vec<Event> {
        let store = match OpenStore::read_only(data) {
            Ok(store) => store,
            Err(StoreError::Invalid(_)) => return Vec::new(),
            Err(error) => panic!("the database cannot be opened: {error}"),
        };
        let reading = store.read().unwrap();
        let rows = reading.threads_by(&ThreadsBy::All, 10, None).unwrap().items;
        rows.first().map_or_else(Vec::new, |row| reading.events(row.id, lakitu_kernel::Seq::ZERO, EVENTS_MAX).unwrap())
    }

    fn check_order(&self) {
        for (n, event) in (1..).zip(&self.events) {
            assert_eq!(event.seq.0, n, "a gap in the journal: {event:?}");
        }
        assert_eq!(self.row.last_seq.0, self.events.len() as u64, "the thread's row is behind its journal");
    }

    fn check_calls(&self) {
        let mut results: BTreeMap<&str, usize> = BTreeMap::new();
        let mut intents = Vec::new();
        for event in &self.events {
            match &event.body {
                EventBody::ToolResult { call_id, .. } => *results.entry(call_id).or_default() += 1,
                EventBody::ToolIntent { call_id, .. } => intents.push(call_id.as_str()),
                EventBody::Message { .. } => {
                    let open = intents.iter().find(|call| !results.contains_key(*call));
                    assert_eq!(open, None, "the model was asked while a call had no result");
                }
                _ => {}
            }
        }
        assert!(results.values().all(|count| *count == 1), "a call has more than one result: {results:?}");
        let called: Vec<&str> = self.calls().map(|call| call.call_id.as_str()).collect();
        assert_eq!(intents, called, "every call has its intent, in the order of the calls");
        assert_eq!(self.executions.len(), results.len(), "every result has its row: {:?}", self.executions);
    }

    /// A turn with calls is one decision, told what came of it once all its results are in; one that was logged is another.
    fn check_decisions(&self, reading: &Reading) {
        let rows = reading.decisions(self.row.id).unwrap();
        let result = |id: &str| {
            self.events
                .iter()
                .any(|event| matches!(&event.body, EventBody::ToolResult { call_id, ok: true, .. } if call_id == id))
        };
        let logged = |event: &&Event| matches!(&event.body, EventBody::ToolIntent { call_id, tool, .. } if tool == "decision_log" && result(call_id));
        let turns = self.events.iter().filter(|event| matches!(event.body, EventBody::Decision { .. })).count();
        assert_eq!(
            rows.len(),
            turns + self.events.iter().filter(logged).count(),
            "decisions and their events: {rows:?}"
        );
        for row in rows.iter().filter(|row| row.selected_tools.is_some()) {
            let own = row.seq.to_string();
            let results = self.executions.iter().filter(|call| call.decision_id.as_ref() == Some(&own)).count();
            let all = results == row.selected_tools.as_ref().map_or(0, Vec::len);
            assert_eq!(row.outcome.is_some(), all, "what came of it: {row:?}");
        }
    }

    /// Every request the thread sent, or would send now, would be taken by the strictest server, and begins with the one
    /// before it.
    fn check_requests(&self, reading: &Reading) {
        let mut state = State::new(self.row.id);
        let mut before: Vec<u8> = Vec::new();
        for event in &self.events {
            state.evolve(event);
            if state.phase != Phase::Thinking {
                continue;
            }
            let request = request(&state, reading);
            validate(&request).unwrap_or_else(|error| panic!("behind {event:?} the request is not valid: {error}"));
            let sent = before.strip_suffix(SUFFIX).unwrap_or_default();
            assert!(request.starts_with(sent), "behind {event:?} the request does not begin with the one before it");
            before = request;
        }
        assert_eq!(state, replay(reading, self.row.id).unwrap());
        assert_eq!(state, fold(reading, self.row.id).unwrap(), "the snapshot tells something else than the journal");
        if state.settings.is_some() && !state.is_running() {
            // The one that a `continue` would send.
            state.history.push(lakitu_kernel::chat::user("And now?"));
            validate(&request(&state, reading))
                .unwrap_or_else(|error| panic!("the next request is not valid: {error}"));
        }
    }

    /// What was asked, in order.
    pub(super) fn prompts(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::Prompt { text } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// What the model called.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.events.iter().flat_map(|event| match &event.body {
            EventBody::Message { calls, .. } => calls.as_slice(),
            _ => &[],
        })
    }

    /// What the model was told of a call; nothing as long as it is open.
    pub(super) fn result(&self, call: &str) -> Option<Told> {
        self.events.iter().find_map(|event| match &event.body {
            EventBody::ToolResult { call_id, ok, output, error, .. } if call_id == call => {
                Some(Told { ok: *ok, code: error.as_ref().map(|error| error.code), output: output.clone() })
            }
            _ => None,
        })
    }

    /// Checks that it came to its end with this many calls, each with a result.
    pub(super) fn assert_completed(&self, calls: usize) {
        assert_eq!(self.row.status, ThreadStatus::Completed, "{:?}", self.row);
        let ids: Vec<&str> = self.calls().map(|call| call.call_id.as_str()).collect();
        assert_eq!(ids.len(), calls, "{ids:?}");
        let open = ids.iter().find(|id| self.result(id).is_none());
        assert_eq!(open, None, "a call without a result");
    }

    /// How many results have this code.
    pub(super) fn with_code(&self, code: ErrorCode) -> usize {
        self.calls().filter_map(|call| self.result(&call.call_id)).filter(|result| result.code == Some(code)).count()
    }
}

fn request(state: &State, reading: &Reading) -> Vec<u8> {
    let mut request = reading.blob(state.prefix.unwrap()).unwrap().to_vec();
    let image = |image: &ImageRef| chat::image_part(image.media_type, &reading.blob(image.hash).unwrap());
    request.extend(state.history.body(image).concat());
    request.extend_from_slice(SUFFIX);
    request
}
