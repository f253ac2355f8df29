//! How the layers are read and put together, and what is said of one that is wrong: which key of which file, what it has,
//! and what it may have.

use std::io::Read as _;
use std::path::Path;

use toml::{Table, Value};

use super::{Config, ENV_PREFIX, invalid};
use crate::error::ToolError;

/// A configuration is read by people: 1 MiB is more than any has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Two names that are this much alike are taken for one that was mistyped (Jaro, 0 to 1).
const ALIKE: f64 = 0.75;
/// How much of a wrong value is shown.
const SHOWN_CHARS_MAX: usize = 60;

/// Lays one over those before it. Together they are valid each time, so what is wrong now is this one's.
pub(super) fn layer(whole: &mut Table, layer: Table, source: &str) -> Result<Config, ToolError> {
    lay_over(whole, layer);
    let config = parse(whole.clone(), source)?;
    config.check().map_err(|error| invalid(format!("{source}: {}", error.message)))?;
    Ok(config)
}

/// Tables are put together key by key; of everything else the later value wins.
fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

pub(super) fn parse(table: Table, source: &str) -> Result<Config, ToolError> {
    let as_written = Value::Table(table.clone());
    table.try_into().map_err(|error: toml::de::Error| {
        let mut key = place(&error);
        if let Some(at) = item(&as_written, &key) {
            key = format!("{key}[{at}]");
        }
        invalid(format!("{source}: {}", wrong(&key, error.message(), &as_written)))
    })
}

/// Which item of a list an error is of: the last one of the shortest beginning of the list that is wrong.
fn item(written: &Value, key: &str) -> Option<usize> {
    let items = at(written, key)?.as_array()?;
    let is_wrong = |count: usize| {
        let mut cut = written.clone();
        let list = key.split('.').try_fold(&mut cut, |value, key| value.get_mut(key));
        let list = list.and_then(Value::as_array_mut);
        list.map(|list| list.truncate(count)).is_some() && cut.try_into::<Config>().is_err()
    };
    if is_wrong(0) {
        return None;
    }
    let (mut right, mut wrong) = (0, items.len());
    while wrong - right > 1 {
        let middle = usize::midpoint(right, wrong);
        if is_wrong(middle) { wrong = middle } else { right = middle }
    }
    Some(right)
}

/// The key that an error is of. An error tells it in the last line of its text, and of an unknown key only where it stands.
fn place(error: &toml::de::Error) -> String {
    let told = error.to_string();
    let key = told.trim_end().rsplit_once("\nin `").and_then(|(_, key)| key.strip_suffix('`')).unwrap_or_default();
    let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    match (key, unknown) {
        (key, None) => key.to_owned(),
        ("", Some((name, _))) => name.to_owned(),
        (section, Some((name, _))) => format!("{section}.{name}"),
    }
}

pub(super) fn read(file: &Path) -> Result<Table, ToolError> {
    let shown = file.display();
    let text = text(file).map_err(|error| {
        invalid(format!("{shown} cannot be read: {error}. Name a file that is there and that you may read, or none."))
    })?;
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let (line, column) = (before.matches('\n').count() + 1, before.chars().rev().take_while(|char| *char != '\n'));
        let at = column.count() + 1;
        let what = error.message().trim_end().replace('\n', ", ");
        invalid(format!("{shown}, line {line}, column {at}: this is not TOML: {what}"))
    })
}

fn text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// `SECTION__KEY=value`, or deeper: the value is TOML where it reads as such, else a string.
pub(super) fn variable(path: &str, value: &str, name: &str) -> Result<Table, ToolError> {
    let lower = path.to_ascii_lowercase();
    let mut keys = lower.split("__");
    let section = keys.next().unwrap_or_default();
    let keys: Vec<&str> = keys.collect();
    if section.is_empty() || keys.is_empty() || keys.iter().any(|key| key.is_empty()) {
        return Err(invalid(format!("{name}: variables are named {ENV_PREFIX}SECTION__KEY")));
    }
    let read = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let value = read.filter(|read| !read.is_table()).unwrap_or_else(|| Value::String(value.to_owned()));
    let nested = |value, key: &&str| Value::Table(Table::from_iter([((*key).to_owned(), value)]));
    Ok(Table::from_iter([(section.to_owned(), keys.iter().rev().fold(value, nested))]))
}

