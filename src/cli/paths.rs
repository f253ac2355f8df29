//! Where things are: flags over configuration over what stands around.

use std::path::{Path, PathBuf};

use lakitu_kernel::config::Config;

use super::Failure;
use super::args::Global;
use crate::session::default_data;

/// The configuration with everything that can be said without a thread.
pub(super) fn config(global: &Global) -> Result<Config, Failure> {
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(Config::load(global.config.as_deref(), env)?)
}

/// The workspace: an existing directory, absolute, without links.
pub(super) fn workspace(flag: Option<&Path>, config: &Config) -> Result<PathBuf, Failure> {
    let asked = flag.or(config.paths.workspace.as_deref()).unwrap_or(Path::new("."));
    let found = asked.canonicalize().map_err(|error| {
        Failure::usage(format!(
            "the workspace {} is not there: {error}. Make it first, or name another with --workspace.",
            asked.display()
        ))
    })?;
    if !found.is_dir() {
        return Err(Failure::usage(format!("the workspace {} is not a directory", found.display())));
    }
    Ok(found)
}

/// The data directory: `--data`, the configuration's, or the workspace's own.
pub(super) fn data(global: &Global, config: &Config, workspace: &Path) -> Result<PathBuf, Failure> {
    let asked = global.data.as_deref().or(config.paths.data.as_deref());
    let data = match asked {
        Some(path) => path.to_owned(),
        None => default_data(workspace, |name| std::env::var_os(name).map(PathBuf::from)),
    };
    plain(&data, "data directory")
}

/// What a person wrote as an absolute path without links, `.` and `..`, whether it is there yet or not: what stands in a
/// thread's settings holds wherever it is resumed, and mounts know no other.
pub(super) fn plain(path: &Path, what: &str) -> Result<PathBuf, Failure> {
    let absolute =
        std::path::absolute(path).map_err(|error| Failure::usage(format!("the {what} {}: {error}", path.display())))?;
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        if component == std::path::Component::ParentDir {
            plain.pop();
        } else {
            plain.push(component);
        }
        if let Ok(found) = plain.canonicalize() {
            plain = found;
        }
    }
    Ok(plain)
}

/// The same of a file that may be put in another's place at any time: of its directory. Where a link in its place leads
/// today says nothing about tomorrow.
pub(super) fn replaced(path: &Path, what: &str) -> Result<PathBuf, Failure> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::usage(format!("the {what} {} is no file", path.display())));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Ok(plain(folder, what)?.join(name))
}

/// The data directory of operators' commands: of the workspace that they stand in, where nothing else is said.
pub(super) fn operators_data(global: &Global) -> Result<PathBuf, Failure> {
    let config = config(global)?;
    let workspace = workspace(None, &config)?;
    data(global, &config, &workspace)
}
