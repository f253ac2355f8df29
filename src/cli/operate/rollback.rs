//! `lakitu edits rollback`: in the runtime that owns the data; where there is none, in one that is brought up for it.

use std::path::Path;
use std::sync::Arc;

use lakitu_actors::debug::edits::rollback as taken_back;
use lakitu_actors::debug::protocol::EditsRollback;
use lakitu_actors::store::OpenStore;
use lakitu_actors::tools::bash::KeeperStarter;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::edits::RollbackArgs;
use super::edits::named;
use super::source::refused_there;
use super::threads::text;
use super::{Operator, Refusal, printable};
use crate::cli::args::Global;
use crate::cli::run::{NoModel, end, runtime};
use crate::cli::{Failure, Prepared, paths};
use crate::session::{Opening, Session};

/// Takes edits back.
pub(super) fn rollback(
    operator: &mut Operator<'_>,
    args: &RollbackArgs,
    (global, prepared): (&Global, Prepared),
) -> anyhow::Result<()> {
    let RollbackArgs { edit, force, reason } = args.clone();
    let asked = EditsRollback { edit, reason, force };
    let there = match Client::connect(operator.data) {
        Ok(mut client) => Some(client.call("edits.rollback", &asked).map_err(refused_there)?),
        Err(ClientError::NoRuntime) => None,
        Err(error) => return Err(error.into()),
    };
    let zygote = prepared.zygote.map(Arc::new);
    let done = match (there, zygote.clone()) {
        (Some(done), _) => Ok(done),
        (None, Some(zygote)) => here(operator.data, global, KeeperStarter::Zygote(zygote), asked),
        (None, None) => Err(Failure::other("no zygote was forked: a thread's commands cannot be ended")),
    };
    let ended = end(zygote);
    let done = done.map_err(refused)?;
    ended.map_err(refused)?;
    if operator.json {
        return operator.print_json(&done);
    }
    // Each path once, as its first change found it.
    let mut paths = std::collections::BTreeMap::new();
    for edit in done["edits"].as_array().into_iter().flatten() {
        paths.entry(text(&edit["path"])).or_insert(edit["before"].is_null());
    }
    paths.iter().try_for_each(|(path, new)| {
        let what = if *new { "removed again" } else { "as it was" };
        operator.line(&format!("{} is {what} before {}", named(path), printable(&args.edit)))
    })
}

/// In a runtime of this process, which ends with it. Nobody asks it for a model.
fn here(data: &Path, global: &Global, starter: KeeperStarter, asked: EditsRollback) -> Result<Value, Failure> {
    if !OpenStore::exists(data) {
        return Err(Failure::usage(format!("{} holds no database", data.display())));
    }
    let opening = Opening {
        config: paths::config(global)?,
        data: data.to_owned(),
        upstream: Arc::new(NoModel("an edit is taken back without a model".to_owned())),
        starter,
        hidden: Vec::new(),
        exit: Some(Box::new(crate::cli::give_up)),
        patience: None,
        serves: None,
        api: None,
        reader: crate::cli::reader(),
        log: Some(Arc::new(crate::cli::log::start()?)),
    };
    runtime(1)?.block_on(async move {
        let session = Session::open(opening).await.map_err(|error| paths::not_had(data, error))?;
        let done = taken_back(&session.threads(), &asked).await;
        session.close().await;
        Ok(done?)
    })
}

fn refused(failure: Failure) -> anyhow::Error {
    Refusal::new(failure.exit, failure.message).into()
}
