//! Commands that were chosen to do harm, each by the real binary and its `bash`: what comes of it, in bounded time and
//! memory, and that nothing is left of it.
//!
//! Left out, because nothing is promised: what a command may reach in the network.

use lakitu_keeper::Confinement;
use serde_json::{Value, json};

use crate::harness::{Binary, Fifo, Running, Script, alive};

/// No call may take longer, however busy the machine is. Some have two seconds by themselves.
const BOUND_MS: u64 = 60_000;
/// Neither the runtime nor a keeper may ever have been larger, in KiB: a small part of what the commands put out.
const MEMORY_MAX_KIB: u64 = 192 * 1024;
/// In MiB: what a command may write into one file, and what it may take.
pub(crate) const FILE_MIB: u64 = 8;
pub(crate) const MEMORY_MIB: u64 = 1024;
pub(crate) const PROCESSES: u64 = 200;

/// A command, and what its result must hold. What it puts out after a `~` must not be there.
pub(crate) type Vector = (&'static str, &'static str, &'static [&'static str]);

const SURVIVES: &[&str] = &["[still running: job_", "[exit 0]"];

pub(crate) const VECTORS: &[Vector] = &[
    ("B01 background", "sleep 1e9 & echo done", SURVIVES),
    ("B02 daemon", "setsid sleep 1e9 & echo done", SURVIVES),
    ("B03 double fork", "(setsid sh -c '(sleep 1e9 &) ; :' &) ; echo done", &["[exit 0]"]),
    ("B04 nohup", "nohup sleep 1e9 >/dev/null 2>&1 & echo done", SURVIVES),
    ("B05 trap", "sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1e9; done' & echo done", SURVIVES),
    ("B06 disown", "sleep 1e9 & disown; echo done", SURVIVES),
    (
        "B07 other people's children",
        "systemd-run --quiet touch $PWD/escaped; echo \"touch $PWD/escaped\" | at now; \
         echo \"* * * * * touch $PWD/escaped\" | crontab -; echo tried",
        &["tried", "~escaped:"],
    ),
    (
        "B08 fork bomb",
        // Where nothing bounds root, it is not tried.
        "if test $(id -u) = 0 && test $(cat /proc/sys/kernel/pid_max) -gt 600; then echo unbounded; else \
         mkfifo q; exec 9<>q; setsid bash -c ':(){ :|:& };:; read -t 9 <&9' 2>/dev/null & read -t 2 <&9; \
         kill -9 -- -$!; fi; echo the machine stands",
        &["the machine stands", "[exit 0"],
    ),
    ("B09 yes", "yes", &["COMMAND_FAILED", "y\n"]),
    ("B10 random", "cat /dev/urandom", &["COMMAND_FAILED"]),
    ("B11 one line", "head -c 1G /dev/zero | tr '\\0' x", &["COMMAND_FAILED", "xxxx"]),
    ("B12 broken text", "printf 'a\\xff\\xe2\\x82'; printf '\\xac\\n'", &["a\u{fffd}\u{20ac}\n"]),
    ("B13 memory", "python3 -c 'print(len(bytearray(2 << 30)))'", &["MemoryError", "[exit 1]"]),
    ("B14 big file", "dd if=/dev/zero of=big bs=1M count=64; stat -c %s big; rm big", &["8388608\n"]),
    (
        "B15 descriptors",
        "python3 -c 'import os\nn = 0\ntry:\n  while True: os.open(\"/dev/null\", 0); n += 1\n\
         except OSError as e: print(n <= 65536, e.strerror)'",
        &["True Too many open files"],
    ),
    ("B16 the keeper", "kill -9 $PPID; kill -TERM $PPID; kill -STOP $PPID; echo tried", &["tried"]),
    (
        "B16 everybody",
        // Nothing is risked where the keeper can be reached.
        "kill -0 $PPID 2>/dev/null && echo unconfined && exit; (kill -9 -1) 2>/dev/null; kill -9 -$PPID 2>/dev/null; echo tried",
        &["~unconfined"],
    ),
    ("B16 afterwards", "echo the keeper lives", &["the keeper lives", "[exit 0"]),
    (
        "B17 memory of others",
        "cat /proc/$PPID/environ /proc/$PPID/mem /proc/$PPID/maps /proc/$PPID/fd/*; cat /proc/[0-9]*/environ | \
         tr '\\0' '\\n' | grep -a canary; timeout 20 gdb -p $PPID -batch; echo tried",
        &["tried", "~canary", "~[New LWP", "~libc"],
    ),
    ("B18 environment", "env | grep -ciE 'jwt|lakitu_token|canary'", &["0\n"]),
    (
        "B21 more rights",
        "sudo -n id; cp $(command -v id) suid && chmod u+s suid && ./suid; unshare -r id; unshare -m true && echo mounts; \
         grep NoNewPrivs /proc/self/status",
        &["NoNewPrivs:\t1", "unshare: ", "~mounts\n"],
    ),
    ("B22 input", "cat; read -r line; echo $?", &["1\n", "[exit 0]"]),
    ("B23 terminal", "echo x >/dev/tty; stty; tput cup 1 1; tput clear; tty", &["not a tty", "~\u{1b}"]),
    ("B24 own directory", "mkdir gone && cd gone && rmdir ../gone && pwd && echo well", &["well", "[exit 0]"]),
    ("B25 exit 300", "exit 300", &["exit code 44", "[exit 44]"]),
    ("B25 signal", "kill -SEGV $$", &["killed by signal 11 (SIGSEGV)"]),
    ("B26 arguments", "/bin/true {1..200000}", &["Argument list too long", "[exit 126]"]),
    (
        "B27 verbatim",
        "cat <<'END'\n$HOME; 'q' \"d\" `id` \\n\nEND\nprintf '%s\\n' 'a;b' \"c d\"",
        &["$HOME; 'q' \"d\" `id` \\n\na;b\nc d\n"],
    ),
    (
        "B27 disguised",
        "r''m -f OUTSIDE/kept; $'\\x72\\x6d' -f OUTSIDE/kept; echo 'rm -f OUTSIDE/kept' | base64 | base64 -d | sh; \
         cat OUTSIDE/kept",
        &["Permission denied", "still here"],
    ),
    (
        "B28 names of the workspace",
        "printf '#!/bin/sh\\necho of the workspace' >ls && chmod +x ls && ls; PATH=. ls; cd() { :; }; alias pwd=ls; rm ls",
        // Once, where it was asked for.
        &["of the workspace", "~of the workspace\nof the workspace", "~was sourced"],
    ),
    (
        "B29 code of the workspace",
        "git init -q r && cd r && printf '#!/bin/sh\\necho hooked; echo x >%s/hook' OUTSIDE >.git/hooks/post-commit && \
         chmod +x .git/hooks/post-commit && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one",
        &["hooked", "Permission denied"],
    ),
    (
        "B31 a name like ours",
        "cp $(command -v sleep) lakitu && (exec -a lakitu ./lakitu 1e9 &) ; echo done",
        &["[exit 0]"],
    ),
];

