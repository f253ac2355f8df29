//! What the model is told of a command: pure, from what the keeper wrote down and what the command put out.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lakitu_keeper::protocol::{Cause, End, Exit, JobState, Status};
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::limits::SPOOL_BYTES_MAX;
use lakitu_kernel::tool::ToolOutcome;
use lakitu_kernel::{ErrorCode, ToolError};

use super::job::JobId;

/// An ended command and what is to be said beside its status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) job: JobId,
    pub(super) status: &'a Status,
    /// Whether what it left behind is alive.
    pub(super) survives: bool,
    /// The output as it is shown.
    pub(super) output: &'a str,
    /// What is to be said of the arguments.
    pub(super) note: Option<&'a str>,
}

/// The result of a command that ended.
pub(super) fn ended(ended: Ended<'_>) -> ToolOutcome {
    let Ended { job, status, survives, output, note } = ended;
    let mut text = output.to_owned();
    if status.lost_bytes > 0 {
        line(&mut text, &format!("[{} bytes of output are lost: they could not be written]", status.lost_bytes));
    }
    if let Some(note) = note {
        line(&mut text, note);
    }
    if survives {
        let processes = plural(u64::from(status.survivors), "process", "processes");
        line(&mut text, &format!("[still running: {job}, {processes}; see bash_output, bash_kill]"));
    }
    line(&mut text, &format!("[{}]", end(status)));
    match failure(status) {
        None => ToolOutcome::ok(text),
        Some(error) => ToolOutcome::failed_with_output(error, &text),
    }
}

/// The error that an ended command is; none where it did what it was asked.
fn failure(status: &Status) -> Option<ToolError> {
    let after = seconds(status.duration_ms);
    let failed = |message: String| Some(ToolError::new(ErrorCode::CommandFailed, message));
    let interrupted = |message: String| Some(ToolError::new(ErrorCode::Interrupted, message));
    match (status.end.cause, status.end.exit) {
        (Cause::Exited, Some(Exit::Code(0))) => None,
        (Cause::Exited, Some(Exit::Code(code))) => failed(format!("exit code {code}")),
        (Cause::Exited, Some(Exit::Signal(signal))) => failed(format!("killed by {}", signal_name(signal))),
        (Cause::Exited, None) => interrupted("the command ended, and how was not recorded".to_owned()),
        (Cause::Timeout, _) => failed(format!("it was killed after {after}: no command may run longer")),
        (Cause::Killed, _) => failed(format!("it was killed after {after}, as was asked")),
        (Cause::SpoolFull, _) => failed(format!(
            "it put out more than {SPOOL_BYTES_MAX} bytes and was killed after {after}; filter its output, or send it to \
             a file"
        )),
        (Cause::Lease, _) => interrupted(format!(
            "the runtime was gone, nobody waited for the command, and it was killed after {after}; what it did until \
             then stands"
        )),
        (Cause::Shutdown, _) => interrupted(format!(
            "the run was stopped and the command was killed after {after}; what it did until then stands"
        )),
        (Cause::SpawnFailed, _) => {
            let why = status.end.detail.as_deref().unwrap_or("no reason is known");
            failed(format!("it could not be started: {why}"))
        }
    }
}

/// The result of a call whose time is over and whose command goes on.
pub(super) fn goes_on(job: &JobState, timeout: Duration, output: &str, note: Option<&str>) -> ToolOutcome {
    let id = JobId(job.seq);
    let mut text = output.to_owned();
    if let Some(note) = note {
        line(&mut text, note);
    }
    line(&mut text, &format!("[{id}: {}; since: {}]", running_line(job), job.bytes));
    let message = format!(
        "it is still running after {} and goes on as {id}; wait for it with bash_output (wait), end it with bash_kill",
        seconds(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    );
    ToolOutcome::failed_with_output(ToolError::new(ErrorCode::CommandTimeout, message), &text)
}

/// The result of a call that waits for nobody.
pub(super) fn started(job: JobId) -> ToolOutcome {
    ToolOutcome::ok(format!("[{job} was started in the background; see bash_output, bash_input, bash_kill]"))
}

/// What is said of a job whose start was told nobody, and that has ended meanwhile.
pub(super) fn had_started(job: JobId) -> String {
    format!("[{job} was started in the background and has ended since]")
}

/// How a command ended, in a few words.
pub(super) fn end(status: &Status) -> String {
    let End { cause, exit, .. } = &status.end;
    let how = match (cause, exit) {
        (Cause::SpawnFailed, _) => return "never started".to_owned(),
        (Cause::Exited, Some(Exit::Code(code))) => format!("exit {code}"),
        (Cause::Exited, Some(Exit::Signal(signal))) => signal_name(*signal),
        (Cause::Exited, None) => "ended".to_owned(),
        (cause, _) => killed_for(*cause).to_owned(),
    };
    // A short time differs from one start to the next, and the same result must read the same.
    if status.duration_ms < 10_000 { how } else { format!("{how} in {}", seconds(status.duration_ms)) }
}

fn killed_for(cause: Cause) -> &'static str {
    match cause {
        Cause::Timeout => "killed: no command may run longer",
        Cause::SpoolFull => "killed: too much output",
        Cause::Lease => "killed: the runtime was gone",
        Cause::Shutdown => "killed: the run was stopped",
        Cause::Killed | Cause::Exited | Cause::SpawnFailed => "killed",
    }
}

