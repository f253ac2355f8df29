//! README.md as a newcomer follows it: every command, from the top to the bottom, in one shell.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::{Binary, PATIENCE, Running, Script, free_port};

const README: &str = include_str!("../../README.md");

/// Commands that are not run here, by what they begin with, and why.
const EXCEPT: [(&str, &str); 7] = [
    ("cargo build", "what is tested here is built already"),
    ("bash tests/run", "it runs this test"),
    ("bash tests/static", "it builds another binary, which takes long, and needs another target"),
    ("cargo bench", "it measures, which takes long"),
    ("rustup target add", "it fetches a target and what builds for it"),
    ("npm install", "it fetches other agents"),
    ("docker ", "there is no Docker where tests run"),
];

/// A command, and what it shows where README says so.
#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    shows: Vec<String>,
}

/// The fenced blocks: the line each begins at, its language, its lines.
fn blocks() -> Vec<(usize, &'static str, Vec<&'static str>)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str, Vec<&str>)> = None;
    for (at, line) in README.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((at + 1, language, Vec::new())),
            (Some(_), Some(block)) => found.push(block),
            (None, Some((from, language, mut lines))) => {
                lines.push(line);
                open = Some((from, language, lines));
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    found
}

/// What is typed. In a `console` block commands stand behind `$ `, and what they show below them.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (from, language, lines) in blocks() {
        for (at, line) in lines.into_iter().enumerate() {
            let line_number = from + at + 1;
            assert!(!line.ends_with('\\'), "line {line_number}: a command stands in one line");
            let command = match language {
                "sh" => Some(line),
                "console" => line.strip_prefix("$ "),
                // A picture, and what Docker reads.
                "text" | "dockerfile" => continue,
                other => panic!("line {from}: what is {other:?}?"),
            };
            match (command, steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { line: line_number, command: command.to_owned(), shows: Vec::new() });
                }
                (None, Some(step)) => step.shows.push(line.to_owned()),
                (None, None) => panic!("line {line_number}: nobody shows this"),
            }
        }
    }
    steps
}

/// Whether a line is one that README shows: `…` stands for anything.
fn is_shown(line: &str, shown: &str) -> bool {
    let mut rest = Some(line);
    let mut pieces = shown.split('…').enumerate();
    let ends = shown.ends_with('…');
    pieces.all(|(at, piece)| {
        rest = rest.and_then(|rest| match at {
            0 => rest.strip_prefix(piece),
            _ => rest.split_once(piece).map(|(_, behind)| behind),
        });
        rest.is_some()
    }) && (ends || rest == Some(""))
}

/// A shell in a home of its own.
struct Shell {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// All that was shown.
    shown: Vec<String>,
}

const DONE: &str = "## done ";

impl Shell {
    fn start(home: &Path, env: &[(&str, &str)]) -> Self {
        let binaries = Path::new(env!("CARGO_BIN_EXE_lakitu")).parent().unwrap().display();
        let path = format!("{binaries}:{}", std::env::var("PATH").unwrap());
        let mut child = Command::new("bash")
            .args(["--norc", "--noprofile"])
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", &home.display().to_string()), ("TERM", "dumb")])
            .envs(env.iter().copied())
            .current_dir(home)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut shell = Self { input: child.stdin.take().unwrap(), child, lines, shown: Vec::new() };
        writeln!(shell.input, "exec 2>&1").unwrap();
        shell
    }

