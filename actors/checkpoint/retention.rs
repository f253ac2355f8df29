//! How long checkpoints are kept.

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::clock::{Clock, Timestamp};
use lakitu_kernel::limits::CHECKPOINT_AGE_MAX;
use tokio::time::sleep;

use crate::store::{ForgetCheckpoint, Op, Step, Store, StoreError};

/// Checkpoints that one pass removes, each in a step of its own thread.
pub const REMOVED_A_PASS: usize = 100;
/// From one pass to the next …
const EVERY: Duration = Duration::from_hours(1);
/// … and where there is more to remove.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Removes what is too old, now and from then on.
pub(super) async fn keep(store: Store, clock: Arc<dyn Clock>) {
    loop {
        let wait = match sweep(&store, clock.now()).await {
            Ok(removed) if removed == REMOVED_A_PASS => AGAIN_AFTER,
            Ok(_) => EVERY,
            Err(error) => {
                tracing::warn!(%error, "old checkpoints stay until the next look");
                EVERY
            }
        };
        sleep(wait).await;
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
