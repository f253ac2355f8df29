//! What a keeper is started with, and what came of it.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::{Refusal, RefusalCode};

/// How a keeper is to be set up. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperSpec {
    /// `<data>/jobs/<thread>`: lock, socket, claims and statuses. Made (0700) if missing; always hidden from commands.
    pub dir: PathBuf,
    /// `<data>/outputs/<thread>`: the spools, `<seq>.out`. Made if missing.
    pub outputs: PathBuf,
    /// Without an attached runtime for so long, everything is killed and the keeper ends. 0 means at once.
    /// The first runtime has five seconds at least.
    pub lease_ms: u64,
    /// Files and directories that commands must not see. What does not exist when the keeper starts is not hidden.
    pub hidden: Vec<PathBuf>,
    /// Exceptions below a hidden directory. They must exist, and no link may be on the way to them: commands may have put
    /// it there. One that lies below no hidden directory is as visible as it was.
    pub visible: Vec<Visible>,
    /// Whether to try for namespaces at all.
    pub namespaces: Namespaces,
    /// A call whose output grows beyond this is killed.
    pub spool_limit: u64,
    /// Where commands may write, if that is not left open.
    #[serde(default)]
    pub confine: Option<Confine>,
    /// What commands may use up.
    #[serde(default)]
    pub limits: Limits,
}

/// Where commands may write: nowhere but there and to the usual devices. They then reach no process and no abstract
/// socket but their own keeper's commands', and gain no rights by executing programs (`sudo`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confine {
    /// Files, and directories with everything below them. What does not exist when the keeper starts, or is reached
    /// through links only, is left out.
    pub write: Vec<PathBuf>,
    /// Without support of the kernel there is no keeper, in place of one that does not confine.
    #[serde(default)]
    pub required: bool,
}

/// What commands may use up; none: as much as the runtime may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Processes at a time: of all commands in their cgroup, else of their user. It does not bind root without a cgroup.
    pub processes: Option<u64>,
    /// Bytes of memory: of all commands in their cgroup, else of addresses, by each process.
    pub memory: Option<u64>,
    /// The length of a file in bytes, by each process.
    pub file: Option<u64>,
}

/// A path below a hidden directory that commands do see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visible {
    /// A file or directory.
    pub path: PathBuf,
    /// Whether commands may only read it.
    pub read_only: bool,
}

/// Whether commands get PID and mount namespaces of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespaces {
    /// As much as the kernel allows; [`Isolation`] tells how much that was.
    Auto,
    /// None: nothing is hidden.
    Off,
}

/// What keeps a keeper's commands apart from the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Commands see no process but their own kind, and none outlives the keeper.
    pub pid_namespace: bool,
    /// The hidden paths are hidden.
    pub mount_namespace: bool,
    /// It took a user namespace: `sudo` and setuid programs do not work.
    pub user_namespace: bool,
    /// Why it is not more, if it is not.
    pub reason: Option<String>,
    /// Whether commands live in a cgroup of their own.
    #[serde(default)]
    pub cgroup: Cgroup,
    /// Whether commands write only where they may, and reach no stranger.
    #[serde(default)]
    pub confinement: Confinement,
}

/// Whether commands write only where they may, and signal nobody but each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// They do.
    Yes,
    /// But for what this kernel cannot hold off.
    Partly(String),
    /// They do not, for this reason.
    No(String),
}

impl Default for Confinement {
    fn default() -> Self {
        Self::No("the keeper does not say".to_owned())
    }
}

/// For an operator: `yes`, or what is missing.
impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => write!(f, "yes"),
            Self::Partly(reason) => write!(f, "partly ({reason})"),
            Self::No(reason) => write!(f, "no ({reason})"),
        }
    }
}

/// Whether a keeper's commands live in a cgroup of their own, which makes their end certain without a PID namespace too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroup {
    /// They are born in it.
    Yes,
    /// They are where the runtime is, for this reason.
    No(String),
}

impl Default for Cgroup {
    fn default() -> Self {
        Self::No("the keeper does not say".to_owned())
    }
}

