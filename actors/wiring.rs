//! Everything that actors reach: made once a runtime, handed to all, never global. Two runtimes live in one process.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lakitu_kernel::clock::{Clock, Randomness};
use lakitu_kernel::config::Price;
use lakitu_kernel::id::Ids;
use lakitu_kernel::policy::Policy;
use lakitu_kernel::ports::{FailureClass, Gateway, ModelFailure};
use lakitu_kernel::supervise::{Address, Guarded, Nodes, Service, SupervisorRef, WeakAddress, Wire};
use lakitu_kernel::tool::Catalogue;
use lakitu_kernel::{ErrorCode, ThreadId, ToolError};

use crate::api::{ApiMsg, ApiParts};
use crate::checkpoint::{CheckpointActor, CheckpointMsg, CheckpointTools};
use crate::debug::{Debug, DebugArgs, DebugMsg};
use crate::effects::{Caring, Done, Key, Lease, Running, Work};
use crate::gateway::{GatewayActor, GatewayArgs, GatewayMsg, RetryPolicy};
use crate::store::{Store, StoreActor, StoreArgs};
use crate::threads::agent::{AgentMsg, Origin};
use crate::threads::hub::Hub;
use crate::tools::Settled;
use crate::tools::artifact::{ArtifactActor, ArtifactMsg, ArtifactTools};
use crate::tools::bash::{BashActor, BashMsg, BashTools};
use crate::tools::beads::{BeadTools, BeadsActor, BeadsMsg};
use crate::tools::file::{FileActor, FileMsg, FileTools};
use crate::tools::manifest::Manifests;

/// A runtime's parts.
pub struct Wiring {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Random bits.
    pub randomness: Arc<dyn Randomness>,
    /// Makes ids.
    pub ids: Ids,
    /// The machine's boot.
    pub boot_id: Arc<str>,
    /// Whether no work is taken any more.
    pub closed: AtomicBool,
    /// The nodes of the tree, for those who look into it.
    pub nodes: Nodes,
    /// Running effects.
    pub effects: Running,
    /// What looks after jobs that outlive their threads' runs.
    pub care: Caring,
    /// Who listens to threads.
    pub hub: Hub,
    /// The tools on offer.
    pub catalogue: Catalogue,
    /// The store.
    pub store: Store,
    /// `/debug`.
    pub debug: Address<DebugMsg>,
    /// What it is started from.
    pub debug_args: DebugArgs,
    /// What `/checkpoint` hands out.
    pub checkpoint_tools: CheckpointTools,
    /// `/api`.
    pub api: Address<ApiMsg>,
    /// What it is started from; none: there is no `/api`.
    pub api_parts: Option<Arc<ApiParts>>,
    /// `/gateway`.
    pub gateway: Address<GatewayMsg>,
    /// Who answers behind it.
    pub upstream: Arc<dyn Gateway>,
    /// A running thread without an event for so long says that it is stalled.
    pub stalled_after: Duration,
    /// How often and how long it is asked again.
    pub retry: RetryPolicy,
    /// What models cost.
    pub prices: BTreeMap<String, Price>,
    /// Models that are asked when the wanted one cannot be had.
    pub fallback_models: Arc<[String]>,
    /// Which calls may be made.
    pub policy: Policy,
    /// `/checkpoint`.
    pub checkpoint: Address<CheckpointMsg>,
    /// `/tools/file`.
    pub file: Address<FileMsg>,
    /// What its calls share.
    pub file_tools: FileTools,
    /// What commands change in workspaces.
    pub manifests: Manifests,
    /// `/tools/bash`.
    pub bash: Address<BashMsg>,
    /// What its calls share.
    pub bash_tools: BashTools,
    /// `/tools/artifact`.
    pub artifact: Address<ArtifactMsg>,
    /// `/tools/beads`.
    pub beads: Address<BeadsMsg>,
    /// `/tools`.
    pub tools: SupervisorRef<Wiring>,
    /// `/threads`.
    pub threads: SupervisorRef<Wiring>,
    /// The stable addresses of threads' agents, for as long as somebody holds them: the agent's node, or who writes to it.
    pub agents: Guarded<std::collections::HashMap<ThreadId, WeakAddress<AgentMsg>>>,
    /// How threads begin of which nothing is durable yet.
    pub origins: Guarded<std::collections::HashMap<ThreadId, Arc<Origin>>>,
}

