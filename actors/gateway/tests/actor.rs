use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::supervise::{
    Address, ChildSpec, Exhausted, Intensity, MAILBOX_CAPACITY, NodeState, Nodes, Options, Restart, Root, Table, Wire,
    child,
};
use serde_json::json;

use super::{Steps, no_sink, request};
use crate::gateway::{GatewayActor, GatewayArgs, GatewayMsg, RetryPolicy, Route, ScriptGateway};

const MINUTE: Duration = Duration::from_mins(1);

struct Wiring {
    address: Address<GatewayMsg>,
    args: GatewayArgs,
}

impl Wire<GatewayActor> for Wiring {
    fn args(&self) -> GatewayArgs {
        self.args.clone()
    }

    fn address(&self) -> Address<GatewayMsg> {
        self.address.clone()
    }
}

static TABLE: Table<Wiring> = Table {
    children: &[ChildSpec {
        id: "gateway",
        start: child::<GatewayActor, _>,
        restart: Restart::Permanent,
        intensity: Intensity { restarts: 3, within: MINUTE },
        exhausted: Exhausted::Fail(MINUTE),
        grace: Duration::from_secs(1),
        start_deadline: Duration::from_secs(1),
    }],
};

async fn open(address: &Address<GatewayMsg>) -> Route {
    address.call(MINUTE, |reply| GatewayMsg::Open { reply }).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_route_outlives_a_restart_of_the_actor_and_is_counted_by_its_successor() {
    let script = "turns: [{ fail: { status: 503 } }, { delay_ms: 5000, text: hi }]";
    let args = GatewayArgs {
        upstream: Arc::new(ScriptGateway::parse(script).unwrap()),
        policy: RetryPolicy::default(),
        fallback_models: Arc::default(),
        randomness: Arc::new(Steps(0.into())),
    };
    let wiring = Arc::new(Wiring { address: Address::new("/gateway", MAILBOX_CAPACITY), args });
    let nodes = Nodes::new();
    let mut root = Root::start(Arc::clone(&wiring), &TABLE, nodes.clone(), Options::default()).await.unwrap();
    root.settled().await;

    let route = open(&wiring.address).await;
    nodes.restart("/gateway").unwrap();
    let call = route.complete(request(1, &json!([])), no_sink(), |_| {});
    let (answer, again) = tokio::join!(call, open(&wiring.address));
    assert_eq!(answer.unwrap().text, "hi");
    assert!(again.complete(request(2, &json!([])), no_sink(), |_| {}).await.is_err());
    // What was told is handled by the time a later call is answered.
    open(&wiring.address).await;

    let shown = nodes.inspect("/gateway").unwrap();
    assert_eq!((shown.node.state, shown.node.restarts), (NodeState::Running, 1));
    assert_eq!(shown.gauges["failures"], 1);
    assert_eq!(shown.node.kind, "gateway");
    root.stop(MINUTE).await;
}
