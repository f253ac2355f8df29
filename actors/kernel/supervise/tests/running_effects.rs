//! The registry of running effects.

use std::sync::atomic::AtomicBool;

use tokio::sync::oneshot;

use super::super::effects::CANCELLED_WITHIN;
use super::*;

/// Thread and number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(&'static str, u32);

impl EffectKey for Key {
    type Group = &'static str;

    fn group(&self) -> &'static str {
        self.0
    }
}

const ONE: Key = Key("t", 1);

#[allow(clippy::needless_pass_by_value, reason = "the shape that the registry asks for")]
fn settle(why: String) -> String {
    format!("settled: {why}")
}

fn registry() -> Effects<Key, String> {
    Effects::new()
}

/// What a subscriber hears.
fn ear(effects: &Effects<Key, String>) -> tokio::sync::mpsc::Receiver<(Key, String)> {
    let (tell, told) = tokio::sync::mpsc::channel(16);
    effects.subscribe("t", Arc::new(move |key, outcome| tell.try_send((key, outcome)).unwrap()));
    told
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_outcome_is_told_and_kept_until_it_is_acknowledged() {
    let effects = registry();
    let mut told = ear(&effects);
    let (go, gone) = oneshot::channel::<String>();
    assert_eq!(effects.begin(ONE, |_| async { gone.await.unwrap() }, settle), Began::Started);
    assert_eq!(effects.outcome(&ONE), Some(Status::Running));
    assert!(!effects.acknowledge(&ONE), "running work is not acknowledged");
    go.send("done".to_owned()).unwrap();
    assert_eq!(told.recv().await.unwrap(), (ONE, "done".to_owned()));
    assert_eq!(effects.begin(ONE, |_| async { "again".to_owned() }, settle), Began::AlreadyThere);
    assert_eq!(effects.outcome(&ONE), Some(Status::Done("done".to_owned())));
    assert!(effects.acknowledge(&ONE));
    assert_eq!((effects.outcome(&ONE), effects.len()), (None, 0));
}

#[tokio::test]
async fn work_that_panics_is_settled() {
    let effects = registry();
    let mut told = ear(&effects);
    effects.begin(ONE, |_| async { panic!("oh") }, settle);
    assert_eq!(told.recv().await.unwrap().1, "settled: oh");
}

#[tokio::test]
async fn an_actor_that_restarted_attaches_and_misses_nothing() {
    let effects = registry();
    let mut first = ear(&effects);
    let (go, gone) = oneshot::channel::<String>();
    effects.begin(ONE, |_| async { "early".to_owned() }, settle);
    effects.begin(Key("t", 2), |_| async { gone.await.unwrap() }, settle);
    effects.begin(Key("other", 1), |_| async { "not mine".to_owned() }, settle);
    first.recv().await.unwrap();
    let mut second = ear(&effects);
    assert_eq!(second.recv().await.unwrap(), (ONE, "early".to_owned()), "what is already there, at once");
    go.send("late".to_owned()).unwrap();
    assert_eq!(second.recv().await.unwrap(), (Key("t", 2), "late".to_owned()));
    assert_eq!(first.recv().await, None, "the old one hears nothing more");
}

#[tokio::test]
async fn cancelled_work_is_forgotten_once_it_has_ended_and_told_to_nobody() {
    let effects = registry();
    let mut told = ear(&effects);
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Flag(dropped.clone());
    effects.begin(
        ONE,
        |_| async move {
            let _flag = flag;
            std::future::pending().await
        },
        settle,
    );
    let unlocked = Arc::new(AtomicBool::new(false));
    effects.hold(&ONE, Box::new(Flag(unlocked.clone())));
    effects.cancel(&ONE);
    effects.idle(&"t").await;
    assert!(dropped.load(Ordering::SeqCst) && unlocked.load(Ordering::SeqCst));
    assert!(effects.is_empty() && told.try_recv().is_err());
}

#[tokio::test]
async fn cancelled_work_counts_as_running_until_its_blocking_thread_has_returned() {
    let effects = registry();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = oneshot::channel();
    let unlocked = Arc::new(AtomicBool::new(false));
    let work = |lease: Lease<Key, String>| async move {
        let block = move || {
            entered.send(()).unwrap();
            let _ = blocked.recv();
        };
        let blocking = tokio::task::spawn_blocking(move || {
            let _until_here = lease;
            block();
        });
        blocking.await.map_or_else(|error| error.to_string(), |()| "wrote".to_owned())
    };
    effects.begin(ONE, work, settle);
    effects.hold(&ONE, Box::new(Flag(unlocked.clone())));
    inside.await.unwrap();
    effects.cancel(&ONE);
    tokio::task::yield_now().await;
    assert_eq!(effects.outcome(&ONE), Some(Status::Running));
    assert_eq!(effects.begin(ONE, |_| async { "too early".to_owned() }, settle), Began::AlreadyThere);
    assert!(!unlocked.load(Ordering::SeqCst));
    drop(unblock);
    effects.idle(&"t").await;
    assert!(unlocked.load(Ordering::SeqCst));
    assert_eq!(effects.outcome(&ONE), None);
}

#[tokio::test]
async fn a_held_lock_is_released_by_the_acknowledgement() {
    let effects = registry();
    let mut told = ear(&effects);
    effects.begin(ONE, |_| async { "done".to_owned() }, settle);
    let unlocked = Arc::new(AtomicBool::new(false));
    effects.hold(&ONE, Box::new(Flag(unlocked.clone())));
    told.recv().await.unwrap();
    assert!(!unlocked.load(Ordering::SeqCst));
    effects.acknowledge(&ONE);
    assert!(unlocked.load(Ordering::SeqCst));
    effects.hold(&ONE, Box::new(Flag(unlocked)));
    assert!(effects.is_empty(), "nothing to hold it for");
}

#[test]
fn work_whose_runtime_went_away_is_settled() {
    let effects = registry();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { effects.begin(ONE, |_| std::future::pending(), settle) });
    drop(runtime);
    assert_eq!(effects.outcome(&ONE), Some(Status::Done("settled: the task was dropped".to_owned())));
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn work_has_its_outcome_at_its_deadline_and_that_of_the_deadline_past_it() {
    let within = || Some((SECOND, "late".to_owned()));
    let ends_after = |time: Duration| async move {
        tokio::time::sleep(time).await;
        "in time".to_owned()
    };
    let effects = registry();
    let mut told = ear(&effects);
    let begun = tokio::time::Instant::now();
    effects.begin_within(ONE, within(), |_| ends_after(SECOND), settle);
    assert_eq!(told.recv().await.unwrap(), (ONE, "in time".to_owned()));
    let two = Key("t", 2);
    effects.begin_within(two.clone(), within(), |_| ends_after(SECOND + Duration::from_millis(1)), settle);
    assert_eq!(told.recv().await.unwrap(), (two.clone(), "late".to_owned()));
    assert_eq!(begun.elapsed(), 2 * SECOND);
    assert_eq!(effects.outcome(&two), Some(Status::Done("late".to_owned())));
    effects.idle(&"t").await;
}

#[tokio::test]
async fn what_is_left_of_work_that_was_given_up_says_nothing_of_its_successor() {
    let effects = registry();
    let mut told = ear(&effects);
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let (left, gone) = oneshot::channel();
    let work = |lease: Lease<Key, String>| async move {
        let blocking = tokio::task::spawn_blocking(move || {
            let _ = blocked.recv();
            drop(lease);
            left.send(()).unwrap();
        });
        blocking.await.map_or_else(|error| error.to_string(), |()| "wrote".to_owned())
    };
    effects.begin_within(ONE, Some((Duration::from_millis(1), "late".to_owned())), work, settle);
    assert_eq!(told.recv().await.unwrap(), (ONE, "late".to_owned()));
    effects.idle(&"t").await;
    assert!(effects.acknowledge(&ONE));
    assert_eq!(effects.begin(ONE, |_| std::future::pending(), settle), Began::Started);
    drop(unblock);
    gone.await.unwrap();
    assert_eq!(effects.outcome(&ONE), Some(Status::Running));
    effects.cancel(&ONE);
    effects.idle(&"t").await;
    assert!(effects.is_empty() && told.try_recv().is_err());
}

#[tokio::test]
async fn what_is_left_of_cancelled_work_keeps_its_key_for_so_long_and_no_longer() {
    tokio::time::pause();
    let effects = registry();
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let (left, gone) = std::sync::mpsc::channel();
    let work = |lease: Lease<Key, String>| async move {
        // No blocking thread of the runtime: paused time would stand still with it.
        std::thread::spawn(move || {
            let _ = blocked.recv();
            drop(lease);
            left.send(()).unwrap();
        });
        std::future::pending().await
    };
    effects.begin(ONE, work, settle);
    tokio::task::yield_now().await;
    effects.cancel(&ONE);
    tokio::time::advance(CANCELLED_WITHIN).await;
    assert_eq!(effects.outcome(&ONE), Some(Status::Running));
    assert_eq!(effects.begin(ONE, |_| async { "too early".to_owned() }, settle), Began::AlreadyThere);
    // Whoever waits for its end is told then, though nothing of it ends.
    effects.idle(&"t").await;
    assert_eq!(effects.outcome(&ONE), None);
    assert_eq!(effects.begin(ONE, |_| std::future::pending(), settle), Began::Started);
    drop(unblock);
    gone.recv().unwrap();
    assert_eq!(effects.outcome(&ONE), Some(Status::Running), "its successor's");
}
