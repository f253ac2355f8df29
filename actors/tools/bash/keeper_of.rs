//! A thread's keeper as the runtime sees it: found alive, started, given up, ended.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakitu_keeper::protocol::{Call, Cause, JobState, RefusalCode, Reply, Status};
use lakitu_keeper::{KeeperError, KeeperSpec, Visible};
use lakitu_kernel::limits::SPOOL_BYTES_MAX;
use lakitu_kernel::{ErrorCode, ThreadId, ToolError};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::client::Link;
use super::confine;
use super::counts::Tally;
use super::runner::Shared;
use super::starter::KeeperStarter;
use crate::tools::Place;

/// A keeper that ends, or that another runtime just starts, is waited for so long.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(5);
/// It tells nobody that it has ended.
const PREDECESSOR_EVERY: Duration = Duration::from_millis(20);
/// A broken connection is most often a dead keeper, and that is waited for; else it is tried again after this.
pub(super) const RECONNECT_AFTER: Duration = Duration::from_millis(100);
/// One that has nothing to do ends within this time, or is killed.
const RESTED_WITHIN: Duration = Duration::from_secs(5);
/// A killed process is gone within this time.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// One thread's keeper, whether or not one lives.
#[derive(Debug)]
pub(super) struct KeeperOf {
    /// `<data>/jobs/<thread>`
    pub(super) dir: PathBuf,
    /// `<data>/outputs/<thread>`
    pub(super) outputs: PathBuf,
    link: Arc<Mutex<Option<Arc<Link>>>>,
    /// How often everything of the thread was ended: what was asked for before that is not begun after it.
    stops: AtomicU64,
    /// Calls that were cancelled, for those that have not reached the keeper yet.
    cancelled: watch::Sender<BTreeSet<u64>>,
}

/// What is known of a call.
#[derive(Debug)]
pub(super) enum Known {
    /// Its command runs, under this keeper.
    Running(Arc<Link>, JobState),
    /// Its command ended.
    Ended {
        status: Status,
        /// Whether what it left behind is alive.
        survives: bool,
    },
    /// No keeper knows it, and none wrote down how it ended.
    Nothing,
}

impl KeeperOf {
    pub(super) fn new(data: &Path, thread: ThreadId) -> Self {
        let thread = thread.to_string();
        Self {
            dir: data.join("jobs").join(&thread),
            outputs: data.join("outputs").join(&thread),
            link: Arc::default(),
            stops: AtomicU64::new(0),
            cancelled: watch::Sender::default(),
        }
    }

    /// The spool of a call.
    pub(super) fn spool(&self, seq: u64) -> PathBuf {
        self.outputs.join(format!("{seq}.out"))
    }

    /// Ends one command, or keeps it from beginning.
    pub(super) async fn cancel(&self, shared: &Shared, seq: u64) {
        // Noted first: whoever starts it looks here before and after.
        self.cancelled.send_if_modified(|cancelled| cancelled.insert(seq));
        if let Some(link) = self.attach(shared).await {
            let asked = link.request(Call::Kill { seq }).await;
            tracing::debug!(seq, ?asked, "a command is cancelled");
        }
    }

    /// The same, and waits for the end of its last process. False where that has not come by then. A keeper that does not
    /// answer is killed, and whatever runs under it.
    pub(super) async fn end_job(&self, shared: &Shared, seq: u64, deadline: Duration) -> bool {
        self.cancelled.send_if_modified(|cancelled| cancelled.insert(seq));
        let until = Instant::now() + deadline;
        let link = match timeout_at(until, self.attach(shared)).await {
            Ok(Some(link)) => link,
            Ok(None) => return true,
            Err(_) => {
                self.end(shared, Duration::ZERO).await;
                return true;
            }
        };
        match timeout_at(until, link.request(Call::Kill { seq })).await {
            Ok(Ok(_)) => timeout_at(until, link.gone(seq)).await.is_ok(),
            // It has ended.
            Ok(Err(KeeperError::Refused(_) | KeeperError::Closed)) => true,
            Ok(Err(KeeperError::Timeout | KeeperError::Corrupt { .. } | KeeperError::Io(_))) | Err(_) => {
                self.give_up(&link).await;
                true
            }
        }
    }

    pub(super) fn is_cancelled(&self, seq: u64) -> bool {
        self.cancelled.borrow().contains(&seq)
    }

    pub(super) fn stops(&self) -> u64 {
        self.stops.load(Ordering::SeqCst)
    }

    async fn open(&self, shared: &Shared) -> Result<Link, KeeperError> {
        let tally = Tally::new(shared.counts.clone());
        match &shared.settings.starter {
            KeeperStarter::Zygote(_) | KeeperStarter::Helper(_) => Link::open(&self.dir, tally).await,
            #[cfg(test)]
            KeeperStarter::Simulated(keepers) => Ok(Link::over(keepers.connect(&self.dir)?, None, tally)),
        }
    }