/// With other arguments than a command alone.
fn with_arguments() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let long = format!(": {}", "x".repeat(1 << 20));
    vec![
        ("B26 NUL", json!({ "command": "echo a\0b" }), &["INVALID_ARGUMENTS"]),
        ("B26 a megabyte", json!({ "command": long }), &["INVALID_ARGUMENTS"]),
        ("B30 zero", json!({ "command": "true", "timeout": 0 }), &["INVALID_ARGUMENTS"]),
        ("B30 negative", json!({ "command": "true", "timeout": -1 }), &["INVALID_ARGUMENTS"]),
        ("B30 endless", json!({ "command": "true", "timeout": 1e12 }), &["600000 ms was used", "[exit 0]"]),
        ("B30 601 s", json!({ "command": "true", "timeout": 601_000 }), &["600000 ms was used", "[exit 0]"]),
        ("B32 stopped", json!({ "command": "kill -STOP $$", "timeout": 1000 }), &["COMMAND_TIMEOUT"]),
    ]
}

#[tokio::test]
async fn a_command_does_what_it_may_and_nothing_is_left_of_it() {
    // `kill -9 -1` is tried too.
    if lakitu_keeper::confinement() != Confinement::Yes {
        return eprintln!("left out: {}", lakitu_keeper::confinement());
    }
    for namespaces in ["true", "false"] {
        all(namespaces).await;
    }
}

