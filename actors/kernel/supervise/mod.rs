//! Supervision: tables of children as data, and the engine that runs them.
