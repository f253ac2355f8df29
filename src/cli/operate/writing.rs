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
    if !OpenStore::exists(operator.data) && matches!(Client::connect(operator.data), Err(ClientError::NoRuntime)) {
        let message = format!("{} holds no database", operator.data.display());
        return Err(Refusal::new(super::USAGE, message).into());
    }
    let done = write_all(operator, method, std::slice::from_ref(asked), async |session, _| here(session).await)?;
    Ok(done.into_iter().next().unwrap_or_default())
}

/// The same several times, one after the other, up to the first that is refused. Where there is no database yet, one is
/// made.
pub(super) fn write_all<P: Serialize>(
    operator: &Operator<'_>,
    method: &str,
    asked: &[P],
    here: impl AsyncFn(&Session, &P) -> Result<Value, ToolError>,
) -> anyhow::Result<Vec<Value>> {
    let begun = Instant::now();
    loop {
        match Client::connect(operator.data) {
            Ok(mut client) => {
                return asked.iter().map(|asked| client.call(method, asked).map_err(refused_there)).collect();
            }
            Err(ClientError::NoRuntime) => {}
            Err(error) => return Err(error.into()),
        }
        match alone(operator, asked, &here) {
            Err(error) if error.code == ErrorCode::StoreBusy && begun.elapsed() < OWNER_ANSWERS_WITHIN => {
                std::thread::park_timeout(ASKED_EVERY);
            }
            Err(error) => return Err(refused(not_had(operator.data, error))),
            Ok(done) => return done.map_err(refused),
        }
    }
}

/// Ends what a killed command was putting back, where nobody owns the store: a runtime that does has ended it when it came
/// up.
pub(super) fn end_put_backs(operator: &mut Operator<'_>) -> anyhow::Result<()> {
    let open = OpenStore::read_only(operator.data).and_then(|store| store.read()?.restorings());
    // What cannot be read is told by whoever is asked next.
    if open.is_ok_and(|open| !open.is_empty())
        && let Err(error) = alone(operator, &[(); 0], async |_, ()| Ok(Value::Null))
    {
        writeln!(operator.err, "lakitu: files that were being put back are not: {}", printable(&error.to_string()))?;
    }
    Ok(())
}

/// With a runtime of this process. It runs nothing: no model is asked and no command begins.
/// Outside are what kept it from coming up.
fn alone<P>(
    operator: &Operator<'_>,
    asked: &[P],
    here: impl AsyncFn(&Session, &P) -> Result<Value, ToolError>,
) -> Result<Result<Vec<Value>, ToolError>, ToolError> {
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
        let done = async {
            let mut all = Vec::new();
            for asked in asked {
                all.push(here(&session, asked).await?);
            }
            Ok(all)
        };
        let done = done.await;
        session.close().await;
        Ok(done)
    })
}
