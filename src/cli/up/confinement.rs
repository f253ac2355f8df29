//! What keeps commands apart from the runtime on this machine, in a word: found out by starting a keeper, because what
//! the kernel allows is known to nobody else.

use std::path::Path;
use std::sync::Arc;

use lakitu_keeper::{Cgroup, Confine, Confinement, Isolation, KeeperError, KeeperSpec, Limits, Namespaces, Zygote};
use lakitu_kernel::config::{Config, ConfineCommands};
use rustix::process::{Pid, Signal, kill_process};

/// `namespaces`, `user-namespaces` or `none`, with `+cgroup` where commands have one of their own, and `+landlock`, or
/// `+partly-landlock`, where they are confined; `unknown` where no keeper comes up, which the first command will say too.
pub(super) async fn words(zygote: &Arc<Zygote>, data: &Path, config: &Config) -> String {
    let (zygote, place, config) = (zygote.clone(), data.join("jobs").join(".probe"), config.clone());
    match tokio::task::spawn_blocking(move || probe(&zygote, &place, &config)).await {
        Ok(Ok(isolation)) => named(&isolation),
        Ok(Err(error)) => {
            tracing::warn!(%error, "no keeper comes up: commands cannot be run");
            "unknown".to_owned()
        }
        Err(_) => "unknown".to_owned(),
    }
}

/// Starts a keeper in a directory that is not there yet, and ends it. Blocks for some milliseconds.
pub(in crate::cli) fn probe(zygote: &Zygote, place: &Path, config: &Config) -> Result<Isolation, KeeperError> {
    let spec = KeeperSpec {
        dir: place.to_owned(),
        outputs: place.to_owned(),
        lease_ms: 0,
        hidden: Vec::new(),
        visible: Vec::new(),
        namespaces: if config.keeper.namespaces { Namespaces::Auto } else { Namespaces::Off },
        spool_limit: 1,
        confine: (config.confine.commands != ConfineCommands::Off).then(Confine::default),
        limits: Limits::default(),
    };
    let spawned = zygote.spawn(&spec);
    if let Some(pid) = spawned.as_ref().ok().and_then(|spawned| Pid::from_raw(spawned.pid)) {
        // It waits for a runtime to attach, so it is alive and the number is its own.
        let _ = kill_process(pid, Signal::TERM);
    }
    let _ = std::fs::remove_dir_all(place);
    Ok(spawned?.isolation)
}

fn named(isolation: &Isolation) -> String {
    let namespaces = match (isolation.pid_namespace && isolation.mount_namespace, isolation.user_namespace) {
        (true, false) => "namespaces",
        (true, true) => "user-namespaces",
        (false, _) => "none",
    };
    let cgroup = match isolation.cgroup {
        Cgroup::Yes => "+cgroup",
        Cgroup::No(_) => "",
    };
    let confinement = match isolation.confinement {
        Confinement::Yes => "+landlock",
        Confinement::Partly(_) => "+partly-landlock",
        Confinement::No(_) => "",
    };
    format!("{namespaces}{cgroup}{confinement}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word() {
        let why = || "why".to_owned();
        let named = |both: bool, user_namespace: bool, cgroup: Cgroup, confinement: Confinement| {
            let isolation = Isolation {
                pid_namespace: both,
                mount_namespace: both,
                user_namespace,
                reason: None,
                cgroup,
                confinement,
            };
            named(&isolation)
        };
        let no = || Cgroup::No(why());
        assert_eq!(named(true, false, no(), Confinement::Yes), "namespaces+landlock");
        assert_eq!(named(true, true, Cgroup::Yes, Confinement::No(why())), "user-namespaces+cgroup");
        assert_eq!(named(false, false, Cgroup::Yes, Confinement::Partly(why())), "none+cgroup+partly-landlock");
        assert_eq!(named(false, false, no(), Confinement::No(why())), "none");
    }
}
