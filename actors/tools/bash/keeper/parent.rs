//! What the parent of keepers owes them: to be reaped, and to have what they leave behind killed.

use std::collections::HashMap;
use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions, getpid};

use crate::leaf::Leaf;
use crate::protocol::Refusal;
use crate::{KeeperSpec, Spawned, launch, tree};

/// The keepers that this process started and that live.
#[derive(Debug, Default)]
pub(crate) struct Keepers {
    /// By process, with the cgroup of its commands where it has one.
    alive: HashMap<i32, Option<Leaf>>,
}

impl Keepers {
    /// Starts one more.
    pub(crate) fn launch(&mut self, spec: &KeeperSpec) -> Result<Spawned, Refusal> {
        let (spawned, leaf) = launch::launch(spec)?;
        self.alive.insert(spawned.pid, leaf);
        Ok(spawned)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    /// Takes in what ended. True: this process has no child left.
    pub(crate) fn reap(&mut self) -> bool {
        let mut any = false;
        let mut left = Vec::new();
        let childless = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => {
                    any = true;
                    left.extend(self.alive.remove(&pid.as_raw_nonzero().get()).flatten());
                }
                Ok(None) => break false,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break true,
            }
        };
        left.into_iter().for_each(Leaf::end);
        if any && !childless {
            self.kill_strays(); // their deaths are reaped in their turn, and then it is looked again
        }
        childless
    }

    /// Kills every descendant that is not a keeper's: the orphans of one that had no PID namespace to take them along.
    fn kill_strays(&self) {
        let me = getpid().as_raw_nonzero().get();
        let mut kept: HashMap<i32, bool> = HashMap::new();
        let mut strays = Vec::new();
        for process in tree::descendants(me).unwrap_or_default() {
            let by_keeper =
                self.alive.contains_key(&process.pid) || kept.get(&process.parent).copied().unwrap_or(false);
            kept.insert(process.pid, by_keeper);
            if !by_keeper {
                strays.push(process);
            }
        }
        tree::kill_all(&strays);
    }

    /// To all of them. They are unreaped children of this process, so their numbers are their own.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.alive.keys().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Makes this process fit to be a parent of keepers: away from the terminal and its signals, closed to other eyes, and
/// the one to whom orphans come.
pub(crate) fn settle(name: &std::ffi::CStr) {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(name);
    let _ = rustix::process::chdir("/");
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
}

/// Lets go of the standard streams: whoever reads them must see their end when the runtime is gone.
pub(crate) fn leave_streams() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(nix::unistd::dup2_stderr(&null)?)
}
