//! The keeper itself: one loop over signals, connections and the output of commands. Nothing in it waits but `poll`, and a
//! fork, which is done in a second thread that has given up its rights (`nursery.rs`).
//!
//! **Invariant:** a claim is taken before a command is forked, and a status is written before `exited` is said.
//! **Invariant:** when the keeper ends, by whatever way, every process that it started ends too.

mod clients;
mod command;
mod ending;
mod input;
mod job;
mod nursery;
mod privileges;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags};

use crate::leaf::Leaf;
use crate::protocol::{Cause, Event, Message, Status};
use crate::wait::poll_for;
use crate::{Isolation, KeeperSpec, files, sys};
use clients::Connection;
use job::Job;
pub(crate) use nursery::Nursery;

/// The first runtime has this long to attach, however short the lease is; and a connection this long to say hello.
const PATIENCE: Duration = Duration::from_secs(5);
/// More connections than this are closed at once.
const MAX_CONNECTIONS: usize = 16;
/// After a failed write of a status.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// What is copied at once. The only buffer of its size.
const BUFFER: usize = 64 * 1024;

/// Where a keeper works. All descriptors were opened before their paths were hidden, from it too.
pub(crate) struct Place {
    pub(crate) dir: OwnedFd,
    pub(crate) outputs: OwnedFd,
    /// Held for the keeper's life: the sign of it.
    pub(crate) _lock: OwnedFd,
    /// Where commands are born; `None` where there is no such place.
    pub(crate) leaf: Option<Leaf>,
    pub(crate) nursery: Nursery,
    pub(crate) boot_id: String,
    pub(crate) isolation: Isolation,
}

/// A keeper that is set up.
pub(crate) struct Keeper {
    place: Place,
    listener: UnixListener,
    signals: SignalFd,
    lease: Duration,
    spool_limit: u64,
    clients: Vec<Connection>,
    next_token: u64,
    /// The calls with live processes.
    jobs: BTreeMap<u64, Job>,
    /// Which call a process (by pid and start) belongs to, once that was found out: later it may not show any more.
    known: HashMap<(i32, u64), u64>,
    /// Statuses the disk did not take yet.
    unsaved: BTreeMap<u64, Status>,
    save_at: Instant,
    /// When the lease ends; `None` while a runtime is attached.
    lease_until: Option<Instant>,
    /// Set when the keeper is to end, to the reason.
    stop: Option<Cause>,
    buffer: Vec<u8>,
}

/// Who has something for the loop.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(u64),
    Report(u64),
    Output(u64),
    /// A pipe that takes more of what waits for its reader.
    Input(u64),
}

/// The signals a keeper handles; to be called before it has a child.
pub(crate) fn signals() -> io::Result<SignalFd> {
    sys::signals(&[Signal::SIGCHLD, Signal::SIGTERM])
}

impl Keeper {
    /// A keeper that has not begun yet. Its lease runs.
    pub(crate) fn new(spec: &KeeperSpec, place: Place, listener: UnixListener, signals: SignalFd) -> Self {
        let lease = Duration::from_millis(spec.lease_ms);
        let now = Instant::now();
        Self {
            place,
            listener,
            signals,
            lease,
            spool_limit: spec.spool_limit,
            clients: Vec::new(),
            next_token: 1,
            jobs: BTreeMap::new(),
            known: HashMap::new(),
            unsaved: BTreeMap::new(),
            save_at: now,
            lease_until: now.checked_add(lease.max(PATIENCE)),
            stop: None,
            buffer: vec![0; BUFFER],
        }
    }

    pub(crate) fn isolation(&self) -> &Isolation {
        &self.place.isolation
    }

    /// Works until it is to end. Returns the exit code.
    pub(crate) fn run(mut self) -> i32 {
        loop {
            if let Some(cause) = self.stop {
                self.end(cause);
                return 0;
            }
            if self.round().is_err() {
                self.end(Cause::Shutdown); // without `poll` there is no keeping
                return 1;
            }
        }
    }

    fn round(&mut self) -> io::Result<()> {
        // Whoever waits at the door, or has not said hello yet, is heard before a lease is called over: after a stop of
        // this process all of that comes late at once.
        let mut strangers = false;
        for (source, events) in self.wait()? {
            match source {
                Source::Signals => self.read_signals(),
                Source::Listener => strangers |= self.accept(),
                Source::Client(token) => {
                    if events.contains(PollFlags::OUT) {
                        self.flush(token);
                    }
                    strangers |= self.receive(token);
                }
                Source::Report(seq) => self.settle_start(seq),
                Source::Output(seq) => self.copy(seq),
                Source::Input(seq) => self.pour(seq),
            }
        }
        self.sweep_clients();
        self.timers(strangers);
        Ok(())
    }

