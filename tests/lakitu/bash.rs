//! Commands under real keepers: what the model is told, what survives the runtime, and what is left over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakitu_actors::tools::bash::{
    BASH, BASH_KILL, BASH_LIST, BASH_OUTPUT, BashSettings, BashTools, JobFacts, KeeperStarter,
};
use lakitu_actors::tools::{Ask, Known, Place, Settled};
use lakitu_keeper::Namespaces;
use lakitu_kernel::config::Confine;
use lakitu_kernel::tool::{ToolCall, ToolOutcome, ToolSpec};
use lakitu_kernel::{ErrorCode, Seq, ThreadId};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Long enough for a loaded machine; nothing here waits for it in the good case.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any test.
const LIFETIME: Duration = Duration::from_hours(1);
pub(crate) const THREAD: ThreadId = ThreadId(0x0193_0000_0000_0000_0000_0000_0000_0001);

/// A runtime's shell tools on a data directory that outlives them.
pub(crate) struct World {
    pub(crate) home: tempfile::TempDir,
    pub(crate) tools: BashTools,
    pub(crate) output: mpsc::Receiver<(Seq, u64, String)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for directory in ["workspace/src", "data", "artifacts"] {
            fs::create_dir_all(home.path().join(directory)).unwrap();
        }
        fs::write(home.path().join("data/token"), "jwt").unwrap();
        let (tools, output) = tools(home.path(), LIFETIME);
        Self { home, tools, output }
    }

    /// The same runtime, where a command may run for so long.
    pub(crate) fn where_jobs_live_for(job_lifetime: Duration) -> Self {
        let world = Self::new();
        let (tools, output) = tools(world.home.path(), job_lifetime);
        Self { tools, output, ..world }
    }

    /// The runtime ends without a word and another one starts.
    pub(crate) fn again(self) -> Self {
        let Self { home, tools: gone, .. } = self;
        drop(gone);
        let (tools, output) = tools(home.path(), LIFETIME);
        Self { home, tools, output }
    }

    pub(crate) fn place(&self) -> Arc<Place> {
        let path = |name: &str| self.home.path().canonicalize().unwrap().join(name);
        Arc::new(Place { workspace: path("workspace"), artifacts: path("artifacts") })
    }

    pub(crate) fn ask(&self, spec: &'static ToolSpec, seq: u64, start: u32, arguments: &Value) -> Ask {
        let arguments = spec.check(&arguments.to_string()).unwrap();
        let call_id = format!("call_{seq}");
        let call = ToolCall { thread: THREAD, intent: Seq(seq), call_id, tool: spec.name, arguments, start };
        Ask { call, place: self.place(), known: Known::default(), lease: None }
    }

    pub(crate) fn bash(&self, seq: u64, command: &str) -> Ask {
        self.ask(&BASH, seq, 1, &json!({ "command": command }))
    }

    pub(crate) async fn run(&self, ask: &Ask) -> ToolOutcome {
        tokio::time::timeout(PATIENCE, self.tools.run(ask)).await.expect("a call that does not end")
    }

    pub(crate) async fn recover(&self, ask: &Ask, boot_id: &str, attempt: u32) -> Settled {
        let facts = JobFacts { boot_id: boot_id.to_owned(), attempt };
        tokio::time::timeout(PATIENCE, self.tools.recover(ask, facts)).await.expect("a recovery that does not end")
    }

    /// Starts a command and waits for the first thing it puts out.
    pub(crate) async fn begin(&mut self, seq: u64, command: &str) -> JoinHandle<ToolOutcome> {
        let (tools, ask) = (self.tools.clone(), self.bash(seq, command));
        #[allow(clippy::disallowed_methods, reason = "the test owns the handle")]
        let task = tokio::spawn(async move { tools.run(&ask).await });
        let first = tokio::time::timeout(PATIENCE, self.output.recv()).await.unwrap().unwrap();
        assert_eq!((first.0, first.1), (Seq(seq), 0));
        task
    }

    /// A fifo, so that a command waits for the test.
    pub(crate) async fn fifo(&self, seq: u64) -> PathBuf {
        assert_eq!(self.run(&self.bash(seq, "mkfifo go")).await.error, None);
        self.home.path().join("workspace/go")
    }

    pub(crate) fn keeper_pid(&self) -> rustix::process::Pid {
        let socket = self.home.path().join("data/jobs").join(THREAD.to_string()).join("sock");
        let stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        rustix::net::sockopt::socket_peercred(&stream).unwrap().pid
    }

    pub(crate) async fn end(self) {
        self.tools.shutdown().await;
        assert_eq!(*self.tools.counts().borrow(), lakitu_actors::tools::bash::Counts::default());
    }
}

