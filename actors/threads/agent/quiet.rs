//! Nothing happens: what a thread says of that, and does.
//!
//! Whatever it waits for has a deadline of its own (`deadlines.rs`), so this is for people, who see what is waited for
//! long before; and for what nobody thought of: where nothing is under way that could bring the run on, the actor begins
//! again from its journal.

use std::time::Duration;

use lakitu_kernel::ports::{FailureClass, ModelFailure};
use lakitu_kernel::supervise::{Crash, Status};
use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{ErrorCode, Seq, ToolError, Turn};
use tokio::time::Instant;

use super::{Agent, AgentMsg, Msg, Wanted, wanted};
use crate::effects::{Key, Work};

/// What was told that nothing brings it on is begun again after this.
const BEGINS_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// When a thread was last heard of.
pub(super) struct Quiet {
    since: Instant,
    /// Whether somebody will look.
    watched: bool,
    /// The turn whose model was asked anew because it came to no end.
    asked_anew: Option<Turn>,
}

impl Quiet {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), watched: false, asked_anew: None }
    }

    /// Something happened.
    pub(super) fn heard(&mut self) {
        self.since = Instant::now();
    }
}

impl Agent {
    /// Has somebody look when nothing will have happened for long.
    pub(super) fn watch_quiet(&mut self) {
        if self.state.is_running() && !self.is_left_behind() && !self.quiet.watched {
            self.quiet.watched = true;
            let left = self.wiring.stalled_after.saturating_sub(self.quiet.since.elapsed());
            self.later(left, AgentMsg::Quiet);
        }
    }

    /// Looks whether anything has happened.
    pub(super) fn look_at_quiet(&mut self) -> Result<(), Crash> {
        self.quiet.watched = false;
        let for_a_person = self.state.questions().next().is_some();
        let quiet = self.quiet.since.elapsed() >= self.wiring.stalled_after;
        let lost = self.state.is_running() && self.stopping.is_none() && self.waited_for().is_none();
        // Told before, and durable since: nothing is lost with this actor.
        if lost && self.state.stalled && self.state.seq == self.durable && !for_a_person {
            return Err(Crash::new("nothing is under way that could bring its run on"));
        }
        if !quiet || !self.state.is_running() || for_a_person || self.stopping.is_some() {
            return Ok(());
        }
        let s = self.quiet.since.elapsed().as_secs();
        let reason = if let Some(what) = self.waited_for() {
            format!("nothing for {s} s: it waits for {what}")
        } else {
            self.quiet.watched = true;
            self.later(BEGINS_AGAIN_AFTER, AgentMsg::Quiet);
            format!("nothing for {s} s, and nothing is under way that could bring it on: its actor begins again")
        };
        self.take(Msg::Quiet { reason });
        // Also where it was said before: it is looked again after as long.
        self.quiet.heard();
        Ok(())
    }

    /// What is under way, in a few words.
    fn waited_for(&self) -> Option<String> {
        if self.adopting {
            return Some("what an earlier process left running".to_owned());
        }
        let thread = self.state.thread;
        let runs = |work: &Wanted| -> Option<String> {
            let key = Key { thread, work: self.work_for(*work)? };
            matches!(self.wiring.effects.outcome(&key)?, Status::Running).then(|| self.named(key.work))
        };
        let named: Vec<String> = wanted(&self.state).iter().filter_map(runs).collect();
        if named.is_empty() { self.committing.then(|| "the store".to_owned()) } else { Some(named.join(", ")) }
    }

    /// Work in a few words.
    fn named(&self, work: Work) -> String {
        let call = |intent: Seq| match self.state.call(intent) {
            Some(call) => format!("{} ({})", call.call.tool, call.call.call_id),
            None => "a call".to_owned(),
        };
        match work {
            Work::Model { turn, .. } => match self.wiring.hub.trouble(self.state.thread) {
                Some(error) => format!("the model's answer to turn {turn} ({error})"),
                None => format!("the model's answer to turn {turn}"),
            },
            Work::Prepare(intent) | Work::Tool(intent, _) => call(intent),
            Work::PutBack(_) => "files to be put back".to_owned(),
            Work::Examine(intent) => format!("what became of {}", call(intent)),
            Work::EndJobs => "its commands' end".to_owned(),
            Work::Stop | Work::Bury => "its end".to_owned(),
        }
    }

    /// A question to the model missed its deadline: it is asked anew, once a turn.
    pub(super) fn late_model(&mut self, turn: Turn, within: Duration) {
        let reason = self.given_up(self.asking(), within);
        if self.quiet.asked_anew.replace(turn) == Some(turn) {
            let error = ToolError::new(ErrorCode::Timeout, reason);
            self.take(Msg::NoAnswer { turn, failure: ModelFailure { class: FailureClass::Refused, error } });
        } else {
            self.take(Msg::Quiet { reason });
        }
    }

    /// A call, or its preparation, missed its deadline: its result says what is known of it.
    pub(super) fn late_call(&mut self, work: Work, within: Duration) {
        let (Work::Prepare(intent) | Work::Tool(intent, _) | Work::Examine(intent)) = work else { return };
        let Some(class) = self.state.call(intent).map(|call| call.effect) else { return };
        let reason = self.given_up(work, within);
        self.take(Msg::Quiet { reason });
        let s = within.as_secs();
        if matches!(work, Work::Prepare(_)) {
            let message = format!("preparing this took longer than {s} s; nothing was written: try again");
            return self.take(Msg::Prepared { intent, outcome: Err(ToolError::new(ErrorCode::Timeout, message)) });
        }
        self.redos.remove(&intent);
        let duration_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.take(Msg::Result { intent, outcome: late(class, intent, s).into(), duration_ms });
    }

    fn given_up(&self, work: Work, within: Duration) -> String {
        let reason = format!("no end within {} s of {}: it is given up", within.as_secs(), self.named(work));
        tracing::warn!(thread = %self.state.thread, reason, "an effect missed its deadline");
        reason
    }
}

/// What is known of a call that came to no end. It is never begun again: it may have done what it was asked.
fn late(class: EffectClass, intent: Seq, s: u64) -> ToolError {
    match class {
        EffectClass::Read => ToolError::new(ErrorCode::Timeout, format!("no end within {s} s; ask for less at a time")),
        EffectClass::Keyed => {
            ToolError::new(ErrorCode::Timeout, format!("no end within {s} s; doing it again does it once"))
        }
        EffectClass::Verifiable | EffectClass::External => ToolError::new(
            ErrorCode::Interrupted,
            format!("no end within {s} s; how far it got is not known: look before you go on"),
        ),
        EffectClass::Detached => ToolError::new(
            ErrorCode::CommandTimeout,
            format!(
                "nothing was heard of it within {s} s; where it runs it goes on as job_{intent} (bash_list, bash_output)"
            ),
        ),
    }
}
