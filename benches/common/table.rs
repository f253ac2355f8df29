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

    /// For people at a terminal.
    pub(crate) fn text(&self) -> String {
        let heads: Vec<String> = self.heads().collect();
        let first = self.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let line = |name: &str, cells: &mut dyn Iterator<Item = String>| {
            let cells = cells.zip(&heads).map(|(cell, head)| format!("  {cell:>width$}", width = head.chars().count()));
            format!("{name:first$}{}\n", cells.collect::<String>())
        };
        let mut text = format!("{}\n\n{}", self.title, line("", &mut heads.clone().into_iter()));
        for (name, cells) in &self.rows {
            text += &match cells {
                Cells::Figures(figures) => line(name, &mut figures.iter().map(|figure| optional(*figure))),
                Cells::Problem(problem) => format!("{name:first$}  {problem}\n"),
            };
        }
        text
    }

    /// For a README.
    pub(crate) fn markdown(&self) -> String {
        let heads: Vec<String> = self.heads().collect();
        let rule = "---:|".repeat(heads.len());
        let mut text = format!("{}:\n\n| | {} |\n|---|{rule}\n", self.title, heads.join(" | "));
        for (name, cells) in &self.rows {
            let cells = match cells {
                Cells::Figures(figures) => figures.iter().map(|figure| optional(*figure)).collect(),
                Cells::Problem(problem) => {
                    let problem = problem.replace('|', "\\|");
                    std::iter::once(problem).chain(std::iter::repeat_n(String::new(), heads.len() - 1)).collect()
                }
            };
            let cells: Vec<String> = cells;
            text += &format!("| {name} | {} |\n", cells.join(" | "));
        }
        text
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

    fn heads(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|(name, unit)| format!("{name}, {unit}"))
    }
}

fn optional(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), significant)
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
