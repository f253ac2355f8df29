//! `lakitu up`: the sandbox's entrypoint. A runtime that stays, goes on with what is unfinished, and takes work from
//! others until it is told to end.

pub(super) mod confinement;
mod orphans;
mod patient;
mod stop;

use lakitu_kernel::supervise::boxed;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_actors::gateway::Patience;
use lakitu_actors::store::{OpenStore, StoreError};
use lakitu_actors::threads::boot;
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_keeper::Zygote;
use lakitu_kernel::ToolError;
use lakitu_kernel::config::{Config, ConfineCommands};
use lakitu_kernel::event::{Asking, Settings};
use lakitu_kernel::ports::Gateway;
use tokio::task::JoinSet;

use self::orphans::Orphans;
use self::patient::Patient;
use self::stop::Deadline;
use super::args::{Global, UpArgs};
use super::hidden::Hidden;
use super::model::Wish;
use super::run::{NoModel, end, runtime};
use super::signals::Signals;
use super::{Failure, Prepared, complain, paths, put};
use crate::api;
use crate::session::{Opening, Session};

/// Where a sandbox has things, unless flags or configuration say otherwise.
const WORKSPACE: &str = "/home/user/workspace";
const ARTIFACTS: &str = "/home/user/artifacts";
const DATA: &str = "/home/user/.lakitu";

/// `lakitu up`
pub(super) fn up(global: &Global, args: &UpArgs, prepared: Prepared) -> Result<u8, Failure> {
    let mut config = paths::config(global)?;
    if config.confine.commands == ConfineCommands::Auto {
        config.confine.commands = ConfineCommands::Off;
    }
    let place = Place::of(global, args, &config)?;
    let zygote = prepared.zygote.map(Arc::new);
    let Some(parent) = zygote.clone() else {
        return Err(Failure::other("no zygote was forked: commands cannot be run"));
    };
    // A sandbox may be given its token later.
    let wish = Wish { later: true, ..Wish::of(&args.source, &config, &prepared.secrets) };
    let hidden = place.hidden(args.source.token_file.as_deref(), &config)?;
    let (upstream, model) = model(&wish)?;
    let serves = place.settings(model, &config);
    let api = api::parts(&config.api, &place.data, serves.clone());
    let api = api.map_err(|error| paths::not_had(&place.data, place.owned().unwrap_or(error)))?;
    paths::make(&place.data, Some(&place.artifacts))?;
    let at = api.door.at();
    let deadline = Deadline::new(config.shutdown());
    // As many workers as a small sandbox has cores.
    let exit = runtime(2)?.block_on(async {
        let signals = Signals::outliving_a_terminal()?;
        let _orphans = Orphans::reap_all_but(parent.pid())?;
        let opening = Opening {
            config: config.clone(),
            data: place.data.clone(),
            upstream,
            starter: KeeperStarter::Zygote(parent.clone()),
            hidden,
            exit: Some(Box::new(super::give_up)),
            log: Some(Arc::new(super::log::start()?)),
            patience: Some(Patience::Endless),
            serves: Some(serves),
            api: Some(api),
            reader: crate::cli::reader(),
        };
        let session = Session::open(opening).await.map_err(|error| paths::not_had(&place.data, error))?;
        let outcome = match ready(&session, &parent, at, &config).await {
            Ok(()) => {
                serve(&session, &signals, &config).await;
                Ok(0)
            }
            Err(failure) => Err(failure),
        };
        deadline.begin();
        stop::stop(session, &deadline).await;
        outcome
    });
    drop(parent);
    end(zygote)?;
    deadline.reached_the_end();
    orphans::end_all(deadline.left());
    exit
}

/// Who answers for the model. Where nobody does, that is said to whoever wants something of one.
fn model(wish: &Wish<'_>) -> Result<(Arc<dyn Gateway>, String), Failure> {
    match wish.choose() {
        Ok(chosen) => Ok((Arc::new(Patient(chosen.gateway()?)), chosen.model)),
        Err(failure) if failure.is_no_model() => {
            complain(&format!("{failure} Until then every prompt is refused."));
            Ok((Arc::new(NoModel(failure.message)), String::new()))
        }
        Err(failure) => Err(failure),
    }
}

