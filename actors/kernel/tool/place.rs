//! Where in a value something is wrong. serde says what; where is found by leaving parts of the value out, so that no type
//! has to be read in a second way that remembers it.

use serde_json::Value;

/// How deep it is looked for.
const DEPTH_MAX: usize = 8;

/// The place that an error is of, as `edits[1].path`; empty: the whole. `error` says what is wrong with a value.
pub(super) fn of(whole: &Value, said: &str, error: &dyn Fn(&Value) -> Option<String>) -> String {
    let (mut pointer, mut place) = (String::new(), String::new());
    for _ in 0..DEPTH_MAX {
        let with = |part: Value| {
            let mut changed = whole.clone();
            if let Some(at) = changed.pointer_mut(&pointer) {
                *at = part;
            }
            error(&changed)
        };
        let step = match whole.pointer(&pointer) {
            Some(Value::Object(fields)) => {
                let found = fields.iter().find(|(name, value)| {
                    let mut others = fields.clone();
                    if value.is_array() {
                        others.insert((*name).clone(), Value::Array(Vec::new()));
                    } else {
                        others.remove(name.as_str());
                    }
                    differs(said, with(Value::Object(others)).as_deref())
                });
                found.map(|(name, _)| (escaped(name), if place.is_empty() { name.clone() } else { format!(".{name}") }))
            }
            Some(Value::Array(items)) => {
                // The last item of the shortest beginning that is wrong.
                let is_wrong = |count: usize| with(Value::from(&items[..count])).as_deref() == Some(said);
                let counts: Vec<usize> = (0..=items.len()).collect();
                let found = counts.partition_point(|count| !is_wrong(*count)).checked_sub(1);
                found.filter(|at| *at < items.len()).map(|at| (at.to_string(), format!("[{at}]")))
            }
            _ => None,
        };
        let Some((token, shown)) = step else { break };
        pointer = format!("{pointer}/{token}");
        place += &shown;
    }
    place
}

/// Whether what was left out is what is wrong. That it is missing now is no sign of it where something else is missing.
fn differs(said: &str, without: Option<&str>) -> bool {
    const MISSING: &str = "missing field";
    without != Some(said) && !(said.starts_with(MISSING) && without.is_some_and(|without| without.starts_with(MISSING)))
}

/// A name as a JSON pointer has it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
