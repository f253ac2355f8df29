//! Work that waits for the disk, on a thread that may.
//!
//! In a simulation there is one thread and one clock: such work runs on it, after a time that the seed says.

/// Runs `work` where it may block. Dropping the handle does not end it.
#[cfg(not(test))]
pub(crate) use tokio::task::spawn_blocking;

#[cfg(test)]
pub(crate) fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    match crate::simulation::current() {
        Some(world) => crate::simulation::spawn(world, work),
        None => tokio::task::spawn_blocking(work),
    }
}
