//! Rules of the house that no compiler checks.

use std::path::{Path, PathBuf};

use expect_test::expect;
use lakitu_actors::threads::prompt;
use lakitu_actors::tools::CATALOGUE;
use lakitu_kernel::chat::{SUFFIX, user};
use lakitu_kernel::event::Settings;
use lakitu_kernel::mode::Mode;
use lakitu_kernel::tool::{Catalogue, Category};
use serde_json::Value;

/// A file of Rust is read in one sitting.
const LINES_MAX: usize = 600;
/// What the first request may weigh: every turn pays for it.
const FIRST_REQUEST_BYTES_MAX: usize = 20 * 1024;
/// The same with the tools for files and commands alone.
const DAILY_BYTES_MAX: usize = 12 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of Rust below a folder, relative to the root.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_folders_are_the_tree() {
    let actors = [
        ("api", "/api"),
        ("debug", "/debug"),
        ("store", "/store"),
        ("gateway", "/gateway"),
        ("checkpoint", "/checkpoint"),
        ("tools", "/tools"),
        ("tools/file", "/tools/file"),
        ("tools/bash", "/tools/bash"),
        ("tools/artifact", "/tools/artifact"),
        ("tools/beads", "/tools/beads"),
        ("threads", "/threads"),
        ("threads/agent", "/threads/<id>/agent"),
    ];
    for (folder, path) in actors {
        let text = read(&Path::new("actors").join(folder).join("mod.rs"));
        let first = text.lines().next().unwrap_or_default();
        let named = first.starts_with(&format!("//! `{path}`"));
        assert!(named, "actors/{folder}/mod.rs begins with {first:?}, not with its path {path}");
        let doc: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            doc.contains("Parent `") || doc.contains("parent `"),
            "actors/{folder}/mod.rs does not name its parent"
        );
        let restart = ["permanent", "transient", "temporary"].iter().any(|word| doc.contains(word));
        assert!(restart, "actors/{folder}/mod.rs does not say how it is restarted");
    }
    // What has a row in the tree has a folder here: a category without one would be missing above.
    for spec in CATALOGUE.0 {
        match spec.category {
            Category::File
            | Category::Bash
            | Category::Artifact
            | Category::Beads
            | Category::Checkpoint
            | Category::Agent => {}
        }
    }
}

/// A file that no module names is neither built nor tested, and looks as if it were.
#[test]
fn every_file_is_part_of_something() {
    let all: Vec<PathBuf> = ["src", "actors", "tests"].into_iter().flat_map(files).collect();
    let beside = |place: &Path, named: &dyn Fn(&str) -> bool| {
        all.iter().filter(|other| other.parent() == place.parent()).any(|other| named(&read(other)))
    };
    let lost = |file: &&PathBuf| {
        let (stem, name) = (file.file_stem().unwrap().to_str().unwrap(), file.file_name().unwrap().to_str().unwrap());
        if ["lib", "main"].contains(&stem) || file.starts_with("src/bin") {
            return false;
        }
        // A folder's module stands beside the folder.
        let place = if stem == "mod" { file.parent().unwrap() } else { file.as_path() };
        let module = place.file_stem().unwrap().to_str().unwrap();
        !beside(place, &|text| text.contains(&format!("mod {module};")) || text.contains(&format!("path = \"{name}\"")))
    };
    assert_eq!(all.iter().filter(lost).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

#[test]
fn files_stay_short() {
    let all = ["actors", "src", "tests", "benches"].into_iter().filter(|folder| root().join(folder).is_dir());
    let long: Vec<String> = all
        .flat_map(files)
        .map(|path| (path.display().to_string(), read(&path).lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_eq!(long, Vec::<String>::new(), "over {LINES_MAX} lines");
}

#[test]
fn tests_wait_for_events_alone() {
    // In two pieces, so that this line is not found.
    let sleeping = concat!("sle", "ep(");
    let found: Vec<String> = files("tests")
        .into_iter()
        .flat_map(|path| {
            let text = read(&path);
            let lines = text.lines().enumerate().filter(|(_, line)| line.contains(sleeping));
            lines.map(|(at, _)| format!("{}:{}", path.display(), at + 1)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn every_tool_has_a_prompt_in_a_file_and_every_parameter_a_description() {
    let prompts: Vec<String> = [
        "tools/file",
        "tools/file/patch",
        "tools/file/search",
        "tools/bash",
        "tools/artifact",
        "tools/beads",
        "checkpoint",
        "threads/agent",
    ]
    .iter()
    .flat_map(|category| std::fs::read_dir(root().join("actors").join(category)).unwrap())
    .map(|entry| entry.unwrap().path())
    .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    .map(|path| std::fs::read_to_string(path).unwrap())
    .collect();
    for spec in CATALOGUE.0 {
        assert!(
            prompts.iter().any(|prompt| prompt == spec.prompt),
            "{}: its prompt is not a file beside its code",
            spec.name
        );
        assert!(spec.prompt.trim().len() > 40, "{}: its prompt says nothing", spec.name);
        let schema = spec.schema();
        for (name, parameter) in schema["properties"].as_object().unwrap() {
            let described = parameter["description"].as_str().is_some_and(|text| text.len() > 10);
            assert!(described, "{}: {name} has no description", spec.name);
        }
    }
    assert!(CATALOGUE.0.is_sorted_by_key(|spec| spec.name), "the catalogue is not sorted");
}

#[test]
fn the_first_request_is_small_in_every_mode() {
    for mode in Mode::ALL {
        let request = first_request(mode, CATALOGUE);
        serde_json::from_slice::<Value>(&request).unwrap();
        assert!(request.len() <= FIRST_REQUEST_BYTES_MAX, "{mode}: the first request has {} bytes", request.len());
    }
    let tools: usize = CATALOGUE.0.iter().map(|spec| spec.prompt.len() + spec.schema().to_string().len()).sum();
    let daily = CATALOGUE.0.iter().filter(|spec| matches!(spec.category, Category::File | Category::Bash));
    let daily = Catalogue(Vec::leak(daily.copied().collect()));
    let bytes = first_request(Mode::Build, daily).len();
    assert!(bytes <= DAILY_BYTES_MAX, "for files and commands alone the first request has {bytes} bytes");
    // Whoever adds words sees here what they cost in every request.
    let bytes = first_request(Mode::Build, CATALOGUE).len();
    expect!["18838 bytes, of them 15129 for tools"].assert_eq(&format!("{bytes} bytes, of them {tools} for tools"));
}

fn first_request(mode: Mode, catalogue: Catalogue) -> Vec<u8> {
    let settings = Settings {
        model: "anthropic/claude-sonnet-4.5".to_owned(),
        mode,
        workspace: "/home/user/workspace".into(),
        artifacts: "/home/user/.local/state/lakitu/workspace-0123456789ab/artifacts".into(),
        max_turns: None,
        timeout_ms: None,
        asking: lakitu_kernel::event::Asking::default(),
    };
    let prefix = prompt::render(&settings, "untrusted-01234567", catalogue, &prompt::Instructions::default());
    [&prefix[..], &user("fix the failing test"), SUFFIX].concat()
}
