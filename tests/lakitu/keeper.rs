//! Stories of a keeper: real processes, started by the real helper executable. Nothing here sleeps: processes hold the
//! writing end of a pipe, and its end tells that they are dead.

#![expect(clippy::disallowed_methods, reason = "it starts the helper that starts the keeper")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lakitu_keeper::protocol::{
    Call, Cause, Event, Exit, JobState, Message, Outcome, RefusalCode, Reply, Start, Status,
};
use lakitu_keeper::{
    Client, KeeperError, KeeperSpec, Namespaces, SpawnOutcome, Spawned, Visible, claim, is_alive, read_status,
};
use rustix::process::{Pid, Signal, kill_process};

/// Far beyond what anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tells when every process that holds its writing end is dead.
struct Pulse {
    pipe: fs::File,
    path: PathBuf,
}

impl Pulse {
    fn new(path: PathBuf) -> Self {
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
        Self { pipe: pipe.into(), path }
    }

    /// Waits until this many processes have written a line.
    fn wait_for(&mut self, lines: usize) {
        let mut seen = 0;
        while seen < lines {
            seen += self.read().expect("somebody still lives").iter().filter(|byte| **byte == b'\n').count();
        }
    }

    /// Waits until nobody holds it any more.
    fn wait_for_silence(&mut self) {
        while self.read().is_some() {}
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let timeout = Timespec { tv_sec: 30, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&timeout)).unwrap();
        assert!(ready > 0, "the processes of {} neither spoke nor died", self.path.display());
        let mut chunk = vec![0; 4096];
        match self.pipe.read(&mut chunk).unwrap() {
            0 => None,
            count => Some(chunk[..count].to_vec()),
        }
    }
}

/// A place for one thread's keeper. What still runs when it is dropped is shut down and waited for.
struct Home {
    root: tempfile::TempDir,
    helpers: Vec<Child>,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("work")).unwrap();
        Self { root, helpers: Vec::new() }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("data/jobs/thr_1")
    }

    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    fn spec(&self, namespaces: Namespaces) -> KeeperSpec {
        KeeperSpec {
            dir: self.dir(),
            outputs: self.root.path().join("data/outputs/thr_1"),
            lease_ms: 60_000,
            hidden: vec![self.root.path().join("data")],
            visible: Vec::new(),
            namespaces,
            spool_limit: 64 * 1024 * 1024,
        }
    }

    fn spawn(&mut self, spec: &KeeperSpec) -> SpawnOutcome {
        self.spawn_by(Command::new(env!("CARGO_BIN_EXE_lakitu-keeper")), spec)
    }

    fn spawn_by(&mut self, mut helper: Command, spec: &KeeperSpec) -> SpawnOutcome {
        let mut helper = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        helper.stdin.take().unwrap().write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
        let mut line = String::new();
        helper.stdout.take().unwrap().read_to_string(&mut line).unwrap();
        self.helpers.push(helper);
        serde_json::from_str(&line).unwrap()
    }

    /// A keeper, attached.
    fn keeper(&mut self, namespaces: Namespaces) -> (Client, Spawned) {
        let spec = self.spec(namespaces);
        self.keeper_as(&spec)
    }

    fn keeper_as(&mut self, spec: &KeeperSpec) -> (Client, Spawned) {
        match self.spawn(spec) {
            SpawnOutcome::Ok(spawned) => (self.attach(), spawned),
            SpawnOutcome::Error(refusal) => panic!("{refusal}"),
        }
    }

    fn attach(&self) -> Client {
        let mut client = Client::connect(&self.dir()).unwrap();
        client.hello().unwrap();
        client
    }

    fn bash(&self, seq: u64, script: &str) -> Start {
        Start {
            seq,
            attempt: 1,
            argv: vec!["bash".into(), "-c".into(), script.into()],
            cwd: self.work(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into())],
            timeout_ms: 600_000,
            label: "a test".into(),
        }
    }

    fn output(&self, seq: u64) -> String {
        let bytes = fs::read(self.root.path().join(format!("data/outputs/thr_1/{seq}.out"))).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs a script to its end.
    fn run(&self, client: &mut Client, seq: u64, script: &str) -> Status {
        client.request(Call::Start(self.bash(seq, script))).unwrap();
        let status = exited(client, seq);
        assert_eq!(read_status(&self.dir(), seq).unwrap().as_ref(), Some(&status));
        status
    }

    /// Waits for the helpers, which wait for their keepers.
    fn wait_for_end(&mut self) {
        for mut helper in self.helpers.drain(..) {
            helper.wait().unwrap();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            if helper.try_wait().is_ok_and(|ended| ended.is_none()) {
                let _ = kill_process(Pid::from_child(helper), Signal::TERM);
            }
            let _ = helper.wait();
        }
    }
}

