//! Errors that cross a boundary: a code that can be branched on, and a sentence that says what to do differently.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $wire:literal,)+) => {
        /// What a model, an operator or the cloud may branch on. Never rename, never reuse.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ #[serde(rename = $wire)] $name,)+
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),+];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $wire),+ }
            }

            /// What the code means and what to do about it: its documentation, for `--help` and for operators.
            pub const fn explanation(self) -> &'static str {
                match self { $(ErrorCode::$name => concat!($($doc),+)),+ }
            }
        }
    };
}

codes! {
    /// There is no such file. The message names near misses.
    FileNotFound = "FILE_NOT_FOUND",
    /// The file, or what would be written, is over the tool's limit. Read a part of it, or write less.
    FileTooLarge = "FILE_TOO_LARGE",
    /// The path leads outside the workspace, the file refuses the operation, or a policy or a person refuses the call.
    PermissionDenied = "PERMISSION_DENIED",
    /// The text to replace does not occur, or not exactly once. Read the file again and give more context.
    EditMismatch = "EDIT_MISMATCH",
    /// The file changed since it was last read, or was never read. Read it, then edit.
    FileChanged = "FILE_CHANGED",
    /// The command was still running when the call's time was over. It goes on as a job, which the message names.
    CommandTimeout = "COMMAND_TIMEOUT",
    /// The command ended with another exit code than 0, or could not be started.
    CommandFailed = "COMMAND_FAILED",
    /// A policy refuses this command.
    DangerousCommand = "DANGEROUS_COMMAND",
    /// There is no such job, or it has ended.
    JobNotFound = "JOB_NOT_FOUND",
    /// The job takes no input: it was not started in the background, or its input has ended. Nothing was given.
    InputClosed = "INPUT_CLOSED",
    /// The arguments do not fit the tool's schema. Nothing ran.
    InvalidArguments = "INVALID_ARGUMENTS",
    /// The model's answer was cut off within a call's arguments. Nothing ran; call again with less.
    TruncatedArguments = "TRUNCATED_ARGUMENTS",
    /// The model's answer was cut off at its output limit again and again. Ask for less at a time.
    TruncatedAnswer = "TRUNCATED_ANSWER",
    /// There is no tool of that name.
    UnknownTool = "UNKNOWN_TOOL",
    /// The thread's mode does not permit this tool. Nothing ran.
    NotInMode = "NOT_IN_MODE",
    /// The tool took longer than its limit.
    Timeout = "TIMEOUT",
    /// The service is restarting or quarantined; nothing ran. Try again later or go on without it.
    Unavailable = "UNAVAILABLE",
    /// It may have run; its outcome is not known.
    Unknown = "UNKNOWN",
    /// The effect was under way when the runtime ended; how far it got is not known. The message holds the evidence.
    Interrupted = "INTERRUPTED",
    /// The call never began: the run was stopped first.
    Cancelled = "CANCELLED",
    /// The call was under way at two crashes of the runtime and is not started a third time.
    CrashedTwice = "CRASHED_TWICE",
    /// Somebody else changed what this was based on; the message holds both versions' hashes.
    Conflict = "CONFLICT",
    /// There is no such thread.
    ThreadNotFound = "THREAD_NOT_FOUND",
    /// The thread already runs, or is not in a state in which this can be asked.
    ThreadBusy = "THREAD_BUSY",
    /// There is no such checkpoint.
    CheckpointNotFound = "CHECKPOINT_NOT_FOUND",
    /// There is no such bead.
    BeadNotFound = "BEAD_NOT_FOUND",
    /// There is no such artifact.
    ArtifactNotFound = "ARTIFACT_NOT_FOUND",
    /// Somebody else holds the bead, or it is closed already. Take another, or set it to open first.
    BeadHeld = "BEAD_HELD",
    /// The bead waits for others, which the message names. Do those first.
    BeadBlocked = "BEAD_BLOCKED",
    /// Beads would wait for each other in a ring, which the message shows. Nothing was changed.
    BeadCycle = "BEAD_CYCLE",
    /// The same call gave the same result five times in a row; the run was ended.
    Stuck = "STUCK",
    /// The thread's actor crashed more often than its window allows.
    CrashLoop = "CRASH_LOOP",
    /// The disk is full. Reads, cancel and shutdown still work; free space and go on.
    StoreFull = "STORE_FULL",
    /// A row or the file of the store is damaged; the message names it. Damaged data is set aside, never overwritten.
    StoreCorrupt = "STORE_CORRUPT",
    /// The store could not be read or written.
    StoreFailed = "STORE_FAILED",
    /// The database was written by a newer version. It was not touched.
    StoreTooNew = "STORE_TOO_NEW",
    /// Commands must be confined, and this kernel cannot: none runs. The configuration (`[confine] commands`) says so.
    NotConfined = "NOT_CONFINED",
    /// Another process owns the data directory; the message names its pid.
    StoreBusy = "STORE_BUSY",
    /// Another writer continued this thread.
    OwnershipLost = "OWNERSHIP_LOST",
    /// The subscriber's position is older than what is kept. Read the rows again, then subscribe.
    ChangesTruncated = "CHANGES_TRUNCATED",
    /// The gateway could not be reached, or failed until the retries were used up.
    GatewayUnreachable = "GATEWAY_UNREACHABLE",
    /// The gateway refused the credentials.
    GatewayRefused = "GATEWAY_REFUSED",
    /// The gateway or the model answered with something that is not the protocol.
    GatewayProtocol = "GATEWAY_PROTOCOL",
    /// The gateway refuses this request as it stands; sending it again does not help.
    GatewayRejected = "GATEWAY_REJECTED",
    /// The model script does not fit what happened; the message names the turn.
    ScriptMismatch = "SCRIPT_MISMATCH",
    /// The address to listen at is taken; the message names it.
    AddressInUse = "ADDRESS_IN_USE",
    /// The configuration does not hold; the message names key and file.
    InvalidConfig = "INVALID_CONFIG",
    /// A fault of Lakitu itself. The log says more.
    Internal = "INTERNAL",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The only error that crosses a mailbox: plain data. Where it has a cause, the cause is logged where it arose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ToolError {
    /// What to branch on.
    pub code: ErrorCode,
    /// What to do differently, in one sentence.
    pub message: String,
}

impl ToolError {
    /// An error from its code and its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_on_the_wire_as_it_prints_and_explains_itself() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
            assert!(code.explanation().len() > 15, "{code} is not explained");
        }
    }
}
