//! What must be true whatever went wrong. Each rule says what it found against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use lakitu_kernel::tool::EffectClass;
use lakitu_kernel::{Event, EventBody, Hash, Seq, ThreadId};
use serde_json::Value;

use super::World;
use super::model::{Model, slot};
use super::world::{Known, digest};
use crate::store::{Reading, StoreError};
use crate::threads::agent::{State, is_end};
use crate::threads::journal;

/// A thread as the store has it.
pub(crate) struct Found {
    pub(crate) thread: ThreadId,
    pub(crate) events: Vec<Event>,
    folded: State,
}

/// Reads a thread; its findings are those of the store itself.
pub(crate) fn read(reading: &Reading, thread: ThreadId) -> Result<Found, StoreError> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(Seq::ZERO, |event| event.seq);
        let more = reading.events(thread, after, lakitu_kernel::limits::STEP_EVENTS_MAX)?;
        if more.is_empty() {
            return Ok(Found { thread, events, folded: journal::fold(reading, thread)? });
        }
        events.extend(more);
    }
}

/// Everything that can be said of a thread at any time.
pub(crate) fn thread(known: &Known, found: &Found) -> Result<(), String> {
    let Found { thread, events, folded } = found;
    let gap = events.iter().zip(1..).find(|(event, seq)| event.seq != Seq(*seq));
    if let Some((event, seq)) = gap {
        return Err(format!("event {} stands where {seq} should", event.seq));
    }
    let last = events.last().map_or(Seq::ZERO, |event| event.seq);
    if let Some(promised) = known.promised.get(thread).filter(|promised| **promised > last) {
        return Err(format!("{promised} was said to be durable, and the journal ends with {last}"));
    }
    for ((_, seq), heard) in known.acknowledged.range((*thread, Seq::ZERO)..=(*thread, Seq(u64::MAX))) {
        let event = seq.0.checked_sub(1).and_then(|at| events.get(usize::try_from(at).unwrap()));
        if event.is_none_or(|event| digest(event) != *heard) {
            return Err(format!("event {seq} was heard and is not in the journal as it was"));
        }
    }
    calls(events)?;
    states(known, found)?;
    if *folded
        != events.iter().fold(State::new(*thread), |mut state, event| {
            state.evolve(event);
            state
        })
    {
        return Err("the snapshot and the events behind it give another state than all events".to_owned());
    }
    Ok(())
}

/// Each call has one intent, no effect before it, at most one result; one result where the run has ended.
fn calls(events: &[Event]) -> Result<(), String> {
    let (mut intents, mut asked) = (BTreeMap::new(), BTreeSet::new());
    let mut results = BTreeSet::new();
    for event in events {
        #[allow(clippy::wildcard_enum_match_arm, clippy::collapsible_match, reason = "some of many kinds of events")]
        match &event.body {
            EventBody::Message { calls, .. } => asked.extend(calls.iter().map(|call| call.call_id.clone())),
            EventBody::ToolIntent { call_id, .. } => {
                if intents.insert(call_id.clone(), event.seq).is_some() {
                    return Err(format!("call {call_id} has two intents"));
                }
            }
            EventBody::ToolPrepared { call_id, .. } | EventBody::ToolRestarted { call_id, .. } => {
                if !intents.contains_key(call_id) || results.contains(call_id) {
                    return Err(format!("event {} stands outside of its call {call_id}", event.seq));
                }
            }
            EventBody::ToolResult { call_id, .. } => {
                if !intents.contains_key(call_id) {
                    return Err(format!("call {call_id} has a result and no intent"));
                }
                if !results.insert(call_id.clone()) {
                    return Err(format!("call {call_id} has two results"));
                }
            }
            _ => {}
        }
        if is_end(event) {
            let open: Vec<&String> = asked.iter().filter(|id| !results.contains(*id)).collect();
            if !open.is_empty() {
                return Err(format!("the run ended with event {} and {open:?} without a result", event.seq));
            }
        }
    }
    Ok(())
}

/// What the agent's state was while it lived is what its events fold to.
fn states(known: &Known, found: &Found) -> Result<(), String> {
    let mut state = State::new(found.thread);
    let lived = known.states.get(&found.thread);
    for event in &found.events {
        state.evolve(event);
        let Some(lived) = lived.and_then(|lived| lived.get(&state.seq)) else { continue };
        if Hash::of(&serde_json::to_vec(&state).unwrap()) != *lived {
            return Err(format!("the state that an agent had at {} is not what its events fold to", state.seq));
        }
    }
    Ok(())
}

