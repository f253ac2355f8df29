//! A run heard to its end and shown, wherever it runs: in this process, or in the one that it was handed to.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lakitu_actors::store::ThreadRow;
use lakitu_actors::threads::agent::Stop;
use lakitu_actors::threads::follow::{Following, Heard};
use lakitu_kernel::event::CheckpointReason;
use lakitu_kernel::ports::BoxFuture;
use lakitu_kernel::{ErrorCode, Event, Seq, ThreadId, ToolError};
use tokio::time::MissedTickBehavior;

use super::Failure;
use super::consent::Questions;
use super::signals::Signals;
use super::terminal::{End, Summary, Ui};
use crate::session::Session;

/// How often what moves on the terminal moves.
const TICK: Duration = Duration::from_millis(100);
/// More events than a turn has: its calls' intents are among them.
pub(super) const BEFORE: u64 = 300;

/// Where a run is heard.
pub(super) trait Source {
    /// What happens next; nothing once the run has ended. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Heard>, ToolError>;

    /// Asks for the run to be checkpointed, and does not wait for it: its end is heard.
    async fn stop(&mut self) -> Result<(), ToolError>;

    /// Says whether a call may be made that waits for that, and does not wait for it: what follows is heard.
    async fn answer(&mut self, call_id: String, allow: bool) -> Result<(), ToolError>;

    /// Asks the upstream whether everything it expected came.
    fn leftovers(&self) -> Result<(), ToolError>;
}

/// A run in this process.
pub(super) struct Here<'a> {
    session: &'a Session,
    run: Following,
    /// What was asked of it.
    asked: FuturesUnordered<BoxFuture<'static, Result<Seq, ToolError>>>,
}

impl<'a> Here<'a> {
    pub(super) fn new(session: &'a Session, run: Following) -> Self {
        Self { session, run, asked: FuturesUnordered::new() }
    }
}

impl Source for Here<'_> {
    async fn next(&mut self) -> Result<Option<Heard>, ToolError> {
        loop {
            tokio::select! {
                heard = self.run.next() => return heard,
                Some(done) = self.asked.next(), if !self.asked.is_empty() => {
                    done?;
                }
                ended = self.session.gave_up() => super::give_up(format!("{ended:?}; `lakitu resume` goes on")),
            }
        }
    }

    async fn stop(&mut self) -> Result<(), ToolError> {
        let (threads, thread) = (self.session.threads(), self.run.thread);
        let how = Stop::Checkpoint(CheckpointReason::Interrupted, None);
        self.asked.push(Box::pin(async move { threads.stop(thread, how).await }));
        Ok(())
    }

    async fn answer(&mut self, call_id: String, allow: bool) -> Result<(), ToolError> {
        let (threads, thread) = (self.session.threads(), self.run.thread);
        self.asked.push(Box::pin(async move {
            match threads.approve(thread, call_id, allow).await {
                // Somebody else was quicker.
                Err(error) if error.code == ErrorCode::ThreadBusy => Ok(Seq::ZERO),
                done => done,
            }
        }));
        Ok(())
    }

    fn leftovers(&self) -> Result<(), ToolError> {
        self.session.leftovers()
    }
}

/// Hears a run to its end. What stops the hearing before that is the run's end as far as anybody here knows.
pub(super) async fn hear(source: &mut impl Source, (summary, ui): (&mut Summary, &mut Ui), signals: &Signals) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut questions = Questions::new();
    loop {
        tokio::select! {
            heard = source.next() => match heard {
                Ok(Some(Heard::Event(event))) => {
                    summary.event(&event);
                    ui.event(&event);
                    questions.event(&event, ui);
                }
                Ok(Some(Heard::Live(event))) => ui.live(&event),
                Ok(None) => break,
                Ok(Some(Heard::Gone(error))) | Err(error) => {
                    summary.end = Some(End::Failed(error));
                    return;
                }
            },
            () = signals.first(), if !summary.interrupted => {
                summary.interrupted = true;
                ui.stopping();
                if let Err(error) = source.stop().await {
                    summary.end = Some(End::Failed(error));
                    return;
                }
            }
            Some((call_id, allow)) = questions.answer(ui), if questions.waits() && !summary.interrupted => {
                if let Err(error) = source.answer(call_id, allow).await {
                    summary.end = Some(End::Failed(error));
                    return;
                }
            }
            _ = tick.tick(), if ui.moves() && !questions.waits() => ui.tick(),
        }
    }
    // A script with turns left over did not describe what happened.
    if summary.ended() == End::Completed
        && let Err(error) = source.leftovers()
    {
        summary.end = Some(End::Failed(error));
    }
}

/// What was before: the numbers of the thread's life so far, and the calls that may still be open among these events.
pub(super) fn recall(row: &ThreadRow, events: &[Event], summary: &mut Summary, ui: &mut Ui) {
    summary.turns = row.turns;
    summary.tool_calls = u64::from(row.tool_calls);
    summary.input_tokens = row.usage.input_tokens;
    summary.output_tokens = row.usage.output_tokens;
    summary.cached_tokens = row.usage.cached_tokens;
    summary.cost = row.usage.cost_usd;
    events.iter().filter(|event| event.seq <= row.last_seq).for_each(|event| ui.recall(event));
}

/// How a settled thread ended, from its journal.
pub(super) async fn show(session: &Session, thread: ThreadId, ui: &mut Ui) -> Result<u8, Failure> {
    let mut summary = Summary::new(thread);
    let mut after = Seq::ZERO;
    loop {
        let events = session.events(thread, after).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        events.iter().for_each(|event| summary.event(event));
    }
    finish(&summary, ui)
}

/// Shows what a run came to; its exit code.
pub(super) fn finish(summary: &Summary, ui: &mut Ui) -> Result<u8, Failure> {
    ui.finish(summary).map_err(|error| Failure::other(format!("the result cannot be written: {error}")))?;
    Ok(summary.exit_code())
}
