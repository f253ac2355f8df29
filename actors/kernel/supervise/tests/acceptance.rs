//! The OTP behaviours, and the five ways in which a ready-made supervisor failed them.

use super::*;

static TRANSIENT: Table<World> =
    Table { children: &[ChildSpec { restart: Restart::Transient, ..row("a", start_a) }, row("b", start_b)] };
static TEMPORARY: Table<World> =
    Table { children: &[ChildSpec { restart: Restart::Temporary, ..row("a", start_a) }, row("b", start_b)] };
static ESCALATES: Table<World> =
    Table { children: &[ChildSpec { exhausted: Exhausted::Escalate, ..row("a", start_a) }, row("b", start_b)] };
static QUARANTINES: Table<World> = Table {
    children: &[ChildSpec { exhausted: Exhausted::Quarantine(MINUTE), ..row("a", start_a) }, row("b", start_b)],
};

#[tokio::test(start_paused = true)]
async fn children_start_in_table_order_and_stop_in_reverse() {
    let (world, mut root) = World::new().start(&ABC).await;
    root.settled().await;
    assert_eq!(world.log.take(), ["a up", "b up", "c up"]);
    assert_eq!(root.stop(MINUTE).await, Ended::Stopped);
    assert_eq!(world.log.take(), ["c stops", "c gone", "b stops", "b gone", "a stops", "a gone"]);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_child_is_restarted_after_a_panic_an_error_and_a_normal_end() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    for (round, msg) in [Probing::Panic, Probing::Fail, Probing::Done].into_iter().enumerate() {
        world.a.0.send(msg).unwrap();
        assert_eq!(ping_after(&world, round).await, Ok(round + 2));
    }
    assert_eq!(world.nodes.node("/a").unwrap().restarts, 3);
    assert_eq!(world.b.1.starts.load(Ordering::SeqCst), 1, "one for one");
}

