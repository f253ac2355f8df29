//! What stood in a workspace when a command began, on the disk for as long as its result is not durable: so that whoever
//! adopts the command after a kill can still tell what it changed.
//!
//! `PACK.now` is the manifest as it was last written; a command's note is one more name of that file, which stays when the
//! next one takes its place. All of a pack go with it, where its runtime ends in order. They outlive a kill of the runtime, not
//! of the machine: no command outlives that either.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use lakitu_kernel::{Seq, ThreadId};
use serde::{Deserialize, Serialize};

use super::hidden::Repositories;
use super::look::Entry;
use super::pack;

/// Notes that stay of killed runtimes; of more the oldest go.
const NOTES_MAX: usize = 64;

/// A command, by the position of its intent.
pub type Command = (ThreadId, Seq);

/// A look as it is written.
#[derive(Serialize)]
pub(super) struct Writing<'a> {
    pub(super) files: &'a BTreeMap<String, Entry>,
    pub(super) repositories: &'a Repositories,
    /// When it began, in nanoseconds of the clock that files get their times from.
    pub(super) looked_ns: i64,
}

/// The same as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Noted {
    pub(super) files: BTreeMap<String, Entry>,
    pub(super) repositories: Repositories,
    pub(super) looked_ns: i64,
}

fn prefix((thread, seq): Command) -> String {
    format!("{thread}-{}@", seq.0)
}

/// Writes a manifest down; notes of commands that begin now name it.
pub(super) fn write(directory: &Path, pack: &str, look: &Writing<'_>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let bytes = rmp_serde::to_vec(look).map_err(io::Error::other)?;
    let new = directory.join(format!("{pack}.new"));
    fs::write(&new, bytes)?;
    fs::rename(new, directory.join(format!("{pack}.now")))
}

/// Notes that a command begins; what was noted of those before it in its thread goes, because their results are durable.
pub(super) fn begin(directory: &Path, pack: &str, command: Command) -> io::Result<()> {
    settled(directory, command)?;
    fs::hard_link(directory.join(format!("{pack}.now")), directory.join(format!("{}{pack}", prefix(command))))
}

/// Removes what was noted of a thread's commands up to this position: their results are durable.
pub(super) fn settled(directory: &Path, (thread, seq): Command) -> io::Result<()> {
    let own = format!("{thread}-");
    let is_settled = |name: &String| {
        let noted = name.strip_prefix(&own).and_then(|rest| rest.split_once('@')?.0.parse().ok());
        noted.is_some_and(|noted: u64| noted <= seq.0)
    };
    let mut notes = names(directory).into_iter().filter(is_settled);
    notes.try_for_each(|name| fs::remove_file(directory.join(name)))
}

/// What stood there when the command began, and in which pack its bytes are; none: nobody noted it, or it cannot be read.
pub(super) fn of(directory: &Path, command: Command) -> Option<(Noted, String)> {
    let prefix = prefix(command);
    let name = names(directory).into_iter().find(|name| name.starts_with(&prefix))?;
    let read: Noted = rmp_serde::from_slice(&fs::read(directory.join(&name)).ok()?).ok()?;
    Some((read, name.strip_prefix(&prefix)?.to_owned()))
}

/// Removes a pack and all that names it.
pub(super) fn forget(directory: &Path, pack: &str) {
    let own = format!("@{pack}");
    let notes = names(directory).into_iter().filter(|name| name.ends_with(&own)).map(|name| directory.join(name));
    let files = ["now", "new"].map(|kind| directory.join(format!("{pack}.{kind}")));
    for path in notes.chain(files).chain([pack::path(directory, pack)]) {
        let _ = fs::remove_file(path);
    }
}

/// Removes what killed runtimes left and nobody can need any more. Called before this runtime keeps anything.
pub(super) fn sweep(directory: &Path) {
    let mut notes: Vec<_> = names(directory)
        .into_iter()
        .filter(|name| name.contains('@'))
        .filter_map(|name| Some((fs::metadata(directory.join(&name)).ok()?.modified().ok()?, name)))
        .collect();
    notes.sort();
    for (_, name) in notes.drain(..notes.len().saturating_sub(NOTES_MAX)) {
        let _ = fs::remove_file(directory.join(name));
    }
    let needed: Vec<&str> = notes.iter().filter_map(|(_, name)| Some(name.split_once('@')?.1)).collect();
    for name in names(directory) {
        let pack = name.split_once('.').map(|(pack, _)| pack);
        if pack.is_some_and(|pack| !needed.contains(&pack)) {
            let _ = fs::remove_file(directory.join(name));
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
