//! How a keeper comes to be: forked by the zygote, or, where there is none, by the executable `lakitu-keeper`.

use lakitu_kernel::supervise::boxed;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lakitu_keeper::{KeeperError, KeeperSpec, SpawnOutcome, Spawned, Zygote};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{exit_of, pidfd};

/// A keeper listens within this time, or it is given up.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Who starts keepers.
#[derive(Debug, Clone)]
pub enum KeeperStarter {
    /// The process that `main` forked first of all.
    Zygote(Arc<Zygote>),
    /// The executable `lakitu-keeper`, for the library and for tests within one process.
    Helper(PathBuf),
    /// Keepers of a simulated world.
    #[cfg(test)]
    Simulated(crate::simulation::Keepers),
}

impl KeeperStarter {
    /// Starts a keeper; it listens when this returns. `helpers` owns whoever waits for a helper's end.
    pub(super) async fn start(&self, spec: KeeperSpec, helpers: &Mutex<JoinSet<()>>) -> Result<Spawned, KeeperError> {
        match self {
            KeeperStarter::Zygote(zygote) => {
                let zygote = zygote.clone();
                // One at a time: many that wait for a zygote that hangs wait for each other.
                let spawning = crate::blocking::spawn_blocking(move || zygote.spawn(&spec));
                let spawned = timeout(STARTS_WITHIN, spawning).await;
                spawned.map_err(|_| KeeperError::Timeout)?.map_err(|_| KeeperError::Closed)?
            }
            #[cfg(test)]
            KeeperStarter::Simulated(keepers) => keepers.start(&spec).await,
            KeeperStarter::Helper(program) => {
                let (mut child, ends) = spawn(program)?;
                let answer = timeout(STARTS_WITHIN, converse(ends, &spec)).await.unwrap_or(Err(KeeperError::Timeout));
                if answer.is_err() {
                    // It may have ended by itself.
                    let _ = child.kill();
                }
                let mut helpers = helpers.lock().await;
                while helpers.try_join_next().is_some() {}
                helpers.spawn(boxed(reap(child)));
                answer
            }
        }
    }
}

struct Ends {
    to: OwnedFd,
    from: OwnedFd,
}

#[allow(clippy::disallowed_methods, reason = "this starts the keeper, and nothing else does")]
fn spawn(program: &Path) -> io::Result<(Child, Ends)> {
    let mut child = std::process::Command::new(program)
        // What a keeper is not given, its commands cannot read from /proc.
        .env_clear()
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(to), Some(from)) => Ok((child, Ends { to: to.into(), from: from.into() })),
        (None, _) | (_, None) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

async fn converse(ends: Ends, spec: &KeeperSpec) -> Result<Spawned, KeeperError> {
    let corrupt =
        |why: serde_json::Error| KeeperError::Corrupt { what: "the helper's answer".to_owned(), why: why.to_string() };
    let mut to = pipe::Sender::from_owned_fd(nonblocking(ends.to)?)?;
    to.write_all(&serde_json::to_vec(spec).map_err(corrupt)?).await?;
    drop(to);
    let mut line = String::new();
    let from = pipe::Receiver::from_owned_fd(nonblocking(ends.from)?)?;
    BufReader::new(from.take(ANSWER_BYTES_MAX)).read_line(&mut line).await?;
    match serde_json::from_str(&line).map_err(corrupt)? {
        SpawnOutcome::Ok(spawned) => Ok(spawned),
        SpawnOutcome::Error(refusal) => Err(refusal.into()),
    }
}

fn nonblocking(end: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(end.as_fd(), true)?;
    Ok(end)
}

/// Waits for the helper, which stays as long as its keeper does, so that it is no zombie.
async fn reap(mut child: Child) {
    if let Some(pidfd) = i32::try_from(child.id()).ok().and_then(pidfd) {
        exit_of(pidfd).await;
    }
    let _ = child.try_wait();
}
