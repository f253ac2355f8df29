//! What the benches share: raw costs of the machine, medians, the tables that are printed, the tree of processes, the
//! agents that are measured side by side, and a model on loopback.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod children;
pub(crate) mod costs;
pub(crate) mod dialect;
pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod report;
pub(crate) mod runners;
pub(crate) mod table;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

/// Until here a process warms up: its first connection, its first keeper.
pub(crate) const WARM_TURNS: u32 = 5;
/// The early and the late turns of a long run are so many each.
const STRETCH: u32 = 50;

/// The first and the last of the early turns of a long run, and of the late ones.
pub(crate) fn stretches(turns: u32) -> [(u32, u32); 2] {
    let early = (WARM_TURNS, STRETCH.min(turns / 2));
    [early, (turns.saturating_sub(STRETCH).max(early.1), turns)]
}

/// A directory of the bench's own, on the file system of the build: `/tmp` may be memory, on which nothing is durable.
pub(crate) fn directory() -> std::io::Result<TempDir> {
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
