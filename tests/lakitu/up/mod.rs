//! `lakitu up` as whoever starts a sandbox sees it: the real binary, and commands that hand their runs over to it.

mod boot;
mod cancel;
mod consent;
mod first_process;
mod gateway;
mod handed_over;
mod jobs;
mod start;
mod stop;
mod upkeep;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Binary, PATIENCE, Ran, Running, Script};

/// A directory for an `up`, whose API takes whatever port is free.
pub(crate) fn binary() -> Binary {
    Binary::new().env("LAKITU__API__BIND", "127.0.0.1:0")
}

/// A running `up`. What it leaves behind is the test's to look at.
pub(crate) struct Up {
    pub(crate) process: Running,
    /// Its first line.
    ready: String,
}

impl Up {
    /// Starts one on a binary's directory, with a script in the model's place.
    pub(crate) fn start(binary: &Binary, script: &Script) -> Self {
        let script = binary.script(script);
        Self::with(binary, &["--script", &script])
    }

    /// The same, with these flags.
    pub(crate) fn with(binary: &Binary, flags: &[&str]) -> Self {
        Self::under(binary, &[], flags)
    }

    /// The same, started by what stands before it.
    pub(crate) fn under(binary: &Binary, before: &[&str], flags: &[&str]) -> Self {
        let mut process = binary.begin_in(before, &up(binary, flags));
        let ready = process.line();
        assert!(ready.starts_with("lakitu ready "), "{ready:?}: {:?}", process.end());
        Self { process, ready }
    }

    /// What the ready line says of that.
    pub(crate) fn says(&self, key: &str) -> &str {
        let word = self.ready.split(' ').find_map(|word| word.strip_prefix(&format!("{key}=")));
        word.unwrap_or_else(|| panic!("no {key} in {:?}", self.ready))
    }

    /// Tells it to end, and waits for that.
    pub(crate) fn stop(self) -> Ran {
        self.process.signal(Signal::TERM);
        let ran = self.process.end();
        assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{ran:?}");
        ran
    }

    /// The same of one that may have warned.
    pub(crate) fn ends(self) -> Ran {
        self.process.signal(Signal::TERM);
        self.process.end()
    }

    /// Kills it.
    pub(crate) fn kill(self) {
        self.process.signal(Signal::KILL);
        self.process.end();
    }
}

/// `up` with these flags on a binary's directory.
fn up<'a>(binary: &'a Binary, flags: &[&'a str]) -> Vec<&'a str> {
    let artifacts: &str = Box::leak(binary.home.path().join("artifacts").display().to_string().into_boxed_str());
    let workspace: &str = Box::leak(binary.workspace().display().to_string().into_boxed_str());
    [&["up", "--workspace", workspace, "--artifacts", artifacts], flags].concat()
}

/// A run that a test hears while it goes on.
struct Heard {
    pub(crate) process: Running,
    events: Vec<Value>,
}

impl Heard {
    /// Begins it.
    fn begin(binary: &Binary, args: &[&str]) -> Self {
        let args = [args, &["--output", "stream-json"]].concat();
        Self { process: binary.begin(&args), events: Vec::new() }
    }

    /// Waits for an event of this type.
    fn until(&mut self, name: &str) {
        while self.next()["type"] != name {}
    }

    /// Its thread, which the first durable event names.
    fn thread(&mut self) -> String {
        loop {
            if let Some(thread) = self.events.iter().find_map(|event| event["thread"].as_str()) {
                return thread.to_owned();
            }
            self.next();
        }
    }

    fn next(&mut self) -> &Value {
        let line = self.process.line();
        self.events.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
        self.events.last().unwrap()
    }

    fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its exit code and its result.
    fn end(self) -> (i32, Value) {
        let ran = self.process.end();
        let last = ran.out.lines().last().map(|line| serde_json::from_str(line).unwrap());
        (ran.exit, last.unwrap_or_else(|| panic!("no result: {ran:?}")))
    }
}

/// A thread as `threads show` has it.
fn thread(binary: &Binary, id: &str) -> Value {
    let mut shown = binary.run(&["threads", "show", id, "--json"]).object();
    shown["thread"].take()
}

/// Waits until a thread has that status.
fn until_status(binary: &Binary, id: &str, status: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = thread(binary, id);
        if found["status"] == status {
            return;
        }
        assert!(Instant::now() < until, "{id} is still {found}");
    }
}

/// The types of a thread's durable events.
fn journal(binary: &Binary, id: &str) -> Vec<Value> {
    let ran = binary.run(&["threads", "events", id, "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    match serde_json::from_str::<Value>(&ran.out) {
        Ok(mut page) if page["items"].is_array() => page["items"].as_array_mut().unwrap().drain(..).collect(),
        _ => ran.lines(),
    }
}

/// How often that was written into the workspace.
pub(crate) fn marks(binary: &Binary, file: &str) -> usize {
    binary.home.read(file).lines().count()
}

/// Waits until this holds, looking again and again.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: it does not happen");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
