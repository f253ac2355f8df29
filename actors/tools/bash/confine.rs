//! Where confined commands may write, and what commands may use up: the workspace, the artifacts, temporary files, the
//! caches of toolchains, the repository of a linked worktree, and what the configuration adds.
//!
//! **Invariant:** no link is followed that lies where commands write. Else one command would say what the next ones may
//! write to.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use lakitu_keeper::{Confine, Confinement, Limits};
use lakitu_kernel::config::{ANY, Confine as Config, ConfineCommands};
use lakitu_kernel::{ErrorCode, ToolError};

use crate::tools::Place;

const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// What a keeper is told; none: commands write wherever their user may.
pub(super) fn of_commands(config: &Config, place: &Place, env: &[(String, String)]) -> Option<Confine> {
    let required = match config.commands {
        ConfineCommands::Off => return None,
        ConfineCommands::Auto | ConfineCommands::On => false,
        ConfineCommands::Require => true,
    };
    let variable = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut wanted = vec![place.workspace.clone(), place.artifacts.clone()];
    wanted.extend(TEMPORARY.map(PathBuf::from));
    wanted.extend(caches(config, variable));
    wanted.extend(common_directory(&place.workspace));
    wanted.extend(config.write.iter().flat_map(|location| location.paths(variable)));
    Some(Confine { write: roots(&wanted), required })
}

/// What commands may use up.
pub(super) fn limits(config: &Config) -> Limits {
    const MIB: u64 = 1024 * 1024;
    let some = |value: u64, unit: u64| (value > 0).then(|| value.saturating_mul(unit));
    Limits {
        processes: some(config.max_processes, 1),
        memory: some(config.max_memory_mb, MIB),
        file: some(config.max_file_mb, MIB),
    }
}

/// Whether commands are as confined as they must be, before there is one.
pub fn check(config: &Config) -> Result<(), ToolError> {
    match (config.commands, lakitu_keeper::confinement()) {
        (ConfineCommands::Require, Confinement::No(reason)) => Err(refused(&reason)),
        _ => Ok(()),
    }
}

/// What is said where no command may run.
pub(super) fn refused(reason: &str) -> ToolError {
    ToolError::new(
        ErrorCode::NotConfined,
        format!(
            "[confine] commands = \"require\", and commands cannot be confined here: {reason}. Nothing was started"
        ),
    )
}

/// The directories that are named for temporary files and caches, some of them made now. None that would hold the whole
/// home directory.
fn caches<'a>(config: &Config, variable: impl Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
    let home = variable("HOME").map(Path::new).filter(|home| home.is_absolute());
    let search: Vec<&Path> = variable("PATH").unwrap_or_default().split(':').map(Path::new).collect();
    let has = |program: &str| program == ANY || search.iter().any(|folder| folder.join(program).exists());
    let sound = |path: &PathBuf| path.parent().is_some() && home.is_none_or(|home| !home.starts_with(path));
    let mut found: Vec<PathBuf> = variable("TMPDIR").map(PathBuf::from).into_iter().collect();
    for (program, locations) in &config.caches {
        for location in locations {
            for path in location.paths(&variable) {
                if location.is_directory() && sound(&path) && !path.exists() && has(program) {
                    let _ = fs::create_dir_all(&path); // whoever wants to write there is told why not
                }
                found.push(path);
            }
        }
    }
    found.iter().filter_map(|path| Real::of(path)).map(|real| real.path).filter(sound).collect()
}

/// What is there of these, as a keeper wants it: without links, and none below another.
fn roots(wanted: &[PathBuf]) -> Vec<PathBuf> {
    let found: Vec<Real> = wanted.iter().filter_map(|path| Real::of(path)).collect();
    let is_written = |folder: &PathBuf| found.iter().any(|root| folder.starts_with(&root.path));
    let mut sound: Vec<&Path> =
        found.iter().filter(|real| !real.links.iter().any(is_written)).map(|real| real.path.as_path()).collect();
    sound.sort_unstable();
    let mut roots: Vec<PathBuf> = Vec::new();
    for path in sound {
        // What is below a path comes right behind it.
        if !roots.last().is_some_and(|root| path.starts_with(root)) {
            roots.push(path.to_owned());
        }
    }
    roots
}

/// Where a path leads.
struct Real {
    path: PathBuf,
    /// The directories of the links on the way.
    links: Vec<PathBuf>,
}

