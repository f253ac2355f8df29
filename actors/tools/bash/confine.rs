//! Where confined commands may write, and what commands may use up: the workspace, the artifacts, temporary files, the
//! caches of toolchains, the repository of a linked worktree, and what the configuration adds.

use std::fs;
use std::path::{Path, PathBuf};

use lakitu_keeper::{Confine, Limits};
use lakitu_kernel::config::{Confine as Config, ConfineCommands};
use lakitu_kernel::{ErrorCode, ToolError};

use crate::tools::Place;

const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Where a toolchain keeps what it fetches, builds and installs for its user.
struct Cache {
    /// The program that makes it. Where there is one and the directory is missing, it is made: only what exists can be
    /// written to. Empty: it is made for all of them.
    program: &'static str,
    /// The variable that names it.
    variable: &'static str,
    /// Below the home directory, where no variable names it. Empty: then it is below another of these.
    home: &'static str,
}

const fn cache(program: &'static str, variable: &'static str, home: &'static str) -> Cache {
    Cache { program, variable, home }
}

/// Not all of `~/.local`: its `state` holds the data of other runs.
const CACHES: [Cache; 24] = [
    cache("", "XDG_CACHE_HOME", ".cache"),
    cache("bundle", "BUNDLE_PATH", ".bundle"),
    cache("bun", "BUN_INSTALL", ".bun"),
    cache("cargo", "CARGO_HOME", ".cargo"),
    cache("cargo", "CARGO_TARGET_DIR", ""),
    cache("dotnet", "", ".dotnet"),
    cache("dotnet", "", ".nuget"),
    cache("gem", "GEM_HOME", ".gem"),
    cache("go", "GOCACHE", ""),
    cache("go", "GOMODCACHE", ""),
    cache("go", "GOPATH", "go"),
    cache("gradle", "GRADLE_USER_HOME", ".gradle"),
    cache("mvn", "", ".m2"),
    cache("npm", "NPM_CONFIG_CACHE", ".npm"),
    cache("npm", "npm_config_cache", ""),
    cache("pip", "PIP_CACHE_DIR", ""),
    cache("pip", "VIRTUAL_ENV", ""),
    cache("pip", "", ".local/bin"),
    cache("pip", "", ".local/lib"),
    cache("pip", "", ".local/share"),
    cache("pnpm", "PNPM_HOME", ".local/share/pnpm"),
    cache("sbt", "", ".sbt"),
    cache("uv", "UV_CACHE_DIR", ""),
    cache("yarn", "YARN_CACHE_FOLDER", ".yarn"),
];

/// What a keeper is told; none: commands write wherever their user may.
pub(super) fn of_commands(config: &Config, place: &Place, env: &[(String, String)]) -> Option<Confine> {
    let required = match config.commands {
        ConfineCommands::Off => return None,
        ConfineCommands::On => false,
        ConfineCommands::Require => true,
    };
    let variable = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut wanted = vec![place.workspace.clone(), place.artifacts.clone()];
    wanted.extend(TEMPORARY.iter().chain(&variable("TMPDIR")).map(PathBuf::from));
    wanted.extend(caches(variable));
    wanted.extend(common_directory(&place.workspace));
    wanted.extend(config.write.iter().cloned());
    // Plain, as a keeper wants them; what is not there cannot be written to.
    let mut write: Vec<PathBuf> = wanted.iter().filter_map(|path| path.canonicalize().ok()).collect();
    write.sort();
    write.dedup();
    Some(Confine { write, required })
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

/// What a call is answered with where no command may run.
pub(super) fn refused(reason: &str) -> ToolError {
    ToolError::new(
        ErrorCode::NotConfined,
        format!(
            "[confine] commands = \"require\", and commands cannot be confined here: {reason}. Nothing was started"
        ),
    )
}

/// Those that exist, and those that are made now.
fn caches<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
    let home = variable("HOME").map(Path::new).filter(|home| home.is_absolute() && home.is_dir());
    let search: Vec<&Path> = variable("PATH").unwrap_or_default().split(':').map(Path::new).collect();
    let has = |program: &str| program.is_empty() || search.iter().any(|folder| folder.join(program).exists());
    let mut found = Vec::new();
    for cache in &CACHES {
        let named = variable(cache.variable).unwrap_or_default().split(':').filter(|path| !path.is_empty());
        let mut paths: Vec<PathBuf> = named.map(PathBuf::from).collect();
        if paths.is_empty() && !cache.home.is_empty() {
            paths.extend(home.map(|home| home.join(cache.home)));
        }
        // A cache that holds the whole home, or more, is none.
        let sound = |path: &PathBuf| path.is_absolute() && home.is_none_or(|home| !home.starts_with(path));
        for path in paths.into_iter().filter(sound) {
            if !path.exists() && has(cache.program) {
                let _ = fs::create_dir_all(&path); // whoever wants to write there is told why not
            }
            found.push(path);
        }
    }
    found
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
        let home = root.path().join("home");
        write(&root.path().join("bin/go"), "");
        fs::create_dir_all(&home).unwrap();
        let path = |below: &str| root.path().join(below).display().to_string();
        let env = [
            ("HOME", path("home")),
            ("PATH", path("bin")),
            ("CARGO_HOME", "/".to_owned()),
            ("GOPATH", [path("one"), path("two")].join(":")),
            ("GRADLE_USER_HOME", path("home")),
            ("UV_CACHE_DIR", "relative".to_owned()),
        ];
        let found = caches(|name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()));
        let made: Vec<_> = found.iter().filter(|path| path.exists()).collect();
        assert_eq!(made, [&home.join(".cache"), &root.path().join("one"), &root.path().join("two")]);
        let beside = |path: &&PathBuf| !path.starts_with(root.path()) || **path == home;
        assert_eq!(found.iter().filter(beside).count(), 0, "{found:?}");
    }

    #[test]
    fn zero_is_no_bound() {
        assert_eq!(limits(&Config::default()), Limits::default());
        let some = Config { max_processes: 7, max_memory_mb: 2, max_file_mb: u64::MAX, ..Config::default() };
        let expected = Limits { processes: Some(7), memory: Some(2 << 20), file: Some(u64::MAX) };
        assert_eq!(limits(&some), expected);
    }
}
