//! From a `start` request to a process: everything is prepared and checked before the fork, little is done after it.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit};

use super::nursery::{Birth, Nursery};
use crate::leaf::Leaf;
use crate::protocol::{MAX_TIMEOUT_MS, Refusal, RefusalCode, Start};
use crate::spec::Limits;
use crate::sys::{self, Strings};

/// Carried by every process of a call, so that one which left its session and its parents is still found.
pub(super) const MARKER: &str = "LAKITU_CALL";

const MAX_LABEL: usize = 1024;

/// What `execve` looks in when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A checked command.
#[derive(Debug)]
pub(super) struct Command {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    /// Whether its standard input is a pipe.
    input: bool,
}

/// A forked command; whether its program could be executed comes through `report`.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: i32,
    /// Its standard output and standard error, in the order of writing.
    pub(super) output: OwnedFd,
    /// The end from which its standard input is filled, where it has one.
    pub(super) input: Option<OwnedFd>,
    /// Ends empty when the program runs; otherwise holds a [`Stage`] and an error number.
    pub(super) report: OwnedFd,
}

/// What a child was at when it failed.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Stage {
    Session,
    Descriptors,
    Signals,
    Limits,
    Directory,
    Execute,
}

impl Command {
    /// Refuses whatever could not be passed to the kernel as it stands.
    pub(super) fn check(start: &Start) -> Result<Self, Refusal> {
        let bad = |what: &str| Refusal::new(RefusalCode::BadRequest, what);
        let text = |what: &str, text: &str| CString::new(text).map_err(|_| bad(&format!("{what} holds a NUL")));
        let Some(program) = start.argv.first().filter(|program| !program.is_empty()) else {
            return Err(bad("argv is empty"));
        };
        if !start.cwd.is_absolute() {
            return Err(bad("cwd is not absolute"));
        }
        if start.attempt == 0 {
            return Err(bad("attempts are counted from 1"));
        }
        if !(1..=MAX_TIMEOUT_MS).contains(&start.timeout_ms) {
            return Err(bad("timeout_ms is out of range"));
        }
        if start.label.len() > MAX_LABEL {
            return Err(bad("label is too long"));
        }
        let mut env = vec![text(MARKER, &format!("{MARKER}={}", start.seq))?];
        for (name, value) in start.env.iter().filter(|(name, _)| name != MARKER) {
            if name.is_empty() || name.contains('=') {
                return Err(bad("env has a name that is empty or holds '='"));
            }
            env.push(text("env", &format!("{name}={value}"))?);
        }
        let argv = start.argv.iter().map(|argument| text("argv", argument)).collect::<Result<_, _>>()?;
        let programs = candidates(program, path_of(&start.env)).map(|path| text("argv", &path));
        Ok(Self {
            programs: programs.collect::<Result<_, _>>()?,
            argv,
            env,
            cwd: CString::new(start.cwd.as_os_str().as_encoded_bytes()).map_err(|_| bad("cwd holds a NUL"))?,
            input: start.input,
        })
    }

    /// Has the child forked that becomes the command, into the cgroup if there is one.
    pub(super) fn fork(self: &Arc<Self>, nursery: &mut Nursery, leaf: Option<&Leaf>) -> io::Result<Child> {
        let (reader, input) = self.standard_input()?;
        let (output, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (report, reporter) = pipe_with(PipeFlags::CLOEXEC)?;
        for fd in [Some(&output), Some(&report), input.as_ref()].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?; // the keeper's ends only: a command has ordinary pipes
        }
        let cgroup = leaf.map(|leaf| leaf.dir().try_clone_to_owned()).transpose()?;
        let pid = nursery.bear(Birth { command: self.clone(), reader, writer, reporter, cgroup })?;
        Ok(Child { pid, output, input, report })
    }

    /// What the command reads from, and the other end of it.
    fn standard_input(&self) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        if self.input {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            return Ok((reader, Some(writer)));
        }
        Ok((rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?, None))
    }

    /// Its arguments and its environment, as they are executed.
    pub(super) fn strings(&self) -> (Strings<'_>, Strings<'_>) {
        (Strings::of(&self.argv), Strings::of(&self.env))
    }

    /// Turns this process, freshly forked, into the command. Returns only if that fails, which is reported. Here and in
    /// all that it calls nothing takes memory (`nursery.rs`).
    pub(super) fn become_it(&self, birth: &Birth, strings: &(Strings<'_>, Strings<'_>), limits: Limits) {
        let (stage, error) = match arrange(birth, limits) {
            Ok(()) => self.execute(strings),
            Err(failed) => failed,
        };
        let mut report = [stage as u8, 0, 0, 0, 0];
        report[1..].copy_from_slice(&error.raw_os_error().unwrap_or(0).to_ne_bytes());
        let _ = rustix::io::write(&birth.reporter, &report);
    }

    fn execute(&self, (argv, env): &(Strings<'_>, Strings<'_>)) -> (Stage, io::Error) {
        // By the rights of the command, not by the keeper's.
        if let Err(error) = rustix::process::chdir(&*self.cwd) {
            return (Stage::Directory, error.into());
        }
        let mut last = Errno::NOENT;
        for program in &self.programs {
            let error = sys::execute(program, argv, env);
            // As the shell does it: go on looking, but "may not" says more than "is not there".
            match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => {}
                Some(Errno::ACCESS) => last = Errno::ACCESS,
                _ => return (Stage::Execute, error),
            }
        }
        (Stage::Execute, last.into())
    }
}

