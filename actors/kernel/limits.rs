//! Every bound that is not configured. Units stand last in the name. Who enforces one imports it, and tests it at the
//! limit and one past it.

use std::time::Duration;

/// A file that `file_read` reads: 10 MiB.
pub const FILE_READ_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// A file that is edited or written: 1 MiB.
pub const FILE_EDIT_BYTES_MAX: u64 = 1024 * 1024;
/// Lines that `file_read` gives without `limit`.
pub const FILE_READ_LINES: usize = 2000;
/// A line that `file_read` gives whole, in bytes; of a longer one the head is given and the rest is counted.
pub const FILE_READ_LINE_BYTES_MAX: usize = 2000;
/// An image that `file_read` shows: 3.75 MiB, which are the 5 MiB in base64 that providers take.
pub const IMAGE_BYTES_MAX: u64 = 5 * 1024 * 1024 / 4 * 3;
/// A side of an image that `file_read` shows, in pixels.
pub const IMAGE_SIDE_MAX: u32 = 8000;
/// Images that one turn's calls show; the others are refused …
pub const TURN_IMAGES_MAX: usize = 10;
/// … and their bytes together: 9 MiB.
pub const TURN_IMAGES_BYTES_MAX: u64 = 9 * 1024 * 1024;
/// Images in a prompt: where a turn's come to more, those of the turns before go out of it. With more than so many,
/// providers take none that is larger than 2000 pixels …
pub const PROMPT_IMAGES_MAX: usize = 20;
/// … and their bytes together: 18 MiB, which are 24 MiB in base64; providers take requests of 32.
pub const PROMPT_IMAGES_BYTES_MAX: u64 = 18 * 1024 * 1024;
/// Files that `glob` gives.
pub const GLOB_RESULTS_MAX: usize = 1000;
/// Results that `grep` gives: files, matching lines, or counts.
pub const GREP_RESULTS_MAX: usize = 500;
/// What `grep` gives of one line, in characters.
pub const GREP_LINE_CHARS_MAX: usize = 500;
/// What the model sees of one output: 50,000 bytes, head and tail.
pub const OUTPUT_BYTES_MAX: usize = 50_000;
/// What a command's spool holds on disk: 64 MiB; past it the command is ended.
pub const SPOOL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A command's deadline where the call names none: 120 s.
pub const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_mins(2);
/// The longest deadline a command can ask for: 600 s.
pub const COMMAND_TIMEOUT_MAX: Duration = Duration::from_mins(10);
/// What `bash_output` waits for its job at the longest: 600 s.
pub const JOB_WAIT_MAX: Duration = Duration::from_mins(10);
/// What `bash_input` gives a command at once, and what may wait to be read by it: 64 KiB.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// How long `bash_input` waits for room: 5 s.
pub const INPUT_DEADLINE: Duration = Duration::from_secs(5);
/// A command's text: 1 MiB less what the kernel needs beside it (one argument holds 128 KiB).
pub const COMMAND_BYTES_MAX: usize = 128 * 1024 - 1;
/// A path's bytes (`PATH_MAX` less its end).
pub const PATH_BYTES_MAX: usize = 4095;
/// One component of a path (`NAME_MAX`).
pub const PATH_COMPONENT_BYTES_MAX: usize = 255;
/// Calls of one turn that run; the others are answered with an error …
pub const CALLS_PER_TURN_MAX: usize = 64;
/// … up to this many; what is past it is dropped from the answer.
pub const CALLS_ANSWERED_PER_TURN_MAX: usize = 256;
/// Arguments of one call: 5 MiB.
pub const ARGUMENTS_BYTES_MAX: usize = 5 * 1024 * 1024;
/// A prompt: 1 MiB.
pub const PROMPT_BYTES_MAX: usize = 1024 * 1024;
/// Prompts that wait during a run.
pub const INBOX_MAX: usize = 64;
/// Calls of one segment that run side by side.
pub const PARALLEL_READS_MAX: usize = 8;
/// The same call with the same result so often in a row: the model is told.
pub const STUCK_TOLD_AT: u32 = 3;
/// The same call with the same result so often in a row: the run ends with `STUCK`.
pub const STUCK_ENDED_AT: u32 = 5;
/// Starts of one call, the first one included; the next is refused with `CRASHED_TWICE`.
pub const STARTS_MAX: u32 = 2;
/// Answers in a row that were cut off at the output limit: then the run stops.
pub const CUT_ANSWERS_MAX: u32 = 3;
/// A redo record is computed within this time, or the call fails with `TIMEOUT`.
pub const PREPARE_DEADLINE: Duration = Duration::from_secs(10);
/// A blob up to this size stands in the database; a larger one in a file of its own. 64 KiB.
pub const BLOB_INLINE_BYTES_MAX: usize = 64 * 1024;
/// A snapshot of a thread's state is written every so many events.
pub const SNAPSHOT_EVERY_EVENTS: u64 = 200;
/// Messages that a checkpoint holds: the newest. Those before them stand in the journal.
pub const CHECKPOINT_MESSAGES_MAX: usize = 50;
/// Files that a checkpoint holds: those that changed last.
pub const CHECKPOINT_FILES_MAX: usize = 1000;
/// Beads that a checkpoint holds: those that its thread changed last.
pub const CHECKPOINT_BEADS_MAX: usize = 100;
/// Checkpoints of one thread; a new one past it takes the place of the oldest.
pub const CHECKPOINTS_PER_THREAD_MAX: usize = 100;
/// How long a checkpoint is kept: 7 days.
pub const CHECKPOINT_AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// A checkpoint's name, in characters.
pub const CHECKPOINT_NAME_CHARS_MAX: usize = 200;
/// A checkpoint's next task, in characters.
pub const CHECKPOINT_TASK_CHARS_MAX: usize = 10_000;
/// An artifact's name, in bytes: a file bears it.
pub const ARTIFACT_NAME_BYTES_MAX: usize = 200;
/// An artifact's content: 64 MiB.
pub const ARTIFACT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What is said of an artifact beside its content, in bytes of JSON.
pub const ARTIFACT_METADATA_BYTES_MAX: usize = 10_000;
/// Versions of artifacts that one thread saves.
pub const ARTIFACTS_PER_THREAD_MAX: usize = 1000;
/// Artifacts that one question is answered with.
pub const ARTIFACTS_PER_QUERY_MAX: usize = 100;
/// Names of artifacts that a checkpoint holds: those that its thread saved last.
pub const CHECKPOINT_ARTIFACTS_MAX: usize = 100;
/// Beads that one question is answered with.
pub const BEADS_PER_QUERY_MAX: usize = 100;
/// Beads that there can be.
pub const BEADS_MAX: u64 = 100_000;
/// A bead's title, in characters.
pub const BEAD_TITLE_CHARS_MAX: usize = 200;
/// A bead's description, or why it was closed, in characters.
pub const BEAD_DESCRIPTION_CHARS_MAX: usize = 10_000;
/// A bead's labels …
pub const BEAD_LABELS_MAX: usize = 50;
/// … each in characters.
pub const BEAD_LABEL_CHARS_MAX: usize = 100;
/// Beads that one bead can wait for.
pub const BEAD_BLOCKERS_MAX: usize = 100;
/// One line of an import: 256 KiB.
pub const BEAD_LINE_BYTES_MAX: usize = 256 * 1024;
/// Of each text of a decision that is logged, in characters.
pub const DECISION_TEXT_CHARS_MAX: usize = 10_000;
/// Alternatives of one decision.
pub const DECISION_ALTERNATIVES_MAX: usize = 10;
/// Events of one step.
pub const STEP_EVENTS_MAX: usize = 1024;
/// Steps that wait for the writer.
pub const STEPS_QUEUED_MAX: usize = 1024;
/// How long a step waits for its commit before its thread is restarted from the journal.
pub const COMMIT_DEADLINE: Duration = Duration::from_secs(30);
/// No read transaction lives longer: an open one keeps old pages, and the file grows.
pub const READ_TRANSACTION_MAX: Duration = Duration::from_secs(1);
/// The change feed keeps this many rows …
pub const CHANGES_ROWS_MAX: u64 = 1_000_000;
/// … and no row longer than this.
pub const CHANGES_AGE_MAX: Duration = Duration::from_hours(24);
/// Live events that wait for a slow subscriber; past it a `gap` is sent.
pub const LIVE_EVENTS_QUEUED_MAX: usize = 1024;
/// One line on the debug socket: 1 MiB.
pub const DEBUG_LINE_BYTES_MAX: usize = 1024 * 1024;
/// Clients of the debug socket at a time.
pub const DEBUG_CLIENTS_MAX: usize = 64;
/// One server-sent event from the gateway: 8 MiB.
pub const STREAM_EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Until the first byte of a model's answer: 30 s.
pub const MODEL_FIRST_BYTE_DEADLINE: Duration = Duration::from_secs(30);
/// Between two pieces of data of a model's answer (comments do not count): 60 s.
pub const MODEL_IDLE_DEADLINE: Duration = Duration::from_mins(1);
/// A model's whole answer: 10 min.
pub const MODEL_TOTAL_DEADLINE: Duration = Duration::from_mins(10);
/// After Ctrl-C or cancel, effects that do not end are given up after this.
pub const STOP_DEADLINE: Duration = Duration::from_millis(800);
/// A cancel is answered within this time, also where the store is slow to make it durable.
pub const CANCEL_ANSWER_DEADLINE: Duration = Duration::from_millis(950);
/// Connections to the HTTP API at a time …
pub const API_CONNECTIONS_MAX: usize = 1024;
/// … of which so many may be streams of events, so that somebody can still come in.
pub const API_STREAMS_MAX: usize = 896;
/// A request's body to the HTTP API: 1 MiB.
pub const API_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Requests a second of one token to the HTTP API …
pub const API_REQUESTS_PER_SECOND: u32 = 50;
/// … and at once, after a pause.
pub const API_REQUESTS_BURST: u32 = 100;
