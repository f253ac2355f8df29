//! Ctrl-C and SIGTERM: once checkpoints and stops, twice quits.

use lakitu_kernel::supervise::boxed;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Failure;

/// Both signals, heard by a task of their own: whatever else waits, the second one ends the process.
pub(super) struct Signals {
    heard: watch::Receiver<bool>,
    listening: JoinSet<()>,
}

impl Signals {
    /// The same, and the end of the terminal is nobody's: what is to stay outlives where it was started from.
    pub(super) fn outliving_a_terminal() -> Result<Self, Failure> {
        let failed = |error| Failure::other(format!("signals cannot be heard: {error}"));
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let mut signals = Self::listen()?;
        signals.listening.spawn(boxed(async move { while hangup.recv().await.is_some() {} }));
        Ok(signals)
    }

    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::other(format!("signals cannot be heard: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let (tell, heard) = watch::channel(false);
        let mut listening = JoinSet::new();
        listening.spawn(boxed(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if tell.send_replace(true) {
                    // Twice: now. Commands end with their keepers' lease.
                    std::process::exit(130);
                }
            }
        }));
        Ok(Self { heard, listening })
    }

    /// Waits for the first one; at once where it was heard before.
    pub(super) async fn first(&self) {
        // The listener outlives this.
        let _ = self.heard.clone().wait_for(|heard| *heard).await;
    }
}
