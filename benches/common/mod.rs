//! What the benches share: raw costs of the machine, medians, the table that is printed, the tree of processes, and a
//! model on loopback.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod children;
pub(crate) mod costs;
pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod report;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

/// A directory of the bench's own, on the file system of the build: `/tmp` may be memory, on which nothing is durable.
pub(crate) fn directory() -> std::io::Result<TempDir> {
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR"))?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// Milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
