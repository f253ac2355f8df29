//! Processes that the benches start: awaited with a deadline, ended by their pid, none left behind.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open, set_child_subreaper,
    wait,
};

use super::memory::descendants;

/// Processes that their parents leave behind become ours: they can be counted and reaped.
pub(crate) fn adopt_orphans() -> Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// The processor time of every child that was reaped, and of what they reaped themselves.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// Waits for a child's end; past the deadline it is killed, and that is an error.
pub(crate) fn wait_for(child: &mut Child, deadline: Duration) -> Result<ExitStatus> {
    if !ends_within(child.id(), deadline)? {
        child.kill()?;
        child.wait()?;
        bail!("a process did not end within {deadline:?} and was killed");
    }
    Ok(child.wait()?)
}

/// Waits for the end of a child that leads a process group of its own; past the deadline the whole group is killed.
/// Tells how it ended, or `None` for killed.
pub(crate) fn wait_for_group(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    if ends_within(child.id(), deadline)? {
        return Ok(Some(child.wait()?));
    }
    // Not reaped yet, so the number is still its group's.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL)?;
    }
    child.wait()?;
    Ok(None)
}

/// Waits for the end of a process, without polling for it and without reaping it.
fn ends_within(pid: u32, deadline: Duration) -> Result<bool> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { bail!("{pid} is no pid") };
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec { tv_sec: i64::try_from(deadline.as_secs())?, tv_nsec: deadline.subsec_nanos().into() };
    Ok(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&timeout))? > 0)
}

/// Reaps what was adopted. What is still alive after `grace` is killed; tells how many that were.
pub(crate) fn reap_orphans(grace: Duration) -> Result<usize> {
    let until = Instant::now() + grace;
    let mut killed = 0;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(killed),
            Err(error) => return Err(error.into()),
            Ok(None) => {
                let alive = descendants(std::process::id());
                let Some(first) = alive.first() else { continue };
                if !ends_within(*first, until.saturating_duration_since(Instant::now())).unwrap_or(true) {
                    let pid = i32::try_from(*first).ok().and_then(Pid::from_raw);
                    killed += usize::from(pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok()));
                    ends_within(*first, Duration::from_secs(5)).ok();
                }
            }
        }
    }
}
