//! The store beside what it stands on: a raw overwrite with fdatasync, and a bare redb doing as much. All in one run,
//! because only their ratios travel from one machine to another.
//!
//! `cargo bench --bench store [-- --events N --json]`
//!
//! A plain loop with medians: a commit takes a disk's time, and criterion's many rounds would only ask it more often.

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Parser;
use common::children::wait_for;
use common::costs::{judge, overwrites};
use common::report::{Report, Samples};
use common::{directory, ms};
use lakitu_actors::planning::{self, Change, ImportLine};
use lakitu_actors::runtime::{Parts, Runtime};
use lakitu_actors::store::query::Query;
use lakitu_actors::store::{
    Append, BeadKey, CACHE_BYTES, ChangeBeads, Op, Reading, Step, Store, ThreadRow, ThreadStatus, Usage,
};
use lakitu_actors::tools::bash::KeeperStarter;
use lakitu_kernel::chat::{ModelAnswer, ModelRequest};
use lakitu_kernel::clock::Timestamp;
use lakitu_kernel::config::Config;
use lakitu_kernel::ports::{BoxFuture, DeltaSink, Gateway, ModelFailure};
use lakitu_kernel::{EventBody, Seq, ThreadId};
use redb::{Database, TableDefinition};
use serde_json::json;

/// Commits that are measured one by one.
const COMMITS: usize = 300;
/// Writers at a time, and the steps of each.
const WRITERS: u32 = 64;
const STEPS_EACH: u64 = 30;
/// Events of one step while a database is filled.
const FILL_STEP: u64 = 500;
/// Events of a page that is read.
const PAGE: usize = 100;
/// A database is filled within this time.
const FILL_DEADLINE: Duration = Duration::from_mins(5);
/// The text of an event: a call with its arguments is about as long.
const TEXT_BYTES: usize = 200;

/// The store.
#[derive(Debug, Parser)]
struct Args {
    /// Events in the database that is killed, opened and read
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1000..=5_000_000))]
    events: u64,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// Fill a database in this directory and write on until killed
    #[arg(long, hide = true)]
    fill: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(data) = &args.fill {
        return tokio.block_on(fill(data, args.events));
    }
    let (mut report, dir) = (Report::new("store"), directory()?);
    let mut raw = overwrites(dir.path(), COMMITS / 2)?;
    let (bare, whole) = (bare(dir.path(), false)?, bare(dir.path(), true)?);
    let alone = tokio.block_on(alone(&dir.path().join("alone")))?;
    let grouped = tokio.block_on(grouped(&dir.path().join("grouped")))?;
    raw.extend(overwrites(dir.path(), COMMITS / 2)?);
    report.samples("raw: overwrite 4 KiB + fdatasync", "ms", &raw, None);
    report.samples("bare redb: the events and the thread's row, one commit", "ms", &bare, None);
    report.samples("bare redb: what the index, the feed and the count need too", "ms", &whole, None);
    report.samples("store: one step, idle writer", "ms", &alone, None);
    report.value("store / raw overwrite", "x", alone.median() / raw.median(), None);
    report.value("store / bare redb", "x", alone.median() / bare.median(), None);
    report.value("store / bare redb that writes as much", "x", alone.median() / whole.median(), None);
    report.value("steps a second, one writer", "1/s", 1000.0 / alone.median(), None);
    report.value(format!("steps a second, {WRITERS} writers"), "1/s", grouped, None);
    report.value("gain by sharing commits", "x", grouped * alone.median() / 1000.0, None);
    judge(&raw, &mut report);
    let (import, ready) = tokio.block_on(beads(&dir.path().join("beads")))?;
    report.value("beads: an import of 2,000 lines", "ms", import, None);
    report.samples("beads: ready, of 10,000 in chains of 1,000", "ms", &ready, None);
    tokio.block_on(reads(&dir.path().join("beads"), &mut report))?;
    let told = tokio.block_on(told(&dir.path().join("told")))?;
    report.samples("a change is told, behind its step", "ms", &told, None);
    tokio.block_on(overwritten(&dir.path().join("hot"), &mut report))?;
    after_a_kill(&tokio, &dir.path().join("killed"), args.events, &mut report)?;
    report.print(args.json);
    Ok(())
}

/// Nobody asks it.
struct Silent;

impl Gateway for Silent {
    fn complete(&self, _: ModelRequest, _: DeltaSink) -> BoxFuture<'static, Result<ModelAnswer, ModelFailure>> {
        Box::pin(std::future::pending())
    }
}

