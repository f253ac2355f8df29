//! Stopping a run: what can be cancelled is, what must not be torn is let end, and what does not end in time is given
//! up with a result that says so.

use lakitu_kernel::event::CheckpointReason;
use lakitu_kernel::supervise::{Reply, Status, boxed};
use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{Seq, ToolError, limits};

use super::{Agent, AgentMsg, CallState, Msg, Stop, Wanted, wanted};
use crate::deadlines;
use crate::effects::{Key, Work};

/// A stop that was asked for and waits for effects to end.
pub(super) struct Stopping {
    how: Stop,
    reply: Vec<Reply<Result<Seq, ToolError>>>,
}

impl Agent {
    pub(super) fn begin_stop(&mut self, how: Stop, reply: Option<Reply<Result<Seq, ToolError>>>) {
        if !self.state.is_running() {
            // Nothing to stop: what there is, is as durable as it will be.
            if let Some(reply) = reply {
                self.when_durable(self.state.seq, reply);
            }
            return;
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.reply.extend(reply);
            return;
        }
        let spares_jobs = how == Stop::CancelTurn;
        self.stopping = Some(Stopping { how, reply: reply.into_iter().collect() });
        let thread = self.state.thread;
        let mut commands = Vec::new();
        for work in wanted(&self.state) {
            let Some(work) = self.work_for(work) else { continue };
            let key = Key { thread, work };
            if self.may_be_torn(work) {
                self.wiring.effects.cancel(&key);
            } else {
                self.wiring.effects.revoke(&key);
            }
            if let Work::Tool(intent, _) | Work::Examine(intent) = work {
                let is_command = |call: &CallState| call.effect == EffectClass::Detached;
                commands.extend(self.state.call(intent).filter(|call| is_command(call)).map(|call| call.intent));
            }
        }
        let jobs = Key { thread, work: Work::EndJobs };
        self.wiring.effects.acknowledge(&jobs);
        let within = Some(deadlines::end_jobs());
        let only = spares_jobs.then_some(commands);
        self.wiring.begin(jobs, within, |_| crate::work::end_jobs(self.wiring.clone(), thread, only));
        self.later(limits::STOP_DEADLINE, AgentMsg::StopIsOverdue);
        // What was cancelled ends without a word; a run that begins meanwhile must not wait for it.
        let (effects, address) = (self.wiring.effects.clone(), self.me.address().clone());
        self.tasks.spawn(boxed(async move {
            effects.idle(&thread).await;
            address.deliver(AgentMsg::Wake).await;
        }));
    }

    /// Ends the run that an earlier process was killed in, unless somebody goes on with it.
    pub(super) fn abandon(&mut self, reply: Reply<Result<Seq, ToolError>>) {
        if self.state.is_running() && !self.is_left_behind() && self.stopping.is_none() {
            return reply.send(Err(super::restoring::busy()));
        }
        let left = wanted(&self.state);
        self.begin_stop(Stop::Checkpoint(CheckpointReason::Interrupted, None), Some(reply));
        // What a killed call had written is told by its redo record: without a look, it would be somebody else's.
        for work in left {
            let Wanted::Tool { intent, .. } = work else { continue };
            let is_write = self.state.call(intent).is_some_and(|call| call.effect == EffectClass::Verifiable);
            if let Some(here) = self.work_for(work).filter(|_| is_write && self.is_left_behind()) {
                self.start(Key { thread: self.state.thread, work: here }, work);
            }
        }
    }

    /// Whether nothing is left behind by work that is cut off. Commands are ended all together; a write is let end: it
    /// is short, and half of one helps nobody.
    fn may_be_torn(&self, work: Work) -> bool {
        match work {
            Work::Model { .. } | Work::Prepare(_) => true,
            Work::Tool(intent, _) => self.state.call(intent).is_some_and(|call| call.effect == EffectClass::Read),
            Work::PutBack(_) | Work::Examine(_) | Work::EndJobs | Work::Stop | Work::Bury => false,
        }
    }

    /// Writes the stop once nothing of the run is under way, its jobs included.
    pub(super) fn stop_if_quiet(&mut self) {
        if self.stopping.is_none() {
            return;
        }
        let jobs = Key { thread: self.state.thread, work: Work::EndJobs };
        let ending = matches!(self.wiring.effects.outcome(&jobs), Some(Status::Running));
        if !ending && self.may_have_begun(true).is_empty() {
            self.stop_now();
        }
    }

    pub(super) fn stop_is_overdue(&mut self) {
        if self.stopping.is_some() {
            self.stop_now();
        }
    }

    fn stop_now(&mut self) {
        // An outcome that is there and was not heard of yet: without it, its call would be said never to have begun.
        self.align();
        let Some(Stopping { how, reply }) = self.stopping.take() else { return };
        let unknown = self.may_have_begun(false);
        self.take(Msg::Stop { how, unknown });
        for reply in reply {
            self.when_durable(self.state.seq, reply);
        }
    }

    /// Calls without a result that may have left something behind: those with an effect under way and, unless only these
    /// are asked for, those that an earlier process left and nobody looked at.
    fn may_have_begun(&self, under_way: bool) -> Vec<Seq> {
        let thread = self.state.thread;
        let begun = |work: &Wanted| -> Option<Seq> {
            let Wanted::Tool { intent, .. } = work else { return None };
            let call = self.state.call(*intent).filter(|call| call.effect != EffectClass::Read)?;
            let key = Key { thread, work: self.work_for(*work)? };
            let runs = matches!(self.wiring.effects.outcome(&key), Some(Status::Running));
            let left = !under_way && call.decided <= self.booted_at;
            (runs || left).then_some(*intent)
        };
        wanted(&self.state).iter().filter_map(begun).collect()
    }
}
