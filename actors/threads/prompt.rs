//! The beginning of every request of a thread: what the agent is, where it works, what it may call.

use bytes::Bytes;
use lakitu_kernel::chat;
use lakitu_kernel::event::Settings;
use lakitu_kernel::tool::Catalogue;

/// Renders the prefix once, at a thread's start: later turns only add to it.
pub fn prefix(settings: &Settings, boundary: &str, tools: Catalogue) -> Bytes {
    let system = include_str!("../../config/prompts/system.md")
        .replace("{workspace}", &settings.workspace.display().to_string())
        .replace("{artifacts}", &settings.artifacts.display().to_string())
        .replace("{boundary}", boundary);
    chat::prefix(&settings.model, system.trim_end(), tools)
}
