//! Samples become rows, rows a table for people or JSON for programs.

use serde_json::{Value, json};

use super::table::Table;

/// Measured values of one thing, in one unit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// The value below which half of them lie.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which this part of them lies (nearest rank); 0 of none.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let rank = (sorted.len() as f64 * part).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The largest; 0 of none.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Takes more of the same in.
    pub(crate) fn extend(&mut self, more: Samples) {
        self.0.extend(more.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
struct Row {
    metric: String,
    unit: &'static str,
    median: f64,
    spread: Option<Spread>,
    count: usize,
    bound: Option<f64>,
    /// What the bound is for.
    judged: f64,
}

/// How far samples lie apart.
#[derive(Debug, Clone, Copy)]
struct Spread {
    p90: f64,
    p99: f64,
    max: f64,
}

impl Row {
    fn verdict(&self) -> Option<bool> {
        self.bound.map(|bound| self.judged <= bound)
    }
}

/// Everything that one run of a bench found.
#[derive(Debug)]
pub(crate) struct Report {
    bench: &'static str,
    tables: Vec<Table>,
    rows: Vec<Row>,
    notes: Vec<String>,
    invalid: Vec<String>,
}

impl Report {
    pub(crate) fn new(bench: &'static str) -> Self {
        let mut invalid = Vec::new();
        if cfg!(debug_assertions) {
            invalid.push("it was built without optimisation: use `cargo bench`".to_owned());
        }
        Self { bench, tables: Vec::new(), rows: Vec::new(), notes: Vec::new(), invalid }
    }

    /// Adds samples, with a bound for their median where there is one.
    pub(crate) fn samples(
        &mut self,
        metric: impl Into<String>,
        unit: &'static str,
        samples: &Samples,
        bound: Option<f64>,
    ) {
        self.judge(metric.into(), unit, samples, (samples.median(), bound));
    }

    /// Adds samples of which none may be over the bound.
    pub(crate) fn worst(&mut self, metric: impl Into<String>, unit: &'static str, samples: &Samples, bound: f64) {
        self.judge(metric.into(), unit, samples, (samples.max(), Some(bound)));
    }

    fn judge(&mut self, metric: String, unit: &'static str, samples: &Samples, verdict: (f64, Option<f64>)) {
        let spread = Spread { p90: samples.quantile(0.9), p99: samples.quantile(0.99), max: samples.max() };
        let (median, count, (judged, bound)) = (samples.median(), samples.len(), verdict);
        self.rows.push(Row { metric, unit, median, spread: Some(spread), count, bound, judged });
    }

    /// Adds a single value.
    pub(crate) fn value(&mut self, metric: impl Into<String>, unit: &'static str, value: f64, bound: Option<f64>) {
        self.rows.push(Row {
            metric: metric.into(),
            unit,
            median: value,
            spread: None,
            count: 1,
            bound,
            judged: value,
        });
    }

    /// Adds a table of things side by side.
    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a line of text.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The figures of this run are not to be used.
    pub(crate) fn invalid(&mut self, why: impl Into<String>) {
        self.invalid.push(why.into());
    }

    /// Prints it.
    #[allow(clippy::print_stdout, reason = "what a bench is for")]
    pub(crate) fn print(&self, as_json: bool) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
        if as_json {
            println!("{}", self.json(&load));
            return;
        }
        println!("\n{} (load at its end: {load})\n", self.bench);
        self.tables.iter().for_each(|table| println!("{}", table.text()));
        let width = self.rows.iter().map(|row| row.metric.chars().count()).max().unwrap_or(0);
        println!(
            "{:width$}  {:>10}  {:>10}  {:>10}  {:>10}  {:>6}  {:>10}  {:4}  verdict",
            "metric", "median", "p90", "p99", "max", "n", "bound", "unit"
        );
        for row in &self.rows {
            let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
            let verdict = match row.verdict() {
                Some(true) => "ok",
                Some(false) => "OVER",
                None => "",
            };
            println!(
                "{:width$}  {:>10}  {:>10}  {:>10}  {:>10}  {:>6}  {:>10}  {:4}  {verdict}",
                row.metric,
                number(row.median),
                optional(row.spread.map(|spread| spread.p90)),
                optional(row.spread.map(|spread| spread.p99)),
                optional(row.spread.map(|spread| spread.max)),
                row.count,
                optional(row.bound),
                row.unit,
            );
        }
        println!();
        self.notes.iter().for_each(|note| println!("{note}"));
        self.invalid.iter().for_each(|why| println!("INVALID: {why}"));
    }

    /// Prints the tables alone, with the machine, the date and whether they are of use.
    #[allow(clippy::print_stdout, reason = "what a bench is for")]
    pub(crate) fn print_markdown(&self) {
        println!("{}.", machine());
        self.invalid.iter().for_each(|why| println!("Not to be used: {why}."));
        self.tables.iter().for_each(|table| println!("\n{}", table.markdown().trim_end()));
    }

    fn json(&self, load: &str) -> Value {
        let row = |row: &Row| {
            json!({
                "metric": row.metric, "unit": row.unit, "median": row.median, "n": row.count,
                "p90": row.spread.map(|spread| spread.p90), "p99": row.spread.map(|spread| spread.p99),
                "max": row.spread.map(|spread| spread.max), "bound": row.bound, "ok": row.verdict(),
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        json!({
            "bench": self.bench, "load": load, "machine": machine(), "rows": rows,
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(), "notes": self.notes, "valid": self.invalid.is_empty(),
            "invalid": self.invalid,
        })
    }
}

/// What it is measured on, and when.
fn machine() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = told.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let (name, date) = (named.map_or("unknown", |(_, name)| name), now.split('T').next().unwrap_or_default());
    format!("{processors} processors ({name}), Linux {}, {date}", kernel.trim())
}

/// With as many digits as are worth reading.
fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
