//! `/tools/artifact`: the door to the tools of artifacts: named results that stay. Parent `/tools`, permanent; everything
//! stands in rows and files.
//!
//! A version's content is a blob, and its row stands in the step of its call's result. Beside that its content stands in
//! the artifacts directory, as `<thread>/<name>`, for those who look into files: written first, whole or not at all, so
//! that a call that is run again writes it again, and what has a row has a file.

mod look;
mod save;

pub use look::{ARTIFACT_LIST, ARTIFACT_READ};
pub use save::ARTIFACT_SAVE;

use std::path::PathBuf;

use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError};
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{ErrorCode, ToolError};

use crate::store::Store;
use crate::tools::Ask;

/// What `/tools/artifact` can be told.
#[derive(Debug)]
pub enum ArtifactMsg {
    /// A call wants in.
    Enter {
        /// Gets what the calls share.
        reply: Reply<ArtifactTools>,
    },
}

impl Message for ArtifactMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Enter { .. } => "Enter",
        }
    }
}

/// The actor at `/tools/artifact`.
pub struct ArtifactActor {
    tools: ArtifactTools,
}

impl Service for ArtifactActor {
    type Msg = ArtifactMsg;
    type Args = ArtifactTools;
    const KIND: &'static str = "tool";

    async fn start(tools: ArtifactTools, _: Me<ArtifactMsg>) -> Result<Self, StartError> {
        Ok(Self { tools })
    }

    async fn handle(&mut self, msg: ArtifactMsg) -> Result<(), Crash> {
        match msg {
            ArtifactMsg::Enter { reply } => reply.send(self.tools.clone()),
        }
        Ok(())
    }
}

/// What the calls share.
#[derive(Clone)]
pub struct ArtifactTools {
    store: Store,
    /// The runtime's own directory, out of the agent's reach …
    data: PathBuf,
    /// … but for this.
    outputs: PathBuf,
}

impl std::fmt::Debug for ArtifactTools {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ArtifactTools")
    }
}

impl ArtifactTools {
    /// Over this store. Of `data` calls reach `outputs` alone.
    pub fn new(store: Store, data: PathBuf, outputs: PathBuf) -> Self {
        Self { store, data, outputs }
    }

    /// Runs a call.
    pub async fn run(&self, ask: &Ask) -> Result<ToolOutcome, ToolError> {
        crash_point(CrashPoint::BeforeEffect);
        let outcome = match ask.call.tool {
            tool if tool == ARTIFACT_SAVE.name => save::run(self, ask).await,
            tool if tool == ARTIFACT_READ.name => look::read(&self.store, ask).await,
            tool if tool == ARTIFACT_LIST.name => look::list(&self.store, ask).await,
            _ => Err(ToolError::new(ErrorCode::UnknownTool, "there is no such tool")),
        };
        crash_point(CrashPoint::AfterEffect);
        outcome
    }
}
