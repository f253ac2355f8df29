//! One call in a keeper: a command, its output, and what it left behind.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::input::Pipe;
use crate::protocol::{Cause, End, Exit, JobState, Start, Status, VERSION};

/// `output` events of one call are at least this far apart.
const OUTPUT_EVERY: Duration = Duration::from_millis(50);

/// A start whose outcome is not known yet: the child is between fork and exec.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) report: OwnedFd,
    /// Who is to be told: connection and request.
    pub(super) asked_by: (u64, u64),
}

/// A call that is being killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) cause: Cause,
    /// When to look, and kill, again.
    pub(super) next: Instant,
    pub(super) rounds: u32,
}

/// What became of one copy from the pipe to the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// Copied; there may be more.
    Some(usize),
    /// Nothing there now, or nobody left to write.
    Nothing,
    /// The spool may hold no more. The pipe is closed.
    Full,
}

/// A call with live processes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) seq: u64,
    pub(super) attempt: u32,
    pub(super) label: String,
    pub(super) pid: i32,
    pub(super) starting: Option<Starting>,
    pub(super) output: Option<OwnedFd>,
    /// Where its input goes; `None` when it takes none (any more).
    pub(super) input: Option<Pipe>,
    /// The key of the last input that was taken.
    pub(super) last_input: Option<u64>,
    pub(super) ending: Option<Ending>,
    /// Set when the command itself has ended.
    pub(super) status: Option<Status>,
    spool: File,
    bytes: u64,
    lost_bytes: u64,
    announced: (u64, Option<Instant>),
    started: Instant,
    started_ms: u64,
    deadline: Instant,
}

impl Job {
    pub(super) fn new(start: &Start, child: super::command::Child, spool: File, asked_by: (u64, u64)) -> Self {
        let started = Instant::now();
        let bytes = spool.metadata().map_or(0, |meta| meta.len());
        Self {
            seq: start.seq,
            attempt: start.attempt,
            label: start.label.clone(),
            pid: child.pid,
            starting: Some(Starting { report: child.report, asked_by }),
            output: Some(child.output),
            input: child.input.map(Pipe::new),
            last_input: None,
            ending: None,
            status: None,
            spool,
            bytes,
            lost_bytes: 0,
            announced: (bytes, None),
            started,
            started_ms: unix_ms(),
            deadline: started + Duration::from_millis(start.timeout_ms),
        }
    }

    /// Its deadline has passed and nobody is killing it yet.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.ending.is_none() && now >= self.deadline
    }

    /// When the loop must look at this job again.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let deadline = self.ending.is_none().then_some(self.deadline);
        let ending = self.ending.map(|ending| ending.next);
        let announce = (self.bytes != self.announced.0).then(|| self.announced.1.map_or(self.started, later));
        [deadline, ending, announce].into_iter().flatten().min()
    }

    /// The length to announce, if it is time to.
    pub(super) fn announce(&mut self, now: Instant) -> Option<u64> {
        let due = self.bytes != self.announced.0 && self.announced.1.is_none_or(|last| now >= later(last));
        due.then(|| {
            self.announced = (self.bytes, Some(now));
            self.bytes
        })
    }

    /// Copies once from the pipe to the spool.
    pub(super) fn copy(&mut self, buffer: &mut [u8], limit: u64) -> Copied {
        let Some(output) = &self.output else { return Copied::Nothing };
        let count = match rustix::io::read(output, &mut *buffer) {
            Ok(0) => {
                self.output = None;
                return Copied::Nothing;
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Copied::Nothing,
            Err(_) => {
                self.output = None;
                return Copied::Nothing;
            }
        };
        let room = usize::try_from(limit.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        let fits = buffer.get(..count.min(room)).unwrap_or_default();
        self.write(fits);
        if count > room {
            self.output = None; // whoever writes on gets SIGPIPE
            return Copied::Full;
        }
        Copied::Some(count)
    }

    /// Appends to the spool. What a full disk does not take is lost and counted: stopping the command would not help it.
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.spool.write(bytes) {
                Ok(count) if count > 0 => {
                    self.bytes += count as u64;
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => {
                    self.lost_bytes += bytes.len() as u64;
                    return;
                }
            }
        }
    }

    /// How the command ended, to be written down.
    pub(super) fn end_status(&self, end: End, survivors: u32, boot_id: &str) -> Status {
        let elapsed = self.elapsed_ms();
        Status {
            version: VERSION,
            seq: self.seq,
            attempt: self.attempt,
            boot_id: boot_id.to_owned(),
            end,
            started_ms: self.started_ms,
            ended_ms: unix_ms(),
            duration_ms: elapsed,
            bytes: self.bytes,
            lost_bytes: self.lost_bytes,
            survivors,
            survivors_end: None,
            last_input: self.last_input,
        }
    }

    /// The status after its last process is gone, if that adds anything: survivors wrote on, took input, or were killed.
    pub(super) fn final_status(&self) -> Option<Status> {
        let status = self.status.as_ref()?;
        let survivors_end = self.ending.filter(|_| status.survivors > 0).map(|ending| ending.cause);
        let (bytes, lost_bytes, last_input) = (self.bytes, self.lost_bytes, self.last_input);
        let last = Status { bytes, lost_bytes, survivors_end, last_input, ..status.clone() };
        (last != *status).then_some(last)
    }

    /// Why and how it ended, from what the kernel says of the command.
    pub(super) fn end_of(&self, exit: Option<Exit>) -> End {
        End { cause: self.ending.map_or(Cause::Exited, |ending| ending.cause), exit, detail: None }
    }

    pub(super) fn state(&self) -> JobState {
        JobState {
            seq: self.seq,
            attempt: self.attempt,
            label: self.label.clone(),
            pid: self.pid,
            started_ms: self.started_ms,
            elapsed_ms: self.elapsed_ms(),
            bytes: self.bytes,
            status: self.status.clone(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn later(last: Instant) -> Instant {
    last + OUTPUT_EVERY
}

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
