//! Redo records: how one is carried out, undone where it cannot be, and settled after a crash.
//!
//! The order is what keeps it whole: what stands in the way goes first, then directories before what is in them, then what
//! is to go, the deepest first, and permission bits of directories at last.

use std::fmt::Write as _;

use bytes::Bytes;
use lakitu_kernel::Hash;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::edit::{Changes, FileChange, FileKind, FileState, Version};
use lakitu_kernel::event::{FileVersion, PreparedFile};
use lakitu_kernel::tool::ToolOutcome;

use super::diff::{diff, lines};
use crate::tools::text::count;
use crate::tools::workspace::{Change, Changed, FileError, Roots, Spot, shown, temp_name};
use crate::tools::{Ask, Redo, RedoFile, Settled};

/// What a directory needs so that its owner can change what is in it.
const OPEN: u32 = 0o700;

/// A path of a record, and what is to become of it.
type Item<'a> = (&'a Spot<'a>, &'a RedoFile);

/// Carries out a redo record that nothing was done of.
pub(super) fn apply(roots: &Roots, ask: &Ask, redo: &Redo) -> Result<ToolOutcome, FileError> {
    crash_point(CrashPoint::BeforeEffect);
    let mut spots = Vec::with_capacity(redo.files.len());
    for RedoFile { file, .. } in &redo.files {
        let spot = roots.exact(&file.path)?;
        let found = bare(spot.root.version(&spot.canonical)?);
        // All are looked at before the first is written: a call over many files should not stop in the middle. A directory
        // that somebody made meanwhile is as good as one made here.
        if found != file.before() && (file.kind != FileKind::Directory || found != file.after()) {
            if file.kind.is_file() {
                // What is no file at all is said to be none.
                spot.root.hash(&spot.canonical)?;
            }
            return Err(FileError::Changed(format!(
                "{} changed since this was prepared; nothing was written: read it again with file_read",
                spot.shown()
            )));
        }
        spots.push(spot);
    }
    let all: Vec<_> = spots.iter().zip(&redo.files).collect();
    match make_all(ask, &all, &all) {
        Ok(_) => crash_point(CrashPoint::AfterEffect),
        Err(stopped) => return Ok(*stopped),
    }
    Ok(outcome(&all, &[]))
}

/// A version without its permission bits.
fn bare(version: Option<Version>) -> Option<(FileKind, Hash)> {
    version.map(|version| (version.kind, version.hash))
}

/// Makes what is to be made, and where that fails undoes `all` that is done: all of a record stands, or nothing of it. Gives
/// the directories that stay because somebody else's things are in them.
fn make_all<'a>(ask: &Ask, todo: &[Item<'a>], all: &[Item<'a>]) -> Result<Vec<&'a str>, Box<ToolOutcome>> {
    let mut stay = Vec::new();
    let made = opened(todo).and_then(|()| {
        for (spot, file) in ordered(todo) {
            if make(spot, ask, file)? == Changed::NotEmpty {
                stay.push(file.file.path.as_str());
            }
        }
        closed(all)
    });
    made.map_err(|error| Box::new(stopped(error, &undo(ask, all))))?;
    Ok(stay)
}

/// The order in which changes are made.
fn ordered<'a>(todo: &[Item<'a>]) -> Vec<Item<'a>> {
    let gives_way: Vec<&str> = todo
        .iter()
        .map(|(_, redo)| &redo.file)
        .filter(|file| is_replaced(file))
        .map(|file| file.path.as_str())
        .collect();
    let below =
        |path: &str| gives_way.iter().any(|above| path.strip_prefix(above).is_some_and(|below| below.starts_with('/')));
    let by_path = |one: &Item<'_>, other: &Item<'_>| one.1.file.path.cmp(&other.1.file.path);
    let (mut removals, mut writes): (Vec<Item<'a>>, Vec<Item<'a>>) =
        todo.iter().partition(|(_, redo)| redo.after.is_none());
    writes.sort_by(by_path);
    removals.sort_by(|one, other| by_path(other, one));
    // Other removals last: what is moved stands somewhere at every moment.
    let (first, last): (Vec<Item<'a>>, Vec<Item<'a>>) =
        removals.into_iter().partition(|(_, redo)| below(&redo.file.path));
    first.into_iter().chain(writes).chain(last).collect()
}

/// Whether a directory makes way for something else.
fn is_replaced(file: &PreparedFile) -> bool {
    let kind = |side: Option<(FileKind, Hash)>| side.map(|(kind, _)| kind);
    kind(file.before()) == Some(FileKind::Directory)
        && kind(file.after()).is_some_and(|after| after != FileKind::Directory)
}

