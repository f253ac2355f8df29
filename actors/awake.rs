//! Deadlines for somebody else, which a time in which this process stood still does not use up: a runtime that was stopped,
//! or whose machine was, finds deadlines over before it has read the answers that came meanwhile.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A deadline is waited for in so many pieces: whoever wakes from one much too late knows that it stood still.
pub(crate) const PIECES: u32 = 10;
/// A machine with much to do is late as well, but not by so much.
const LATE: Duration = Duration::from_secs(1);

/// How long this process stood still.
#[derive(Debug, Default)]
pub(crate) struct Awake {
    still: Duration,
}

impl Awake {
    /// For so long, since somebody began to sleep here.
    pub(crate) fn stood_still(&self) -> Duration {
        self.still
    }

    /// Sleeps, and notes how much too late it woke.
    pub(crate) async fn sleep_until(&mut self, end: Instant) {
        sleep_until(end).await;
        let late = end.elapsed();
        if late >= LATE {
            self.still += late;
        }
    }
}

/// The outcome, if it comes within so much time in which this process ran.
pub(crate) async fn within<T>(time: Duration, what: impl Future<Output = T>) -> Option<T> {
    let (mut what, mut awake, begun) = (pin!(what), Awake::default(), Instant::now());
    loop {
        let (now, end) = (Instant::now(), begun + time + awake.stood_still());
        if end <= now {
            return None;
        }
        tokio::select! {
            biased;
            outcome = &mut what => return Some(outcome),
            () = awake.sleep_until(end.min(now + time / PIECES)) => {}
        }
    }
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
        assert_eq!((waiting.join_next().await.unwrap().unwrap(), late), (None, PIECES));
    }
}
