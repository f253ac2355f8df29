//! The whole process, measured from outside: the real binary, a model on loopback that answers at once, one `bash` call
//! a turn, everything durable. Raw costs of the machine are measured in the same run and printed beside.
//!
//! `cargo bench --bench process [-- --turns N --long N --runs N --leftovers N --lakitu PATH --json]`
//!
//! A plain loop with medians: what is measured is a process over milliseconds, and its own clock must not see it.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use common::children::{adopt_orphans, cpu_of_children, reap_orphans, wait_for};
use common::costs::Raw;
use common::memory::{of_descendants, peak_of};
use common::model::{Model, Play, Request, own_times};
use common::report::{Report, Samples};
use common::{WARM_TURNS, directory, ms, stretches};
use rustix::process::{Pid, Signal, kill_process};

/// The binary as a file, which a release build strips: 12 MiB.
const SIZE_MIB_MAX: f64 = 12.0;
/// Process start to the first model request.
const START_MS_MAX: f64 = 8.0;
/// `up`: process start to the ready line.
const READY_MS_MAX: f64 = 30.0;
/// `up`: memory of its tree when it has nothing to do.
const IDLE_MB_MAX: f64 = 12.0;
/// Own time a turn, over `bash -c :` and four raw overwrites of the same run.
const TURN_OWN_MS_MAX: f64 = 2.5;
/// Processor time a turn, children included.
const TURN_CPU_MS_MAX: f64 = 4.0;
/// Peak memory of the process tree over the turns.
const PEAK_MB_MAX: f64 = 24.0;
/// What late turns may take of the time of early ones before it is called growth: medians of one run differ that much.
const GROWTH_MAX: f64 = 1.25;
/// From a command's own last act to its result, whatever it leaves behind.
const LEFT_MS_MAX: f64 = 100.0;
/// Ways to leave something behind: none of it ends by itself.
const LEFT_BEHIND: [(&str, &str); 5] = [
    ("setsid", "setsid sleep 1000 >/dev/null 2>&1 &"),
    ("nohup", "nohup sleep 1000 >/dev/null 2>&1 &"),
    ("double fork", "( ( sleep 1000 >/dev/null 2>&1 & ) & )"),
    ("deaf to TERM", "( trap '' TERM HUP INT; sleep 1000; sleep 1000 ) >/dev/null 2>&1 &"),
    ("an open pipe", "sleep 1000 &"),
];
/// A run that takes longer is broken.
const RUN_DEADLINE: Duration = Duration::from_mins(2);
/// How long processes that a run leaves behind may take to end by themselves.
const ORPHANS_GRACE: Duration = Duration::from_secs(5);
/// Runs of the turns that time and processor time are taken from.
const TURN_RUNS: usize = 3;

/// The whole-process benchmark.
#[derive(Debug, Parser)]
struct Args {
    /// Turns of a run
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    turns: u32,
    /// Turns of the long run, in which growth is looked for; 0: leave it out
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    long: u32,
    /// Starts that are measured, of each kind
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Calls of each way to leave a process behind; 0: leave them out
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=250))]
    leftovers: u32,
    /// The binary that is measured [default: the one that was built with this bench; `cargo build --release` may turn
    /// on fewer features in what it stands on]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_lakitu"), hide_default_value = true)]
    lakitu: PathBuf,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    adopt_orphans()?;
    let (mut report, mut raw) = (Report::new("process"), Raw::default());
    let lakitu = Lakitu::new(args.lakitu)?;
    size(&lakitu, &mut report)?;
    raw.measure(lakitu.dir.path(), Some(&lakitu.model.address))?;
    starts(&lakitu, args.runs, &mut report)?;
    stays(&lakitu, args.runs, &mut report)?;
    let own = turns(&lakitu, args.turns, &mut report)?;
    peak(&lakitu, args.turns, &mut report)?;
    if args.long > 0 {
        growth(&lakitu, args.long, &mut report)?;
    }
    if args.leftovers > 0 {
        leftovers(&lakitu, args.leftovers, &mut report)?;
    }
    raw.measure(lakitu.dir.path(), Some(&lakitu.model.address))?;
    let bound = raw.bash.median() + 4.0 * raw.overwrite.median() + TURN_OWN_MS_MAX;
    report.samples(format!("own time a turn (of {})", args.turns), "ms", &own, Some(bound));
    report.note(format!("own time's bound: raw bash -c : + 4 x raw overwrite + {TURN_OWN_MS_MAX} ms = {bound:.2} ms"));
    raw.tell(&mut report);
    report.print(args.json);
    Ok(())
}

