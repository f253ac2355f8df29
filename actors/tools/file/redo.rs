//! Redo records of writes and edits: how one is computed, carried out, and settled after a crash.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakitu_kernel::Hash;
use lakitu_kernel::crash::{CrashPoint, crash_point};
use lakitu_kernel::edit::{Changes, FileChange, FileState};
use lakitu_kernel::event::{FileVersion, PreparedFile};
use lakitu_kernel::limits::FILE_EDIT_BYTES_MAX;
use lakitu_kernel::tool::ToolOutcome;

use super::diff::{diff, lines};
use super::edit::{EditArgs, edit, sized};
use super::listing::missing;
use super::multi_edit::{MultiEditArgs, multi_edit};
use super::read::whole;
use super::write::WriteArgs;
use crate::tools::text::count;
use crate::tools::workspace::{Change, FileError, Roots, Spot, shown, temp_name};
use crate::tools::{Ask, Known, Redo, RedoFile, Settled};

/// Permission bits of a file that a tool creates.
const NEW_MODE: u32 = 0o644;

/// A file that a call wants to change, as it stands now.
pub(super) struct Target<'a> {
    spot: Spot<'a>,
    name: String,
    before: Option<Vec<u8>>,
    mode: u32,
}

/// Where the paths of a call lead, without links, sorted: what its locks go by.
pub(super) fn locate(roots: &Roots, paths: &[&str]) -> Result<Vec<PathBuf>, FileError> {
    let mut located = paths
        .iter()
        .map(|path| Ok(roots.locate(Path::new(path))?.absolute()))
        .collect::<Result<Vec<_>, FileError>>()?;
    located.sort_unstable();
    located.dedup();
    Ok(located)
}

/// The redo record of `file_write`, and the paths that it is about.
pub(super) fn plan_write(roots: &Roots, args: &WriteArgs, known: &Known) -> Result<(Vec<PathBuf>, Redo), FileError> {
    sized(args.content.len(), &shown(args.path.as_bytes()))?;
    let target = target(roots, &args.path, known, "overwrite it")?;
    Ok(target.planned(Bytes::from(args.content.clone().into_bytes())))
}

/// The redo record of `file_edit`, and the paths that it is about.
pub(super) fn plan_edit(roots: &Roots, args: &EditArgs, known: &Known) -> Result<(Vec<PathBuf>, Redo), FileError> {
    let target = target(roots, &args.path, known, "edit it")?;
    if target.before.is_none() && !args.old_string.is_empty() {
        return Err(missing(roots.workspace(), &target.spot));
    }
    let after = edit(target.before.as_deref(), &args.replace(), &target.spot.shown())?;
    Ok(target.planned(Bytes::from(after)))
}

/// The redo record of `multi_edit`, and the paths that it is about.
pub(super) fn plan_multi_edit(
    roots: &Roots,
    args: &MultiEditArgs,
    known: &Known,
) -> Result<(Vec<PathBuf>, Redo), FileError> {
    let target = target(roots, &args.path, known, "edit it")?;
    if target.before.is_none() && args.edits.first().is_some_and(|first| !first.old_string.is_empty()) {
        return Err(missing(roots.workspace(), &target.spot));
    }
    let after = multi_edit(target.before.as_deref(), args, &target.spot.shown())?;
    Ok(target.planned(Bytes::from(after)))
}

/// Opens what is to be changed, and refuses where it may not be, or where the thread does not know what it would change.
pub(super) fn target<'a>(roots: &'a Roots, path: &str, known: &Known, then: &str) -> Result<Target<'a>, FileError> {
    let spot = roots.locate(Path::new(path))?;
    let shown = spot.shown();
    let refused = |why: &str| FileError::Refused { path: shown.clone(), why: why.to_owned() };
    if !spot.writable {
        return Err(refused("is kept by the runtime and can only be read"));
    }
    let Some(name) = spot.name.clone() else {
        return Err(FileError::BadPath(format!("{shown} is not valid UTF-8; rename it with bash first")));
    };
    let Some(standing) = spot.standing else {
        if path.ends_with('/') {
            return Err(FileError::BadPath(format!(
                "{} names a directory; give the path of a file",
                self::shown(path.as_bytes())
            )));
        }
        return Ok(Target { spot, name, before: None, mode: NEW_MODE });
    };
    spot.root.check_writable(&spot.canonical, standing)?;
    let way_out = "; change it with bash";
    if standing.bytes > FILE_EDIT_BYTES_MAX {
        return Err(FileError::TooLarge { path: shown, bytes: standing.bytes, max: FILE_EDIT_BYTES_MAX, way_out });
    }
    let (file, standing) = spot.root.open_file(&spot.canonical)?;
    let before = whole(file, FILE_EDIT_BYTES_MAX, &shown, way_out)?;
    match known.get(&name) {
        Some(hash) if *hash == Hash::of(&before) => {
            Ok(Target { spot, name, before: Some(before), mode: standing.mode })
        }
        Some(_) => Err(FileError::Changed(format!(
            "{shown} changed since you last saw it (by a command, or by somebody else): read it again with file_read, then {then}"
        ))),
        None => Err(FileError::Changed(format!(
            "{shown} exists and you have not read it: read it first with file_read, then {then}"
        ))),
    }
}

