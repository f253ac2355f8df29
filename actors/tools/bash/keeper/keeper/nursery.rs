//! The thread in which commands are born: it gives up the rights that they shall not have, once and for all of them, and
//! they inherit what is left. The keeper's own thread keeps its rights, and no command reaches it.
//!
//! Why a thread, and not rights that each child gives up for itself: those would be domains of their own, and two
//! commands in different domains can neither signal nor look into each other (`landlock.rs`).
//!
//! **Invariant:** between its fork and its program a child makes system calls and nothing else. The keeper's thread may be
//! in the middle of anything, and the locks that it holds, the allocator's first of all, stay held in the child for good.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;

use super::command::Command;
use super::privileges;
use crate::spec::{Confine, Confinement, Limits};
use crate::sys::{self, Side};
use crate::{KeeperSpec, landlock};

/// It forks and does nothing else.
const STACK: usize = 256 * 1024;

/// What a child is made of.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) command: Arc<Command>,
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    pub(super) reporter: OwnedFd,
    /// The directory of the cgroup it is to be born in.
    pub(super) cgroup: Option<OwnedFd>,
}

/// The keeper's end of it.
#[derive(Debug)]
pub(crate) struct Nursery {
    births: SyncSender<Birth>,
    born: Receiver<io::Result<i32>>,
    sacrifice: Option<Sacrifice>,
}

impl Nursery {
    /// Starts the thread. To be called before this process may no longer be dumped, and after its mounts are made: both
    /// are closed to it later.
    ///
    /// `limits` are those that no cgroup holds.
    pub(crate) fn open(spec: &KeeperSpec, user_namespace: bool, limits: Limits) -> io::Result<(Self, Confinement)> {
        let (births, orders) = sync_channel::<Birth>(1);
        let (answers, born) = sync_channel(1);
        let (told, confined) = sync_channel(1);
        let confine = spec.confine.clone();
        let thread = std::thread::Builder::new().name("lakitu-nursery".to_owned()).stack_size(STACK);
        thread.spawn(move || {
            let ready = give_up_rights(confine, user_namespace);
            let able = ready.is_ok();
            if told.send(ready).is_err() || !able {
                return;
            }
            for birth in orders {
                let born = bear(&birth, limits);
                // First, or the end of a quick command is seen before the end of its report, which is then lost.
                drop(birth);
                if answers.send(born).is_err() {
                    return;
                }
            }
        })?;
        let confinement = confined.recv().map_err(io::Error::other)??;
        Ok((Self { births, born, sacrifice: Sacrifice::open() }, confinement))
    }

    /// Forks a command. Its number is the child's, which is a child of this process.
    pub(super) fn bear(&mut self, birth: Birth) -> io::Result<i32> {
        let gone = || io::Error::other("the thread that forks has ended");
        if let Some(sacrifice) = &mut self.sacrifice {
            sacrifice.begin();
        }
        let born = match self.births.send(birth) {
            Ok(()) => self.born.recv().unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(gone()),
        };
        if let Some(sacrifice) = &mut self.sacrifice {
            sacrifice.end();
        }
        born
    }
}

/// The capabilities first: with fewer of them the domain holds off more.
fn give_up_rights(confine: Option<Confine>, user_namespace: bool) -> io::Result<Confinement> {
    privileges::drop_for_command(user_namespace)?;
    Ok(match confine {
        Some(Confine { write, .. }) => landlock::enter(&write),
        None => Confinement::No("switched off".to_owned()),
    })
}

fn bear(birth: &Birth, limits: Limits) -> io::Result<i32> {
    let strings = birth.command.strings();
    match sys::fork_to_execute(birth.cgroup.as_ref().map(AsFd::as_fd))? {
        Side::Parent { child } => Ok(child),
        Side::Child => {
            // A panic must end here: this thread is all that the child has.
            let _ = catch_unwind(AssertUnwindSafe(|| birth.command.become_it(birth, &strings, limits)));
            sys::exit_now(127)
        }
    }
}

/// When memory runs out, a command dies before the keeper and the runtime do. It inherits that, because it may not write
/// to `/proc`; so for the time of a birth the keeper is as expendable. Best effort.
#[derive(Debug)]
struct Sacrifice {
    file: File,
    own: String,
}

impl Sacrifice {
    const FILE: &str = "/proc/self/oom_score_adj";

    fn open() -> Option<Self> {
        // Files in /proc of a process that may not be dumped belong to root; whoever set this one up says so again.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).ok()?;
        let own = std::fs::read_to_string(Self::FILE).ok()?;
        let file = rustix::fs::open(Self::FILE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(Self { file: file.into(), own })
    }

    fn begin(&mut self) {
        let _ = self.file.write(b"500");
    }

    fn end(&mut self) {
        let _ = self.file.write(self.own.as_bytes());
    }
}
