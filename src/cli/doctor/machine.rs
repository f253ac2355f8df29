//! What this machine has: of the kernel what everything rests on, and the programs that commands use.

use std::path::PathBuf;

use lakitu_keeper::{Cgroup, Confinement, Isolation, KeeperError, Zygote};
use lakitu_kernel::config::{Config, ConfineCommands};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::{Check, State};
use crate::cli::up::confinement::probe;

/// Where the keeper that is tried has its files. Gone when this is over.
fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("lakitu-doctor-{}", std::process::id()))
}

pub(super) fn checks(config: &Config, zygote: Option<&Zygote>) -> Vec<Check> {
    let beneath = openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH);
    let handle = pidfd_open(getpid(), PidfdFlags::empty());
    let mut checks = vec![
        call(
            "openat2",
            beneath.map(drop),
            "files are opened below the workspace, whatever links do meanwhile",
            "file tools refuse everything without it: Linux 5.6, or a container that lets it through (Docker 20.10)",
        ),
        call(
            "pidfd",
            handle.map(drop),
            "processes are held by a handle that no other can take over",
            "commands cannot be run without it: Linux 5.3, or a container that lets it through",
        ),
    ];
    let wanted = config.keeper.namespaces;
    match zygote.map(|zygote| probe(zygote, &scratch(), config)) {
        Some(Ok(isolation)) => checks.extend([namespaces(&isolation, wanted), cgroup(&isolation.cgroup)]),
        Some(Err(error)) => checks.push(no_keeper(&error)),
        None => {}
    }
    checks.push(confined(config.confine.commands));
    checks.push(program("bash", "commands run under sh; apt-get install bash"));
    checks.push(program("git", "agents look for it in most repositories; apt-get install git"));
    checks
}

/// What a call that a kernel may not have came to.
fn call(name: &'static str, came: Result<(), Errno>, what: &str, fix: &str) -> Check {
    match came {
        Ok(()) => Check::ok(name, what),
        Err(Errno::NOSYS | Errno::PERM) => Check::not(name, State::Missing, "the kernel does not let it through", fix),
        Err(error) => Check::not(name, State::Failed, error.to_string(), fix),
    }
}

fn namespaces(found: &Isolation, wanted: bool) -> Check {
    const NAME: &str = "namespaces";
    let why = |detail: &str| match &found.reason {
        Some(reason) => format!("{detail}: {reason}"),
        None => detail.to_owned(),
    };
    match (found.pid_namespace && found.mount_namespace, found.user_namespace) {
        (true, false) => Check::ok(NAME, "commands see neither other processes nor the data and the keys"),
        (true, true) => Check::not(
            NAME,
            State::Note,
            "commands see neither other processes nor the data and the keys, but sudo does nothing for them",
            "run as root, or with CAP_SYS_ADMIN, if they need sudo",
        ),
        (false, _) if !wanted => Check::not(
            NAME,
            State::Note,
            "switched off: commands see the data, the keys and every process",
            "leave [keeper] namespaces away, or set it to true",
        ),
        // A run works all the same.
        (false, _) => Check::not(
            NAME,
            State::Note,
            why("commands see the data, the keys and every process"),
            "sysctl user.max_user_namespaces over 0; in Docker --security-opt seccomp=unconfined, or --privileged in a VM",
        ),
    }
}

fn cgroup(found: &Cgroup) -> Check {
    match found {
        Cgroup::Yes => Check::ok("cgroup", "commands end at one blow, however they hide"),
        Cgroup::No(reason) => Check::not(
            "cgroup",
            State::Note,
            format!("commands have none of their own: {reason}"),
            "they end by their namespace; for a cgroup as well: systemd-run -p Delegate=yes, or a writable /sys/fs/cgroup",
        ),
    }
}

/// Whether commands write only where they may.
fn confined(wanted: ConfineCommands) -> Check {
    const NAME: &str = "confinement";
    const FIX: &str = "Linux 5.19 confines what commands write, 6.12 what they signal too; in a container, let Landlock's \
                       calls through";
    match (lakitu_keeper::confinement(), wanted) {
        (_, ConfineCommands::Off) => {
            let fix = "leave out [confine] commands = \"off\"";
            Check::not(NAME, State::Note, "switched off: commands write wherever you may", fix)
        }
        (Confinement::Yes, _) => {
            Check::ok(NAME, "commands write only where they may, and signal nobody but each other")
        }
        (Confinement::Partly(reason), _) | (Confinement::No(reason), ConfineCommands::Auto | ConfineCommands::On) => {
            Check::not(NAME, State::Note, reason, FIX)
        }
        (Confinement::No(reason), ConfineCommands::Require) => Check::not(NAME, State::Missing, reason, FIX),
    }
}

fn no_keeper(error: &KeeperError) -> Check {
    Check::not("commands", State::Failed, format!("none can be run: {error}"), "the reason says what is in the way")
}

/// Whether a program is on the path.
fn program(name: &'static str, fix: &str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|place| place.is_file());
    match found {
        Some(place) => Check::ok(name, place.display().to_string()),
        None => Check::not(name, State::Note, "is not on the PATH", fix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_not_there_is_missing_and_one_that_fails_has_failed() {
        let state = |came| call("openat2", came, "works", "fix").state;
        assert_eq!(state(Ok(())), State::Ok);
        assert_eq!(state(Err(Errno::NOSYS)), State::Missing);
        assert_eq!(state(Err(Errno::PERM)), State::Missing);
        assert_eq!(state(Err(Errno::MFILE)), State::Failed);
    }

    #[test]
    fn what_keeps_commands_apart_is_told_by_what_it_means() {
        let found = |both: bool, user_namespace: bool, wanted: bool| {
            let (reason, cgroup) = (Some("why".to_owned()), Cgroup::Yes);
            let confinement = Confinement::Yes;
            let isolation =
                Isolation { pid_namespace: both, mount_namespace: both, user_namespace, reason, cgroup, confinement };
            let Check { state, detail, fix, .. } = namespaces(&isolation, wanted);
            (state, detail.ends_with("why"), fix.is_some())
        };
        assert_eq!(found(true, false, true), (State::Ok, false, false));
        assert_eq!(found(true, true, true), (State::Note, false, true));
        assert_eq!(found(false, false, false), (State::Note, false, true));
        assert_eq!(found(false, false, true), (State::Note, true, true));
        assert_eq!(cgroup(&Cgroup::Yes).state, State::Ok);
        assert_eq!(cgroup(&Cgroup::No("why".to_owned())).state, State::Note);
    }
}
