//! What is gone on with, how much of it at a time, and what clocks that jump do to it.

use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::store::ThreadStatus;
use lakitu_actors::threads::boot;
use lakitu_kernel::clock::{Clock, System, Timestamp};
use lakitu_kernel::config::Config;
use lakitu_kernel::supervise::{FaultKind, Guarded, What};
use lakitu_kernel::{EventBody, ThreadId};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Ended, Harness, Home, Recorder, Script, soon};

async fn status(lakitu: &Harness, thread: ThreadId) -> ThreadStatus {
    lakitu.ask(move |reading| reading.thread(thread)).await.unwrap().status
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_goes_on_at_a_time_the_last_active_first() {
    let delay = 20_000;
    let lakitu = Harness::start(Script::new().says("Done.").after_ms(delay).times(5)).await;
    let mut threads = Vec::new();
    for number in 0..5 {
        threads.push(lakitu.begin(&format!("thread {number}")).await.thread);
        lakitu.gateway.asked(number + 1).await;
    }
    lakitu.runtime().take_no_more();
    lakitu.runtime().threads().shut_down().await;
    for thread in &threads {
        assert_eq!(status(&lakitu, *thread).await, ThreadStatus::Checkpointed);
    }
    let (home, _) = lakitu.stop().await;

    let script = Script::new().says("Done.").after_ms(delay).times(5);
    let lakitu = Harness::start_on(home, script, Config::default()).await;
    let found = boot::unfinished(&lakitu.runtime().wiring).await.unwrap();
    assert!(found.is_sorted_by_key(|row| std::cmp::Reverse(row.updated_at)), "{found:?}");
    assert_eq!(found.len(), 5);
    let mut going_on = JoinSet::new();
    going_on.spawn(boot::go_on(lakitu.runtime().wiring.clone(), 2));
    lakitu.gateway.asked(2).await;
    let first: Vec<ThreadId> = lakitu.gateway.sent().iter().map(|sent| sent.thread).collect();
    let mut expected: Vec<ThreadId> = found.iter().take(2).map(|row| row.id).collect();
    expected.sort();
    assert_eq!(
        first.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>(),
        expected
    );
    assert_eq!(lakitu.node("/threads").children.len(), 2);
    tokio::time::timeout(Duration::from_hours(10), going_on.join_next()).await.unwrap();
    for thread in threads {
        assert_eq!(status(&lakitu, thread).await, ThreadStatus::Completed);
    }
    lakitu.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_waits_for_consent_keeps_no_other_from_going_on() {
    let write = Script::new().calls("file_write", json!({ "path": "a", "content": "x" }));
    let asks = || Config { policy: serde_json::from_value(json!({ "ask": ["*"] })).unwrap(), ..Config::default() };
    let lakitu = Harness::start_with(write.says("Done.").times(2), asks()).await;
    let mut threads = Vec::new();
    for number in 0..2 {
        let mut run = lakitu.begin_set(&number.to_string(), |settings| settings.asking.somebody = true).await;
        while run.next().await.unwrap().body.name() != "approval.asked" {}
        threads.push(run.thread);
    }
    let (home, _) = lakitu.stop().await;

    let lakitu = Harness::start_on(home, Script::new(), asks()).await;
    soon(boot::go_on(lakitu.runtime().wiring.clone(), 1)).await;
    for thread in threads {
        assert_eq!(status(&lakitu, thread).await, ThreadStatus::Waiting);
        let asked = lakitu.events(thread).await;
        assert_eq!(asked.iter().filter(|event| event.body.name() == "approval.asked").count(), 2, "asked again");
    }
    lakitu.stop().await;
}

/// A wall clock that is set.
#[derive(Default)]
struct Jumping(Guarded<i64>);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        Timestamp(System.now().0.saturating_add_signed(self.0.with(|by| *by)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ends_no_run_early_and_none_late() {
    let (hour, month) = (3_600_000, 30 * 24 * 3_600_000_i64);
    for by in [-hour, month] {
        let clock = Arc::new(Jumping::default());
        let jumps = clock.clone();
        let script = Script::new()
            .calls("file_read", json!({ "path": "a" }))
            .after_ms(20_000)
            .calls("file_read", json!({ "path": "b" }))
            .after_ms(20_000)
            .says("Done.")
            .after_ms(10_000)
            .calls("file_read", json!({ "path": "a" }))
            .after_ms(25_000)
            .calls("file_read", json!({ "path": "b" }))
            .after_ms(25_000)
            .calls("file_read", json!({ "path": "a" }))
            .after_ms(25_000);
        let recorder = Recorder::new(&script);
        let lakitu = Harness::boot_with(Home::new(), recorder, Config::default(), |parts| parts.clock = clock).await;
        let run = lakitu.begin_with_timeout("look around", Duration::from_secs(60)).await;
        let thread = run.thread;
        lakitu.gateway.asked(1).await;
        jumps.0.with(|now| *now = by);
        // Both look at the time again: a prompt, and an actor that is started anew.
        lakitu.interject("and there").await;
        lakitu.gateway.asked(2).await;
        let agent = format!("/threads/{thread}/agent");
        lakitu.inject(&agent, FaultKind::Panic);
        lakitu.has(&agent, What::Started, 2).await;
        assert_eq!(run.end().await, Ok("Done.".to_owned()), "a jump by {by} ms");
        // The next run is ended in its time, and not at another.
        assert_eq!(lakitu.continue_("more").await, Err(Ended::Checkpointed("timeout".to_owned())));
        let events = lakitu.events(thread).await;
        assert!(events.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq));
        let boots = events.iter().filter(|event| matches!(event.body, EventBody::ThreadResumed { .. })).count();
        assert_eq!(boots, 0);
        soon(lakitu.stop()).await;
    }
}
