//! Commands: what they get, what they give, how they are told.

use std::fs;

use lakitu_keeper::protocol::{Call, Cause, Exit, RefusalCode, Start};
use lakitu_keeper::{KeeperError, KeeperSpec, Namespaces, claim, read_status};

use super::scene::{Home, Scene, exited, gone, jobs, refused};

#[test]
fn exit_codes_and_signals_are_reported_exactly() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    let rows = [
        ("true", Exit::Code(0)),
        ("exit 300", Exit::Code(44)),
        ("exit 255", Exit::Code(255)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("kill -KILL $$", Exit::Signal(9)),
    ];
    for (seq, (script, exit)) in (1..).zip(rows) {
        let status = home.run(&mut client, seq, script);
        assert_eq!((status.end.cause, status.end.exit), (Cause::Exited, Some(exit)), "{script}");
        gone(&mut client, seq);
    }
}

#[test]
fn output_is_one_stream_in_the_order_of_writing() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    let status =
        home.run(&mut client, 1, "for i in 1 2 3; do echo out $i; echo err $i >&2; done; cat; tty; echo $LAKITU_CALL");
    assert_eq!(home.output(1), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nnot a tty\n1\n");
    assert_eq!(status.bytes, home.output(1).len() as u64);
}

#[test]
fn a_command_inherits_nothing_it_should_not() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    home.run(&mut client, 1, "ls /proc/self/fd | wc -l; umask; ulimit -c; grep -E 'Sig(Blk|Ign)' /proc/self/status; env | grep -v -E '^(PATH|PWD|SHLVL|_|LAKITU_CALL)='");
    // Four descriptors: the three standard ones and the folder that `ls` reads.
    assert_eq!(home.output(1), "4\n0022\n0\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn a_survivor_writes_on_and_is_gone_when_it_ends() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    rustix::fs::mknodat(rustix::fs::CWD, home.work().join("go"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let status = home.run(&mut client, 1, "(read x <go; echo late $x) & echo early");
    assert_eq!((status.survivors, status.bytes), (1, 6));
    fs::write(home.work().join("go"), "and well\n").unwrap();
    gone(&mut client, 1);
    assert_eq!(home.output(1), "early\nlate and well\n");
    assert_eq!(read_status(&home.dir(), 1).unwrap().unwrap().bytes, 20);
}

#[test]
fn a_flood_of_output_is_cut_off_at_the_limit() {
    let Scene { home, mut client, .. } = Scene::with(|spec| KeeperSpec { spool_limit: 1_000_000, ..spec });
    client.request(Call::Start(home.bash(1, "yes"))).unwrap();
    let status = exited(&mut client, 1);
    assert_eq!((status.end.cause, status.bytes), (Cause::SpoolFull, 1_000_000));
    assert_eq!(home.output(1).len(), 1_000_000);
    gone(&mut client, 1);
}

#[test]
fn a_claimed_call_never_runs() {
    let mut home = Home::new();
    assert!(claim(&home.dir(), 1, 1).unwrap());
    assert!(claim(&home.dir(), 1, 1).unwrap(), "a runtime that was killed behind it is followed by one that goes on");
    let (mut client, _) = home.keeper(Namespaces::Auto);
    let start = home.bash(1, "touch ran");
    assert_eq!(refused(client.request(Call::Start(start.clone()))), RefusalCode::AlreadyClaimed);
    assert!(!home.work().join("ran").exists());
    assert_eq!(jobs(&mut client), []);

    client.request(Call::Start(Start { attempt: 2, ..start.clone() })).unwrap();
    assert_eq!(exited(&mut client, 1).attempt, 2);
    assert!(home.work().join("ran").exists());
    assert!(!claim(&home.dir(), 1, 2).unwrap());
    // What ended is not begun again, by whatever attempt.
    assert_eq!(refused(client.request(Call::Start(Start { attempt: 3, ..start }))), RefusalCode::AlreadyClaimed);
}

#[test]
fn what_cannot_be_executed_says_why() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    let plain = home.bash(1, "true");
    let huge = "x".repeat(1024 * 1024);
    let rows = [
        (Start { seq: 1, cwd: home.work().join("missing"), ..plain.clone() }, "working directory: No such file"),
        (Start { seq: 2, argv: vec!["no-such-program".into()], ..plain.clone() }, "execute: No such file"),
        (Start { seq: 3, argv: vec!["/etc/passwd".into()], ..plain.clone() }, "execute: Permission denied"),
        (Start { seq: 4, argv: vec!["true".into(), huge], ..plain.clone() }, "execute: Argument list too long"),
    ];
    for (start, expected) in rows {
        let seq = start.seq;
        match client.request(Call::Start(start)) {
            Err(KeeperError::Refused(refusal)) => {
                assert_eq!(refusal.code, RefusalCode::SpawnFailed);
                assert!(refusal.message.starts_with(expected), "{}", refusal.message);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read_status(&home.dir(), seq).unwrap().unwrap().end.cause, Cause::SpawnFailed);
    }
    let nul = Start { seq: 5, argv: vec!["bash".into(), "-c".into(), "echo a\0b".into()], ..plain };
    assert_eq!(refused(client.request(Call::Start(nul))), RefusalCode::BadRequest);
    assert!(claim(&home.dir(), 5, 1).unwrap(), "a refused request takes no claim");
}

#[test]
fn a_megabyte_of_command_runs() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    // One argument may be 128 KiB at most, by the kernel; so it is many.
    let argv = ["bash", "-c", "echo $#", "bash"].map(str::to_owned).into_iter().chain(vec!["\"\n".repeat(5_000); 100]);
    client.request(Call::Start(Start { argv: argv.collect(), ..home.bash(1, "") })).unwrap();
    exited(&mut client, 1);
    assert_eq!(home.output(1), "100\n");
}
