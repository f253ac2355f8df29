//! What `lakitu gateway` adds to a piece of a stream on its way, against a proxy that copies bytes and knows nothing.
//!
//! `cargo bench --bench gateway [-- --rounds N --json]`
//!
//! A server on loopback sends a small event each millisecond with the moment of its sending in it; the reader, in the
//! same process, takes the time from there to its own read. Both ways are processes of their own, measured in turn.

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use common::children::wait_for;
use common::directory;
use common::report::{Report, Samples};
use tokio::task::JoinSet;

/// Between two events.
const PAUSE: Duration = Duration::from_millis(1);
/// Events of a stream, and how many of them are not counted: caches and connections are cold.
const EVENTS: usize = 1000;
const COLD: usize = 100;
/// Against the copying proxy.
const RATIO_MAX: f64 = 2.0;
const MARK: &[u8] = b"data: ";
const DIGITS: usize = 16;

/// Latency of pieces of a stream.
#[derive(Debug, Parser)]
struct Args {
    /// Streams over each way
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// Be the proxy in front of this address (until standard input ends)
    #[arg(long, hide = true)]
    copy: Option<SocketAddr>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(to) = args.copy {
        return copy(to);
    }
    let begun = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    std::thread::spawn(move || serve(&listener, begun));
    let dir = directory()?;
    let mut ways = [
        ("nothing between", None, server),
        with("copying proxy", Way::copying(server)?),
        with("lakitu gateway", Way::gateway(server, dir.path())?),
    ];
    let mut samples: [Samples; 3] = Default::default();
    for _ in 0..args.rounds {
        for (samples, (name, _, at)) in samples.iter_mut().zip(&ways) {
            samples.extend(stream(*at, begun).with_context(|| format!("over {name}"))?);
        }
    }
    for (_, way, _) in &mut ways {
        way.iter_mut().try_for_each(Way::end)?;
    }
    let mut report = Report::new("gateway");
    for (samples, (name, ..)) in samples.iter().zip(&ways) {
        report.samples(format!("a piece from end to end, {name}"), "µs", samples, None);
    }
    let [direct, copied, passed] = samples.map(|samples| samples.median());
    report.value("added by the copying proxy", "µs", copied - direct, None);
    report.value("added by lakitu gateway", "µs", passed - direct, None);
    report.value("lakitu gateway to copying proxy, end to end", "×", passed / copied, Some(RATIO_MAX));
    report.value("lakitu gateway to copying proxy, added", "×", (passed - direct) / (copied - direct), Some(RATIO_MAX));
    report.print(args.json);
    Ok(())
}

fn with(name: &'static str, way: Way) -> (&'static str, Option<Way>, SocketAddr) {
    let at = way.at;
    (name, Some(way), at)
}

/// A process between the reader and the server.
struct Way {
    child: Child,
    at: SocketAddr,
}

impl Way {
    #[allow(clippy::disallowed_methods, reason = "this bench itself, once more")]
    fn copying(server: SocketAddr) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--copy").arg(server.to_string());
        Self::start(command)
    }

    #[allow(clippy::disallowed_methods, reason = "what is measured")]
    fn gateway(server: SocketAddr, dir: &std::path::Path) -> Result<Self> {
        let config = dir.join("gateway.toml");
        let upstream = format!("kind = \"openai\"\nbase_url = \"http://{server}\"\n");
        std::fs::write(&config, format!("[gateway.server.upstream.bench]\n{upstream}"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakitu"));
        command.args(["gateway", "--bind", "127.0.0.1:0", "--config"]).arg(config);
        Self::start(command)
    }

    /// Its first line ends with where it listens, or names it as `url=`.
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let at = line.split_whitespace().find_map(|word| word.strip_prefix("url=http://"));
        Ok(Self { child, at: at.with_context(|| format!("not ready: {line}"))?.parse()? })
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        wait_for(&mut self.child, Duration::from_secs(15))?;
        Ok(())
    }
}

/// Copies bytes both ways, on a runtime like the gateway's.
#[allow(clippy::print_stdout, reason = "tells the bench where it listens")]
fn copy(to: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("url=http://{}", listener.local_addr()?);
        let mut open = JoinSet::new();
        loop {
            let (mut from, _) = listener.accept().await?;
            open.spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await?;
                from.set_nodelay(true)?;
                to.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    })
}

/// Sends a stream to everybody who asks.
fn serve(listener: &TcpListener, begun: Instant) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || send(stream, begun));
    }
}

#[allow(clippy::disallowed_methods, reason = "the pace is what the bench is about")]
fn send(mut stream: TcpStream, begun: Instant) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut asked = Vec::new();
    let mut piece = [0; 4096];
    while !asked.ends_with(b"}") {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        asked.extend_from_slice(&piece[..count]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
    for _ in 0..EVENTS {
        std::thread::sleep(PAUSE);
        let event = format!("data: {:0DIGITS$}\n\n", begun.elapsed().as_nanos());
        stream.write_all(event.as_bytes())?;
    }
    // Without its terminal it would be taken for cut; without the space it is no event that is measured.
    stream.write_all(b"data:[DONE]\n\n")?;
    Ok(())
}

/// Asks over this way, and takes each event's time in microseconds.
fn stream(at: SocketAddr, begun: Instant) -> Result<Samples> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let body = "{\"model\":\"m\",\"stream\":true}";
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: {at}\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n{body}").as_bytes())?;
    let (mut seen, mut taken) = (Vec::new(), Vec::new());
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            break;
        }
        let now = begun.elapsed();
        seen.extend_from_slice(&piece[..count]);
        while let Some(place) = seen.windows(MARK.len()).position(|window| window == MARK) {
            let digits = place + MARK.len()..place + MARK.len() + DIGITS;
            let Some(sent) = seen.get(digits.clone()) else { break };
            let sent = Duration::from_nanos(std::str::from_utf8(sent)?.parse()?);
            taken.push(now.saturating_sub(sent).as_secs_f64() * 1e6);
            seen.drain(..digits.end);
        }
    }
    if taken.len() != EVENTS {
        bail!("{} of {EVENTS} events came", taken.len());
    }
    Ok(taken.into_iter().skip(COLD).collect())
}
