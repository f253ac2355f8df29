//! The real binary, on a directory of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::{Home, Script, Terminal, secrets};

/// The variable that names another binary than the one that was built with the tests, as `tests/static` does. That one
/// may have no crash points.
const BINARY: &str = "LAKITU_TEST_BINARY";

/// `lakitu` with what it is started with.
pub(crate) struct Binary {
    pub(crate) home: Home,
    pub(crate) env: Vec<(String, String)>,
    /// The data directory as it is written, where that is not its absolute path.
    pub(crate) data_flag: Option<PathBuf>,
    /// Whether the kernel is made to have no Landlock for it.
    pub(crate) without_landlock: bool,
}

/// Puts a filter in front of the kernel that answers `landlock_create_ruleset` with ENOSYS, and executes its arguments.
const WITHOUT_LANDLOCK: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_ulong(ctypes.addressof(program)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The one object that it printed.
    pub(crate) fn object(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The objects that it printed, one a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let object = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(object).collect()
    }
}

impl Binary {
    pub(crate) fn new() -> Self {
        Self { home: Home::new(), env: Vec::new(), data_flag: None, without_landlock: false }
    }

    #[must_use]
    pub(crate) fn without_landlock(mut self) -> Self {
        self.without_landlock = true;
        self
    }

    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a script and names its file.
    pub(crate) fn script(&self, script: &Script) -> String {
        let path = self.home.path().join("script.yaml");
        std::fs::write(&path, script.yaml()).unwrap();
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_in(if self.without_landlock { &["python3", "-c", WITHOUT_LANDLOCK] } else { &[] }, args)
    }

    /// The binary, started by what stands before it.
    #[allow(clippy::disallowed_methods, reason = "the binary under test")]
    fn command_in(&self, before: &[&str], args: &[&str]) -> Command {
        let built = std::env::var(BINARY);
        let words = [before, &[built.as_deref().unwrap_or(env!("CARGO_BIN_EXE_lakitu"))]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        for name in ["LAKITU_TOKEN", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY"] {
            command.env_remove(name);
        }
        command
            .args(args)
            .arg("--data")
            .arg(self.data_flag.clone().unwrap_or_else(|| self.home.data()))
            .current_dir(self.home.workspace())
            .env("LAKITU_TOKEN", secrets::TOKEN)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// The same, with a file as its standard input.
    pub(crate) fn run_reading(&self, args: &[&str], input: &Path) -> Ran {
        ran(self.command(args).stdin(std::fs::File::open(input).unwrap()).output().unwrap())
    }

    /// `lakitu run PROMPT --script …`, and what else is said.
    pub(crate) fn plays(&self, script: &Script, prompt: &str, more: &[&str]) -> Ran {
        let script = self.script(script);
        let mut args = vec!["run", prompt, "--script", &script];
        args.extend(more);
        self.run(&args)
    }

    /// Starts it and lets it run.
    pub(crate) fn begin(&self, args: &[&str]) -> Running {
        Running { child: Some(self.command(args).spawn().unwrap()) }
    }

    /// The same, at a terminal: what it reads and its diagnostics are that.
    pub(crate) fn begin_at(&self, terminal: &Terminal, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.stdin(terminal.end()).stderr(terminal.end()).env("TERM", "xterm").env("NO_COLOR", "1");
        Running { child: Some(command.spawn().unwrap()) }
    }

    /// The same, started by what stands before it.
    pub(crate) fn begin_in(&self, before: &[&str], args: &[&str]) -> Running {
        Running { child: Some(self.command_in(before, args).spawn().unwrap()) }
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.home.data()
    }

    pub(crate) fn workspace(&self) -> std::path::PathBuf {
        self.home.workspace()
    }
}

/// A process that was begun.
pub(crate) struct Running {
    /// Nothing once its end was waited for.
    child: Option<Child>,
}

impl Running {
    /// The next line that it prints; empty where it ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        // Byte by byte: what comes behind the line is left to whoever reads on.
        let stdout = self.child.as_mut().unwrap().stdout.as_mut().unwrap();
        while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id()).unwrap()).unwrap();
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        ran(self.child.take().unwrap().wait_with_output().unwrap())
    }
}

/// A test that fails leaves nothing running.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            secrets::assert_none_below(&self.home.path(), &[]);
        }
    }
}

fn ran(output: Output) -> Ran {
    secrets::assert_none_in(&output.stdout, "its output");
    secrets::assert_none_in(&output.stderr, "its diagnostics");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { exit: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The processes whose environment or command line hold this text, and what they run.
pub(crate) fn alive(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let numbered = name.bytes().all(|byte| byte.is_ascii_digit());
        if numbered && name != std::process::id().to_string() && holds(&entry.path(), marker) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{name} {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

fn holds(process: &Path, marker: &str) -> bool {
    ["environ", "cmdline"].iter().any(|file| {
        let bytes = std::fs::read(process.join(file)).unwrap_or_default();
        bytes.windows(marker.len()).any(|window| window == marker.as_bytes())
    })
}
