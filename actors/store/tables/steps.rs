//! `steps`: by what a step without events is recognised when it is sent again. (One with events is recognised by its
//! first event's record.) Private; only the recent ones are kept.

use lakitu_kernel::{Seq, ThreadId};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::key::Key;
use crate::store::row::{self, Row, Walk};
use crate::store::write::Tables;

/// A step without events that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// Whose it was.
    pub thread: ThreadId,
    /// The thread's last event then.
    pub expected: Seq,
    /// The first half of the hash of its ops.
    #[serde(with = "hexadecimal")]
    pub digest: u128,
    /// The commit that it was a part of.
    pub commit: u64,
}

/// A resend comes within the commit deadline; this many commits take longer.
const KEPT_COMMITS: u64 = 100_000;
/// Looked at with each new one: more than one, so that the table shrinks.
const TRIMMED_AT_ONCE: usize = 8;

impl StepRow {
    /// Forgets some old ones of the thread.
    pub(crate) fn trim(tables: &mut Tables<'_>, thread: ThreadId) -> Result<(), StoreError> {
        let oldest = tables.commit().saturating_sub(KEPT_COMMITS);
        let old: Vec<StepRow> = row::rows(tables, &Walk::prefix(Self::NAME, &thread.bytes()), TRIMMED_AT_ONCE)?;
        for row in old.into_iter().filter(|row| row.commit < oldest) {
            tables.delete::<Self>(&row.key())?;
        }
        Ok(())
    }
}

impl Row for StepRow {
    type Key = (ThreadId, (Seq, u128));
    const NAME: &'static str = "steps";
    const FEED: bool = false;

    fn key(&self) -> Self::Key {
        (self.thread, (self.expected, self.digest))
    }
}

mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{digest:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}
