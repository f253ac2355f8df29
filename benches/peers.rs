//! This project's agent and the others that are installed, side by side: the same scripted session through each, against
//! a model on loopback that answers at once in the protocol that is asked. One shell command a turn, each turn another.
//!
//! `cargo bench --bench peers [-- --peers DIR --turns N --runs N --long N --lakitu PATH --json | --markdown]`
//!
//! Everything runs in a network that has loopback and nothing else. The runs of all take turns, so that what else the
//! machine does meets each of them.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use common::children::adopt_orphans;
use common::costs::Raw;
use common::memory::peak_of;
use common::model::{Model, Play, Request, own_times};
use common::network::cut_off;
use common::report::{Report, Samples};
use common::runners::{LAKITU, PEERS, Runner};
use common::table::{Cells, Table};
use common::{WARM_TURNS, directory, ms, stretches};

/// What a run may take at the most: before its turns, and for each of them.
const START_DEADLINE: Duration = Duration::from_mins(1);
const TURN_DEADLINE: Duration = Duration::from_secs(1);
/// Where the commands leave a line each, so that it can be seen that all of them ran.
const MARKS: &str = "marks";
/// What each turn runs.
const COMMAND: &str = "echo {turn} >>marks";
/// The same, of a command that lives long enough for the look at the memory to see it.
const LONGER_COMMAND: &str = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo {turn} >>marks";
/// Of a problem so many characters are told.
const PROBLEM_MAX: usize = 160;
/// How many figures there are of each, and for how many of them a ratio says something.
const COLUMNS: [(&str, &str); 8] = [
    ("start", "ms"),
    ("own time a turn", "ms"),
    ("CPU a turn", "ms"),
    ("CPU without turns", "ms"),
    ("memory, tree", "MB"),
    ("memory, largest process", "MB"),
    ("sent", "kB"),
    ("growth", "×"),
];
const RATIOS: usize = 7;

/// This project's agent beside others.
#[derive(Debug, Parser)]
struct Args {
    /// A directory with executables of the others; it is looked into before PATH
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Turns of a run
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    turns: u32,
    /// Runs of each kind, of which the medians are told
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Turns of one long run, in which growth is looked for [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(110..=10_000))]
    long: Option<u32>,
    /// The binary of this project [default: the one that was built with this bench]
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_lakitu"), hide_default_value = true)]
    lakitu: PathBuf,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// The tables alone, as Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    cut_off()?;
    adopt_orphans()?;
    let (mut report, mut raw) = (Report::new("peers"), Raw::default());
    let bench = Bench { dir: directory()?, model: Model::start(play(0, COMMAND))?, turns: args.turns };
    let mut entrants = bench.entrants(&args)?;
    raw.measure(bench.dir.path(), None)?;
    for _ in 0..args.runs {
        entrants.iter_mut().for_each(|entrant| entrant.attempt(|runner, figures| bench.round(runner, figures)));
    }
    if let Some(turns) = args.long {
        entrants.iter_mut().for_each(|entrant| entrant.attempt(|runner, figures| bench.long(runner, turns, figures)));
    }
    raw.measure(bench.dir.path(), None)?;
    raw.tell(&mut report);
    tell(&entrants, &args, &mut report);
    if args.markdown {
        report.print_markdown()
    } else {
        report.print(args.json)
    }
    let failed = entrants.first().and_then(|lakitu| lakitu.outcome.as_ref().err());
    ensure!(failed.is_none(), "{}: {}", LAKITU.name, failed.map_or("", String::as_str));
    Ok(())
}

fn play(turns: u32, command: &'static str) -> Play {
    Play::Session { turns, command: command.into() }
}

/// What all of them share.
struct Bench {
    dir: tempfile::TempDir,
    model: Model,
    turns: u32,
}

/// What was measured of one of them.
#[derive(Default)]
struct Figures {
    start: Samples,
    own: Samples,
    cpu: Samples,
    cpu_without_turns: Samples,
    tree: Samples,
    largest: Samples,
    sent: Samples,
    growth: Option<f64>,
    aside: BTreeMap<String, usize>,
}

