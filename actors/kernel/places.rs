//! Names of what stands in a table under the position in a thread's journal that made it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::id::{Seq, ThreadId};

macro_rules! place {
    ($(#[$doc:meta])+ $name:ident, $(#[$wrong_doc:meta])+ $wrong:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            /// Its thread.
            pub thread: ThreadId,
            /// Where it was made.
            pub seq: Seq,
        }

        $(#[$wrong_doc])+
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error($expected)]
        pub struct $wrong;

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!($prefix, "{}_{}"), Ulid(self.thread.0), self.seq)
            }
        }

        impl FromStr for $name {
            type Err = $wrong;

            fn from_str(text: &str) -> Result<Self, $wrong> {
                let (ulid, seq) = text.strip_prefix($prefix).and_then(|rest| rest.split_once('_')).ok_or($wrong)?;
                let thread = Ulid::from_string(ulid).map_err(|_| $wrong)?;
                let seq = seq.parse().map_err(|_| $wrong)?;
                Ok(Self { thread: ThreadId(thread.0), seq: Seq(seq) })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

place! {
    /// A checkpoint: its thread, and the position of what made it there: the call's intent, or the event.
    CheckpointId,
    /// Not `chk_`, a ULID and a position.
    NotACheckpointId,
    "chk_",
    "not a checkpoint's id: `chk_…_N` is expected, as `lakitu checkpoints ls` prints them"
}

place! {
    /// A version of an artifact: its thread, and the position of the intent of the call that saved it.
    ArtifactId,
    /// Not `art_`, a ULID and a position.
    NotAnArtifactId,
    "art_",
    "not an artifact's id: `art_…_N` is expected, as `lakitu artifacts ls` prints them"
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
        let id = ArtifactId { thread: ThreadId(7), seq: Seq(12) };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("chk_00000000000000000000000007_12".parse::<ArtifactId>(), Err(NotAnArtifactId));
    }
}
