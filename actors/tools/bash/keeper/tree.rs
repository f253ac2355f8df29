//! Who descends from whom, read from `/proc`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;

use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, kill_process_group, pidfd_open, pidfd_send_signal};

/// An environment larger than this is not searched to its end.
const MAX_ENVIRON: u64 = 1024 * 1024;

/// One live process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    pub(crate) stopped: bool,
    /// In clock ticks since boot: with the pid, who this is, because pids come again.
    pub(crate) started: u64,
}

/// How often a process is looked at again whose parent ended during the look.
const AGAIN: usize = 3;

/// The live descendants of `root`, parents before children. `None`: `/proc` cannot be read, so nobody knows.
pub(crate) fn descendants(root: i32) -> Option<Vec<Process>> {
    let mut all = all()?;
    for _ in 0..AGAIN {
        let pids: HashSet<i32> = all.iter().map(|process| process.pid).chain([0, root]).collect();
        let (kept, orphans): (Vec<_>, Vec<_>) = all.into_iter().partition(|process| pids.contains(&process.parent));
        all = kept;
        if orphans.is_empty() {
            break;
        }
        // By now they have a new parent.
        all.extend(orphans.iter().filter_map(|process| look(process.pid)));
    }
    Some(below(root, all))
}

/// Sorts out those below `root`, parents before children.
fn below(root: i32, all: Vec<Process>) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        next += 1;
        let pid = process.pid;
        found.extend(children.remove(&pid).unwrap_or_default());
    }
    found
}

fn all() -> Option<Vec<Process>> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    Some(pids.filter_map(look).collect())
}

/// One process; `None` when it is dead, which a zombie is too.
fn look(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &stat)
}

/// `pid (any name) S ppid group session …`; the name may hold anything, parentheses too.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
    let state = *fields.first()?;
    let threads = number(17)?;
    // A main thread that ended before the others shows as a zombie too, but the process lives.
    let dead = state == "X" || (state == "Z" && threads <= 1);
    (!dead).then_some(Process {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        stopped: state == "T" || state == "t",
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The value of one variable in the environment a process was executed with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ")).ok()?.take(MAX_ENVIRON).read_to_end(&mut bytes).ok()?;
    let mut entries = bytes.split(|byte| *byte == 0);
    entries.find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// Sends a signal to exactly this process, or to nobody if its number belongs to another by now.
pub(crate) fn send(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // With the handle open the number cannot change hands between this look and the signal.
    if look(process.pid).is_some_and(|now| now.started == process.started) {
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// Kills these, and by their groups also what they fork meanwhile.
pub(crate) fn kill_all(processes: &[Process]) {
    let processes = if only_the_child() { processes.get(..1).unwrap_or_default() } else { processes };
    let ours = getpgrp().as_raw_nonzero().get();
    let groups: HashSet<i32> = processes.iter().map(|process| process.group).collect();
    for group in groups.into_iter().filter(|group| *group != ours && *group > 1) {
        if let Some(group) = Pid::from_raw(group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    for process in processes {
        send(process, Signal::KILL);
    }
}

/// The planted bug of this crate: of a command's processes the first alone is killed.
#[cfg(not(feature = "planted-bugs"))]
const fn only_the_child() -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
fn only_the_child() -> bool {
    std::env::var("LAKITU_PLANTED").is_ok_and(|bug| bug == "only_the_child_killed")
}

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("planted bugs are for tests alone: no build that is optimised may have them");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "processes to kill")]
    fn whoever_left_the_group_is_killed_with_the_others() {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use std::io::{BufRead, BufReader};
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sh")
            .args(["-c", "setsid sh -c 'echo here; exec sleep 1000' & sleep 1000 & wait"])
            .process_group(0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (me, mut family) = (i32::try_from(std::process::id()).unwrap(), Vec::new());
        family.extend(descendants(me).unwrap().into_iter().filter(|process| process.pid == pid));
        family.extend(descendants(pid).unwrap());
        assert!(family.len() >= 2 && family[0].pid == pid, "{family:?}");
        kill_all(&family);
        child.wait().unwrap();
        // The pipe ends with the last who holds it.
        let bound = Timespec { tv_sec: 10, tv_nsec: 0 };
        let dead = poll(&mut [PollFd::new(out.get_ref(), PollFlags::IN)], Some(&bound)).unwrap() > 0;
        for process in &family {
            send(process, Signal::KILL);
        }
        assert!(dead, "somebody lives on");
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the tests themselves, in a process that has the bug")]
    fn the_planted_bug_is_caught() {
        use std::io::Write as _;

        let tests = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("tree::tests::whoever")
            .env("LAKITU_PLANTED", "only_the_child_killed")
            .output()
            .unwrap();
        let caught = tests.status.code() == Some(101);
        let layer = if caught { "process tree" } else { "NOT CAUGHT" };
        // Where a test that passes would keep it to itself.
        let _ = writeln!(std::io::stderr(), "planted {:<32} {layer}", "only_the_child_killed");
        assert!(caught);
    }

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, group: pid, session: pid, stopped: false, started: 1 }
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = b"7 (a) R 1 (b) T 3 5 6 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 99 0";
        let expected = Process { pid: 7, parent: 3, group: 5, session: 6, stopped: true, started: 99 };
        assert_eq!(parse_stat(7, stat), Some(expected));
    }

    #[test]
    fn a_zombie_is_dead_unless_threads_of_it_live() {
        let zombie = |threads: u32| format!("7 (x) Z 3 5 6 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 99 0");
        assert_eq!(parse_stat(7, zombie(1).as_bytes()), None);
        assert!(parse_stat(7, zombie(2).as_bytes()).is_some());
    }

    #[test]
    fn garbage_is_nobody() {
        for stat in [&b""[..], b")", b"7 (x) R", b"7 (x) R a b c"] {
            assert_eq!(parse_stat(7, stat), None);
        }
    }

    #[test]
    fn only_descendants_parents_first() {
        let all = vec![process(9, 4), process(4, 2), process(3, 1), process(2, 1), process(8, 7), process(1, 0)];
        let pids: Vec<i32> = below(2, all).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [4, 9]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process to look at")]
    fn a_real_process_is_found_with_its_variable() {
        let mut child = std::process::Command::new("sleep").arg("60").env("LAKITU_CALL", "12").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let found = descendants(me).unwrap().into_iter().find(|process| process.pid == pid).unwrap();
        assert_eq!(variable(pid, "LAKITU_CALL").as_deref(), Some("12"));
        assert_eq!(variable(pid, "LAKITU"), None);
        send(&Process { started: found.started + 1, ..found }, Signal::KILL);
        assert!(child.try_wait().unwrap().is_none());
        send(&found, Signal::KILL);
        child.wait().unwrap();
    }
}