/// One that takes part: as long as nothing goes wrong, with figures; then with what it was.
struct Entrant {
    runner: Runner,
    outcome: Result<Figures, String>,
}

impl Entrant {
    fn attempt(&mut self, measure: impl FnOnce(&Runner, &mut Figures) -> Result<()>) {
        if let Ok(figures) = &mut self.outcome
            && let Err(error) = measure(&self.runner, figures)
        {
            self.outcome = Err(one_line(&format!("{error:#}")));
        }
    }

    fn name(&self) -> String {
        format!("{} ({})", self.runner.recipe.name, self.runner.version)
    }
}

/// One session that went as it should.
struct Session {
    requests: Vec<Request>,
    start: Duration,
    cpu: Duration,
}

impl Bench {
    /// Everybody who is there, this project's first. Each has run once, so that nothing is measured that is only there
    /// the first time: pages that are not in memory yet, a home without a database.
    fn entrants(&self, args: &Args) -> Result<Vec<Entrant>> {
        let peers = PEERS.iter().filter_map(|peer| Some((peer, peer.find(args.peers.as_deref())?)));
        let all = std::iter::once((&LAKITU, args.lakitu.clone())).chain(peers);
        all.enumerate()
            .map(|(n, (recipe, executable))| {
                let place = self.dir.path().join(n.to_string());
                let runner = Runner::new(recipe, executable, &place, self.model.url())?;
                let mut entrant = Entrant { runner, outcome: Ok(Figures::default()) };
                entrant.attempt(|runner, _| self.session(runner, 1, COMMAND).map(drop));
                Ok(entrant)
            })
            .collect()
    }

    /// One run of each kind.
    fn round(&self, runner: &Runner, figures: &mut Figures) -> Result<()> {
        let without = self.session(runner, 0, COMMAND)?;
        figures.start.push(ms(without.start));
        figures.cpu_without_turns.push(ms(without.cpu));
        let session = self.session(runner, self.turns, COMMAND)?;
        figures.aside = self.model.aside();
        figures.start.push(ms(session.start));
        figures.own.extend(own_times(&session.requests, WARM_TURNS, self.turns));
        figures.cpu.push(ms(session.cpu) / f64::from(self.turns));
        let sent: usize = session.requests.iter().map(|request| request.bytes).sum();
        figures.sent.push(f64::from(u32::try_from(sent)?) / 1e3);
        let (session, most, looks) = peak_of(|| self.session(runner, self.turns, LONGER_COMMAND))?;
        session?;
        let turns = self.turns;
        ensure!(looks > turns, "the memory was looked at {looks} times in {turns} turns: too few to see its peak");
        figures.tree.push(most.resident);
        figures.largest.push(most.largest_peak);
        Ok(())
    }

    /// How much more of its own time a late turn takes than an early one.
    fn long(&self, runner: &Runner, turns: u32, figures: &mut Figures) -> Result<()> {
        let session = self.session(runner, turns, COMMAND)?;
        let [early, late] = stretches(turns).map(|(from, to)| own_times(&session.requests, from, to).median());
        figures.growth = Some(late / early);
        Ok(())
    }

    /// Runs one session to its end.
    ///
    /// # Errors
    /// Not every turn was asked for once, or not every command was run.
    fn session(&self, runner: &Runner, turns: u32, command: &'static str) -> Result<Session> {
        let marks = runner.workspace.join(MARKS);
        if marks.exists() {
            std::fs::remove_file(&marks)?;
        }
        self.model.play(play(turns, command));
        let ran = runner.run(START_DEADLINE + TURN_DEADLINE * turns)?;
        let last = ran.told.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
        if let Some(problem) = self.model.problem() {
            anyhow::bail!("a request could not be answered: {problem}");
        }
        let status = ran.status.with_context(|| format!("did not end in time and was killed: {last}"))?;
        ensure!(status.success(), "ended with {status}: {last}");
        let executed = executed(&marks)?;
        ensure!(executed == turns, "executed {executed} of {turns} commands: {last}");
        let requests = self.model.requests(turns)?;
        let first = requests.first().context("no request came")?;
        ensure!(ran.left == 0, "left {} processes behind", ran.left);
        Ok(Session { start: first.head_at - ran.spawned_at, cpu: ran.cpu, requests })
    }
}