/// A runtime, of which only the store is asked for anything.
async fn runtime(data: &Path) -> Result<Runtime> {
    let starter = KeeperStarter::Helper(env!("CARGO_BIN_EXE_lakitu-keeper").into());
    let mut config = Config::default();
    config.debug.socket = false;
    let parts = Parts::new(config, data.to_owned(), Arc::new(Silent), starter);
    let runtime = Runtime::start(parts).await.map_err(|error| anyhow!("{error}"))?;
    runtime.settled().await;
    match runtime.wiring.store.last_start() {
        Some(Ok(_)) => Ok(runtime),
        other => Err(anyhow!("the store did not start: {other:?}")),
    }
}

/// A thread's next step: its row, and so many events.
fn step(thread: ThreadId, expected: u64, events: u64) -> Step {
    let at = Timestamp(1_700_000_000_000 + expected);
    let row = ThreadRow {
        id: thread,
        status: ThreadStatus::Running,
        workspace: "/workspace".into(),
        model: "bench".to_owned(),
        mode: lakitu_kernel::mode::Mode::Build,
        created_at: Timestamp(1_700_000_000_000),
        updated_at: at,
        last_seq: Seq::ZERO,
        turns: 0,
        tool_calls: 0,
        usage: Usage::default(),
        title: "bench".to_owned(),
        reason: None,
        error: None,
        generation: 1,
    };
    let text = |n: u64| format!("{:0width$}", expected + n, width = TEXT_BYTES);
    let append = |n| Op::from(Append { at, body: EventBody::Prompt { text: text(n) } });
    Step {
        thread,
        expected: Seq(expected),
        ops: std::iter::once(Op::from(row)).chain((0..events).map(append)).collect(),
    }
}

async fn submit(store: &Store, step: Step) -> Result<()> {
    store.submit(step).await.map_err(|error| anyhow!("{error}"))?;
    Ok(())
}

/// Steps of two events, each sent when the one before it is durable.
async fn alone(data: &Path) -> Result<Samples> {
    let runtime = runtime(data).await?;
    let mut samples = Samples::default();
    for n in 0..COMMITS as u64 {
        let step = step(ThreadId(1), n * 2, 2);
        let begun = Instant::now();
        submit(&runtime.wiring.store, step).await?;
        samples.push(ms(begun.elapsed()));
    }
    runtime.stop().await;
    Ok(samples)
}

