//! What a command is given to read: in order, whole or not at all, and once.

use lakitu_keeper::protocol::{Call, Cause, Exit, Input, MAX_INPUT, MAX_JOBS, RefusalCode, Reply, Start};
use lakitu_keeper::{Client, KeeperError, Namespaces, read_status};

use super::scene::{BOTH, Home, Scene, exited, gone, jobs, refused};

fn reading(home: &Home, seq: u64, script: &str) -> Start {
    Start { input: true, ..home.bash(seq, script) }
}

fn give(client: &mut Client, seq: u64, key: u64, text: &str, end: bool) -> Result<Reply, KeeperError> {
    client.request(Call::Input(Input { seq, key, text: text.to_owned(), end }))
}

#[test]
fn a_command_reads_what_it_is_given_in_order_and_then_the_end() {
    for namespaces in BOTH {
        let Scene { home, mut client, .. } = Scene::new(namespaces);
        client.request(Call::Start(reading(&home, 1, "read a; echo \"1 $a\"; cat; echo over"))).unwrap();
        assert_eq!(give(&mut client, 1, 10, "one\ntwo\n", false).unwrap(), Reply::Taken {});
        assert_eq!(give(&mut client, 1, 11, "thr", false).unwrap(), Reply::Taken {});
        assert_eq!(give(&mut client, 1, 12, "ee\n", true).unwrap(), Reply::Taken {});
        let status = exited(&mut client, 1);
        assert_eq!((status.end.exit, status.last_input), (Some(Exit::Code(0)), Some(12)));
        assert_eq!(home.output(1), "1 one\ntwo\nthree\nover\n");
        gone(&mut client, 1);
        assert_eq!(refused(give(&mut client, 1, 13, "late", false)), RefusalCode::NotFound);
        assert_eq!(read_status(&home.dir(), 1).unwrap(), Some(status));
    }
}

#[test]
fn what_was_taken_under_a_key_is_not_taken_again() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    rustix::fs::mknodat(rustix::fs::CWD, home.work().join("go"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    client.request(Call::Start(reading(&home, 1, "cat; read line < go"))).unwrap();
    give(&mut client, 1, 5, "once\n", false).unwrap();
    drop(client);
    // Another runtime, that does not know whether the first one was heard.
    let mut client = home.attach();
    assert_eq!(give(&mut client, 1, 5, "once\n", false).unwrap(), Reply::Taken {});
    assert_eq!(give(&mut client, 1, 6, "", true).unwrap(), Reply::Taken {});
    // Nor does it matter that the input has ended since.
    assert_eq!(give(&mut client, 1, 5, "once\n", false).unwrap(), Reply::Taken {});
    assert_eq!(refused(give(&mut client, 1, 7, "more\n", false)), RefusalCode::InputClosed);
    std::fs::write(home.work().join("go"), "\n").unwrap();
    assert_eq!(exited(&mut client, 1).last_input, Some(6));
    assert_eq!(home.output(1), "once\n");
}

#[test]
fn who_takes_no_input_says_so() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    // Without a pipe; with one that nobody reads; with one that has no more room than there is.
    rustix::fs::mknodat(rustix::fs::CWD, home.work().join("go"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    client.request(Call::Start(home.bash(1, "cat; sleep 1000"))).unwrap();
    assert_eq!(refused(give(&mut client, 1, 9, "x", false)), RefusalCode::InputClosed);

    client.request(Call::Start(reading(&home, 2, "exec <&-; echo closed; echo > go; sleep 1000"))).unwrap();
    std::fs::read(home.work().join("go")).unwrap();
    assert_eq!(refused(give(&mut client, 2, 9, "x", false)), RefusalCode::InputClosed);
    assert_eq!(refused(give(&mut client, 2, 10, "x", false)), RefusalCode::InputClosed);

    client.request(Call::Start(reading(&home, 3, "echo > go; read a < go; cat | wc -c"))).unwrap();
    std::fs::read(home.work().join("go")).unwrap();
    let most = "x".repeat(MAX_INPUT);
    assert_eq!(refused(give(&mut client, 3, 9, &(most.clone() + "x"), false)), RefusalCode::BadRequest);
    // The pipe holds some, the keeper as much as may wait; then it is full, and a text is refused whole.
    let taken = (10..).take_while(|key| give(&mut client, 3, *key, &most, false).is_ok()).count();
    assert!((1..=32).contains(&taken), "{taken}");
    assert_eq!(refused(give(&mut client, 3, 90, &most, false)), RefusalCode::InputFull);
    // An end alone fits always.
    assert_eq!(give(&mut client, 3, 91, "", true).unwrap(), Reply::Taken {});
    std::fs::write(home.work().join("go"), "\n").unwrap();
    assert_eq!(exited(&mut client, 3).end.exit, Some(Exit::Code(0)));
    assert_eq!(home.output(3).trim().parse::<usize>().unwrap(), taken * MAX_INPUT);
}

#[test]
fn a_command_that_reads_nothing_holds_up_nobody_and_ends_like_any_other() {
    let Scene { mut home, mut client, .. } = Scene::new(Namespaces::Auto);
    client.request(Call::Start(reading(&home, 1, "sleep 1000"))).unwrap();
    give(&mut client, 1, 5, &"x".repeat(MAX_INPUT), false).unwrap();
    let _ = give(&mut client, 1, 6, &"x".repeat(MAX_INPUT), false);
    assert_eq!(home.run(&mut client, 2, "echo alive").end.exit, Some(Exit::Code(0)));
    client.request(Call::Shutdown {}).unwrap();
    assert_eq!(exited(&mut client, 1).end.cause, Cause::Shutdown);
    home.wait_for_end();
    assert!(read_status(&home.dir(), 1).unwrap().unwrap().last_input >= Some(5));
}

#[test]
fn so_many_calls_are_alive_and_no_more() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    let most = MAX_JOBS as u64;
    for seq in 1..=most {
        client.request(Call::Start(reading(&home, seq, "read a"))).unwrap();
    }
    assert_eq!(jobs(&mut client).len(), MAX_JOBS);
    let one_more = home.bash(most + 1, "touch ran");
    assert_eq!(refused(client.request(Call::Start(one_more.clone()))), RefusalCode::TooManyJobs);
    assert!(!home.work().join("ran").exists());
    // It took no claim: once there is room, it begins.
    give(&mut client, 1, 1, "", true).unwrap();
    gone(&mut client, 1);
    client.request(Call::Start(one_more)).unwrap();
    exited(&mut client, most + 1);
    assert!(home.work().join("ran").exists());
}