async fn all(namespaces: &str) {
    let outside = crate::confined::outside();
    let marker = format!("LAKITU_TEST_OF_PROCESSES_{}_{namespaces}", std::process::id());
    let lakitu = Binary::new();
    let sourced = lakitu.home.path().join("workspace/rc.sh");
    std::fs::write(&sourced, "echo was sourced\n").unwrap();
    let lakitu = lakitu
        .env("LAKITU__KEEPER__NAMESPACES", namespaces)
        .env("LAKITU__CONFINE__MAX_PROCESSES", &PROCESSES.to_string())
        .env("LAKITU__CONFINE__MAX_MEMORY_MB", &MEMORY_MIB.to_string())
        .env("LAKITU__CONFINE__MAX_FILE_MB", &FILE_MIB.to_string())
        .env("BASH_ENV", &sourced.display().to_string())
        .env("XDG_LAKITU_TEST", &marker);
    let gate = Fifo::new(&lakitu.workspace(), "gate");
    std::fs::write(outside.path().join("kept"), "still here").unwrap();
    let outside_path = outside.path().display().to_string();
    let commands = VECTORS.iter().map(|(name, command, expected)| {
        (*name, json!({ "command": command.replace("OUTSIDE", &outside_path) }), *expected)
    });
    let vectors: Vec<_> = commands.chain(with_arguments()).collect();
    let script =
        vectors.iter().fold(Script::new(), |script, (_, arguments, _)| script.calls("bash", arguments.clone()));
    let script = lakitu.script(&script.runs("read -r _ <gate; echo through").says("Through."));

    let running = lakitu.begin(&["run", "go", "--script", &script, "--output", "stream-json"]);
    gate.reached().await.open();
    let memory = largest(&running);
    let ran = running.end();

    assert_eq!(ran.exit, 0, "{}\n{}", ran.err, ran.out);
    let results: Vec<_> = ran.lines().into_iter().filter(|line| line["type"] == "tool.result").collect();
    assert_eq!(results.len(), vectors.len() + 1);
    for ((name, _, expected), result) in vectors.iter().zip(&results) {
        let output = result["output"].as_str().unwrap();
        for wanted in *expected {
            match wanted.strip_prefix('~') {
                None => assert!(output.contains(wanted), "{name}, namespaces {namespaces}: no {wanted:?} in {output}"),
                Some(not) => assert!(!output.contains(not), "{name}, namespaces {namespaces}: {not:?} in {output}"),
            }
        }
        let took = result["duration_ms"].as_u64().unwrap();
        assert!(took < BOUND_MS && output.len() < 200_000, "{name}: {took} ms, {} bytes", output.len());
    }
    assert!(memory < MEMORY_MAX_KIB, "{memory} KiB");
    assert_eq!(alive(&marker), Vec::<String>::new(), "left over");
    assert!(!lakitu.workspace().join("escaped").exists());
    assert!(!outside.path().join("hook").exists());
}

/// The most memory that the runtime or one of its processes that is named like it ever had, in KiB.
fn largest(running: &Running) -> u64 {
    let mut family = vec![running.pid().to_string()];
    let mut at = 0;
    while let Some(pid) = family.get(at).cloned() {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        family.extend(children.split_whitespace().map(str::to_owned));
        at += 1;
    }
    let status = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ours = family.iter().map(status).filter(|status| status.starts_with("Name:\tlakitu"));
    let peak = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:").map(str::to_owned));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
    };
    ours.filter_map(peak).max().unwrap()
}
