//! An op that does what no op should, for tests.

use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::{ErrorCode, EventBody, ToolError};
use serde::Serialize;

use super::StoreError;
use super::step::{Doing, Operation, Refusal};
use super::write::Tables;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Fault {
    /// Is refused: its event says so.
    Refuse,
    /// Is done: its event says so.
    Allow,
    /// Panics after it has written something.
    Panic,
    /// Fails after it has written something.
    Fail,
}

impl Operation for Fault {
    type Plan = ();

    fn events(&self) -> usize {
        1
    }

    fn check(&self, _: &Tables<'_>) -> Result<Result<(), Refusal>, StoreError> {
        Ok(match self {
            Fault::Refuse => Err(Refusal(ToolError::new(ErrorCode::Conflict, "claimed by another thread"))),
            Fault::Allow | Fault::Panic | Fault::Fail => Ok(()),
        })
    }

    fn told(&self, verdict: Result<&(), &Refusal>) -> Vec<(Timestamp, EventBody)> {
        let reason = match verdict {
            Ok(()) => "claimed".to_owned(),
            Err(Refusal(error)) => error.to_string(),
        };
        vec![(Timestamp(1), EventBody::Stalled { reason })]
    }

    fn apply(&self, (): (), _: &mut Doing<'_, '_>) -> Result<(), StoreError> {
        match self {
            Fault::Allow | Fault::Refuse => Ok(()),
            Fault::Panic => panic!("asked to"),
            Fault::Fail => Err(StoreError::Io("asked to".to_owned())),
        }
    }
}
