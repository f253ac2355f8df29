//! `/threads/<id>/agent`: one conversation. Parent `/threads/<id>`, transient; rebuilt from its journal.
//! Owns the history of its thread: nobody else writes it.
//!
//! The core is pure: [`State`] is folded from events (`state`), a message becomes events (`decide`), a state says what
//! work should be under way (`wanted`). The shell around it commits the events (`commit`), starts and hears the work
//! (`work`), and stops the run (`stop`).
//!
//! **Invariant:** `handle` never awaits the model, a tool or the store; their answers come back as messages.
//! **Invariant:** what rests on an event begins, or is told outside, only when the event is durable. A model request
//! alone may leave before; its answer reaches nobody until then.

mod checkpoints;
mod commit;
mod decide;
pub(crate) mod decision_log;
mod decisions;
mod history;
mod kept;
mod quiet;
mod restoring;
mod room;
mod rows;
mod state;
mod stop;
#[cfg(test)]
mod tests;
mod wanted;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakitu_kernel::edit::PutBackFor;
use lakitu_kernel::event::{CheckpointReason, Resumed, Settings};
use lakitu_kernel::supervise::{Crash, Me, Message, Reply, Service, StartError, boxed};
use lakitu_kernel::{ErrorCode, Event, Hash, Seq, ThreadId, ToolError, Turn};
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use commit::append;
pub use commit::is_end;
pub use decide::{Answer, Checked, Checkpointing, Stop};
pub(crate) use decide::{Msg, check, unasked};
pub use decision_log::DECISION_LOG;
pub use kept::{ChangedFile, ChangedFiles, Kept};
pub use restoring::Restoring;
pub(crate) use rows::{beside, restore, thread as thread_row};
pub use state::{Acting, CallState, End, Phase, State};
pub(crate) use wanted::{Wanted, wanted};

use super::hub::Published;
use super::journal::{Images, Whole};
use crate::bash_facts;
use crate::effects::{Done, Key, Prepared};
use crate::store::{Committed, Op, StoreError};
use crate::wiring::Wiring;

/// Settings that replace the stored ones, and the prefix that belongs to them.
#[derive(Debug, Clone)]
pub struct Change {
    /// The settings.
    pub settings: Settings,
    /// The beginning of every request from now on, where it is another one.
    pub prefix: Option<Bytes>,
}

/// How a new thread begins.
#[derive(Debug)]
pub struct Origin {
    /// Its settings.
    pub settings: Settings,
    /// The beginning of every request.
    pub prefix: Bytes,
    /// What encloses text from outside.
    pub boundary: String,
    /// The first prompt.
    pub prompt: String,
    /// What whoever starts it wants to find again with it.
    pub metadata: Option<serde_json::Value>,
}

