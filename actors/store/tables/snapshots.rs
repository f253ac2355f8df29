//! `snapshots`: a thread's newest state, so that a start reads a bounded tail of the journal. Derived: may be missing.

use bytes::Bytes;
use lakitu_kernel::{Seq, ThreadId};
use serde::{Deserialize, Serialize};

use crate::store::row::Row;
use crate::store::step::put_operation;

/// A thread's state at one of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whose state it is.
    pub thread: ThreadId,
    /// The last event that it holds.
    pub seq: Seq,
    /// The version of the state's encoding: another one is as good as none.
    pub version: u32,
    /// The state, compressed as an LZ4 block behind its length.
    pub bytes: Bytes,
}

impl Row for Snapshot {
    type Key = ThreadId;
    const NAME: &'static str = "snapshots";

    fn key(&self) -> ThreadId {
        self.thread
    }

    fn json(&self) -> serde_json::Value {
        // The state itself is nothing that a person could read.
        serde_json::json!({ "thread": self.thread, "seq": self.seq, "version": self.version, "bytes": self.bytes.len() })
    }
}

put_operation!(Snapshot);