/// For an operator: `namespaces: yes; cgroup: no (why); confined: yes`.
impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespaces = match (self.pid_namespace && self.mount_namespace, self.user_namespace) {
            (true, false) => "yes",
            (true, true) => "yes, in a user namespace",
            (false, _) => "no",
        };
        write!(f, "namespaces: {namespaces}")?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        match &self.cgroup {
            Cgroup::Yes => write!(f, "; cgroup: yes")?,
            Cgroup::No(reason) => write!(f, "; cgroup: no ({reason})")?,
        }
        write!(f, "; confined: {}", self.confinement)
    }
}

/// A keeper that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// Its process, as the runtime sees it.
    pub pid: i32,
    /// What it achieved.
    pub isolation: Isolation,
}

/// What came of asking for a keeper: `{"ok": …}` or `{"error": …}`, the one line that the helper executable prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnOutcome {
    /// It listens.
    Ok(Spawned),
    /// There is none, for this reason.
    Error(Refusal),
}

impl From<Result<Spawned, Refusal>> for SpawnOutcome {
    fn from(result: Result<Spawned, Refusal>) -> Self {
        match result {
            Ok(spawned) => Self::Ok(spawned),
            Err(refusal) => Self::Error(refusal),
        }
    }
}

impl KeeperSpec {
    /// Refuses what could not work or would mean something else than it says.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let writable = self.confine.iter().flat_map(|confine| &confine.write);
        let paths = [&self.dir, &self.outputs].into_iter().chain(writable);
        for path in paths.chain(&self.hidden).chain(self.visible.iter().map(|visible| &visible.path)) {
            check_path(path)?;
        }
        if self.hidden.iter().any(|path| path.parent().is_none()) {
            return Err(Refusal::new(RefusalCode::BadSpec, "the root directory cannot be hidden"));
        }
        if self.spool_limit == 0 {
            return Err(Refusal::new(RefusalCode::BadSpec, "spool_limit is 0"));
        }
        Ok(())
    }
}

fn check_path(path: &Path) -> Result<(), Refusal> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let nul = path.as_os_str().as_encoded_bytes().contains(&0);
    if path.is_absolute() && plain && !nul {
        return Ok(());
    }
    Err(Refusal::new(RefusalCode::BadSpec, format!("not a plain absolute path: {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> KeeperSpec {
        KeeperSpec {
            dir: "/data/jobs/t".into(),
            outputs: "/data/outputs/t".into(),
            lease_ms: 1000,
            hidden: vec!["/data".into()],
            visible: vec![Visible { path: "/data/outputs".into(), read_only: true }],
            namespaces: Namespaces::Auto,
            spool_limit: 1,
            confine: None,
            limits: Limits::default(),
        }
    }

    #[test]
    fn isolation_is_told_in_words() {
        let whole = Isolation {
            pid_namespace: true,
            mount_namespace: true,
            user_namespace: false,
            reason: None,
            cgroup: Cgroup::Yes,
            confinement: Confinement::Yes,
        };
        assert_eq!(whole.to_string(), "namespaces: yes; cgroup: yes; confined: yes");
        let mapped = Isolation { user_namespace: true, reason: Some("no capability".to_owned()), ..whole.clone() };
        assert_eq!(
            mapped.to_string(),
            "namespaces: yes, in a user namespace (no capability); cgroup: yes; confined: yes"
        );
        let cgroup = Cgroup::No("read-only".to_owned());
        let confinement = Confinement::No("too old".to_owned());
        let none = Isolation { pid_namespace: false, mount_namespace: false, cgroup, confinement, ..whole };
        assert_eq!(none.to_string(), "namespaces: no; cgroup: no (read-only); confined: no (too old)");
    }

    #[test]
    fn a_spec_must_make_sense() {
        assert_eq!(spec().check(), Ok(()));
        let refused = [
            KeeperSpec { dir: "jobs".into(), ..spec() },
            KeeperSpec { outputs: "/data/../outputs".into(), ..spec() },
            KeeperSpec { hidden: vec!["/".into()], ..spec() },
            KeeperSpec { hidden: vec!["/a\0b".into()], ..spec() },
            KeeperSpec { spool_limit: 0, ..spec() },
            KeeperSpec { confine: Some(Confine { write: vec!["work".into()], required: false }), ..spec() },
        ];
        for spec in refused {
            assert_eq!(spec.check().map_err(|refusal| refusal.code), Err(RefusalCode::BadSpec), "{spec:?}");
        }
    }
}