    fn next(&mut self, what: &str) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("{what}: {error} behind\n{}", self.shown.join("\n")))
    }

    /// Types a command, waits for its end, and for what it is to show; its exit code.
    fn types(&mut self, step: &Step) -> i32 {
        let what = format!("README.md:{} {}", step.line, step.command);
        self.shown = vec![what.clone()];
        writeln!(self.input, "{{ {}\n}} </dev/null; printf '\\n{DONE}%s\\n' $?", step.command).unwrap();
        let (mut exit, mut shows) = (None, step.shows.iter().peekable());
        loop {
            if let (Some(exit), None) = (exit, shows.peek()) {
                return exit;
            }
            let line = self.next(&what);
            if let Some(code) = line.strip_prefix(DONE) {
                exit = Some(code.parse().unwrap());
                // What stays in the background shows it later.
                let stays = step.command.split('#').next().is_some_and(|command| command.trim_end().ends_with('&'));
                assert!(stays || shows.peek().is_none(), "{:?} is not in\n{}", shows.peek(), self.shown.join("\n"));
                continue;
            }
            if shows.peek().is_some_and(|shown| is_shown(&line, shown)) {
                shows.next();
            }
            self.shown.push(line);
        }
    }

    /// The thread that was named last.
    fn thread(&self) -> Option<String> {
        let at = |line: &str| line.rfind("thr_").and_then(|at| line.get(at..at + 30)).map(str::to_owned);
        self.shown.iter().rev().find_map(|line| at(line))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(i32::try_from(self.child.id()).unwrap()) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// A provider that answers whatever it is asked.
fn provider(lakitu: &Binary) -> (Running, String) {
    let script = lakitu.script(&(0..20).fold(Script::new(), |script, _| script.says("I looked, and it is well.")));
    let mut provider = lakitu.begin(&["gateway", "--script", &script, "--bind", "127.0.0.1:0"]);
    let ready = provider.line();
    let url = ready.split_whitespace().find_map(|word| word.strip_prefix("url=http://")).unwrap().to_owned();
    (provider, url)
}

#[test]
fn every_command_does_what_it_says() {
    let lakitu = Binary::new();
    let (_provider, provider) = provider(&lakitu);
    let home = lakitu.home.path().join("home");
    for directory in ["my-repository", "tmp"] {
        std::fs::create_dir_all(home.join(directory)).unwrap();
    }
    // Ports are shared with whatever else runs here, so each stands for one that is free.
    let ports = [
        (":8000", format!(":{}", provider.rsplit(':').next().unwrap())),
        (":3210", free_port()),
        (":3211", free_port()),
    ];
    let here = |text: &str| ports.iter().fold(text.to_owned(), |text, (named, free)| text.replace(named, free));
    let bind = |port: usize| format!("127.0.0.1{}", ports[port].1);
    let mut shell = Shell::start(
        &home,
        &[
            ("TMPDIR", &home.join("tmp").display().to_string()),
            ("OPENAI_BASE_URL", &format!("http://{provider}")),
            ("LAKITU__API__BIND", &bind(1)),
            ("LAKITU__GATEWAY__SERVER__BIND", &bind(2)),
        ],
    );
    let (mut thread, mut left_out) = (None, BTreeSet::new());
    let mut ran = 0;
    for mut step in steps() {
        if let Some((prefix, _)) = EXCEPT.iter().find(|(prefix, _)| step.command.starts_with(prefix)) {
            left_out.insert(*prefix);
            continue;
        }
        step.command = here(&step.command);
        if step.command.contains("thr_…") {
            step.command = step.command.replace("thr_…", thread.as_deref().expect("a thread was named before"));
        }
        step.shows = step.shows.iter().map(|line| here(line)).collect();
        let exit = shell.types(&step);
        assert_eq!(exit, 0, "{}", shell.shown.join("\n"));
        thread = shell.thread().or(thread);
        ran += 1;
    }
    assert_eq!(
        left_out,
        EXCEPT.iter().map(|(prefix, _)| *prefix).collect(),
        "an exception that nothing needs any more"
    );
    assert!(ran > 20, "{ran} commands");
}

#[test]
fn a_line_is_recognised_by_what_stands_around_the_dots() {
    assert!(is_shown("ready pid=17 x", "ready pid=… x"));
    assert!(is_shown("ready", "ready") && is_shown("ready now", "ready…") && is_shown("a b c", "…b…"));
    assert!(!is_shown("ready now", "ready") && !is_shown("not ready", "ready…") && !is_shown("a c", "…b…"));
}

#[test]
fn the_image_is_built_with_the_compiler_that_is_asked_for() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let dockerfile = blocks().into_iter().find(|(_, language, _)| *language == "dockerfile").unwrap().2;
    assert!(dockerfile[0].starts_with(&format!("FROM rust:{version}-")), "{}", dockerfile[0]);
}
