//! What commands must not see beside the data directory: the files of tokens and keys.

use std::path::{Path, PathBuf};

use lakitu_kernel::config::Config;

use super::{Failure, paths};
use crate::adapters::{Cover, TokenFile};

/// Files and directories that are hidden from commands, whether or not they are read this time.
pub(super) struct Hidden {
    pub(super) paths: Vec<PathBuf>,
    token: Option<Token>,
}

struct Token {
    path: PathBuf,
    /// Whether it stays hidden when somebody else replaces it while commands run.
    always: bool,
}

impl Hidden {
    /// Looks, and changes nothing. `needed`: what commands must see, beside the home and the temporary directories.
    pub(super) fn of(
        token_file: Option<&Path>,
        config: &Config,
        data: Option<&Path>,
        needed: &[&Path],
    ) -> Result<Self, Failure> {
        let homes = ["HOME", "TMPDIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let mut needed: Vec<PathBuf> = needed.iter().map(|path| path.to_path_buf()).chain(homes).collect();
        needed.extend(["/tmp", "/var/tmp"].map(PathBuf::from));
        needed.extend(std::env::current_dir());
        needed.extend(data.map(Path::to_owned));
        let mut hidden = Self { paths: Vec::new(), token: None };
        if let Some(path) = token_file.or(config.gateway.token_file.as_deref()) {
            let path = paths::replaced(path, "token file")?;
            let cover = Cover::of(&path, &needed);
            let always = cover.whole || data.is_some_and(|data| path.parent() == Some(data));
            hidden.paths.extend(cover.paths);
            hidden.token = Some(Token { path, always });
        }
        if let Some(path) = config.api.key_file.as_deref() {
            hidden.paths.extend(Cover::of(&paths::replaced(path, "API's key file")?, &needed).paths);
        }
        Ok(hidden)
    }

    /// Makes it possible to replace the token. To be called before it is read, and before a keeper is started.
    pub(super) fn prepare(&self) {
        if let Some(token) = &self.token {
            TokenFile::prepare(&token.path);
        }
    }

    /// The file of a token that commands see when somebody else replaces it while they run.
    pub(super) fn seen_when_replaced(&self) -> Option<&Path> {
        self.token.as_ref().filter(|token| !token.always).map(|token| token.path.as_path())
    }

    /// The file of the token.
    pub(super) fn token(&self) -> Option<&Path> {
        self.token.as_ref().map(|token| token.path.as_path())
    }
}
