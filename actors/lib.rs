//! Lakitu's actors: one folder per actor, as the tree. `README.md` beside this file is the architecture.

pub mod gateway;
pub mod store;
pub mod threads;
pub mod tools;