/// The binary, and the model that it talks to.
struct Lakitu {
    binary: PathBuf,
    dir: tempfile::TempDir,
    model: Model,
}

/// One run of the binary that came to its end.
struct Ran {
    spawned_at: Instant,
    ended_at: Instant,
    /// Its tree's.
    cpu: Duration,
    requests: Vec<Request>,
    /// What it wrote.
    told: String,
}

impl Lakitu {
    fn new(binary: PathBuf) -> Result<Self> {
        Ok(Self { binary, dir: directory()?, model: Model::start(play(0, None))? })
    }

    /// A new place: a workspace, and where its data will be.
    fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.dir.path().join(name);
        std::fs::create_dir_all(place.join("workspace"))?;
        Ok(place)
    }

    /// Runs one prompt to its end; `turns` is what the model plays.
    fn run(&self, place: &Path, turns: u32) -> Result<Ran> {
        self.run_telling(place, turns, &[])
    }

    /// [`Lakitu::run`] with more options.
    #[allow(clippy::disallowed_methods, reason = "the binary itself, from outside")]
    fn run_telling(&self, place: &Path, turns: u32, options: &[&str]) -> Result<Ran> {
        let told = place.join("told");
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "measure this", "--model", "bench", "--gateway", &self.model.url()])
            .arg("--workspace")
            .arg(place.join("workspace"))
            .arg("--data")
            .arg(place.join("data"))
            .args(options)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", place)
            .stdin(Stdio::null())
            .stdout(File::create(&told)?)
            .stderr(File::options().append(true).open(&told)?);
        let cpu_before = cpu_of_children()?;
        let spawned_at = Instant::now();
        let mut child = command.spawn().context("the binary")?;
        let status = wait_for(&mut child, RUN_DEADLINE)?;
        let ended_at = Instant::now();
        let killed = reap_orphans(ORPHANS_GRACE)?;
        let told = std::fs::read_to_string(&told).unwrap_or_default();
        ensure!(status.success(), "lakitu ended with {status}:\n{told}");
        ensure!(killed == 0, "lakitu left {killed} processes behind:\n{told}");
        let requests = self.model.requests(turns).with_context(|| told.clone())?;
        Ok(Ran { spawned_at, ended_at, cpu: cpu_of_children()?.saturating_sub(cpu_before), requests, told })
    }
}

fn play(turns: u32, look: Option<Arc<dyn Fn(u32) + Send + Sync>>) -> Play {
    Play::Turns { turns, command: ":".into(), look }
}

/// What the binary takes on a disk.
fn size(lakitu: &Lakitu, report: &mut Report) -> Result<()> {
    let bytes = std::fs::metadata(&lakitu.binary).context("the binary")?.len();
    #[allow(clippy::cast_precision_loss, reason = "some millions")]
    report.value("size of the binary", "MiB", bytes as f64 / f64::from(1 << 20), Some(SIZE_MIB_MAX));
    report.note(format!(
        "{} has {bytes} bytes; memory is in MB of a million, the binary in MiB",
        lakitu.binary.display()
    ));
    Ok(())
}

/// The first start on a machine makes the database; every other one opens it.
fn starts(lakitu: &Lakitu, runs: u32, report: &mut Report) -> Result<()> {
    let (mut first, mut again, mut ends) = (Samples::default(), Samples::default(), Samples::default());
    let known = lakitu.place("known")?;
    // One more of each: the first finds nothing in the page cache.
    for n in 0..=runs {
        for (place, samples) in [(lakitu.place(&format!("new-{n}"))?, &mut first), (known.clone(), &mut again)] {
            lakitu.model.play(play(0, None));
            let ran = lakitu.run(&place, 0)?;
            let request = ran.requests.first().context("no request came")?;
            if n > 0 {
                samples.push(ms(request.head_at - ran.spawned_at));
                ends.push(ms(ran.ended_at - request.answered_at));
            }
        }
    }
    report.samples("start to the first request, new data", "ms", &first, Some(START_MS_MAX));
    report.samples("start to the first request, known data", "ms", &again, Some(START_MS_MAX));
    report.samples("last answer to the process's end", "ms", &ends, None);
    Ok(())
}

