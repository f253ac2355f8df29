//! What the first process of a sandbox owes the others: whoever outlives its parent becomes its child, and is reaped.
//!
//! Children of our own are waited for by whoever started them, and at once. So a child that has ended and that nobody
//! waited for within a moment is an orphan, and no list of our own children has to be kept.

use lakitu_kernel::supervise::boxed;
use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process, wait, waitid, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::cli::Failure;

/// How long an ended child may belong to somebody.
const SOMEBODYS: Duration = Duration::from_millis(500);
/// How long the others in the sandbox have to end, once the first process does.
const OTHERS_END_WITHIN: Duration = Duration::from_secs(1);

/// Reaps orphans as long as it lives.
pub(super) struct Orphans {
    _reaping: JoinSet<()>,
}

impl Orphans {
    /// `zygote` is waited for at the end alone.
    pub(super) fn reap_all_but(zygote: i32) -> Result<Self, Failure> {
        let failed = |error| Failure::other(format!("the end of children cannot be heard: {error}"));
        let ended = signal(SignalKind::child()).map_err(failed)?;
        let mut reaping = JoinSet::new();
        reaping.spawn(boxed(reap(ended, zygote)));
        Ok(Self { _reaping: reaping })
    }
}

async fn reap(mut ended: Signal, zygote: i32) {
    // Those that ended before anybody listened are there already.
    let mut known = ended_children();
    loop {
        if known.iter().all(|pid| *pid == zygote) {
            ended.recv().await;
        } else {
            sleep(SOMEBODYS).await;
        }
        let now = ended_children();
        for pid in now.intersection(&known).filter(|pid| **pid != zygote) {
            let _ = Pid::from_raw(*pid).map(|pid| waitpid(Some(pid), WaitOptions::NOHANG));
        }
        known = now.difference(&known).copied().collect();
    }
}

/// Children of this process that have ended and were not waited for.
fn ended_children() -> HashSet<i32> {
    // One is looked at and left where it is: who started it waits for it. As a rule there is none, and nothing to list.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, look), Ok(Some(_))) {
        return HashSet::new();
    }
    let me = getpid().as_raw_nonzero().get();
    let stat = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat"));
    processes().filter(|pid| stat(pid).is_ok_and(|stat| is_ended_child(&stat, me))).collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `PID (NAME) STATE PARENT …`; the name may hold anything.
fn is_ended_child(stat: &str, of: i32) -> bool {
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    fields.next() == Some("Z") && fields.next().and_then(|parent| parent.parse().ok()) == Some(of)
}

/// As the first process of its PID namespace, which ends with it: tells every other process to end, and lets them for a
/// moment. Anywhere else this does nothing.
pub(super) fn end_all(left: Duration) {
    if getpid() != Pid::INIT {
        return;
    }
    for pid in processes().filter_map(Pid::from_raw).filter(|pid| *pid != Pid::INIT) {
        let _ = kill_process(pid, rustix::process::Signal::TERM);
    }
    let until = Instant::now() + left.min(OTHERS_END_WITHIN);
    while Instant::now() < until {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => std::thread::park_timeout(Duration::from_millis(5)),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_child_is_known_whatever_it_is_called() {
        assert!(is_ended_child("7 (sh) Z 1 7 7 0", 1));
        assert!(is_ended_child("7 (a) S 2 (b)) Z 1 7", 1));
        assert!(!is_ended_child("7 (sh) S 1 7 7 0", 1));
        assert!(!is_ended_child("7 (sh) Z 12 7 7 0", 1));
        assert!(!is_ended_child("", 1));
    }
}