    /// Waits for the next thing to do. Signals come first, so that a command which ended in time is not killed late.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        for client in &self.clients {
            let wanted = if client.wants_to_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            sources.push(Source::Client(client.token));
            fds.push(PollFd::from_borrowed_fd(client.as_fd(), wanted));
        }
        for (seq, job) in &self.jobs {
            if let Some(start) = &job.starting {
                sources.push(Source::Report(*seq));
                fds.push(PollFd::from_borrowed_fd(start.report.as_fd(), PollFlags::IN));
            }
            if let Some(output) = &job.output {
                sources.push(Source::Output(*seq));
                fds.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
            }
            if let Some(input) = job.input.as_ref().filter(|input| input.has_more()) {
                sources.push(Source::Input(*seq));
                fds.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT));
            }
        }
        let timeout = self.next_time().map(|at| at.saturating_duration_since(Instant::now()));
        poll_for(&mut fds, timeout)?;
        let ready = sources.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, fd)| (source, fd.revents())).collect())
    }

    fn next_time(&self) -> Option<Instant> {
        let hellos = self.clients.iter().filter(|client| !client.attached).map(|client| client.since + PATIENCE);
        let saves = (!self.unsaved.is_empty()).then_some(self.save_at);
        let jobs = self.jobs.values().filter_map(Job::next_time);
        jobs.chain(hellos).chain(saves).chain(self.lease_until).min()
    }

    /// Whatever is due.
    fn timers(&mut self, strangers: bool) {
        let now = Instant::now();
        let seqs: Vec<u64> = self.jobs.keys().copied().collect();
        for seq in seqs {
            if self.jobs.get(&seq).is_some_and(|job| job.is_late(now)) {
                self.begin_ending(seq, Cause::Timeout);
            }
            if let Some(bytes) = self.jobs.get_mut(&seq).and_then(|job| job.announce(now)) {
                self.broadcast(&Event::Output { seq, bytes });
            }
        }
        self.go_on_ending(now);
        if !self.unsaved.is_empty() && now >= self.save_at {
            self.save_again(now);
        }
        if !strangers && self.lease_until.is_some_and(|until| now >= until) {
            self.stop = self.stop.or(Some(Cause::Lease));
        }
    }

    fn read_signals(&mut self) {
        let mut children = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            if number == Signal::SIGTERM as i32 {
                // In a PID namespace only a sender outside it has no number here. A command must not end its keeper.
                if !self.place.isolation.pid_namespace || signal.ssi_pid == 0 {
                    self.stop = self.stop.or(Some(Cause::Shutdown));
                }
            } else {
                children = true;
            }
        }
        if children {
            self.reap();
        }
    }

    /// Takes new connections. True: there was one.
    fn accept(&mut self) -> bool {
        let mut any = false;
        while let Ok((stream, _)) = self.listener.accept() {
            any = true;
            if self.clients.len() < MAX_CONNECTIONS
                && let Ok(client) = Connection::new(self.next_token, stream, Instant::now())
            {
                self.next_token += 1;
                self.clients.push(client);
            }
        }
        any
    }

    fn flush(&mut self, token: u64) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.token == token) {
            client.flush();
        }
    }

    fn broadcast(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        for client in self.clients.iter_mut().filter(|client| client.attached) {
            client.send(&message);
        }
    }

    /// Forgets connections that are over. The lease begins when the last attached one goes.
    fn sweep_clients(&mut self) {
        let now = Instant::now();
        let was_attached = self.lease_until.is_none();
        self.clients.retain(|client| !client.is_broken() && (client.attached || now < client.since + PATIENCE));
        if was_attached && !self.clients.iter().any(|client| client.attached) {
            self.lease_until = now.checked_add(self.lease);
        }
    }

    /// Writes a status, now or as soon as the disk takes it.
    fn save(&mut self, status: &Status) {
        if files::write_status_at(self.place.dir.as_fd(), status).is_ok() {
            self.unsaved.remove(&status.seq);
        } else {
            self.unsaved.insert(status.seq, status.clone());
            self.save_at = Instant::now() + SAVE_AGAIN;
        }
    }

    fn save_again(&mut self, now: Instant) {
        self.save_at = now + SAVE_AGAIN;
        let dir = self.place.dir.as_fd();
        self.unsaved.retain(|_, status| files::write_status_at(dir, status).is_err());
    }
}