impl Real {
    /// None: to nothing.
    fn of(path: &Path) -> Option<Self> {
        let mut real = Self { path: PathBuf::from("/"), links: Vec::new() };
        let mut ahead: VecDeque<OsString> = path.is_absolute().then(|| parts(path).collect())?;
        while let Some(part) = ahead.pop_front() {
            if part == ".." {
                real.path.pop();
                continue;
            }
            let next = real.path.join(part);
            match fs::read_link(&next) {
                Ok(target) => {
                    real.links.push(real.path.clone());
                    if real.links.len() > LINKS_MAX {
                        return None;
                    }
                    if target.is_absolute() {
                        real.path = PathBuf::from("/");
                    }
                    parts(&target).rev().for_each(|part| ahead.push_front(part));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => real.path = next, // it is no link
                Err(_) => return None,
            }
        }
        Some(real)
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    let told = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(told).map(|part| part.as_os_str().to_owned())
}

/// The repository of a linked worktree, to which its commits go.
///
/// A workspace may say what it likes in its `.git`: it is believed only where that repository names the workspace too,
/// in a place that is the repository's own.
fn common_directory(workspace: &Path) -> Option<PathBuf> {
    let link = workspace.join(".git").canonicalize().ok().filter(|link| link.is_file())?;
    let named = |file: &Path, prefix: &str| {
        let text = fs::read_to_string(file).ok()?;
        let path = text.strip_prefix(prefix)?.trim_end_matches('\n');
        file.parent()?.join(path).canonicalize().ok()
    };
    let own = named(&link, "gitdir: ")?;
    let worktrees = own.parent().filter(|parent| parent.ends_with("worktrees"))?;
    let common = worktrees.parent().filter(|common| common.join("HEAD").is_file())?;
    (named(&own.join("gitdir"), "")? == link).then(|| common.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_linked_worktree_is_believed_where_its_repository_names_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (workspace, common) = (root.join("w"), root.join("repo/.git"));
        let own = common.join("worktrees/w");
        fs::create_dir_all(&workspace).unwrap();
        assert_eq!(common_directory(&workspace), None);
        write(&workspace.join(".git"), &format!("gitdir: {}\n", own.display()));
        assert_eq!(common_directory(&workspace), None);
        write(&common.join("HEAD"), "ref: refs/heads/main\n");
        write(&own.join("gitdir"), &format!("{}\n", root.join("other/.git").display()));
        assert_eq!(common_directory(&workspace), None, "another's worktree");
        write(&own.join("gitdir"), &format!("{}\n", workspace.join(".git").display()));
        assert_eq!(common_directory(&workspace), Some(common.clone()));
        write(&workspace.join(".git"), "gitdir: ../repo/.git/worktrees/w\n");
        assert_eq!(common_directory(&workspace), Some(common));
        // What it made for itself leads nowhere else.
        write(&workspace.join("fake/gitdir"), &format!("{}\n", workspace.join(".git").display()));
        write(&workspace.join("fake/commondir"), "/etc\n");
        write(&workspace.join(".git"), "gitdir: fake\n");
        assert_eq!(common_directory(&workspace), None);
    }

    #[test]
    fn caches_are_where_their_variables_say_and_never_a_whole_home() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let home = root.join("home");
        write(&root.join("bin/go"), "");
        fs::create_dir_all(&home).unwrap();
        let path = |below: &str| root.join(below).display().to_string();
        std::os::unix::fs::symlink(&home, root.join("link")).unwrap();
        let env = [
            ("HOME", path("home")),
            ("PATH", path("bin")),
            ("CARGO_TARGET_DIR", "/".to_owned()),
            ("GOPATH", [path("one"), path("two")].join(":")),
            ("PIP_CACHE_DIR", path("home")),
            ("TMPDIR", path("link")),
            ("UV_CACHE_DIR", "relative".to_owned()),
        ];
        let variable = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        // Of cargo, which is not there, nothing is made.
        let expected = [home.join(".cache"), root.join("one/pkg"), root.join("two/pkg")];
        assert_eq!(caches(&Config::default(), variable), expected);
    }

    #[test]
    fn no_link_is_followed_that_a_command_may_have_put_there() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        for name in ["work/deep", "real", "secret"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        link(&root.join("secret"), "work/venv");
        link(&root.join("work"), "by-work");
        link(Path::new("real"), "cache");
        link(Path::new("loop"), "loop");
        let roots = |names: &[&str]| roots(&names.iter().map(|name| root.join(name)).collect::<Vec<_>>());
        assert_eq!(roots(&["work", "work/venv", "by-work/venv", "work/../work/venv"]), [root.join("work")]);
        assert_eq!(
            roots(&["cache", "real", "work/deep", "work", "missing", "loop"]),
            [root.join("real"), root.join("work")]
        );
        // It is not where commands write, so it is somebody's own.
        assert_eq!(roots(&["work/venv"]), [root.join("secret")]);
    }

    #[test]
    fn zero_is_no_bound() {
        let none = Config { max_processes: 0, ..Config::default() };
        assert_eq!(limits(&none), Limits::default());
        let some = Config { max_processes: 7, max_memory_mb: 2, max_file_mb: u64::MAX, ..Config::default() };
        let expected = Limits { processes: Some(7), memory: Some(2 << 20), file: Some(u64::MAX) };
        assert_eq!(limits(&some), expected);
    }
}
