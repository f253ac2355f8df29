//! A thread's journal, folded: for its agent, for a replay, for whoever settles it when its agent cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::chat;
use lakitu_kernel::image::ImageRef;
use lakitu_kernel::supervise::Status;
use lakitu_kernel::{Hash, Seq, ThreadId, ToolError, limits};

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

/// A thread with what its requests are made of.
pub struct Whole {
    /// Its state.
    pub state: State,
    /// The beginning of each; none: the thread is not known.
    pub prefix: Option<Bytes>,
    /// Images by hash, as they stand on the wire.
    pub images: Images,
}

/// Images by hash, as they stand on the wire.
pub type Images = BTreeMap<Hash, Bytes>;

/// The state of a thread, and what its requests are made of.
pub fn whole(reading: &Reading, thread: ThreadId) -> Result<Whole, StoreError> {
    let state = fold(reading, thread)?;
    let prefix = state.prefix.map(|prefix| reading.blob(prefix)).transpose()?;
    let part = |image: &ImageRef| Ok((image.hash, chat::image_part(image.media_type, &reading.blob(image.hash)?)));
    let images = state.images().map(part).collect::<Result<_, StoreError>>()?;
    Ok(Whole { state, prefix, images })
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

/// Ends a thread's run as failed, without its agent. False: there was none to end.
pub(super) async fn settle(wiring: &Arc<Wiring>, thread: ThreadId, error: ToolError) -> Result<bool, StoreError> {
    let mut state = wiring.store.read(move |reading| fold(reading, thread)).await?;
    let expected = state.seq;
    let open = state.acting().into_iter().flat_map(|acting| &acting.calls).filter(|call| call.result.is_none());
    let unknown: Vec<Seq> = open.map(|call| call.intent).collect();
    let mut ops = Vec::new();
    let now = wiring.clock.now();
    state.take(Msg::Stop { how: Stop::Fail(error), unknown }, now, |_, event| ops.push(append(event)));
    if ops.is_empty() {
        return Ok(false);
    }
    ops.extend(thread_row(&state, now));
    let committed = wiring.store.submit(Step { thread, expected, ops }).await?;
    for event in committed.events {
        wiring.hub.durable(thread, event.seq);
        wiring.hub.publish(thread, Published::Event(Arc::new(event)));
    }
    for key in wiring.effects.keys_of(&thread) {
        match wiring.effects.outcome(&key) {
            Some(Status::Running) if key.work != Work::Bury => wiring.effects.cancel(&key),
            Some(Status::Done(_)) => drop(wiring.effects.acknowledge(&key)),
            Some(Status::Running) | None => {}
        }
    }
    Ok(true)
}
