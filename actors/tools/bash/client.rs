//! One connection to a keeper: requests go in, and what the keeper says of its jobs is kept for whoever waits for them.
//!
//! One task owns the socket. Waiters look at a state, not at a stream of events, so none is missed and a dropped waiter
//! costs nothing.

use lakitu_kernel::supervise::boxed;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use lakitu_keeper::protocol::{
    Call, Event, JobState, MAX_LINE, Message, Outcome, Refusal, Reply, Request, Status, VERSION,
};
use lakitu_keeper::{Confinement, KeeperError};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::counts::Tally;
use crate::awake;

/// A keeper never waits for anything itself; one that is silent for so long hangs.
const ANSWER: Duration = Duration::from_secs(10);
/// Requests that wait to be written.
const REQUESTS_QUEUED: usize = 64;
/// Ended jobs that are remembered; of older ones the status file tells.
const ENDED_KEPT: usize = 64;
const READ_CHUNK: usize = 8 * 1024;

/// What is known of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Which start of its call.
    pub(super) attempt: u32,
    /// How much it has put out.
    pub(super) bytes: u64,
    /// How its command ended.
    pub(super) status: Option<Status>,
    /// Its last process is dead.
    pub(super) gone: bool,
}

/// What the keeper has said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) jobs: BTreeMap<u64, Job>,
    /// Nothing more will be said.
    pub(super) closed: bool,
}

/// What carries a conversation: a socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A connection. Dropping it closes the socket; the keeper and its commands live on.
#[derive(Debug)]
pub(super) struct Link {
    requests: mpsc::Sender<Asked>,
    seen: watch::Receiver<Seen>,
    /// Taken while the keeper answered, so it can never name another process.
    keeper: Option<OwnedFd>,
    /// Of the keeper's commands, as it said.
    confinement: Confinement,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct Asked {
    call: Call,
    answer: oneshot::Sender<Result<Reply, Refusal>>,
}

impl Link {
    /// Connects to the keeper of `dir`, without attaching.
    pub(super) async fn open(dir: &Path, tally: Tally) -> Result<Self, KeeperError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty()).map_err(io::Error::from)?;
        let connect = UnixStream::connect(lakitu_keeper::socket_path(dir.as_fd()));
        let stream = timeout(ANSWER, connect).await.map_err(|_| KeeperError::Timeout)??;
        let keeper = peer(&stream);
        Ok(Self::over(stream, keeper, tally))
    }

    /// The same over a connection that is there. `keeper`: the process behind it, where it is one.
    pub(super) fn over<S: Stream>(stream: S, keeper: Option<OwnedFd>, tally: Tally) -> Self {
        let (requests, asked) = mpsc::channel(REQUESTS_QUEUED);
        let (tell, seen) = watch::channel(Seen::default());
        let mut task = JoinSet::new();
        task.spawn(boxed(Hub::new(tell, tally).serve(stream, asked)));
        Self { requests, seen, keeper, confinement: Confinement::default(), _task: task }
    }

    /// Attaches: holds off the lease, and from now on the jobs are known.
    pub(super) async fn hello(&mut self) -> Result<(), KeeperError> {
        match self.request(Call::Hello { version: VERSION }).await? {
            Reply::Hello(welcome) => {
                self.confinement = welcome.isolation.confinement;
                Ok(())
            }
            other @ (Reply::Started { .. }
            | Reply::Status(_)
            | Reply::Taken {}
            | Reply::Killing {}
            | Reply::Jobs(_)
            | Reply::ShuttingDown {}) => Err(unexpected("hello", &other)),
        }
    }

    /// What confines the keeper's commands.
    pub(super) fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// Asks and waits for the answer. What was asked may happen even where this future is dropped.
    pub(super) async fn request(&self, call: Call) -> Result<Reply, KeeperError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.requests.send(Asked { call, answer }).await.map_err(|_| KeeperError::Closed)?;
            answered.await.map_err(|_| KeeperError::Closed)?.map_err(KeeperError::from)
        };
        awake::within(ANSWER, asked).await.ok_or(KeeperError::Timeout)?
    }

    /// Every job that is alive.
    pub(super) async fn list(&self) -> Result<Vec<JobState>, KeeperError> {
        match self.request(Call::List {}).await? {
            Reply::Jobs(jobs) => Ok(jobs),
            other @ (Reply::Started { .. }
            | Reply::Status(_)
            | Reply::Taken {}
            | Reply::Killing {}
            | Reply::Hello(_)
            | Reply::ShuttingDown {}) => Err(unexpected("list", &other)),
        }
    }

    /// What the keeper says, as it says it.
    pub(super) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Whether nothing runs at the keeper, as far as it has said.
    pub(super) fn is_idle(&self) -> bool {
        self.seen.borrow().jobs.values().all(|job| job.gone)
    }

    /// Waits until nothing runs at the keeper, as far as it says, or the connection is closed.
    pub(super) async fn quiet(&self) {
        let quiet = |seen: &Seen| seen.closed || seen.jobs.values().all(|job| job.gone);
        // An error means that the task is gone, which is as closed as it gets.
        let _ = self.seen.clone().wait_for(quiet).await;
        // A `watch` wakes in no order: whoever waits for the end of one job is to know before what is done behind the last.
        tokio::task::yield_now().await;
    }

    /// Waits until the last process of a job is dead, or its keeper is, which is the same.
    pub(super) async fn gone(&self, seq: u64) {
        let gone = |seen: &Seen| seen.closed || seen.jobs.get(&seq).is_none_or(|job| job.gone);
        // An error means that the connection is closed.
        let _ = self.seen.clone().wait_for(gone).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.seen.borrow().closed || self.seen.has_changed().is_err()
    }

    /// Waits until the keeper has closed the connection.
    pub(super) async fn closed(&self) {
        // An error means that the task is gone, which is as closed as it gets.
        let _ = self.seen.clone().wait_for(|seen| seen.closed).await;
    }

    /// Kills a keeper that hangs, and waits up to `wait` for its end. In a PID namespace everything below it dies with
    /// it; elsewhere the zygote inherits what it leaves behind and kills that.
    pub(super) async fn kill_keeper(&self, wait: Duration) {
        let Some(keeper) = &self.keeper else { return };
        match rustix::process::pidfd_send_signal(keeper, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => tracing::warn!(%error, "a keeper that hangs cannot be killed"),
        }
        self.ended(wait).await;
    }

    /// Waits up to `wait` for the end of the keeper's process; false where it is not over by then.
    pub(super) async fn ended(&self, wait: Duration) -> bool {
        let Some(keeper) = self.keeper.as_ref().and_then(|keeper| keeper.try_clone().ok()) else {
            return timeout(wait, self.closed()).await.is_ok();
        };
        timeout(wait, exit_of(keeper)).await.is_ok()
    }
}

