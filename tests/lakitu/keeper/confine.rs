//! Where commands may write, whom they reach, and what they may use up.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use lakitu_keeper::protocol::{Call, Cause, Exit, Start};
use lakitu_keeper::{Client, Confine, Confinement, KeeperSpec, Limits, Namespaces, SpawnOutcome};

use super::scene::{BOTH, Home, exited, gone, jobs};

/// A keeper whose commands write to the workspace alone; `None` where the kernel cannot confine, which it must say.
fn confined(home: &mut Home, namespaces: Namespaces) -> Option<Client> {
    let write = vec![home.work(), home.root.path().join("listed"), home.root.path().join("not-there")];
    fs::write(home.root.path().join("listed"), "").unwrap();
    fs::write(home.root.path().join("there"), "as it was").unwrap();
    let spec = KeeperSpec { confine: Some(Confine { write, required: false }), ..home.spec(namespaces) };
    let (client, spawned) = home.keeper_as(&spec);
    assert_eq!(spawned.isolation.confinement, lakitu_keeper::confinement());
    match spawned.isolation.confinement {
        Confinement::Yes => Some(client),
        Confinement::Partly(why) | Confinement::No(why) => {
            eprintln!("left out, because commands are not confined here: {why}");
            None
        }
    }
}

/// Each of these would leave a trace outside the workspace.
const OUTSIDE: [&str; 17] = [
    "echo x >../new",
    "echo x >>../there",
    "echo x >there-by-link",
    "truncate -s 0 ../there",
    "mkdir ../new",
    "mkfifo ../new",
    "ln -s there ../new",
    "ln ../there here && echo x >here",
    "rm ../there",
    "mv ../there .",
    "touch inside; mv inside ../new",
    "touch inside; ln inside ../new",
    "cd ..; echo x >work/../new",
    "echo x >/proc/self/root$PWD/../new",
    "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"../new\")'",
    "mknod null c 1 3 && echo made >null",
    "echo 0 >/proc/self/oom_score_adj",
];

/// Each of these works.
const INSIDE: [&str; 14] = [
    "echo x >../listed",
    "mkdir -p a/b c && echo x >a/b/file && mv a/b/file c/ && ln c/file a/hard && ln -s ../c/file a/soft && cat a/soft a/hard",
    "truncate -s 100 c/file && rm -r c/file a/b && mkfifo fifo",
    "echo x >/dev/null && echo x >/dev/stdout && echo x >/dev/stderr",
    "cat ../there <(echo by a pipe) | tee >(cat >piped)",
    "file=$(mktemp -p /dev/shm) && echo x >$file && rm $file",
    "head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; echo x 2>/dev/zero",
    "test $(cat /proc/self/oom_score_adj) = 500",
    "grep -q 'NoNewPrivs:.1' /proc/self/status",
    "script -qec 'tty; stty size' /dev/null",
    "chmod 600 a && chmod 700 a && touch -d yesterday a",
    "git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one && git gc -q",
    "cp -r repo copy && rm -rf repo copy",
    "test $(ulimit -Sn) -le 65536 && test $(ulimit -c) = 0",
];

#[test]
fn commands_write_where_they_may_and_nowhere_else() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let Some(mut client) = confined(&mut home, namespaces) else { return };
        std::os::unix::fs::symlink("../there", home.work().join("there-by-link")).unwrap();
        for (seq, script) in (1..).zip(OUTSIDE) {
            let status = home.run(&mut client, seq, script);
            let output = home.output(seq);
            assert_ne!(status.end.exit, Some(Exit::Code(0)), "{script}: {output}");
            let refused = ["Permission denied", "not permitted", "Invalid cross-device link", "PermissionError"];
            assert!(refused.iter().any(|word| output.contains(word)), "{script}: {output}");
            assert!(!home.root.path().join("new").exists(), "{script}");
            assert_eq!(fs::read_to_string(home.root.path().join("there")).unwrap(), "as it was", "{script}");
        }
        for (seq, script) in (101..).zip(INSIDE) {
            let status = home.run(&mut client, seq, script);
            assert_eq!(status.end.exit, Some(Exit::Code(0)), "{script}: {}", home.output(seq));
        }
    }
}

