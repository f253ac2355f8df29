//! What the socket can be asked.

use lakitu_kernel::supervise::{ControlError, Fault, FaultKind};
use lakitu_kernel::{ErrorCode, ToolError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::{
    CheckpointsLs, DbBackup, DbDump, DbGet, EditsDiff, EditsLs, FaultName, INVALID_PARAMS, Inject, Log,
    METHOD_NOT_FOUND, Nothing, OnPath, PROTOCOL, RpcError, ThreadsEvents, ThreadsLs, ThreadsShow,
};
use super::{Shared, rows};
use crate::store::{Reading, StoreError};

/// A filter's text, in bytes.
const FILTER_BYTES_MAX: usize = 1024;
/// The longest delay that can be injected: 10 min.
const FAULT_MS_MAX: u64 = 600_000;
const FAULT_MS: u64 = 1000;

type Outcome = Result<Value, RpcError>;

/// Everything but `watch` and what `runs` answers, which belong to their connection.
pub(super) async fn call(shared: &Shared, method: &str, given: Value) -> Outcome {
    match method {
        "tree" => params::<Nothing>(given).and_then(|_| json_of(&shared.nodes.tree())),
        "inspect" => inspect(shared, &params::<OnPath>(given)?.path),
        "restart" => on_node(&params::<OnPath>(given)?.path, |path| shared.nodes.restart(path)),
        "stop" => on_node(&params::<OnPath>(given)?.path, |path| shared.nodes.stop(path)),
        "inject" => inject(shared, &params(given)?),
        "log" => log(shared, &params(given)?),
        "version" => params::<Nothing>(given).map(|_| version(shared)),
        "threads.ls" => read::<ThreadsLs>(shared, given, rows::threads_ls).await,
        "threads.show" => {
            read::<ThreadsShow>(shared, given, |reading, params| rows::threads_show(reading, params.id)).await
        }
        "threads.events" => read::<ThreadsEvents>(shared, given, rows::threads_events).await,
        "threads.fork" => super::kept::fork(shared, params(given)?).await,
        "threads.replay" => super::kept::replay(shared, params(given)?).await,
        "checkpoints.ls" => read::<CheckpointsLs>(shared, given, rows::checkpoints_ls).await,
        "checkpoints.create" => super::kept::create(shared, params(given)?).await,
        "checkpoints.restore" => super::kept::restore(shared, params(given)?).await,
        "artifacts.ls" => read::<super::artifacts::ArtifactsLs>(shared, given, super::artifacts::ls).await,
        "artifacts.get" => read::<super::artifacts::ArtifactsGet>(shared, given, super::artifacts::get).await,
        "beads.ls" => read::<super::beads::BeadsLs>(shared, given, super::beads::ls).await,
        "beads.ready" => read::<super::beads::BeadsReady>(shared, given, super::beads::ready).await,
        "beads.show" => read::<super::beads::BeadsShow>(shared, given, super::beads::show).await,
        "beads.export" => read::<super::beads::BeadsExport>(shared, given, super::beads::export).await,
        "beads.change" => super::beads::on_socket(shared, params(given)?).await,
        "threads.approve" => super::runs::approve(shared, params(given)?).await,
        "threads.cancel" => super::runs::cancel(shared, params(given)?).await,
        "threads.stop" => super::runs::stop(shared, params(given)?).await,
        "edits.ls" => read::<EditsLs>(shared, given, super::edits::edits_ls).await,
        "edits.diff" => read::<EditsDiff>(shared, given, super::edits::edits_diff).await,
        "edits.rollback" => super::edits::on_socket(shared, params(given)?).await,
        "db.tables" => read::<Nothing>(shared, given, |reading, _| rows::db_tables(reading)).await,
        "db.get" => read::<DbGet>(shared, given, rows::db_get).await,
        "db.dump" => read::<DbDump>(shared, given, rows::db_dump).await,
        "db.verify" => verify(shared, given).await,
        "db.backup" => backup(shared, given).await,
        "db.compact" => compact(shared, given).await,
        _ => {
            let name: String = method.chars().take(64).collect();
            Err(RpcError::new(METHOD_NOT_FOUND, format!("there is no method {name:?}")))
        }
    }
}

/// The parameters as the method takes them: by name.
pub(super) fn params<T: DeserializeOwned>(given: Value) -> Result<T, RpcError> {
    if !given.is_object() {
        return Err(RpcError::new(INVALID_PARAMS, "parameters are given by name, in an object"));
    }
    serde_json::from_value(given).map_err(|error| RpcError::new(INVALID_PARAMS, error.to_string()))
}

fn json_of(value: &impl Serialize) -> Outcome {
    serde_json::to_value(value).map_err(|error| RpcError::failed(ErrorCode::Internal, error.to_string()))
}

fn inspect(shared: &Shared, path: &str) -> Outcome {
    let found = shared.nodes.inspect(path).ok_or_else(|| ControlError::NotFound(path.to_owned()));
    json_of(&found.map_err(refused)?)
}

fn on_node(path: &str, wish: impl FnOnce(&str) -> Result<(), ControlError>) -> Outcome {
    wish(path).map_err(refused)?;
    Ok(json!({ "path": path }))
}

fn refused(error: ControlError) -> RpcError {
    let code = match &error {
        ControlError::NotFound(_) | ControlError::Root => ErrorCode::InvalidArguments,
        ControlError::Unavailable(_) => ErrorCode::Unavailable,
    };
    let message = match &error {
        // The text is the client's own, of any length.
        ControlError::NotFound(path) if path.len() > 256 => "there is no node with such a long path".to_owned(),
        ControlError::NotFound(_) | ControlError::Root | ControlError::Unavailable(_) => error.to_string(),
    };
    RpcError::failed(code, message)
}

fn inject(shared: &Shared, wish: &Inject) -> Outcome {
    if !shared.fault_injection {
        let message = "fault injection is off: set `debug.fault_injection = true` and start the runtime again";
        return Err(RpcError::failed(ErrorCode::PermissionDenied, message));
    }
    let kind = match wish.fault {
        FaultName::Panic => FaultKind::Panic,
        FaultName::Hang => FaultKind::Hang,
        FaultName::Slow => FaultKind::Slow,
        FaultName::Error => FaultKind::Error,
    };
    let ms = wish.ms.unwrap_or(FAULT_MS);
    if ms > FAULT_MS_MAX {
        return Err(RpcError::new(INVALID_PARAMS, format!("`ms` is at most {FAULT_MS_MAX}")));
    }
    let fault = Fault { kind, ms, times: wish.times.unwrap_or(1) };
    on_node(&wish.path, |path| shared.nodes.inject(path, fault))
}

fn log(shared: &Shared, wish: &Log) -> Outcome {
    if wish.level.len() > FILTER_BYTES_MAX {
        return Err(RpcError::new(INVALID_PARAMS, format!("`level` has at most {FILTER_BYTES_MAX} bytes")));
    }
    shared.log.set(&wish.level).map_err(|why| RpcError::new(INVALID_PARAMS, why))?;
    Ok(json!({ "level": wish.level }))
}

fn version(shared: &Shared) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL,
        "pid": std::process::id(),
        "data": shared.data.to_string_lossy(),
        // Where runs can be handed over: the workspace of those that name none.
        "up": shared.counter.get().and_then(super::runs::Counter::workspace),
    })
}