/// Ends when the process behind a pidfd has ended.
pub(super) async fn exit_of(pidfd: OwnedFd) {
    #[allow(
        deprecated,
        reason = "its successor is unsafe for any type's sake; an owned descriptor keeps what that asks"
    )]
    let waited = AsyncFd::with_interest(pidfd, Interest::READABLE);
    match waited {
        Ok(pidfd) => drop(pidfd.readable().await),
        Err(error) => tracing::warn!(%error, "a process cannot be waited for"),
    }
}

/// A pidfd of a process.
pub(super) fn pidfd(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn peer(stream: &UnixStream) -> Option<OwnedFd> {
    pidfd(stream.peer_cred().ok()?.pid()?)
}

fn unexpected(request: &str, reply: &Reply) -> KeeperError {
    KeeperError::Corrupt { what: format!("the answer to {request}"), why: format!("{reply:?}") }
}

struct Hub {
    inbox: BytesMut,
    outbox: BytesMut,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    tell: watch::Sender<Seen>,
    tally: Tally,
}

struct Pending {
    answer: oneshot::Sender<Result<Reply, Refusal>>,
    /// (seq, attempt), of a start.
    start: Option<(u64, u32)>,
}

impl Hub {
    fn new(tell: watch::Sender<Seen>, tally: Tally) -> Self {
        let (inbox, outbox) = (BytesMut::new(), BytesMut::new());
        Self { inbox, outbox, next_id: 1, pending: BTreeMap::new(), tell, tally }
    }

    async fn serve<S: Stream>(mut self, mut stream: S, mut asked: mpsc::Receiver<Asked>) {
        if let Err(error) = self.exchange(&mut stream, &mut asked).await {
            tracing::debug!(%error, "the connection to a keeper ended");
        }
        // Whoever waits for the connection's end finds it out of the counts.
        let Self { tell, tally, .. } = self;
        drop(tally);
        tell.send_modify(|seen| seen.closed = true);
    }

    async fn exchange<S: Stream>(
        &mut self,
        stream: &mut S,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Result<(), KeeperError> {
        let (mut read, mut write) = tokio::io::split(stream);
        loop {
            self.inbox.reserve(READ_CHUNK);
            // Writing first: it ends, and a keeper that talks without a pause would keep it from beginning.
            tokio::select! {
                biased;
                written = write.write_buf(&mut self.outbox), if self.outbox.has_remaining() => drop(written?),
                count = read.read_buf(&mut self.inbox) => {
                    if count? == 0 {
                        return Err(KeeperError::Closed);
                    }
                    self.take_lines()?;
                }
                // A line may be as long as a command: the next one waits until the last is on its way.
                next = asked.recv(), if !self.outbox.has_remaining() => match next {
                    Some(asked) => self.ask(asked)?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn ask(&mut self, asked: Asked) -> Result<(), KeeperError> {
        let id = self.next_id;
        self.next_id += 1;
        let start = match &asked.call {
            Call::Start(start) => Some((start.seq, start.attempt)),
            Call::Hello { .. }
            | Call::Status { .. }
            | Call::Input(_)
            | Call::Kill { .. }
            | Call::List {}
            | Call::Shutdown {} => None,
        };
        let request = Request { id, call: asked.call };
        let line = serde_json::to_vec(&request)
            .map_err(|why| KeeperError::Corrupt { what: "request".to_owned(), why: why.to_string() })?;
        self.outbox.extend_from_slice(&line);
        self.outbox.extend_from_slice(b"\n");
        self.pending.insert(id, Pending { answer: asked.answer, start });
        Ok(())
    }

    fn take_lines(&mut self) -> Result<(), KeeperError> {
        while let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
            let line = self.inbox.split_to(end + 1);
            let message = serde_json::from_slice(&line)
                .map_err(|why| KeeperError::Corrupt { what: "a keeper's line".to_owned(), why: why.to_string() })?;
            match message {
                Message::Event(event) => self.heard(event),
                Message::Answer(answer) => {
                    let Some(pending) = answer.id.and_then(|id| self.pending.remove(&id)) else { continue };
                    self.answered(pending, answer.outcome);
                }
            }
        }
        if self.inbox.len() > MAX_LINE {
            return Err(KeeperError::Corrupt { what: "a keeper's line".to_owned(), why: "too long".to_owned() });
        }
        Ok(())
    }

    fn answered(&mut self, pending: Pending, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Ok(reply) => {
                self.learn(&reply, pending.start);
                Ok(reply)
            }
            Outcome::Error(refusal) => Err(refusal),
        };
        // Whoever asked may have stopped waiting.
        let _ = pending.answer.send(answer);
    }

    fn learn(&mut self, reply: &Reply, start: Option<(u64, u32)>) {
        match reply {
            Reply::Started { .. } => {
                let Some((seq, attempt)) = start else { return };
                self.change(|jobs| {
                    // Its end may have been heard before the answer to its start.
                    if jobs.get(&seq).is_none_or(|job| job.attempt != attempt) {
                        jobs.insert(seq, Job { attempt, bytes: 0, status: None, gone: false });
                    }
                });
            }
            Reply::Hello(welcome) => self.change(|jobs| jobs.extend(welcome.jobs.iter().map(known))),
            Reply::Jobs(alive) => self.change(|jobs| jobs.extend(alive.iter().map(known))),
            Reply::Status(state) => {
                let Some(job) = &state.job else { return };
                self.change(|jobs| jobs.extend([known(job)]));
            }
            Reply::Taken {} | Reply::Killing {} | Reply::ShuttingDown {} => {}
        }
    }

    fn heard(&mut self, event: Event) {
        self.change(|jobs| match event {
            Event::Exited { seq, status } => {
                let job = Job { attempt: status.attempt, bytes: status.bytes, status: Some(status), gone: false };
                jobs.insert(seq, job);
            }
            Event::Output { seq, bytes } => {
                if let Some(job) = jobs.get_mut(&seq) {
                    job.bytes = bytes;
                }
            }
            Event::Gone { seq } => {
                if let Some(job) = jobs.get_mut(&seq) {
                    job.gone = true;
                }
            }
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<u64, Job>)) {
        let mut alive = 0;
        self.tell.send_modify(|seen| {
            change(&mut seen.jobs);
            alive = seen.jobs.values().filter(|job| !job.gone).count();
            let ended = seen.jobs.len() - alive;
            let old: Vec<u64> = seen.jobs.iter().filter(|(_, job)| job.gone).map(|(seq, _)| *seq).collect();
            for seq in old.into_iter().take(ended.saturating_sub(ENDED_KEPT)) {
                seen.jobs.remove(&seq);
            }
        });
        self.tally.jobs(alive);
    }
}

fn known(job: &JobState) -> (u64, Job) {
    let known = Job { attempt: job.attempt, bytes: job.bytes, status: job.status.clone(), gone: false };
    (job.seq, known)
}
