//! What keeps commands apart from the runtime on this machine, in a word: found out by starting a keeper, because what
//! the kernel allows is known to nobody else.

use std::path::Path;
use std::sync::Arc;

use lakitu_keeper::{Cgroup, Isolation, KeeperError, KeeperSpec, Namespaces, Zygote};
use rustix::process::{Pid, Signal, kill_process};

/// `namespaces`, `user-namespaces` or `none`, with `+cgroup` where commands have one of their own; `unknown` where no
/// keeper comes up, which the first command will say too.
pub(super) async fn words(zygote: &Arc<Zygote>, data: &Path, namespaces: bool) -> String {
    let (zygote, place) = (zygote.clone(), data.join("jobs").join(".probe"));
    match tokio::task::spawn_blocking(move || probe(&zygote, &place, namespaces)).await {
        Ok(Ok(isolation)) => named(&isolation),
        Ok(Err(error)) => {
            tracing::warn!(%error, "no keeper comes up: commands cannot be run");
            "unknown".to_owned()
        }
        Err(_) => "unknown".to_owned(),
    }
}

/// Starts a keeper in a directory that is not there yet, and ends it. Blocks for some milliseconds.
pub(in crate::cli) fn probe(zygote: &Zygote, place: &Path, namespaces: bool) -> Result<Isolation, KeeperError> {
    let spec = KeeperSpec {
        dir: place.to_owned(),
        outputs: place.to_owned(),
        lease_ms: 0,
        hidden: Vec::new(),
        visible: Vec::new(),
        namespaces: if namespaces { Namespaces::Auto } else { Namespaces::Off },
        spool_limit: 1,
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
    match isolation.cgroup {
        Cgroup::Yes => format!("{namespaces}+cgroup"),
        Cgroup::No(_) => namespaces.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_word() {
        let named = |both: bool, user_namespace: bool, cgroup: Cgroup| {
            named(&Isolation { pid_namespace: both, mount_namespace: both, user_namespace, reason: None, cgroup })
        };
        let no = || Cgroup::No("no".to_owned());
        assert_eq!(named(true, false, no()), "namespaces");
        assert_eq!(named(true, true, Cgroup::Yes), "user-namespaces+cgroup");
        assert_eq!(named(false, false, no()), "none");
    }
}
