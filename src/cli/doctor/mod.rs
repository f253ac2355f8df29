//! `lakitu doctor`: what works here, and what to do about what does not.

mod machine;
mod places;

use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::ErrorCode;
use lakitu_kernel::config::Config;
use lakitu_kernel::ports::ModelFailure;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::{DoctorArgs, Global};
use super::model::{Chosen, Source, Wish};
use super::run::end;
use super::terminal::escape::printable;
use super::terminal::{Facts, words};
use super::{Failure, Prepared, paths};
use crate::adapters::Upstream;

/// How long a server may take to list its models.
const LIST_DEADLINE: Duration = Duration::from_secs(10);
/// Names of models that are shown where the wanted one is not among them.
const SHOWN: usize = 8;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, and somebody should know this.
    Note,
    Missing,
    Failed,
}

/// One line.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), fix: None }
    }

    /// What says itself what to do.
    fn told(name: &'static str, state: State, message: impl Into<String>) -> Self {
        Self { name, state, detail: message.into(), fix: None }
    }

    fn not(name: &'static str, state: State, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// `lakitu doctor`
pub(super) fn doctor(global: &Global, args: &DoctorArgs, prepared: Prepared) -> Result<u8, Failure> {
    let config = paths::config(global)?;
    let mut checks = vec![Check::ok("configuration", sources(global))];
    checks.extend(places::checks(global, args.workspace.as_deref(), &config));
    checks.extend(machine::checks(&config, prepared.zygote.as_ref()));
    match Wish::of(&args.source, &config, &prepared.secrets).choose() {
        Ok(chosen) => model(&chosen, &config, &mut checks)?,
        Err(failure) => {
            checks.push(Check::not("model", State::Missing, "nothing answers for the model", failure.message));
        }
    }
    checks.extend(places::token_file(args.source.token_file.as_deref(), &config)?);
    end(prepared.zygote.map(Arc::new))?;
    let well = checks.iter().all(|check| matches!(check.state, State::Ok | State::Note));
    let text =
        if global.json { format!("{}\n", json!({ "ok": well, "checks": checks })) } else { told(&checks, width()) };
    super::put(&text)?;
    Ok(u8::from(!well))
}

/// Of the terminal that this is read on, where it is one.
fn width() -> Option<usize> {
    let facts = Facts::detect();
    facts.width.filter(|_| facts.stdout)
}

/// The files that say something.
fn sources(global: &Global) -> String {
    let system = std::path::Path::new(lakitu_kernel::config::SYSTEM_FILE);
    let files = system.exists().then_some(system).into_iter().chain(global.config.as_deref());
    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    if files.is_empty() { "built-in values; no file".to_owned() } else { files.join(", then ") }
}

fn model(chosen: &Chosen, config: &Config, checks: &mut Vec<Check>) -> Result<(), Failure> {
    let upstream = match &chosen.source {
        Source::Script(file) => {
            checks.push(match chosen.gateway() {
                Ok(_) => Check::ok("model", format!("the script {} ({})", file.display(), chosen.why)),
                Err(failure) => Check::not("model", State::Failed, failure.message, "mend the script"),
            });
            return Ok(());
        }
        Source::Server(upstream) => upstream,
    };
    checks.push(Check::ok("model", format!("{} at {} ({})", chosen.model, upstream.address(), chosen.why)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::other(format!("no async runtime: {error}")))?;
    match runtime.block_on(listed(upstream)) {
        Ok(listed) => {
            checks.push(Check::ok(
                "reachable",
                format!("it answers and lists {}", words::count(listed.len() as u64, "model")),
            ));
            let wanted = std::iter::once(&chosen.model).chain(&config.gateway.fallback_models);
            checks.extend(wanted.map(|model| known(model, &listed)));
        }
        Err(failure) => checks.push(unreachable(&failure)),
    }
    Ok(())
}

async fn listed(upstream: &Upstream) -> Result<Vec<String>, ModelFailure> {
    let late = || lakitu_actors::gateway::failure::unreachable("deadline", "its models were not listed within 10 s");
    let body = tokio::time::timeout(LIST_DEADLINE, upstream.models()).await.map_err(|_| late())??;
    let list: Value = serde_json::from_slice(&body)
        .map_err(|_| lakitu_actors::gateway::failure::protocol("its list of models is no JSON"))?;
    let ids = list["data"].as_array().into_iter().flatten();
    Ok(ids.filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
}

/// Servers that list nothing, or only a few of theirs, are common: not to be listed is no failure.
fn known(model: &str, listed: &[String]) -> Check {
    if listed.iter().any(|id| id == model) {
        return Check::ok("listed", model);
    }
    let mut some: Vec<&str> = listed.iter().take(SHOWN).map(String::as_str).collect();
    if listed.len() > SHOWN {
        some.push("…");
    }
    let fix = if some.is_empty() {
        "nothing is listed there; a first run will tell".to_owned()
    } else {
        format!("if a run says that there is no such model, name one with --model: {}", some.join(", "))
    };
    Check::not("listed", State::Note, format!("{model} is not among the models that the server lists"), fix)
}

fn unreachable(failure: &ModelFailure) -> Check {
    let fix = match failure.error.code {
        ErrorCode::GatewayRefused => "give a valid key or token: the variable or file named above",
        ErrorCode::GatewayUnreachable => "check the server's URL and whether it is up",
        _ => "check the server's URL: models are not listed there as OpenAI lists them",
    };
    Check::not("reachable", State::Failed, failure.error.message.clone(), fix)
}

/// For a person: a line each, folded where a terminal's width says so.
fn told(checks: &[Check], width: Option<usize>) -> String {
    const INDENT: usize = 24;
    let line = |name: &str, state: &str, text: &str| {
        let text = printable(text);
        let folded = words::folded(&text, width.map_or(usize::MAX, |width| width.saturating_sub(INDENT + 1).max(20)));
        format!("{name:<14} {state:<8} {}\n", folded.join(&format!("\n{}", " ".repeat(INDENT))))
    };
    let lines = |Check { name, state, detail, fix }: &Check| {
        let state = match state {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "missing",
            State::Failed => "failed",
        };
        let fix = fix.as_ref().map(|fix| line("", "->", fix));
        [line(name, state, detail), fix.unwrap_or_default()].concat()
    };
    checks.iter().map(lines).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn on_a_terminal_lines_are_folded_and_nowhere_else() {
        let checks = [
            Check::ok("data", "/home/user/.lakitu: 20 GiB free on ext4"),
            Check::not(
                "model",
                State::Missing,
                "nothing answers\u{1b}[2J",
                "set OPENROUTER_API_KEY or a_word_that_is_longer",
            ),
        ];
        expect![[r#"
            data           ok       /home/user/.lakitu: 20 GiB
                                    free on ext4
            model          missing  nothing answers
                           ->       set OPENROUTER_API_KEY or
                                    a_word_that_is_longer
        "#]]
        .assert_eq(&told(&checks, Some(52)));
        assert!(told(&checks, Some(0)).contains("free on ext4\n"));
        assert_eq!(told(&checks, None).lines().count(), 3);
    }
}
