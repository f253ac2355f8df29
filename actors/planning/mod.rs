//! Planning: what can be done to beads, decided without I/O of its own. The store asks inside its transaction, so what a
//! decision rests on cannot change under it: of many who claim a bead, one gets it.

mod ask;
mod changes;
mod cycle;
mod decide;
mod jsonl;
mod moment;

pub use ask::{Beads, change};
pub use changes::id as bead_id;
pub use changes::{BeadPatch, Change, Changed, Done, ImportLine, Imported, NewBead, Problem};
pub use jsonl::exported;

pub(crate) use decide::{BLOCKERS_NAMED, Caller, Decided, Graph, Merged, Stop, decide, merge};
