//! The registry of running effects.

use std::sync::atomic::AtomicBool;

use tokio::sync::oneshot;

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
