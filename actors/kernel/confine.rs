//! `[confine]`: where commands may write, and what they may use up.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};

/// Where commands may write, and what they may use up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Confine {
    /// Whether they are confined at all.
    pub commands: ConfineCommands,
    /// Where they may write beside the workspace, the artifacts, temporary files and caches.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub write: Vec<Location>,
    /// Where toolchains keep what they fetch and build, by the program whose it is. A directory that is missing is made
    /// where that program is found; those of `any` always.
    #[serde(deserialize_with = "over_built_in")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, Vec<String>>"))]
    pub caches: BTreeMap<String, Vec<Location>>,
    /// Processes at a time; 0: as many as the runtime may have.
    pub max_processes: u64,
    /// Memory in MiB; 0: as much as the runtime may have.
    pub max_memory_mb: u64,
    /// The length of one file in MiB; 0: as long as the runtime may write it.
    pub max_file_mb: u64,
}

impl Default for Confine {
    fn default() -> Self {
        Self {
            commands: ConfineCommands::Auto,
            write: Vec::new(),
            caches: built_in(),
            max_processes: 8192,
            max_memory_mb: 0,
            max_file_mb: 0,
        }
    }
}

/// Whether commands are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ConfineCommands {
    /// As `On`, but not in `lakitu up`: the sandbox around that is the wall, and a command may install what it needs.
    #[default]
    Auto,
    /// As far as the kernel can; a warning tells where it cannot.
    On,
    /// No.
    Off,
    /// Where the kernel cannot, nothing runs.
    Require,
}

/// The program's name under which caches of many programs stand.
pub const ANY: &str = "any";

/// What `config/lakitu.toml` gives the reasons for.
const CACHES: &[(&str, &[&str])] = &[
    (ANY, &["${XDG_CACHE_HOME:-~/.cache}/"]),
    ("bun", &["${BUN_INSTALL:-~/.bun}/install/cache/"]),
    ("bundle", &["$BUNDLE_PATH/", "~/.bundle/cache/"]),
    (
        "cargo",
        &[
            "$CARGO_TARGET_DIR/",
            "${CARGO_HOME:-~/.cargo}/registry/",
            "${CARGO_HOME:-~/.cargo}/git/",
            "${CARGO_HOME:-~/.cargo}/.package-cache",
            "${CARGO_HOME:-~/.cargo}/.package-cache-mutate",
            "${CARGO_HOME:-~/.cargo}/.global-cache",
        ],
    ),
    ("ccache", &["~/.ccache"]),
    ("dotnet", &["~/.nuget/packages/", "~/.local/share/NuGet/"]),
    ("gem", &["$GEM_HOME/"]),
    ("go", &["${GOPATH:-~/go}/pkg/", "$GOMODCACHE/", "$GOCACHE/"]),
    (
        "gradle",
        &[
            "${GRADLE_USER_HOME:-~/.gradle}/caches/",
            "${GRADLE_USER_HOME:-~/.gradle}/daemon/",
            "${GRADLE_USER_HOME:-~/.gradle}/native/",
            "${GRADLE_USER_HOME:-~/.gradle}/notifications/",
            "${GRADLE_USER_HOME:-~/.gradle}/workers/",
            "${GRADLE_USER_HOME:-~/.gradle}/wrapper/",
            "${GRADLE_USER_HOME:-~/.gradle}/.tmp/",
        ],
    ),
    ("mvn", &["~/.m2/repository/"]),
    ("npm", &["${NPM_CONFIG_CACHE:-~/.npm}/"]),
    ("pip", &["$PIP_CACHE_DIR/", "$VIRTUAL_ENV/"]),
    ("pnpm", &["${PNPM_HOME:-~/.local/share/pnpm}/store/"]),
    ("sbt", &["~/.sbt/boot/", "~/.ivy2/cache/"]),
    ("uv", &["$UV_CACHE_DIR/"]),
    ("yarn", &["$YARN_CACHE_FOLDER/", "~/.yarn/berry/"]),
];

fn built_in() -> BTreeMap<String, Vec<Location>> {
    // A test sees to it that each of them is one.
    let location = |text: &&str| Location::try_from((*text).to_owned()).ok();
    CACHES.iter().map(|(program, texts)| ((*program).to_owned(), texts.iter().filter_map(location).collect())).collect()
}

/// A program that is named gets other caches; those of all others stay.
fn over_built_in<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Vec<Location>>, D::Error> {
    let mut caches = built_in();
    caches.extend(BTreeMap::<String, Vec<Location>>::deserialize(from)?);
    Ok(caches)
}

/// Where something is, on whatever machine: `/PATH`, `~/PATH`, `$VARIABLE/PATH` or `${VARIABLE:-~/PATH}/PATH`. With a `/`
/// at its end it is a directory that may be made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Location {
    base: Base,
    /// Below the base. Without `.` and `..`.
    below: PathBuf,
    directory: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    Root,
    Home,
    /// What a variable says, which may be several paths (`GOPATH`); else a place below the home directory, if one is
    /// named.
    Variable(String, Option<PathBuf>),
}