type Question = Box<dyn FnOnce(&Reading) -> Result<Value, ToolError> + Send>;

/// Asks the store something, in one read transaction.
async fn read<P: DeserializeOwned + Send + 'static>(
    shared: &Shared,
    given: Value,
    question: fn(&Reading, P) -> Result<Value, ToolError>,
) -> Outcome {
    let asked = params::<P>(given)?;
    put(shared, Box::new(move |reading| question(reading, asked))).await
}

/// Behind one type, because there are many types of questions.
async fn put(shared: &Shared, question: Question) -> Outcome {
    let _place = shared.reads.acquire().await;
    // An error of the question itself is no error of the read.
    let answer = shared.store.read(move |reading| Ok(question(reading))).await;
    Ok(answer.map_err(store_failed)??)
}

async fn verify(shared: &Shared, given: Value) -> Outcome {
    params::<Nothing>(given)?;
    let _place = shared.verifying.acquire().await;
    let findings = shared.store.verify().await.map_err(store_failed)?;
    Ok(rows::findings(&findings))
}

async fn backup(shared: &Shared, given: Value) -> Outcome {
    let asked = params::<DbBackup>(given)?;
    // It keeps old pages as long as a look at everything does: one of them at a time.
    let _place = shared.verifying.acquire().await;
    json_of(&shared.store.backup(asked.to).await.map_err(store_failed)?)
}

async fn compact(shared: &Shared, given: Value) -> Outcome {
    params::<Nothing>(given)?;
    // A look at everything would be broken off.
    let _place = shared.verifying.acquire().await;
    json_of(&shared.store.compact().await.map_err(store_failed)?)
}

fn store_failed(error: StoreError) -> RpcError {
    ToolError::from(error).into()
}
