//! Confined commands, by the real binary: what they are for works, and what they must not do does not.

use std::path::{Path, PathBuf};
use std::process::Command;

use lakitu_keeper::Confinement;
use serde_json::Value;

use crate::harness::{Binary, Ran, Script};

/// A directory of this user that is no temporary one: those may be written to.
pub(crate) fn outside() -> tempfile::TempDir {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places = home.into_iter().chain([env!("CARGO_MANIFEST_DIR"), "/opt", "/srv"].map(PathBuf::from));
    let kept = places.filter(|place| !["/tmp", "/var/tmp", "/dev/shm"].iter().any(|open| place.starts_with(open)));
    let mut made = kept.filter_map(|place| tempfile::Builder::new().prefix("lakitu-test-").tempdir_in(place).ok());
    made.next().expect("a directory outside the temporary ones")
}

fn results(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran.lines().into_iter().filter(|line| line["type"] == "tool.result").collect()
}

fn plays(lakitu: &Binary, commands: &[&str], more: &[&str]) -> Ran {
    let script = commands.iter().fold(Script::new(), |script, command| script.runs(command)).says("Done.");
    lakitu.plays(&script, "try", &[&["--output", "stream-json"], more].concat())
}

fn can() -> bool {
    !matches!(lakitu_keeper::confinement(), Confinement::No(_))
}

#[test]
fn commands_write_outside_only_where_they_are_let() {
    let outside = outside();
    let write = |name: &str| format!("echo x >{}/{name}; echo $?", outside.path().display());
    let written = |name: &str| outside.path().join(name).exists();
    let lakitu = Binary::new();
    let inside = "echo x >here && echo x >$(mktemp) && mkdir -p deep/er && mv here deep/er/ && echo well";

    let held = results(&plays(&lakitu, &[&write("a"), inside], &[]));
    assert!(held[1]["output"].as_str().unwrap().contains("well"), "{}", held[1]);
    if can() {
        assert!(held[0]["output"].as_str().unwrap().contains("Permission denied"), "{}", held[0]);
        assert!(!written("a"));
    }
    results(&plays(&Binary::new(), &[&write("b")], &["--no-confine"]));
    results(&plays(&Binary::new().env("LAKITU__CONFINE__COMMANDS", "off"), &[&write("c")], &[]));
    let listed = format!("[{:?}]", outside.path().display().to_string());
    results(&plays(&Binary::new().env("LAKITU__CONFINE__WRITE", &listed), &[&write("d")], &[]));
    assert!(written("b") && written("c") && written("d"));
}

#[test]
fn where_the_kernel_cannot_it_is_said_once_or_no_command_runs() {
    let lakitu = Binary::new().without_landlock();
    let ran = plays(&lakitu, &["echo one", "echo two"], &[]);
    assert_eq!(results(&ran).len(), 2);
    assert_eq!(ran.err.matches("commands are confined: no (").count(), 1, "{}", ran.err);

    let quiet = plays(&Binary::new().without_landlock(), &["echo one"], &["--no-confine"]);
    assert!(!quiet.err.contains("confined"), "{}", quiet.err);

    let require = Binary::new().without_landlock().env("LAKITU__CONFINE__COMMANDS", "require");
    let ran = plays(&require, &["touch ran"], &[]);
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.lines().count()), (2, "", 1), "{ran:?}");
    assert!(ran.err.contains("NOT_CONFINED") && ran.err.contains("[confine] commands"), "{ran:?}");
    assert!(!require.workspace().join("ran").exists());
    let script = require.script(&Script::new());
    let up = require.run(&["up", "--workspace", ".", "--artifacts", "../artifacts", "--script", &script]);
    assert!(up.exit == 2 && up.err.contains("NOT_CONFINED"), "{up:?}");
    let doctor = require.run(&["doctor", "--json"]).object();
    let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "confinement").unwrap();
    assert_eq!(check["state"], "missing", "{check}");
}

fn git(directory: &Path, args: &[&str]) {
    let done = Command::new("git").arg("-C").arg(directory).args(args).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

const CARGO: &str = r#"mkdir -p crate/src crate/dep/src && cd crate && cat >Cargo.toml <<'END'
[package]
name = "a"
edition = "2021"
[dependencies]
dep = { path = "dep" }
[workspace]
END
printf '[package]\nname = "dep"\nedition = "2021"\n' >dep/Cargo.toml && echo 'pub const X: i32 = 41;' >dep/src/lib.rs &&
echo 'fn main() { println!("built {}", dep::X + 1) }' >src/main.rs && CARGO_TARGET_DIR=target cargo build --offline &&
target/debug/a | grep 'built 42'"#;
const PIP: &str = r#"mkdir python && cd python && python3 -m venv v && python3 - <<'END' &&
import zipfile
with zipfile.ZipFile("tiny-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "x = 42")
    wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("tiny-1.dist-info/RECORD", "")
END
v/bin/pip install --no-index ./tiny-1-py3-none-any.whl && v/bin/python -c 'import tiny; print(tiny.x)' | grep 42"#;
/// By way of a tarball, so that npm's cache is written to.
const NPM: &str = r#"mkdir -p node/dep && cd node && echo 'module.exports = 42' >dep/index.js &&
echo '{"name":"dep","version":"1.0.0"}' >dep/package.json && npm pack ./dep &&
echo '{"name":"a","version":"1.0.0","dependencies":{"dep":"file:dep-1.0.0.tgz"}}' >package.json &&
npm install --offline --package-lock-only && npm ci --offline && node -e 'console.log(require("dep"))' | grep 42"#;
const COMMIT: &str = "echo x >file && git add file && git -c user.name=a -c user.email=a@b commit -q -m two && git log --oneline | wc -l";

#[test]
fn what_commands_are_for_works() {
    // The workspace is a linked worktree of a repository that lies elsewhere, and holds one of its own.
    let (outside, lakitu) = (outside(), Binary::new());
    git(outside.path(), &["init", "-q", "."]);
    git(outside.path(), &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "one"]);
    let workspace = lakitu.workspace();
    git(outside.path(), &["worktree", "add", "-q", "-f", &workspace.display().to_string()]);
    let own = format!("git init -q own && cd own && {COMMIT}");
    let commands = [COMMIT, &own, CARGO, PIP, NPM];
    for (command, result) in commands.iter().zip(results(&plays(&lakitu, &commands, &[]))) {
        assert!(result["output"].as_str().is_some_and(|output| output.contains("\n[exit 0")), "{command}: {result}");
    }
    if can() {
        let held = format!("echo x >{}/new; echo $?", outside.path().display());
        results(&plays(&lakitu, &[&held], &[]));
        assert!(!outside.path().join("new").exists(), "beside the repository's own directory nothing is open");
    }
}
