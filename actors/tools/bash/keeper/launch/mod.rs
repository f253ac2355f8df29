//! From a spec to a keeper that listens: forks it, with as many namespaces as the kernel allows, and waits until it has
//! set itself up. Used by the zygote and by the helper executable, both of one thread.

mod mounts;
mod plan;

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::libc;
use rustix::fs::Mode;
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::keeper::{self, Keeper, Nursery};
use crate::leaf::{Leaf, Probe};
use crate::protocol::{Refusal, RefusalCode};
use crate::sys::{self, Side};
use crate::{
    Cgroup, Confine, Confinement, Isolation, KeeperSpec, Limits, Namespaces, Spawned, files, parent, socket_path,
};

/// How long a keeper may take to set itself up; below the runtime's own patience, which is five seconds.
const SETUP: Duration = Duration::from_secs(4);

/// The ways to isolate a keeper, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Privileged,
    UserNamespace,
    Plain,
}

/// Who a keeper is outside its user namespace; inside it does not know before its ids are mapped.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// One try.
struct Way<'a> {
    rung: Rung,
    owner: Owner,
    /// Against the rungs above this one.
    reasons: &'a [String],
    cgroup: &'a Cgroup,
    /// What the cgroup does not bound.
    limits: Limits,
}

/// What a fresh keeper tells the process that forked it.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Ready(Isolation),
    /// The kernel allows less than this rung; the next may do.
    NotSo(String),
    /// No rung would do.
    Refused(Refusal),
}

/// Why a keeper cannot be set up.
pub(crate) enum Failure {
    /// Less isolation may do.
    Kernel(String),
    /// Nothing would.
    Refused(Refusal),
}

impl Failure {
    fn io(what: &str, error: impl Into<io::Error>) -> Self {
        Self::Refused(Refusal::new(RefusalCode::StartupFailed, format!("{what}: {}", error.into())))
    }
}

/// Starts a keeper. It is a child of this process, which ends the cgroup of its commands after it.
pub(crate) fn launch(spec: &KeeperSpec) -> Result<(Spawned, Option<Leaf>), Refusal> {
    spec.check()?;
    let (mut leaf, probe, cgroup) = match Leaf::make(&spec.dir) {
        Ok((leaf, probe)) => (Some(leaf), Some(probe), Cgroup::Yes),
        Err(reason) => (None, None, Cgroup::No(reason)),
    };
    let launched = climb_down(spec, &cgroup, &mut leaf);
    probe.into_iter().for_each(Probe::reap);
    match launched {
        Ok(spawned) => Ok((spawned, leaf)),
        Err(refusal) => {
            leaf.into_iter().for_each(Leaf::end);
            Err(refusal)
        }
    }
}

/// Tries one rung after the other.
fn climb_down(spec: &KeeperSpec, cgroup: &Cgroup, leaf: &mut Option<Leaf>) -> Result<Spawned, Refusal> {
    let owner = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let limits = leaf.as_ref().map_or(spec.limits, |leaf| leaf.bound(spec.limits));
    let mut reasons = Vec::new();
    for rung in rungs(spec.namespaces) {
        if spec.namespaces == Namespaces::Off {
            reasons.push("switched off".to_owned());
        }
        match launch_on(spec, &Way { rung: *rung, owner, reasons: &reasons, cgroup, limits }, leaf)? {
            Ok(spawned) => return Ok(spawned),
            Err(reason) => reasons.push(format!("{rung:?}: {reason}")),
        }
    }
    Err(Refusal::new(RefusalCode::StartupFailed, reasons.join("; ")))
}

fn rungs(namespaces: Namespaces) -> &'static [Rung] {
    let admin = rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(CapabilitySet::SYS_ADMIN));
    match namespaces {
        Namespaces::Off => &[Rung::Plain],
        Namespaces::Auto if admin => &[Rung::Privileged, Rung::UserNamespace, Rung::Plain],
        Namespaces::Auto => &[Rung::UserNamespace, Rung::Plain],
    }
}

/// Tries one rung. The inner error is the kernel's reason against it. The leaf stays here; the child takes its copy.
fn launch_on(spec: &KeeperSpec, way: &Way<'_>, leaf: &mut Option<Leaf>) -> Result<Result<Spawned, String>, Refusal> {
    let rung = way.rung;
    let failed = |what: &str, error: io::Error| Refusal::new(RefusalCode::StartupFailed, format!("{what}: {error}"));
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| failed("pipe", error.into()))?;
    let namespaces = match rung {
        Rung::Privileged => libc::CLONE_NEWPID | libc::CLONE_NEWNS,
        Rung::UserNamespace => libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS,
        Rung::Plain => 0,
    };
    let child = match sys::fork_single_threaded(namespaces) {
        Ok(Side::Parent { child }) => child,
        Ok(Side::Child) => {
            // A panic must end here: above are the frames of the process this was forked from.
            let code = catch_unwind(AssertUnwindSafe(|| be_keeper(spec, way, leaf.take(), write)));
            sys::exit_now(code.unwrap_or(101));
        }
        Err(error) if rung == Rung::Plain => return Err(failed("fork", error)),
        Err(error) => return Ok(Err(error.to_string())),
    };
    drop(write);
    let outcome = match read_report(&read) {
        Ok(Report::Ready(isolation)) => return Ok(Ok(Spawned { pid: child, isolation })),
        Ok(Report::NotSo(reason)) => Ok(Err(reason)),
        Ok(Report::Refused(refusal)) => Err(refusal),
        Err(error) => Err(failed("the keeper did not come up", error)),
    };
    if let Some(pid) = rustix::process::Pid::from_raw(child) {
        // It is this process's unreaped child, so the number is still its own.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    outcome
}

