//! Lakitu as a library: [`start_thread`], [`continue_thread`], [`run_with_timeout`] on a runtime in this process.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the edges meet open enums of others, and act on a few of many codes; the actors match closed protocols"
)]

pub mod adapters;
pub mod api;
pub mod cli;
pub mod gateway;
mod sdk;
pub mod session;
pub mod state;
pub mod token;

/// The durable task graph: what can be done to beads.
pub use lakitu_actors::planning;
pub use sdk::{ENDED_WITHIN, Finished, Lakitu, Outcome, ToolCalled, continue_thread, run_with_timeout, start_thread};
