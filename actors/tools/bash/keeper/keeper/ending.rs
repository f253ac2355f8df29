//! How calls end: by themselves, killed, or with the keeper.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitOptions, WaitStatus, getpid};

use super::command::MARKER;
use super::job::{Copied, Ending};
use super::{BUFFER, Keeper};
use crate::protocol::{Cause, End, Event, Exit};
use crate::tree::{self, Process};
use crate::{files, wait};

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at a call that is being killed. After [`QUICK_ROUNDS`] what is left hangs in the kernel.
const ROUND: Duration = Duration::from_millis(20);
const QUICK_ROUNDS: u32 = 100;
const SLOW_ROUND: Duration = Duration::from_secs(1);
/// How long the keeper's own end may take.
const LAST_ROUNDS: Duration = Duration::from_secs(5);

/// The live processes of each call.
type Census = HashMap<u64, Vec<Process>>;

impl Keeper {
    /// Takes in every child that ended: commands, and what they left behind.
    pub(super) fn reap(&mut self) {
        let (ended, childless) = self.wait_for_children();
        let watched = self.jobs.values().any(|job| job.status.is_some() || job.ending.is_some());
        if ended.is_empty() && !watched {
            return;
        }
        // Every process started here is a child of this one or descends from a child: without children all are gone.
        let census = if childless { Some(Census::new()) } else { self.census(single(&ended).map(|(seq, _)| *seq)) };
        for (seq, exit) in ended {
            let survivors = census.as_ref().and_then(|census| census.get(&seq)).map_or(0, Vec::len);
            self.finish(seq, exit, u32::try_from(survivors).unwrap_or(u32::MAX));
        }
        if childless {
            self.let_go(&Census::new());
        } else if let Some(census) = census {
            self.let_go_if_sure(&census);
        }
    }

