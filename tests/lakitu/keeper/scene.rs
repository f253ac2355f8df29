//! The shared set-up: a place for a keeper, a keeper in it, and what tells that processes are dead.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lakitu_keeper::protocol::{Call, Event, JobState, RefusalCode, Reply, Start, Status};
use lakitu_keeper::{Client, KeeperError, KeeperSpec, Limits, Namespaces, SpawnOutcome, Spawned, read_status};
use rustix::process::{Pid, Signal, kill_process};

/// Far beyond what anything here takes, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// With namespaces and without.
pub const BOTH: [Namespaces; 2] = [Namespaces::Auto, Namespaces::Off];

/// Tells when every process that holds its writing end is dead.
pub struct Pulse {
    pipe: fs::File,
    path: PathBuf,
}

impl Pulse {
    pub fn new(path: PathBuf) -> Self {
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
        Self { pipe: pipe.into(), path }
    }

    /// Waits until this many processes have written a line.
    pub fn wait_for(&mut self, lines: usize) {
        let mut seen = 0;
        while seen < lines {
            seen += self.read().expect("somebody still lives").iter().filter(|byte| **byte == b'\n').count();
        }
    }

    /// Waits until nobody holds it any more.
    pub fn wait_for_silence(&mut self) {
        while self.read().is_some() {}
    }

    pub fn read(&mut self) -> Option<Vec<u8>> {
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
pub struct Home {
    pub root: tempfile::TempDir,
    pub helpers: Vec<Child>,
}

impl Home {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("work")).unwrap();
        Self { root, helpers: Vec::new() }
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join("data/jobs/thr_1")
    }

    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn spec(&self, namespaces: Namespaces) -> KeeperSpec {
        KeeperSpec {
            dir: self.dir(),
            outputs: self.root.path().join("data/outputs/thr_1"),
            lease_ms: 60_000,
            hidden: vec![self.root.path().join("data")],
            visible: Vec::new(),
            namespaces,
            spool_limit: 64 * 1024 * 1024,
            confine: None,
            limits: Limits::default(),
        }
    }

    pub fn spawn(&mut self, spec: &KeeperSpec) -> SpawnOutcome {
        self.spawn_by(Command::new(env!("CARGO_BIN_EXE_lakitu-keeper")), spec)
    }

    pub fn spawn_by(&mut self, mut helper: Command, spec: &KeeperSpec) -> SpawnOutcome {
        let mut helper = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        helper.stdin.take().unwrap().write_all(&serde_json::to_vec(spec).unwrap()).unwrap();
        let mut line = String::new();
        helper.stdout.take().unwrap().read_to_string(&mut line).unwrap();
        self.helpers.push(helper);
        serde_json::from_str(&line).unwrap()
    }

    /// A keeper, attached.
    pub fn keeper(&mut self, namespaces: Namespaces) -> (Client, Spawned) {
        let spec = self.spec(namespaces);
        self.keeper_as(&spec)
    }

    pub fn keeper_as(&mut self, spec: &KeeperSpec) -> (Client, Spawned) {
        match self.spawn(spec) {
            SpawnOutcome::Ok(spawned) => (self.attach(), spawned),
            SpawnOutcome::Error(refusal) => panic!("{refusal}"),
        }
    }

    pub fn attach(&self) -> Client {
        let mut client = Client::connect(&self.dir()).unwrap();
        client.hello().unwrap();
        client
    }

    pub fn bash(&self, seq: u64, script: &str) -> Start {
        Start {
            seq,
            attempt: 1,
            argv: vec!["bash".into(), "-c".into(), script.into()],
            cwd: self.work(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into())],
            timeout_ms: 600_000,
            label: "a test".into(),
            input: false,
        }
    }

    pub fn output(&self, seq: u64) -> String {
        let bytes = fs::read(self.root.path().join(format!("data/outputs/thr_1/{seq}.out"))).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs a script to its end.
    pub fn run(&self, client: &mut Client, seq: u64, script: &str) -> Status {
        client.request(Call::Start(self.bash(seq, script))).unwrap();
        let status = exited(client, seq);
        assert_eq!(read_status(&self.dir(), seq).unwrap().as_ref(), Some(&status));
        status
    }

    /// Waits for the helpers, which wait for their keepers.
    pub fn wait_for_end(&mut self) {
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

/// A keeper, attached, and a pulse in its workspace; a test takes out the parts that it needs.
pub struct Scene {
    pub home: Home,
    pub pulse: Pulse,
    pub client: Client,
    pub spawned: Spawned,
}

impl Scene {
    pub fn new(namespaces: Namespaces) -> Self {
        Self::with(|spec| KeeperSpec { namespaces, ..spec })
    }

    /// With another specification than the usual.
    pub fn with(change: impl FnOnce(KeeperSpec) -> KeeperSpec) -> Self {
        let mut home = Home::new();
        let pulse = Pulse::new(home.work().join("pulse"));
        let spec = change(home.spec(Namespaces::Auto));
        let (client, spawned) = home.keeper_as(&spec);
        Self { home, pulse, client, spawned }
    }

    /// Call 1 runs on and has left behind whoever hides; all of them are where they want to be.
    pub fn besieged(namespaces: Namespaces) -> Self {
        let mut scene = Self::new(namespaces);
        let (script, count) = hostile(&scene.pulse);
        let start = scene.home.bash(1, &format!("{script}\nexec sleep 1000"));
        scene.client.request(Call::Start(start)).unwrap();
        scene.pulse.wait_for(count);
        scene
    }
}

pub fn exited(client: &mut Client, wanted: u64) -> Status {
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

pub fn gone(client: &mut Client, wanted: u64) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if client.next_event(PATIENCE).unwrap() == Some(Event::Gone { seq: wanted }) {
            return;
        }
    }
    panic!("call {wanted} is never gone");
}

pub fn jobs(client: &mut Client) -> Vec<JobState> {
    match client.request(Call::List {}).unwrap() {
        Reply::Jobs(jobs) => jobs,
        other => panic!("{other:?}"),
    }
}

pub fn refused<T: std::fmt::Debug>(result: Result<T, KeeperError>) -> RefusalCode {
    match result {
        Err(KeeperError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

/// Every way out of a tree, held by one pipe: each process writes a line when it is where it wants to be.
pub fn hostile(pulse: &Pulse) -> (String, usize) {
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