/// `up`: from its start to its ready line, what it takes then, and from SIGTERM to its end.
#[allow(clippy::disallowed_methods, reason = "the binary itself, from outside")]
fn stays(lakitu: &Lakitu, runs: u32, report: &mut Report) -> Result<()> {
    let (mut ready, mut idle, mut ends) = (Samples::default(), Samples::default(), Samples::default());
    let place = lakitu.place("stays")?;
    // One more: the first finds nothing in the page cache, and makes the database.
    for n in 0..=runs {
        let mut command = Command::new(&lakitu.binary);
        command
            .args(["up", "--model", "bench", "--gateway", &lakitu.model.url()])
            .arg("--workspace")
            .arg(place.join("workspace"))
            .arg("--artifacts")
            .arg(place.join("artifacts"))
            .arg("--data")
            .arg(place.join("data"))
            .env_clear()
            .env("LAKITU__API__BIND", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let spawned_at = Instant::now();
        let mut child = command.spawn().context("the binary")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        let ready_at = Instant::now();
        ensure!(line.starts_with("lakitu ready "), "no ready line: {line:?}");
        let memory = of_descendants();
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("its process")?;
        let told_at = Instant::now();
        kill_process(pid, Signal::TERM)?;
        let status = wait_for(&mut child, RUN_DEADLINE)?;
        let ended_at = Instant::now();
        ensure!(status.success(), "lakitu up ended with {status}");
        ensure!(reap_orphans(ORPHANS_GRACE)? == 0, "lakitu up left processes behind");
        if n > 0 {
            ready.push(ms(ready_at - spawned_at));
            idle.push(memory.resident);
            ends.push(ms(ended_at - told_at));
        }
    }
    report.samples("up: start to the ready line", "ms", &ready, Some(READY_MS_MAX));
    report.samples("up: idle memory of the tree", "MB", &idle, Some(IDLE_MB_MAX));
    report.samples("up: SIGTERM to the process's end", "ms", &ends, None);
    Ok(())
}

/// Time and processor time of a turn.
fn turns(lakitu: &Lakitu, turns: u32, report: &mut Report) -> Result<Samples> {
    let (mut own, mut cpu, mut whole) = (Samples::default(), Samples::default(), Samples::default());
    let mut sent = (0, 0, 0);
    for n in 0..TURN_RUNS {
        lakitu.model.play(play(turns, None));
        let ran = lakitu.run(&lakitu.place(&format!("turns-{n}"))?, turns)?;
        own.extend(own_times(&ran.requests, WARM_TURNS, turns));
        cpu.push(ms(ran.cpu) / f64::from(turns));
        whole.push(ms(ran.ended_at - ran.spawned_at));
        let bytes = |request: Option<&Request>| request.map_or(0, |request| request.bytes);
        let all = ran.requests.iter().map(|request| request.bytes).sum();
        sent = (all, bytes(ran.requests.first()), bytes(ran.requests.last()));
    }
    report.samples(format!("CPU a turn, children included (of {turns})"), "ms", &cpu, Some(TURN_CPU_MS_MAX));
    report.samples(format!("a run of {turns} turns, start to end"), "ms", &whole, None);
    let (all, first, last) = sent;
    report.note(format!("bytes sent in {turns} turns: {all} (the first request {first}, the last {last})"));
    Ok(own)
}

/// The most that the tree takes at any time. Looked at all the while, and with a command that lives long enough to be
/// seen; so nothing else is measured in this run.
fn peak(lakitu: &Lakitu, turns: u32, report: &mut Report) -> Result<()> {
    let command = "i=0; while ((i++ < 2000)); do :; done";
    lakitu.model.play(Play::Turns { turns, command: command.into(), look: None });
    let place = lakitu.place("peak")?;
    let (ran, most, looks) = peak_of(|| lakitu.run(&place, turns))?;
    ran?;
    ensure!(looks > turns, "the memory was looked at {looks} times in {turns} turns: too few to see its peak");
    report.value(format!("peak memory of the tree over {turns} turns"), "MB", most.resident, Some(PEAK_MB_MAX));
    report.value("peak resident set of its largest process", "MB", most.largest_peak, None);
    report.note(format!(
        "peak memory: {} processes then, seen in {looks} looks; shared pages counted once in all but {} of them",
        most.processes, most.counted_whole
    ));
    Ok(())
}

/// How late a call returns whose command leaves a process behind. All of them live until the run ends, and none may after
/// it: that is looked at after each run of this bench.
fn leftovers(lakitu: &Lakitu, calls: u32, report: &mut Report) -> Result<()> {
    for (way, leave) in LEFT_BEHIND {
        // By the shell itself: another program's end would be part of what is measured.
        let command = format!("{leave}\necho $EPOCHREALTIME >>ended");
        lakitu.model.play(Play::Turns { turns: calls, command: command.into(), look: None });
        let place = lakitu.place(&format!("left by {way}"))?;
        let told = lakitu.run_telling(&place, calls, &["--output", "stream-json"])?.told;
        let ended = std::fs::read_to_string(place.join("workspace/ended"))?;
        let ended = ended.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let returned = told.lines().filter_map(returned_at).collect::<Result<Vec<f64>>>()?;
        ensure!(ended.len() == returned.len() && ended.len() == calls as usize, "not {calls} calls that end:\n{told}");
        let late = returned.iter().zip(&ended).map(|(returned, ended)| (returned - ended) * 1e3).collect();
        report.worst(format!("a command's last act to its result, leaving {way}"), "ms", &late, LEFT_MS_MAX);
    }
    report.note("a command's last act to its result: results carry whole milliseconds, so it is up to 1 ms more");
    Ok(())
}

/// When a line of the event stream says that a call returned, in seconds of the wall clock; `None` for other lines.
fn returned_at(line: &str) -> Option<Result<f64>> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["type"] == "tool.result").then(|| {
        let at = humantime::parse_rfc3339(event["at"].as_str().context("a result without its time")?)?;
        Ok(at.duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
    })
}