impl Wiring {
    /// The stable address of a thread's agent, running or not.
    pub fn agent(&self, thread: ThreadId) -> Address<AgentMsg> {
        self.agents.with(|agents| {
            if let Some(held) = agents.get(&thread).and_then(WeakAddress::upgrade) {
                return held;
            }
            agents.retain(|_, address| address.is_held());
            let new = Address::new(format!("/threads/{thread}/agent"), lakitu_kernel::supervise::MAILBOX_CAPACITY);
            agents.insert(thread, new.downgrade());
            new
        })
    }

    /// Puts an effect under way, unless it is. Past its deadline it has ended, whatever it waits for.
    pub(crate) fn begin<F: Future<Output = Done> + Send + 'static>(
        &self,
        key: Key,
        within: Option<Duration>,
        work: impl FnOnce(Lease) -> F,
    ) {
        let within = within.map(|within| (within, late(key.work, within)));
        self.effects.begin_within(key, within, work, move |text| failed(key.work, text));
    }
}

/// What becomes of an effect whose own code failed. A call is settled by its class, by its thread.
fn failed(work: Work, text: String) -> Done {
    let error = ToolError::new(ErrorCode::Internal, format!("a fault of the runtime: {text}"));
    match work {
        Work::Model { .. } => Done::NoAnswer(ModelFailure { class: FailureClass::Fatal, error }),
        Work::Prepare(_) => Done::Prepared(Err(error)),
        Work::Examine(_) => Done::Examined(Settled::Outcome(error.into())),
        Work::Tool(..) | Work::PutBack(_) => Done::Panicked(text),
        Work::EndJobs | Work::Stop | Work::Bury => Done::Over,
    }
}

/// What becomes of an effect that misses its deadline.
fn late(work: Work, within: Duration) -> Done {
    match work {
        Work::Model { .. } | Work::Prepare(_) | Work::Tool(..) | Work::PutBack(_) | Work::Examine(_) => {
            Done::Late(within)
        }
        Work::EndJobs | Work::Stop | Work::Bury => Done::Over,
    }
}

impl Wire<StoreActor> for Wiring {
    fn args(&self) -> StoreArgs {
        self.store.args()
    }

    fn address(&self) -> Address<<StoreActor as Service>::Msg> {
        self.store.address().clone()
    }
}

impl Wire<GatewayActor> for Wiring {
    fn args(&self) -> GatewayArgs {
        GatewayArgs {
            upstream: self.upstream.clone(),
            policy: self.retry,
            fallback_models: self.fallback_models.clone(),
            randomness: self.randomness.clone(),
        }
    }

    fn address(&self) -> Address<GatewayMsg> {
        self.gateway.clone()
    }
}

impl Wire<CheckpointActor> for Wiring {
    fn args(&self) -> CheckpointTools {
        self.checkpoint_tools.clone()
    }

    fn address(&self) -> Address<CheckpointMsg> {
        self.checkpoint.clone()
    }
}

impl Wire<ArtifactActor> for Wiring {
    fn args(&self) -> ArtifactTools {
        let data = self.store.data().to_owned();
        ArtifactTools::new(self.store.clone(), data.clone(), crate::runtime::outputs(&data))
    }

    fn address(&self) -> Address<ArtifactMsg> {
        self.artifact.clone()
    }
}

impl Wire<BeadsActor> for Wiring {
    fn args(&self) -> BeadTools {
        BeadTools::new(self.store.clone(), self.clock.clone())
    }

    fn address(&self) -> Address<BeadsMsg> {
        self.beads.clone()
    }
}

impl Wire<FileActor> for Wiring {
    fn args(&self) -> FileTools {
        self.file_tools.clone()
    }

    fn address(&self) -> Address<FileMsg> {
        self.file.clone()
    }
}

impl Wire<BashActor> for Wiring {
    fn args(&self) -> BashTools {
        self.bash_tools.clone()
    }

    fn address(&self) -> Address<BashMsg> {
        self.bash.clone()
    }
}

impl Wire<Debug> for Wiring {
    fn args(&self) -> DebugArgs {
        self.debug_args.clone()
    }

    fn address(&self) -> Address<DebugMsg> {
        self.debug.clone()
    }
}
