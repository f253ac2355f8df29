//! A keeper's own life: its start, its clients, its lease.

use std::fs;
use std::time::{Duration, Instant};

use lakitu_keeper::protocol::{Call, Cause, Exit, JobState, Message, Outcome, RefusalCode, VERSION};
use lakitu_keeper::{Client, KeeperSpec, Namespaces, SpawnOutcome, Visible, is_alive, read_status};
use rustix::process::{Pid, Signal, kill_process};

use super::scene::{Home, PATIENCE, Scene, exited, jobs, refused};

#[test]
fn without_a_runtime_the_lease_ends_everything() {
    let Scene { mut home, mut pulse, mut client, .. } = Scene::with(|spec| KeeperSpec { lease_ms: 1000, ..spec });
    home.run(&mut client, 1, "exec 9>pulse; sleep 1000 &");
    client.request(Call::Start(home.bash(2, "exec 9>pulse; echo half; echo >&9; sleep 1000"))).unwrap();
    pulse.wait_for(1);
    drop(client);
    pulse.wait_for_silence();
    home.wait_for_end();
    let status = read_status(&home.dir(), 2).unwrap().unwrap();
    assert_eq!(status.end.cause, Cause::Lease);
    assert!(status.duration_ms >= 1000);
    assert_eq!(home.output(2), "half\n");
    assert_eq!(read_status(&home.dir(), 1).unwrap().unwrap().survivors_end, Some(Cause::Lease));
}

#[test]
fn a_keeper_that_no_runtime_ever_finds_ends_by_itself() {
    let mut home = Home::new();
    let spec = KeeperSpec { lease_ms: 0, ..home.spec(Namespaces::Auto) };
    let begun = Instant::now();
    assert!(matches!(home.spawn(&spec), SpawnOutcome::Ok(_)));
    assert!(is_alive(&home.dir()).unwrap());
    home.wait_for_end();
    assert!(begun.elapsed() >= Duration::from_secs(5), "the first runtime has time");
}

