//! Stories of the real binary being killed: nothing is lost, nothing is done twice, nothing is left running.
//!
//! A [`binary::Binary`] is a workspace, a data directory and a script; it is run, killed and resumed as a person would.
//! What came of it is read from its [`journal`] and from the marks that its effects left in the workspace.
//!
//! The binary has crash points with the feature `crash-points` alone; without it this module is not there.
//! `LAKITU_LONG=1` runs the long mode of the random kills and the orphan's real times; `LAKITU_SEED=<n>` one of the random
//! runs.

mod bad_gateway;
mod batches;
mod binary;
mod dice;
mod fixtures;
mod hostile;
mod jobs;
mod journal;
mod matrix;
mod moments;
mod orphans;
mod pool;
mod random;
mod signals;

use std::io::Write as _;

/// Whether there is time for the long mode.
fn long() -> bool {
    std::env::var_os("LAKITU_LONG").is_some_and(|long| long == "1")
}

/// Says what a test came to, where a test that passes would keep it to itself.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
