//! The keepers of a simulated world: they say what real ones say, and leave the same files behind. What they run takes
//! effect when it begins, takes its time, and lives on when the runtime is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_keeper::protocol::{
    Answer, Call, CallState, Cause, End, Event, Exit, JobState, Message, Outcome, Refusal, RefusalCode, Reply, Request,
    Start, Status, VERSION, Welcome,
};
use lakitu_keeper::{Cgroup, Confinement, Isolation, KeeperError, KeeperSpec, Spawned};
use lakitu_kernel::supervise::Guarded;
use lakitu_kernel::{Seq, ThreadId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::time::sleep;

use super::World;

/// All keepers of a world.
#[derive(Debug, Clone)]
pub struct Keepers {
    world: Arc<World>,
    table: Arc<Guarded<BTreeMap<PathBuf, Keeper>>>,
}

#[derive(Debug)]
struct Keeper {
    outputs: PathBuf,
    lease: Duration,
    alive: bool,
    attached: usize,
    detached_at: Duration,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    attempt: u32,
    label: String,
    started: Duration,
    ends: Duration,
    status: Option<Status>,
}

impl Job {
    fn state(&self, seq: u64, now: Duration) -> JobState {
        JobState {
            seq,
            attempt: self.attempt,
            label: self.label.clone(),
            pid: 1,
            started_ms: ms(self.started),
            elapsed_ms: ms(now.saturating_sub(self.started)),
            bytes: 0,
            status: self.status.clone(),
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

fn isolation() -> Isolation {
    Isolation {
        pid_namespace: true,
        mount_namespace: true,
        user_namespace: false,
        reason: None,
        cgroup: Cgroup::Yes,
        confinement: Confinement::Yes,
    }
}

fn refusal(code: RefusalCode) -> Outcome {
    Outcome::Error(Refusal { code, message: "simulated".to_owned() })
}

impl Keeper {
    /// What happened up to now: commands ended, the lease ran out.
    fn pass(&mut self, dir: &Path, now: Duration) {
        if !self.alive {
            return;
        }
        let lease = (self.attached == 0).then(|| self.detached_at + self.lease).filter(|end| *end <= now);
        let until = lease.unwrap_or(now);
        for (seq, job) in &mut self.jobs {
            if job.status.is_none() && job.ends <= until {
                let at = job.ends;
                end(dir, *seq, job, Cause::Exited, at);
            }
        }
        if let Some(at) = lease {
            self.end_all(dir, Cause::Lease, at);
            self.alive = false;
        }
    }

    fn end_all(&mut self, dir: &Path, cause: Cause, at: Duration) {
        for (seq, job) in self.jobs.iter_mut().filter(|(_, job)| job.status.is_none()) {
            end(dir, *seq, job, cause, at);
        }
    }

    fn next_end(&self) -> Option<Duration> {
        self.jobs.values().filter(|job| job.status.is_none()).map(|job| job.ends).min()
    }

    fn running(&self, now: Duration) -> Vec<JobState> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.status.is_none());
        jobs.map(|(seq, job)| job.state(*seq, now)).collect()
    }
}

/// A command ended: that is written down before anybody hears of it.
fn end(dir: &Path, seq: u64, job: &mut Job, cause: Cause, at: Duration) {
    let exit = if cause == Cause::Exited { Exit::Code(0) } else { Exit::Signal(9) };
    let status = Status {
        version: VERSION,
        seq,
        attempt: job.attempt,
        boot_id: lakitu_keeper::boot_id().unwrap(),
        end: End { cause, exit: Some(exit), detail: None },
        started_ms: ms(job.started),
        ended_ms: ms(at),
        duration_ms: ms(at.saturating_sub(job.started)),
        bytes: 0,
        lost_bytes: 0,
        survivors: 0,
        survivors_end: None,
        last_input: None,
    };
    fs::write(dir.join(format!("{seq}/status")), serde_json::to_vec(&status).unwrap()).unwrap();
    job.status = Some(status);
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Slow,
    CutBefore,
    CutAfter,
    Death,
}

impl Keepers {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, table: Arc::default() }
    }

    /// A process ended, or the whole machine did: then keepers and commands are gone without a word.
    pub(crate) fn crash(&self, power: bool) {
        let now = self.world.now();
        self.table.with(|table| {
            for (dir, keeper) in table {
                keeper.pass(dir, now);
                if power {
                    keeper.alive = false;
                }
            }
        });
    }

    fn keeper<T>(&self, dir: &Path, with: impl FnOnce(&mut Keeper, Duration) -> T) -> Option<T> {
        let now = self.world.now();
        self.table.with(|table| {
            let keeper = table.get_mut(dir)?;
            keeper.pass(dir, now);
            keeper.alive.then(|| with(keeper, now))
        })
    }

    /// Starts one.
    pub(crate) async fn start(&self, spec: &KeeperSpec) -> Result<Spawned, KeeperError> {
        self.world.living().await;
        sleep(Duration::from_millis(1)).await;
        self.world.living().await;
        if self.keeper(&spec.dir, |_, _| ()).is_some() {
            let message = "simulated".to_owned();
            return Err(Refusal { code: RefusalCode::KeeperAlive, message }.into());
        }
        fs::create_dir_all(&spec.dir)?;
        let keeper = Keeper {
            outputs: spec.outputs.clone(),
            lease: Duration::from_millis(spec.lease_ms),
            alive: true,
            attached: 0,
            detached_at: self.world.now(),
            jobs: BTreeMap::new(),
        };
        self.table.with(|table| table.insert(spec.dir.clone(), keeper));
        Ok(Spawned { pid: 1, isolation: isolation() })
    }

    /// Connects to a living one.
    pub(crate) fn connect(&self, dir: &Path) -> io::Result<DuplexStream> {
        let attached = self.keeper(dir, |keeper, _| keeper.attached += 1);
        attached.ok_or(io::ErrorKind::ConnectionRefused)?;
        let attached = Attached { keepers: self.clone(), dir: dir.to_owned() };
        let (near, far) = tokio::io::duplex(64 * 1024);
        #[allow(clippy::disallowed_methods, reason = "a foreign process; it ends with its connection")]
        tokio::spawn(async move {
            let _ = attached.serve(far).await;
        });
        Ok(near)
    }

    fn trouble(&self) -> Option<Trouble> {
        let rate = if self.world.is_calm() { 0 } else { self.world.plan.keeper_fails };
        self.world.dice(|dice| {
            dice.permille(rate)
                .then(|| dice.pick(&[Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Death]))
        })
    }
}

