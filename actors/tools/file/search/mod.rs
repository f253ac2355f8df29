//! Finding files and text: `glob`, `grep`, `ls`. Nothing is written, so a call that was cut off runs again.
//!
//! Read `walk` first (how a tree is gone through without ever leaving it), then `ignored`, `pattern`, and a tool.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

mod glob;
mod grep;
mod hits;
mod ignored;
mod ls;
mod newest;
mod pattern;
#[cfg(test)]
mod tests;
mod walk;

pub use glob::{GLOB, GlobArgs};
pub use grep::{GREP, GrepArgs, OutputMode};
pub use ls::{LS, LsArgs};

pub(super) use glob::glob;
pub(super) use grep::grep;
pub(crate) use ignored::Level;
pub(super) use ls::ls;

use super::Alias;
use super::listing::missing;
use crate::tools::text::count;
use crate::tools::workspace::{FileError, Kind, Roots, Spot};

/// A search gives what it has after this; the call's own deadline stands behind it.
pub(super) const SEARCH_DEADLINE: Duration = Duration::from_secs(20);
/// How models call the place to search.
const PATH_ALIASES: [Alias; 6] = [
    ("file_path", "path"),
    ("filePath", "path"),
    ("directory", "path"),
    ("dir", "path"),
    ("dir_path", "path"),
    ("cwd", "path"),
];

/// For how long a search goes on: until its deadline, or until nobody waits for it any more.
#[derive(Debug, Clone)]
pub(super) struct Span {
    until: Instant,
    stopped: Arc<AtomicBool>,
}

/// Stops a search when it is dropped.
#[derive(Debug)]
pub(super) struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Span {
    /// Of this length, from now.
    pub(super) fn of(length: Duration) -> Self {
        Self { until: Instant::now() + length, stopped: Arc::default() }
    }

    /// Whoever waits for the search holds this.
    pub(super) fn stop_on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.stopped.clone())
    }

    pub(super) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.until
    }
}

/// Where a search begins.
struct Start<'a> {
    spot: Spot<'a>,
    /// A directory of the runtime's own below the root.
    closed: Option<PathBuf>,
}

/// Finds the place to search; the workspace where none is named.
fn start<'a>(roots: &'a Roots, path: Option<&str>) -> Result<Start<'a>, FileError> {
    let path = path.filter(|path| !path.is_empty()).unwrap_or(".");
    let spot = roots.locate(std::path::Path::new(path))?;
    if spot.standing.is_none() {
        return Err(missing(roots.workspace(), &spot));
    }
    let closed = roots.closed_below(spot.root);
    Ok(Start { spot, closed })
}

impl Start<'_> {
    fn kind(&self) -> Option<Kind> {
        self.spot.standing.map(|standing| standing.kind)
    }
}

/// What is said of a search beside its results.
fn notes(out: &mut String, walked: &walk::Walked) {
    use std::fmt::Write as _;
    if walked.cut_off {
        let files = count(walked.files, "file", "files");
        let _ = writeln!(out, "[stopped early after {files}: not all was searched; name a smaller `path`]");
    }
    if walked.unread > 0 {
        let _ =
            writeln!(out, "[{} could not be read]", count(walked.unread, "file or directory", "files or directories"));
    }
}
