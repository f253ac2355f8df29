//! A thread's journal, folded: for its agent, for a replay, for whoever settles it when its agent cannot.

use std::sync::Arc;

use lakitu_kernel::supervise::Status;
use lakitu_kernel::{Event, Seq, ThreadId, ToolError, limits};

use super::agent::{Msg, State, Stop, append, restore, thread_row};
use super::hub::Published;
use crate::effects::Work;
use crate::store::{Reading, Step, StoreError};
use crate::wiring::Wiring;

/// The state of a thread: its newest snapshot and the events behind it. Of an unknown thread: nothing.
pub fn fold(reading: &Reading, thread: ThreadId) -> Result<State, StoreError> {
    let snapshot = reading.snapshot(thread)?.as_ref().and_then(restore);
    fold_from(reading, snapshot.unwrap_or_else(|| State::new(thread)))
}

/// The state of a thread from its events alone.
pub fn replay(reading: &Reading, thread: ThreadId) -> Result<State, StoreError> {
    fold_from(reading, State::new(thread))
}

fn fold_from(reading: &Reading, mut state: State) -> Result<State, StoreError> {
    loop {
        let events = reading.events(state.thread, state.seq, limits::STEP_EVENTS_MAX)?;
        if events.is_empty() {
            return Ok(state);
        }
        events.iter().for_each(|event| state.evolve(event));
    }
}

/// Tells listeners what became durable and was not told: an agent may have ended between a commit and its notice of it.
pub(super) async fn tell_missed(wiring: &Arc<Wiring>, thread: ThreadId, up_to: Seq) -> Result<(), StoreError> {
    let Some(mut told) = wiring.hub.told_up_to(thread) else { return Ok(()) };
    while told < up_to {
        let events = wiring.store.read(move |reading| reading.events(thread, told, limits::STEP_EVENTS_MAX)).await?;
        let Some(last) = events.last() else { return Ok(()) };
        told = last.seq;
        tell(wiring, thread, events);
    }
    Ok(())
}

fn tell(wiring: &Arc<Wiring>, thread: ThreadId, durable: Vec<Event>) {
    for event in durable {
        wiring.hub.durable(thread, event.seq);
        wiring.hub.publish(thread, Published::Event(Arc::new(event)));
    }
}

/// Ends a thread's run as failed, without its agent.
pub(super) async fn settle(wiring: &Arc<Wiring>, thread: ThreadId, error: ToolError) -> Result<(), StoreError> {
    let mut state = wiring.store.read(move |reading| fold(reading, thread)).await?;
    let expected = state.seq;
    tell_missed(wiring, thread, expected).await?;
    let open = state.acting().into_iter().flat_map(|acting| &acting.calls).filter(|call| call.result.is_none());
    let unknown: Vec<Seq> = open.map(|call| call.intent).collect();
    let mut ops = Vec::new();
    let now = wiring.clock.now();
    state.take(Msg::Stop { how: Stop::Fail(error), unknown }, now, |_, event| ops.push(append(event)));
    ops.extend(thread_row(&state, now));
    let committed = wiring.store.submit(Step { thread, expected, ops }).await?;
    tell(wiring, thread, committed.events);
    for key in wiring.effects.keys_of(&thread) {
        match wiring.effects.outcome(&key) {
            Some(Status::Running) if key.work != Work::Bury => wiring.effects.cancel(&key),
            Some(Status::Done(_)) => drop(wiring.effects.acknowledge(&key)),
            Some(Status::Running) | None => {}
        }
    }
    Ok(())
}