/// One connection.
struct Attached {
    keepers: Keepers,
    dir: PathBuf,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let now = self.keepers.world.now();
        self.keepers.table.with(|table| {
            if let Some(keeper) = table.get_mut(&self.dir) {
                keeper.pass(&self.dir, now);
                keeper.attached -= 1;
                keeper.detached_at = now;
            }
        });
    }
}

impl Attached {
    async fn serve(self, far: DuplexStream) -> io::Result<()> {
        let (read, mut write) = tokio::io::split(far);
        let mut lines = BufReader::new(read).lines();
        // Whose end this connection knows: what had ended before it began is not told.
        let mut told: BTreeSet<u64> = self.ended().into_iter().map(|(seq, _)| seq).collect();
        loop {
            for (seq, status) in self.ended().into_iter().filter(|(seq, _)| !told.contains(seq)).collect::<Vec<_>>() {
                told.insert(seq);
                say(&mut write, &Message::Event(Event::Exited { seq, status })).await?;
                say(&mut write, &Message::Event(Event::Gone { seq })).await?;
            }
            let Some(next) =
                self.keepers.keeper(&self.dir, |keeper, now| keeper.next_end().map(|end| end.saturating_sub(now)))
            else {
                return Ok(());
            };
            let request = tokio::select! {
                biased;
                line = lines.next_line() => match line? {
                    Some(line) => serde_json::from_str::<Request>(&line)?,
                    None => return Ok(()),
                },
                () = sleep(next.unwrap_or(Duration::from_mins(1)).max(Duration::from_millis(1))) => continue,
            };
            self.keepers.world.living().await;
            let trouble = self.keepers.trouble();
            match trouble {
                Some(Trouble::Slow) => sleep(self.keepers.world.dice(|dice| dice.ms(1, 8_000))).await,
                Some(Trouble::CutBefore) => return Ok(()),
                Some(Trouble::CutAfter | Trouble::Death) | None => {}
            }
            self.keepers.world.living().await;
            let ending = matches!(request.call, Call::Shutdown {});
            let Some(outcome) = self.answer(request.call) else { return Ok(()) };
            self.keepers.world.living().await;
            match trouble {
                Some(Trouble::CutAfter) => return Ok(()),
                Some(Trouble::Death) => {
                    self.keepers.world.note("a keeper dies");
                    self.keepers.keeper(&self.dir, |keeper, _| keeper.alive = false);
                    return Ok(());
                }
                Some(Trouble::Slow | Trouble::CutBefore) | None => {}
            }
            say(&mut write, &Message::Answer(Answer { id: Some(request.id), outcome })).await?;
            if ending {
                return Ok(());
            }
        }
    }

