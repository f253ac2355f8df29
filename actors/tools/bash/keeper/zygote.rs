//! The process that forks keepers. `main` forks it first of all, so it stays as small as `main` was then, and may fork
//! without a thought for threads.

#![expect(
    clippy::disallowed_types,
    reason = "one lock pairs requests with answers on the one connection; no actor waits on it"
)]

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use serde::{Deserialize, Serialize};

use crate::lines::{Cutter, Line};
use crate::parent::{self, Keepers};
use crate::protocol::{Refusal, RefusalCode};
use crate::sys::{self, Side};
use crate::{KeeperError, KeeperSpec, SpawnOutcome, Spawned, wait};

/// The longest request to a zygote or a helper.
pub(crate) const MAX_SPEC: usize = 1024 * 1024;

/// How long the runtime waits for a keeper.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long keepers may take to shut down before they are killed.
const SHUTDOWN: Duration = Duration::from_secs(8);
/// How long the zygote may take to end, its keepers included.
const CLOSE: Duration = Duration::from_secs(12);

/// A request to the zygote.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    id: u64,
    #[serde(flatten)]
    call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Call {
    Spawn(KeeperSpec),
    /// Shut all keepers down, then end. The answer is the end.
    Finish {},
}

/// Its answer to `spawn`.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    id: Option<u64>,
    #[serde(flatten)]
    outcome: SpawnOutcome,
}

/// The runtime's handle to its zygote. Dropped without [`Zygote::close`], the zygote ends and leaves its keepers alive.
#[derive(Debug)]
pub struct Zygote {
    pid: i32,
    link: Mutex<Link>,
}

/// The runtime's end of the connection.
#[derive(Debug)]
struct Link {
    stream: UnixStream,
    cutter: Cutter,
    next_id: u64,
}

impl Zygote {
    /// Forks the zygote. Call it before the first thread: with a second one it is refused. The child never returns from
    /// this call.
    pub fn fork() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        match sys::fork(0)? {
            Side::Parent { child } => {
                let link = Link { stream: ours, cutter: Cutter::new(MAX_SPEC), next_id: 1 };
                Ok(Self { pid: child, link: Mutex::new(link) })
            }
            Side::Child => {
                // A panic must not climb into the frames of `main`.
                let ended = catch_unwind(AssertUnwindSafe(|| be_zygote(theirs)));
                sys::exit_now(i32::from(!matches!(ended, Ok(Ok(())))))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks it for a keeper. Blocks for a few milliseconds, five seconds at most; then the keeper's socket listens.
    pub fn spawn(&self, spec: &KeeperSpec) -> Result<Spawned, KeeperError> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let id = link.ask(Call::Spawn(spec.clone()))?;
        match link.answer_to(id)? {
            SpawnOutcome::Ok(spawned) => Ok(spawned),
            SpawnOutcome::Error(refusal) => Err(refusal.into()),
        }
    }

    /// Ends it and waits for it. Its keepers are shut down first, unless `leave_keepers`: then they live on by their
    /// leases.
    pub fn close(self, leave_keepers: bool) -> io::Result<()> {
        let mut link = self.link.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !leave_keepers {
            let _ = link.ask(Call::Finish {}); // fails only if it is dead already
        }
        drop(link);
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        if !wait::readable(handle.as_fd(), Instant::now() + CLOSE)? {
            rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL)?;
        }
        rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
        Ok(())
    }
}

impl Link {
    fn ask(&mut self, call: Call) -> Result<u64, KeeperError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Ask { id, call }).map_err(|why| KeeperError::corrupt("spec", &why))?;
        line.push(b'\n');
        if line.len() >= MAX_SPEC {
            return Err(Refusal::new(RefusalCode::BadSpec, "the spec is too long").into());
        }
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(&line).map_err(closed)?;
        Ok(id)
    }

    /// Waits for the answer by this id. One that came too late for its own asker is skipped.
    fn answer_to(&mut self, id: u64) -> Result<SpawnOutcome, KeeperError> {
        let until = Instant::now() + PATIENCE;
        let mut chunk = [0; 4096];
        loop {
            if !wait::readable(self.stream.as_fd(), until)? {
                return Err(KeeperError::Timeout);
            }
            let count = self.stream.read(&mut chunk).map_err(closed)?;
            if count == 0 {
                return Err(KeeperError::Closed);
            }
            let mut lines = Vec::new();
            self.cutter.take(chunk.get(..count).unwrap_or_default(), &mut lines);
            for line in lines {
                let Line::Whole(line) = line else { continue };
                let told: Told = serde_json::from_slice(&line).map_err(|why| KeeperError::corrupt("answer", &why))?;
                if told.id == Some(id) || told.id.is_none() {
                    return Ok(told.outcome);
                }
            }
        }
    }
}

fn closed(error: io::Error) -> KeeperError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => KeeperError::Closed,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => KeeperError::Timeout,
        _ => error.into(),
    }
}

/// The whole life of the zygote, in the forked child.
fn be_zygote(mut stream: UnixStream) -> io::Result<()> {
    sys::close_all_but(&[stream.as_fd()])?;
    let signals = sys::signals(&[Signal::SIGCHLD, Signal::SIGTERM])?;
    parent::settle(c"lakitu-zygote");
    parent::leave_streams()?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut keepers = Keepers::default();
    let mut cutter = Cutter::new(MAX_SPEC);
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN),
        ];
        wait::poll_for(&mut fds, None)?;
        let asked = fds.last().is_some_and(|fd| !fd.revents().is_empty());
        take_signals(&signals);
        keepers.reap();
        if !asked {
            continue;
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(()); // the runtime is gone; keepers live on by their leases
        }
        let mut lines = Vec::new();
        cutter.take(chunk.get(..count).unwrap_or_default(), &mut lines);
        for line in lines {
            let told = match understand(&line) {
                Ok(Ask { call: Call::Finish {}, .. }) => return finish(keepers, &signals),
                Ok(Ask { id, call: Call::Spawn(spec) }) => Told { id: Some(id), outcome: keepers.launch(&spec).into() },
                Err(refusal) => Told { id: None, outcome: SpawnOutcome::Error(refusal) },
            };
            let mut line = serde_json::to_vec(&told)?;
            line.push(b'\n');
            stream.write_all(&line)?;
        }
    }
}

fn understand(line: &Line) -> Result<Ask, Refusal> {
    match line {
        Line::Whole(line) => {
            serde_json::from_slice(line).map_err(|why| Refusal::new(RefusalCode::BadRequest, why.to_string()))
        }
        Line::TooLong => Err(Refusal::new(RefusalCode::LineTooLong, "the line was skipped")),
    }
}

/// What they say is asked of the kernel afterwards. SIGTERM is none of the zygote's business: it ends with its runtime.
fn take_signals(signals: &SignalFd) {
    while let Ok(Some(_)) = signals.read_signal() {}
}

/// Shuts the keepers down and waits for them; the last ones are killed.
fn finish(mut keepers: Keepers, signals: &SignalFd) -> io::Result<()> {
    let until = Instant::now() + SHUTDOWN;
    keepers.signal(rustix::process::Signal::TERM);
    while !keepers.reap() && Instant::now() < until {
        wait::readable(signals.as_fd(), until)?;
        take_signals(signals);
    }
    if !keepers.is_empty() {
        keepers.signal(rustix::process::Signal::KILL);
        let last = Instant::now() + Duration::from_secs(1);
        while !keepers.reap() && Instant::now() < last {
            wait::readable(signals.as_fd(), last)?;
            take_signals(signals);
        }
    }
    Ok(())
}
