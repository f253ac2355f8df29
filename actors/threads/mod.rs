//! `/threads`
pub mod agent;
