//! Children that come and go while their supervisor runs, and supervisors below supervisors.

use super::*;

/// `/threads` and what is below `/threads/t1`.
struct Threads {
    log: Log,
    nodes: Nodes,
    all: SupervisorRef<Threads>,
    /// The supervisor `/threads/t1`.
    thread: SupervisorRef<Threads>,
    agent: (Address<Probing>, Arc<Script>),
    sub: (Address<Probing>, Arc<Script>),
    settled: lock::Guarded<Vec<Settled>>,
}

static THREADS: Table<Threads> = Table {
    children: &[ChildSpec {
        id: "threads",
        start: |wiring, place| {
            let told = wiring.clone();
            let tree = Tree::new("threads").on_settled(move |settled| told.settled.with(|all| all.push(settled)));
            place.supervise(wiring, &wiring.all, tree)
        },
        restart: Restart::Permanent,
        intensity: INTENSITY,
        exhausted: Exhausted::Fail(MINUTE),
        grace: MINUTE,
        start_deadline: SECOND,
    }],
};

/// The node of a thread: a small supervisor whose first child is its agent.
fn thread() -> DynamicChild<Threads> {
    DynamicChild {
        id: "t1".to_owned(),
        kind: "thread",
        restart: Restart::Transient,
        intensity: INTENSITY,
        exhausted: Exhausted::Settle,
        grace: MINUTE,
        start_deadline: SECOND,
        start: Arc::new(|wiring, place| {
            let told = wiring.clone();
            let tree = Tree::new("thread")
                .first(|wiring: &Arc<Threads>| {
                    vec![dynamic("agent", Restart::Transient, &wiring.agent.0, &wiring.agent.1)]
                })
                .on_settled(move |settled| told.settled.with(|all| all.push(settled)))
                .ends_when_empty();
            place.supervise(wiring, &wiring.thread, tree)
        }),
    }
}

fn sub(wiring: &Threads) -> DynamicChild<Threads> {
    dynamic("sub", Restart::Transient, &wiring.sub.0, &wiring.sub.1)
}

async fn start() -> (Arc<Threads>, RootHandle<Threads>) {
    let log = Log::default();
    let probe = |name: &'static str| (Address::new(name, 4), Arc::new(Script::new(name, &log)));
    let wiring = Arc::new(Threads {
        agent: probe("agent"),
        sub: probe("sub"),
        nodes: Nodes::new(),
        all: SupervisorRef::new("/threads", 64),
        thread: SupervisorRef::new("/threads/t1", 64),
        settled: lock::Guarded::default(),
        log,
    });
    let root = Root::start(wiring.clone(), &THREADS, wiring.nodes.clone(), options()).await.unwrap();
    assert_eq!(wiring.all.add(thread()).await, Ok(Added::Started));
    assert_eq!(ping(&wiring.agent.0).await, Ok(1));
    (wiring, root)
}

impl Threads {
    /// `path state` of each node, in tree order.
    fn shape(&self) -> Vec<String> {
        fn walk(node: &Node, shape: &mut Vec<String>) {
            shape.push(format!("{} {:?} {}", node.path, node.state, node.kind));
            node.children.iter().for_each(|child| walk(child, shape));
        }
        let mut shape = Vec::new();
        walk(&self.nodes.tree(), &mut shape);
        shape
    }
}

