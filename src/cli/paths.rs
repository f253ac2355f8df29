//! Where things are: flags over configuration over what stands around.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use lakitu_actors::tools::CATALOGUE;
use lakitu_kernel::config::{Config, ENV_PREFIX};
use lakitu_kernel::{ErrorCode, ToolError};
use rustix::fs::Access;

use super::Failure;
use super::args::Global;
use crate::session::default_data;

/// The configuration with everything that can be said without a thread.
pub(super) fn config(global: &Global) -> Result<Config, Failure> {
    let ours = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes()));
    let text = |(name, value): (OsString, OsString)| {
        let shown = name.to_string_lossy().into_owned();
        let pair = name.into_string().and_then(|name| Ok((name, value.into_string()?)));
        pair.map_err(|_| Failure::usage(format!("the variable {shown} is not text in UTF-8")))
    };
    let env = ours.map(text).collect::<Result<Vec<_>, _>>()?;
    let config = Config::load(global.config.as_deref(), env)?;
    config.policy.check(&CATALOGUE)?;
    Ok(config)
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
        return Err(Failure::usage(format!(
            "the workspace {} is not a directory. Name one with --workspace.",
            found.display()
        )));
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

/// Makes what is missing of both: the data directory for its owner alone, that of artifacts for others to look into.
/// Leaves nothing behind where they cannot both be written to.
pub(super) fn make(data: &Path, artifacts: Option<&Path>) -> Result<(), Failure> {
    let new = !data.exists();
    writable(data, 0o700, "data", "--data")?;
    let made = artifacts.map_or(Ok(()), |artifacts| writable(artifacts, 0o777, "artifacts", "--artifacts"));
    if made.is_err() && new {
        // Only what is empty goes.
        let _ = std::fs::remove_dir(data);
    }
    made
}

fn writable(path: &Path, mode: u32, what: &str, flag: &str) -> Result<(), Failure> {
    let there = DirBuilder::new().recursive(true).mode(mode).create(path);
    // `access` knows of file systems that nobody may write to, root included.
    let usable = there.and_then(|()| Ok(rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK)?));
    usable.map_err(|error| {
        let why = if error.kind() == ErrorKind::AlreadyExists { "it is a file".to_owned() } else { error.to_string() };
        Failure::usage(format!(
            "the {what} directory {} cannot be written to: {why}. Make it writable, or name another with {flag}.",
            path.display()
        ))
    })
}

/// Why a data directory cannot be had, with the directory; of one that another process owns with what to do.
pub(super) fn not_had(data: &Path, error: ToolError) -> ToolError {
    let (data, said) = (data.display(), &error.message);
    let message = match error.code {
        ErrorCode::StoreBusy => format!(
            "{said}: {data}. `lakitu tree` shows what it does. Wait until it ends, or end it, or use a data directory of \
             your own: --data DIR."
        ),
        ErrorCode::StoreFailed => format!("the database in {data} cannot be used: {said}"),
        _ => return error,
    };
    ToolError { message, ..error }
}

/// The data directory of operators' commands: of the workspace that they stand in, where nothing else is said.
pub(super) fn operators_data(global: &Global) -> Result<PathBuf, Failure> {
    let config = config(global)?;
    let workspace = workspace(None, &config)?;
    data(global, &config, &workspace)
}