impl<'a> Target<'a> {
    /// What stands there.
    pub(super) fn before(&self) -> Option<&[u8]> {
        self.before.as_deref()
    }

    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Its path in the journal.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn spot(&self) -> &Spot<'a> {
        &self.spot
    }

    pub(super) fn shown(&self) -> String {
        self.spot.shown()
    }

    pub(super) fn absolute(&self) -> PathBuf {
        self.spot.absolute()
    }

    fn planned(self, after: Bytes) -> (Vec<PathBuf>, Redo) {
        let (path, mode) = (self.absolute(), self.mode);
        (vec![path], Redo { files: vec![record(self, Some(after), mode)] })
    }
}

/// What is to become of a file; none: it is removed.
pub(super) fn record(target: Target<'_>, after: Option<impl Into<Bytes>>, mode: u32) -> RedoFile {
    let after: Option<Bytes> = after.map(Into::into);
    let file = PreparedFile {
        path: target.name,
        mode,
        mode_before: target.before.is_some().then_some(target.mode).filter(|before| *before != mode),
        hash_before: target.before.as_deref().map(Hash::of),
        hash_after: after.as_deref().map(Hash::of),
    };
    RedoFile { file, before: target.before.map(Bytes::from), after }
}

/// Carries out a redo record that nothing was done of.
pub(super) fn apply(roots: &Roots, ask: &Ask, redo: &Redo) -> Result<ToolOutcome, FileError> {
    crash_point(CrashPoint::BeforeEffect);
    let mut spots = Vec::with_capacity(redo.files.len());
    for file in &redo.files {
        let spot = roots.exact(&file.file.path)?;
        // All are looked at before the first is written: a call over many files should not stop in the middle.
        if spot.root.hash(&spot.canonical)? != file.file.hash_before {
            return Err(FileError::Changed(format!(
                "{} changed since this was prepared; nothing was written: read it again with file_read",
                spot.shown()
            )));
        }
        spots.push(spot);
    }
    let all: Vec<_> = spots.iter().zip(&redo.files).collect();
    if let Err(stopped) = make_all(ask, &all, &all) {
        return Ok(*stopped);
    }
    crash_point(CrashPoint::AfterEffect);
    Ok(outcome(&all))
}