/// The first answer of the next incarnation.
async fn ping_after(world: &World, round: usize) -> Result<usize, CallError> {
    loop {
        match ping(&world.a.0).await {
            Ok(starts) if starts == round + 1 => {}
            // Queued behind the message that ended it.
            Err(CallError::Unknown) => {}
            other => return other,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_child_that_is_done_stays_down_and_one_that_failed_is_restarted() {
    let (world, root) = World::new().start(&TRANSIENT).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    world.a.0.send(Probing::Panic).unwrap();
    until(&mut events, "/a", What::Started).await;
    world.a.0.send(Probing::Done).unwrap();
    until(&mut events, "/a", What::Stopped).await;
    tokio::time::advance(MINUTE).await;
    assert_eq!((world.state("/a"), world.a.1.starts.load(Ordering::SeqCst)), (NodeState::Stopped, 2));
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_is_never_restarted() {
    let (world, root) = World::new().start(&TEMPORARY).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    world.a.0.send(Probing::Panic).unwrap();
    until(&mut events, "/a", What::Failed).await;
    assert_eq!(ping(&world.b.0).await, Ok(1));
    assert_eq!(ping(&world.a.0).await, Err(CallError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn more_restarts_than_the_intensity_fail_the_service_and_it_gets_one_retry_a_minute() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    world.a.1.opens(&[Opening::Fails]);
    world.a.0.send(Probing::Panic).unwrap();
    until(&mut events, "/a", What::GaveUp).await;
    assert_eq!((world.state("/a"), world.a.1.starts.load(Ordering::SeqCst)), (NodeState::Failed, 4));
    assert_eq!(world.nodes.not_running_permanent(), ["/a"]);
    assert_eq!(world.a.0.call(SECOND, Probing::Ping).await, Err(CallError::Unavailable));
    until(&mut events, "/a", What::GaveUp).await;
    assert_eq!(world.a.1.starts.load(Ordering::SeqCst), 5, "one retry");
    world.a.1.opens(&[Opening::Well]);
    until(&mut events, "/a", What::Started).await;
    assert!(world.nodes.not_running_permanent().is_empty());
    assert_eq!(ping(&world.b.0).await, Ok(1), "the others never noticed");
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_service_is_unavailable_and_tried_again_later() {
    let (world, root) = World::new().start(&QUARANTINES).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    world.a.1.opens(&[Opening::Fails, Opening::Fails, Opening::Fails, Opening::Well]);
    world.a.0.send(Probing::Fail).unwrap();
    until(&mut events, "/a", What::Quarantined).await;
    assert_eq!(world.state("/a"), NodeState::Quarantined);
    assert_eq!(world.a.0.send(Probing::Note).unwrap_err().why, Why::Empty);
    assert_eq!(world.a.0.call(2 * MINUTE, Probing::Ping).await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn an_escalating_child_ends_the_root_and_says_which_one_it_was() {
    let (world, mut root) = World::new().start(&ESCALATES).await;
    root.settled().await;
    world.a.1.opens(&[Opening::Fails]);
    world.a.0.send(Probing::Panic).unwrap();
    assert_eq!(root.wait().await, Ended::Failed("/a failed too often: no luck".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_failing_start_counts_like_a_crash_and_holds_up_only_the_rows_after_it() {
    let world = World::new();
    world.b.1.opens(&[Opening::Fails, Opening::Panics, Opening::Well]);
    let (world, root) = world.start(&ABC).await;
    root.settled().await;
    assert_eq!(world.log.take(), ["a up", "b up", "c up"]);
    let b = world.nodes.node("/b").unwrap();
    assert_eq!((b.restarts, b.last_error.as_deref()), (2, Some("bad start")));
}

#[tokio::test(start_paused = true)]
async fn rows_after_a_service_that_never_starts_start_once_it_is_given_up() {
    let world = World::new();
    world.a.1.opens(&[Opening::Fails]);
    let (world, root) = world.start(&ABC).await;
    root.settled().await;
    assert_eq!(world.log.take(), ["b up", "c up"]);
    assert_eq!(world.nodes.not_running_permanent(), ["/a"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_outlives_its_grace_is_killed_and_the_stop_goes_on() {
    let mut world = World::new();
    Arc::get_mut(&mut world.b.1).unwrap().stops_never = true;
    let (world, mut root) = world.start(&ABC).await;
    root.settled().await;
    world.log.take();
    let began = tokio::time::Instant::now();
    assert_eq!(root.stop(MINUTE).await, Ended::Stopped);
    assert_eq!(world.log.take(), ["c stops", "c gone", "b stops", "b gone", "a stops", "a gone"]);
    assert_eq!(began.elapsed().as_secs(), 1, "b's grace");
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_not_down_at_the_deadline_is_killed_with_all_below() {
    let mut world = World::new();
    for script in [&mut world.a.1, &mut world.b.1, &mut world.c.1] {
        Arc::get_mut(script).unwrap().stops_never = true;
    }
    let (world, mut root) = world.start(&ABC).await;
    root.settled().await;
    assert_eq!(root.stop(SECOND / 2).await, Ended::Overdue);
    assert_eq!(world.a.1.alive.load(Ordering::SeqCst) + world.b.1.alive.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_child_is_still_starting_or_backing_off_ends_at_once() {
    let world = World::new();
    world.b.1.opens(&[Opening::Hangs]);
    let (world, mut root) = world.start(&ABC).await;
    assert_eq!(ping(&world.a.0).await, Ok(1));
    assert_eq!(root.stop(MINUTE).await, Ended::Stopped);
    assert_eq!(world.log.take(), ["a up", "a stops", "a gone"]);
}

#[tokio::test(start_paused = true)]
async fn ready_made_failure_1_a_killed_transient_child_is_restarted() {
    let (world, root) = World::new().start(&TRANSIENT).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    // Its handler never ends: the shell kills it at its deadline.
    world.a.0.send(Probing::Hang).unwrap();
    let failed = until(&mut events, "/a", What::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("a handler overran its 5000 ms"));
    assert_eq!(ping(&world.a.0).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_made_failure_2_a_successor_waits_for_a_predecessor_that_blocks_its_thread() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    let (unblock, blocked) = std::sync::mpsc::channel();
    world.a.0.send(Probing::Block(blocked)).unwrap();
    until_handling(&world.nodes, "/a", "Block").await;
    world.nodes.restart("/a").unwrap();
    // The sibling works on meanwhile.
    assert_eq!(ping(&world.b.0).await, Ok(1));
    assert_eq!(world.a.1.starts.load(Ordering::SeqCst), 1);
    drop(unblock);
    until(&mut events, "/a", What::Started).await;
    assert_eq!(world.a.1.most_alive.load(Ordering::SeqCst), 1);
    assert_eq!(world.nodes.node("/a").unwrap().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn ready_made_failure_3_two_failures_within_one_backoff_are_two_restarts() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    world.a.0.send(Probing::Panic).unwrap();
    world.b.0.send(Probing::Panic).unwrap();
    assert_eq!(ping_after(&world, 0).await, Ok(2));
    assert_eq!(ping(&world.b.0).await, Ok(2));
    let starts = [&world.a, &world.b, &world.c].map(|probe| probe.1.starts.load(Ordering::SeqCst));
    assert_eq!(starts, [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn ready_made_failure_4_a_start_that_never_returns_is_a_failed_start_and_the_others_are_supervised() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    world.a.1.opens(&[Opening::Hangs, Opening::Well]);
    world.a.0.send(Probing::Panic).unwrap();
    until(&mut events, "/a", What::Restarting).await;
    world.b.0.send(Probing::Panic).unwrap();
    until(&mut events, "/b", What::Started).await;
    assert_ne!(world.state("/a"), NodeState::Running, "still in its start");
    let failed = until(&mut events, "/a", What::Failed).await;
    assert_eq!(failed.reason.as_deref(), Some("its start overran 1000 ms"));
    assert_eq!(ping(&world.a.0).await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn ready_made_failure_5_a_stop_runs_every_childs_own_stop() {
    let (world, mut root) = World::new().start(&ABC).await;
    root.settled().await;
    root.stop(MINUTE).await;
    let log = world.log.take();
    assert_eq!(log.iter().filter(|line| line.ends_with("stops")).count(), 3, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_stayed_up_thirty_seconds_has_its_whole_window_again() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    for _ in 0..10 {
        tokio::time::advance(30 * SECOND).await;
        world.a.0.send(Probing::Panic).unwrap();
        until(&mut events, "/a", What::Started).await;
    }
    assert_eq!(world.nodes.node("/a").unwrap().restarts, 10);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_was_asked_for_counts_but_not_in_the_window() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    for _ in 0..10 {
        world.nodes.restart("/a").unwrap();
        until(&mut events, "/a", What::Started).await;
    }
    let node = world.nodes.node("/a").unwrap();
    assert_eq!((node.restarts, node.state, node.last_error), (10, NodeState::Running, None));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_permanent_child_stays_so_until_it_is_restarted() {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let mut events = world.nodes.subscribe();
    world.nodes.stop("/a").unwrap();
    until(&mut events, "/a", What::Stopped).await;
    tokio::time::advance(10 * MINUTE).await;
    assert_eq!(world.nodes.not_running_permanent(), ["/a"]);
    world.nodes.restart("/a").unwrap();
    assert_eq!(ping(&world.a.0).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_root_itself_ends_it_with_its_reason() {
    let (world, mut root) = World::new().start(&ABC).await;
    root.settled().await;
    world.nodes.inject("/", Fault { kind: FaultKind::Panic, ms: 0, times: 1 }).unwrap();
    world.nodes.stop("/c").unwrap();
    assert_eq!(root.wait().await, Ended::Failed("injected panic".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn two_trees_live_in_one_process() {
    let (one, root_one) = World::new().start(&ABC).await;
    let (two, root_two) = World::new().start(&ABC).await;
    tokio::join!(root_one.settled(), root_two.settled());
    one.a.0.send(Probing::Panic).unwrap();
    assert_eq!(ping_after(&one, 0).await, Ok(2));
    assert_eq!(ping(&two.a.0).await, Ok(1));
}
