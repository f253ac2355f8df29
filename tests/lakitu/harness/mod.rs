//! The real tree in this process, with a scripted model, a workspace and a data directory of its own.
//!
//! ```text
//! let lakitu = Harness::start(Script::new().calls("file_read", json!({ "path": "a.txt" })).says("hello")).await;
//! assert_eq!(lakitu.prompt("read a.txt").await, Ok("hello".to_owned()));
//! lakitu.end().await; // stops the tree; a line of the script that was not played fails the test
//! ```
//!
//! Waiting is for an event of the tree or of a thread, and bounded: nothing sleeps. Without real processes time is
//! paused (`start_paused = true`): the store commits on blocking threads, and those hold it still.

mod binary;
mod fifo;
mod gateway;
mod script;
pub(crate) mod secrets;
mod server;
mod terminal;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::runtime::{Parts, Runtime, origin};
use lakitu_actors::store::{Reading, Store, StoreError};
use lakitu_actors::threads::agent::{Change, Stop};
use lakitu_actors::threads::hub::Published;
use lakitu_actors::threads::{journal, prompt};
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_actors::tools::file::pdf::Reader;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::{EventBody, Resumed, Settings};
use lakitu_kernel::supervise::{FaultKind, Guarded, Node, NodeState, SupervisionEvent, What};
use lakitu_kernel::{Event, Seq, ThreadId, ToolError, limits};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

pub(crate) use binary::{Binary, Ran, Running, alive};
pub(crate) use fifo::Fifo;
pub(crate) use gateway::{Recorder, readable};
pub(crate) use lakitu_kernel::supervise::Fault;
pub(crate) use script::Script;
pub(crate) use server::{answering, free_port, response};
pub(crate) use terminal::Terminal;

/// Long enough for a loaded machine; nothing waits for it in the good case.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for what will happen, and not for ever.
#[track_caller]
pub(crate) fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    within(PATIENCE, what)
}

/// The same, and not for longer than that.
#[track_caller]
fn within<T>(patience: Duration, what: impl Future<Output = T>) -> impl Future<Output = T> {
    let asked = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(patience, what).await {
            Ok(value) => value,
            Err(_) => panic!("what {asked} waits for does not happen"),
        }
    }
}

/// How a run ended that did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Stopped where it can go on; why, and the error's code where it was one.
    Checkpointed(String),
    /// Failed.
    Failed(String),
    /// Given up.
    Cancelled,
    /// It was never begun.
    Refused(String),
}

/// The outcome of a run: what the model said last, or why there was no last word.
pub(crate) type Outcome = Result<String, Ended>;

/// A directory with a workspace and a runtime's data; outlives the runtimes that are started on it.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("workspace")).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path().join("workspace")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        self.write_bytes(path, text.as_bytes());
    }

    pub(crate) fn write_bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.workspace().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Every file and directory, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.path()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    /// A file of the workspace; nothing where there is none.
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.workspace().join(path)).unwrap_or_default()
    }
}

/// A running tree.
pub(crate) struct Harness {
    runtime: Runtime,
    pub(crate) gateway: Recorder,
    pub(crate) home: Home,
    /// The thread that was spoken to last.
    last: Guarded<Option<ThreadId>>,
    supervision: Arc<Guarded<Vec<SupervisionEvent>>>,
    supervised: watch::Sender<usize>,
    must_end: MustEnd,
    _listeners: JoinSet<()>,
}

/// Fails a test that forgot to end its tree: what was left of the script would not be noticed.
struct MustEnd(bool);

impl Drop for MustEnd {
    fn drop(&mut self) {
        assert!(self.0 || std::thread::panicking(), "a harness is ended with `end` or `stop`");
    }
}