impl Location {
    /// Where it is for somebody with these variables: absolute paths, none where they do not say it.
    pub fn paths<'a>(&self, variable: impl Fn(&str) -> Option<&'a str>) -> Vec<PathBuf> {
        let home = || variable("HOME").map(PathBuf::from);
        let bases: Vec<PathBuf> = match &self.base {
            Base::Root => vec![PathBuf::from("/")],
            Base::Home => home().into_iter().collect(),
            Base::Variable(name, otherwise) => match (variable(name).filter(|value| !value.is_empty()), otherwise) {
                (Some(value), _) => value.split(':').map(PathBuf::from).collect(),
                (None, Some(below)) => home().map(|home| home.join(below)).into_iter().collect(),
                (None, None) => Vec::new(),
            },
        };
        bases.into_iter().filter(|base| base.is_absolute()).map(|base| base.join(&self.below)).collect()
    }

    /// Whether it is made where it is missing.
    pub fn is_directory(&self) -> bool {
        self.directory
    }
}

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let not = || format!("{text:?} is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${{VARIABLE:-~/PATH}}/PATH");
        let (base, rest) = if let Some(rest) = text.strip_prefix("${") {
            let (inner, rest) = rest.split_once('}').ok_or_else(not)?;
            let (name, below) = inner.split_once(":-~/").ok_or_else(not)?;
            (Base::Variable(name.to_owned(), Some(plain(below).ok_or_else(not)?)), rest)
        } else if let Some(rest) = text.strip_prefix('$') {
            let end = rest.find('/').unwrap_or(rest.len());
            (Base::Variable(rest[..end].to_owned(), None), &rest[end..])
        } else if let Some(rest) = text.strip_prefix('~') {
            (Base::Home, rest)
        } else {
            (Base::Root, text.as_str())
        };
        let named =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if matches!(&base, Base::Variable(name, _) if !named(name)) {
            return Err(not());
        }
        let below = match rest.strip_prefix('/') {
            Some(below) => plain(below).ok_or_else(not)?,
            None if rest.is_empty() && !text.is_empty() => PathBuf::new(),
            None => return Err(not()),
        };
        Ok(Self { base, below, directory: rest.ends_with('/') })
    }
}

/// A relative path that goes down only.
fn plain(path: &str) -> Option<PathBuf> {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_))).then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const HERE: &[(&str, &str)] = &[("HOME", "/home/ada"), ("GOPATH", "/one:/two"), ("EMPTY", ""), ("RELATIVE", "x/y")];

    #[test]
    fn a_place_is_where_the_variables_say_or_nowhere() {
        let variable = |name: &str| HERE.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let said = |text: &str| match Location::try_from(text.to_owned()) {
            Ok(place) => {
                let paths: Vec<_> = place.paths(variable).iter().map(|path| path.display().to_string()).collect();
                let kind = if place.is_directory() { " (made)" } else { "" };
                format!("{text} = {}{kind}", paths.join(" and "))
            }
            Err(error) => error,
        };
        let texts = [
            "/srv/x",
            "/srv/x/",
            "/",
            "~",
            "~/.cache/",
            "$GOPATH/pkg/",
            "$HOME",
            "$EMPTY/x",
            "$MISSING/x",
            "$RELATIVE/x",
            "${GOPATH:-~/go}/bin",
            "${MISSING:-~/go}/bin",
            "",
            "srv",
            "~ada/x",
            "~/../x",
            "/srv/../x",
            "$/x",
            "$A-B/x",
            "${GOPATH}/x",
            "${GOPATH:-/go}/x",
            "${GOPATH:-~/../x}",
            "${GOPATH:-~/go}x",
            "${GOPATH:-~/go",
        ];
        let rows: Vec<String> = texts.into_iter().map(said).collect();
        expect![[r#"
            /srv/x = /srv/x
            /srv/x/ = /srv/x/ (made)
            / = / (made)
            ~ = /home/ada/
            ~/.cache/ = /home/ada/.cache/ (made)
            $GOPATH/pkg/ = /one/pkg/ and /two/pkg/ (made)
            $HOME = /home/ada/
            $EMPTY/x = 
            $MISSING/x = 
            $RELATIVE/x = 
            ${GOPATH:-~/go}/bin = /one/bin and /two/bin
            ${MISSING:-~/go}/bin = /home/ada/go/bin
            "" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "srv" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "~ada/x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "~/../x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "/srv/../x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "$/x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "$A-B/x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "${GOPATH}/x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "${GOPATH:-/go}/x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "${GOPATH:-~/../x}" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "${GOPATH:-~/go}x" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            "${GOPATH:-~/go" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH"#]]
        .assert_eq(&rows.join("\n"));
    }

    #[test]
    fn whoever_names_a_programs_caches_leaves_the_others_alone() {
        let count: usize = CACHES.iter().map(|(_, texts)| texts.len()).sum();
        assert_eq!(Confine::default().caches.values().map(Vec::len).sum::<usize>(), count, "each is a place");
        let read: Confine = toml::from_str("caches.cargo = []\ncaches.zig = [\"~/.zig/\"]").unwrap();
        let mut expected = built_in();
        expected.insert("cargo".to_owned(), Vec::new());
        expected.insert("zig".to_owned(), vec![Location::try_from("~/.zig/".to_owned()).unwrap()]);
        assert_eq!(read.caches, expected);
    }
}