fn tools(home: &Path, job_lifetime: Duration) -> (BashTools, mpsc::Receiver<(Seq, u64, String)>) {
    let home = home.canonicalize().unwrap();
    let secrets = [("OPENAI_API_KEY", "sk-secret"), ("LAKITU_TOKEN", "jwt-secret")];
    let secrets = secrets.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let tools = BashTools::new(BashSettings {
        data: home.join("data"),
        starter: KeeperStarter::Helper(env!("CARGO_BIN_EXE_lakitu-keeper").into()),
        lease_ms: 60_000,
        job_lifetime,
        hidden: Vec::new(),
        namespaces: Namespaces::Auto,
        confine: Confine::default(),
        env: std::env::vars().chain(secrets).collect(),
    });
    let (tell, output) = mpsc::channel(4096);
    // Live output is lossy.
    assert!(tools.on_output(Arc::new(move |_, seq, from, text| drop(tell.try_send((seq, from, text))))));
    (tools, output)
}

/// Processes of which an argument is `marker`.
pub(crate) fn alive(marker: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines
        .filter(|line| line.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes()))
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

/// An argument of `sleep` that no other test uses.
pub(crate) fn marker(test: u32) -> String {
    format!("8{test:03}.{}", std::process::id())
}

pub(crate) fn code(outcome: &ToolOutcome) -> Option<ErrorCode> {
    outcome.error.as_ref().map(|error| error.code)
}

pub(crate) fn outcome(settled: Settled) -> ToolOutcome {
    match settled {
        Settled::Outcome(outcome) => outcome,
        Settled::NeverBegan => panic!("it began"),
    }
}

pub(crate) fn last_line(outcome: &ToolOutcome) -> &str {
    outcome.output.lines().last().unwrap_or_default()
}

