//! A thousand threads of one runtime, each waiting on a model stream: what they add to the memory of its process.
//!
//! `cargo bench --bench threads [-- --threads N --json]`
//!
//! The streams are real: the HTTP client, over loopback, to a server that sends the beginning of an answer and then
//! nothing. The server is a process of its own, so that its memory is not counted.

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use common::children::wait_for;
use common::memory::of_this_process;
use common::model::{Model, Play};
use common::report::Report;
use common::{directory, ms};
use lakitu::adapters::{HttpGateway, TokenSource};
use lakitu::session::{Opening, Session};
use lakitu_actors::runtime::origin;
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_actors::tools::file::pdf::Reader;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::System;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::Settings;
use lakitu_kernel::ports::{BoxFuture, Delta, DeltaSink, Gateway, ModelFailure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::time::timeout;

/// What all of them together may add.
const GROWTH_MB_MAX: f64 = 100.0;
/// Until all of them wait. A stream that says nothing is given up after a minute, so it must be less.
const ALL_WAIT_DEADLINE: Duration = Duration::from_secs(45);
/// An orderly stop of all of them.
const STOP_DEADLINE: Duration = Duration::from_mins(1);

/// Memory of threads that wait.
#[derive(Debug, Parser)]
struct Args {
    /// How many
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    threads: u32,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// Be the server (until standard input ends)
    #[arg(long, hide = true)]
    serve: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    if args.serve {
        return serve();
    }
    let mut server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(measure(&server.url, args.threads));
    runtime.shutdown_timeout(Duration::from_secs(5));
    server.end()?;
    report?.print(args.json);
    Ok(())
}

#[allow(clippy::print_stdout, reason = "tells the bench where it listens")]
fn serve() -> Result<()> {
    let model = Model::start(Play::Hold)?;
    println!("{}", model.url());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The server's process. It ends when this one does.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    #[allow(clippy::disallowed_methods, reason = "this bench itself, once more")]
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().to_owned() })
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        wait_for(&mut self.child, Duration::from_secs(10))?;
        Ok(())
    }
}

/// The HTTP client, counting streams that have begun.
struct Counting {
    inner: HttpGateway,
    begun: watch::Sender<u32>,
}

impl Gateway for Counting {
    fn complete(
        &self,
        request: ModelRequest,
        deltas: DeltaSink,
    ) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        let begun = self.begun.clone();
        let counted = move |delta: Delta| {
            if matches!(&delta, Delta::Text(text) if !text.is_empty()) {
                begun.send_modify(|count| *count += 1);
            }
            deltas(delta);
        };
        self.inner.complete(request, Arc::new(counted))
    }
}

async fn measure(url: &str, threads: u32) -> Result<Report> {
    let (mut report, dir) = (Report::new("threads"), directory()?);
    let inner = HttpGateway::new(url, TokenSource::None, Arc::new(System)).map_err(|error| anyhow!("{error}"))?;
    let begun = watch::Sender::new(0);
    let opening = Opening {
        config: Config::default(),
        data: dir.path().join("data"),
        upstream: Arc::new(Counting { inner, begun: begun.clone() }),
        starter: KeeperStarter::Helper(env!("CARGO_BIN_EXE_lakitu-keeper").into()),
        hidden: Vec::new(),
        exit: None,
        log: None,
        patience: None,
        serves: None,
        api: None,
        reader: Reader::none(),
    };
    let session = Session::open(opening).await.map_err(|error| anyhow!("{error}"))?;
    let mut waiting = begun.subscribe();
    let settings = Settings {
        model: "bench".to_owned(),
        mode: lakitu_kernel::mode::Mode::Build,
        workspace: dir.path().to_owned(),
        artifacts: dir.path().join("artifacts"),
        max_turns: None,
        timeout_ms: None,
        asking: lakitu_kernel::event::Asking::default(),
    };
    // One first: what is made once in a process is not counted for each.
    start(&session, &settings).await?;
    all_wait(&mut waiting, 1).await?;
    let (before, started_at) = (of_this_process(), Instant::now());
    for _ in 0..threads {
        start(&session, &settings).await?;
    }
    all_wait(&mut waiting, threads + 1).await?;
    let took = started_at.elapsed();
    let after = of_this_process();
    let (growth, each) = (after - before, (after - before) * 1000.0 / f64::from(threads));
    let stopping = Instant::now();
    timeout(STOP_DEADLINE, session.close()).await.context("the stop did not end")?;
    report.value("resident memory with one thread", "MB", before, None);
    report.value(format!("growth with {threads} more, each waiting on a stream"), "MB", growth, Some(GROWTH_MB_MAX));
    report.value("of it a thread", "kB", each, None);
    report.value("until all of them wait", "ms", ms(took), None);
    report.value("an orderly stop of all of them", "ms", ms(stopping.elapsed()), None);
    Ok(report)
}

async fn start(session: &Session, settings: &Settings) -> Result<()> {
    let threads = session.threads();
    let origin = origin(&session.runtime().wiring, settings.clone(), "wait for me".to_owned());
    threads.start(threads.new_id(), origin.await).await.map_err(|error| anyhow!("{error}"))
}

async fn all_wait(waiting: &mut watch::Receiver<u32>, count: u32) -> Result<()> {
    let mut seen = 0;
    let all = waiting.wait_for(|begun| {
        seen = *begun;
        seen >= count
    });
    let in_time = timeout(ALL_WAIT_DEADLINE, all).await.map(|begun| begun.map(drop));
    in_time.with_context(|| format!("only {seen} of {count} streams began"))??;
    Ok(())
}
