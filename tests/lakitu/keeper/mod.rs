//! Stories of a keeper: real processes, started by the real helper executable. Nothing here sleeps: processes hold the
//! writing end of a pipe, and its end tells that they are dead.

#![expect(clippy::disallowed_methods, reason = "it starts the helper that starts the keeper")]

mod cgroup;
mod commands;
mod confine;
mod ending;
mod input;
mod isolation;
mod life;
mod scene;
mod token;