/// Time and memory of early and of late turns of one long run.
fn growth(lakitu: &Lakitu, turns: u32, report: &mut Report) -> Result<()> {
    let (told, seen) = mpsc::sync_channel(4);
    let [early, late] = stretches(turns);
    let look = move |turn: u32| {
        if turn == early.1 || turn == late.1 {
            let _ = told.try_send(of_descendants().resident);
        }
    };
    lakitu.model.play(play(turns, Some(Arc::new(look))));
    let ran = lakitu.run(&lakitu.place("long")?, turns)?;
    let memory: Vec<f64> = seen.try_iter().collect();
    let &[memory_early, memory_late] = memory.as_slice() else { anyhow::bail!("the memory was not looked at twice") };
    let times = |(from, to): (u32, u32)| (format!("turns {from} to {to}"), own_times(&ran.requests, from, to));
    let ((early_name, early_times), (late_name, late_times)) = (times(early), times(late));
    let bound = early_times.median() * GROWTH_MAX;
    report.samples(format!("own time a turn, {early_name}"), "ms", &early_times, None);
    report.samples(format!("own time a turn, {late_name}"), "ms", &late_times, Some(bound));
    let uploads = |(from, to): (u32, u32)| -> Samples {
        let within = ran.requests.iter().filter(|request| (from..=to).contains(&request.turn));
        within.map(|request| ms(request.body_at - request.head_at)).collect()
    };
    report.samples(format!("a request's head to its body's end, {early_name}"), "ms", &uploads(early), None);
    report.samples(format!("a request's head to its body's end, {late_name}"), "ms", &uploads(late), None);
    report.value(format!("memory of the tree at turn {}", early.1), "MB", memory_early, None);
    report.value(format!("memory of the tree at turn {}", late.1), "MB", memory_late, Some(PEAK_MB_MAX));
    report.value(
        format!("CPU a turn, children included (of {turns})"),
        "ms",
        ms(ran.cpu) / f64::from(turns),
        Some(TURN_CPU_MS_MAX),
    );
    Ok(())
}
