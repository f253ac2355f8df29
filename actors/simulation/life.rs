//! One process's life in a simulated world: the whole tree, people who use it, and what befalls it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::config::Config;
use lakitu_kernel::event::{Asking, CheckpointReason, Resumed, Settings};
use lakitu_kernel::mode::Mode;
use lakitu_kernel::supervise::{Fault, FaultKind, What};
use lakitu_kernel::{EventBody, Seq, ThreadId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::check::{self, Found};
use super::keepers::Keepers;
use super::model::{Model, slot};
use super::{World, dice::Dice};
use crate::runtime::{Parts, Runtime, origin};
use crate::store::{ThreadRow, ThreadStatus};
use crate::threads::agent::{Stop, is_end};
use crate::threads::boot;
use crate::threads::follow::{Follower, Heard, Reads};
use crate::tools::bash::KeeperStarter;

/// A calm life gets everything done within this time of its own.
const CALM_MAX: Duration = Duration::from_hours(4);
/// With no event for so long, whoever waits asks again; in a calm life that is a failure.
const SILENCE_MAX: Duration = Duration::from_mins(30);
/// No child comes back sooner of its own accord.
const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// A world with those who live in it.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) world: Arc<World>,
    pub(crate) keepers: Keepers,
    pub(crate) seed: u64,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let world = World::new(seed);
        fs::create_dir_all(world.workspace()).unwrap();
        for number in 0..world.plan.threads {
            let slots = (1..=64).flat_map(|turn| (0..6).map(move |n| slot(turn, n, false) + "\n"));
            fs::write(world.workspace().join(format!("{number}.txt")), slots.collect::<String>()).unwrap();
        }
        Self { keepers: Keepers::new(world.clone()), world, seed }
    }

    /// Lives through all of it. The error is what was wrong.
    pub(crate) fn whole(&self) -> Result<(), String> {
        for _ in 0..self.world.plan.lives {
            self.live(false)?;
            self.crash();
        }
        self.live(true)
    }

    fn live(&self, calm: bool) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let world = &self.world;
        let outcome = runtime.block_on(async {
            world.begin(calm);
            let limit = if calm { CALM_MAX } else { world.dice(|dice| dice.ms(1_000, 1_200_000)) };
            let outcome = tokio::select! {
                biased;
                () = world.death() => Ok(()),
                outcome = self.tree() => outcome,
                () = sleep(limit) => if calm { Err("it is not done in time".to_owned()) } else { Ok(()) },
            };
            world.die();
            outcome
        });
        drop(runtime);
        let wrong = world.known.with(|known| known.wrong.first().cloned());
        wrong.map_or(outcome, Err)
    }

    fn crash(&self) {
        let (power, down) = self.world.dice(|dice| (dice.permille(500), dice.pick(&[0, 1_000, 90_000, 3_600_000])));
        self.keepers.crash(power);
        let mut dice = self.world.dice(|dice| Dice::new(dice.next(), 1));
        self.world.disk.crash(&self.world.data(), power, &mut dice);
        self.world.pass(Duration::from_millis(down));
    }

    async fn tree(&self) -> Result<(), String> {
        let mut config = Config::default();
        config.debug.socket = false;
        let model = Arc::new(Model { world: self.world.clone(), seed: self.seed });
        let starter = KeeperStarter::Simulated(self.keepers.clone());
        let parts = Parts {
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            clock: self.world.clone(),
            randomness: self.world.clone(),
            ..Parts::new(config, self.world.data(), model, starter)
        };
        let runtime = Arc::new(Runtime::start(parts).await.map_err(|error| error.to_string())?);
        let life = Arc::new(Life { run: self.clone(), runtime });
        let (mut others, mut requests) = (JoinSet::new(), JoinSet::new());
        others.spawn(life.clone().backoffs());
        life.agree().await?;
        if !self.world.is_calm() {
            others.spawn(life.clone().faults());
            requests.spawn(life.clone().requests());
        }
        others.spawn(boot::go_on(life.runtime.wiring.clone(), 4));
        users(&life).await?;
        // What was asked for behind a user's last look is waited for too: where nothing runs any more, what was seen of
        // effects and what is then read of journals are of one moment.
        requests.join_all().await;
        users(&life).await?;
        others.shutdown().await;
        life.agree().await?;
        let Ok(life) = Arc::try_unwrap(life) else { return Err("somebody holds on to the life".to_owned()) };
        if let Ok(runtime) = Arc::try_unwrap(life.runtime) {
            self.world.note("an orderly end");
            runtime.stop().await;
        }
        Ok(())
    }
}

