//! Lakitu as a library: [`start_thread`], [`continue_thread`], [`run_with_timeout`] on a runtime in this process.

pub mod adapters;
pub mod cli;
mod sdk;
pub mod session;

pub use sdk::{Finished, Lakitu, Outcome, ToolCalled, continue_thread, run_with_timeout, start_thread};