/// Ways to more rights, or to other programs than those that were meant. Each puts out nothing.
const HOSTILE: [&str; 8] = [
    "command -v sudo >/dev/null && sudo -n id 2>/dev/null",
    "unshare -r id 2>/dev/null",
    "cp $(command -v id) suid && chmod u+s suid && grep -q 'NoNewPrivs:.0' /proc/self/status && ./suid",
    "cat /proc/$PPID/environ /proc/$PPID/mem 2>/dev/null",
    "gdb -p $PPID -batch 2>/dev/null | grep -i thread",
    "printf '#!/bin/sh\\necho a file of the workspace' >ls && chmod +x ls && PATH=.:$PATH bash -c 'env -i ls' | grep 'of the'",
    "/bin/true {1..1000000} 2>/dev/null && echo ran",
    "echo 'echo sourced' >.env; BASH_ENV= bash -c :",
];

#[test]
fn no_command_gains_rights() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let Some(mut client) = confined(&mut home, namespaces) else { return };
        for (seq, script) in (1..).zip(HOSTILE) {
            home.run(&mut client, seq, script);
            assert_eq!(home.output(seq), "", "{script}");
        }
    }
}

#[test]
fn commands_signal_nobody_but_each_other() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let Some(mut client) = confined(&mut home, namespaces) else { return };
        let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
        let server = "python3 -c 'import signal; signal.pause()' >/dev/null & echo $! >server";
        home.run(&mut client, 1, server);
        // A later command ends and looks into what an earlier one started: they are in one domain.
        let looks = "readlink /proc/$(<server)/exe && tr '\\0' ' ' </proc/$(<server)/environ | grep -o LAKITU_CALL=1";
        assert_eq!(home.run(&mut client, 2, looks).end.exit, Some(Exit::Code(0)), "{}", home.output(2));
        home.run(&mut client, 3, "kill -9 $(<server); while kill -0 $(<server) 2>/dev/null; do :; done");

        let strangers = [stranger.id(), std::process::id(), home.helpers.last().unwrap().id()];
        for (seq, pid) in (4..).zip(strangers) {
            let status = home.run(&mut client, seq, &format!("kill -0 {pid}"));
            assert_eq!(status.end.exit, Some(Exit::Code(1)), "{}", home.output(seq));
        }
        for (seq, kill) in
            (10..).zip(["kill -9 $PPID; kill -TERM $PPID; true", "kill -9 -1; true", "kill -9 -$PPID; true"])
        {
            home.run(&mut client, seq, kill);
        }
        let status = home.run(&mut client, 20, "echo the keeper lives");
        assert_eq!(status.end.exit, Some(Exit::Code(0)), "{}", home.output(20));
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert_eq!(jobs(&mut client), []);
    }
}

#[test]
fn every_start_is_answered_however_quick_the_command() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
    for seq in 1..=300 {
        let start = Start { argv: vec!["/bin/true".into()], ..home.bash(seq, "") };
        client.request(Call::Start(start)).unwrap();
        exited(&mut client, seq);
    }
}

#[test]
fn commands_reach_no_strangers_abstract_socket() {
    let name = format!("lakitu-test-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let connect = |name: &str| {
        format!(
            "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"\\0{name}\"); print(\"connected\")' 2>&1"
        )
    };
    for namespaces in BOTH {
        let mut home = Home::new();
        let Some(mut client) = confined(&mut home, namespaces) else { return };
        home.run(&mut client, 1, &connect(&name));
        assert!(home.output(1).contains("PermissionError"), "{}", home.output(1));
        let own = format!(
            "python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind(\"\\0{name}-own\"); s.listen(); open(\"up\", \"w\"); s.accept()' & \
             until test -e up; do :; done; {}",
            connect(&format!("{name}-own"))
        );
        home.run(&mut client, 2, &own);
        assert!(home.output(2).contains("connected"), "{}", home.output(2));
        home.run(
            &mut client,
            3,
            "python3 -c 'import socket; a, b = socket.socketpair(); a.send(b\"x\"); print(b.recv(1))'",
        );
        assert!(home.output(3).contains("b'x'"), "{}", home.output(3));
    }
    // Without confinement it is reached: it is there.
    let mut home = Home::new();
    let (mut client, spawned) = home.keeper(Namespaces::Auto);
    assert_eq!(spawned.isolation.confinement, Confinement::No("switched off".to_owned()));
    home.run(&mut client, 1, &connect(&name));
    assert_eq!(home.output(1), "connected\n");
    drop(listener);
}