/// How many commands left their mark, in order, each once.
fn executed(marks: &Path) -> Result<u32> {
    if !marks.exists() {
        return Ok(0);
    }
    let told = std::fs::read_to_string(marks)?;
    let in_order = told.lines().zip(1_u32..).take_while(|(line, turn)| *line == turn.to_string()).count();
    ensure!(in_order == told.lines().count(), "commands were executed more than once, or not in their order");
    Ok(u32::try_from(in_order)?)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(PROBLEM_MAX).collect();
    if short.len() < line.len() { format!("{short} …") } else { short }
}

/// Makes the tables.
fn tell(entrants: &[Entrant], args: &Args, report: &mut Report) {
    let title = format!("Medians of {} run(s) of {} turns", args.runs, args.turns);
    let mut figures = Table::new(title, COLUMNS.to_vec());
    let columns = COLUMNS.iter().take(RATIOS).map(|(name, _)| (*name, "×")).collect();
    let mut ratios = Table::new(format!("Times as much as {}", LAKITU.name), columns);
    let base = entrants.first().and_then(|lakitu| lakitu.outcome.as_ref().ok()).map(row).unwrap_or_default();
    for (n, entrant) in entrants.iter().enumerate() {
        let cells = match &entrant.outcome {
            Ok(measured) => Cells::Figures(row(measured)),
            Err(problem) => Cells::Problem(problem.clone()),
        };
        figures.row(entrant.name(), cells);
        let Ok(measured) = &entrant.outcome else { continue };
        note_aside(entrant, &measured.aside, report);
        if n > 0 && !base.is_empty() {
            let over = |(value, base): (Option<f64>, &Option<f64>)| Some(value? / (*base)?);
            let times = row(measured).into_iter().zip(&base).take(RATIOS).map(over).collect();
            ratios.row(entrant.name(), Cells::Figures(times));
        }
    }
    report.table(figures);
    if !ratios.is_empty() {
        report.table(ratios);
    }
    explain(args, report);
    if entrants.len() == 1 {
        report.note("no peer was found: --peers DIR names a directory with their executables");
    }
}

/// Says what the columns are.
fn explain(args: &Args, report: &mut Report) {
    let turns = args.turns;
    report.note("start: to the head of the first request of the conversation, of runs with turns and without");
    report.note(format!(
        "own time: an answer to the head of the next request, shell included, turns {WARM_TURNS} to {turns}"
    ));
    report.note(format!("CPU a turn: of a whole run, its start and all its processes included, by its {turns} turns"));
    report.note("CPU without turns: of a run in which the model answers with a text at once");
    report.note("memory, tree: the most at any time of a run of its own, what is shared counted once in all");
    report.note("memory, largest process: the highest resident set of one, what it shares included");
    report.note("sent: the conversation's requests of one run, heads and bodies");
    if let Some(long) = args.long {
        let [(from, to), (late, end)] = stretches(long);
        report.note(format!("growth: own time of turns {late} to {end} by that of turns {from} to {to}, one run"));
    }
}

/// A figure a column.
fn row(figures: &Figures) -> Vec<Option<f64>> {
    let medians = [
        &figures.start,
        &figures.own,
        &figures.cpu,
        &figures.cpu_without_turns,
        &figures.tree,
        &figures.largest,
        &figures.sent,
    ];
    medians.into_iter().map(|samples| Some(samples.median())).chain([figures.growth]).collect()
}

/// What it asks for beside the conversation, which is in none of the figures but in its time.
fn note_aside(entrant: &Entrant, aside: &BTreeMap<String, usize>, report: &mut Report) {
    if !aside.is_empty() {
        let asked: Vec<String> = aside.iter().map(|(what, times)| format!("{what} ({times})")).collect();
        report.note(format!("{} asks beside the conversation: {}", entrant.runner.recipe.name, asked.join(", ")));
    }
}