pub(crate) fn boot() -> String {
    lakitu_keeper::boot_id().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_tells_its_output_in_order_and_exactly_how_it_ended() {
    let world = World::new();
    let ok = world.run(&world.bash(1, "echo one; echo two >&2; echo three; pwd; printf end")).await;
    let workspace = world.place().workspace.clone();
    assert!(
        ok.output.starts_with(&format!("one\ntwo\nthree\n{}\nend\n[exit 0]", workspace.display())),
        "{}",
        ok.output
    );
    assert_eq!(ok.error, None);

    let failed = world.run(&world.bash(2, "echo out; exit 300")).await;
    assert!(failed.output.starts_with("COMMAND_FAILED: exit code 44\nout\n[exit 44]"), "{}", failed.output);
    let crashed = world.run(&world.bash(3, "kill -SEGV $$")).await;
    assert!(crashed.output.starts_with("COMMAND_FAILED: killed by signal 11 (SIGSEGV)\n"), "{}", crashed.output);

    // No terminal, no input, no credential, no command of its own options.
    let quiet = "cat; tty; env | grep -ciE 'secret|lakitu_token'; echo $TERM $GIT_PAGER";
    let quiet = world.run(&world.bash(4, quiet)).await;
    assert!(quiet.output.starts_with("not a tty\n0\ndumb cat\n[exit 0"), "{}", quiet.output);
    let dashes = world.run(&world.bash(5, "-x")).await;
    assert_eq!(code(&dashes), Some(ErrorCode::CommandFailed));
    assert!(last_line(&dashes).starts_with("[exit 127"), "{}", dashes.output);

    let inside = world.run(&world.ask(&BASH, 6, 1, &json!({ "command": "pwd", "cwd": "src" }))).await;
    assert!(inside.output.starts_with(&workspace.join("src").display().to_string()));
    let outside = world.run(&world.ask(&BASH, 7, 1, &json!({ "command": "pwd", "cwd": "/" }))).await;
    assert_eq!(code(&outside), Some(ErrorCode::PermissionDenied));
    let long = "x".repeat(lakitu_kernel::limits::COMMAND_BYTES_MAX - 2);
    assert_eq!(world.run(&world.bash(8, &format!(": {long}"))).await.error, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_child_holds_no_call_up_and_is_a_job_until_it_is_killed() {
    let world = World::new();
    let mark = marker(1);
    world.tools.warm(THREAD, &world.place()).await;
    let begun = Instant::now();
    let left = format!("mkfifo p; echo first; sh -c 'echo later; echo > p; exec sleep {mark}' {mark} & read line < p");
    let started = world.run(&world.bash(12, &left)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for the pipe");
    assert!(
        started.output.contains("[still running: job_12, 1 process; see bash_output, bash_kill]\n"),
        "{}",
        started.output
    );
    assert!(last_line(&started).starts_with("[exit 0]"));

    let listed = world.run(&world.ask(&BASH_LIST, 13, 1, &json!({}))).await;
    assert!(listed.output.starts_with("job_12  exit 0"), "{}", listed.output);
    assert_eq!(world.tools.jobs(THREAD).await.len(), 1);
    assert_eq!(world.tools.counts().borrow().jobs, 1);

    let all = world.run(&world.ask(&BASH_OUTPUT, 14, 1, &json!({ "job": "job_12" }))).await;
    assert!(all.output.starts_with("first\nlater\n[job_12: exit 0"), "{}", all.output);
    assert!(all.output.ends_with("since: 12]"), "{}", all.output);
    let rest = world.run(&world.ask(&BASH_OUTPUT, 15, 1, &json!({ "job": "12", "since": 6 }))).await;
    assert!(rest.output.starts_with("later\n[job_12: "), "{}", rest.output);
    let none = world.run(&world.ask(&BASH_OUTPUT, 16, 1, &json!({ "job": "job_99" }))).await;
    assert_eq!(code(&none), Some(ErrorCode::JobNotFound));

    assert_eq!(alive(&mark).len(), 1);
    let kill = world.ask(&BASH_KILL, 17, 1, &json!({ "job": "job_12" }));
    let killed = world.run(&kill).await;
    assert!(killed.output.starts_with("job_12 is ended"), "{}", killed.output);
    assert_eq!(alive(&mark), Vec::<String>::new());
    // Killing is safe to repeat.
    let again = world.run(&kill).await;
    assert!(again.output.starts_with("job_12 had ended already"), "{}", again.output);
    assert_eq!(again.error, None);
    let nobody = world.run(&world.ask(&BASH_KILL, 18, 1, &json!({ "job": "job_99" }))).await;
    assert_eq!(code(&nobody), Some(ErrorCode::JobNotFound));
    let listed = world.run(&world.ask(&BASH_LIST, 19, 1, &json!({}))).await;
    assert_eq!(listed.output, "no jobs are running");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_output_is_cut_in_the_middle_with_an_exact_count() {
    let world = World::new();
    let long = world.run(&world.bash(1, "head -c 10000000 /dev/zero | tr '\\0' x")).await;
    let spool = world.home.path().canonicalize().unwrap().join("data/outputs").join(THREAD.to_string()).join("1.out");
    let (head, rest) = long.output.split_once("\n[").unwrap();
    let (omitted, rest) = rest.split_once(&format!(" bytes omitted; whole output: {}]\n", spool.display())).unwrap();
    let (tail, _) = rest.split_once("\n[exit 0]").unwrap();
    assert!(head.bytes().chain(tail.bytes()).all(|byte| byte == b'x') && head.len() > 20_000 && tail.len() > 20_000);
    assert_eq!(head.len() + omitted.parse::<usize>().unwrap() + tail.len(), 10_000_000);
    assert_eq!(fs::metadata(&spool).unwrap().len(), 10_000_000);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_command_is_adopted_by_the_next_runtime() {
    let mut world = World::new();
    let go = world.fifo(1).await;
    let command = "echo ready; read line < go; echo $line; exit 5";
    let waiting = world.begin(2, command).await;
    // The future is dropped, then everything of this runtime: the command is not touched.
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let world = world.again();
    let ask = world.bash(2, command);
    let boot = boot();
    let said = async {
        tokio::task::spawn_blocking(move || fs::write(go, "went on\n")).await.unwrap().unwrap();
    };
    let (settled, ()) = tokio::join!(world.recover(&ask, &boot, 1), said);
    let adopted = outcome(settled);
    assert!(adopted.output.starts_with("COMMAND_FAILED: exit code 5\nready\nwent on\n[exit 5]"), "{}", adopted.output);

    // Once more, now that it has ended: the keeper knows; and once the keeper is gone, it wrote it down.
    assert_eq!(outcome(world.recover(&ask, &boot, 1).await), adopted);
    world.tools.kill_all(THREAD, PATIENCE).await;
    assert_eq!(outcome(world.recover(&ask, &boot, 1).await), adopted);
    assert_eq!(outcome(world.recover(&ask, "another boot", 1).await), adopted);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_never_began_never_begins_under_that_attempt() {
    let world = World::new();
    let ask = world.bash(3, "echo ran > ran");
    assert_eq!(world.recover(&ask, &boot(), 1).await, Settled::NeverBegan);
    // Its claim is ours: neither a keeper that was late nor anybody else begins it.
    let late = world.run(&ask).await;
    assert_eq!(code(&late), Some(ErrorCode::Interrupted), "{}", late.output);
    assert!(!world.place().workspace.join("ran").exists());
    // A runtime that is killed now is followed by another, and it has still not begun.
    assert_eq!(world.recover(&ask, &boot(), 1).await, Settled::NeverBegan);

    let second = world.ask(&BASH, 3, 2, &json!({ "command": "echo ran > ran" }));
    assert_eq!(world.run(&second).await.error, None);
    assert!(world.place().workspace.join("ran").exists());
    // Asked again, it is not run again.
    fs::remove_file(world.place().workspace.join("ran")).unwrap();
    assert_eq!(world.run(&second).await.error, None);
    assert!(!world.place().workspace.join("ran").exists());

    let other_boot = world.recover(&world.bash(4, ":"), "another boot", 1).await;
    assert_eq!(code(&outcome(other_boot)), Some(ErrorCode::Interrupted));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_its_keeper_is_killed_a_command_is_interrupted_and_the_next_one_runs() {
    let mut world = World::new();
    let mark = marker(3);
    let waiting = world.begin(1, &format!("echo ready; setsid sleep {mark} & sleep {mark}")).await;
    rustix::process::kill_process(world.keeper_pid(), rustix::process::Signal::KILL).unwrap();
    let lost = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(code(&lost), Some(ErrorCode::Interrupted));
    assert!(lost.output.contains("it was started at 2"), "{}", lost.output);
    assert!(lost.output.contains("/1.out"), "{}", lost.output);
    assert!(lost.output.ends_with("\nready\n"), "{}", lost.output);
    assert_eq!(outcome(world.recover(&world.bash(1, ":"), &boot(), 1).await).output, lost.output);

    assert_eq!(world.run(&world.bash(2, "echo back")).await.error, None);
    assert_eq!(world.tools.counts().borrow().keepers_lost, 1);
    world.tools.shutdown().await;
    assert_eq!(alive(&mark), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_hangs_when_the_calls_time_is_over_is_killed_after_its_grace() {
    let mut world = World::new();
    let ask = world.ask(&BASH, 1, 1, &json!({ "command": "echo ready; sleep 1000", "timeout": 1000 }));
    let tools = world.tools.clone();
    let stop = async {
        tokio::time::timeout(PATIENCE, world.output.recv()).await.unwrap().unwrap();
        rustix::process::kill_process(world.keeper_pid(), rustix::process::Signal::STOP).unwrap();
    };
    let (hung, ()) = tokio::join!(tools.run(&ask), stop);
    assert_eq!(code(&hung), Some(ErrorCode::Interrupted));
    assert!(hung.output.contains("did not answer and was killed"), "{}", hung.output);
    assert_eq!(world.run(&world.bash(2, "echo back")).await.error, None);
    world.tools.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_ends_one_command_and_a_stop_ends_all() {
    let mut world = World::new();
    let mark = marker(4);
    let escapees = format!(
        "trap '' TERM; setsid sleep {mark} & (sleep {mark} &); nohup sleep {mark} >/dev/null 2>&1 & disown; \
         setsid sh -c '(sleep {mark} &)'; echo left"
    );
    let left = world.run(&world.bash(1, &escapees)).await;
    assert!(left.output.contains("[still running: job_1, 4 processes"), "{}", left.output);
    assert_eq!(world.output.recv().await.map(|told| told.0), Some(Seq(1)));

    let one = world.begin(2, "echo ready; sleep 1000").await;
    world.tools.cancel(THREAD, Seq(2)).await;
    let cancelled = tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap();
    assert!(cancelled.output.starts_with("COMMAND_FAILED: it was killed after "), "{}", cancelled.output);
    assert!(world.tools.jobs(THREAD).await.iter().any(|job| job.seq == 1));

    let two = world.begin(3, &format!("echo ready; sleep {mark}")).await;
    let begun = Instant::now();
    world.tools.kill_all(THREAD, PATIENCE).await;
    assert_eq!(alive(&mark), Vec::<String>::new());
    assert!(begun.elapsed() < Duration::from_secs(5));
    let stopped = tokio::time::timeout(PATIENCE, two).await.unwrap().unwrap();
    assert_eq!(code(&stopped), Some(ErrorCode::Interrupted), "{}", stopped.output);
    assert!(stopped.output.contains("the run was stopped"), "{}", stopped.output);
    assert!(world.tools.jobs(THREAD).await.is_empty());

    // What comes after a stop gets a new keeper.
    assert_eq!(world.run(&world.bash(4, ":")).await.error, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_not_see_the_runtimes_data_but_their_output_and_artifacts() {
    let world = World::new();
    let data = world.home.path().canonicalize().unwrap().join("data");
    let look = format!("cat {0}/token; ls {0}; echo made > {1}/a", data.display(), world.place().artifacts.display());
    let seen = world.run(&world.bash(1, &look)).await;
    assert_eq!(seen.error, None, "{}", seen.output);
    let hello = lakitu_keeper::Client::connect(&data.join("jobs").join(THREAD.to_string())).unwrap().hello().unwrap();
    if hello.isolation.mount_namespace {
        assert!(!seen.output.contains("jwt"), "{}", seen.output);
        assert!(seen.output.contains("\noutputs\n"), "{}", seen.output);
    }
    assert!(world.place().artifacts.join("a").exists());
    world.end().await;
}