/// Everything an agent can be told.
pub enum AgentMsg {
    /// A person's text, with new settings where a flag was given. Answered once it is durable, with its position.
    Prompt {
        /// The text.
        text: String,
        /// New settings.
        change: Option<Change>,
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Go on from where the thread stopped. Answered once that is durable.
    Resume {
        /// What made it go on.
        why: Resumed,
        /// New settings.
        change: Option<Change>,
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Somebody says whether a call may be made that waits for that. Answered once it is durable.
    Approve {
        /// The call.
        call_id: String,
        /// Whether it may be made.
        allow: bool,
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Make a checkpoint, or note that it was gone back to. Answered once that is durable, with its position.
    Checkpoint {
        /// What of both.
        what: Checkpointing,
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Put files back to earlier versions, by a redo record that was computed under locks. Answered once that is done and
    /// durable.
    Restore {
        /// What for.
        put_back_for: PutBackFor,
        /// The redo record and its locks.
        prepared: Prepared,
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Answered once no file is being put back: at once, unless an earlier process was killed over it.
    Restored {
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Where an earlier process was killed in a run with which nobody goes on, that is over: it is stopped where it is.
    /// Answered once no run is on and that is durable; `THREAD_BUSY` where one is.
    Abandon {
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// Stop the run. Answered once the stop is durable.
    Stop {
        /// How.
        how: Stop,
        /// Where the answer goes.
        reply: Reply<Result<Seq, ToolError>>,
    },
    /// An effect came to its end.
    Effect(Key, Done),
    /// The model call of that turn waits for the gateway to come back, and has for long.
    Stalled(Turn, String),
    /// What became of the step under way.
    Committed(Result<Committed, StoreError>),
    /// The run's time is used up; of a run that began at that event.
    TimeIsUp(Seq),
    /// It is time to look whether anything has happened.
    Quiet,
    /// What an earlier process left running is found.
    Adopted,
    /// Look again at what is wanted: something ended that could not say so.
    Wake,
    /// Nobody spoke to the thread for a while.
    Idle,
    /// Effects had their time to end.
    StopIsOverdue,
}

impl Message for AgentMsg {
    fn name(&self) -> &'static str {
        match self {
            AgentMsg::Prompt { .. } => "Prompt",
            AgentMsg::Resume { .. } => "Resume",
            AgentMsg::Approve { .. } => "Approve",
            AgentMsg::Checkpoint { .. } => "Checkpoint",
            AgentMsg::Restore { .. } => "Restore",
            AgentMsg::Restored { .. } => "Restored",
            AgentMsg::Abandon { .. } => "Abandon",
            AgentMsg::Stop { .. } => "Stop",
            AgentMsg::Effect(..) => "Effect",
            AgentMsg::Stalled(..) => "Stalled",
            AgentMsg::Committed(_) => "Committed",
            AgentMsg::TimeIsUp(_) => "TimeIsUp",
            AgentMsg::Quiet => "Quiet",
            AgentMsg::Adopted => "Adopted",
            AgentMsg::Wake => "Wake",
            AgentMsg::Idle => "Idle",
            AgentMsg::StopIsOverdue => "StopIsOverdue",
        }
    }
}

/// What an agent is started from.
pub struct AgentArgs {
    /// Everything it reaches.
    pub wiring: Arc<Wiring>,
    /// Its thread.
    pub thread: ThreadId,
}

/// A settled thread's actor that nobody spoke to ends after this.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Someone who waits until an event is durable.
type Waiter = Box<dyn FnOnce(Result<Seq, ToolError>) + Send>;

/// One conversation.
pub struct Agent {
    wiring: Arc<Wiring>,
    me: Me<AgentMsg>,
    state: State,
    prefix: Bytes,
    boot_id: Arc<str>,
    /// The end of the journal when this process first saw the thread.
    found_at: Seq,
    /// Calls that may have been under way when this process found the thread; those behind them provably were not.
    begun: BTreeSet<Seq>,
    /// Calls that were begun up to here are looked at before they are begun again.
    booted_at: Seq,
    /// Everything up to here is durable.
    durable: Seq,
    /// Decided and not yet submitted.
    unsent: Vec<Op>,
    unsent_events: Vec<Event>,
    /// Blobs that go with the events decided next.
    blobs: Vec<Op>,
    committing: bool,
    /// Outcomes that were taken in, by the event that holds them; they leave the registry once that is durable.
    taken: BTreeMap<Seq, Key>,
    /// The images of the prompt, by hash, as they stand on the wire.
    images: Images,
    /// Redo records of calls under way, by intent.
    redos: BTreeMap<Seq, Prepared>,
    waiters: Vec<(Seq, Waiter)>,
    /// Who waits for files to be put back.
    restorers: Vec<restoring::Restorer>,
    stopping: Option<stop::Stopping>,
    /// What an earlier process left running is looked for; nothing is begun meanwhile.
    adopting: bool,
    quiet: quiet::Quiet,
    /// Ends the run in time.
    timer: Option<AbortHandle>,
    /// Timers and the step under way; they end with this incarnation.
    tasks: JoinSet<()>,
}

impl Service for Agent {
    type Msg = AgentMsg;
    type Args = AgentArgs;
    const KIND: &'static str = "agent";
    const GAUGES: &'static [&'static str] = &["seq", "durable", "turn", "history_bytes"];

    async fn start(args: AgentArgs, me: Me<AgentMsg>) -> Result<Self, StartError> {
        let AgentArgs { wiring, thread } = args;
        let origin = wiring.origins.with(|origins| origins.get(&thread).cloned());
        let (state, prefix, images) = load(&wiring, thread, origin.as_deref()).await?;
        let booted_at = wiring.hub.booted_at(thread, state.seq);
        wiring.hub.durable(thread, state.seq);
        // Its predecessor may have ended before it could tell what had become durable.
        wiring.hub.publish(thread, Published::Durable(state.seq));
        let mut agent = Self {
            boot_id: wiring.boot_id.clone(),
            durable: state.seq,
            found_at: booted_at,
            begun: if state.seq == booted_at { begun(&state) } else { BTreeSet::new() },
            booted_at,
            wiring,
            me,
            state,
            prefix,
            unsent: Vec::new(),
            unsent_events: Vec::new(),
            blobs: Vec::new(),
            committing: false,
            taken: BTreeMap::new(),
            images,
            redos: BTreeMap::new(),
            waiters: Vec::new(),
            restorers: Vec::new(),
            stopping: None,
            adopting: false,
            quiet: quiet::Quiet::new(),
            timer: None,
            tasks: JoinSet::new(),
        };
        agent.hear();
        if booted_at > Seq::ZERO {
            agent.adopt();
        }
        let origin = origin.filter(|_| agent.state.seq == Seq::ZERO);
        if origin.is_none() {
            agent.wiring.origins.with(|origins| origins.remove(&thread));
        }
        if let Some(origin) = origin {
            agent.begin(&origin);
        } else if agent.state.is_running() && !agent.is_left_behind() {
            agent.watch_time();
        }
        if !agent.adopting {
            agent.warm();
        }
        agent.go_on();
        agent.let_go_of_the_past();
        // What ended before this actor could be reached is looked for once it can be. A settled thread's actor ends
        // where nobody speaks to it; never in here, for whoever it was started for has not been heard yet.
        agent.later(Duration::ZERO, AgentMsg::Wake);
        agent.later(IDLE_AFTER, AgentMsg::Idle);
        Ok(agent)
    }

    async fn handle(&mut self, msg: AgentMsg) -> Result<(), Crash> {
        while self.tasks.try_join_next().is_some() {}
        // It may come before the message that the actor was started for.
        let woken = matches!(msg, AgentMsg::Wake | AgentMsg::Adopted);
        match msg {
            AgentMsg::Prompt { text, change, reply } => self.prompted(text, change, reply),
            AgentMsg::Resume { why, change, reply } => self.resumed(why, change, reply),
            AgentMsg::Approve { call_id, allow, reply } => self.approved(&call_id, allow, reply),
            AgentMsg::Checkpoint { what, reply } => {
                self.take(Msg::Checkpoint(what));
                self.when_durable(self.state.seq, reply);
            }
            AgentMsg::Restore { put_back_for, prepared, reply } => self.restore(put_back_for, prepared, reply),
            AgentMsg::Restored { reply } => self.restored(reply),
            AgentMsg::Abandon { reply } => self.abandon(reply),
            AgentMsg::Stop { how, reply } => self.begin_stop(how, Some(reply)),
            AgentMsg::Effect(key, done) => self.effect_ended(key, done),
            AgentMsg::Stalled(turn, reason) => self.take(Msg::Stalled { turn, reason }),
            AgentMsg::Committed(outcome) => self.committed(outcome)?,
            AgentMsg::TimeIsUp(run) => self.time_is_up(run),
            AgentMsg::Quiet => self.look_at_quiet()?,
            AgentMsg::Adopted => {
                self.adopting = false;
                self.warm();
            }
            AgentMsg::Wake | AgentMsg::Idle => {}
            AgentMsg::StopIsOverdue => self.stop_is_overdue(),
        }
        self.stop_if_quiet();
        self.go_on();
        if !woken {
            self.end_if_idle();
        }
        Ok(())
    }
}

impl Agent {
    fn begin(&mut self, origin: &Origin) {
        let prefix = Hash::of(&origin.prefix);
        self.blobs.push(commit::blob(origin.prefix.clone()));
        let (settings, boundary) = (origin.settings.clone(), origin.boundary.clone());
        self.take(Msg::Start { prefix, settings, boundary, metadata: origin.metadata.clone() });
        self.take(Msg::Prompt { text: origin.prompt.clone() });
        self.watch_time();
    }

    fn prompted(&mut self, text: String, change: Option<Change>, reply: Reply<Result<Seq, ToolError>>) {
        if self.state.inbox.len() >= lakitu_kernel::limits::INBOX_MAX {
            let message = "too many prompts wait for the next model call; wait for it, or cancel the run";
            return reply.send(Err(ToolError::new(ErrorCode::ThreadBusy, message)));
        }
        if change.is_some() || self.is_left_behind() {
            self.change(Resumed::Continue, change);
        }
        self.take(Msg::Prompt { text });
        let seq = self.state.seq;
        self.watch_time();
        self.when_durable(seq, reply);
    }

    /// Whether an earlier process was killed in this run and nobody has said yet that it goes on. Until then nothing is
    /// begun and no time runs: it may be stopped, or go on with other settings, and a run that came to its end before
    /// the word arrived would be resumed behind its end.
    fn is_left_behind(&self) -> bool {
        self.state.is_running() && self.state.seq == self.found_at
    }

    fn resumed(&mut self, why: Resumed, change: Option<Change>, reply: Reply<Result<Seq, ToolError>>) {
        // A boot goes on with what an earlier process left, not with what was begun while it looked around.
        if why != Resumed::Boot || !self.state.is_running() || self.is_left_behind() {
            self.change(why, change);
        }
        self.watch_time();
        self.when_durable(self.state.seq, reply);
    }

    fn approved(&mut self, call_id: &str, allow: bool, reply: Reply<Result<Seq, ToolError>>) {
        if self.state.question(call_id).is_none() {
            let id: String = call_id.chars().take(64).collect();
            let message = format!("no call {id:?} of this thread waits for consent");
            return reply.send(Err(ToolError::new(ErrorCode::ThreadBusy, message)));
        }
        self.take(Msg::Approve { call_id: call_id.to_owned(), allow });
        self.when_durable(self.state.seq, reply);
    }

    fn change(&mut self, why: Resumed, change: Option<Change>) {
        let change = change.map(|change| {
            let hash = change.prefix.map(|prefix| {
                let hash = Hash::of(&prefix);
                self.blobs.push(commit::blob(prefix.clone()));
                self.prefix = prefix;
                hash
            });
            (change.settings, hash)
        });
        self.take(Msg::Resume { why, change });
    }

    /// Does what the state asks for and nobody does yet.
    fn go_on(&mut self) {
        self.let_go_of_the_past();
        if !self.is_left_behind() && !self.adopting {
            self.align();
        }
        self.flush();
        self.watch_quiet();
        #[cfg(test)]
        if self.state.seq == self.durable {
            crate::simulation::observe(&self.state);
        }
        self.me.gauge(0, self.state.seq.0);
        self.me.gauge(1, self.durable.0);
        self.me.gauge(2, u64::from(self.state.answered.0));
        self.me.gauge(3, self.state.history.len() as u64);
    }

    /// Finds what an earlier process left running. Whatever the thread does next: it does not outlive this runtime. That
    /// may take its time where a keeper does not answer, and the thread can be stopped meanwhile.
    fn adopt(&mut self) {
        self.adopting = true;
        let (wiring, thread, address) = (self.wiring.clone(), self.state.thread, self.me.address().clone());
        let open = self.state.acting().into_iter().flat_map(|acting| &acting.calls);
        let waited_for: BTreeSet<Seq> = open.filter(|call| call.result.is_none()).map(|call| call.intent).collect();
        self.tasks.spawn(boxed(async move {
            wiring.bash_tools.adopt(thread).await;
            bash_facts::settle(&wiring, thread, |job| waited_for.contains(&job)).await;
            address.deliver(AgentMsg::Adopted).await;
        }));
    }

    /// Starts the thread's keeper while the model thinks. Where many threads run, each starts its own when it needs one.
    fn warm(&mut self) {
        const WARMED_MAX: usize = 4;
        let tools = self.wiring.bash_tools.clone();
        let (thread, place) = (self.state.thread, self.place());
        if let Some(place) = place.filter(|_| self.state.is_running() && tools.counts().borrow().keepers < WARMED_MAX) {
            self.tasks.spawn(boxed(async move { tools.warm(thread, &place).await }));
        }
    }

    /// A settled thread has no actor; a prompt starts one.
    fn end_if_idle(&mut self) {
        let quiet = self.unsent.is_empty() && !self.committing && self.waiters.is_empty();
        if quiet && !self.state.is_running() && self.state.restoring.is_none() && self.state.seq == self.durable {
            self.wiring.effects.unsubscribe(&self.state.thread);
            self.wiring.hub.forget(self.state.thread);
            bash_facts::look_after(&self.wiring, self.state.thread, self.durable);
            self.me.done();
        }
    }

    /// Ends the run at its deadline. A wall clock that is set, or a machine that slept, takes no time away and adds none.
    fn watch_time(&mut self) {
        let Some(timeout_ms) = self.state.settings.as_ref().and_then(|settings| settings.timeout_ms) else { return };
        let used = self.wiring.hub.run_since(self.state.thread, self.state.run.began).elapsed();
        let left = Duration::from_millis(timeout_ms).saturating_sub(used);
        let timer = self.later(left, AgentMsg::TimeIsUp(self.state.run.began));
        if let Some(before) = self.timer.replace(timer) {
            before.abort();
        }
    }

    fn time_is_up(&mut self, run: Seq) {
        if self.state.is_running() && self.state.run.began == run {
            // Where the gateway was what kept the run waiting, that is why its time ran out.
            let trouble =
                matches!(self.state.phase, Phase::Thinking).then(|| self.wiring.hub.trouble(self.state.thread));
            self.begin_stop(Stop::Checkpoint(CheckpointReason::Timeout, trouble.flatten()), None);
        }
    }

    /// Tells this actor something later, whatever its mailbox holds then; not its successor.
    fn later(&mut self, after: Duration, msg: AgentMsg) -> AbortHandle {
        let address = self.me.address().clone();
        self.tasks.spawn(boxed(async move {
            tokio::time::sleep(after).await;
            address.deliver(msg).await;
        }))
    }

    fn when_durable(&mut self, seq: Seq, reply: Reply<Result<Seq, ToolError>>) {
        self.when_durable_then(seq, move |outcome| reply.send(outcome));
    }

    fn when_durable_then(&mut self, seq: Seq, waiter: impl FnOnce(Result<Seq, ToolError>) + Send + 'static) {
        if seq <= self.durable {
            waiter(Ok(seq));
        } else {
            self.waiters.push((seq, Box::new(waiter)));
        }
    }
}

/// A thread from the store; what a new one begins with from its origin.
async fn load(
    wiring: &Wiring,
    thread: ThreadId,
    origin: Option<&Origin>,
) -> Result<(State, Bytes, Images), StartError> {
    let whole = wiring.store.read(move |reading| super::journal::whole(reading, thread)).await;
    let Whole { state, prefix, images } = whole.map_err(StartError::new)?;
    let prefix = prefix.or_else(|| origin.map(|origin| origin.prefix.clone()));
    let prefix = prefix.ok_or_else(|| StartError::new(format!("{thread} has no journal")))?;
    Ok((state, prefix, images))
}

/// The calls that whoever left the thread in this state may have begun.
fn begun(state: &State) -> BTreeSet<Seq> {
    let call = |work| match work {
        Wanted::Tool { intent, .. } => Some(intent),
        Wanted::Model { .. } | Wanted::Prepare { .. } | Wanted::PutBack(_) => None,
    };
    wanted(state).into_iter().filter_map(call).collect()
}

/// Tells listeners that nothing more will come.
pub(crate) fn gone(wiring: &Wiring, thread: ThreadId, error: ToolError) {
    wiring.hub.publish(thread, Published::Gone(error));
}
