//! How long effects may take: the deadlines that their registry keeps, behind those that tools and the gateway keep
//! themselves. One that is missed is a fault of ours, or of a disk that does not answer; its thread goes on without it.

use std::time::Duration;

use lakitu_kernel::limits::{PREPARE_DEADLINE, STOP_DEADLINE};
use lakitu_kernel::tool::ToolCall;

use crate::gateway::{Patience, RetryPolicy};
use crate::threads::REQUEST_DEADLINE;
use crate::wiring::Wiring;
use crate::work::SERVICE_DEADLINE;

/// How much later than its own deadline something may tell of it.
const SLACK: Duration = Duration::from_secs(5);
/// A thousand files at a slow disk's pace.
const PUT_BACK_DEADLINE: Duration = Duration::from_mins(5);
/// What reads the journal and commits to it.
const BURY_DEADLINE: Duration = Duration::from_mins(1);

/// A question to the model: its attempts, then what its answer's calls need to be looked at. Where it is asked without
/// end there is none: each attempt has its deadlines, and says how long it has waited.
pub(crate) fn model(policy: RetryPolicy) -> Option<Duration> {
    match policy.patience {
        Patience::Bounded { total_max, .. } => {
            Some(SERVICE_DEADLINE + total_max + policy.deadlines.total + PREPARE_DEADLINE + prepare())
        }
        Patience::Endless => None,
    }
}

/// A redo record.
pub(crate) fn prepare() -> Duration {
    SERVICE_DEADLINE + PREPARE_DEADLINE + SLACK
}

/// A call, or the look at what became of one.
pub(crate) fn call(wiring: &Wiring, call: &ToolCall) -> Duration {
    let own = wiring.catalogue.get(call.tool).map_or(SLACK, |spec| (spec.deadline)(&call.arguments));
    SERVICE_DEADLINE + own + SLACK
}

/// Files that are put back: each one written and synced, up to all of a checkpoint's.
pub(crate) fn put_back() -> Duration {
    PUT_BACK_DEADLINE
}

/// The end of a thread's commands.
pub(crate) fn end_jobs() -> Duration {
    STOP_DEADLINE + SLACK
}

/// A cancel.
pub(crate) fn stop() -> Duration {
    REQUEST_DEADLINE + SLACK
}

/// The end of a thread whose agent is given up.
pub(crate) fn bury() -> Duration {
    BURY_DEADLINE
}
