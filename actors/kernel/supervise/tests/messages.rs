//! Addresses: what is delivered, what comes back, what a caller may conclude.

use super::*;

static A: Table<World> = Table { children: &[row("a", start_a)] };

async fn started() -> (Arc<World>, RootHandle<World>) {
    let (world, root) = World::new().start(&A).await;
    root.settled().await;
    (world, root)
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_gives_the_message_back_and_is_counted_exactly() {
    let (world, _root) = started().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    world.a.0.send(Probing::Gate(gate.clone())).unwrap();
    tokio::task::yield_now().await;
    for waiting in 1..=4 {
        world.a.0.send(Probing::Note).unwrap();
        assert_eq!(world.nodes.node("/a").unwrap().mailbox, waiting);
    }
    let back = world.a.0.send(Probing::Gauge(7)).unwrap_err();
    assert_eq!((back.why, matches!(back.msg, Probing::Gauge(7))), (Why::Full, true));
    world.a.0.tell(Probing::Note);
    assert_eq!(world.nodes.inspect("/a").unwrap().dropped, 1);
    gate.notify_one();
    assert_eq!(ping(&world.a.0).await, Ok(1), "a call waits for its place");
    assert_eq!(world.nodes.node("/a").unwrap().mailbox, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_mailbox_frees_its_places() {
    let (world, _root) = started().await;
    let mut events = world.nodes.subscribe();
    world.a.0.send(Probing::Hang).unwrap();
    tokio::task::yield_now().await;
    for _ in 0..4 {
        world.a.0.send(Probing::Note).unwrap();
    }
    until(&mut events, "/a", What::Started).await;
    assert_eq!(world.nodes.node("/a").unwrap().mailbox, 0);
    for _ in 0..4 {
        world.a.0.send(Probing::Note).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_nobody_waits_until_somebody_is_there() {
    let world = World::new();
    let address = world.a.0.clone();
    assert_eq!(address.send(Probing::Note).unwrap_err().why, Why::Empty);
    let (answer, started) = tokio::join!(ping(&address), world.start(&A));
    assert_eq!(answer, Ok(1));
    drop(started);
}

#[tokio::test(start_paused = true)]
async fn a_call_to_nobody_is_unavailable_at_its_deadline() {
    let address: Address<Probing> = Address::new("/x", MAILBOX_CAPACITY);
    let began = tokio::time::Instant::now();
    assert_eq!(address.call(SECOND, Probing::Ping).await, Err(CallError::Unavailable));
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_found_no_place_until_its_deadline_is_unavailable() {
    let (world, _root) = started().await;
    world.a.0.send(Probing::Hang).unwrap();
    tokio::task::yield_now().await;
    for _ in 0..4 {
        world.a.0.send(Probing::Note).unwrap();
    }
    assert_eq!(world.a.0.call(SECOND, Probing::Ping).await, Err(CallError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_a_crash_is_unknown_and_one_behind_a_slow_handler_times_out() {
    let (world, _root) = started().await;
    world.a.0.send(Probing::Panic).unwrap();
    assert_eq!(ping(&world.a.0).await, Err(CallError::Unknown));
    assert_eq!(ping(&world.a.0).await, Ok(2));
    world.nodes.inject("/a", Fault { kind: FaultKind::Slow, ms: 2000, times: 1 }).unwrap();
    assert_eq!(world.a.0.call(SECOND, Probing::Ping).await, Err(CallError::Timeout));
    // Answering it does not hurt the actor.
    assert_eq!(ping(&world.a.0).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_address_outlives_restarts() {
    let (world, _root) = started().await;
    let mut events = world.nodes.subscribe();
    for start in 2..5 {
        world.nodes.restart("/a").unwrap();
        until(&mut events, "/a", What::Started).await;
        assert_eq!(ping(&world.a.0).await, Ok(start));
    }
}

#[test]
fn failures_are_made_from_anything() {
    fn fails() -> Result<(), Crash> {
        String::from_utf8(vec![0xff])?;
        Ok(())
    }
    assert!(fails().unwrap_err().to_string().contains("utf-8"));
    assert_eq!(StartError::new(7).to_string(), "7");
}
