//! `/threads`: every thread that has an actor. Parent `/`, permanent; a thread's node appears when it is spoken to and
//! goes when its run has ended.
//!
//! `/threads/<id>` is a small supervisor whose first child is the agent, so an agent's crash ends nobody else. An agent
//! that crashes more often than its window allows is given up, and its thread is settled `failed` with `CRASH_LOOP`.

pub mod agent;
mod aside;
pub mod boot;
pub mod cancel;
pub mod desk;
pub mod follow;
pub mod fork;
pub mod hub;
pub mod journal;
pub mod prompt;
pub mod put_back;
pub mod replay;
pub mod restore;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lakitu_kernel::event::{EventBody, Resumed};
use lakitu_kernel::supervise::{
    Added, CallError, ChildPlace, DynamicChild, End, Exhausted, Intensity, Reply, Restart, Starting, SupervisorRef,
    Tree, boxed,
};
use lakitu_kernel::{ErrorCode, Seq, ThreadId, ToolError, limits};
use tokio::time::timeout;

use self::agent::{Agent, AgentArgs, AgentMsg, Change, Origin, Stop};
use crate::deadlines;
use crate::effects::{Done, Key, Work};
use crate::store::StoreError;
use crate::wiring::Wiring;

/// How long an agent may take to make a request durable.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(40);
/// A request over which a thread's agent crashes is made so often.
const ASKED_MAX: u32 = 5;
/// A request that is not answered at once: its thread's node is looked after, first after this, then ever less often.
const NODE_LOOKED_AFTER: Duration = Duration::from_millis(5);
const NODE_LOOKED_AFTER_MAX: Duration = Duration::from_millis(320);

/// What callers do with threads. Cheap to clone.
#[derive(Clone)]
pub struct Threads {
    wiring: Arc<Wiring>,
}

impl Threads {
    /// The threads of a runtime.
    pub fn new(wiring: Arc<Wiring>) -> Self {
        Self { wiring }
    }

    /// A new thread's id. Listen to it before it is started, and nothing is missed.
    pub fn new_id(&self) -> ThreadId {
        self.wiring.ids.thread()
    }

    /// Starts a thread with its first prompt. Returns when its actor is asked for, not when it is durable.
    pub async fn start(&self, thread: ThreadId, origin: Origin) -> Result<(), ToolError> {
        self.takes_work()?;
        check_prompt(&origin.prompt)?;
        let origins = &self.wiring.origins;
        origins.with(|origins| origins.insert(thread, Arc::new(origin)));
        let added = self.node(thread).await;
        if added.is_err() {
            origins.with(|origins| origins.remove(&thread));
        }
        added.map(drop)
    }

    /// Gives a thread its next prompt. Durable when this returns.
    pub async fn prompt(&self, thread: ThreadId, text: String, change: Option<Change>) -> Result<Seq, ToolError> {
        self.takes_work()?;
        check_prompt(&text)?;
        let before = self.last_seq(thread).await?;
        for _ in 0..ASKED_MAX {
            let (text, change) = (text.clone(), change.clone());
            let asked = text.clone();
            if let Some(seq) = self.ask(thread, |reply| AgentMsg::Prompt { text, change, reply }).await? {
                return Ok(seq);
            }
            // It may have been taken in: the journal knows.
            let same = move |body: &EventBody| matches!(body, EventBody::Prompt { text } if *text == asked);
            if let Some(seq) = self.behind(thread, before, same).await? {
                // Somebody has to act on it.
                self.node(thread).await?;
                return Ok(seq);
            }
        }
        Err(crashing(thread))
    }

    /// Goes on from where a thread stopped. Durable when this returns.
    pub async fn resume(&self, thread: ThreadId, why: Resumed, change: Option<Change>) -> Result<Seq, ToolError> {
        self.takes_work()?;
        self.last_seq(thread).await?;
        for _ in 0..ASKED_MAX {
            let change = change.clone();
            // Going on twice is going on once.
            if let Some(seq) = self.ask(thread, |reply| AgentMsg::Resume { why, change, reply }).await? {
                return Ok(seq);
            }
        }
        Err(crashing(thread))
    }

    /// Says whether a call may be made that waits for somebody's consent. Durable when this returns.
    pub async fn approve(&self, thread: ThreadId, call_id: String, allow: bool) -> Result<Seq, ToolError> {
        let before = self.last_seq(thread).await?;
        for _ in 0..ASKED_MAX {
            let (id, asked) = (call_id.clone(), call_id.clone());
            if let Some(seq) = self.ask(thread, |reply| AgentMsg::Approve { call_id: id, allow, reply }).await? {
                return Ok(seq);
            }
            // It may have been taken in: the journal knows.
            let same = move |body: &EventBody| matches!(body, EventBody::ApprovalAnswered { call_id, allow: said } if *call_id == asked && *said == allow);
            if let Some(seq) = self.behind(thread, before, same).await? {
                self.node(thread).await?;
                return Ok(seq);
            }
        }
        Err(crashing(thread))
    }