/// Lets directories that are to change be written to.
fn opened(todo: &[Item<'_>]) -> Result<(), FileError> {
    for (spot, RedoFile { file, .. }) in todo {
        let Some((FileKind::Directory, _)) = file.before() else { continue };
        let found = spot.root.version(&spot.canonical)?;
        if let Some(Version { kind: FileKind::Directory, mode, .. }) = found
            && mode & OPEN != OPEN
        {
            spot.root.set_mode(&spot.canonical, mode | OPEN)?;
        }
    }
    Ok(())
}

/// Gives directories the permission bits that they are to have, now that everything stands in them.
fn closed(all: &[Item<'_>]) -> Result<(), FileError> {
    let mut directories: Vec<_> =
        all.iter().filter(|(_, redo)| matches!(redo.file.after(), Some((FileKind::Directory, _)))).collect();
    directories.sort_by(|one, other| other.1.file.path.cmp(&one.1.file.path));
    for (spot, RedoFile { file, .. }) in directories {
        let found = spot.root.version(&spot.canonical)?;
        if found.is_some_and(|found| found.kind == FileKind::Directory && found.mode != file.mode) {
            spot.root.set_mode(&spot.canonical, file.mode)?;
        }
    }
    Ok(())
}

/// Puts the versions before back wherever the ones after stand; gives the files where that failed.
fn undo<'a>(ask: &Ask, all: &[Item<'a>]) -> Vec<&'a RedoFile> {
    let inverted: Vec<_> = all
        .iter()
        .filter(|(spot, redo)| {
            !is_idle(&redo.file) && matches!(stands(spot, &redo.file), Ok(Stands::After | Stands::Between))
        })
        .map(|(spot, redo)| {
            let RedoFile { file, before, after } = *redo;
            (*spot, RedoFile { file: file.inverted(), before: after.clone(), after: before.clone() })
        })
        .collect();
    let todo: Vec<Item<'_>> = inverted.iter().map(|(spot, redo)| (*spot, redo)).collect();
    let mut failed = Vec::new();
    if let Err(error) = opened(&todo) {
        tracing::warn!(%error, "a directory could not be opened to undo a change");
    }
    for (spot, redo) in ordered(&todo) {
        if let Err(error) = make(spot, ask, redo) {
            tracing::warn!(%error, "a change could not be undone");
            failed.push(redo.file.path.as_str());
        }
    }
    // Those of directories that were only opened, too.
    let back: Vec<_> = all
        .iter()
        .map(|(spot, RedoFile { file, before, after })| {
            (*spot, RedoFile { file: file.inverted(), before: after.clone(), after: before.clone() })
        })
        .collect();
    if let Err(error) = closed(&back.iter().map(|(spot, redo)| (*spot, redo)).collect::<Vec<_>>()) {
        tracing::warn!(%error, "a directory's permissions could not be undone");
    }
    all.iter().map(|(_, redo)| *redo).filter(|redo| failed.contains(&redo.file.path.as_str())).collect()
}

/// The outcome where a file could not be written, and these stay changed because they could not be undone either.
fn stopped(error: FileError, stay: &[&RedoFile]) -> ToolOutcome {
    let mut text = String::new();
    for RedoFile { file, .. } in stay {
        let _ = writeln!(text, "{} was changed before that and stays so", shown(file.path.as_bytes()));
    }
    if stay.is_empty() {
        text.push_str("nothing was changed\n");
    }
    ToolOutcome::failed_with_output(error.into(), &text)
        .with_files(stay.iter().copied().filter_map(version).collect())
        .with_changes(changes(stay.iter().copied(), &[]))
}

