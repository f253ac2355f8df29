//! The real binary on a workspace and a data directory of its own.

#![expect(clippy::disallowed_methods, reason = "it starts the binary under test")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use lakitu_actors::store::{BeadRow, OpenStore};
use lakitu_kernel::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use super::journal::Journal;
use crate::harness::secrets;

/// Far beyond what anything here takes, on the slowest machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// The database's name in a data directory.
const DATABASE: &str = "lakitu.redb";

/// A workspace, a data directory and a script. What still runs when it is dropped is killed.
pub(super) struct Binary {
    home: tempfile::TempDir,
    root: PathBuf,
    env: Vec<(String, String)>,
    gateway: Option<String>,
}

impl Binary {
    pub(super) fn new(script: &Value) -> Self {
        let home = tempfile::Builder::new().prefix("lakitu-kill-").tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("work/marks")).unwrap();
        let binary = Self { home, root, env: Vec::new(), gateway: None };
        binary.set_script(script);
        binary
    }

    /// From the next start on the model answers this.
    pub(super) fn set_script(&self, script: &Value) {
        // JSON is YAML.
        fs::write(self.root.join("script.yaml"), script.to_string()).unwrap();
    }

    /// From the next start on this server is asked in the script's place.
    pub(super) fn asks(&mut self, url: &str) {
        self.gateway = Some(url.to_owned());
    }

    /// From the next start on this stands in its environment.
    pub(super) fn set(&mut self, name: &str, value: impl std::fmt::Display) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_string()));
    }

    pub(super) fn work(&self, path: &str) -> PathBuf {
        self.root.join("work").join(path)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn write(&self, path: &str, content: &str) {
        let path = self.work(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A file of the workspace; empty where there is none.
    pub(super) fn read(&self, path: &str) -> String {
        match fs::read_to_string(self.work(path)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// How often an effect left its mark.
    pub(super) fn marks(&self, name: &str) -> usize {
        self.read(&format!("marks/{name}")).lines().count()
    }

    /// Starts the binary; it prints every event.
    pub(super) fn start(&self, args: &[&str]) -> Process {
        self.start_with(args, &[])
    }

    pub(super) fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakitu"));
        command.args(args).arg("--data").arg(self.data());
        match &self.gateway {
            Some(url) => command.args(["--gateway", url, "--model", "m"]),
            None => command.arg("--script").arg(self.root.join("script.yaml")),
        };
        command.args(["--output", "stream-json"]).current_dir(self.work(""));
        command.env_clear().env("HOME", &self.root).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LAKITU_TOKEN", secrets::TOKEN);
        // Tests that are tested: see `lakitu_kernel::planted`.
        command.envs(std::env::var_os("LAKITU_PLANTED").map(|bug| ("LAKITU_PLANTED", bug)));
        command.envs(self.env.iter().map(|(name, value)| (name, value))).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process::new(Instant::now(), command.spawn().unwrap())
    }

    pub(super) fn run(&self) -> Ended {
        self.start(&["run", "go"]).end()
    }

    /// Runs until it kills itself at this passing of a crash point; or to its end, where it is not passed so often.
    pub(super) fn run_until(&self, point: &str) -> Ended {
        self.start_with(&["run", "go"], &[("LAKITU_CRASH_AT", point)]).end()
    }

    /// Goes on until it kills itself at this passing; or to its end.
    pub(super) fn resume_until(&self, point: &str) -> Ended {
        self.start_with(&["resume"], &[("LAKITU_CRASH_AT", point)]).end()
    }

    /// Runs without being killed and tells the crash points in the order in which they were passed.
    pub(super) fn traced(&self) -> Vec<String> {
        self.traced_with(&["run", "go"])
    }

    pub(super) fn traced_with(&self, args: &[&str]) -> Vec<String> {
        let trace = self.root.join("trace");
        let ended = self.start_with(args, &[("LAKITU_CRASH_TRACE", trace.to_str().unwrap())]).end();
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        fs::read_to_string(trace).unwrap().lines().map(str::to_owned).collect()
    }

    /// Goes on as a person would: with the thread that is unfinished; with a new one where nothing had begun.
    ///
    /// A short lease is for who is killed: on a machine under load one that lives may be silent for as long.
    pub(super) fn resume(&self) -> Ended {
        let patient = [("LAKITU__KEEPER__LEASE_MS", "60000")];
        let ended = self.start_with(&["resume"], &patient).end();
        if ended.code() != Some(2) {
            return ended;
        }
        assert!(ended.stderr.contains("there is no thread here yet"), "{ended:?}");
        self.start_with(&["run", "go"], &patient).end()
    }

    /// What the database holds. Nobody may own it.
    pub(super) fn journal(&self) -> Option<Journal> {
        Journal::read(&self.data())
    }

    /// The same of a copy: a look that repairs nothing for whoever comes next.
    pub(super) fn journal_of_a_copy(&self) -> Option<Journal> {
        let copy = tempfile::tempdir_in(self.home.path()).unwrap();
        if self.data().exists() {
            copy_files(&self.data(), copy.path());
        }
        Journal::read(copy.path())
    }

    /// The journal's events in a copy of the database alone.
    pub(super) fn events_of_a_copy(&self) -> Vec<Event> {
        let copy = tempfile::tempdir_in(self.home.path()).unwrap();
        match fs::copy(self.data().join(DATABASE), copy.path().join(DATABASE)) {
            Ok(_) => Journal::events(copy.path()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("the database cannot be copied: {error}"),
        }
    }

    /// Merges beads in, with nothing else running.
    pub(super) fn import_beads(&self, path: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakitu"));
        command.args(["beads", "import"]).arg(self.work(path)).arg("--data").arg(self.data());
        command.current_dir(self.work("")).env_clear().env("HOME", &self.root);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// All beads, from a copy.
    pub(super) fn beads(&self) -> Vec<BeadRow> {
        let copy = tempfile::tempdir_in(self.home.path()).unwrap();
        if self.data().exists() {
            copy_files(&self.data(), copy.path());
        }
        // Killed early, it has no database.
        let Ok(store) = OpenStore::read_only(copy.path()) else { return Vec::new() };
        store.read().unwrap().beads_after(None, 100).unwrap()
    }

    /// The processes that belong to it, whatever they did to be forgotten.
    pub(super) fn processes(&self) -> Vec<(Pid, String)> {
        let root = self.root.to_str().unwrap();
        let mine = |pid: i32| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let cwd = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root));
            let read =
                |name: &str| String::from_utf8_lossy(&fs::read(proc.join(name)).unwrap_or_default()).replace('\0', " ");
            let line = read("cmdline");
            (cwd || line.contains(root) || read("environ").contains(root)).then_some(line)
        };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: i32| Some((Pid::from_raw(pid)?, mine(pid)?))).collect()
    }

    /// The process that watches its commands: the one that holds the lock of their directory.
    pub(super) fn keeper(&self) -> Pid {
        let holds = |pid: Pid| {
            let files = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).into_iter().flatten().flatten();
            let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
            let jobs = self.data().join("jobs");
            targets.into_iter().any(|target| target.starts_with(&jobs) && target.ends_with("lock"))
        };
        let found: Vec<Pid> = self.processes().into_iter().map(|(pid, _)| pid).filter(|pid| holds(*pid)).collect();
        assert_eq!(found.len(), 1, "one keeper among {:?}", self.processes());
        found[0]
    }

    /// Waits a moment for what is ending, and fails if anything is left.
    pub(super) fn assert_nothing_runs(&self, within: Duration) {
        let until = Instant::now() + within;
        for (pid, line) in self.processes() {
            assert!(is_over(pid, until.saturating_duration_since(Instant::now())), "left running: {pid:?} {line}");
        }
        assert_eq!(self.processes(), [], "left running");
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !std::thread::panicking() {
            secrets::assert_none_below(&self.root, &[]);
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (kind, target) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_files(&entry.path(), &target);
        } else if kind.is_file() {
            // What a keeper removes meanwhile is none of the journal's.
            let _ = fs::copy(entry.path(), target);
        }
    }
}