    /// The commands that ended, and whether no child of any kind is left.
    fn wait_for_children(&self) -> (Vec<(u64, Exit)>, bool) {
        let mut ended = Vec::new();
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    let job = self.jobs.values().find(|job| job.pid == pid && job.status.is_none());
                    ended.extend(job.map(|job| job.seq).zip(exit_of(status)));
                }
                Ok(None) => return (ended, false),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return (ended, true),
            }
        }
    }

    /// The command itself ended: its output so far is copied, its status written and said, whoever lives on.
    fn finish(&mut self, seq: u64, exit: Exit, survivors: u32) {
        self.settle_start(seq); // it may have ended before its start was seen
        self.drain(seq);
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        let status = job.end_status(job.end_of(Some(exit)), survivors, &self.place.boot_id);
        job.status = Some(status.clone());
        self.save(&status);
        self.broadcast(&Event::Exited { seq, status });
    }

    /// Copies what the pipe holds now, and no more: a survivor may go on filling it.
    fn drain(&mut self, seq: u64) {
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        let held = job.output.as_ref().and_then(|output| rustix::io::ioctl_fionread(output).ok()).unwrap_or(0);
        let mut left = usize::try_from(held).unwrap_or(usize::MAX);
        while left > 0 {
            let part = left.min(BUFFER);
            match job.copy(self.buffer.get_mut(..part).unwrap_or_default(), self.spool_limit) {
                Copied::Some(count) => left = left.saturating_sub(count),
                Copied::Nothing => break,
                Copied::Full => return self.begin_ending(seq, Cause::SpoolFull),
            }
        }
    }

    /// Ends the jobs of which nobody is left by two looks: a single one can miss a process whose parent ends meanwhile.
    fn let_go_if_sure(&mut self, census: &Census) {
        if !self.deserted(census).is_empty()
            && let Some(second) = self.census(None)
        {
            self.let_go(&second);
        }
    }

    /// The jobs whose command has ended and of which nobody is left.
    fn deserted(&self, census: &Census) -> Vec<u64> {
        let empty = |seq: &u64| census.get(seq).is_none_or(Vec::is_empty);
        self.jobs.iter().filter(|(seq, job)| job.status.is_some() && empty(seq)).map(|(seq, _)| *seq).collect()
    }

    /// Ends the jobs of which nobody is left.
    fn let_go(&mut self, census: &Census) {
        for seq in self.deserted(census) {
            self.drain(seq);
            if let Some(last) = self.jobs.remove(&seq).and_then(|job| job.final_status()) {
                self.save(&last);
            }
            self.broadcast(&Event::Gone { seq });
        }
    }

    /// Which live process belongs to which call. `suspect` is the call whose command has just ended: a process that
    /// shows no trace of where it came from, and was not here before, is taken for its own.
    /// `None`: nobody can tell.
    fn census(&mut self, suspect: Option<u64>) -> Option<Census> {
        let suspect = suspect.or_else(|| single(&self.jobs.keys().copied().collect::<Vec<_>>()).copied());
        let mut calls: HashMap<i32, u64> = HashMap::new();
        let mut census = Census::new();
        let mut known = HashMap::new();
        for process in tree::descendants(getpid().as_raw_nonzero().get())? {
            let found = calls.get(&process.parent).copied().or_else(|| self.call_of(&process)).or(suspect);
            let Some(seq) = found else { continue };
            calls.insert(process.pid, seq);
            known.insert((process.pid, process.started), seq);
            census.entry(seq).or_default().push(process);
        }
        self.known = known;
        Some(census)
    }

    /// By what is known of it, by its session, or by the mark in its environment.
    fn call_of(&self, process: &Process) -> Option<u64> {
        let own = self.jobs.values().find(|job| job.status.is_none() && job.pid == process.pid).map(|job| job.seq);
        own.or_else(|| self.known.get(&(process.pid, process.started)).copied())
            .or_else(|| self.jobs.values().find(|job| job.pid == process.session).map(|job| job.seq))
            // Last, because a command may set it to what it likes; what leads to no live call says nothing.
            .or_else(|| tree::variable(process.pid, MARKER)?.parse().ok().filter(|seq| self.jobs.contains_key(seq)))
    }

    /// Begins to kill the whole tree of a call. The first cause counts.
    pub(super) fn begin_ending(&mut self, seq: u64, cause: Cause) {
        let Some(job) = self.jobs.get_mut(&seq).filter(|job| job.ending.is_none()) else { return };
        job.ending = Some(Ending { cause, next: Instant::now() + GRACE, rounds: 0 });
        let members = self.census(None).and_then(|mut census| census.remove(&seq)).unwrap_or_default();
        for process in &members {
            tree::send(process, Signal::TERM);
            if process.stopped {
                tree::send(process, Signal::CONT); // so that it gets to see the TERM
            }
        }
    }

    /// The next round of KILL, for every call whose grace is over.
    pub(super) fn go_on_ending(&mut self, now: Instant) {
        let is_due = |ending: &Ending| now >= ending.next;
        let jobs = self.jobs.iter().filter(|(_, job)| job.ending.as_ref().is_some_and(is_due));
        let due: Vec<u64> = jobs.map(|(seq, _)| *seq).collect();
        if due.is_empty() {
            return;
        }
        let census = self.census(None);
        let found = census.clone().unwrap_or_default();
        for seq in due {
            tree::kill_all(found.get(&seq).map_or(&[], Vec::as_slice));
            if let Some(ending) = self.jobs.get_mut(&seq).and_then(|job| job.ending.as_mut()) {
                ending.rounds += 1;
                ending.next = now + if ending.rounds < QUICK_ROUNDS { ROUND } else { SLOW_ROUND };
            }
        }
        if let Some(census) = census {
            self.let_go_if_sure(&census);
        }
    }

    /// The end of the keeper: the statuses of running commands are written first, then everything is killed.
    pub(super) fn end(&mut self, cause: Cause) {
        self.reap();
        let seqs: Vec<u64> = self.jobs.keys().copied().collect();
        for seq in &seqs {
            self.settle_start(*seq);
            self.drain(*seq);
            let Some(job) = self.jobs.get_mut(seq) else { continue };
            let next = Instant::now();
            job.ending = job.ending.or(Some(Ending { cause, next, rounds: 0 }));
            let status = match &job.status {
                Some(_) => job.final_status(),
                None => Some(job.end_status(job.end_of(None), 0, &self.place.boot_id)),
            };
            if let Some(status) = status {
                self.save(&status);
            }
        }
        self.kill_everything();
        // A second writing says what is known now: the exit codes.
        self.let_go(&Census::new());
        for (seq, job) in std::mem::take(&mut self.jobs) {
            let end = End { exit: None, ..job.end_of(None) };
            let status = job.end_status(end, 0, &self.place.boot_id);
            self.save(&status);
            self.broadcast(&Event::Exited { seq, status });
            self.broadcast(&Event::Gone { seq });
        }
        self.save_again(Instant::now());
        // Its parent would do it too, where it has one that lives.
        if let Some(leaf) = self.place.leaf.take() {
            leaf.end();
        }
        let _ = files::remove_socket(self.place.dir.as_fd());
    }

    /// Kills until nobody is left. What hangs in the kernel is left to the end of the PID namespace, or to the zygote.
    fn kill_everything(&mut self) {
        let until = Instant::now() + LAST_ROUNDS;
        while Instant::now() < until {
            if self.place.isolation.pid_namespace {
                // As init of its namespace: everybody in there but this process.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL);
            } else {
                tree::kill_all(&tree::descendants(getpid().as_raw_nonzero().get()).unwrap_or_default());
            }
            if let Some(leaf) = &self.place.leaf {
                leaf.kill();
            }
            let (ended, childless) = self.wait_for_children();
            for (seq, exit) in ended {
                self.finish(seq, exit, 0);
            }
            if childless {
                return;
            }
            if wait::readable(self.signals.as_fd(), Instant::now() + ROUND).is_ok() {
                while let Ok(Some(_)) = self.signals.read_signal() {}
            }
        }
    }
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// The only one, if it is only one.
fn single<T>(all: &[T]) -> Option<&T> {
    match all {
        [one] => Some(one),
        _ => None,
    }
}
