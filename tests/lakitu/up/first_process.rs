//! As the first process of a PID namespace, which is what a sandbox's entrypoint is.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Up, until};
use crate::harness::Fifo;

/// The children of a process, whatever they do.
pub(super) fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        if fields.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

/// What stands before a command that is to be the first process of a namespace; nothing where the kernel, or the lack
/// of `unshare`, allows none.
fn namespace() -> Option<Vec<&'static str>> {
    let ways = [vec!["unshare", "-pf", "--mount-proc"], vec!["unshare", "-rpf", "--mount-proc"]];
    ways.into_iter().find(|way| {
        let tried = Command::new(way[0]).args(&way[1..]).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

#[test]
fn it_reaps_orphans_outlives_its_terminal_and_ends_in_order() {
    let Some(namespace) = namespace() else {
        eprintln!("no PID namespace can be made here (or there is no `unshare`): nothing of this can be tested");
        return;
    };
    let binary = super::binary();
    let gate = Fifo::new(&binary.workspace(), "gate");
    let script = binary.script(&crate::harness::Script::new().runs("echo hello").says("Done."));
    // Two processes that outlive their parent, from before `up`; then `up` in the place of the shell.
    let entry = "sh -c '(read -r _ < gate; echo gone > left) & (trap \"echo told > told; exit\" TERM; sleep 1000 & wait) & exit 0'; \
                 exec \"$@\"";
    let mut before = namespace;
    before.extend(["sh", "-c", entry, "sh"]);
    let mut process = binary.begin_in(&before, &super::up(&binary, &["--script", &script]));
    let ready = process.line();
    assert!(ready.contains(" pid=1 "), "{ready:?}: {:?}", process.end());
    let up = Up { process, ready };
    let init = children_of(i32::try_from(up.process.pid()).unwrap());
    let [init] = init[..] else { panic!("{init:?} below `unshare`") };
    let orphans = |count: usize| until("orphans are reaped", || children_of(init).len() == count);
    // The zygote, the one that waits for the gate, and the one that waits to be told.
    orphans(3);
    kill_process(Pid::from_raw(init).unwrap(), Signal::HUP).unwrap();
    let ran = binary.run(&["run", "hello"]);
    assert_eq!((ran.exit, ran.out.as_str()), (0, "Done.\n"), "{ran:?}");
    tokio::runtime::Runtime::new().unwrap().block_on(gate.reached()).open();
    orphans(2);
    assert_eq!(binary.home.read("left"), "gone\n");
    kill_process(Pid::from_raw(init).unwrap(), Signal::TERM).unwrap();
    let ran = up.process.end();
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{ran:?}");
    // With the first process the others end too, and are told before.
    assert_eq!(binary.home.read("told"), "told\n");
}