    /// Stops a thread's run, if one is on. Durable when this returns.
    pub async fn stop(&self, thread: ThreadId, how: Stop) -> Result<Seq, ToolError> {
        self.last_seq(thread).await?;
        for _ in 0..ASKED_MAX {
            let how = how.clone();
            if let Some(seq) = self.ask(thread, |reply| AgentMsg::Stop { how, reply }).await? {
                return Ok(seq);
            }
        }
        Err(crashing(thread))
    }

    /// Stops every run that is on, to be gone on with when the runtime comes up again. Returns when all of that is
    /// durable. What was begun before [`Runtime::take_no_more`](crate::runtime::Runtime::take_no_more) is among them.
    pub async fn shut_down(&self) {
        let tree = self.wiring.nodes.tree();
        let threads = tree.children.into_iter().find(|node| node.path == "/threads");
        let mut stops = tokio::task::JoinSet::new();
        for node in threads.into_iter().flat_map(|threads| threads.children) {
            let Some(Ok(thread)) = node.path.rsplit('/').next().map(str::parse::<ThreadId>) else { continue };
            let threads = self.clone();
            stops.spawn(boxed(async move {
                if let Err(error) = threads.stop(thread, Stop::Shutdown).await {
                    tracing::warn!(%thread, %error, "its run could not be stopped; it goes on as after a crash");
                }
            }));
        }
        while stops.join_next().await.is_some() {}
    }

    /// Nothing is begun on a runtime that is about to end, or that has no model.
    fn takes_work(&self) -> Result<(), ToolError> {
        if self.wiring.closed.load(Ordering::Acquire) {
            return Err(ToolError::new(ErrorCode::Unavailable, "the runtime is about to end; nothing new is begun"));
        }
        self.wiring.upstream.missing().map_or(Ok(()), Err)
    }

    /// Asks a thread's agent, starting it where there is none. `None`: it may have heard, and nobody knows.
    async fn ask(
        &self,
        thread: ThreadId,
        msg: impl FnOnce(Reply<Result<Seq, ToolError>>) -> AgentMsg,
    ) -> Result<Option<Seq>, ToolError> {
        self.node(thread).await?;
        let agent = self.wiring.agent(thread);
        let mut call = std::pin::pin!(agent.call(REQUEST_DEADLINE, msg));
        let mut wait = NODE_LOOKED_AFTER;
        let answer = loop {
            match timeout(wait, &mut call).await {
                Ok(answer) => break answer,
                // The node that was there may have been one that was about to end with its run: then this makes another.
                Err(_) => drop(self.node(thread).await?),
            }
            if wait < NODE_LOOKED_AFTER_MAX {
                wait *= 2;
                if wait >= NODE_LOOKED_AFTER_MAX {
                    // An agent that stays away may have a journal that cannot be read.
                    self.readable(thread).await?;
                }
            }
        };
        match answer {
            // An agent that read the journal while its predecessor's step was on the way: that step may hold the answer.
            Ok(Err(error)) if error.code == ErrorCode::OwnershipLost => Ok(None),
            Ok(outcome) => outcome.map(Some),
            Err(CallError::Unknown) => Ok(None),
            Err(error @ (CallError::Unavailable | CallError::Timeout)) => {
                Err(ToolError::new(ErrorCode::Unavailable, format!("{thread} does not answer: {error}")))
            }
        }
    }

    async fn last_seq(&self, thread: ThreadId) -> Result<Seq, ToolError> {
        let row = self.wiring.store.read(move |reading| reading.thread(thread)).await.map_err(ToolError::from)?;
        match row {
            Some(row) => Ok(row.last_seq),
            // Started a moment ago, and nothing of it is durable yet.
            None if self.wiring.nodes.node(&format!("/threads/{thread}")).is_some() => Ok(Seq::ZERO),
            None => Err(not_found(thread)),
        }
    }