/// Everybody who wants a thread's runs done, until they are.
async fn users(life: &Arc<Life>) -> Result<(), String> {
    let mut users = JoinSet::new();
    for number in 0..life.world().plan.threads {
        users.spawn(life.clone().user(number));
    }
    while let Some(user) = users.join_next().await {
        user.map_err(|error| error.to_string())??;
    }
    Ok(())
}

struct Life {
    run: Run,
    runtime: Arc<Runtime>,
}

impl Life {
    fn world(&self) -> &World {
        &self.run.world
    }

    /// Everything that was ever heard agrees with what the store has.
    async fn agree(&self) -> Result<(), String> {
        let threads: Vec<ThreadId> = self.world().known.with(|known| known.threads.iter().flatten().copied().collect());
        let Some(found) = self.read(threads).await else {
            let why = "the store could not be read";
            return if self.world().is_calm() { Err(why.to_owned()) } else { Ok(()) };
        };
        for found in &found {
            let agrees = self.world().known.with(|known| check::thread(known, found));
            agrees.map_err(|why| format!("{}: {why}", self.world().name(found.thread)))?;
        }
        check::effects(self.world(), &found)?;
        let model = Model { world: self.run.world.clone(), seed: self.run.seed };
        check::answers(&model, &found)?;
        match self.runtime.wiring.store.verify().await {
            Ok(findings) if findings.is_empty() => Ok(()),
            Ok(findings) => Err(format!("the database does not hold together: {findings:?}")),
            Err(error) if self.world().is_calm() => Err(error.to_string()),
            Err(_) => Ok(()),
        }
    }

    async fn read(&self, threads: Vec<ThreadId>) -> Option<Vec<Found>> {
        for _ in 0..60 {
            let threads = threads.clone();
            let found = self.runtime.wiring.store.read(move |reading| {
                threads.into_iter().map(|thread| check::read(reading, thread)).collect::<Result<Vec<_>, _>>()
            });
            match found.await {
                Ok(found) => return Some(found),
                Err(error) => self.world().note(format!("no read: {}", error.code())),
            }
            sleep(Duration::from_secs(5)).await;
        }
        None
    }

    // People.

    /// Somebody who wants a thread's runs done.
    async fn user(self: Arc<Self>, number: usize) -> Result<(), String> {
        while !self.round(number).await? {
            let pause = self.world().dice(|dice| dice.ms(100, 5_000));
            sleep(pause).await;
        }
        Ok(())
    }

    /// Looks at the thread, asks for what is missing, and follows it. True: it is all done.
    async fn round(&self, number: usize) -> Result<bool, String> {
        let world = self.world();
        let thread = world.known.with(|known| known.threads[number]);
        let row = match thread {
            Some(thread) => match self.runtime.wiring.store.read(move |reading| reading.thread(thread)).await {
                Ok(row) => row,
                Err(_) => return Ok(false),
            },
            None => None,
        };
        let threads = self.runtime.threads();
        match (thread, row) {
            (Some(thread), Some(row)) => {
                if row.status == ThreadStatus::Completed && self.runs(thread).await >= self.world().plan.runs {
                    world.known.with(|known| known.done.insert(thread));
                    return Ok(true);
                }
                let mut follower = self.follower(thread);
                if !self.ask(thread, &row).await {
                    return Ok(false);
                }
                self.follow(&mut follower).await.map(|()| false)
            }
            (thread, None) => {
                // One of which nothing ever became durable is begun again under its name.
                let thread = thread.unwrap_or_else(|| threads.new_id());
                world.known.with(|known| known.threads[number] = Some(thread));
                world.note(format!("invoke start {}", world.name(thread)));
                let mut follower = self.follower(thread);
                let origin = origin(&self.runtime.wiring, self.settings(), "go".to_owned()).await;
                let begun = threads.start(thread, origin).await;
                world.note(format!("{} start", outcome(&begun)));
                self.follow(&mut follower).await.map(|()| false)
            }
            (None, Some(_)) => Err("a row of no thread".to_owned()),
        }
    }

