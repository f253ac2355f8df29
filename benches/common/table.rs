//! Several things side by side: a row each, the same figures of each.

use serde_json::{Value, json};

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    /// Name and unit.
    columns: Vec<(&'static str, &'static str)>,
    rows: Vec<(String, Cells)>,
}

/// What stands in a row.
#[derive(Debug, Clone)]
pub(crate) enum Cells {
    /// A figure a column, where there is one.
    Figures(Vec<Option<f64>>),
    /// Why there are none.
    Problem(String),
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: Vec<(&'static str, &'static str)>) -> Self {
        Self { title: title.into(), columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, name: impl Into<String>, cells: Cells) {
        self.rows.push((name.into(), cells));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For people at a terminal.
    pub(crate) fn text(&self) -> String {
        let heads = self.heads();
        let first = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let line = |name: &str, cells: &[String]| {
            let cells =
                cells.iter().zip(&heads).map(|(cell, head)| format!("  {cell:>width$}", width = head.chars().count()));
            format!("{name:first$}{}", cells.collect::<String>())
        };
        let rows = self.rows.iter().map(|(name, cells)| match cells {
            Cells::Figures(figures) => line(name, &told(figures)),
            Cells::Problem(problem) => format!("{name:first$}  {problem}"),
        });
        let lines = [self.title.clone(), String::new(), line("", &heads)].into_iter().chain(rows);
        lines.map(|line| line + "\n").collect()
    }

    /// For a README.
    pub(crate) fn markdown(&self) -> String {
        let heads = self.heads();
        let line = |name: &str, cells: &[String]| format!("| {name} | {} |", cells.join(" | "));
        let rule = format!("|---|{}", "---:|".repeat(heads.len()));
        let rows = self.rows.iter().map(|(name, cells)| match cells {
            Cells::Figures(figures) => line(name, &told(figures)),
            Cells::Problem(problem) => {
                let mut cells = vec![String::new(); heads.len()];
                cells[0] = problem.replace('|', "\\|");
                line(name, &cells)
            }
        });
        let lines = [format!("{}:", self.title), String::new(), line("", &heads), rule].into_iter().chain(rows);
        lines.map(|line| line + "\n").collect()
    }

    pub(crate) fn json(&self) -> Value {
        let row = |(name, cells): &(String, Cells)| match cells {
            Cells::Figures(figures) => {
                let columns = self.columns.iter().zip(figures);
                let figures: Vec<Value> = columns
                    .map(|((metric, unit), value)| json!({ "metric": metric, "unit": unit, "value": value }))
                    .collect();
                json!({ "name": name, "figures": figures })
            }
            Cells::Problem(problem) => json!({ "name": name, "problem": problem }),
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }

    fn heads(&self) -> Vec<String> {
        self.columns.iter().map(|(name, unit)| format!("{name}, {unit}")).collect()
    }
}

fn told(figures: &[Option<f64>]) -> Vec<String> {
    figures.iter().map(|figure| figure.map_or_else(|| "-".to_owned(), significant)).collect()
}

/// With three digits, or those in front of the point.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        below if below < 1.0 => 3,
        below if below < 10.0 => 2,
        below if below < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
