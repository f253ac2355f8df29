//! The one lock of this module.

/// A value that a handful of threads touch for nanoseconds: a node's cell, the table of nodes, the running effects.
///
/// These tables are read by the debug socket and the watchdog while any actor may be stuck, so they cannot sit behind a
/// mailbox. The closure form keeps a guard from ever crossing an `.await`.
#[derive(Debug, Default)]
pub struct Guarded<T>(
    #[allow(clippy::disallowed_types, reason = "shared tables that must be readable while their owner is stuck")]
    std::sync::Mutex<T>,
);

impl<T> Guarded<T> {
    #[allow(clippy::disallowed_types, reason = "see the type")]
    /// A guarded value.
    pub const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// Runs `with` on the value. A panic inside earlier calls does not lock the others out: every use leaves the value whole.
    pub fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
