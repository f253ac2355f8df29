//! Bounds, each at its limit and one past it.
