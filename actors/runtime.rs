//! A runtime: the wiring, the tree on it, and the watchdog beside it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakitu_kernel::clock::{Clock, Randomness, System};
use lakitu_kernel::config::{Config, Limits};
use lakitu_kernel::event::Settings;
use lakitu_kernel::id::Ids;
use lakitu_kernel::ports::Gateway;
use lakitu_kernel::supervise::{
    Address, Ended, Guarded, MAILBOX_CAPACITY, Nodes, Options, Root, RootHandle, StartError, SupervisorRef,
    WatchOptions, Watchdog,
};
use lakitu_kernel::{Seq, ThreadId};

use tokio::sync::Mutex;

use crate::api::ApiParts;
use crate::checkpoint::CheckpointTools;
use crate::debug::{DebugArgs, LogLevel};
use crate::effects::{Caring, Running};
use crate::gateway::{Patience, RetryPolicy};
use crate::root;
use crate::store::{Store, StoreOptions};
use crate::threads::Threads;
use crate::threads::agent::Origin;
use crate::threads::hub::Hub;
use crate::tools::bash::{BashSettings, BashTools, KeeperStarter};
use crate::tools::file::FileTools;
use crate::tools::file::pdf::Reader;
use crate::tools::manifest::Manifests;
use crate::wiring::Wiring;

/// What a runtime is made of.
pub struct Parts {
    /// The valid configuration.
    pub config: Config,
    /// The database, outputs, sockets.
    pub data: PathBuf,
    /// Who answers for the model.
    pub upstream: Arc<dyn Gateway>,
    /// Who starts keepers.
    pub starter: KeeperStarter,
    /// Files that commands must not see: tokens, keys.
    pub hidden: Vec<PathBuf>,
    /// The runtime's environment, of which commands get a part.
    pub env: Vec<(String, String)>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Random bits.
    pub randomness: Arc<dyn Randomness>,
    /// Changes the log's level.
    pub log: Arc<dyn LogLevel>,
    /// How long a model call is made again; none: as configured.
    pub patience: Option<Patience>,
    /// Ends the process when a core handler blocks its thread for good; none: nobody watches.
    pub exit: Option<Exit>,
    /// How threads begin that others start on this runtime; none: it is one run's own, and takes no others.
    pub serves: Option<Settings>,
    /// What the HTTP API is made of; none: there is no `/api`.
    pub api: Option<ApiParts>,
    /// Who turns documents into text.
    pub reader: Reader,
}

/// Ends the process, and says why.
pub type Exit = Box<dyn FnOnce(String) + Send>;

impl Parts {
    /// Parts on the system's clock and randomness, without secrets to hide.
    pub fn new(config: Config, data: PathBuf, upstream: Arc<dyn Gateway>, starter: KeeperStarter) -> Self {
        Self {
            config,
            data,
            upstream,
            starter,
            hidden: Vec::new(),
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            clock: Arc::new(System),
            randomness: Arc::new(System),
            log: Arc::new(crate::debug::Fixed),
            patience: None,
            exit: None,
            serves: None,
            api: None,
            reader: Reader::none(),
        }
    }
}

/// A running tree.
pub struct Runtime {
    /// Everything its actors reach.
    pub wiring: Arc<Wiring>,
    root: Mutex<RootHandle<Wiring>>,
    shutdown: Duration,
    _watchdog: Option<Watchdog>,
}

impl Runtime {
    /// Starts the tree. Its services come up while this returns: whoever asks them waits for them.
    pub async fn start(mut parts: Parts) -> Result<Self, StartError> {
        let limit = Duration::from_millis(parts.config.supervision.blocked_ms);
        let (exit, serves) = (parts.exit.take(), parts.serves.take());
        let (handler, shutdown) = (Duration::from_millis(parts.config.supervision.handler_ms), parts.config.shutdown());
        let randomness = parts.randomness.clone();
        let table = root::table(parts.config.debug.socket, parts.api.is_some());
        let wiring = Arc::new(wire(parts)?);
        listen_to_commands(&wiring);
        wiring.debug_args.open_counter(&wiring, serves);
        let watch = |exit: Exit| {
            Watchdog::start(&wiring.nodes, WatchOptions::within(limit), move |blocked| exit(format!("{blocked:?}")))
        };
        let watchdog = exit.map(watch).transpose()?;
        #[allow(clippy::cast_possible_truncation, reason = "any 64 of the bits do")]
        let random = Arc::new(move || randomness.u128() as u64);
        let options = Options { handler, random, ..Options::default() };
        let root = Root::start(wiring.clone(), table, wiring.nodes.clone(), options).await?;
        let root = Mutex::new(root);
        Ok(Self { wiring, root, shutdown, _watchdog: watchdog })
    }

    /// What callers do with threads.
    pub fn threads(&self) -> Threads {
        Threads::new(self.wiring.clone())
    }

    /// Waits until every service's first start has ended, well or not.
    pub async fn settled(&self) {
        self.root.lock().await.settled().await;
    }

    /// Waits for the root's end, which nobody asked for.
    pub async fn wait(&self) -> Ended {
        self.root.lock().await.wait().await
    }

    /// Begins no run from now on.
    pub fn take_no_more(&self) {
        self.wiring.closed.store(true, Ordering::Release);
    }

