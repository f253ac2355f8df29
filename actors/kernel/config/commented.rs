//! `config/lakitu.toml` is what people read to know what can be configured: it is held to the types here.

use std::collections::BTreeSet;

use schemars::schema_for;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::Config;
use super::layers::parse;

const FILE: &str = include_str!("../../../config/lakitu.toml");

/// A line `# key = value` or `# [section]`: what has no default, with an example.
fn example(line: &str) -> Option<&str> {
    let line = line.strip_prefix("# ")?;
    let section = line.starts_with('[') && line.ends_with(']');
    let key = line
        .split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
    (section || key).then_some(line)
}

/// The file with all its examples in effect.
fn with_examples() -> Table {
    let lines: Vec<&str> = FILE.lines().map(|line| example(line).unwrap_or(line)).collect();
    lines.join("\n").parse().unwrap()
}

/// Every key of a type; `*` is a name that somebody chooses.
fn of_type(schema: &Json, root: &Json, path: &str, keys: &mut BTreeSet<String>) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
        return of_type(&root["$defs"][name], root, path, keys);
    }
    if let Some(properties) = schema["properties"].as_object() {
        properties.iter().for_each(|(name, schema)| of_type(schema, root, &at(name), keys));
    } else if schema["additionalProperties"].is_object() {
        of_type(&schema["additionalProperties"], root, &at("*"), keys);
    } else {
        keys.insert(path.to_owned());
    }
}

/// Every key of a file, with `*` where the types have it.
fn of_file(value: &Value, path: &str, known: &BTreeSet<String>, keys: &mut BTreeSet<String>) {
    let Value::Table(table) = value else {
        keys.insert(path.to_owned());
        return;
    };
    for (name, value) in table {
        let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let chosen = known.iter().any(|key| *key == at("*") || key.starts_with(&format!("{}.", at("*"))));
        of_file(value, &at(if chosen { "*" } else { name }), known, keys);
    }
}

#[test]
fn what_is_in_effect_is_what_is_built_in_and_every_example_is_valid() {
    assert_eq!(parse(FILE.parse().unwrap(), "config/lakitu.toml"), Ok(Config::default()));
    parse(with_examples(), "config/lakitu.toml").and_then(|config| config.check()).unwrap();
}

#[test]
fn it_has_every_key_of_the_types_and_no_other() {
    let schema = schema_for!(Config).to_value();
    let (mut typed, mut written) = (BTreeSet::new(), BTreeSet::new());
    of_type(&schema, &schema, "", &mut typed);
    of_file(&Value::Table(with_examples()), "", &typed, &mut written);
    assert!(typed.len() > 30, "{typed:?}");
    assert_eq!(written, typed);
}

/// What stands above a key; keys that follow one another share it.
fn comment_above(lines: &[&str], at: usize) -> String {
    let is_key = |line: &str| example(line).unwrap_or(line).contains(" = ");
    let above = lines[..at].iter().rev().skip_while(|line| is_key(line));
    let comment: Vec<&str> = above.take_while(|line| line.starts_with('#') && !is_key(line)).copied().collect();
    comment.into_iter().rev().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_key_has_its_reason_its_unit_and_its_bounds() {
    let lines: Vec<&str> = FILE.lines().collect();
    let mut section = String::new();
    for (at, line) in lines.iter().enumerate() {
        let line = example(line).unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        }
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        let (whole, comment) = (format!("{section}.{key}"), comment_above(&lines, at));
        assert!(comment.len() > 15, "{whole}: why is it there? {comment:?}");
        let units = [("_ms", "milliseconds"), ("_mib", "MiB"), ("_mb", "MiB")];
        for (_, unit) in units.iter().filter(|(end, _)| key.ends_with(end)) {
            assert!(comment.contains(unit), "{whole}: {unit} are not named in {comment:?}");
        }
        if let Some((_, _, least, most)) = Config::default().ranges().into_iter().find(|(ranged, ..)| *ranged == whole)
        {
            let bounds = format!("{least} to {most}");
            assert!(comment.contains(&bounds), "{whole}: {bounds:?} is not in {comment:?}");
        }
    }
}
