use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::supervise::{
    Address, ChildSpec, Exhausted, Intensity, Nodes, Options, Restart, Root, Table, Wire, child,
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Wiring {
    tools: BashTools,
    address: Address<BashMsg>,
}

impl Wire<BashActor> for Wiring {
    fn args(&self) -> BashTools {
        self.tools.clone()
    }

    fn address(&self) -> Address<BashMsg> {
        self.address.clone()
    }
}

static TABLE: Table<Wiring> = Table {
    children: &[ChildSpec {
        id: "bash",
        start: child::<BashActor, Wiring>,
        restart: Restart::Permanent,
        intensity: Intensity { restarts: 3, within: Duration::from_mins(1) },
        exhausted: Exhausted::Quarantine(SECOND),
        grace: SECOND,
        start_deadline: SECOND,
    }],
};

#[tokio::test(start_paused = true)]
async fn a_lost_keeper_counts_against_the_actor_and_the_tools_stay_the_same() {
    let tools = BashTools::new(BashSettings {
        data: "/nowhere".into(),
        starter: KeeperStarter::Helper("/nowhere".into()),
        lease_ms: 0,
        job_lifetime: SECOND,
        hidden: Vec::new(),
        namespaces: lakitu_keeper::Namespaces::Off,
        confine: lakitu_kernel::config::Confine::default(),
        env: Vec::new(),
    });
    let address = Address::new("/bash", 16);
    let nodes = Nodes::new();
    let wiring = Arc::new(Wiring { tools: tools.clone(), address: address.clone() });
    let mut root = Root::start(wiring, &TABLE, nodes.clone(), Options::default()).await.unwrap();
    let enter = || address.call(SECOND, |reply| BashMsg::Enter { reply });
    assert!(Arc::ptr_eq(&enter().await.unwrap().shared, &tools.shared));

    tools.shared.counts.send_modify(|counts| (counts.keepers_lost, counts.jobs) = (1, 2));
    let restarted = async {
        while nodes.node("/bash").is_none_or(|node| node.restarts == 0) {
            let _ = enter().await;
        }
    };
    tokio::time::timeout(60 * SECOND, restarted).await.unwrap();
    assert!(Arc::ptr_eq(&enter().await.unwrap().shared, &tools.shared));
    let gauges = nodes.inspect("/bash").unwrap().gauges;
    assert_eq!(gauges.into_iter().collect::<Vec<_>>(), [("jobs", 2), ("keepers", 0), ("keepers_lost", 1)]);
    // One loss is one restart.
    assert_eq!(nodes.node("/bash").unwrap().restarts, 1);
    root.stop(SECOND).await;
}