/// Settles a redo record of which nobody knows how much was done: what was not is done now, unless somebody else has
/// changed a file of it meanwhile.
pub(super) fn settle(roots: &Roots, ask: &Ask, redo: &Redo) -> Result<Settled, FileError> {
    let mut found = Vec::with_capacity(redo.files.len());
    for file in &redo.files {
        let spot = roots.exact(&file.file.path)?;
        let swept = spot.root.sweep(&spot.canonical, &temp_name(ask.call.thread, ask.call.intent));
        if let Err(error) = swept {
            tracing::debug!(%error, "what a killed call left over could not be removed");
        }
        let stands = stands(&spot, &file.file)?;
        found.push((spot, file, stands));
    }
    if found.iter().any(|(_, _, stands)| matches!(stands, Stands::Other(_))) {
        let done: Vec<_> =
            found.iter().filter(|(_, _, stands)| *stands == Stands::After).map(|(_, file, _)| *file).collect();
        let mut outcome = ToolOutcome::from(lakitu_kernel::error::ToolError::from(conflict(&found)));
        outcome.files = done.iter().copied().filter_map(version).collect();
        outcome.changes = changes(done.into_iter(), &[]);
        return Ok(Settled::Outcome(outcome));
    }
    let all: Vec<_> = found.iter().map(|(spot, file, _)| (spot, *file)).collect();
    let todo: Vec<_> = found
        .iter()
        .filter(|found| matches!(found.2, Stands::Before | Stands::Between))
        .map(|(spot, file, _)| (spot, *file))
        .collect();
    let made = make_all(ask, &todo, &all);
    Ok(Settled::Outcome(made.map_or_else(|stopped| *stopped, |stay| outcome(&all, &stay))))
}

/// What recovery finds at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    After,
    Before,
    /// What stood there went, and what is to stand there has not come: a directory makes way in two steps.
    Between,
    Other(Option<Hash>),
}

/// Whether the record changes nothing of the file.
fn is_idle(file: &PreparedFile) -> bool {
    file.before() == file.after() && file.mode_before.is_none()
}

/// Which version of a file stands there. Where only permission bits tell the two apart, they do.
fn stands(spot: &Spot<'_>, file: &PreparedFile) -> Result<Stands, FileError> {
    let found = match spot.root.version(&spot.canonical) {
        // Something that is never recorded is neither version.
        Err(FileError::Refused { .. }) => return Ok(Stands::Other(None)),
        other => other?,
    };
    let now = bare(found);
    if file.before() == file.after()
        && now == file.after()
        && let (Some(mode_before), Some(found)) = (file.mode_before, found)
    {
        let opened = |mode| file.kind == FileKind::Directory && found.mode == mode | OPEN;
        return Ok(match found.mode {
            mode if mode == file.mode => Stands::After,
            mode if mode == mode_before || opened(mode_before) || opened(file.mode) => Stands::Before,
            _ => Stands::Other(Some(found.hash)),
        });
    }
    let two_steps = [file.before(), file.after()].into_iter().all(|side| side.is_some())
        && [file.kind, file.kind_before.unwrap_or(file.kind)].contains(&FileKind::Directory)
        && file.kind_before.is_some();
    Ok(match now {
        now if now == file.after() => Stands::After,
        now if now == file.before() => Stands::Before,
        None if two_steps => Stands::Between,
        now => Stands::Other(now.map(|(_, hash)| hash)),
    })
}