    /// The connection to a living keeper; starts none.
    pub(super) async fn attach(&self, shared: &Shared) -> Option<Arc<Link>> {
        self.attach_held(&mut self.link.clone().lock_owned().await, shared).await
    }

    async fn attach_held(&self, held: &mut OwnedMutexGuard<Option<Arc<Link>>>, shared: &Shared) -> Option<Arc<Link>> {
        if let Some(link) = held.as_ref().filter(|link| !link.is_closed()) {
            return Some(link.clone());
        }
        let lost = held.take().is_some();
        let Ok(mut link) = self.open(shared).await else {
            if lost {
                shared.counts.send_modify(|counts| counts.keepers_lost += 1);
            }
            return None;
        };
        match link.hello().await {
            Ok(()) => {
                let link = Arc::new(link);
                **held = Some(link.clone());
                Some(link)
            }
            Err(KeeperError::Refused(refusal)) => {
                // Of another version: what it runs cannot be adopted, and must not run on unseen.
                tracing::warn!(%refusal, dir = %self.dir.display(), "a keeper of another version is ended");
                end(&link, Instant::now() + PREDECESSOR_WITHIN).await;
                None
            }
            Err(KeeperError::Closed) => None,
            Err(error @ (KeeperError::Timeout | KeeperError::Corrupt { .. } | KeeperError::Io(_))) => {
                tracing::warn!(%error, dir = %self.dir.display(), "a keeper that does not answer is killed");
                link.kill_keeper(KILLED_WITHIN).await;
                None
            }
        }
    }

    /// The connection to a living keeper, which is started where there is none, unless everything was ended since
    /// `stops` was looked at.
    pub(super) async fn start(&self, shared: &Shared, place: &Place, stops: u64) -> Result<Arc<Link>, ToolError> {
        let mut held = self.link.clone().lock_owned().await;
        let until = Instant::now() + PREDECESSOR_WITHIN;
        let mut spawned = false;
        loop {
            if self.stops() != stops || shared.is_closed() {
                // Only what was started here is ended: a newer call may already use another.
                if spawned && let Some(link) = self.attach_held(&mut held, shared).await {
                    *held = None;
                    end(&link, Instant::now() + PREDECESSOR_WITHIN).await;
                }
                return Err(ToolError::new(ErrorCode::Cancelled, "the run was stopped before the command began"));
            }
            if let Some(link) = self.attach_held(&mut held, shared).await {
                // It may be one that an earlier runtime started, which wanted less.
                shared.look_at(link.confinement())?;
                return Ok(link);
            }
            match self.spawn(shared, place).await {
                Ok(()) => spawned = true,
                Err(KeeperError::Refused(refusal)) if refusal.code == RefusalCode::NotConfined => {
                    return Err(confine::refused(&refusal.message));
                }
                Err(KeeperError::Refused(refusal)) if refusal.code == RefusalCode::KeeperAlive => {
                    tokio::time::sleep(PREDECESSOR_EVERY).await;
                }
                Err(error) => return Err(unavailable(&error)),
            }
            if Instant::now() > until {
                return Err(unavailable(&KeeperError::Timeout));
            }
        }
    }

    async fn spawn(&self, shared: &Shared, place: &Place) -> Result<(), KeeperError> {
        let spec = self.spec(shared, place)?;
        let spawned = shared.settings.starter.start(spec, &shared.helpers).await?;
        tracing::info!(pid = spawned.pid, isolation = %spawned.isolation, "a keeper was started");
        Ok(())
    }

    fn spec(&self, shared: &Shared, place: &Place) -> io::Result<KeeperSpec> {
        let settings = &shared.settings;
        let outputs = settings.data.join("outputs");
        for directory in [&self.outputs, &place.artifacts] {
            fs::create_dir_all(directory)?;
        }
        let data = settings.data.canonicalize()?;
        let shown = [(&outputs, true), (&place.artifacts, false), (&place.workspace, false)];
        let visible = shown.into_iter().filter_map(|(path, read_only)| {
            Some(Visible { path: shown_in(&data, path.strip_prefix(&settings.data).ok()?)?, read_only })
        });
        let visible = visible.collect();
        let hidden = [data].into_iter().chain(settings.hidden.iter().cloned());
        let (confine, limits) = (&settings.confine, confine::limits(&settings.confine));
        Ok(KeeperSpec {
            dir: self.dir.clone(),
            outputs: self.outputs.clone(),
            lease_ms: settings.lease_ms,
            hidden: hidden.collect(),
            visible,
            namespaces: settings.namespaces,
            spool_limit: SPOOL_BYTES_MAX,
            confine: confine::of_commands(confine, place, &shared.env),
            limits,
        })
    }

