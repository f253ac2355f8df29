//! k
pub mod supervise;