/// That a key has a value that it may not have.
pub(super) fn not_allowed(key: &str, value: &str, allowed: &str) -> String {
    format!("{key} = {value}: it must be {allowed}")
}

/// A whole number's bounds, as a person reads them.
pub(super) fn whole_number(least: u64, most: u64) -> String {
    format!("a whole number from {least} to {most}")
}

/// What serde says of a key, as a person says it. Where serde says something else than expected, its own words stay.
fn wrong(key: &str, said: &str, written: &Value) -> String {
    let said = said.trim_end();
    let (what, expected) = said.rsplit_once("expected ").unwrap_or((said, ""));
    let mut names = expected.split('`').skip(1).step_by(2);
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    if what.starts_with("unknown field") {
        let table = at(written, key).is_some_and(Value::is_table);
        return unknown(section, last, table, &names.collect::<Vec<_>>());
    }
    if what.starts_with("missing field") {
        return format!("[{key}] has no {}", said.split('`').nth(1).unwrap_or_default());
    }
    let allowed = if what.starts_with("unknown variant") {
        let first = names.next().unwrap_or_default().to_owned();
        format!("one of {}", names.fold(first, |names, name| names + ", " + name))
    } else if what.starts_with("invalid") {
        allowed(key, what, expected)
    } else {
        return format!("{key}: {said}");
    };
    match at(written, key) {
        Some(Value::Table(_)) | None => format!("{key}: {allowed} is expected"),
        Some(value) => not_allowed(key, &short(&value.to_string()), &allowed),
    }
}

fn unknown(section: &str, key: &str, table: bool, known: &[&str]) -> String {
    let whole = |key: &str| if section.is_empty() { format!("[{key}]") } else { format!("{section}.{key}") };
    let alike = known.iter().map(|name| (strsim::jaro(key, name), *name)).filter(|(alike, _)| *alike >= ALIKE);
    let nearest = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    let meant = nearest.map_or_else(|| ".".to_owned(), |(_, name)| format!(": did you mean {}?", whole(name)));
    let known = known.join(", ");
    match (section, table) {
        ("", true) => format!("there is no section [{key}]{meant} There are {known}"),
        ("", false) => format!("{key} stands in no section{meant} There are {known}"),
        (section, _) => format!("there is no key {}{meant} [{section}] has {known}", whole(key)),
    }
}

/// What may stand there.
fn allowed(key: &str, what: &str, expected: &str) -> String {
    let bounds = Config::default().ranges().into_iter().find(|(ranged, ..)| *ranged == key);
    match (expected, bounds) {
        (_, Some((_, _, least, most))) => whole_number(least, most),
        ("u32", None) => whole_number(0, u32::MAX.into()),
        ("u64", None) => "a whole number from 0".to_owned(),
        ("f64", None) => "a number".to_owned(),
        ("a boolean", None) => "true or false".to_owned(),
        ("a string" | "path string", None) => "a text in quotes".to_owned(),
        ("a sequence", None) => "a list of texts in quotes, [\"one\", \"two\"]".to_owned(),
        ("a map", None) => format!("a section of its own, [{key}]"),
        ("", None) if what.starts_with("invalid socket address") => {
            "ADDRESS:PORT, such as \"127.0.0.1:3210\"".to_owned()
        }
        (expected, None) if expected.starts_with("struct ") => format!("a section of its own, [{key}]"),
        (expected, None) => format!("{what}{expected}"),
    }
}

/// What stands at a key.
fn at<'a>(written: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(written, |value, key| value.get(key))
}

fn short(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}