/// What is known of a command whose end nobody wrote down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// What happened to whoever should have.
    pub(super) why: &'a str,
    pub(super) started: Option<Timestamp>,
    pub(super) last_output: Option<Timestamp>,
    pub(super) spool: &'a Path,
    pub(super) bytes: u64,
    /// The output as it is shown.
    pub(super) output: &'a str,
}

/// The result of a command of which nobody knows how far it got.
pub(super) fn interrupted(evidence: Evidence<'_>) -> ToolOutcome {
    let Evidence { why, started, last_output, spool, bytes, output } = evidence;
    let mut message = format!("{why}; its exit status was not recorded, and how far it got is not known");
    if let Some(started) = started {
        let _ = write!(message, "; it was started at {started}");
    }
    match last_output.filter(|_| bytes > 0) {
        Some(last) => {
            let _ = write!(message, "; it last put something out at {last}: {bytes} bytes, in {}", spool.display());
        }
        None => message.push_str("; it had put nothing out"),
    }
    message.push_str(". Look at what it changed before you run it again");
    ToolOutcome::failed_with_output(ToolError::new(ErrorCode::Interrupted, message), output)
}

/// What `bash_output` says of a job: its output and, last, its state.
pub(super) fn job_output(job: JobId, output: &str, next: u64, state: &JobView<'_>) -> String {
    let mut text = output.to_owned();
    let state = match state {
        JobView::Running(running) => running_line(running),
        JobView::Ended { status, survives: true } => {
            let processes = plural(u64::from(status.survivors), "process", "processes");
            format!("{}; {processes} still running", end(status))
        }
        JobView::Ended { status, survives: false } => match status.survivors_end {
            Some(cause) => format!("{}; what it left running was {}", end(status), killed_for(cause)),
            None => end(status),
        },
        JobView::Unknown => "not running any more; how it ended was not recorded".to_owned(),
    };
    line(&mut text, &format!("[{job}: {state}; since: {next}]"));
    text
}

/// A job as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum JobView<'a> {
    /// Its command runs.
    Running(&'a JobState),
    /// Its command has ended.
    Ended { status: &'a Status, survives: bool },
    /// Its keeper ended before it.
    Unknown,
}

/// What `bash_list` says.
pub(super) fn job_list(jobs: &[JobState]) -> String {
    if jobs.is_empty() {
        return "no jobs are running".to_owned();
    }
    let mut text = String::new();
    for job in jobs {
        let state = match &job.status {
            None => running_line(job),
            Some(status) => {
                let processes = plural(u64::from(status.survivors), "process", "processes");
                format!("{}, {processes} still running for {}", end(status), seconds(job.elapsed_ms))
            }
        };
        line(&mut text, &format!("{}  {state}  {} bytes of output  {}", JobId(job.seq), job.bytes, job.label));
    }
    text
}

/// What `bash_input` says. `ended`: the job took the text and has ended since.
pub(super) fn given(job: JobId, bytes: usize, eof: bool, since: u64, ended: Option<&Status>) -> String {
    let what = match (bytes, eof) {
        (0, _) => format!("the input of {job} is ended"),
        (_, false) => format!("{} given to {job}", plural(bytes as u64, "byte", "bytes")),
        (_, true) => format!("{} given to {job}, and its input is ended", plural(bytes as u64, "byte", "bytes")),
    };
    match ended {
        Some(status) => format!("{what}; it has ended since [{}]", end(status)),
        None => format!("{what} [since: {since}]"),
    }
}

/// What `bash_kill` says.
pub(super) fn killed(job: JobId, status: Option<&Status>, already: bool) -> String {
    let had = if already { "had ended already" } else { "is ended, with everything it started" };
    match status {
        Some(status) => format!("{job} {had} [{}]", end(status)),
        None => format!("{job} {had}"),
    }
}

fn running_line(job: &JobState) -> String {
    format!("running for {}", seconds(job.elapsed_ms))
}

/// Appends a line on a line of its own.
fn line(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    format!("signal {signal} ({name})")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