    fn ended(&self) -> Vec<(u64, Status)> {
        let ended = self.keepers.keeper(&self.dir, |keeper, _| {
            keeper.jobs.iter().filter_map(|(seq, job)| Some((*seq, job.status.clone()?))).collect()
        });
        ended.unwrap_or_default()
    }

    /// None: the keeper is gone.
    fn answer(&self, call: Call) -> Option<Outcome> {
        let dir = &self.dir;
        self.keepers.keeper(dir, |keeper, now| match call {
            Call::Hello { .. } => Outcome::Ok(Reply::Hello(Welcome {
                version: VERSION,
                boot_id: lakitu_keeper::boot_id().unwrap(),
                isolation: isolation(),
                jobs: keeper.running(now),
            })),
            Call::Start(start) => self.begin(keeper, &start, now),
            Call::Status { seq } => {
                let job = keeper.jobs.get(&seq).filter(|job| job.status.is_none()).map(|job| job.state(seq, now));
                match lakitu_keeper::read_status(dir, seq) {
                    Ok(status) => Outcome::Ok(Reply::Status(CallState { job, status })),
                    Err(_) => refusal(RefusalCode::Storage),
                }
            }
            Call::Input(_) => Outcome::Ok(Reply::Taken {}),
            Call::Kill { seq } => match keeper.jobs.get_mut(&seq).filter(|job| job.status.is_none()) {
                Some(job) => {
                    end(dir, seq, job, Cause::Killed, now);
                    Outcome::Ok(Reply::Killing {})
                }
                None => refusal(RefusalCode::NotFound),
            },
            Call::List {} => Outcome::Ok(Reply::Jobs(keeper.running(now))),
            Call::Shutdown {} => {
                keeper.end_all(dir, Cause::Shutdown, now);
                keeper.alive = false;
                Outcome::Ok(Reply::ShuttingDown {})
            }
        })
    }

    /// Begins a command, once.
    fn begin(&self, keeper: &mut Keeper, start: &Start, now: Duration) -> Outcome {
        let folder = self.dir.join(start.seq.to_string());
        fs::create_dir_all(&folder).unwrap();
        if File::create_new(folder.join(format!("claim.{}", start.attempt))).is_err() {
            return refusal(RefusalCode::AlreadyClaimed);
        }
        let command = start.argv.last().cloned().unwrap_or_default();
        let takes = command.rsplit(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        fs::write(keeper.outputs.join(format!("{}.out", start.seq)), b"").unwrap();
        let job = Job {
            attempt: start.attempt,
            label: start.label.clone(),
            started: now,
            ends: now + Duration::from_millis(takes),
            status: None,
        };
        keeper.jobs.insert(start.seq, job);
        let thread: ThreadId = self.dir.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let world = &self.keepers.world;
        world.note(format!("command {} call {} start {}: {command}", world.name(thread), start.seq, start.attempt));
        world.known.with(|known| known.commands.push((thread, Seq(start.seq), start.attempt, command)));
        world.moment();
        Outcome::Ok(Reply::Started { pid: 1 })
    }
}

async fn say(to: &mut (impl AsyncWriteExt + Unpin), message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await
}