#[tokio::test(start_paused = true)]
async fn a_thread_is_a_supervisor_with_its_agent_and_its_subagents() {
    let (wiring, mut root) = start().await;
    assert_eq!(wiring.thread.add(sub(&wiring)).await, Ok(Added::Started));
    assert_eq!(ping(&wiring.sub.0).await, Ok(1));
    assert_eq!(
        wiring.shape(),
        [
            "/ Running root",
            "/threads Running threads",
            "/threads/t1 Running thread",
            "/threads/t1/agent Running probe",
            "/threads/t1/sub Running probe",
        ]
    );
    assert_eq!(wiring.all.add(thread()).await, Ok(Added::AlreadyRunning));
    assert_eq!(root.stop(MINUTE).await, Ended::Stopped);
    assert_eq!(wiring.log.take().iter().filter(|line| line.ends_with("stops")).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_agents_crash_ends_no_subagent() {
    let (wiring, _root) = start().await;
    wiring.thread.add(sub(&wiring)).await.unwrap();
    let mut events = wiring.nodes.subscribe();
    wiring.agent.0.send(Probing::Panic).unwrap();
    until(&mut events, "/threads/t1/agent", What::Started).await;
    assert_eq!((ping(&wiring.agent.0).await, ping(&wiring.sub.0).await), (Ok(2), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_thread_whose_last_child_is_done_ends_normally_and_leaves_the_tree() {
    let (wiring, _root) = start().await;
    wiring.thread.add(sub(&wiring)).await.unwrap();
    ping(&wiring.sub.0).await.unwrap();
    let mut events = wiring.nodes.subscribe();
    wiring.agent.0.send(Probing::Done).unwrap();
    until(&mut events, "/threads/t1/agent", What::Stopped).await;
    wiring.sub.0.send(Probing::Done).unwrap();
    until(&mut events, "/threads/t1", What::Stopped).await;
    // The supervisor takes this wish after the report of the end.
    assert_eq!(wiring.all.remove("t1", SECOND).await, Ok(false));
    assert_eq!(wiring.shape(), ["/ Running root", "/threads Running threads"]);
    let done = |id: &str| Settled { id: id.to_owned(), end: End::Done };
    assert_eq!(wiring.settled.with(|all| all.clone()), [done("agent"), done("sub"), done("t1")]);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_crashes_too_often_is_settled_with_its_last_failure() {
    let (wiring, _root) = start().await;
    let mut events = wiring.nodes.subscribe();
    wiring.agent.1.opens(&[Opening::Fails]);
    wiring.agent.0.send(Probing::Panic).unwrap();
    until(&mut events, "/threads/t1", What::Stopped).await;
    assert_eq!(wiring.all.remove("t1", SECOND).await, Ok(false));
    let settled = wiring.settled.with(|all| all.clone());
    assert_eq!(settled[0], Settled { id: "agent".to_owned(), end: End::CrashLoop("no luck".to_owned()) });
    assert_eq!(settled[1].end, End::Done, "the thread's own node just ended");
}

#[tokio::test(start_paused = true)]
async fn a_removed_child_is_gone_when_the_answer_comes_and_may_be_added_again() {
    let (wiring, _root) = start().await;
    wiring.log.take();
    assert_eq!(wiring.all.remove("t1", MINUTE).await, Ok(true));
    assert_eq!(wiring.log.take(), ["agent stops", "agent gone"]);
    assert_eq!(wiring.shape(), ["/ Running root", "/threads Running threads"]);
    assert_eq!(wiring.all.add(thread()).await, Ok(Added::Started));
    assert_eq!(ping(&wiring.agent.0).await, Ok(2));
    let node = wiring.nodes.node("/threads/t1/agent").unwrap();
    assert_eq!((node.restarts, node.handled), (0, 1), "a new node");
}

#[tokio::test(start_paused = true)]
async fn a_child_added_while_its_namesake_is_being_removed_starts_after_it_is_gone() {
    let (wiring, _root) = start().await;
    let (removed, added) = tokio::join!(wiring.all.remove("t1", MINUTE), wiring.all.add(thread()));
    assert_eq!((removed, added), (Ok(true), Ok(Added::Started)));
    assert_eq!(ping(&wiring.agent.0).await, Ok(2));
    assert_eq!(wiring.agent.1.most_alive.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_crashes_comes_back_with_its_first_children() {
    let (wiring, _root) = start().await;
    wiring.thread.add(sub(&wiring)).await.unwrap();
    ping(&wiring.sub.0).await.unwrap();
    let mut events = wiring.nodes.subscribe();
    wiring.nodes.inject("/threads/t1", Fault { kind: FaultKind::Panic, ms: 0, times: 1 }).unwrap();
    wiring.nodes.stop("/threads/t1/sub").unwrap();
    until(&mut events, "/threads/t1", What::Failed).await;
    until(&mut events, "/threads/t1/agent", What::Started).await;
    assert_eq!(ping(&wiring.agent.0).await, Ok(2));
    assert_eq!(wiring.agent.1.most_alive.load(Ordering::SeqCst), 1);
    // The agent adds its subagents again, from its journal.
    assert_eq!(wiring.nodes.node("/threads/t1/sub"), None);
    assert_eq!(wiring.thread.add(sub(&wiring)).await, Ok(Added::Started));
    assert_eq!(ping(&wiring.sub.0).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_supervisors_crash_a_child_still_waits_for_its_blocked_predecessor() {
    let (wiring, _root) = start().await;
    let mut events = wiring.nodes.subscribe();
    let (unblock, blocked) = std::sync::mpsc::channel();
    // Everything that the agent's start woke has run: a task that a blocking handler woke just before is not stolen from
    // its thread.
    assert_eq!(wiring.thread.remove("nobody", SECOND).await, Ok(false));
    wiring.agent.0.send(Probing::Block(blocked)).unwrap();
    until_handling(&wiring.nodes, "/threads/t1/agent", "Block").await;
    wiring.nodes.inject("/threads/t1", Fault { kind: FaultKind::Panic, ms: 0, times: 1 }).unwrap();
    wiring.nodes.restart("/threads/t1/agent").unwrap();
    until(&mut events, "/threads/t1", What::Failed).await;
    until(&mut events, "/threads/t1", What::Started).await;
    assert_eq!(wiring.agent.1.starts.load(Ordering::SeqCst), 1);
    drop(unblock);
    until(&mut events, "/threads/t1/agent", What::Started).await;
    assert_eq!(wiring.agent.1.most_alive.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_arguments_panic_is_a_failed_start() {
    let (wiring, _root) = start().await;
    let mut events = wiring.nodes.subscribe();
    let start: Start<Threads> = Arc::new(|_, _| panic!("no arguments"));
    wiring.thread.add(DynamicChild { id: "bad".to_owned(), start, ..sub(&wiring) }).await.unwrap();
    let gave_up = until(&mut events, "/threads/t1/bad", What::GaveUp).await;
    assert_eq!(gave_up.reason.as_deref(), Some("no arguments"));
    assert_eq!(ping(&wiring.agent.0).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_no_part_of_a_path_is_refused() {
    let (wiring, _root) = start().await;
    for id in ["", "a/b"] {
        let child = DynamicChild { id: id.to_owned(), ..sub(&wiring) };
        assert_eq!(wiring.thread.add(child.clone()).await, Err(AddError::Id));
        assert_eq!(wiring.thread.submit(child), Err(AddError::Id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_child_is_kept_until_it_is_added_or_restarted() {
    let (wiring, _root) = start().await;
    let mut events = wiring.nodes.subscribe();
    wiring.nodes.stop("/threads/t1").unwrap();
    until(&mut events, "/threads/t1", What::Stopped).await;
    assert_eq!(wiring.nodes.node("/threads/t1").unwrap().state, NodeState::Stopped);
    assert_eq!(
        wiring.nodes.restart("/threads/t1/agent"),
        Err(ControlError::Unavailable("/threads/t1/agent".to_owned()))
    );
    assert_eq!(wiring.all.add(thread()).await, Ok(Added::Started));
    assert_eq!(ping(&wiring.agent.0).await, Ok(2));
}
