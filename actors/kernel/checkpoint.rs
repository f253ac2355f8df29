//! Names of checkpoints.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::id::{Seq, ThreadId};

/// A checkpoint: its thread, and the position of what made it there: the call's intent, or the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckpointId {
    /// Its thread.
    pub thread: ThreadId,
    /// Where it was made.
    pub seq: Seq,
}

/// Not `chk_`, a ULID and a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint's id: `chk_…_N` is expected, as `lakitu checkpoints ls` prints them")]
pub struct NotACheckpointId;

impl fmt::Display for CheckpointId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "chk_{}_{}", Ulid(self.thread.0), self.seq)
    }
}

impl FromStr for CheckpointId {
    type Err = NotACheckpointId;

    fn from_str(text: &str) -> Result<Self, NotACheckpointId> {
        let (ulid, seq) = text.strip_prefix("chk_").and_then(|rest| rest.split_once('_')).ok_or(NotACheckpointId)?;
        let thread = Ulid::from_string(ulid).map_err(|_| NotACheckpointId)?;
        let seq = seq.parse().map_err(|_| NotACheckpointId)?;
        Ok(Self { thread: ThreadId(thread.0), seq: Seq(seq) })
    }
}

impl Serialize for CheckpointId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CheckpointId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_a_wrong_one_is_refused() {
        let id = CheckpointId { thread: ThreadId(7), seq: Seq(12) };
        assert_eq!(id.to_string(), "chk_00000000000000000000000007_12");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "chk_", "chk_7_12", "chk_00000000000000000000000007", "chk_00000000000000000000000007_x"] {
            assert_eq!(wrong.parse::<CheckpointId>(), Err(NotACheckpointId), "{wrong}");
        }
    }
}
