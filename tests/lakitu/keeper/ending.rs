//! Every end of a call: none leaves anybody behind.

use lakitu_keeper::protocol::{Call, Cause, Exit, RefusalCode, Reply, Start};
use lakitu_keeper::{Namespaces, claim, is_alive, read_status};
use rustix::process::{Pid, Signal, kill_process};

use super::scene::{BOTH, Scene, exited, gone, jobs, refused};

#[test]
fn a_background_child_does_not_hold_the_call_and_dies_by_kill() {
    for namespaces in BOTH {
        let Scene { home, mut pulse, mut client, .. } = Scene::new(namespaces);
        let status = home.run(&mut client, 1, "exec 9>pulse; sleep 1000 & echo started");
        assert_eq!((status.end.exit, status.survivors), (Some(Exit::Code(0)), 1));
        assert_eq!(home.output(1), "started\n");
        assert_eq!(jobs(&mut client)[0].status, Some(status));
        assert_eq!(client.request(Call::Kill { seq: 1 }).unwrap(), Reply::Killing {});
        pulse.wait_for_silence();
        gone(&mut client, 1);
        assert_eq!(jobs(&mut client), []);
        let last = read_status(&home.dir(), 1).unwrap().unwrap();
        assert_eq!((last.end.cause, last.survivors_end), (Cause::Exited, Some(Cause::Killed)));
        assert_eq!(refused(client.request(Call::Kill { seq: 1 })), RefusalCode::NotFound);
    }
}

#[test]
fn kill_reaches_whoever_hides() {
    for namespaces in BOTH {
        let Scene { home, mut pulse, mut client, .. } = Scene::besieged(namespaces);
        client.request(Call::Kill { seq: 1 }).unwrap();
        let status = exited(&mut client, 1);
        assert_eq!((status.end.cause, status.end.exit), (Cause::Killed, Some(Exit::Signal(15))));
        pulse.wait_for_silence();
        gone(&mut client, 1);
        assert_eq!(home.run(&mut client, 2, "echo alive").end.exit, Some(Exit::Code(0)));
    }
}

#[test]
fn shutdown_takes_everything_along_and_says_so() {
    for namespaces in BOTH {
        let Scene { mut home, mut pulse, mut client, .. } = Scene::besieged(namespaces);
        assert_eq!(client.request(Call::Shutdown {}).unwrap(), Reply::ShuttingDown {});
        pulse.wait_for_silence();
        assert_eq!(exited(&mut client, 1).end.cause, Cause::Shutdown);
        home.wait_for_end();
        assert!(!is_alive(&home.dir()).unwrap());
        assert_eq!(read_status(&home.dir(), 1).unwrap().unwrap().end.exit, Some(Exit::Signal(9)));
    }
}

#[test]
fn a_deadline_ends_the_whole_tree() {
    let Scene { home, mut pulse, mut client, .. } = Scene::new(Namespaces::Auto);
    let start = Start {
        timeout_ms: 300,
        ..home.bash(1, "exec 9>pulse; trap '' TERM; sleep 1000 & while :; do sleep 1000; done")
    };
    client.request(Call::Start(start)).unwrap();
    let status = exited(&mut client, 1);
    assert_eq!((status.end.cause, status.end.exit), (Cause::Timeout, Some(Exit::Signal(9))));
    assert!(status.duration_ms >= 300);
    pulse.wait_for_silence();
    gone(&mut client, 1);
}

#[test]
fn what_a_command_left_behind_meets_the_deadline_too() {
    for namespaces in BOTH {
        let Scene { home, mut pulse, mut client, .. } = Scene::new(namespaces);
        let left = "exec 9>pulse; setsid sleep 1000 & echo left";
        client.request(Call::Start(Start { timeout_ms: 1000, ..home.bash(1, left) })).unwrap();
        let status = exited(&mut client, 1);
        assert_eq!((status.end.cause, status.end.exit, status.survivors), (Cause::Exited, Some(Exit::Code(0)), 1));
        pulse.wait_for_silence();
        gone(&mut client, 1);
        assert_eq!(read_status(&home.dir(), 1).unwrap().unwrap().survivors_end, Some(Cause::Timeout));
    }
}

#[test]
fn a_command_that_stops_itself_meets_its_deadline() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Off);
    client.request(Call::Start(Start { timeout_ms: 200, ..home.bash(1, "kill -STOP $$") })).unwrap();
    let status = exited(&mut client, 1);
    assert_eq!((status.end.cause, status.end.exit), (Cause::Timeout, Some(Exit::Signal(15))));
}

#[test]
fn a_killed_keeper_takes_its_commands_along() {
    for namespaces in BOTH {
        let Scene { mut home, mut pulse, client: _attached, spawned } = Scene::besieged(namespaces);
        kill_process(Pid::from_raw(spawned.pid).unwrap(), Signal::KILL).unwrap();
        pulse.wait_for_silence();
        home.wait_for_end();
        assert!(!is_alive(&home.dir()).unwrap());
        assert_eq!(read_status(&home.dir(), 1).unwrap(), None);
        assert!(!claim(&home.dir(), 1, 1).unwrap(), "it may have run: nobody may start it again");
        // The next keeper begins where this one left its socket.
        let (mut client, _) = home.keeper(namespaces);
        assert_eq!(home.run(&mut client, 2, "true").end.exit, Some(Exit::Code(0)));
    }
}