/// The same from many writers at a time: steps a second.
async fn grouped(data: &Path) -> Result<f64> {
    let runtime = runtime(data).await?;
    let (mut writers, begun) = (tokio::task::JoinSet::new(), Instant::now());
    for writer in 0..WRITERS {
        let store = runtime.wiring.store.clone();
        writers.spawn(async move {
            for n in 0..STEPS_EACH {
                submit(&store, step(ThreadId(u128::from(writer) + 1), n * 2, 2)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let took = begun.elapsed();
    runtime.stop().await;
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let steps = (u64::from(WRITERS) * STEPS_EACH) as f64;
    Ok(steps / took.as_secs_f64())
}

/// How long an import takes, in ms; and each time it is asked what is ready.
async fn beads(data: &Path) -> Result<(f64, Samples)> {
    const BEADS: usize = 10_000;
    const CHAIN: usize = 1_000;
    const IMPORTED: usize = 2_000;
    let runtime = runtime(data).await?;
    let store = &runtime.wiring.store;
    let line = |n: usize| {
        let waits = if n.is_multiple_of(CHAIN) {
            json!([])
        } else {
            json!([{ "depends_on_id": format!("p-{}", n - 1), "type": "blocks" }])
        };
        let record = json!({
            "id": format!("p-{n}"), "title": format!("task {n}"), "description": "d".repeat(TEXT_BYTES), "status": "open",
            "priority": n % 5, "updated_at": "2025-10-14T21:00:00Z", "dependencies": waits,
        });
        ImportLine { number: n as u64 + 1, text: record.to_string() }
    };
    let (mut import, mut begun) = (0.0, Instant::now());
    for first in (0..BEADS).step_by(500) {
        if first == IMPORTED {
            import = ms(begun.elapsed());
        }
        let lines = (first..first + 500).map(line).collect();
        let key = BeadKey::Person(first as u128);
        let asked = ChangeBeads { key, by: "bench".to_owned(), at: Timestamp(1), change: Change::Import(lines) };
        planning::change(store, asked).await.map_err(|error| anyhow!("{error}"))?;
    }
    let mut samples = Samples::default();
    for _ in 0..COMMITS {
        begun = Instant::now();
        let page = store.read(|reading| reading.beads_ready(100, None)).await.map_err(|error| anyhow!("{error}"))?;
        samples.push(ms(begun.elapsed()));
        ensure!(page.items.len() == BEADS / CHAIN, "{} beads are ready", page.items.len());
    }
    runtime.stop().await;
    Ok((import, samples))
}

/// One row by its id, and a page of an index, among 10,000 beads.
async fn reads(data: &Path, report: &mut Report) -> Result<()> {
    let runtime = runtime(data).await?;
    let store = &runtime.wiring.store;
    let (mut point, mut page) = (Samples::default(), Samples::default());
    let query = Query::new("beads", Some("by_status"), Some(&json!("blocked"))).map_err(|error| anyhow!("{error}"))?;
    for n in 0..COMMITS {
        let id = format!("p-{}", n * 31 % 10_000).parse().map_err(|error| anyhow!("{error:?}"))?;
        let begun = Instant::now();
        let found = store.read(move |reading| reading.bead(&id)).await.map_err(|error| anyhow!("{error}"))?;
        point.push(ms(begun.elapsed()));
        ensure!(found.is_some(), "a bead is missing");
        let (query, begun) = (query.clone(), Instant::now());
        let found = store.read(move |reading| query.page(reading, PAGE, None)).await;
        page.push(ms(begun.elapsed()));
        ensure!(found.map_err(|error| anyhow!("{error}"))?.items.len() == PAGE, "a page of {PAGE} rows");
    }
    runtime.stop().await;
    report.samples("read of a row", "ms", &point, None);
    report.samples(format!("read of a page of {PAGE} rows by an index"), "ms", &page, None);
    Ok(())
}

/// From the answer to whoever commits a row to the moment at which whoever follows its table has it.
async fn told(data: &Path) -> Result<Samples> {
    let runtime = runtime(data).await?;
    let store = runtime.wiring.store.clone();
    let (mut samples, mut commits) = (Samples::default(), store.watch());
    let (tell, mut heard) = tokio::sync::mpsc::channel(1);
    let reader = store.clone();
    let mut following = tokio::task::JoinSet::new();
    following.spawn(async move {
        let mut after = *commits.borrow_and_update();
        while commits.changed().await.is_ok() {
            let changes = reader.read(move |reading| reading.changes(after, PAGE)).await;
            let Some(last) = changes.ok().and_then(|changes| changes.last().map(|change| change.commit)) else {
                continue;
            };
            after = last;
            if tell.send(Instant::now()).await.is_err() {
                return;
            }
        }
    });
    for n in 0..COMMITS as u64 {
        submit(&store, step(ThreadId(1), n, 1)).await?;
        let known = Instant::now();
        let at = heard.recv().await.context("nobody follows")?;
        samples.push(ms(at.saturating_duration_since(known)));
    }
    following.shutdown().await;
    runtime.stop().await;
    Ok(samples)
}

/// The file beside what it holds, when the same rows were written over and over.
#[allow(clippy::cast_precision_loss, reason = "sizes for people")]
async fn overwritten(data: &Path, report: &mut Report) -> Result<()> {
    const OVERWRITES: u64 = 100_000;
    let runtime = runtime(data).await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = runtime.wiring.store.clone();
        writers.spawn(async move {
            for n in 0..OVERWRITES / u64::from(WRITERS) {
                let row = Step { expected: Seq::ZERO, ..step(ThreadId(u128::from(writer) + 1), n, 0) };
                submit(&store, row).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let tables = runtime.wiring.store.read(Reading::tables).await.map_err(|error| anyhow!("{error}"))?;
    let live: u64 = tables.iter().map(|table| table.bytes).sum();
    runtime.stop().await;
    let file = std::fs::metadata(data.join("lakitu.redb"))?.len();
    report.value(
        format!("file / what it holds, {OVERWRITES} overwrites of {WRITERS} rows"),
        "x",
        file as f64 / live as f64,
        None,
    );
    report.note(format!(
        "the file of {OVERWRITES} overwrites: {:.1} MB, live {:.1} MB",
        file as f64 / 1e6,
        live as f64 / 1e6
    ));
    Ok(())
}

/// As many bytes into a redb without anything around it; `whole`: those of the index, the feed and the count too.
fn bare(dir: &Path, whole: bool) -> Result<Samples> {
    const JOURNAL: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("journal");
    const THREADS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("threads");
    const BY_STATUS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("threads.by_status");
    const CHANGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("changes");
    const META: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(dir.join(format!("bare-{whole}.redb")))?;
    let commit = |database: &Database, n: u64| -> Result<()> {
        let txn = database.begin_write()?;
        let (mut journal, mut threads) = (txn.open_table(JOURNAL)?, txn.open_table(THREADS)?);
        for seq in [n * 2, n * 2 + 1] {
            journal.insert(
                [[0; 16].as_slice(), &seq.to_be_bytes()].concat().as_slice(),
                [7; TEXT_BYTES + 50].as_slice(),
            )?;
        }
        threads.insert([0; 16].as_slice(), [7; 200].as_slice())?;
        drop((journal, threads));
        if whole {
            let entry = |n: u64| [[0; 17].as_slice(), &n.to_be_bytes()].concat();
            let mut by_status = txn.open_table(BY_STATUS)?;
            by_status.remove(entry(n.wrapping_sub(1)).as_slice())?;
            by_status.insert(entry(n).as_slice(), [0; 16].as_slice())?;
            txn.open_table(CHANGES)?
                .insert([n.to_be_bytes().as_slice(), &[0; 4]].concat().as_slice(), [7; 90].as_slice())?;
            txn.open_table(META)?.insert([0].as_slice(), [7; 60].as_slice())?;
        }
        Ok(txn.commit()?)
    };
    let mut samples = Samples::default();
    for n in 0..COMMITS as u64 {
        let begun = Instant::now();
        commit(&database, n)?;
        samples.push(ms(begun.elapsed()));
    }
    Ok(samples)
}

/// What the process does that will be killed.
#[allow(clippy::print_stdout, reason = "tells the bench that it may kill")]
async fn fill(data: &Path, events: u64) -> Result<()> {
    let runtime = runtime(data).await?;
    let store = &runtime.wiring.store;
    let mut last = 0;
    while last < events {
        submit(store, step(ThreadId(1), last, FILL_STEP)).await?;
        last += FILL_STEP;
    }
    println!("full");
    // Commits are under way when the kill comes.
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        submit(store, step(ThreadId(1), last, 1)).await?;
        last += 1;
    }
    Err(anyhow!("nobody killed it"))
}

/// Opening a large database whose process was killed, and reading pages of it.
fn after_a_kill(tokio: &tokio::runtime::Runtime, data: &Path, events: u64, report: &mut Report) -> Result<()> {
    fill_and_kill(data, events)?;
    let file = std::fs::metadata(data.join("lakitu.redb"))?.len();
    let small = tokio.block_on(opened(&data.with_file_name("alone")))?;
    let killed = tokio.block_on(opened(data))?;
    let again = tokio.block_on(opened(data))?;
    report.value("open, small database", "ms", small, None);
    report.value(format!("open after a kill, {events} events"), "ms", killed, None);
    report.value("open once more", "ms", again, None);
    let pages = tokio.block_on(pages(data, events))?;
    report.samples(format!("read of a page of {PAGE} events"), "ms", &pages, None);
    #[allow(clippy::cast_precision_loss, reason = "a size for people")]
    report.note(format!("the file of {events} events: {:.1} MB", file as f64 / 1e6));
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "this bench itself, once more")]
fn fill_and_kill(data: &Path, events: u64) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--events").arg(events.to_string()).arg("--fill").arg(data);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let (told, heard) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = output.read_line(&mut line);
        let _ = told.send(line);
    });
    let full = heard.recv_timeout(FILL_DEADLINE).unwrap_or_default();
    child.kill()?;
    wait_for(&mut child, Duration::from_secs(10))?;
    ensure!(full.trim() == "full", "the database was not filled");
    Ok(())
}

/// From nothing to a store that answers, in milliseconds.
async fn opened(data: &Path) -> Result<f64> {
    let begun = Instant::now();
    let runtime = runtime(data).await?;
    let took = ms(begun.elapsed());
    runtime.stop().await;
    Ok(took)
}

async fn pages(data: &Path, events: u64) -> Result<Samples> {
    let runtime = runtime(data).await?;
    let mut samples = Samples::default();
    for n in 0..COMMITS as u64 {
        // Anywhere, and the same places in each run.
        let after = Seq(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (events - PAGE as u64));
        let begun = Instant::now();
        let read = runtime.wiring.store.read(move |reading| reading.events(ThreadId(1), after, PAGE)).await;
        samples.push(ms(begun.elapsed()));
        let read = read.map_err(|error| anyhow!("{error}"))?;
        ensure!(read.len() == PAGE, "a page of {} events", read.len());
    }
    runtime.stop().await;
    Ok(samples)
}
