//! The one integration test binary.
#![allow(
    clippy::pedantic,
    clippy::err_expect,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    missing_docs,
    reason = "a test says what must hold, and fails loudly where it does not"
)]

mod api;
mod artifacts;
mod bad_input;
mod bash;
mod beads;
mod confined;
mod confinement;
mod edits;
mod gateway;
mod harness;
mod jobs;
mod judges;
mod keeper;
// The binary kills itself at named places, which it has with this feature alone: `tests/run` asks for it.
#[cfg(feature = "crash-points")]
mod kill;
mod processes;
mod readme;
#[cfg(feature = "crash-points")]
mod restore;
mod scenarios;
mod terminal;
mod tidy;
mod token_file;
mod up;
mod versions;
mod world;
