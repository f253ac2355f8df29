//! A three-level tree under a few hundred crashes and restarts.

use super::*;

type Leaf = (Address<Probing>, Arc<Script>);

struct Big {
    nodes: Nodes,
    groups: Vec<(SupervisorRef<Big>, Vec<Leaf>)>,
}

fn group(at: usize) -> DynamicChild<Big> {
    DynamicChild {
        id: format!("g{at}"),
        kind: "group",
        restart: Restart::Permanent,
        intensity: Intensity { restarts: 100_000, within: MINUTE },
        exhausted: Exhausted::Settle,
        grace: MINUTE,
        start_deadline: SECOND,
        start: Arc::new(move |wiring: &Arc<Big>, place| {
            let tree = Tree::new("group").first(move |wiring: &Arc<Big>| {
                let leaves = wiring.groups[at].1.iter().enumerate();
                let intensity = Intensity { restarts: 100_000, within: MINUTE };
                leaves
                    .map(|(leaf, (address, script))| DynamicChild {
                        intensity,
                        ..dynamic(&format!("l{leaf}"), Restart::Permanent, address, script)
                    })
                    .collect()
            });
            place.supervise(wiring, &wiring.groups[at].0, tree)
        }),
    }
}

async fn storm(rounds: usize) {
    let log = Log::default();
    let leaf = || (Address::new("leaf", 64), Arc::new(Script::new("leaf", &log)));
    let groups = (0..4).map(|_| (SupervisorRef::new("group", 64), (0..4).map(|_| leaf()).collect())).collect();
    let big = Arc::new(Big { nodes: Nodes::new(), groups });
    let tree = Tree::new("root").first(|_| (0..4).map(group).collect());
    let pace = Pace { longest: Duration::from_millis(10), ..Pace::default() };
    let options = Options { pace, ..options() };
    let mut root = Root::start_tree(big.clone(), tree, big.nodes.clone(), options).await.unwrap();
    let mut random = 7_usize;
    for _ in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (group, leaf) = ((random >> 40) % 4, (random >> 44) % 4);
        // Refused wishes are part of the storm.
        match (random >> 48) % 6 {
            0 => drop(big.groups[group].1[leaf].0.send(Probing::Panic)),
            1 => drop(big.groups[group].1[leaf].0.send(Probing::Done)),
            2 => drop(big.nodes.restart(&format!("/g{group}/l{leaf}"))),
            3 => drop(big.nodes.restart(&format!("/g{group}"))),
            4 => {
                drop(big.nodes.inject(&format!("/g{group}"), Fault { kind: FaultKind::Panic, ms: 0, times: 1 }));
                drop(big.nodes.restart(&format!("/g{group}/l{leaf}")));
            }
            _ => drop(big.groups[group].1[leaf].0.call(Duration::from_millis(5), Probing::Ping).await),
        }
        if random.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
    }
    // What was injected and not yet hit is taken back.
    for group in 0..4 {
        big.nodes.inject(&format!("/g{group}"), Fault { kind: FaultKind::Panic, ms: 0, times: 0 }).unwrap();
    }
    for (_, leaves) in &big.groups {
        for (address, script) in leaves {
            while ping(address).await.is_err() {}
            assert_eq!(script.most_alive.load(Ordering::SeqCst), 1, "never two of one child");
        }
    }
    assert_eq!(root.stop(10 * MINUTE).await, Ended::Stopped);
    let alive = big.groups.iter().flat_map(|(_, leaves)| leaves).map(|(_, leaf)| leaf.alive.load(Ordering::SeqCst));
    assert_eq!(alive.sum::<usize>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_three_level_tree_comes_back_from_a_storm_of_crashes() {
    storm(600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_two_threads() {
    storm(600).await;
}