    /// What is known of a call: asked of the keeper, else read from what it wrote down.
    pub(super) async fn known(&self, shared: &Shared, seq: u64, attempt: Option<u32>) -> Known {
        let fits = |found: u32| attempt.is_none_or(|attempt| attempt == found);
        let mut survives = false;
        if let Some(link) = self.attach(shared).await
            && let Ok(Reply::Status(state)) = link.request(Call::Status { seq }).await
        {
            if let Some(job) = state.job.filter(|job| fits(job.attempt)) {
                if job.status.is_none() {
                    return Known::Running(link, job);
                }
                survives = true;
            }
            if let Some(status) = state.status.filter(|status| fits(status.attempt)) {
                let survives = survives && lives_on(&status);
                return Known::Ended { status, survives };
            }
        }
        match lakitu_keeper::read_status(&self.dir, seq) {
            Ok(Some(status)) if fits(status.attempt) => Known::Ended { status, survives: false },
            Ok(_) => Known::Nothing,
            Err(error) => {
                tracing::warn!(%error, seq, dir = %self.dir.display(), "a status cannot be read");
                Known::Nothing
            }
        }
    }

    /// Waits until nothing runs under the thread's keeper, over broken connections. Starts none.
    pub(super) async fn quiet(&self, shared: &Shared) {
        while let Some(link) = self.attach(shared).await {
            link.quiet().await;
            if !link.is_closed() {
                return;
            }
            link.ended(RECONNECT_AFTER).await;
        }
    }

    /// Ends a keeper that nothing runs under and nobody is about to use.
    pub(super) async fn rest(&self) {
        let mut held = self.link.clone().lock_owned().await;
        // Whoever is about to use it took it from here, and holds it.
        let is_free = |link: &Arc<Link>| Arc::strong_count(link) == 1 && link.is_idle();
        let Some(link) = held.take_if(|link| is_free(link)) else { return };
        end(&link, Instant::now() + RESTED_WITHIN).await;
    }

    /// Whether nothing holds on to a keeper, and nobody is about to.
    pub(super) fn is_let_go(&self) -> bool {
        self.link.try_lock().is_ok_and(|held| held.is_none())
    }

    /// A keeper that does not keep to a deadline hangs, and its commands with it.
    pub(super) async fn give_up(&self, link: &Link) {
        tracing::warn!(dir = %self.dir.display(), "a keeper that hangs is killed");
        link.kill_keeper(KILLED_WITHIN).await;
    }

    /// Ends everything of the thread and the keeper with it. It is gone when this returns, or at least killed.
    pub(super) async fn end(&self, shared: &Shared, deadline: Duration) {
        self.stops.fetch_add(1, Ordering::SeqCst);
        let until = Instant::now() + deadline;
        // Whoever starts a keeper right now holds this, and begins nothing when it sees the count.
        let Ok(mut held) = timeout_at(until, self.link.clone().lock_owned()).await else {
            // Whoever holds it waits for a keeper that does not answer.
            if let Ok(Ok(link)) = timeout(KILLED_WITHIN, Link::open(&self.dir, Tally::new(shared.counts.clone()))).await
            {
                self.give_up(&link).await;
            }
            return;
        };
        let link = match held.take().filter(|link| !link.is_closed()) {
            Some(link) => Some(link),
            None => match timeout_at(until, self.open(shared)).await {
                Ok(Ok(link)) => Some(Arc::new(link)),
                Ok(Err(_)) | Err(_) => None,
            },
        };
        if let Some(link) = link {
            end(&link, until).await;
        }
    }
}

/// Asks a keeper to kill everything and to end; one that does not is killed.
async fn end(link: &Link, until: Instant) {
    let asked = timeout_at(until, link.request(Call::Shutdown {})).await;
    tracing::debug!(?asked, "a keeper is asked to end");
    if !link.ended(until.saturating_duration_since(Instant::now())).await {
        link.kill_keeper(KILLED_WITHIN).await;
    }
    // The process is gone before its connection is known to be.
    let _ = timeout(KILLED_WITHIN, link.closed()).await;
}

/// What commands see below the data directory, which is without links itself. A link leads nowhere: a command may have put
/// it in place of its workspace, to be shown what it leads to.
fn shown_in(data: &Path, below: &Path) -> Option<PathBuf> {
    let path = data.join(below);
    path.canonicalize().is_ok_and(|real| real == path).then_some(path)
}

/// Whether what a command left behind is meant to live: where the command was killed, it is being killed as well.
pub(super) fn lives_on(status: &Status) -> bool {
    status.end.cause == Cause::Exited && status.survivors > 0 && status.survivors_end.is_none()
}

fn unavailable(error: &KeeperError) -> ToolError {
    tracing::warn!(%error, "a keeper cannot be started");
    ToolError::new(
        ErrorCode::Unavailable,
        format!("commands cannot be run at the moment ({error}); nothing was started"),
    )
}