fn conflict(found: &[(Spot<'_>, &RedoFile, Stands)]) -> FileError {
    let named = |hash: Option<Hash>| hash.map_or("no file".to_owned(), |hash| hash.to_string());
    let mut text = "the runtime was interrupted in this call, and meanwhile others changed what it was about; nothing \
                    more was written. Read the files again and decide:"
        .to_owned();
    for (spot, RedoFile { file, .. }, stands) in found {
        let _ = match stands {
            Stands::After => write!(text, "\n{}: done", spot.shown()),
            Stands::Before | Stands::Between => write!(text, "\n{}: not done", spot.shown()),
            Stands::Other(now) => write!(
                text,
                "\n{}: found {}; before {}, after {}",
                spot.shown(),
                named(*now),
                named(file.hash_before),
                named(file.hash_after)
            ),
        };
    }
    FileError::Conflict(text)
}

/// Makes one change of a redo record.
fn make(spot: &Spot<'_>, ask: &Ask, RedoFile { file, after, .. }: &RedoFile) -> Result<Changed, FileError> {
    if !spot.writable {
        return Err(FileError::Refused { path: spot.shown(), why: "can only be read".to_owned() });
    }
    if after.as_deref().map(Hash::of) != file.hash_after {
        return Err(FileError::Fault(format!("the bytes kept for {} are not those that were prepared", spot.shown())));
    }
    // Permission bits of a directory are set when all is done.
    let stays_directory = file.kind == FileKind::Directory && file.before() == file.after();
    if is_idle(file) || stays_directory {
        return Ok(Changed::Done);
    }
    spot.root.change(&Change {
        canonical: &spot.canonical,
        before: file.before(),
        after: after.as_deref().map(|bytes| (file.kind, bytes)),
        mode: file.mode,
        temp: &temp_name(ask.call.thread, ask.call.intent),
    })
}

/// What the model is told of a redo record that is carried out, but for directories that stay. From the record alone where
/// a tool made it: recovery says the same.
fn outcome(all: &[Item<'_>], stay: &[&str]) -> ToolOutcome {
    let mut text = String::new();
    for (_, RedoFile { file, before, after }) in all {
        if file.kind == FileKind::Directory {
            continue;
        }
        let path = shown(file.path.as_bytes());
        match (before, after) {
            (None, Some(after)) => {
                let lines = count(lines(after).len(), "line", "lines");
                let _ = writeln!(text, "Created {path} ({lines}, {})", count(after.len(), "byte", "bytes"));
            }
            (_, None) => {
                let _ = writeln!(text, "Removed {path}");
            }
            (Some(before), Some(after)) if before == after => {
                let _ = writeln!(text, "{path} holds this already; nothing was changed");
            }
            (Some(before), Some(after)) => {
                let changes = diff(before, after);
                let _ =
                    write!(text, "Changed {path} (+{} -{} lines)\n{}", changes.added, changes.removed, changes.text);
            }
        }
    }
    let mut changes = changes(all.iter().map(|(_, redo)| *redo), stay);
    if changes.files.is_empty() && !stay.is_empty() {
        return FileError::Conflict(format!("nothing was put back: {}", left_standing(stay))).into_outcome();
    }
    for change in &mut changes.files {
        let made = all.iter().find(|(_, redo)| redo.file.path == change.path);
        change.verified = made.is_some_and(|(spot, redo)| is_as_prepared(spot, &redo.file));
    }
    ToolOutcome::ok(text).with_files(all.iter().filter_map(|(_, redo)| version(redo)).collect()).with_changes(changes)
}

/// Whether there stands what the record was to make there: its kind, its bytes, read back, and its permission bits.
fn is_as_prepared(spot: &Spot<'_>, file: &PreparedFile) -> bool {
    spot.root.version(&spot.canonical).is_ok_and(|found| {
        bare(found) == file.after() && found.is_none_or(|found| found.kind == FileKind::Link || found.mode == file.mode)
    })
}

impl FileError {
    fn into_outcome(self) -> ToolOutcome {
        lakitu_kernel::error::ToolError::from(self).into()
    }
}

fn left_standing(stay: &[&str]) -> String {
    let names: Vec<_> = stay.iter().map(|path| shown(path.as_bytes())).collect();
    format!("{} stays, because it holds what is not a part of this", names.join(", "))
}

/// What stands changed once these are carried out. Their bytes are blobs since the record was made durable.
fn changes<'a>(files: impl Iterator<Item = &'a RedoFile>, stay: &[&str]) -> Changes {
    let changed = files.filter(|redo| !is_idle(&redo.file) && !stay.contains(&redo.file.path.as_str()));
    let left_out = (!stay.is_empty()).then(|| left_standing(stay));
    Changes { files: changed.map(change).collect(), left_out, ..Changes::default() }
}

fn change(RedoFile { file, before, after }: &RedoFile) -> FileChange {
    let state = |side: Option<(FileKind, Hash)>, bytes: &Option<Bytes>, mode| {
        let bytes = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        side.map(|(kind, hash)| FileState { kind, hash: Some(hash), mode, bytes, kept: true })
    };
    let text = |side: Option<(FileKind, Hash)>, bytes: &'_ Option<Bytes>| match side {
        Some((FileKind::File, _)) => bytes.clone().unwrap_or_default(),
        Some((FileKind::Link | FileKind::Directory, _)) | None => Bytes::new(),
    };
    let (removed, added) = line_changes(&text(file.before(), before), &text(file.after(), after));
    FileChange {
        path: file.path.clone(),
        before: state(file.before(), before, file.mode_before.unwrap_or(file.mode)),
        after: state(file.after(), after, file.mode),
        added,
        removed,
        // Until somebody has looked.
        verified: false,
    }
}

/// The lines that are gone, and those that are new.
pub(crate) fn line_changes(before: &[u8], after: &[u8]) -> (u64, u64) {
    let of = |bytes: &[u8]| lines(bytes).len() as u64;
    if before.is_empty() || after.is_empty() {
        return (of(before), of(after));
    }
    let changes = diff(before, after);
    (changes.removed as u64, changes.added as u64)
}

fn version(RedoFile { file, .. }: &RedoFile) -> Option<FileVersion> {
    let (_, hash) = file.after().filter(|(kind, _)| kind.is_file())?;
    Some(FileVersion { path: file.path.clone(), hash })
}