impl Harness {
    /// A tree on an empty workspace.
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_with(script, Config::default()).await
    }

    /// The same, configured.
    pub(crate) async fn start_with(script: Script, config: Config) -> Self {
        Self::start_on(Home::new(), script, config).await
    }

    /// A tree on a directory that may have seen one before.
    pub(crate) async fn start_on(home: Home, script: Script, config: Config) -> Self {
        let lakitu = Self::boot(home, Recorder::new(&script), config).await;
        let store = lakitu.node("/store");
        assert_eq!(store.state, NodeState::Running, "{:?}", store.last_error);
        lakitu
    }

    /// The same, whether its services come up or not.
    pub(crate) async fn boot(home: Home, gateway: Recorder, config: Config) -> Self {
        Self::boot_with(home, gateway, config, |_| {}).await
    }

    /// The same with parts that are not configured.
    pub(crate) async fn boot_with(home: Home, gateway: Recorder, config: Config, set: impl FnOnce(&mut Parts)) -> Self {
        let starter = KeeperStarter::Helper(env!("CARGO_BIN_EXE_lakitu-keeper").into());
        let mut parts = Parts::new(config, home.data(), Arc::new(gateway.clone()), starter);
        parts.reader = Reader::at(env!("CARGO_BIN_EXE_lakitu"));
        set(&mut parts);
        let runtime = Runtime::start(parts).await.unwrap();
        let supervision: Arc<Guarded<Vec<SupervisionEvent>>> = Arc::default();
        let supervised = watch::Sender::new(0);
        let mut listeners = JoinSet::new();
        let (mut events, kept, count) = (runtime.wiring.nodes.subscribe(), supervision.clone(), supervised.clone());
        listeners.spawn(async move {
            while let Some(event) = events.next().await {
                let heard = kept.with(|kept| {
                    kept.push(event);
                    kept.len()
                });
                count.send_replace(heard);
            }
        });
        soon(runtime.settled()).await;
        let (last, must_end) = (Guarded::default(), MustEnd(false));
        Self { runtime, gateway, home, last, supervision, supervised, must_end, _listeners: listeners }
    }

    /// Stops the tree. A turn of the script that was not played fails the test.
    pub(crate) async fn end(self) {
        let leftovers = lakitu_kernel::ports::Gateway::finish(&self.gateway);
        self.stop().await;
        assert_eq!(leftovers, Ok(()));
    }

    /// Stops the tree; what is left of the script is left on purpose.
    pub(crate) async fn stop(mut self) -> (Home, Recorder) {
        self.must_end.0 = true;
        soon(self.runtime.stop()).await;
        (self.home, self.gateway)
    }

    // Runs.

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            model: "scripted".to_owned(),
            mode: lakitu_kernel::mode::Mode::Build,
            workspace: self.home.workspace(),
            artifacts: self.home.data().join("artifacts"),
            max_turns: None,
            timeout_ms: None,
            asking: lakitu_kernel::event::Asking::default(),
        }
    }

    /// A new thread's first run, to its end.
    pub(crate) async fn prompt(&self, text: &str) -> Outcome {
        self.prompt_with(text, |_| {}).await
    }

    /// The same with settings.
    pub(crate) async fn prompt_with(&self, text: &str, set: impl FnOnce(&mut Settings)) -> Outcome {
        match self.begin_with(text, set).await {
            Ok(run) => run.end().await,
            Err(error) => Err(Ended::Refused(error.code.to_string())),
        }
    }

    /// Begins a new thread's first run, which has so much time.
    pub(crate) async fn begin_with_timeout(&self, text: &str, time: Duration) -> Following {
        let timeout = u64::try_from(time.as_millis()).unwrap();
        self.begin_with(text, |settings| settings.timeout_ms = Some(timeout)).await.unwrap()
    }

    /// Begins a new thread's first run.
    pub(crate) async fn begin(&self, text: &str) -> Following {
        self.begin_with(text, |_| {}).await.unwrap()
    }

    /// The same with settings.
    pub(crate) async fn begin_set(&self, text: &str, set: impl FnOnce(&mut Settings)) -> Following {
        self.begin_with(text, set).await.unwrap()
    }

    async fn begin_with(&self, text: &str, set: impl FnOnce(&mut Settings)) -> Result<Following, ToolError> {
        let thread = self.runtime.threads().new_id();
        let following = self.follow(thread, Seq::ZERO);
        let mut settings = self.settings();
        set(&mut settings);
        let origin = origin(&self.runtime.wiring, settings, text.to_owned()).await;
        self.runtime.threads().start(thread, origin).await?;
        self.last.with(|last| *last = Some(thread));
        Ok(following)
    }

    /// The next prompt of the last thread, to the end of its run.
    pub(crate) async fn continue_(&self, text: &str) -> Outcome {
        self.continue_with(text, |_| {}).await
    }

    /// The same with settings given anew.
    pub(crate) async fn continue_with(&self, text: &str, set: impl FnOnce(&mut Settings)) -> Outcome {
        let (thread, state) = (self.thread(), self.folded(self.thread()).await);
        let following = self.follow(thread, state.seq);
        let stored = state.settings.expect("a thread with settings");
        let mut settings = stored.clone();
        set(&mut settings);
        let change = if settings == stored {
            None
        } else {
            let prefix = prompt::prefix(&settings, &state.boundary, self.runtime.wiring.catalogue).await;
            Some(Change { prefix: Some(prefix), settings })
        };
        match self.runtime.threads().prompt(thread, text.to_owned(), change).await {
            Ok(_) => following.end().await,
            Err(error) => Err(Ended::Refused(error.code.to_string())),
        }
    }

    /// The last thread goes on from where it stopped, to the end of its run.
    pub(crate) async fn resume(&self) -> Outcome {
        self.resume_thread(self.thread()).await
    }

    /// The same with settings given anew.
    pub(crate) async fn resume_with(&self, set: impl FnOnce(&mut Settings)) -> Outcome {
        let (thread, state) = (self.thread(), self.folded(self.thread()).await);
        let following = self.follow(thread, state.seq);
        let mut settings = state.settings.expect("a thread with settings");
        set(&mut settings);
        let change = Change { prefix: None, settings };
        match self.runtime.threads().resume(thread, Resumed::Resume, Some(change)).await {
            Ok(_) => following.end().await,
            Err(error) => Err(Ended::Refused(error.code.to_string())),
        }
    }

    /// The same of any thread.
    pub(crate) async fn resume_thread(&self, thread: ThreadId) -> Outcome {
        self.last.with(|last| *last = Some(thread));
        let following = self.follow(thread, self.folded(thread).await.seq);
        match self.runtime.threads().resume(thread, Resumed::Resume, None).await {
            Ok(_) => following.end().await,
            Err(error) => Err(Ended::Refused(error.code.to_string())),
        }
    }

    /// A thread whose journal cannot be read is asked to go on.
    pub(crate) async fn resume_damaged(&self, thread: ThreadId) -> Outcome {
        match soon(self.runtime.threads().resume(thread, Resumed::Resume, None)).await {
            Ok(_) => self.follow(thread, Seq::ZERO).end().await,
            Err(error) => Err(Ended::Refused(error.code.to_string())),
        }
    }

    /// Gives the last thread a prompt while it runs.
    pub(crate) async fn interject(&self, text: &str) {
        soon(self.runtime.threads().prompt(self.thread(), text.to_owned(), None)).await.unwrap();
    }

    /// Gives the last thread's run up.
    pub(crate) async fn cancel(&self) {
        soon(self.runtime.threads().stop(self.thread(), Stop::Cancel)).await.unwrap();
    }

    /// From now on this thread is the one that is spoken to.
    pub(crate) fn turn_to(&self, thread: ThreadId) {
        self.last.with(|last| *last = Some(thread));
    }

    /// Hears a thread from behind an event on.
    pub(crate) fn follow(&self, thread: ThreadId, after: Seq) -> Following {
        let store = self.runtime.wiring.store.clone();
        let heard = self.runtime.wiring.hub.listen(thread);
        let (text, missed) = (String::new(), Vec::new().into_iter());
        Following { thread, heard, after, text, store, missed, patience: PATIENCE }
    }

    // What can be seen.

    /// The thread that was spoken to last.
    pub(crate) fn thread(&self) -> ThreadId {
        self.last.with(|last| *last).expect("a thread that was started")
    }

    /// What the journal of the last thread tells, without seqs and times.
    pub(crate) async fn transcript(&self) -> String {
        let events = self.events(self.thread()).await;
        events.iter().filter_map(|event| told(&event.body, &events)).collect()
    }

    /// A thread's whole journal.
    pub(crate) async fn events(&self, thread: ThreadId) -> Vec<Event> {
        let mut all: Vec<Event> = Vec::new();
        loop {
            let after = all.last().map_or(Seq::ZERO, |event| event.seq);
            let more = self.ask(move |reading| reading.events(thread, after, limits::STEP_EVENTS_MAX)).await;
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// A thread's state, from its newest snapshot and the events behind it.
    pub(crate) async fn folded(&self, thread: ThreadId) -> lakitu_actors::threads::agent::State {
        self.ask(move |reading| journal::fold(reading, thread)).await
    }

    /// Asks the store something.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reading) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        soon(self.runtime.wiring.store.read(question)).await.unwrap()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn node(&self, path: &str) -> Node {
        self.runtime.wiring.nodes.node(path).unwrap_or_else(|| panic!("no node at {path}"))
    }

    /// What happened to a node so far: "started, failed, started".
    pub(crate) fn lifecycle_of(&self, path: &str) -> String {
        let name = |what| match what {
            What::Started => "started",
            What::Failed => "failed",
            What::Stopped => "stopped",
            What::Restarting => "restarting",
            What::Quarantined => "quarantined",
            What::GaveUp => "gave up",
        };
        let of = |events: &mut Vec<SupervisionEvent>| -> Vec<&str> {
            events.iter().filter(|event| &*event.path == path).map(|event| name(event.what)).collect()
        };
        self.supervision.with(of).join(", ")
    }

    /// Waits until something has happened to a node so many times.
    pub(crate) async fn has(&self, path: &str, what: What, times: usize) {
        let mut heard = self.supervised.subscribe();
        let enough = |events: &mut Vec<SupervisionEvent>| {
            events.iter().filter(|event| &*event.path == path && event.what == what).count() >= times
        };
        let happened = soon(heard.wait_for(|_| self.supervision.with(enough))).await.is_ok();
        assert!(happened, "the tree is gone");
    }

    // Faults.

    /// The handling of the node's next message goes wrong.
    pub(crate) fn inject(&self, path: &str, kind: FaultKind) {
        self.runtime.wiring.nodes.inject(path, Fault { kind, ms: 0, times: 1 }).unwrap();
    }

    pub(crate) fn restart(&self, path: &str) {
        self.runtime.wiring.nodes.restart(path).unwrap();
    }
}

