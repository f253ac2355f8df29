//! A wall clock that is set, an hour back or a month on: runs go on, no time limit is over early or late, nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lakitu_actors::checkpoint::{CreateArgs, retention};
use lakitu_actors::threads::replay;
use lakitu_kernel::clock::{Clock, System, Timestamp};
use lakitu_kernel::config::Config;
use lakitu_kernel::{Seq, ThreadId};
use serde_json::json;

use crate::harness::{Ended, Harness, Home, Recorder, Script};

const HOUR_BACK: i64 = -3_600_000;
const MONTH_ON: i64 = 30 * 24 * 3_600_000;

/// The system's clock, and how far somebody has set it, in milliseconds.
#[derive(Default)]
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp(System.now().0.saturating_add_signed(self.0.load(Ordering::SeqCst)))
    }
}

async fn start(home: Home, script: &Script, clock: &Arc<Set>) -> Harness {
    Harness::boot_with(home, Recorder::new(script), Config::default(), |parts| parts.clock = clock.clone()).await
}

/// The journal has no gap, and is what its messages make of it again.
async fn is_whole(lakitu: &Harness, thread: ThreadId) {
    let events = lakitu.events(thread).await;
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == Seq(seq)), "{events:#?}");
    let store = &lakitu.runtime().wiring.store;
    let replayed = replay::replay(store, thread).await.unwrap();
    assert_eq!(replayed.divergence, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_during_a_run_and_between_runs_ends_and_loses_nothing() {
    for jump in [HOUR_BACK, MONTH_ON] {
        let clock = Arc::new(Set::default());
        let script = Script::new()
            .calls("file_write", json!({ "path": "a", "content": "one\n" }))
            .calls("file_edit", json!({ "path": "a", "old_string": "one", "new_string": "two" }))
            .after_ms(20_000)
            .says("Written.")
            .after_ms(20_000)
            .calls("file_read", json!({ "path": "a" }))
            .says("Read.");
        let lakitu = start(Home::new(), &script, &clock).await;
        // Its time is by the monotonic clock, of which it uses forty seconds.
        let run = lakitu.begin_with_timeout("write", Duration::from_secs(60)).await;
        lakitu.gateway.asked(2).await;
        clock.0.store(jump, Ordering::SeqCst);
        lakitu.gateway.asked(3).await;
        clock.0.store(0, Ordering::SeqCst);
        assert_eq!(run.end().await, Ok("Written.".to_owned()), "{jump}");
        let thread = lakitu.thread();
        is_whole(&lakitu, thread).await;
        let (home, _) = lakitu.stop().await;

        clock.0.store(jump, Ordering::SeqCst);
        let lakitu = start(home, &script, &clock).await;
        lakitu.turn_to(thread);
        assert_eq!(lakitu.continue_("read it").await, Ok("Read.".to_owned()), "{jump}");
        assert_eq!(lakitu.home.read("a"), "two\n");
        is_whole(&lakitu, thread).await;
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_run_goes_on_with_its_next_task_whatever_the_clock_says() {
    for jump in [HOUR_BACK, MONTH_ON] {
        let clock = Arc::new(Set::default());
        let script = Script::new().calls("ls", json!({})).says("Gone on.");
        let lakitu = start(Home::new(), &script, &clock).await;
        let stopped = lakitu.prompt_with("look", |set| set.max_turns = Some(1)).await;
        assert_eq!(stopped, Err(Ended::Checkpointed("turn_limit".to_owned())));
        let thread = lakitu.thread();
        let task = CreateArgs { name: None, next_task: Some("look again".to_owned()) };
        lakitu.runtime().threads().checkpoint(thread, task).await.unwrap();

        clock.0.store(jump, Ordering::SeqCst);
        // A month on, checkpoints are too old to be gone back to; what a resume needs stands in the journal.
        let removed = retention::sweep(&lakitu.runtime().wiring.store, clock.now()).await.unwrap();
        assert_eq!(removed, if jump == MONTH_ON { 2 } else { 0 });
        assert_eq!(lakitu.resume().await, Ok("Gone on.".to_owned()), "{jump}");
        let request = lakitu.gateway.request(2);
        assert!(request.contains("call 1: ls") && request.ends_with("user: look again\n"), "{jump}: {request}");
        is_whole(&lakitu, thread).await;
        lakitu.end().await;
    }
}
