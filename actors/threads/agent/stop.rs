//! Stopping a run: what can be cancelled is, what must not be torn is let end, and what does not end in time is given
//! up with a result that says so.

use lakitu_kernel::supervise::{Reply, Status};
use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{Seq, ToolError, limits};

use super::{Agent, AgentMsg, Msg, Stop, Wanted, wanted};
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
        self.stopping = Some(Stopping { how, reply: reply.into_iter().collect() });
        for work in wanted(&self.state) {
            self.cancel(work);
        }
        let (thread, tools) = (self.state.thread, self.wiring.bash_tools.clone());
        self.tasks.spawn(async move { tools.kill_all(thread, limits::STOP_DEADLINE).await });
        let address = self.me.address().clone();
        self.later(limits::STOP_DEADLINE, move || drop(address.send(AgentMsg::StopIsOverdue)));
        self.stop_if_quiet();
    }

    fn cancel(&mut self, work: Wanted) {
        let thread = self.state.thread;
        match work {
            Wanted::Model(turn) => self.wiring.effects.cancel(&Key { thread, work: Work::Model(turn) }),
            Wanted::Prepare(intent) => self.wiring.effects.cancel(&Key { thread, work: Work::Prepare(intent) }),
            Wanted::Tool { intent, start, .. } => match self.state.call(intent).map(|call| call.effect) {
                Some(EffectClass::Read) => self.wiring.effects.cancel(&Key { thread, work: Work::Tool(intent, start) }),
                // Commands are ended all together; a write is let end: it is short, and half of one helps nobody.
                Some(EffectClass::Detached | EffectClass::Verifiable | EffectClass::Keyed | EffectClass::External)
                | None => {}
            },
        }
    }

    /// Writes the stop once nothing of the run is under way.
    pub(super) fn stop_if_quiet(&mut self) {
        if self.stopping.is_some() && self.under_way().is_empty() {
            self.stop_now(Vec::new());
        }
    }

    pub(super) fn stop_is_overdue(&mut self) {
        if self.stopping.is_none() {
            return;
        }
        let unknown = self.under_way();
        for intent in &unknown {
            if let Some(start) = self.state.call(*intent).map(|call| call.start) {
                self.wiring.effects.cancel(&Key { thread: self.state.thread, work: Work::Tool(*intent, start) });
            }
        }
        self.stop_now(unknown);
    }

    fn stop_now(&mut self, unknown: Vec<Seq>) {
        let Some(Stopping { how, reply }) = self.stopping.take() else { return };
        self.take(Msg::Stop { how, unknown });
        for reply in reply {
            self.when_durable(self.state.seq, reply);
        }
    }

    /// Calls with an effect under way that may leave something behind.
    fn under_way(&self) -> Vec<Seq> {
        let thread = self.state.thread;
        let calls = self.state.acting().into_iter().flat_map(|acting| &acting.calls);
        calls
            .filter(|call| call.result.is_none() && call.effect != EffectClass::Read)
            .filter(|call| {
                let key = Key { thread, work: Work::Tool(call.intent, call.start) };
                matches!(self.wiring.effects.outcome(&key), Some(Status::Running))
            })
            .map(|call| call.intent)
            .collect()
    }
}
