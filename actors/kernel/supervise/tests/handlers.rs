//! What the shell does around a handler, and what the node's cell shows of it.

use expect_test::expect;

use super::*;

async fn started() -> (Arc<World>, RootHandle<World>, SupervisionEvents) {
    let (world, root) = World::new().start(&ABC).await;
    root.settled().await;
    let events = world.nodes.subscribe();
    (world, root, events)
}

fn fault(kind: FaultKind) -> Fault {
    Fault { kind, ms: 1500, times: 1 }
}

#[tokio::test(start_paused = true)]
async fn the_text_of_a_panic_is_kept_as_last_error() {
    let (world, _root, mut events) = started().await;
    world.a.0.send(Probing::Panic).unwrap();
    until(&mut events, "/a", What::Started).await;
    let node = world.nodes.node("/a").unwrap();
    assert_eq!((node.last_error.as_deref(), node.restarts), (Some("a probe's panic"), 1));
}

#[tokio::test(start_paused = true)]
async fn injected_faults_hit_the_next_message_and_only_it() {
    let (world, _root, mut events) = started().await;
    let rows = [
        (FaultKind::Panic, "injected panic"),
        (FaultKind::Error, "injected error"),
        (FaultKind::Hang, "a handler overran its 5000 ms"),
    ];
    for (kind, reason) in rows {
        world.nodes.inject("/a", fault(kind)).unwrap();
        world.a.0.send(Probing::Note).unwrap();
        assert_eq!(until(&mut events, "/a", What::Failed).await.reason.as_deref(), Some(reason));
        assert!(ping(&world.a.0).await.is_ok());
    }
    world.nodes.inject("/a", fault(FaultKind::Slow)).unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(ping(&world.a.0).await, Ok(4));
    assert_eq!(began.elapsed().as_millis(), 1500);
}

#[tokio::test(start_paused = true)]
async fn the_tree_is_read_while_an_actor_is_stuck() {
    let (world, _root, _) = started().await;
    world.a.0.send(Probing::Hang).unwrap();
    world.a.0.send(Probing::Note).unwrap();
    tokio::task::yield_now().await;
    tokio::time::advance(2 * SECOND).await;
    let node = world.nodes.node("/a").unwrap();
    assert_eq!(node.handling, Some(Handling { kind: "Hang", ms: 2000 }));
    assert_eq!((node.mailbox, node.mailbox_capacity), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn an_operators_restart_of_a_stuck_actor_takes_its_grace_not_its_whole_deadline() {
    let (world, _root, mut events) = started().await;
    world.a.0.send(Probing::Hang).unwrap();
    tokio::task::yield_now().await;
    let began = tokio::time::Instant::now();
    world.nodes.restart("/a").unwrap();
    until(&mut events, "/a", What::Started).await;
    assert_eq!(began.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_shown_as_its_interface_says() {
    let (world, _root, _) = started().await;
    ping(&world.a.0).await.unwrap();
    tokio::time::advance(SECOND).await;
    let node = serde_json::to_string(&world.nodes.node("/a").unwrap()).unwrap();
    let begin = r#"{"path":"/a","kind":"probe","state":"running","restarts":0,"uptime_ms":"#;
    assert!(node.starts_with(begin), "{node}");
    expect![[
        r#","mailbox":0,"mailbox_capacity":4,"handled":1,"handling":null,"last_error":null,"pid":null,"children":[]}"#
    ]]
    .assert_eq(node[begin.len()..].trim_start_matches(|digit: char| digit.is_ascii_digit()));
    let handling = serde_json::to_string(&Handling { kind: "Ping", ms: 3 }).unwrap();
    expect![[r#"{"type":"Ping","ms":3}"#]].assert_eq(&handling);
}

#[tokio::test(start_paused = true)]
async fn an_inspection_shows_gauges_and_the_last_twenty_messages() {
    let (world, _root, _) = started().await;
    for level in 0..30 {
        world.a.0.send(Probing::Gauge(level)).unwrap();
        ping(&world.a.0).await.unwrap();
    }
    let inspection = world.nodes.inspect("/a").unwrap();
    assert_eq!(inspection.gauges, [("level", 29)].into());
    assert_eq!((inspection.messages.len(), inspection.node.handled), (MESSAGES_KEPT, 60));
    assert_eq!(inspection.messages.last().unwrap().kind, "Ping");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_said_so() {
    let (world, _root, _) = started().await;
    assert_eq!(world.nodes.restart("/x"), Err(ControlError::NotFound("/x".to_owned())));
    assert_eq!(world.nodes.stop("/"), Err(ControlError::Root));
    assert_eq!(world.nodes.inject("/x", fault(FaultKind::Hang)), Err(ControlError::NotFound("/x".to_owned())));
    assert_eq!(world.nodes.inspect("/x"), None);
    assert_eq!(Nodes::new().tree().state, NodeState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_for_the_events_knows_how_many_it_missed() {
    let (world, root, mut slow) = started().await;
    let mut events = world.nodes.subscribe();
    for _ in 0..200 {
        world.nodes.restart("/a").unwrap();
        until(&mut events, "/a", What::Started).await;
    }
    assert!(slow.next().await.is_some());
    assert_eq!(slow.missed(), 600 - EVENTS_KEPT as u64, "stopped, restarting and started, each time");
    drop(root);
}
