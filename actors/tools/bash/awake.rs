//! A deadline for somebody else, that a time in which this process stood still does not use up: a runtime that was stopped,
//! or whose machine was, finds deadlines over before it has read the answers that came meanwhile.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// A deadline is waited for in so many pieces; one that took much longer than it should counts for nothing …
const PIECES: u32 = 10;
/// … at most so many of them: a machine that is slow all the time is no machine that stood still.
const STOOD_STILL_MAX: u32 = 10;

/// The outcome, if it comes within so much time in which this process ran.
pub(super) async fn within<T>(time: Duration, what: impl Future<Output = T>) -> Option<T> {
    let mut what = pin!(what);
    let piece = time / PIECES;
    let (mut spent, mut stood_still) = (0, 0);
    while spent < PIECES {
        let begun = Instant::now();
        if let Ok(outcome) = timeout(piece, &mut what).await {
            return Some(outcome);
        }
        if begun.elapsed() > 2 * piece && stood_still < STOOD_STILL_MAX {
            stood_still += 1;
        } else {
            spent += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::task::JoinSet;
    use tokio::time::advance;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_waited_for_so_long_and_no_longer() {
        let begun = Instant::now();
        assert_eq!(within(TIME, pending::<()>()).await, None);
        assert!((TIME..TIME + Duration::from_millis(100)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_read_that_came_while_this_process_stood_still() {
        let (answer, answered) = oneshot::channel();
        let mut waiting = JoinSet::new();
        waiting.spawn(within(TIME, answered));
        tokio::task::yield_now().await;
        advance(Duration::from_mins(1)).await;
        // It is seen to be late before it is read.
        tokio::task::yield_now().await;
        answer.send("here").unwrap();
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), Some(Ok("here")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_slow_all_the_time_waits_so_often_and_no_longer() {
        let mut waiting = JoinSet::new();
        let end = waiting.spawn(within(TIME, pending::<()>()));
        tokio::task::yield_now().await;
        let mut late = 0;
        while !end.is_finished() {
            advance(Duration::from_secs(5)).await;
            tokio::task::yield_now().await;
            late += 1;
        }
        assert_eq!((waiting.join_next().await.unwrap().unwrap(), late), (None, PIECES + STOOD_STILL_MAX));
    }
}
