//! The directories that a thread's file tools reach: the workspace, the artifacts, and the runtime's kept outputs.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use lakitu_kernel::pathname;

use super::{FileError, Standing, Workspace, shown};
use crate::tools::Place;

/// What a thread's file tools reach.
#[derive(Debug)]
pub struct Roots {
    workspace: Workspace,
    artifacts: Option<Workspace>,
    outputs: Option<Workspace>,
    /// Where the runtime keeps its own things: out of reach wherever it lies, but for the artifacts and outputs in it.
    data: PathBuf,
}

/// A located path with the root that it lies below.
#[derive(Debug)]
pub struct Spot<'a> {
    /// The root.
    pub root: &'a Workspace,
    /// Relative to the root, without links.
    pub canonical: PathBuf,
    /// What stands there.
    pub standing: Option<Standing>,
    /// Whether the root may be written to.
    pub writable: bool,
    /// The path that stands for it in the journal: relative to the workspace where it lies there, else absolute. None:
    /// it is no UTF-8, and has no name in JSON.
    pub name: Option<String>,
    /// What stands before the paths of its root, where that is not the workspace.
    outside: Option<PathBuf>,
}

/// A path without `.`, and without `..` as far as its text goes.
fn tidy(path: &Path) -> String {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::ParentDir | Component::Normal(_) => tidy.push(part),
        }
    }
    tidy.to_string_lossy().into_owned()
}

impl Spot<'_> {
    /// The path without links, absolute: the same for everybody who reaches the file, so locks go by it.
    pub fn absolute(&self) -> PathBuf {
        self.root.root().join(&self.canonical)
    }

    /// The path for a message.
    pub fn shown(&self) -> String {
        match &self.name {
            Some(name) => shown(name.as_bytes()),
            None => shown(self.canonical.as_os_str().as_bytes()),
        }
    }

    /// A path below the same root for a message: as one would give it to a tool.
    pub fn shown_of(&self, canonical: &Path) -> String {
        match &self.outside {
            Some(root) => shown(root.join(canonical).as_os_str().as_bytes()),
            None => shown(canonical.as_os_str().as_bytes()),
        }
    }
}

impl Roots {
    /// Opens a thread's place. Artifacts and outputs may not exist yet; they are then out of reach.
    pub fn open(place: &Place, outputs: &Path, data: &Path) -> Result<Self, FileError> {
        Ok(Self {
            workspace: Workspace::open(&place.workspace)?,
            artifacts: Workspace::open(&place.artifacts).ok(),
            outputs: Workspace::open(outputs).ok(),
            data: data.canonicalize().or_else(|_| std::path::absolute(data)).unwrap_or_else(|_| data.to_owned()),
        })
    }

    /// The workspace.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Finds where a path leads that the model gave: relative to the workspace, or absolute and below one of the roots.
    pub fn locate(&self, path: &Path) -> Result<Spot<'_>, FileError> {
        let root = if path.is_relative() { &self.workspace } else { self.root_of(path) };
        let spot = self.spot(root, path)?;
        let absolute = spot.absolute();
        if !self.is_workspace(root) || !absolute.starts_with(&self.data) {
            return Ok(spot);
        }
        // The data directory lies in the workspace: what of it is a root of its own is reached, the rest is not.
        let inner = self.root_of(&absolute);
        if self.is_workspace(inner) {
            return Err(FileError::Refused {
                path: shown(path.as_os_str().as_bytes()),
                why: "belongs to the runtime itself and is out of reach".to_owned(),
            });
        }
        self.spot(inner, &absolute)
    }

    /// The names of a path that the model gave: by its text alone, and by where links lead it. Relative to the workspace
    /// where it lies there, else absolute.
    pub fn names(&self, path: &str) -> Vec<String> {
        let given = Path::new(path);
        let below = self.workspace.below(given).unwrap_or(given);
        let mut names = vec![tidy(below)];
        // Where it leads outside, every tool refuses it.
        names.extend(self.locate(given).ok().and_then(|spot| spot.name).filter(|name| *name != names[0]));
        names
    }

    /// The same for a name of a redo record, which holds no link: whatever became a link since is not followed.
    pub fn exact(&self, name: &str) -> Result<Spot<'_>, FileError> {
        let path = &*pathname::path(name);
        let root = if path.is_relative() { &self.workspace } else { self.root_of(path) };
        let plain = |below: &&Path| below.components().all(|part| matches!(part, Component::Normal(_)));
        let Some(canonical) = root.below(path).filter(plain) else { return Err(root.outside(path)) };
        let standing = root.look(canonical).ok().flatten();
        Ok(self.named(root, canonical.to_owned(), standing))
    }

    /// The runtime's own directory, canonical below this root, where it lies there.
    pub fn closed_below(&self, root: &Workspace) -> Option<PathBuf> {
        self.data.strip_prefix(root.root()).ok().map(Path::to_owned)
    }

    fn is_workspace(&self, root: &Workspace) -> bool {
        std::ptr::eq(root, &raw const self.workspace)
    }

    /// The innermost root that an absolute path lies below by its text; the workspace, if none.
    fn root_of(&self, path: &Path) -> &Workspace {
        [self.outputs.as_ref(), self.artifacts.as_ref()]
            .into_iter()
            .flatten()
            .find(|root| root.below(path).is_some())
            .unwrap_or(&self.workspace)
    }

    fn spot<'a>(&'a self, root: &'a Workspace, path: &Path) -> Result<Spot<'a>, FileError> {
        let located = root.locate(path)?;
        Ok(self.named(root, located.canonical, located.standing))
    }

    fn named<'a>(&'a self, root: &'a Workspace, canonical: PathBuf, standing: Option<Standing>) -> Spot<'a> {
        let absolute = root.root().join(&canonical);
        let name = absolute.strip_prefix(self.workspace.root()).unwrap_or(&absolute);
        let writable = !self.outputs.as_ref().is_some_and(|outputs| absolute.starts_with(outputs.root()));
        let outside = (!self.is_workspace(root))
            .then(|| root.root().strip_prefix(self.workspace.root()).unwrap_or(root.root()).to_owned());
        Spot { root, name: name.to_str().map(str::to_owned), canonical, standing, writable, outside }
    }
}