/// Makes what is to be made, and where that fails undoes `all` that is done: all of a record stands, or nothing of it.
fn make_all(
    ask: &Ask,
    todo: &[(&Spot<'_>, &RedoFile)],
    all: &[(&Spot<'_>, &RedoFile)],
) -> Result<(), Box<ToolOutcome>> {
    // Removals last: what is moved stands somewhere at every moment.
    let (removals, writes): (Vec<_>, Vec<_>) = todo.iter().partition(|(_, file)| file.after.is_none());
    for (spot, file) in writes.into_iter().chain(removals) {
        if let Err(error) = make(spot, ask, file) {
            return Err(Box::new(stopped(error, &undo(ask, all))));
        }
    }
    Ok(())
}

/// Puts the versions before back wherever the ones after stand; gives the files where that failed.
fn undo<'a>(ask: &Ask, all: &[(&Spot<'_>, &'a RedoFile)]) -> Vec<&'a RedoFile> {
    let mut stay = Vec::new();
    for (spot, redo) in all.iter().rev() {
        let RedoFile { file, before, .. } = redo;
        if is_idle(file) || !matches!(stands(spot, file), Ok(Stands::After)) {
            continue;
        }
        let back = Change {
            canonical: &spot.canonical,
            before: file.hash_after,
            after: before.as_deref(),
            mode: file.mode_before.unwrap_or(file.mode),
            temp: &temp_name(ask.call.thread, ask.call.intent),
        };
        if let Err(error) = spot.root.change(&back) {
            tracing::warn!(%error, "a change could not be undone");
            stay.push(*redo);
        }
    }
    stay
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
        .with_changes(changes(stay.iter().copied()))
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
        outcome.changes = changes(done.into_iter());
        return Ok(Settled::Outcome(outcome));
    }
    let all: Vec<_> = found.iter().map(|(spot, file, _)| (spot, *file)).collect();
    let todo: Vec<_> =
        found.iter().filter(|found| found.2 == Stands::Before).map(|(spot, file, _)| (spot, *file)).collect();
    let made = make_all(ask, &todo, &all);
    Ok(Settled::Outcome(made.map_or_else(|stopped| *stopped, |()| outcome(&all))))
}

/// What recovery finds at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    After,
    Before,
    Other(Option<Hash>),
}

/// Whether the record changes nothing of the file.
fn is_idle(file: &PreparedFile) -> bool {
    file.hash_before == file.hash_after && file.mode_before.is_none()
}

/// Which version of a file stands there. Where only permission bits tell the two apart, they do.
fn stands(spot: &Spot<'_>, file: &PreparedFile) -> Result<Stands, FileError> {
    let hash = match spot.root.hash(&spot.canonical) {
        // Something that is no file is neither version.
        Err(FileError::Refused { .. }) => return Ok(Stands::Other(None)),
        other => other?,
    };
    if file.hash_before == file.hash_after
        && hash == file.hash_after
        && let Some(mode_before) = file.mode_before
    {
        let mode = spot.root.look(&spot.canonical)?.map(|found| found.mode);
        return Ok(match mode {
            Some(mode) if mode == file.mode => Stands::After,
            Some(mode) if mode == mode_before => Stands::Before,
            Some(_) | None => Stands::Other(hash),
        });
    }
    Ok(match hash {
        hash if hash == file.hash_after => Stands::After,
        hash if hash == file.hash_before => Stands::Before,
        hash => Stands::Other(hash),
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
            Stands::Before => write!(text, "\n{}: not done", spot.shown()),
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

/// Writes one file of a redo record.
fn make(spot: &Spot<'_>, ask: &Ask, RedoFile { file, after, .. }: &RedoFile) -> Result<(), FileError> {
    if !spot.writable {
        return Err(FileError::Refused { path: spot.shown(), why: "can only be read".to_owned() });
    }
    if after.as_deref().map(Hash::of) != file.hash_after {
        return Err(FileError::Fault(format!("the bytes kept for {} are not those that were prepared", spot.shown())));
    }
    if is_idle(file) {
        return Ok(());
    }
    spot.root.change(&Change {
        canonical: &spot.canonical,
        before: file.hash_before,
        after: after.as_deref(),
        mode: file.mode,
        temp: &temp_name(ask.call.thread, ask.call.intent),
    })
}

/// Whether a file is what the record was to make of it: its bytes, read back, and its permission bits.
fn is_as_prepared(spot: &Spot<'_>, file: &PreparedFile) -> bool {
    let mode = || spot.root.look(&spot.canonical).ok().flatten().map(|found| found.mode);
    spot.root.hash(&spot.canonical).is_ok_and(|hash| hash == file.hash_after)
        && (file.hash_after.is_none() || mode() == Some(file.mode))
}

/// What the model is told of a redo record that is carried out. From the record alone: recovery says the same.
fn outcome(all: &[(&Spot<'_>, &RedoFile)]) -> ToolOutcome {
    let mut text = String::new();
    for (_, RedoFile { file, before, after }) in all {
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
    let mut changes = changes(all.iter().map(|(_, file)| *file));
    let done = all.iter().filter(|(_, redo)| !is_idle(&redo.file));
    for (change, (spot, redo)) in changes.files.iter_mut().zip(done) {
        change.verified = is_as_prepared(spot, &redo.file);
    }
    ToolOutcome::ok(text).with_files(all.iter().filter_map(|(_, file)| version(file)).collect()).with_changes(changes)
}

/// What stands changed once these are carried out. Their bytes are blobs since the record was made durable.
fn changes<'a>(files: impl Iterator<Item = &'a RedoFile>) -> Changes {
    let files = files.filter(|redo| !is_idle(&redo.file)).map(change).collect();
    Changes { files, ..Changes::default() }
}

fn change(RedoFile { file, before, after }: &RedoFile) -> FileChange {
    let state = |hash: Option<Hash>, bytes: &Option<Bytes>, mode| {
        let bytes = bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        hash.map(|hash| FileState { hash: Some(hash), mode, bytes, kept: true })
    };
    let (removed, added) = line_changes(before.as_deref().unwrap_or_default(), after.as_deref().unwrap_or_default());
    FileChange {
        path: file.path.clone(),
        before: state(file.hash_before, before, file.mode_before.unwrap_or(file.mode)),
        after: state(file.hash_after, after, file.mode),
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
    file.hash_after.map(|hash| FileVersion { path: file.path.clone(), hash })
}
