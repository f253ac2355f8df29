//! What is kept, and how long: once an hour what is too old or too much goes, and the file gives back what it does not need.

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::clock::{Clock, Timestamp};
use lakitu_kernel::limits::CHECKPOINT_AGE_MAX;
use tokio::time::sleep;

use super::outputs;
use crate::store::{ForgetCheckpoint, Op, Step, Store, StoreError};

/// Checkpoints that one pass removes, each in a step of its own thread.
pub const REMOVED_A_PASS: usize = 100;
/// The store is idle when it committed nothing for so long.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// From one pass to the next …
const EVERY: Duration = Duration::from_hours(1);
/// … and where there is more to remove.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Removes what is too old or too much, now and from then on.
pub(super) async fn keep(store: Store, clock: Arc<dyn Clock>, outputs_max: u64) {
    loop {
        match sweep(&store, clock.now()).await {
            Ok(removed) if removed == REMOVED_A_PASS => {
                sleep(AGAIN_AFTER).await;
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old checkpoints stay until the next look"),
        }
        match outputs::sweep(&store, crate::runtime::outputs(store.data()), outputs_max, clock.now()).await {
            Ok(removed) if removed == outputs::Removed::default() => {}
            Ok(outputs::Removed { files, bytes }) => {
                tracing::info!(files, bytes, "old outputs of commands were removed")
            }
            Err(error) => tracing::warn!(%error, "old outputs of commands stay until the next look"),
        }
        match store.tighten(IDLE_FOR).await {
            Ok(Some(done)) => tracing::info!(?done, "the database gave back what it did not need"),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the database stays as large as it is"),
        }
        sleep(EVERY).await;
    }
}

/// Removes checkpoints that are too old at that time, at most [`REMOVED_A_PASS`] of them; gives how many.
pub async fn sweep(store: &Store, now: Timestamp) -> Result<usize, StoreError> {
    let age = u64::try_from(CHECKPOINT_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
    let then = Timestamp(now.0.saturating_sub(age));
    let old = store.read(move |reading| {
        let old = reading.checkpoints_before(then, REMOVED_A_PASS)?;
        old.into_iter()
            .map(|row| Ok((row.id, reading.last_seq(row.thread_id)?)))
            .collect::<Result<Vec<_>, StoreError>>()
    });
    let mut removed = 0;
    for (id, expected) in old.await? {
        let ops = vec![Op::from(ForgetCheckpoint { id })];
        match store.submit(Step { thread: id.thread, expected, ops }).await {
            Ok(_) => removed += 1,
            // Its thread goes on: another pass finds it.
            Err(StoreError::OwnershipLost { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}
