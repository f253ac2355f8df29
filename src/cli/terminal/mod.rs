//! How a run is shown to a person.
pub mod escape;
mod words;