/// Until it is told to end.
async fn serve(session: &Session, signals: &Signals, config: &Config) {
    let mut boot = JoinSet::new();
    let wiring = session.runtime().wiring.clone();
    // Without a model every thread would be stopped where it stands.
    if wiring.upstream.missing().is_none() {
        let at_a_time = usize::try_from(config.limits.boot_threads).unwrap_or(usize::MAX);
        boot.spawn(boxed(boot::go_on(wiring, at_a_time)));
    }
    tokio::select! {
        () = signals.first() => {}
        ended = session.gave_up() => super::give_up(format!("{ended:?}; what was unfinished goes on at the next start")),
    }
}

/// Says that everything is up.
async fn ready(session: &Session, zygote: &Arc<Zygote>, api: SocketAddr, config: &Config) -> Result<(), Failure> {
    let wiring = &session.runtime().wiring;
    let (nodes, data) = (&wiring.nodes, wiring.store.data());
    let confinement = confinement::words(zygote, data, config).await;
    if let Some(down) = nodes.not_running_permanent().into_iter().next() {
        let why = nodes.node(&down).and_then(|node| node.last_error).unwrap_or_default();
        return Err(Failure::other(format!("{down} does not come up: {why}")));
    }
    let socket = data.join(lakitu_actors::debug::protocol::SOCKET);
    let socket = if nodes.node("/debug").is_some() { socket.display().to_string() } else { "none".to_owned() };
    let pid = std::process::id();
    let line = format!("lakitu ready api=http://{api} socket={socket} pid={pid} confinement={confinement}\n");
    if let Err(failure) = put(&line) {
        // Nobody may be there to read it; the work does not need them.
        complain(&failure.message);
    }
    Ok(())
}

/// Where things are.
struct Place {
    workspace: PathBuf,
    artifacts: PathBuf,
    data: PathBuf,
}

impl Place {
    fn of(global: &Global, args: &UpArgs, config: &Config) -> Result<Self, Failure> {
        let paths = &config.paths;
        let or = |flag: &Option<PathBuf>, configured: &Option<PathBuf>, usual: &str| {
            flag.as_ref().or(configured.as_ref()).cloned().unwrap_or_else(|| PathBuf::from(usual))
        };
        let workspace = or(&args.workspace, &paths.workspace, WORKSPACE);
        let workspace = paths::workspace(Some(&workspace), config)?;
        let data = paths::plain(&or(&global.data, &paths.data, DATA), "data directory")?;
        let artifacts = paths::plain(&or(&args.artifacts, &paths.artifacts, ARTIFACTS), "artifacts directory")?;
        Ok(Self { workspace, artifacts, data })
    }

    /// What commands must not see. The token's directory is made where it is missing: the token may come later, and what
    /// is not there when a command starts cannot be hidden from it.
    fn hidden(&self, token_file: Option<&Path>, config: &Config) -> Result<Vec<PathBuf>, Failure> {
        if let Some(folder) = token_file.or(config.gateway.token_file.as_deref()).and_then(Path::parent) {
            let _ = std::fs::create_dir_all(folder); // whoever brings the token is told why not
        }
        let hidden = Hidden::of(token_file, config, Some(&self.data), &[&self.workspace, &self.artifacts])?;
        hidden.prepare();
        if let Some(token) = hidden.seen_when_replaced() {
            complain(&format!(
                "the token file {} is not alone in its directory: commands that run while somebody replaces it can read \
                 it. Put it into a directory of its own.",
                token.display()
            ));
        }
        Ok(hidden.paths)
    }

    /// Another process owns the data: of two `up`s this is what is wrong, whatever else the second one finds taken.
    fn owned(&self) -> Option<ToolError> {
        match OpenStore::read_only(&self.data) {
            Err(error @ StoreError::Busy { .. }) => Some(error.into()),
            Ok(_) | Err(_) => None,
        }
    }

    /// How threads begin here.
    fn settings(&self, model: String, config: &Config) -> Settings {
        Settings {
            model,
            mode: lakitu_kernel::mode::Mode::Build,
            workspace: self.workspace.clone(),
            artifacts: self.artifacts.clone(),
            max_turns: Some(config.limits.max_turns).filter(|turns| *turns > 0),
            timeout_ms: None,
            // Whoever speaks to the API can be asked by it.
            asking: Asking { every_change: false, somebody: true },
        }
    }
}
