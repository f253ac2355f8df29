//! The agent cannot reach the runtime: its commands try, by the real binary.

use std::path::Path;

use crate::harness::{Binary, Fifo, Script};

/// What is looked for afterwards. Long enough to be nobody else's.
fn secret() -> String {
    format!("s3cret-canary-{}-of-this-run", std::process::id())
}

/// Every way that a command has to what it must not see. Each puts out one line, `name: ` and what it found.
const ATTEMPTS: [(&str, &str); 9] = [
    ("token file", "cat ../token"),
    ("variable", "printenv LAKITU_TOKEN"),
    ("environment of the parent", "tr '\\0' '\\n' < /proc/$PPID/environ | grep LAKITU_TOKEN"),
    ("environments of all", "cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -a LAKITU_TOKEN"),
    ("files of all", "cat /proc/[0-9]*/fd/* < /dev/null | grep -a canary"),
    ("memory of the parent", "grep -a canary /proc/$PPID/mem"),
    ("database", "cat ../data/lakitu.redb | head -c 16"),
    ("debug socket", "test -S ../data/debug.sock && echo there"),
    ("root of the parent", "cat /proc/$PPID/root$PWD/../token"),
];

#[tokio::test]
async fn commands_cannot_reach_the_token_the_database_or_the_runtime() {
    let secret = secret();
    let lakitu = Binary::new().env("LAKITU_TOKEN", &secret);
    let token = lakitu.home.path().join("token");
    std::fs::write(&token, &secret).unwrap();
    let gate = Fifo::new(&lakitu.workspace(), "gate");
    let attempts = ATTEMPTS.iter().fold(Script::new(), |script, (name, attempt)| {
        // A reading end that nobody writes to may hold one up.
        script.runs(&format!(
            "printf '%s: ' '{name}'; timeout 5 sh -c \"$(cat <<'END'\n{attempt}\nEND\n)\" 2>/dev/null; true"
        ))
    });
    let kill = "read -r pid < gate; kill -9 $pid; kill -9 $PPID; kill -9 -- -$PPID; echo tried";
    let script = lakitu.script(&attempts.runs(kill).says("Nothing found."));
    let token = token.display().to_string();
    let running = lakitu.begin(&["run", "try", "--script", &script, "--token-file", &token, "--output", "stream-json"]);
    gate.reached().await.say(&running.pid().to_string());
    let ran = running.end();

    assert_eq!(ran.exit, 0, "the runtime did not survive: {}", ran.err);
    let results: Vec<_> = ran.lines().into_iter().filter(|line| line["type"] == "tool.result").collect();
    for ((name, _), result) in ATTEMPTS.iter().zip(&results) {
        let output = result["output"].as_str().unwrap();
        let found = output.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or(output);
        assert!(found.is_empty() || found.starts_with("[exit"), "{name}: {output}");
    }
    assert!(!ran.out.contains(&secret) && !ran.err.contains(&secret), "the secret was printed");
    let found = files_with(&lakitu.data(), &forms(&secret));
    assert_eq!(found, Vec::<String>::new(), "the secret stands in files");
}

#[test]
fn a_command_is_shown_nothing_by_a_link_in_place_of_its_workspace() {
    let lakitu = Binary::new().env("LAKITU__CONFINE__COMMANDS", "off");
    let swap = "mv ../workspace ../moved && ln -s data/kept ../workspace";
    let script = Script::new().runs(swap).says("Swapped.").runs("pwd -P; cat secret").says("Nothing found.");
    let path = lakitu.script(&script);
    let first = lakitu.run(&["run", "swap", "--script", &path, "--output", "json", "--max-turns", "2"]);
    let kept = lakitu.data().join("kept");
    std::fs::create_dir(&kept).unwrap();
    std::fs::write(kept.join("secret"), secret()).unwrap();
    assert!(lakitu.workspace().is_symlink(), "{first:?}");

    let thread = first.object()["thread"].as_str().unwrap().to_owned();
    let ran =
        lakitu.run(&["continue", &thread, "look", "--script", &path, "--output", "stream-json", "--max-turns", "9"]);

    let result = ran.lines().into_iter().find(|line| line["type"] == "tool.result").unwrap();
    assert_eq!(result["ok"], false, "{result}");
    assert!(!ran.out.contains(&secret()), "{ran:?}");
}

#[test]
fn file_tools_reach_neither_the_token_nor_the_data() {
    let lakitu = Binary::new();
    std::fs::write(lakitu.home.path().join("token"), secret()).unwrap();
    let read = |path: &str| serde_json::json!({ "path": path });
    let data = lakitu.data().join("lakitu.redb").display().to_string();
    let script = Script::new()
        .calls("file_read", read("../token"))
        .calls("file_read", read(&data))
        .calls("file_read", read("/proc/self/environ"))
        .says("Nothing found.");

    let ran = lakitu.plays(&script, "try", &["--output", "stream-json"]);

    assert_eq!(ran.exit, 0, "{}", ran.err);
    for result in ran.lines().iter().filter(|line| line["type"] == "tool.result") {
        assert_eq!(result["error"]["code"], "PERMISSION_DENIED", "{result}");
    }
}

/// A secret as it may be hidden in bytes.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    // Base64 of a text within a text has three forms; what touches its neighbours is left out.
    for skipped in 0..3 {
        forms.push(base64(&secret.as_bytes()[skipped..]));
    }
    forms
}

/// Of whole groups of three bytes.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| DIGITS[bits >> shift & 63])
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

fn files_with(directory: &Path, forms: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        if kind.is_dir() {
            found.extend(files_with(&path, forms));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let holds = |form: &Vec<u8>| bytes.windows(form.len()).any(|window| window == form.as_slice());
            if forms.iter().any(holds) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn the_forms_of_a_secret_are_found_where_it_is_hidden() {
    assert_eq!(base64(b"Man"), b"TWFu");
    let hidden = b"YWJjczNjcmV0LWNhbmFyeQ=="; // "abc" and the secret
    let forms = forms("s3cret-canary");
    assert!(forms.iter().any(|form| hidden.windows(form.len()).any(|window| window == form.as_slice())));
}