fn exited(client: &mut Client, wanted: u64) -> Status {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(Event::Exited { seq, status }) = client.next_event(PATIENCE).unwrap()
            && seq == wanted
        {
            return status;
        }
    }
    panic!("call {wanted} never ended");
}

fn gone(client: &mut Client, wanted: u64) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if client.next_event(PATIENCE).unwrap() == Some(Event::Gone { seq: wanted }) {
            return;
        }
    }
    panic!("call {wanted} is never gone");
}

fn jobs(client: &mut Client) -> Vec<JobState> {
    match client.request(Call::List {}).unwrap() {
        Reply::Jobs(jobs) => jobs,
        other => panic!("{other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, KeeperError>) -> RefusalCode {
    match result {
        Err(KeeperError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Every way out of a tree, held by one pipe: each process writes a line when it is where it wants to be.
fn hostile(pulse: &Pulse) -> (String, usize) {
    let script = r#"
        exec 9>FIFO
        hold='echo >&9; exec sleep 1000'
        bash -c "$hold" &
        setsid bash -c "$hold" &
        nohup bash -c "$hold" >/dev/null 2>&1 &
        (setsid bash -c "(bash -c '$hold') & :" &)
        bash -c 'trap "" TERM HUP INT; echo >&9; while :; do sleep 1000; done' &
        bash -c 'echo >&9; kill -STOP $$; exec sleep 1000' &
        bash -c 'echo >&9; trap "" TERM; kill -STOP $$; exec sleep 1000' &
        env -i /usr/bin/setsid -f /bin/bash -c "$hold"
        (exec -a lakitu bash -c "$hold") &
        bash -c "$hold" & disown
    "#;
    (script.replace("FIFO", pulse.path.to_str().unwrap()), 10)
}

const BOTH: [Namespaces; 2] = [Namespaces::Auto, Namespaces::Off];

#[test]
fn exit_codes_and_signals_are_reported_exactly() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
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
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
    let status =
        home.run(&mut client, 1, "for i in 1 2 3; do echo out $i; echo err $i >&2; done; cat; tty; echo $LAKITU_CALL");
    assert_eq!(home.output(1), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nnot a tty\n1\n");
    assert_eq!(status.bytes, home.output(1).len() as u64);
}

#[test]
fn a_command_inherits_nothing_it_should_not() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
    home.run(&mut client, 1, "ls /proc/self/fd | wc -l; umask; ulimit -c; grep -E 'Sig(Blk|Ign)' /proc/self/status; env | grep -v -E '^(PATH|PWD|SHLVL|_|LAKITU_CALL)='");
    // Four descriptors: the three standard ones and the folder that `ls` reads.
    assert_eq!(home.output(1), "4\n0022\n0\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn a_background_child_does_not_hold_the_call_and_dies_by_kill() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let mut pulse = Pulse::new(home.work().join("pulse"));
        let (mut client, _) = home.keeper(namespaces);
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
fn a_survivor_writes_on_and_is_gone_when_it_ends() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
    rustix::fs::mknodat(rustix::fs::CWD, home.work().join("go"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let status = home.run(&mut client, 1, "(read x <go; echo late $x) & echo early");
    assert_eq!((status.survivors, status.bytes), (1, 6));
    fs::write(home.work().join("go"), "and well\n").unwrap();
    gone(&mut client, 1);
    assert_eq!(home.output(1), "early\nlate and well\n");
    assert_eq!(read_status(&home.dir(), 1).unwrap().unwrap().bytes, 20);
}

#[test]
fn kill_reaches_whoever_hides() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let mut pulse = Pulse::new(home.work().join("pulse"));
        let (mut client, _) = home.keeper(namespaces);
        let (script, count) = hostile(&pulse);
        client.request(Call::Start(home.bash(1, &format!("{script}\nexec sleep 1000")))).unwrap();
        pulse.wait_for(count);
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
        let mut home = Home::new();
        let mut pulse = Pulse::new(home.work().join("pulse"));
        let (mut client, _) = home.keeper(namespaces);
        let (script, count) = hostile(&pulse);
        client.request(Call::Start(home.bash(1, &format!("{script}\nexec sleep 1000")))).unwrap();
        pulse.wait_for(count);
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
    let mut home = Home::new();
    let mut pulse = Pulse::new(home.work().join("pulse"));
    let (mut client, _) = home.keeper(Namespaces::Auto);
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
fn a_command_that_stops_itself_meets_its_deadline() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Off);
    client.request(Call::Start(Start { timeout_ms: 200, ..home.bash(1, "kill -STOP $$") })).unwrap();
    let status = exited(&mut client, 1);
    assert_eq!((status.end.cause, status.end.exit), (Cause::Timeout, Some(Exit::Signal(15))));
}

#[test]
fn a_flood_of_output_is_cut_off_at_the_limit() {
    let mut home = Home::new();
    let spec = KeeperSpec { spool_limit: 1_000_000, ..home.spec(Namespaces::Auto) };
    let (mut client, _) = home.keeper_as(&spec);
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
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
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
fn a_killed_keeper_takes_its_commands_along() {
    for namespaces in BOTH {
        let mut home = Home::new();
        let mut pulse = Pulse::new(home.work().join("pulse"));
        let (mut client, spawned) = home.keeper(namespaces);
        let (script, count) = hostile(&pulse);
        client.request(Call::Start(home.bash(1, &format!("{script}\nexec sleep 1000")))).unwrap();
        pulse.wait_for(count);
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

#[test]
fn without_a_runtime_the_lease_ends_everything() {
    let mut home = Home::new();
    let mut pulse = Pulse::new(home.work().join("pulse"));
    let spec = KeeperSpec { lease_ms: 1000, ..home.spec(Namespaces::Auto) };
    let (mut client, _) = home.keeper_as(&spec);
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
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
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
    let mut home = Home::new();
    let spec = KeeperSpec { lease_ms: 1000, ..home.spec(Namespaces::Auto) };
    let (mut client, spawned) = home.keeper_as(&spec);
    client.request(Call::Start(home.bash(1, "exec sleep 1000"))).unwrap();
    drop(client);
    // Its answer tells that the keeper has seen the connection before it end.
    assert_eq!(refused(Client::connect(&home.dir()).unwrap().request(Call::List {})), RefusalCode::HelloFirst);
    let pid = Pid::from_raw(spawned.pid).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let mut client = Client::connect(&home.dir()).unwrap();
    client.send(b"{\"id\":9,\"request\":\"hello\",\"version\":1}\n").unwrap();
    // Another keeper is the clock: it waits five seconds for its first runtime, then ends.
    let mut clock = Home::new();
    clock.spawn(&KeeperSpec { lease_ms: 0, ..clock.spec(Namespaces::Off) });
    clock.wait_for_end();
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(jobs(&mut client).len(), 1);
}

#[test]
fn one_directory_has_one_keeper() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
    let spec = home.spec(Namespaces::Auto);
    match home.spawn(&spec) {
        SpawnOutcome::Error(refusal) => assert_eq!(refusal.code, RefusalCode::KeeperAlive),
        SpawnOutcome::Ok(spawned) => panic!("{spawned:?}"),
    }
    assert_eq!(home.run(&mut client, 1, "true").end.exit, Some(Exit::Code(0)));
}

#[test]
fn whatever_is_sent_is_answered_and_the_connection_stays() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
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
    client.send(b"{\"id\":5,\"request\":\"hello\",\"version\":2}\n").unwrap();
    assert_eq!(answer(&mut client), (Some(5), RefusalCode::UnsupportedVersion));
    assert_eq!(home.run(&mut client, 1, "true").end.exit, Some(Exit::Code(0)));

    let mut stranger = Client::connect(&home.dir()).unwrap();
    assert_eq!(refused(stranger.request(Call::List {})), RefusalCode::HelloFirst);
}

#[test]
fn a_megabyte_of_command_runs() {
    let mut home = Home::new();
    let (mut client, _) = home.keeper(Namespaces::Auto);
    // One argument may be 128 KiB at most, by the kernel; so it is many.
    let argv = ["bash", "-c", "echo $#", "bash"].map(str::to_owned).into_iter().chain(vec!["\"\n".repeat(5_000); 100]);
    client.request(Call::Start(Start { argv: argv.collect(), ..home.bash(1, "") })).unwrap();
    exited(&mut client, 1);
    assert_eq!(home.output(1), "100\n");
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

/// Files as a runtime has them, one of each kind; commands get to see two of them.
fn furnish(home: &Home, namespaces: Namespaces) -> KeeperSpec {
    let data = home.root.path().join("data");
    fs::create_dir_all(data.join("artifacts")).unwrap();
    fs::create_dir_all(data.join("outputs/thr_1")).unwrap();
    fs::write(data.join("lakitu.redb"), "SECRET").unwrap();
    fs::write(data.join("outputs/thr_1/old.out"), "old output").unwrap();
    fs::write(home.root.path().join("token"), "SECRET").unwrap();
    KeeperSpec {
        hidden: vec![data.clone(), home.root.path().join("token"), home.root.path().join("not-there")],
        visible: vec![
            Visible { path: data.join("artifacts"), read_only: false },
            Visible { path: data.join("outputs"), read_only: true },
            Visible { path: home.work(), read_only: false },
        ],
        ..home.spec(namespaces)
    }
}

/// What a command tries against what is hidden; every line prints nothing if it is held off.
const PRYING: &str = r#"
    cat ../token ../data/lakitu.redb 2>/dev/null
    ls ../data/jobs 2>/dev/null
    for pid in /proc/[0-9]*; do
        for way in root cwd fd/*; do
            cat "$pid/$way/ROOT/token" "$pid/$way/ROOT/data/lakitu.redb" "$pid/$way/lakitu.redb" 2>/dev/null
            cat "$pid/$way/../../lakitu.redb" 2>/dev/null
        done
    done
    umount ../token ../data ../data/outputs /proc 2>/dev/null && echo unmounted
    unshare -m sh -c 'umount ../data && cat ../data/lakitu.redb' 2>/dev/null
    unshare -Urm sh -c 'umount ../data && cat ../data/lakitu.redb; umount -l ../token && cat ../token' 2>/dev/null
    mount -o remount,rw ../data/outputs 2>/dev/null && echo remounted
    mkdir -p disk; for disk in /dev/[vs]d*; do mount $disk disk 2>/dev/null && echo mounted; head -c1 $disk 2>/dev/null; done
    mknod disk/node b 254 0 2>/dev/null && head -c1 disk/node
    for pid in RUNTIME HELPER; do grep -s lakitu /proc/$pid/comm && kill -0 $pid && echo signalled; done
    nsenter -t 1 -m true 2>/dev/null && echo entered
    ls -d /proc/1/map_files/* 2>/dev/null
    cat /proc/sys/kernel/core_pattern 2>/dev/null >/proc/sys/kernel/core_pattern && echo pattern
    echo h 2>/dev/null >/proc/sysrq-trigger && echo magic
    test "$(cat /proc/1/comm)" = lakitu-keeper && kill -TERM 1 && kill -KILL 1
    touch ../data/outputs/x 2>/dev/null && echo written
    touch ../data/x 2>/dev/null && echo written
    true
"#;

fn prying(home: &Home) -> String {
    let helper = home.helpers.last().unwrap().id().to_string();
    let script = PRYING.replace("ROOT", home.root.path().to_str().unwrap());
    script.replace("RUNTIME", &std::process::id().to_string()).replace("HELPER", &helper)
}

#[test]
fn commands_cannot_reach_the_runtime() {
    let mut home = Home::new();
    let spec = furnish(&home, Namespaces::Auto);
    let (mut client, spawned) = home.keeper_as(&spec);
    if !spawned.isolation.mount_namespace {
        assert!(spawned.isolation.reason.is_some());
        return;
    }
    let script = prying(&home);
    home.run(&mut client, 1, &script);
    assert_eq!(home.output(1), "");
    home.run(&mut client, 2, "echo made >../data/artifacts/a; cat ../data/outputs/thr_1/old.out; touch ../data/outputs/x; ls ../data; wc -c <../token");
    let expected = "old outputtouch: cannot touch '../data/outputs/x': Read-only file system\nartifacts\noutputs\n0\n";
    assert_eq!(home.output(2), expected);
    assert_eq!(fs::read_to_string(home.root.path().join("data/artifacts/a")).unwrap(), "made\n");
    // The socket of its own keeper is hidden too; so is one that the test makes.
    let connect = "python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])' ../data/jobs/thr_1/sock 2>/dev/null && echo connected; true";
    home.run(&mut client, 3, connect);
    assert_eq!(home.output(3), "");
}

#[test]
fn where_only_a_user_namespace_is_allowed_it_holds_too() {
    if !is_root() {
        return; // the test above was this one then
    }
    const NOBODY: u32 = 65534;
    let mut home = Home::new();
    let spec = furnish(&home, Namespaces::Auto);
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    };
    let data = home.root.path().join("data");
    let all =
        [".", "work", "token", "data", "data/artifacts", "data/outputs", "data/outputs/thr_1", "data/lakitu.redb"];
    for path in all {
        open(&home.root.path().join(path));
    }
    // The test executable lies where nobody else may look.
    let program = home.root.path().join("helper");
    fs::copy(env!("CARGO_BIN_EXE_lakitu-keeper"), &program).unwrap();
    open(&program);
    let mut helper = Command::new(&program);
    helper.uid(NOBODY).gid(NOBODY).current_dir("/");
    match home.spawn_by(helper, &spec) {
        SpawnOutcome::Ok(spawned) if spawned.isolation.user_namespace => {}
        // Some kernels and containers allow none; then that is said.
        SpawnOutcome::Ok(spawned) => return assert!(spawned.isolation.reason.is_some()),
        SpawnOutcome::Error(refusal) => panic!("{refusal}"),
    }
    let mut client = home.attach();
    let script = prying(&home);
    home.run(&mut client, 1, &script);
    assert_eq!(home.output(1), "");
    home.run(
        &mut client,
        2,
        "id -u; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj; echo made >../data/artifacts/a",
    );
    assert_eq!(home.output(2), "65534\nCapEff:\t0000000000000000\n500\n");
    assert!(data.join("artifacts/a").exists());
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
