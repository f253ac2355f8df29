//! The watchdog: an OS thread, for blocked threads stop tokio's workers and everything that runs on them.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock::Guarded;

/// A sign of life. Odd while something is under way; every beginning and end moves it.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Work begins.
    pub fn begin(&self) {
        // Also right when the last work was torn off without an end.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |mark| Some((mark + 1) | 1)).ok();
    }

    /// Work ended.
    pub fn end(&self) {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |mark| Some((mark | 1) + 1)).ok();
    }
}

/// The pulses that are watched. They are dropped from here when their owners are gone.
#[derive(Debug, Default)]
pub(super) struct Pulses(Guarded<Vec<(Arc<str>, Weak<AtomicU64>)>>);

impl Pulses {
    pub(super) fn add(&self, name: Arc<str>, pulse: &Pulse) {
        self.0.with(|pulses| pulses.push((name, Arc::downgrade(&pulse.0))));
    }
}
