//! The body of the `lakitu-keeper` executable.

use std::process::ExitCode;

/// Reads a [`crate::KeeperSpec`] as JSON from standard input until its end, starts the keeper as the zygote does, and
/// prints one line of JSON: `{"ok": Spawned}` or `{"error": Refusal}`. Then it stays as the keeper's parent until that
/// has ended.
pub fn helper_main() -> ExitCode {
    ExitCode::FAILURE
}
