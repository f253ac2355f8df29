//! `/threads/<id>/agent`
mod decide;
mod history;
mod state;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use decide::{Answer, Checked, Msg, Stop, check};
pub use state::{Acting, CallState, End, Phase, State};
pub(crate) use wanted::{Wanted, wanted};