    async fn ask(&self, thread: ThreadId, row: &ThreadRow) -> bool {
        let (world, threads) = (self.world(), self.runtime.threads());
        let asked = match row.status {
            ThreadStatus::Completed | ThreadStatus::Cancelled => {
                world.note(format!("invoke prompt {}", world.name(thread)));
                threads.prompt(thread, format!("go on {}", row.last_seq), None).await
            }
            ThreadStatus::Failed | ThreadStatus::Checkpointed => {
                world.note(format!("invoke resume {}", world.name(thread)));
                threads.resume(thread, Resumed::Resume, None).await
            }
            // It goes on by itself.
            ThreadStatus::Running | ThreadStatus::Waiting => return true,
        };
        self.promised(thread, "ask", &asked);
        asked.is_ok()
    }

    fn promised(&self, thread: ThreadId, what: &str, answer: &Result<Seq, lakitu_kernel::ToolError>) {
        let world = self.world();
        if !world.is_alive() {
            return;
        }
        world.note(format!("{} {what} {}", outcome(answer), world.name(thread)));
        if let Ok(seq) = answer {
            world.known.with(|known| {
                let promised = known.promised.entry(thread).or_insert(Seq::ZERO);
                *promised = (*promised).max(*seq);
            });
        }
        world.moment();
    }

    fn follower(&self, thread: ThreadId) -> Follower {
        let range = (thread, Seq::ZERO)..=(thread, Seq(u64::MAX));
        let heard =
            self.world().known.with(|known| known.acknowledged.range(range).next_back().map(|((_, seq), _)| *seq));
        Follower::new(&self.runtime.wiring, thread, heard.unwrap_or(Seq::ZERO), Reads::default()).from_journal()
    }

    /// Hears a thread to the end of its run.
    async fn follow(&self, follower: &mut Follower) -> Result<(), String> {
        loop {
            match timeout(SILENCE_MAX, follower.next()).await {
                Ok(Ok(Heard::Event(event))) => {
                    self.world().heard(&event);
                    if is_end(&event) {
                        return Ok(());
                    }
                }
                Ok(Ok(Heard::Live(_))) => {}
                Ok(Ok(Heard::Gone(error)) | Err(error)) => {
                    self.world().note(format!("gone {}", error.code));
                    return Ok(());
                }
                Err(_) if self.world().is_calm() => return Err("nothing happens any more".to_owned()),
                Err(_) => {
                    self.world().note("nothing happens");
                    return Ok(());
                }
            }
        }
    }

    async fn runs(&self, thread: ThreadId) -> u32 {
        let found = self.read(vec![thread]).await;
        let events = found.iter().flatten().flat_map(|found| &found.events);
        u32::try_from(events.filter(|event| matches!(event.body, EventBody::ThreadCompleted {})).count()).unwrap()
    }

    fn settings(&self) -> Settings {
        Settings {
            model: "sim".to_owned(),
            mode: Mode::Build,
            workspace: self.world().workspace(),
            artifacts: self.world().data().join("artifacts"),
            max_turns: None,
            timeout_ms: None,
            asking: Asking::default(),
        }
    }