    /// Stops everything in order: no command begins from now on, the tree ends, then every command and its keeper.
    pub async fn stop(self) -> Ended {
        let limit = self.shutdown;
        self.end(limit).await
    }

    /// The same, all of it within this time.
    pub async fn stop_within(self, limit: Duration) -> Ended {
        self.end(limit / 2).await
    }

    /// Each of both has so much time.
    async fn end(self, limit: Duration) -> Ended {
        self.wiring.bash_tools.close();
        // What ends from here on was ended by the stop: whoever comes next writes it down.
        for key in self.wiring.care.keys() {
            self.wiring.care.cancel(&key);
        }
        let ended = self.root.into_inner().stop(limit).await;
        let commands = tokio::time::timeout(limit, self.wiring.bash_tools.shutdown());
        if commands.await.is_err() {
            tracing::error!("keepers did not end in time; their lease ends them");
        }
        ended
    }
}

/// Settings and prefix of a thread that starts now.
pub async fn origin(wiring: &Wiring, settings: Settings, prompt: String) -> Origin {
    let boundary = format!("untrusted-{:08x}", wiring.randomness.u128() >> 96);
    let prefix = crate::threads::prompt::prefix(&settings, &boundary, wiring.catalogue).await;
    Origin { settings, prefix, boundary, prompt, metadata: None }
}

fn retry(limits: &Limits, patience: Option<Patience>) -> RetryPolicy {
    let bounded = Patience::Bounded {
        attempts_max: limits.model_attempts,
        total_max: Duration::from_millis(limits.model_retry_ms),
    };
    let mut policy = RetryPolicy::with(patience.unwrap_or(bounded));
    policy.deadlines.first_byte = Duration::from_millis(limits.model_first_byte_ms);
    policy.deadlines.idle = Duration::from_millis(limits.model_idle_ms);
    policy
}

fn wire(parts: Parts) -> Result<Wiring, StartError> {
    let Parts {
        config,
        data,
        upstream,
        starter,
        hidden,
        env,
        clock,
        randomness,
        log,
        patience,
        exit: _,
        serves: _,
        api,
        reader,
    } = parts;
    let nodes = Nodes::new();
    let cache_bytes = usize::try_from(config.store.cache_mib * 1024 * 1024).unwrap_or(usize::MAX);
    let store = Store::new(StoreOptions { data: data.clone(), cache_bytes, clock: clock.clone() });
    let outputs_max = config.retention.outputs_mib * 1024 * 1024;
    let checkpoint_tools = CheckpointTools::new(store.clone(), clock.clone(), outputs_max);
    let debug_args = DebugArgs::new(&data, &config.debug, nodes.clone(), store.clone(), log);
    let bash = BashSettings {
        data: data.clone(),
        starter,
        lease_ms: config.keeper.lease_ms,
        job_lifetime: Duration::from_millis(config.keeper.job_lifetime_ms),
        hidden,
        namespaces: namespaces(config.keeper.namespaces),
        confine: config.confine.clone(),
        env,
    };
    Ok(Wiring {
        ids: Ids::new(clock.clone(), randomness.clone()),
        clock,
        randomness,
        boot_id: lakitu_keeper::boot_id()?.into(),
        closed: AtomicBool::new(false),
        nodes,
        effects: Running::new(),
        care: Caring::new(),
        hub: Hub::default(),
        catalogue: crate::tools::CATALOGUE,
        checkpoint_tools,
        store,
        debug_args,
        debug: Address::new("/debug", MAILBOX_CAPACITY),
        api: Address::new("/api", MAILBOX_CAPACITY),
        api_parts: api.map(Arc::new),
        gateway: Address::new("/gateway", MAILBOX_CAPACITY),
        upstream,
        stalled_after: Duration::from_millis(config.limits.stalled_ms),
        retry: retry(&config.limits, patience),
        prices: config.gateway.server.prices.clone(),
        fallback_models: config.gateway.fallback_models.into(),
        policy: config.policy,
        checkpoint: Address::new("/checkpoint", MAILBOX_CAPACITY),
        file: Address::new("/tools/file", MAILBOX_CAPACITY),
        manifests: Manifests::new(data.clone(), config.edits),
        file_tools: FileTools::new(outputs(&data), data, reader),
        bash: Address::new("/tools/bash", MAILBOX_CAPACITY),
        bash_tools: BashTools::new(bash),
        artifact: Address::new("/tools/artifact", MAILBOX_CAPACITY),
        beads: Address::new("/tools/beads", MAILBOX_CAPACITY),
        tools: SupervisorRef::new("/tools", MAILBOX_CAPACITY),
        threads: SupervisorRef::new("/threads", MAILBOX_CAPACITY),
        agents: Guarded::new(HashMap::new()),
        origins: Guarded::new(HashMap::new()),
    })
}

pub(crate) fn outputs(data: &Path) -> PathBuf {
    data.join("outputs")
}

fn namespaces(on: bool) -> lakitu_keeper::Namespaces {
    if on { lakitu_keeper::Namespaces::Auto } else { lakitu_keeper::Namespaces::Off }
}

/// What commands put out goes to whoever listens to their thread, while they run.
fn listen_to_commands(wiring: &Arc<Wiring>) {
    let hub = wiring.hub.clone();
    wiring.bash_tools.on_output(Arc::new(move |thread: ThreadId, intent: Seq, bytes_from, text| {
        hub.output(thread, intent, bytes_from, text);
    }));
}
