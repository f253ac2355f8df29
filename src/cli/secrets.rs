//! Secrets leave the environment before anything else happens.
//!
//! `/proc/<pid>/environ` shows what was there when the process was executed, whatever it does later. So a process that
//! finds a secret in its environment puts it into an anonymous file and executes itself again without it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use rustix::fs::MemfdFlags;

use super::providers::PROVIDERS;

/// Holds the token for a gateway.
const TOKEN: &str = "LAKITU_TOKEN";
/// Names the descriptor of the anonymous file.
const HANDOVER: &str = "LAKITU_SECRETS_FD";

/// Secrets by the name of their variable. Printed as names only.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// The secret of that variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        // Set and blank is how people unset a variable.
        self.0.get(name).map(String::as_str).filter(|secret| !secret.trim().is_empty())
    }

    /// These.
    #[cfg(test)]
    pub(super) fn of(secrets: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(secrets.into_iter().collect())
    }

    /// Takes the secrets that Lakitu itself uses out of the environment. Does not return where there were any: the process
    /// begins again.
    pub fn take() -> std::io::Result<Self> {
        let handed_over = std::env::var(HANDOVER).ok().and_then(|fd| handed_over(&fd)).unwrap_or_default();
        Self(handed_over).and_take(std::iter::once(TOKEN).chain(PROVIDERS.iter().map(|provider| provider.key)))
    }

    /// Takes these out too. Does not return where there were any, as above; what is held already is kept.
    pub(super) fn and_take<'a>(self, names: impl Iterator<Item = &'a str>) -> std::io::Result<Self> {
        let found: BTreeMap<String, String> =
            names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
        if found.is_empty() {
            return Ok(self);
        }
        Err(begin_again(&self, &found)?)
    }
}

/// Executes this program again without what was found, and hands it over with what is held. Returns why it could not.
fn begin_again(held: &Secrets, found: &BTreeMap<String, String>) -> std::io::Result<std::io::Error> {
    // Inherited on purpose: this one descriptor is the handover.
    let file = rustix::fs::memfd_create("lakitu-secrets", MemfdFlags::empty())?;
    let mut file = std::fs::File::from(file);
    let all: BTreeMap<_, _> = held.0.iter().chain(found).collect();
    file.write_all(&serde_json::to_vec(&all)?)?;
    file.rewind()?;
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| OsString::from("lakitu"));
    #[allow(clippy::disallowed_methods, reason = "the program itself, not a command of the agent")]
    let mut again = std::process::Command::new("/proc/self/exe");
    again.arg0(name).args(args).env(HANDOVER, file.as_raw_fd().to_string());
    for name in found.keys() {
        again.env_remove(name);
    }
    Ok(again.exec())
}

/// What the process that executed this one put into the file. The file is emptied: its descriptor stays open, and
/// nothing is to be found behind it.
fn handed_over(fd: &str) -> Option<BTreeMap<String, String>> {
    let fd: u32 = fd.parse().ok()?;
    let path = format!("/proc/self/fd/{fd}");
    // Only what this program made: a descriptor somebody names for fun is nobody's to empty.
    let ours = std::fs::read_link(&path)
        .is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:lakitu-secrets"));
    let mut file = std::fs::File::options().read(true).write(true).open(path).ok().filter(|_| ours)?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    file.set_len(0).ok()?;
    serde_json::from_str(&text).ok()
}
