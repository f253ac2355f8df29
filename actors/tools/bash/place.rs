//! Where a command runs, and with which shell.

use std::path::{Path, PathBuf};

use lakitu_kernel::{ErrorCode, ToolError};

/// The directory `cwd` of the workspace, absolute.
///
/// Not a border: a command can `cd` anywhere it is allowed to look. It keeps a slip of the model from being run elsewhere.
pub(super) fn directory(workspace: &Path, cwd: Option<&str>) -> Result<PathBuf, ToolError> {
    let root = workspace.canonicalize().map_err(|error| {
        ToolError::new(
            ErrorCode::FileNotFound,
            format!("the workspace {} cannot be reached: {error}", workspace.display()),
        )
    })?;
    let Some(cwd) = cwd.filter(|cwd| !cwd.is_empty()) else { return Ok(root) };
    // An absolute path replaces the root it is joined to.
    let directory = root.join(cwd).canonicalize().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let message = format!("cwd {cwd:?} does not exist; make it first, or leave cwd out");
            return ToolError::new(ErrorCode::FileNotFound, message);
        }
        ToolError::new(ErrorCode::PermissionDenied, format!("cwd {cwd:?} cannot be reached: {error}"))
    })?;
    if !directory.starts_with(&root) {
        return Err(ToolError::new(
            ErrorCode::PermissionDenied,
            format!("cwd {cwd:?} is outside the workspace {}", root.display()),
        ));
    }
    if !directory.is_dir() {
        return Err(ToolError::new(ErrorCode::InvalidArguments, format!("cwd {cwd:?} is not a directory")));
    }
    Ok(directory)
}

/// `bash` by its whole path, or `sh` where the `PATH` of `env` has none.
pub(super) fn shell(env: &[(String, String)]) -> String {
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let mut places =
        path.split(':').filter(|directory| !directory.is_empty()).map(|directory| Path::new(directory).join("bash"));
    places.find(|place| place.is_file()).map_or_else(|| "sh".to_owned(), |place| place.display().to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_command_runs_inside_the_workspace_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap().join("w");
        std::fs::create_dir_all(root.join("src/deep")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", root.join("out")).unwrap();
        std::os::unix::fs::symlink("src", root.join("in")).unwrap();
        let inside = root.join("src").display().to_string();
        let rows = ["", "src/deep", "./src/..", inside.as_str(), "in", "out", "..", "/", "file", "nowhere", "file/x"];
        let told: Vec<_> = [None]
            .into_iter()
            .chain(rows.map(Some))
            .map(|cwd| directory(&root, cwd).map_or_else(|error| error.to_string(), |path| path.display().to_string()))
            .map(|told| told.replace(&root.display().to_string(), "W"))
            .collect();
        expect![[r#"
            W
            W
            W/src/deep
            W
            W/src
            W/src
            PERMISSION_DENIED: cwd "out" is outside the workspace W
            PERMISSION_DENIED: cwd ".." is outside the workspace W
            PERMISSION_DENIED: cwd "/" is outside the workspace W
            INVALID_ARGUMENTS: cwd "file" is not a directory
            FILE_NOT_FOUND: cwd "nowhere" does not exist; make it first, or leave cwd out
            PERMISSION_DENIED: cwd "file/x" cannot be reached: Not a directory (os error 20)"#]]
        .assert_eq(&told.join("\n"));
        assert!(directory(&root.join("gone"), None).unwrap_err().to_string().contains("workspace"));
    }

    #[test]
    fn without_bash_it_is_sh() {
        let home = tempfile::tempdir().unwrap();
        let env = [("PATH".to_owned(), format!("/nowhere:{}", home.path().display()))];
        assert_eq!(shell(&env), "sh");
        std::fs::write(home.path().join("bash"), "").unwrap();
        assert!(shell(&env).ends_with("/bash"), "{}", shell(&env));
        assert_eq!(shell(&[]), "sh");
    }
}
