//! The store as stories: first the writer alone, then the actor.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lakitu_kernel::clock::{Clock, Timestamp};
use lakitu_kernel::{Event, EventBody, Seq, ThreadId};
use redb::ReadableDatabase;

use super::commit::Writer;
use super::faults::Fault;
use super::*;

mod actor;
mod beads;
pub(crate) mod disk;
mod edits;
mod failing;
mod feed;
mod full;
mod golden;
mod model;
mod mutations;
mod opening;
mod power;
mod queries;
mod rows;
mod steps;
mod upkeep;

/// A clock that is set.
#[derive(Debug)]
pub(crate) struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A data directory, and a store on it that is not running.
pub(crate) struct Bench {
    _dir: tempfile::TempDir,
    clock: Arc<Hand>,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// Where a flush takes no time, if there is such a place.
    fn in_memory() -> Self {
        Self::on(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn on(dir: tempfile::TempDir) -> Self {
        let clock = Arc::new(Hand(AtomicU64::new(1_000)));
        let store = store_on(dir.path(), clock.clone());
        Self { _dir: dir, clock, store }
    }

    fn data(&self) -> &Path {
        self.store.data()
    }

    /// The writer, without an actor.
    fn try_writer(&self) -> Result<(Writer, Opened), StoreError> {
        let opening = self.store.args().opening;
        let owner = opening.shared.owner.clone().try_lock_owned().expect("one writer at a time");
        Writer::open(opening, owner)
    }

    fn writer(&self) -> Writer {
        self.try_writer().unwrap().0
    }

    /// What `question` sees.
    fn read<T>(&self, question: impl FnOnce(&Reading) -> T) -> T {
        let files = super::blob_files::BlobFiles::new(self.data());
        let database = self.store.args().opening.shared.database.borrow().clone().expect("a writer is open");
        question(&Reading::unbounded(database.begin_read().unwrap(), &files))
    }

    fn verify(&self) -> Vec<Finding> {
        self.read(|reading| verify(reading).unwrap())
    }

    /// Changes the file behind everybody's back. No writer is open.
    fn tamper(&self, change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>), table: &'static str) {
        let database = redb::Database::open(self.data().join("lakitu.redb")).unwrap();
        let txn = database.begin_write().unwrap();
        change(&mut txn.open_table(super::write::Raw::new(table)).unwrap());
        txn.commit().unwrap();
    }
}

fn store_on(data: &Path, clock: Arc<Hand>) -> Store {
    Store::new(StoreOptions { data: data.to_owned(), cache_bytes: CACHE_BYTES, clock })
}

/// Numbers that a seed determines.
pub(crate) struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

const A: ThreadId = ThreadId(0xA);
const B: ThreadId = ThreadId(0xB);

fn prompt(text: &str) -> Op {
    Op::from(Append { at: Timestamp(7), body: EventBody::Prompt { text: text.to_owned() } })
}

fn step(thread: ThreadId, expected: u64, ops: Vec<Op>) -> Step {
    Step { thread, expected: Seq(expected), ops }
}

fn one(writer: &Writer, step: Step) -> Result<Committed, StoreError> {
    let mut results = writer.commit(&[Arc::new(step)]);
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn texts(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| {
        if let EventBody::Prompt { text } = &event.body {
            format!("{} {text}", event.seq)
        } else {
            format!("{} {:?}", event.seq, event.body)
        }
    };
    events.iter().map(text).collect()
}

fn thread_row(id: ThreadId, status: ThreadStatus, at: u64) -> ThreadRow {
    ThreadRow {
        id,
        status,
        workspace: "/work".into(),
        model: "m".to_owned(),
        mode: lakitu_kernel::mode::Mode::Build,
        created_at: Timestamp(at),
        updated_at: Timestamp(at),
        last_seq: Seq(99),
        turns: 0,
        tool_calls: 0,
        usage: Usage::default(),
        title: "t".to_owned(),
        reason: None,
        error: None,
        generation: 1,
    }
}
