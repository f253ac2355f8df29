//! `apply_patch`: the arguments, and the redo record of a patch. Read `parse`, then `place`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod parse;
mod place;

pub(super) use parse::Patch;

use super::edit::sized;
use super::listing::missing;
use super::redo::{Target, missing_parents, record, target};
use crate::tools::workspace::{FileError, Roots};
use crate::tools::{Known, Redo};
use parse::Section;

/// Changes several files.
pub const APPLY_PATCH: ToolSpec =
    ToolSpec::of::<PatchArgs>("apply_patch", include_str!("apply_patch.md"), EffectClass::Verifiable, Category::File)
        .on(Subject::Paths(paths));

/// The paths that a call names.
fn paths(arguments: &Value) -> Vec<String> {
    let text = arguments.get("patch").and_then(Value::as_str).unwrap_or_default();
    // What is no patch was refused before.
    Patch::parse(text).map(|patch| patch.paths().into_iter().map(str::to_owned).collect()).unwrap_or_default()
}

/// Arguments of `apply_patch`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PatchArgs {
    /// From `*** Begin Patch` to `*** End Patch`.
    pub patch: String,
}

impl Arguments for PatchArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("input", "patch"), ("patch_text", "patch"), ("patchText", "patch"), ("diff", "patch")];

    fn check(&self) -> Result<(), String> {
        Patch::parse(&self.patch).map(drop)
    }
}

/// A file of a patch: as it stands, and as it will.
struct Turning<'a> {
    target: Target<'a>,
    now: Option<Vec<u8>>,
    mode: u32,
}

impl Turning<'_> {
    /// Why there is nothing to change.
    fn gone(&self, roots: &Roots) -> FileError {
        match self.target.before() {
            Some(_) => FileError::Mismatch(format!("{} is removed by the sections before", self.target.shown())),
            None => missing(roots.workspace(), self.target.spot()),
        }
    }
}

/// The files of a patch, by the names of the journal. A file that the patch names again is the one that the sections
/// before have made.
struct Files<'a> {
    roots: &'a Roots,
    known: &'a Known,
    turning: BTreeMap<String, Turning<'a>>,
    budget: place::Budget,
}

/// The redo record of a patch, and the paths that it is about. Nothing is written, and any section that cannot be
/// applied leaves all of it undone.
pub(super) fn plan_patch(roots: &Roots, patch: &Patch, known: &Known) -> Result<(Vec<PathBuf>, Redo), FileError> {
    let mut files = Files { roots, known, turning: BTreeMap::new(), budget: place::Budget::new() };
    for section in &patch.sections {
        files.turn(section).map_err(|error| error.within("nothing of the patch was applied"))?;
    }
    let mut paths = Vec::new();
    let mut redo = Redo::default();
    for (_, Turning { target, now, mode }) in files.turning {
        paths.push(target.absolute());
        // Added and removed again.
        if target.before().is_some() || now.is_some() {
            if now.is_some() {
                redo.files.extend(missing_parents(target.spot()));
            }
            redo.files.push(record(target, now, mode));
        }
    }
    // Two files may need the same directory.
    redo.files.sort_by(|one, other| one.file.path.cmp(&other.file.path));
    redo.files.dedup_by(|one, other| one.file.path == other.file.path);
    if redo.files.is_empty() {
        return Err(FileError::Mismatch("the patch undoes what it does: there is nothing to change".to_owned()));
    }
    paths.sort_unstable();
    Ok((paths, redo))
}

impl<'a> Files<'a> {
    fn of(&mut self, path: &str, then: &str) -> Result<&mut Turning<'a>, FileError> {
        let target = target(self.roots, path, self.known, then)?;
        let fresh =
            |target: Target<'a>| Turning { now: target.before().map(<[u8]>::to_vec), mode: target.mode(), target };
        Ok(self.turning.entry(target.name().to_owned()).or_insert_with(|| fresh(target)))
    }

    fn turn(&mut self, section: &Section) -> Result<(), FileError> {
        let roots = self.roots;
        match section {
            Section::Add { path, lines } => {
                let file = self.of(path, "change it with *** Update File")?;
                let shown = file.target.shown();
                if file.now.is_some() {
                    return Err(FileError::Mismatch(format!(
                        "{shown} exists, so it cannot be added: change it with *** Update File"
                    )));
                }
                let bytes: Vec<u8> = lines.iter().flat_map(|line| line.bytes().chain([b'\n'])).collect();
                sized(bytes.len(), &shown)?;
                file.now = Some(bytes);
            }
            Section::Delete { path } => {
                let file = self.of(path, "remove it")?;
                if file.now.take().is_none() {
                    return Err(file.gone(roots));
                }
            }
            Section::Update { path, to, hunks } => {
                let file = self.of(path, "change it")?;
                let (name, shown, mode) = (file.target.name().to_owned(), file.target.shown(), file.mode);
                let Some(before) = file.now.take() else { return Err(file.gone(roots)) };
                let after = place::patched(&before, hunks, &shown, &mut self.budget)?;
                sized(after.len(), &shown)?;
                if let Some(file) = self.turning.get_mut(&name) {
                    file.now = Some(after);
                }
                if let Some(to) = to {
                    self.rename(&name, to, mode)?;
                }
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, mode: u32) -> Result<(), FileError> {
        let place = self.of(to, "move another file there")?;
        if place.target.name() == from {
            return Ok(());
        }
        if place.now.is_some() {
            let shown = place.target.shown();
            return Err(FileError::Mismatch(format!("{from} cannot be moved to {shown}, which exists")));
        }
        let to = place.target.name().to_owned();
        let now = self.turning.get_mut(from).and_then(|file| file.now.take());
        if let Some(place) = self.turning.get_mut(&to) {
            (place.now, place.mode) = (now, mode);
        }
        Ok(())
    }
}
