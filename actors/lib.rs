//! Lakitu's actors: one folder per actor, as the tree. `README.md` beside this file is the architecture.

pub mod api;
mod awake;
mod bash_facts;
mod blocking;
pub mod checkpoint;
mod deadlines;
pub mod debug;
pub mod effects;
pub mod gateway;
pub mod planning;
pub mod root;
pub mod runtime;
#[cfg(test)]
pub mod simulation;
pub mod store;
pub mod threads;
pub mod tools;
pub mod wiring;
mod work;
