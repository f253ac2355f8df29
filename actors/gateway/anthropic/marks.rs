//! Where the prompt is cached.
//!
//! A mark ends what is kept; a later request finds it again from its own marks, each of which looks back over 20 blocks
//! only. A turn of many calls is longer than that. So the marks of the turns before are set again where they were: the
//! next request reads exactly what this one wrote.

use super::blocks::{Block, Mark, Role};
use super::history::History;
use super::tools::Tool;

/// User turns before the last that are marked: the one before it holds what the last request wrote, and the one before
/// that is for when that request failed. With the last turn's and the system's mark these are the four that may be set.
const TURNS_BEFORE: usize = 2;

/// Sets the marks, unless the request came with its own.
pub(super) fn set(tools: &mut [Tool<'_>], history: &mut History<'_>) {
    if history.marked || tools.iter().any(|tool| tool.cache_control.is_some()) {
        return;
    }
    // Tools stand before the system, so its mark covers them: together they are the same in every conversation.
    match (history.system.last_mut(), tools.last_mut()) {
        (Some(system), _) => system.cache_control = Some(Mark::Ours),
        (None, Some(tool)) => tool.cache_control = Some(Mark::Ours),
        (None, None) => {}
    }
    let Some((last, before)) = history.turns.split_last_mut() else { return };
    mark(&mut last.content);
    for turn in before.iter_mut().rev().filter(|turn| turn.role == Role::User).take(TURNS_BEFORE) {
        mark(&mut turn.content);
    }
}

fn mark(blocks: &mut [Block<'_>]) {
    if let Some(last) = blocks.last_mut() {
        last.cache_control = Some(Mark::Ours);
    }
}
