//! Ids: of threads (`thr_` and a ULID), positions in a journal, turns. They are made by [`Ids`], from ports.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::clock::{Clock, Randomness};

/// One conversation: `thr_` and a ULID, so ids sort by the time of their making.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(pub u128);

/// Not `thr_` and a ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a thread id: `thr_` and 26 characters are expected, as `lakitu threads ls` prints them")]
pub struct NotAThreadId;

impl fmt::Display for ThreadId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "thr_{}", Ulid(self.0))
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for ThreadId {
    type Err = NotAThreadId;

    fn from_str(text: &str) -> Result<Self, NotAThreadId> {
        let ulid = text.strip_prefix("thr_").ok_or(NotAThreadId)?;
        let parsed = Ulid::from_string(ulid).map_err(|_| NotAThreadId)?;
        Ok(Self(parsed.0))
    }
}

impl Serialize for ThreadId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ThreadId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A position in a thread's journal: 1, 2, 3 … without gaps. 0 is "before the first".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Seq = Seq(0);

    /// The position behind this one.
    #[must_use]
    pub const fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One model call and the tool calls it asked for: 1, 2, 3 … over a thread's whole life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turn(pub u32);

impl fmt::Display for Turn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Makes ids. Nothing is cached, so that a snapshot of the machine that is restored twice makes no id twice.
#[derive(Clone)]
pub struct Ids {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

impl Ids {
    /// Ids from this clock and this randomness.
    pub fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { clock, randomness }
    }

    /// A new ULID as a number: 48 bits of milliseconds, 80 random bits.
    pub fn ulid(&self) -> u128 {
        Ulid::from_parts(self.clock.now().0, self.randomness.u128()).0
    }

    /// A new thread's id.
    pub fn thread(&self) -> ThreadId {
        ThreadId(self.ulid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_id_reads_back_and_a_wrong_one_is_refused() {
        let id = ThreadId(0x0193_0000_0000_0000_0000_0000_0000_0001);
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "thr_", "thr_x", "01J0000000000000000000000", "thr_../../../etc/passwd______"] {
            assert_eq!(wrong.parse::<ThreadId>(), Err(NotAThreadId), "{wrong}");
        }
    }
}
