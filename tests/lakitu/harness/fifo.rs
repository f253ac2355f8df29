//! A door in a command: it waits until the test opens it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::PATIENCE;

/// A named pipe in a workspace. A command that reads it (`read -r _ < gate`) goes on when the test lets it.
pub(crate) struct Fifo {
    path: PathBuf,
}

impl Fifo {
    pub(crate) fn new(workspace: &Path, name: &str) -> Self {
        let path = workspace.join(name);
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Self { path }
    }

    /// Waits until a command stands at the door.
    pub(crate) async fn reached(&self) -> Door {
        let path = self.path.clone();
        // Opening for writing returns when somebody has opened it for reading: that is the event.
        let opened = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(path));
        match tokio::time::timeout(PATIENCE, opened).await {
            Ok(opened) => Door { file: opened.unwrap().unwrap() },
            Err(_) => {
                // Lets the thread that waits go, so that the test can end.
                let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
                let _reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&self.path);
                panic!("no command came to {}", self.path.display());
            }
        }
    }
}

/// A door at which a command stands.
pub(crate) struct Door {
    file: File,
}

impl Door {
    /// Lets it go on.
    pub(crate) fn open(self) {
        self.say("go");
    }

    /// Lets it go on with a line to read.
    pub(crate) fn say(mut self, line: &str) {
        std::io::Write::write_all(&mut self.file, format!("{line}\n").as_bytes()).unwrap();
    }
}