fn arrange(birth: &Birth, limits: Limits) -> Result<(), (Stage, io::Error)> {
    rustix::process::setsid().map_err(|error| (Stage::Session, error.into()))?;
    let descriptors = |error: nix::Error| (Stage::Descriptors, error.into());
    nix::unistd::dup2_stdin(&birth.reader).map_err(descriptors)?;
    nix::unistd::dup2_stdout(&birth.writer).map_err(descriptors)?;
    nix::unistd::dup2_stderr(&birth.writer).map_err(descriptors)?;
    // Everything here is close-on-exec already; this is for what a library may have opened. Old kernels lack it.
    let _ = sys::close_on_exec_from(3);
    sys::reset_signals().map_err(|error| (Stage::Signals, error))?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    bound(limits).map_err(|error| (Stage::Limits, error))
}

/// Descriptors for whoever does not ask for more: enough for every build, and no more than a table of them is worth.
const DESCRIPTORS: u64 = 65_536;

fn bound(limits: Limits) -> io::Result<()> {
    let rows = [
        (Resource::Core, Some(0)),
        (Resource::Nproc, limits.processes),
        (Resource::As, limits.memory),
        (Resource::Fsize, limits.file),
    ];
    for (resource, most) in rows {
        let Some(most) = most else { continue };
        // What was lower already stays so: only some may raise it.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |now| now.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(DESCRIPTORS, |maximum| maximum.min(DESCRIPTORS)));
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

/// What the report pipe of a failed child says.
pub(super) fn explain(report: &[u8]) -> String {
    let stage = match report.first() {
        Some(stage) if *stage == Stage::Session as u8 => "session",
        Some(stage) if *stage == Stage::Descriptors as u8 => "descriptors",
        Some(stage) if *stage == Stage::Signals as u8 => "signals",
        Some(stage) if *stage == Stage::Limits as u8 => "limits",
        Some(stage) if *stage == Stage::Directory as u8 => "working directory",
        Some(stage) if *stage == Stage::Execute as u8 => "execute",
        _ => "start",
    };
    let number = report.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    format!("{stage}: {}", io::Error::from_raw_os_error(number))
}

fn path_of(env: &[(String, String)]) -> &str {
    env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value)
}

fn candidates(program: &str, path: &str) -> impl Iterator<Item = String> {
    let direct = program.contains('/').then(|| program.to_owned());
    // An empty or relative entry would mean the working directory: a file of the workspace named like a program.
    let searched = path.split(':').filter(|folder| Path::new(folder).is_absolute());
    let found: Vec<String> = match direct {
        Some(program) => vec![program],
        None => searched.map(|folder| format!("{folder}/{program}")).collect(),
    };
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Start {
        Start {
            seq: 5,
            attempt: 1,
            argv: vec!["bash".into(), "-c".into(), "true".into()],
            cwd: "/".into(),
            env: vec![("PATH".into(), "/a::.:/b".into()), (MARKER.into(), "forged".into())],
            timeout_ms: 1000,
            label: String::new(),
            input: false,
        }
    }

    #[test]
    fn a_command_is_looked_up_in_its_own_path_and_marked() {
        let command = Command::check(&start()).unwrap();
        assert_eq!(command.programs, [c"/a/bash".to_owned(), c"/b/bash".to_owned()]);
        assert_eq!(command.env, [c"LAKITU_CALL=5".to_owned(), c"PATH=/a::.:/b".to_owned()]);
    }

    #[test]
    fn what_the_kernel_could_not_take_is_refused() {
        let refused = [
            Start { argv: vec![], ..start() },
            Start { argv: vec![String::new()], ..start() },
            Start { argv: vec!["a\0b".into()], ..start() },
            Start { cwd: "relative".into(), ..start() },
            Start { cwd: "/a\0b".into(), ..start() },
            Start { attempt: 0, ..start() },
            Start { timeout_ms: 0, ..start() },
            Start { timeout_ms: MAX_TIMEOUT_MS + 1, ..start() },
            Start { env: vec![("A=B".into(), String::new())], ..start() },
            Start { env: vec![("A".into(), "x\0y".into())], ..start() },
            Start { label: "x".repeat(MAX_LABEL + 1), ..start() },
        ];
        for start in refused {
            let code = Command::check(&start).map(|_| ()).map_err(|refusal| refusal.code);
            assert_eq!(code, Err(RefusalCode::BadRequest), "{start:?}");
        }
    }

    #[test]
    fn a_failed_start_says_at_what() {
        let report = [&[Stage::Directory as u8][..], &nix::libc::ENOENT.to_ne_bytes()].concat();
        assert_eq!(explain(&report), "working directory: No such file or directory (os error 2)");
    }
}
