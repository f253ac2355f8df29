//! The actor: group commit, restarts, handles.

use std::time::Duration;

use lakitu_kernel::supervise::{
    Address, ChildSpec, Ended, Exhausted, Intensity, NodeState, Nodes, Options, Restart, Root, RootHandle, Table, What,
    Wire, child,
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

pub(super) struct World {
    store: Store,
}

impl Wire<StoreActor> for World {
    fn args(&self) -> StoreArgs {
        self.store.args()
    }
    fn address(&self) -> Address<StoreMsg> {
        self.store.address().clone()
    }
}

static TABLE: Table<World> = Table {
    children: &[ChildSpec {
        id: "store",
        start: child::<StoreActor, World>,
        restart: Restart::Permanent,
        intensity: Intensity { restarts: 5, within: Duration::from_mins(1) },
        exhausted: Exhausted::Fail(Duration::from_mins(1)),
        grace: Duration::from_secs(10),
        start_deadline: Duration::from_secs(30),
    }],
};

pub(super) async fn run(bench: &Bench) -> (RootHandle<World>, Nodes) {
    let nodes = Nodes::new();
    let world = Arc::new(World { store: bench.store.clone() });
    let root = Root::start(world, &TABLE, nodes.clone(), Options::default()).await.unwrap();
    root.settled().await;
    (root, nodes)
}

async fn last(store: &Store, thread: ThreadId) -> Seq {
    store.read(move |reading| reading.last_seq(thread)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_submits_share_few_commits_and_a_watcher_sees_the_last() {
    let bench = Bench::new();
    let (mut root, nodes) = run(&bench).await;
    let mut watch = bench.store.watch();
    let mut tasks = tokio::task::JoinSet::new();
    // The first commit is held until all the others wait.
    bench.store.disk().hold(true);
    for n in 0..64_u64 {
        let store = bench.store.clone();
        tasks.spawn(async move { store.submit(step(ThreadId(u128::from(n)), 0, vec![prompt("p")])).await });
    }
    let node = || nodes.inspect("/store").unwrap();
    while node().node.handled < 64 {
        tokio::task::yield_now().await;
    }
    bench.store.disk().hold(false);
    let mut commits = std::collections::BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        commits.insert(done.unwrap().unwrap().commit);
    }
    assert!(commits.len() <= 3, "{commits:?}");
    let last = *watch.wait_for(|commit| commits.last() == Some(commit)).await.unwrap();
    assert_eq!(bench.store.read(Reading::commit).await.unwrap(), last);
    assert_eq!(root.stop(10 * SECOND).await, Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_during_a_commit_waits_for_it_and_nothing_is_lost_or_done_twice() {
    let bench = Bench::new();
    let (mut root, nodes) = run(&bench).await;
    bench.store.submit(step(A, 0, vec![prompt("a")])).await.unwrap();
    let before = bench.store.disk().flushes();
    bench.store.disk().hold(true);
    let submit = |step| {
        let (store, (done, result)) = (bench.store.clone(), tokio::sync::oneshot::channel());
        (async move { drop(done.send(store.submit(step).await)) }, result)
    };
    let mut tasks = tokio::task::JoinSet::new();
    let (task, mut under_way) = submit(step(A, 1, vec![prompt("b")]));
    tasks.spawn(task);
    while bench.store.disk().flushes() == before {
        tokio::task::yield_now().await;
    }
    let (task, queued) = submit(step(B, 0, vec![prompt("c")]));
    tasks.spawn(task);
    while nodes.node("/store").unwrap().handled < 3 {
        tokio::task::yield_now().await;
    }
    let mut events = nodes.subscribe();
    nodes.restart("/store").unwrap();
    assert!(under_way.try_recv().is_err(), "not durable, not answered");
    bench.store.disk().hold(false);
    assert_eq!(texts(&under_way.await.unwrap().unwrap().events), ["2 b"]);
    assert_eq!(texts(&queued.await.unwrap().unwrap().events), ["1 c"]);
    while !matches!(events.next().await.unwrap().what, What::Started) {}
    assert_eq!(last(&bench.store, A).await, Seq(2));
    assert_eq!(bench.store.last_start().unwrap().unwrap().generation, 2);
    assert_eq!(bench.store.verify().await.unwrap(), []);
    assert_eq!(root.stop(10 * SECOND).await, Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_stop_commits_what_was_taken_in_and_gives_the_directory_back() {
    let bench = Bench::new();
    let (mut root, _nodes) = run(&bench).await;
    bench.store.submit(step(A, 0, vec![prompt("a")])).await.unwrap();
    assert_eq!(OpenStore::read_only(bench.data()).err(), Some(StoreError::Busy { pid: std::process::id() }));
    assert_eq!(root.stop(10 * SECOND).await, Ended::Stopped);
    let owner = bench.store.args().opening.shared.owner.clone();
    drop(owner.lock().await);
    let offline = OpenStore::read_only(bench.data()).unwrap();
    assert_eq!(offline.read().unwrap().last_seq(A).unwrap(), Seq(1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_start_says_why() {
    let bench = Bench::new();
    drop(bench.writer());
    std::fs::write(bench.data().join("lakitu.redb"), "").unwrap();
    let (mut root, nodes) = run(&bench).await;
    assert_eq!(nodes.node("/store").unwrap().state, NodeState::Failed);
    assert!(matches!(bench.store.last_start(), Some(Err(StoreError::Missing { .. }))));
    assert_eq!(bench.store.submit(step(A, 0, vec![prompt("a")])).await, Err(StoreError::Unavailable));
    assert_eq!(bench.store.read(Reading::commit).await, Err(StoreError::Unavailable));
    assert_eq!(root.stop(10 * SECOND).await, Ended::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claimed_directory_is_kept_over_the_start() {
    let bench = Bench::new();
    bench.store.claim().await.unwrap();
    let other = store_on(bench.data(), bench.clock.clone());
    assert_eq!(other.claim().await, Err(StoreError::Busy { pid: std::process::id() }));
    let (mut root, _nodes) = run(&bench).await;
    bench.store.submit(step(A, 0, vec![prompt("a")])).await.unwrap();
    assert_eq!(root.stop(10 * SECOND).await, Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_which_most_is_not_needed_is_made_smaller_when_nobody_commits() {
    let bench = Bench::new();
    let (mut root, _) = run(&bench).await;
    let store = &bench.store;
    assert_eq!(store.tighten(SECOND).await, Ok(None), "it is small");
    let mut held = Vec::new();
    for n in 0..600_u64 {
        let blob = Blob::of([n.to_be_bytes().to_vec(), vec![7; 60_000]].concat());
        held.push(blob.hash);
        store.submit(step(A, n, vec![prompt("p"), blob.into()])).await.unwrap();
    }
    assert_eq!(store.tighten(SECOND).await, Ok(None), "what it holds fills it");
    let release = held.iter().map(|hash| Release { hash: *hash }.into()).collect();
    store.submit(step(A, 600, release)).await.unwrap();

    let goes_on = async {
        tokio::time::sleep(SECOND / 2).await;
        store.submit(step(A, 600, vec![prompt("not idle")])).await.unwrap();
    };
    let (busy, ()) = tokio::join!(store.tighten(SECOND), goes_on);
    assert_eq!(busy, Ok(None));
    let done = store.tighten(SECOND).await.unwrap().unwrap();
    assert!(done.after_bytes * 4 < done.before_bytes, "{done:?}");
    assert_eq!(last(store, A).await, Seq(601));
    assert_eq!(root.stop(10 * SECOND).await, Ended::Stopped);
}
