//! A terminal that a test types into, and reads what a person would see.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use super::PATIENCE;

/// A person's end of a terminal.
pub(crate) struct Terminal {
    person: File,
    program: OwnedFd,
    seen: String,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let program = ioctl_tiocgptpeer(&person, flags).unwrap();
        Self { person: File::from(person), program, seen: String::new() }
    }

    /// The program's end.
    pub(crate) fn end(&self) -> Stdio {
        Stdio::from(self.program.try_clone().unwrap())
    }

    /// Types a line.
    pub(crate) fn types(&mut self, line: &str) {
        self.person.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits until that stands on the screen behind what was waited for before, and gives what came with it.
    pub(crate) fn shows(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            assert!(Instant::now() < until, "{text:?} is not shown: {:?}", self.seen);
            let mut fds = [PollFd::from_borrowed_fd(self.person.as_fd(), PollFlags::IN)];
            if poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap() > 0 {
                let mut bytes = [0; 4096];
                let read = self.person.read(&mut bytes).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        }
    }
}