/// A run on its way.
pub(crate) struct Following {
    pub(crate) thread: ThreadId,
    heard: broadcast::Receiver<Published>,
    after: Seq,
    text: String,
    store: Store,
    missed: std::vec::IntoIter<Event>,
    patience: Duration,
}

impl Following {
    /// The same run, whose events may be so far apart.
    pub(crate) fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Waits for the next durable event.
    pub(crate) async fn next(&mut self) -> Result<Event, ToolError> {
        loop {
            let event = match self.missed.next() {
                Some(event) => event,
                None => match within(self.patience, self.heard.recv()).await {
                    Ok(Published::Event(event)) if event.seq <= self.after.next() => (*event).clone(),
                    Ok(Published::Durable(seq)) if seq <= self.after => continue,
                    Ok(Published::Live(_)) => continue,
                    Ok(Published::Gone(error)) => return Err(error),
                    // What was overtaken or never told stands in the journal.
                    Ok(Published::Event(_) | Published::Durable(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        let (thread, after) = (self.thread, self.after);
                        let read =
                            self.store.read(move |reading| reading.events(thread, after, limits::STEP_EVENTS_MAX));
                        self.missed = soon(read).await.map_err(ToolError::from)?.into_iter();
                        continue;
                    }
                    Err(broadcast::error::RecvError::Closed) => panic!("the runtime is gone"),
                },
            };
            if event.seq > self.after {
                self.after = event.seq;
                return Ok(event);
            }
        }
    }

    /// Waits for the end of the run.
    pub(crate) async fn end(mut self) -> Outcome {
        loop {
            let event = match self.next().await {
                Ok(event) => event,
                Err(error) => return Err(Ended::Failed(error.code.to_string())),
            };
            match event.body {
                EventBody::Message { text, .. } => self.text = text,
                EventBody::ThreadCompleted {} => return Ok(self.text),
                EventBody::ThreadFailed { error } => return Err(Ended::Failed(error.code.to_string())),
                EventBody::ThreadCancelled {} => return Err(Ended::Cancelled),
                EventBody::ThreadCheckpointed { reason, error, .. } => {
                    let why = serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned();
                    return Err(Ended::Checkpointed(
                        error.map_or(why.clone(), |error| format!("{why}: {}", error.code)),
                    ));
                }
                _ => {}
            }
        }
    }
}

/// An event as a line of a transcript; nothing for those that say how, not what.
fn told(body: &EventBody, all: &[Event]) -> Option<String> {
    let mut calls = all.iter().filter_map(|event| match &event.body {
        EventBody::ToolIntent { call_id, .. } => Some(call_id),
        _ => None,
    });
    let mut number = |id: &str| calls.position(|call| call == id).map_or(0, |at| at + 1);
    let text = |text: &str| text.trim_end().replace('\n', "\n  ");
    Some(match body {
        EventBody::Prompt { text: prompt } => format!("user: {}\n", text(prompt)),
        EventBody::Message { text: said, .. } if !said.is_empty() => format!("model: {}\n", text(said)),
        EventBody::ToolIntent { call_id, tool, arguments, .. } => {
            format!("call {}: {tool} {arguments}\n", number(call_id))
        }
        EventBody::ToolResult { call_id, output, .. } => format!("result {}: {}\n", number(call_id), text(output)),
        EventBody::ToolRestarted { call_id, .. } => format!("again {}\n", number(call_id)),
        EventBody::HistoryRepaired { reason, .. } => format!("repaired: {reason}\n"),
        EventBody::HistoryPruned { results, images, bytes, .. } => {
            format!("pruned: {results} results, {images} images, {bytes} bytes\n")
        }
        EventBody::ThreadResumed { .. } | EventBody::ThreadCompleted {} | EventBody::ThreadCancelled {} => {
            format!("({})\n", body.name())
        }
        EventBody::ThreadFailed { error } => format!("({} {})\n", body.name(), error.code),
        EventBody::ThreadCheckpointed { reason, .. } => format!("({} {reason:?})\n", body.name()),
        _ => return None,
    })
}
