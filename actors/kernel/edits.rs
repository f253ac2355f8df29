//! `[edits]`: what is recorded of changes that commands make in files.

use serde::Deserialize;

/// What is recorded of changes that commands make in files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Edits {
    /// Whether they are recorded at all.
    pub commands: bool,
    /// Files of a workspace; one with more is not looked at.
    pub files_max: u64,
    /// How long a look at a workspace may take, in milliseconds.
    pub look_ms: u64,
    /// Bytes of files that are kept in case a command changes them: for each workspace, as long as the runtime lives.
    pub keep_bytes: u64,
    /// Bytes that are kept for good of what one command changed.
    pub call_bytes: u64,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            commands: true,
            files_max: 20_000,
            look_ms: 1000,
            keep_bytes: 16 * 1024 * 1024,
            call_bytes: 8 * 1024 * 1024,
        }
    }
}