/// As a user without any rights, who alone is bound in the number of processes.
fn bounded(home: &mut Home, namespaces: Namespaces, limits: Limits) -> Option<Client> {
    let spec = KeeperSpec { limits, ..home.spec(namespaces) };
    if !rustix::process::geteuid().is_root() {
        return Some(home.keeper_as(&spec).0);
    }
    let user = 54_321 + u32::from(namespaces == Namespaces::Auto);
    fs::set_permissions(home.root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = home.root.path().join("helper");
    fs::copy(env!("CARGO_BIN_EXE_lakitu-keeper"), &program).unwrap();
    for path in [home.root.path().to_owned(), home.work()] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    }
    let mut helper = Command::new(&program);
    helper.uid(user).gid(user).current_dir("/");
    match home.spawn_by(helper, &spec) {
        SpawnOutcome::Ok(_) => Some(home.attach()),
        SpawnOutcome::Error(refusal) => panic!("{refusal}"),
    }
}

/// The shell would try again for a minute.
const FORKS: &str = "python3 -c 'import os,signal
pids = [os.fork() or signal.pause() for _ in range(20)]
print(len(pids), \"forked\")
[os.kill(pid, 9) for pid in pids]'";
const FORKS_MORE: &str = "python3 -c 'import os,signal
pids = []
try:
    while len(pids) < 100: pids.append(os.fork() or signal.pause())
except BlockingIOError as error: print(\"refused\", repr(error))
[os.kill(pid, 9) for pid in pids]'";

#[test]
fn what_commands_use_up_has_bounds() {
    let limits = Limits { processes: Some(40), memory: Some(512 << 20), file: Some(1 << 20) };
    let rows = [
        ("head -c 1048576 /dev/zero >file; stat -c %s file", "1048576\n", ""),
        ("head -c 1048577 /dev/zero >file; echo $?; stat -c %s file", "153\n1048576\n", "File size limit"),
        ("python3 -c 'print(len(bytearray(100 << 20)))'", "104857600\n", ""),
        ("python3 -c 'print(len(bytearray(600 << 20)))'", "", "MemoryError"),
        (FORKS, "20 forked", ""),
        (FORKS_MORE, "refused", "BlockingIOError"),
    ];
    for namespaces in BOTH {
        let mut home = Home::new();
        let Some(mut client) = bounded(&mut home, namespaces, limits) else { return };
        for (seq, (script, begins, holds)) in (1..).zip(rows) {
            home.run(&mut client, seq, script);
            let output = home.output(seq);
            assert!(output.contains(begins) && output.contains(holds), "{script}: {output}");
            client.request(Call::Kill { seq }).ok();
        }
        // A bound is not lifted again.
        home.run(&mut client, 50, "ulimit -f unlimited; ulimit -v unlimited");
        assert_eq!(home.output(50).matches("cannot modify limit").count(), 2, "{}", home.output(50));
    }
}

/// Killing its processes one by one only makes room for others.
#[test]
fn a_fork_bomb_is_bounded_and_ends_at_its_deadline() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let limits = Limits { processes: Some(100), ..Limits::default() };
        let Some(mut client) = bounded(&mut home, namespaces, limits) else { return };
        let bomb = Start { timeout_ms: 1000, ..home.bash(1, "exec 2>/dev/null; :(){ :|:& };:; while :; do :; done") };
        client.request(Call::Start(bomb)).unwrap();
        assert_eq!(exited(&mut client, 1).end.cause, Cause::Timeout);
        gone(&mut client, 1);
        assert_eq!(home.run(&mut client, 2, "echo $(echo well)").end.exit, Some(Exit::Code(0)));
        assert_eq!(home.output(2), "well\n");
    }
}
