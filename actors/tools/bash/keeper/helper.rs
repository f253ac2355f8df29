//! The body of the `lakitu-keeper` executable: a keeper, and its parent, where there is no zygote.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};

use crate::parent::{self, Keepers};
use crate::protocol::{Refusal, RefusalCode};
use crate::zygote::MAX_SPEC;
use crate::{KeeperSpec, SpawnOutcome, Spawned, sys, wait};

/// Reads a [`KeeperSpec`] as JSON from standard input until its end, starts the keeper as the zygote does, and prints a
/// [`SpawnOutcome`] as one line of JSON. Then it stays as the keeper's parent until that has ended.
///
/// SIGTERM is handed on to the keeper; the signals of a terminal are ignored.
pub fn helper_main() -> ExitCode {
    match serve() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// False: there was no keeper to serve, which was said.
fn serve() -> io::Result<bool> {
    let signals = sys::signals(&[Signal::SIGCHLD, Signal::SIGTERM])?;
    parent::settle(c"lakitu-keeperd");
    let mut keepers = Keepers::default();
    let result = read_spec().and_then(|spec| keepers.launch(&spec));
    say(result.clone())?;
    parent::leave_streams()?;
    if result.is_err() {
        return Ok(false);
    }
    // It may have ended before the first wait, so look first.
    while !keepers.reap() {
        wait::poll_for(&mut [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)], None)?;
        while let Ok(Some(signal)) = signals.read_signal() {
            if i32::try_from(signal.ssi_signo) == Ok(Signal::SIGTERM as i32) {
                keepers.signal(rustix::process::Signal::TERM);
            }
        }
    }
    Ok(true)
}

fn read_spec() -> Result<KeeperSpec, Refusal> {
    let bad = |why: String| Refusal::new(RefusalCode::BadSpec, why);
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_SPEC).unwrap_or(u64::MAX);
    io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|why| bad(why.to_string()))?;
    if bytes.len() >= MAX_SPEC {
        return Err(bad("the spec is too long".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|why| bad(why.to_string()))
}

fn say(result: Result<Spawned, Refusal>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&SpawnOutcome::from(result))?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
