//! What the socket can be asked about states of threads: checkpoints, forks, replays.

use lakitu_kernel::{ErrorCode, ToolError};
use serde_json::{Value, json};

use super::Shared;
use super::protocol::{CheckpointsCreate, CheckpointsRestore, RpcError, ThreadsFork, ThreadsReplay};
use super::runs::wiring;
use crate::checkpoint::CreateArgs;
use crate::threads::desk::Desk;
use crate::threads::{Threads, replay as again};

/// `threads.fork`
pub(super) async fn fork(shared: &Shared, asked: ThreadsFork) -> Result<Value, RpcError> {
    let threads = Threads::new(wiring(shared)?);
    let ThreadsFork { id, at_seq, workspace } = asked;
    if workspace.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(ToolError::new(ErrorCode::InvalidArguments, "`workspace` is an absolute path").into());
    }
    let forked = threads.fork(id, at_seq, workspace).await?;
    Ok(json!(forked))
}

/// `threads.replay`
pub(super) async fn replay(shared: &Shared, asked: ThreadsReplay) -> Result<Value, RpcError> {
    let wiring = wiring(shared)?;
    let replayed = again::replay(&wiring.store, asked.id).await?;
    Ok(json!(replayed))
}

/// `checkpoints.create`
pub(super) async fn create(shared: &Shared, asked: CheckpointsCreate) -> Result<Value, RpcError> {
    Ok(made(&Desk::new(wiring(shared)?), asked).await?)
}

/// `checkpoints.restore`
pub(super) async fn restore(shared: &Shared, asked: CheckpointsRestore) -> Result<Value, RpcError> {
    let went = Threads::new(wiring(shared)?).restore(asked.id, asked.force).await?;
    Ok(json!(went))
}

/// Makes a checkpoint of a thread, or of the newest.
pub async fn made(desk: &Desk, asked: CheckpointsCreate) -> Result<Value, ToolError> {
    let CheckpointsCreate { thread, name, next_task } = asked;
    let id = desk.checkpoint(thread, CreateArgs { name, next_task }).await?;
    Ok(json!({ "id": id, "thread": id.thread }))
}