    /// What else people ask for, whenever they like.
    async fn requests(self: Arc<Self>) {
        for _ in 0..self.world().plan.requests {
            let (pause, number, what) = self
                .world()
                .dice(|dice| (dice.ms(10, 60_000), dice.below(self.world().plan.threads as u64), dice.below(3)));
            sleep(pause).await;
            let thread = self.world().known.with(|known| known.threads[usize::try_from(number).unwrap()]);
            let Some(thread) = thread else { continue };
            let threads = self.runtime.threads();
            let name = ["interject", "cancel", "checkpoint"][usize::try_from(what).unwrap()];
            self.world().note(format!("invoke {name} {}", self.world().name(thread)));
            let answer = match what {
                0 => threads.prompt(thread, "by the way".to_owned(), None).await,
                1 => threads.stop(thread, Stop::Cancel).await,
                _ => threads.stop(thread, Stop::Checkpoint(CheckpointReason::Manual, None)).await,
            };
            self.promised(thread, name, &answer);
        }
    }

    // Trouble.

    async fn faults(self: Arc<Self>) {
        let nodes = &self.runtime.wiring.nodes;
        for _ in 0..self.world().plan.faults {
            let pause = self.world().dice(|dice| match dice.below(3) {
                0 => dice.ms(0, 50),
                1 => dice.ms(0, 3_000),
                _ => dice.ms(0, 120_000),
            });
            sleep(pause).await;
            let threads: Vec<ThreadId> =
                self.world().known.with(|known| known.threads.iter().flatten().copied().collect());
            let mut paths: Vec<String> =
                ["/store", "/gateway", "/tools", "/tools/file", "/tools/bash", "/threads"].map(str::to_owned).to_vec();
            for thread in threads {
                paths.extend([
                    format!("/threads/{thread}"),
                    format!("/threads/{thread}/agent"),
                    format!("/threads/{thread}/agent"),
                ]);
            }
            let (at, kind, ms, times) = self.world().dice(|dice| {
                (dice.below(paths.len() as u64), dice.below(5), dice.between(1, 4_000), dice.pick(&[1, 1, 2]))
            });
            let path = &paths[usize::try_from(at).unwrap()];
            let kind = match kind {
                0 => FaultKind::Panic,
                1 => FaultKind::Hang,
                2 => FaultKind::Slow,
                3 => FaultKind::Error,
                _ => {
                    let done = nodes.restart(path).is_ok();
                    self.world().note(format!("fault restart {path} {done}"));
                    continue;
                }
            };
            let done = nodes.inject(path, Fault { kind, ms, times }).is_ok();
            self.world().note(format!("fault {kind:?} {path} {done}"));
        }
    }

    /// A child that fell by itself comes back later, never at once.
    async fn backoffs(self: Arc<Self>) {
        let mut events = self.runtime.wiring.nodes.subscribe();
        let mut fell: std::collections::BTreeMap<Arc<str>, Instant> = std::collections::BTreeMap::new();
        while let Some(event) = events.next().await {
            self.world().note(format!("node {} {:?}", event.path, event.what));
            match event.what {
                // With a reason it was the supervisor's own decision.
                What::Restarting if event.reason.is_some() => drop(fell.insert(event.path, Instant::now())),
                What::Restarting | What::Stopped | What::Quarantined | What::GaveUp | What::Failed => {
                    // Whatever stands below it begins anew with it.
                    fell.retain(|path, _| !path.starts_with(&*event.path));
                }
                What::Started => {
                    if fell.remove(&event.path).is_some_and(|fell| fell.elapsed() < BACKOFF_MIN) {
                        self.world().wrong(format!("{} came back without a pause", event.path));
                    }
                }
            }
        }
    }
}

fn outcome<T>(answer: &Result<T, lakitu_kernel::ToolError>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(error) if error.code == lakitu_kernel::ErrorCode::Unknown => "unknown".to_owned(),
        Err(error) => format!("fail {}", error.code),
    }
}
