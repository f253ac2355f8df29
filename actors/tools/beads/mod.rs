//! `/tools/beads`: the door to the tools of the durable task graph. Parent `/tools`, permanent; everything stands in rows.
//!
//! What a call changes is decided and written in one transaction of the store, under the position of its intent: run
//! again, it finds what came of it. What can be done to beads, and what follows, is in `planning`.

mod change;
mod look;
mod told;

pub use change::{BEADS_CLOSE, BEADS_CREATE, BEADS_DEP, BEADS_UPDATE};
pub use look::{BEADS_GET, BEADS_LIST, BEADS_READY};

use std::sync::Arc;

use lakitu_kernel::bead::BeadChange;
use lakitu_kernel::clock::Clock;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError};
use lakitu_kernel::tool::{EffectClass, ToolOutcome};
use lakitu_kernel::{ErrorCode, ToolError};

use crate::planning::{self, Done};
use crate::store::{BeadKey, ChangeBeads, Store};
use crate::tools::Ask;

/// What `/tools/beads` can be told.
#[derive(Debug)]
pub enum BeadsMsg {
    /// A call wants in.
    Enter {
        /// Gets what the calls share.
        reply: Reply<BeadTools>,
    },
}

impl Message for BeadsMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Enter { .. } => "Enter",
        }
    }
}

/// The actor at `/tools/beads`.
pub struct BeadsActor {
    tools: BeadTools,
}

impl Service for BeadsActor {
    type Msg = BeadsMsg;
    type Args = BeadTools;
    const KIND: &'static str = "tool";

    async fn start(tools: BeadTools, _: Me<BeadsMsg>) -> Result<Self, StartError> {
        Ok(Self { tools })
    }

    async fn handle(&mut self, msg: BeadsMsg) -> Result<(), Crash> {
        match msg {
            BeadsMsg::Enter { reply } => reply.send(self.tools.clone()),
        }
        Ok(())
    }
}

/// What the calls share.
#[derive(Clone)]
pub struct BeadTools {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for BeadTools {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("BeadTools")
    }
}

impl BeadTools {
    /// Over this store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Runs a call.
    pub async fn run(&self, ask: &Ask) -> Result<ToolOutcome, ToolError> {
        crash_point(CrashPoint::BeforeEffect);
        let reads = crate::tools::CATALOGUE.get(ask.call.tool).is_some_and(|spec| spec.effect == EffectClass::Read);
        let outcome = if reads { look::run(&self.store, ask).await } else { self.change(ask).await };
        crash_point(CrashPoint::AfterEffect);
        outcome
    }

    async fn change(&self, ask: &Ask) -> Result<ToolOutcome, ToolError> {
        let change = change::asked(ask)?;
        // The holder of what is claimed is the thread.
        let (key, by) = (BeadKey::Call(ask.call.thread, ask.call.intent), ask.call.thread.to_string());
        let asked = ChangeBeads { key, by, at: self.clock.now(), change };
        let Done::Bead(changed) = planning::change(&self.store, asked).await? else {
            return Err(ToolError::new(ErrorCode::Internal, "an answer to something else"));
        };
        let mut outcome = ToolOutcome::ok(told::changed(ask.call.tool, &changed));
        if !changed.unchanged {
            let planning::Changed { id, status, freed, .. } = *changed;
            outcome.bead = Some(Box::new(BeadChange { id, status, freed }));
        }
        Ok(outcome)
    }
}
