//! Supervision: services, their addresses, their nodes, and the engine that restarts them.
//!
//! Read `service` first (what an actor is), then `address` (how actors know each other), `table` (supervision as data),
//! `decide` (the policy, pure), `incarnation` (one life of a child), `engine` (the supervisor).
//!
//! ractor runs the actors; what it leaves open is added here: bounded mailboxes, stable addresses, restarts, ordered
//! stops, deadlines on handlers and starts. One `shell` is the only ractor actor.

mod address;
mod decide;
mod effects;
mod engine;
mod incarnation;
mod lock;
mod node;
mod nodes;
mod root;
mod service;
mod shell;
mod table;
mod task;
mod watchdog;
mod wish;

pub use address::{Address, CallError, MAILBOX_CAPACITY, Reply, Undelivered, WeakAddress, Why};
pub use decide::{Decision, Exhausted, Exit, History, Intensity, Moment, Pace, Policy, Restart, decide};
pub use effects::{Began, EffectKey, Effects, Lease, Notified, Status};
pub use engine::{Supervisor, SupervisorArgs};
pub use lock::Guarded;
pub use node::{Fault, FaultKind, Handled, Handling, Inspection, MESSAGES_KEPT, Node, NodeState};
pub use nodes::{ControlError, EVENTS_KEPT, Nodes, SupervisionEvent, SupervisionEvents, What};
pub use root::{Ended, Root, RootHandle};
pub use service::{Crash, Me, Message, Service, StartError};
pub use shell::{ChildPlace, Started};
pub use table::{
    ChildSpec, DynamicChild, End, First, OnSettled, Options, Settled, Start, StartFn, Starting, Table, Tree, Wire,
    child,
};
pub use task::boxed;
pub use watchdog::{Blocked, Pulse, RUNTIME, Watch, WatchOptions, Watchdog};
pub use wish::{AddError, Added, SupervisorRef, Wish};

#[cfg(test)]
mod tests;
