//! `/`: the table of services. One-for-one: rows know each other only by stable addresses in the wiring, so one row's
//! death takes no other along.

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::supervise::{ChildPlace, ChildSpec, Exhausted, Intensity, Restart, Starting, Table, Tree, child};

use crate::api::{Api, ApiArgs};
use crate::checkpoint::CheckpointActor;
use crate::debug::Debug;
use crate::gateway::GatewayActor;
use crate::store::StoreActor;
use crate::tools::artifact::ArtifactActor;
use crate::tools::bash::BashActor;
use crate::tools::beads::BeadsActor;
use crate::tools::file::FileActor;
use crate::wiring::Wiring;

/// Small, because budgets multiply: `/tools` and `/threads` absorb their own crashes one level down.
const CORE: Intensity = Intensity { restarts: 5, within: Duration::from_mins(1) };
/// A core service past its window stays failed, and is tried once a minute.
const FAILED: Exhausted = Exhausted::Fail(Duration::from_mins(1));
/// A tool past its window answers `UNAVAILABLE` for a minute, then is tried again; the tool list stays the same.
const QUARANTINED: Exhausted = Exhausted::Quarantine(Duration::from_mins(1));

/// The table of services, with and without those that let somebody in.
pub fn table(debug: bool, api: bool) -> &'static Table<Wiring> {
    match (debug, api) {
        (true, true) => &WHOLE,
        (true, false) => &WITHOUT_API,
        (false, true) => &WITHOUT_DEBUG,
        (false, false) => &WITHOUT_BOTH,
    }
}

static WHOLE: Table<Wiring> = Table { children: &SERVICES };
static WITHOUT_API: Table<Wiring> = Table { children: SERVICES.split_at(SERVICES.len() - 1).0 };
static WITHOUT_DEBUG: Table<Wiring> = Table { children: SERVICES.split_at(1).1 };
static WITHOUT_BOTH: Table<Wiring> = Table { children: SERVICES.split_at(SERVICES.len() - 1).0.split_at(1).1 };

/// Start order is dependency order; stop order is the reverse. `/debug` comes first, so that it can tell what keeps the
/// others from coming up; `/api` last, when there is something to let people in to.
static SERVICES: [ChildSpec<Wiring>; 7] = [
    service("debug", child::<Debug, Wiring>, FAILED, Duration::from_secs(1)),
    service("store", child::<StoreActor, Wiring>, FAILED, Duration::from_secs(10)),
    service("gateway", child::<GatewayActor, Wiring>, FAILED, Duration::from_secs(2)),
    service("checkpoint", child::<CheckpointActor, Wiring>, FAILED, Duration::from_secs(1)),
    service("tools", tools, FAILED, Duration::from_secs(5)),
    service("threads", threads, FAILED, Duration::from_secs(5)),
    service("api", api, FAILED, Duration::from_secs(3)),
];

static TOOLS: Table<Wiring> = Table {
    children: &[
        service("file", child::<FileActor, Wiring>, QUARANTINED, Duration::from_secs(2)),
        service("bash", child::<BashActor, Wiring>, QUARANTINED, Duration::from_secs(2)),
        service("artifact", child::<ArtifactActor, Wiring>, QUARANTINED, Duration::from_secs(1)),
        service("beads", child::<BeadsActor, Wiring>, QUARANTINED, Duration::from_secs(1)),
    ],
};

const fn service(
    id: &'static str,
    start: lakitu_kernel::supervise::StartFn<Wiring>,
    exhausted: Exhausted,
    grace: Duration,
) -> ChildSpec<Wiring> {
    let start_deadline = Duration::from_secs(30);
    ChildSpec { id, start, restart: Restart::Permanent, intensity: CORE, exhausted, grace, start_deadline }
}

fn tools(wiring: &Arc<Wiring>, place: ChildPlace) -> Starting {
    place.supervise(wiring, &wiring.tools, Tree::of("tools", &TOOLS))
}

fn api(wiring: &Arc<Wiring>, place: ChildPlace) -> Starting {
    place.spawn::<Api>(wiring.api.clone(), ApiArgs { wiring: wiring.clone(), parts: wiring.api_parts.clone() })
}

fn threads(wiring: &Arc<Wiring>, place: ChildPlace) -> Starting {
    // A thread whose node died with this supervisor goes on when it is next spoken to, and effects under way go on
    // meanwhile; those that were running are asked for again at once.
    place.supervise(wiring, &wiring.threads, Tree::new("threads").first(crate::threads::running_again))
}
