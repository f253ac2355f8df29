//! What an operator has written: by the runtime that owns the store, or by one that is brought up for it in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakitu_actors::store::OpenStore;
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_kernel::config::{Config, ConfineCommands};
use lakitu_kernel::{ErrorCode, ToolError};
use serde::Serialize;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::source::{refused, refused_there};
use super::{Operator, Refusal, printable};
use crate::cli::paths::not_had;
use crate::cli::run::NoModel;
use crate::session::{Opening, Session};

/// A runtime owns the store a moment before it answers, and a moment after it has stopped to.
const OWNER_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const ASKED_EVERY: Duration = Duration::from_millis(20);

/// Has `method` done by the runtime that owns the store; `here` does the same where there is none.
pub(super) fn write<P: Serialize>(
    operator: &Operator<'_>,
    method: &str,
    asked: &P,
    here: impl AsyncFn(&Session) -> Result<Value, ToolError>,
) -> anyhow::Result<Value> {
    let begun = Instant::now();
    loop {
        match Client::connect(operator.data) {
            Ok(mut client) => return client.call(method, asked).map_err(refused_there),
            Err(ClientError::NoRuntime) => {}
            Err(error) => return Err(error.into()),
        }
        if !OpenStore::exists(operator.data) {
            let message = format!("{} holds no database", operator.data.display());
            return Err(Refusal::new(super::USAGE, message).into());
        }
        match alone(operator, &here) {
            Err(error) if error.code == ErrorCode::StoreBusy && begun.elapsed() < OWNER_ANSWERS_WITHIN => {
                std::thread::park_timeout(ASKED_EVERY);
            }
            Err(error) => return Err(refused(not_had(operator.data, error))),
            Ok(value) => return Ok(value),
        }
    }
}

/// Ends what a killed command was putting back, where nobody owns the store: a runtime that does has ended it when it came
/// up.
pub(super) fn end_put_backs(operator: &mut Operator<'_>) -> anyhow::Result<()> {
    let open = OpenStore::read_only(operator.data).and_then(|store| store.read()?.restorings());
    // What cannot be read is told by whoever is asked next.
    if open.is_ok_and(|open| !open.is_empty())
        && let Err(error) = alone(operator, async |_| Ok(Value::Null))
    {
        writeln!(operator.err, "lakitu: files that were being put back are not: {}", printable(&error.to_string()))?;
    }
    Ok(())
}

/// With a runtime of this process. It runs nothing: no model is asked and no command begins.
fn alone(
    operator: &Operator<'_>,
    here: impl AsyncFn(&Session) -> Result<Value, ToolError>,
) -> Result<Value, ToolError> {
    let mut config = Config::default();
    config.debug.socket = false;
    config.confine.commands = ConfineCommands::Off;
    let opening = Opening {
        config,
        data: operator.data.to_owned(),
        upstream: Arc::new(NoModel("this command asks no model".to_owned())),
        // Never started.
        starter: KeeperStarter::Helper(PathBuf::from("/nonexistent")),
        hidden: Vec::new(),
        exit: None,
        log: None,
        patience: None,
        serves: None,
        api: None,
        reader: crate::cli::reader(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| ToolError::new(ErrorCode::Internal, format!("no async runtime: {error}")))?;
    runtime.block_on(async {
        let session = Session::open(opening).await?;
        let done = here(&session).await;
        session.close().await;
        done
    })
}