    async fn readable(&self, thread: ThreadId) -> Result<(), ToolError> {
        let read = self.wiring.store.read(move |reading| journal::whole(reading, thread));
        match read.await.map_err(ToolError::from) {
            // A store that is away comes back: the call waits for it as for the agent.
            Err(error) if error.code == ErrorCode::StoreCorrupt => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The first such event behind another.
    async fn behind(
        &self,
        thread: ThreadId,
        after: Seq,
        is_such: impl Fn(&EventBody) -> bool,
    ) -> Result<Option<Seq>, ToolError> {
        let read = self.wiring.store.read(move |reading| reading.events(thread, after, limits::STEP_EVENTS_MAX));
        let events = read.await.map_err(ToolError::from)?;
        Ok(events.into_iter().find(|event| is_such(&event.body)).map(|event| event.seq))
    }

    async fn node(&self, thread: ThreadId) -> Result<Added, ToolError> {
        let node = node(&self.wiring, thread);
        self.wiring
            .threads
            .add(node)
            .await
            .map_err(|error| ToolError::new(ErrorCode::Unavailable, format!("/threads: {error}")))
    }
}

fn crashing(thread: ThreadId) -> ToolError {
    ToolError::new(
        ErrorCode::Unknown,
        format!("{thread} crashed over this {ASKED_MAX} times; `lakitu threads events` tells whether it was taken in"),
    )
}

/// The nodes of threads with effects under way, or of which nothing is durable yet: what `/threads` starts again when it
/// was itself restarted.
pub(crate) fn running_again(wiring: &Arc<Wiring>) -> Vec<DynamicChild<Wiring>> {
    let mut threads: std::collections::BTreeSet<ThreadId> =
        wiring.effects.keys().into_iter().map(|key| key.thread).collect();
    wiring.origins.with(|origins| threads.extend(origins.keys()));
    threads.into_iter().map(|thread| node(wiring, thread)).collect()
}

/// There is no such thread.
pub fn not_found(thread: ThreadId) -> ToolError {
    ToolError::new(
        ErrorCode::ThreadNotFound,
        format!("there is no thread {thread}; `lakitu threads ls` lists what there is"),
    )
}

fn check_prompt(text: &str) -> Result<(), ToolError> {
    if text.trim().is_empty() {
        return Err(ToolError::new(ErrorCode::InvalidArguments, "the prompt is empty"));
    }
    if text.len() > limits::PROMPT_BYTES_MAX {
        let message = format!(
            "the prompt has {} bytes; at most {} are taken: put it in a file",
            text.len(),
            limits::PROMPT_BYTES_MAX
        );
        return Err(ToolError::new(ErrorCode::InvalidArguments, message));
    }
    Ok(())
}

/// `/threads/<id>`: ends when its last child has.
fn node(wiring: &Arc<Wiring>, thread: ThreadId) -> DynamicChild<Wiring> {
    let reference = SupervisorRef::new(format!("/threads/{thread}"), lakitu_kernel::supervise::MAILBOX_CAPACITY);
    let mourner = Arc::downgrade(wiring);
    let start = move |wiring: &Arc<Wiring>, place: ChildPlace| -> Starting {
        let mourner = mourner.clone();
        let tree = Tree::new("thread")
            .first(move |_| vec![agent_child(thread)])
            .on_settled(move |settled| {
                if let (End::CrashLoop(why), Some(wiring)) = (settled.end, mourner.upgrade()) {
                    bury(&wiring, thread, why);
                }
            })
            .ends_when_empty();
        place.supervise(wiring, &reference, tree)
    };
    child(thread.to_string(), "thread", Arc::new(start))
}

fn agent_child(thread: ThreadId) -> DynamicChild<Wiring> {
    let start = move |wiring: &Arc<Wiring>, place: ChildPlace| -> Starting {
        let args = AgentArgs { wiring: wiring.clone(), thread };
        place.spawn::<Agent>(wiring.agent(thread), args)
    };
    child("agent".to_owned(), "agent", Arc::new(start))
}

fn child(id: String, kind: &'static str, start: lakitu_kernel::supervise::Start<Wiring>) -> DynamicChild<Wiring> {
    DynamicChild {
        id,
        kind,
        restart: Restart::Transient,
        intensity: Intensity { restarts: 5, within: Duration::from_mins(1) },
        exhausted: Exhausted::Settle,
        grace: Duration::from_secs(5),
        start_deadline: Duration::from_secs(30),
        start,
    }
}

/// Writes the end of a thread whose agent is given up.
fn bury(wiring: &Arc<Wiring>, thread: ThreadId, why: String) {
    let error = ToolError::new(ErrorCode::CrashLoop, format!("the thread's actor failed again and again: {why}"));
    let key = Key { thread, work: Work::Bury };
    // That of an earlier end.
    wiring.effects.acknowledge(&key);
    let work = {
        let (wiring, error) = (wiring.clone(), error.clone());
        async move {
            wiring.effects.unsubscribe(&thread);
            wiring.origins.with(|origins| origins.remove(&thread));
            let settled = timeout(deadlines::bury(), journal::settle(&wiring, thread, error.clone())).await;
            match settled.unwrap_or(Err(StoreError::Unavailable)) {
                Ok(true) => {}
                // Its journal has no run that could be ended: nothing of it ever became durable.
                Ok(false) => agent::gone(&wiring, thread, error),
                Err(failure) => {
                    tracing::error!(%thread, %failure, "the thread's end could not be written");
                    agent::gone(&wiring, thread, error);
                }
            }
            Done::Over
        }
    };
    // It keeps its deadline itself, so that whoever listens is told.
    wiring.begin(key, None, |_| work);
}