/// Effects: behind their intents, and once.
pub(crate) fn effects(world: &World, found: &[Found]) -> Result<(), String> {
    let commands = world.known.with(|known| known.commands.clone());
    let mut ran: BTreeMap<(ThreadId, &str), u32> = BTreeMap::new();
    for (thread, seq, _, command) in &commands {
        *ran.entry((*thread, command)).or_default() += 1;
        let events = found.iter().find(|found| found.thread == *thread).map_or(&[][..], |found| &found.events);
        let intent = seq.0.checked_sub(1).and_then(|at| events.get(usize::try_from(at).unwrap()));
        let intended = intent.is_some_and(
            |event| matches!(&event.body, EventBody::ToolIntent { arguments, .. } if arguments["command"] == **command),
        );
        if !intended {
            return Err(format!("{command:?} ran, and {} of {} is no intent of it", seq, world.name(*thread)));
        }
    }
    if let Some(((thread, command), times)) = ran.iter().find(|(_, times)| **times > 1) {
        return Err(format!("{command:?} of {} ran {times} times", world.name(*thread)));
    }
    for found in found {
        for (arguments, ok) in results(&found.events, EffectClass::Detached) {
            let command = arguments["command"].as_str().unwrap_or_default();
            if ok && !ran.contains_key(&(found.thread, command)) {
                return Err(format!("{command:?} has a good result and never ran"));
            }
        }
    }
    files(world, found)
}

/// What the journal says that the model said is what it said, whole.
pub(crate) fn answers(model: &Model, found: &[Found]) -> Result<(), String> {
    for found in found {
        let Some(number) = model.world.number(found.thread) else { continue };
        for event in &found.events {
            let EventBody::Message { turn, text, calls, .. } = &event.body else { continue };
            let said = model.calls(number, turn.0);
            let whole = calls.len() == said.len()
                && calls.iter().zip(&said).all(|(call, said)| *call.arguments == *said.arguments.to_string());
            if !whole || *text != Model::text(turn.0) {
                return Err(format!("event {} of thread {number} is not what the model said", event.seq));
            }
        }
    }
    Ok(())
}

/// Calls of a class that have a result: their arguments, and whether it is good.
fn results(events: &[Event], class: EffectClass) -> Vec<(&Value, bool)> {
    let mut open = BTreeMap::new();
    let mut ended = Vec::new();
    for event in events {
        #[allow(clippy::wildcard_enum_match_arm, reason = "some of many kinds of events")]
        match &event.body {
            EventBody::ToolIntent { call_id, arguments, effect, .. } if *effect == class => {
                open.insert(call_id, arguments);
            }
            EventBody::ToolResult { call_id, ok, .. } => {
                ended.extend(open.remove(call_id).map(|arguments| (arguments, *ok)));
            }
            _ => {}
        }
    }
    ended
}

/// Files hold what good results say, and nothing that nobody intended.
fn files(world: &World, found: &[Found]) -> Result<(), String> {
    let mut intended = BTreeSet::new();
    for event in found.iter().flat_map(|found| &found.events) {
        if let EventBody::ToolIntent { arguments, effect: EffectClass::Verifiable, .. } = &event.body {
            intended.insert(arguments.to_string());
        }
    }
    let text = |path: &str| fs::read_to_string(world.workspace().join(path)).unwrap_or_default();
    for found in found {
        for (arguments, ok) in results(&found.events, EffectClass::Verifiable) {
            let path = arguments["path"].as_str().unwrap_or_default();
            let holds = arguments["new_string"].as_str().or(arguments["content"].as_str()).unwrap_or_default();
            if ok && !text(path).contains(holds) {
                return Err(format!("{arguments} has a good result, and the file does not hold it"));
            }
        }
    }
    for number in 0..world.plan.threads {
        let path = format!("{number}.txt");
        for line in text(&path).lines().filter(|line| line.ends_with("done")) {
            let (turn, n) = line["slot ".len()..].split_once(['-']).unwrap();
            let n = n.split(':').next().unwrap();
            let old = slot(turn.parse().unwrap(), n.parse().unwrap(), false);
            if !intended.iter().any(|arguments| arguments.contains(&old)) {
                return Err(format!("{line:?} of {path} was changed without an intent"));
            }
        }
        for entry in fs::read_dir(world.workspace().join(number.to_string())).into_iter().flatten() {
            let name = format!("{number}/{}", entry.unwrap().file_name().to_str().unwrap());
            if !intended.iter().any(|arguments| arguments.contains(&name)) {
                return Err(format!("{name} was written without an intent"));
            }
        }
    }
    Ok(())
}
