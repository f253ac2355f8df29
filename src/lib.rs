//! l

pub mod adapters;