#[test]
fn a_new_runtime_adopts_what_runs() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    rustix::fs::mknodat(rustix::fs::CWD, home.work().join("go"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    client.request(Call::Start(home.bash(7, "read code <go; exit $code"))).unwrap();
    drop(client);

    let mut client = Client::connect(&home.dir()).unwrap();
    let welcome = client.hello().unwrap();
    assert_eq!(welcome.boot_id, lakitu_keeper::boot_id().unwrap());
    assert_eq!(welcome.jobs.iter().map(|job| (job.seq, job.label.as_str())).collect::<Vec<_>>(), [(7, "a test")]);
    assert_eq!(welcome.jobs, [JobState { elapsed_ms: welcome.jobs[0].elapsed_ms, ..jobs(&mut client).remove(0) }]);
    fs::write(home.work().join("go"), "5\n").unwrap();
    assert_eq!(exited(&mut client, 7).end.exit, Some(Exit::Code(5)));
}

#[test]
fn a_keeper_that_was_stopped_does_not_call_the_lease_over_at_once() {
    let Scene { home, mut client, spawned, .. } = Scene::with(|spec| KeeperSpec { lease_ms: 1000, ..spec });
    client.request(Call::Start(home.bash(1, "exec sleep 1000"))).unwrap();
    drop(client);
    // Its answer tells that the keeper has seen the connection before it end.
    assert_eq!(refused(Client::connect(&home.dir()).unwrap().request(Call::List {})), RefusalCode::HelloFirst);
    let pid = Pid::from_raw(spawned.pid).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let mut client = Client::connect(&home.dir()).unwrap();
    client.send(format!("{{\"id\":9,\"request\":\"hello\",\"version\":{VERSION}}}\n").as_bytes()).unwrap();
    // Another keeper is the clock: it waits five seconds for its first runtime, then ends.
    let mut clock = Home::new();
    clock.spawn(&KeeperSpec { lease_ms: 0, ..clock.spec(Namespaces::Off) });
    clock.wait_for_end();
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(jobs(&mut client).len(), 1);
}

#[test]
fn one_directory_has_one_keeper() {
    let Scene { mut home, mut client, .. } = Scene::new(Namespaces::Auto);
    let spec = home.spec(Namespaces::Auto);
    match home.spawn(&spec) {
        SpawnOutcome::Error(refusal) => assert_eq!(refusal.code, RefusalCode::KeeperAlive),
        SpawnOutcome::Ok(spawned) => panic!("{spawned:?}"),
    }
    assert_eq!(home.run(&mut client, 1, "true").end.exit, Some(Exit::Code(0)));
}

#[test]
fn whatever_is_sent_is_answered_and_the_connection_stays() {
    let Scene { home, mut client, .. } = Scene::new(Namespaces::Auto);
    let answer = |client: &mut Client| match client.next_message(Instant::now() + PATIENCE).unwrap().unwrap() {
        Message::Answer(answer) => match answer.outcome {
            Outcome::Error(refusal) => (answer.id, refusal.code),
            Outcome::Ok(reply) => panic!("{reply:?}"),
        },
        Message::Event(event) => panic!("{event:?}"),
    };
    client.send(b"{nonsense\n\n").unwrap();
    assert_eq!(answer(&mut client), (None, RefusalCode::BadRequest));
    client.send(b"{\"id\":3,\"request\":\"dance\"}\n").unwrap();
    assert_eq!(answer(&mut client), (Some(3), RefusalCode::UnknownRequest));
    client.send(b"{\"id\":4,\"request\":\"start\",\"seq\":\"x\"}\n").unwrap();
    assert_eq!(answer(&mut client), (Some(4), RefusalCode::BadRequest));
    client.send(&vec![b'x'; 5 * 1024 * 1024]).unwrap();
    client.send(b"\n").unwrap();
    assert_eq!(answer(&mut client), (None, RefusalCode::LineTooLong));
    client.send(format!("{{\"id\":5,\"request\":\"hello\",\"version\":{}}}\n", VERSION + 1).as_bytes()).unwrap();
    assert_eq!(answer(&mut client), (Some(5), RefusalCode::UnsupportedVersion));
    assert_eq!(home.run(&mut client, 1, "true").end.exit, Some(Exit::Code(0)));

    let mut stranger = Client::connect(&home.dir()).unwrap();
    assert_eq!(refused(stranger.request(Call::List {})), RefusalCode::HelloFirst);
}

#[test]
fn a_directory_may_have_a_long_path() {
    let mut home = Home::new();
    let long = home.root.path().join("d".repeat(200)).join("e".repeat(200));
    let spec = KeeperSpec { dir: long.join("jobs"), ..home.spec(Namespaces::Auto) };
    assert!(matches!(home.spawn(&spec), SpawnOutcome::Ok(_)));
    let mut client = Client::connect(&spec.dir).unwrap();
    client.hello().unwrap();
    client.request(Call::Start(home.bash(1, "true"))).unwrap();
    assert_eq!(exited(&mut client, 1).end.exit, Some(Exit::Code(0)));
}

#[test]
fn a_spec_that_makes_no_sense_is_refused() {
    let mut home = Home::new();
    let missing = Visible { path: home.root.path().join("data/none"), read_only: true };
    let wrong = [
        KeeperSpec { dir: "relative".into(), ..home.spec(Namespaces::Auto) },
        KeeperSpec { hidden: vec!["/".into()], ..home.spec(Namespaces::Auto) },
        KeeperSpec { visible: vec![missing], ..home.spec(Namespaces::Auto) },
    ];
    for spec in wrong {
        match home.spawn(&spec) {
            SpawnOutcome::Error(refusal) => assert_eq!(refusal.code, RefusalCode::BadSpec),
            SpawnOutcome::Ok(spawned) => panic!("{spawned:?}"),
        }
    }
}