/// Whether the process is dead, at the latest after so long.
pub(super) fn is_over(pid: Pid, within: Duration) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let timeout = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// What a process writes, line by line.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let told = |line| drop(sender.send(line));
        BufReader::new(output).lines().map_while(Result::ok).for_each(told);
    });
    lines
}

/// A started binary.
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    events: Vec<Value>,
    /// Everything it said on standard error.
    told: String,
    errors: Receiver<String>,
    started: Instant,
    first_request: Option<Duration>,
}

impl Process {
    fn new(started: Instant, mut child: Child) -> Self {
        let (lines, errors) = (lines_of(child.stdout.take().unwrap()), lines_of(child.stderr.take().unwrap()));
        Self { child, lines, events: Vec::new(), told: String::new(), errors, started, first_request: None }
    }

    /// The next event; none once its output has ended, or after so long.
    pub(super) fn next(&mut self, within: Duration) -> Result<&Value, RecvTimeoutError> {
        let line = self.lines.recv_timeout(within)?;
        let event: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the output line {line}"));
        if self.first_request.is_none() && event["type"] == "turn.started" {
            self.first_request = Some(self.started.elapsed());
        }
        self.events.push(event);
        Ok(self.events.last().unwrap())
    }

    /// Waits for an event of which this holds.
    pub(super) fn wait_for(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.next(until.saturating_duration_since(Instant::now())) {
                Ok(event) if is(event) => return event.clone(),
                Ok(_) => {}
                Err(error) => panic!("{error:?} while waiting for {what}; came: {:?}", self.events),
            }
        }
    }

    /// Waits for an event of this type.
    pub(super) fn wait_for_type(&mut self, name: &str) -> Value {
        self.wait_for(name, |event| event["type"] == name)
    }

    /// Hears what comes until the moment has come; false where it ended before.
    pub(super) fn hear_until(&mut self, moment: Instant) -> bool {
        loop {
            match self.next(moment.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        // A child that was not waited for keeps its pid.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Whether it has ended, at the latest after so long.
    pub(super) fn is_over(&self, within: Duration) -> bool {
        is_over(Pid::from_child(&self.child), within)
    }

    pub(super) fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.end()
    }

    /// Waits until it has ended and its output too.
    pub(super) fn end(mut self) -> Ended {
        if !is_over(Pid::from_child(&self.child), PATIENCE) {
            self.signal(Signal::KILL);
            panic!("it did not end; it said: {:?}", self.events);
        }
        let status = self.child.wait().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match self.next(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it ended, and somebody still holds its output"),
            }
        }
        while let Ok(line) = self.errors.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.told.push_str(&line);
            self.told.push('\n');
        }
        Ended { status, events: self.events, stderr: self.told, first_request: self.first_request }
    }
}

/// What a process said, and how it ended.
#[derive(Debug)]
pub(super) struct Ended {
    status: ExitStatus,
    pub(super) events: Vec<Value>,
    pub(super) stderr: String,
    /// How long after its start the model was first asked, where it came to that.
    pub(super) first_request: Option<Duration>,
}

impl Ended {
    pub(super) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(super) fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// The object of the last line.
    pub(super) fn result(&self) -> &Value {
        self.events.last().filter(|event| event["type"] == "result").unwrap_or_else(|| panic!("no result: {self:?}"))
    }
}
