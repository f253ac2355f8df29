//! What clients ask, and the answers.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Keeper;
use super::command::{self, Child, Command};
use super::job::{Copied, Job, unix_ms};
use crate::lines::Line;
use crate::protocol::{
    Answer, Call, CallState, Cause, End, MAX_JOBS, Message, Outcome, Refusal, RefusalCode, Reply, Request, Start,
    Status, VERSION, Welcome,
};
use crate::{Cgroup, files};

impl Keeper {
    /// Reads and answers what one client sent. True: it was not attached before, so it may be about to.
    pub(super) fn receive(&mut self, token: u64) -> bool {
        let Some(client) = self.clients.iter_mut().find(|client| client.token == token) else { return false };
        let stranger = !client.attached;
        for line in client.receive(&mut self.buffer) {
            self.handle(token, line);
        }
        stranger
    }

    fn handle(&mut self, token: u64, line: Line) {
        let (id, outcome) = match line {
            Line::TooLong => (None, Err(Refusal::new(RefusalCode::LineTooLong, "the line was skipped"))),
            Line::Whole(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => return,
            Line::Whole(bytes) => match Request::parse(&bytes) {
                Ok(request) => (Some(request.id), self.answer(token, request)),
                Err((id, refusal)) => (id, Err(refusal)),
            },
        };
        match outcome {
            Ok(Some(reply)) => self.send_answer(token, id, Outcome::Ok(reply)),
            Ok(None) => {} // it is not known yet
            Err(refusal) => self.send_answer(token, id, Outcome::Error(refusal)),
        }
    }

    fn send_answer(&mut self, token: u64, id: Option<u64>, outcome: Outcome) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.token == token) {
            client.send(&Message::Answer(Answer { id, outcome }));
        }
    }

    /// `None`: the answer comes later.
    fn answer(&mut self, token: u64, request: Request) -> Result<Option<Reply>, Refusal> {
        let attached = self.clients.iter().any(|client| client.token == token && client.attached);
        match request.call {
            Call::Hello { version } => self.hello(token, version).map(Some),
            Call::Shutdown {} => {
                self.stop = self.stop.or(Some(Cause::Shutdown));
                Ok(Some(Reply::ShuttingDown {}))
            }
            _ if !attached => Err(Refusal::new(RefusalCode::HelloFirst, "say hello first")),
            Call::Start(start) => self.start((token, request.id), &start).map(|()| None),
            Call::Status { seq } => self.call_state(seq).map(|state| Some(Reply::Status(state))),
            Call::Input(input) => self.input(&input).map(Some),
            Call::Kill { seq } if self.jobs.contains_key(&seq) => {
                self.begin_ending(seq, Cause::Killed);
                Ok(Some(Reply::Killing {}))
            }
            Call::Kill { seq } => Err(Refusal::new(RefusalCode::NotFound, format!("call {seq} is not alive"))),
            Call::List {} => Ok(Some(Reply::Jobs(self.jobs.values().map(Job::state).collect()))),
        }
    }

    fn hello(&mut self, token: u64, version: u32) -> Result<Reply, Refusal> {
        if version != VERSION {
            let message = format!("this keeper speaks version {VERSION}");
            return Err(Refusal::new(RefusalCode::UnsupportedVersion, message));
        }
        if let Some(client) = self.clients.iter_mut().find(|client| client.token == token) {
            client.attached = true;
            self.lease_until = None;
        }
        Ok(Reply::Hello(Welcome {
            version: VERSION,
            boot_id: self.place.boot_id.clone(),
            isolation: self.place.isolation.clone(),
            jobs: self.jobs.values().map(Job::state).collect(),
        }))
    }

    fn call_state(&self, seq: u64) -> Result<CallState, Refusal> {
        let job = self.jobs.get(&seq).map(Job::state);
        let status = match job.as_ref().and_then(|job| job.status.as_ref()).or_else(|| self.unsaved.get(&seq)) {
            Some(status) => Some(status.clone()),
            None => files::read_status_at(self.place.dir.as_fd(), seq)
                .map_err(|error| Refusal::new(RefusalCode::Storage, error.to_string()))?,
        };
        Ok(CallState { job, status })
    }

    /// Claims and forks. The answer follows when the program runs, or cannot.
    fn start(&mut self, asked_by: (u64, u64), start: &Start) -> Result<(), Refusal> {
        let command = Arc::new(Command::check(start)?);
        if self.stop.is_some() {
            return Err(Refusal::new(RefusalCode::ShuttingDown, "the keeper is ending"));
        }
        if self.jobs.contains_key(&start.seq) || self.call_state(start.seq)?.status.is_some() {
            return Err(Refusal::new(RefusalCode::AlreadyClaimed, format!("call {} began before", start.seq)));
        }
        if self.jobs.len() >= MAX_JOBS {
            return Err(Refusal::new(RefusalCode::TooManyJobs, format!("{MAX_JOBS} jobs are running")));
        }
        let storage = |error: io::Error| Refusal::new(RefusalCode::Storage, error.to_string());
        let spool = self.open_spool(start.seq).map_err(storage)?;
        let dir = self.place.dir.as_fd();
        if !files::claim_at(dir, start.seq, start.attempt, "keeper", &self.place.boot_id).map_err(storage)? {
            let message = format!("call {}, attempt {} is claimed", start.seq, start.attempt);
            return Err(Refusal::new(RefusalCode::AlreadyClaimed, message));
        }
        match self.fork(&command) {
            Ok(child) => {
                self.jobs.insert(start.seq, Job::new(start, child, spool, asked_by));
                Ok(())
            }
            Err(error) => {
                let why = format!("fork: {error}");
                self.save(&never_ran(start.seq, start.attempt, &self.place.boot_id, &why));
                Err(Refusal::new(RefusalCode::SpawnFailed, why))
            }
        }
    }

    /// Forks a command, and without the cgroup where somebody removed that: it is empty between two commands.
    fn fork(&mut self, command: &Arc<Command>) -> io::Result<Child> {
        match command.fork(&mut self.place.nursery, self.place.leaf.as_ref()) {
            Err(error) if self.place.leaf.is_some() && is_missing(&error) => {
                self.place.leaf = None;
                self.place.isolation.cgroup = Cgroup::No("somebody removed it".to_owned());
                command.fork(&mut self.place.nursery, None)
            }
            result => result,
        }
    }

    fn open_spool(&self, seq: u64) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::openat(&self.place.outputs, format!("{seq}.out"), flags, mode)?))
    }

    /// Answers a `start` once the child has executed its program, or has failed to.
    pub(super) fn settle_start(&mut self, seq: u64) {
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        let Some(starting) = &job.starting else { return };
        let mut report = [0; 16];
        let failed = match rustix::io::read(&starting.report, &mut report) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(0) | Err(_) => None,
            Ok(count) => Some(command::explain(report.get(..count).unwrap_or_default())),
        };
        let (token, id) = starting.asked_by;
        let (pid, attempt) = (job.pid, job.attempt);
        job.starting = None;
        let Some(why) = failed else {
            self.send_answer(token, Some(id), Outcome::Ok(Reply::Started { pid }));
            return;
        };
        self.jobs.remove(&seq); // its child is reaped like any other
        self.save(&never_ran(seq, attempt, &self.place.boot_id, &why));
        self.send_answer(token, Some(id), Outcome::Error(Refusal::new(RefusalCode::SpawnFailed, why)));
    }

    /// Copies what one call wrote.
    pub(super) fn copy(&mut self, seq: u64) {
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        if job.copy(&mut self.buffer, self.spool_limit) == Copied::Full {
            self.begin_ending(seq, Cause::SpoolFull);
        }
    }
}

/// What a birth in a removed cgroup fails with, by the version of the kernel.
fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NODEV))
}

fn never_ran(seq: u64, attempt: u32, boot_id: &str, why: &str) -> Status {
    let now = unix_ms();
    Status {
        version: VERSION,
        seq,
        attempt,
        boot_id: boot_id.to_owned(),
        end: End { cause: Cause::SpawnFailed, exit: None, detail: Some(why.to_owned()) },
        started_ms: now,
        ended_ms: now,
        duration_ms: 0,
        bytes: 0,
        lost_bytes: 0,
        survivors: 0,
        survivors_end: None,
        last_input: None,
    }
}