fn read_report(from: &OwnedFd) -> io::Result<Report> {
    let until = Instant::now() + SETUP;
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    while line.last() != Some(&b'\n') {
        if !crate::wait::readable(from.as_fd(), until)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match rustix::io::read(from, &mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(serde_json::from_slice(&line)?)
}

/// The whole life of a keeper, in the forked child.
fn be_keeper(spec: &KeeperSpec, way: &Way<'_>, leaf: Option<Leaf>, report: OwnedFd) -> i32 {
    let set_up = set_up(spec, way, leaf, report.as_fd());
    let line = match &set_up {
        Ok(keeper) => Report::Ready(keeper.isolation().clone()),
        Err(Failure::Kernel(reason)) if way.rung != Rung::Plain => Report::NotSo(reason.clone()),
        Err(Failure::Kernel(reason)) => Report::Refused(Refusal::new(RefusalCode::StartupFailed, reason.clone())),
        Err(Failure::Refused(refusal)) => Report::Refused(refusal.clone()),
    };
    let Ok(mut line) = serde_json::to_vec(&line) else { return 1 };
    line.push(b'\n');
    if fs::File::from(report).write_all(&line).is_err() {
        return 1;
    }
    match set_up {
        Ok(keeper) => keeper.run(),
        Err(_) => 1,
    }
}

fn set_up(spec: &KeeperSpec, way: &Way<'_>, leaf: Option<Leaf>, report: BorrowedFd<'_>) -> Result<Keeper, Failure> {
    let rung = way.rung;
    let kept: Vec<BorrowedFd<'_>> = leaf.iter().flat_map(Leaf::fds).chain([report]).collect();
    sys::close_all_but(&kept).map_err(|error| Failure::io("closing descriptors", error))?;
    parent::leave_streams().map_err(|error| Failure::io("standard streams", error))?;
    let _ = rustix::thread::set_name(c"lakitu-keeper");
    let _ = rustix::process::setsid(); // fails only for a process that leads its group already
    let signals = keeper::signals().map_err(|error| Failure::io("signals", error))?;
    if rung == Rung::UserNamespace {
        map_ids(way.owner).map_err(|error| Failure::Kernel(format!("mapping ids: {error}")))?;
    }
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let dir = files::open_dir(&spec.dir).map_err(|error| Failure::io("jobs directory", error))?;
    let outputs = files::open_dir(&spec.outputs).map_err(|error| Failure::io("outputs directory", error))?;
    let lock = files::lock(dir.as_fd()).map_err(|error| Failure::io("lock", error))?.ok_or_else(|| {
        Failure::Refused(Refusal::new(RefusalCode::KeeperAlive, "another keeper holds this directory"))
    })?;
    files::remove_socket(dir.as_fd()).map_err(|error| Failure::io("stale socket", error))?;
    let listener = UnixListener::bind(socket_path(dir.as_fd())).map_err(|error| Failure::io("socket", error))?;
    listener.set_nonblocking(true).map_err(|error| Failure::io("socket", error))?;
    if rung == Rung::Plain {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    } else {
        mounts::isolate(spec, way.limits.processes)?;
    }
    let user_namespace = rung == Rung::UserNamespace;
    let (nursery, confinement) =
        Nursery::open(spec, user_namespace, way.limits).map_err(|error| Failure::io("rights of commands", error))?;
    if let (Some(Confine { required: true, .. }), Confinement::No(reason)) = (&spec.confine, &confinement) {
        return Err(Failure::Refused(Refusal::new(RefusalCode::NotConfined, reason.clone())));
    }
    // From here on no command can look into this process, whatever user it runs as.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::io("dumpable", error))?;
    let isolation = Isolation {
        pid_namespace: rung != Rung::Plain,
        mount_namespace: rung != Rung::Plain,
        user_namespace,
        reason: (!way.reasons.is_empty()).then(|| way.reasons.join("; ")),
        cgroup: way.cgroup.clone(),
        confinement,
    };
    let boot_id = files::boot_id().map_err(|error| Failure::io("boot id", error))?;
    let place = keeper::Place { dir, outputs, _lock: lock, leaf, nursery, boot_id, isolation };
    Ok(Keeper::new(spec, place, listener, signals))
}

/// Maps this process's user and group to themselves: one line is all that an unprivileged process may map.
fn map_ids(owner: Owner) -> io::Result<()> {
    // A process that may not be dumped cannot write its own maps; the program this was forked from may have said so.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{0} {0} 1", owner.uid))?;
    fs::write("/proc/self/gid_map", format!("{0} {0} 1", owner.gid))
}
