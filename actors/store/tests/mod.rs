//! Stories.

pub(crate) mod disk;
