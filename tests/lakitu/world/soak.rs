//! A thousand turns in one process, of every kind of call: nothing grows but what is kept. As one conversation, and as
//! many short ones. Without `LAKITU_LONG` there are sixty, and only what is counted must hold: sixty turns say little of
//! memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Model, Say, long};
use crate::harness::{Binary, Running};
use crate::up::{Up, binary, until};

/// A turn of each kind, over and over. Behind the last one the model has nothing more to call.
const KINDS: usize = 10;
/// What a runtime may have grown by between the two looks, in bytes.
const MEMORY_MAX: u64 = 5 * 1024 * 1024;
/// A conversation under way is in memory: as it goes on the wire, and as the request and its copy on the way out.
const KEPT: u64 = 3;
/// What its file may be beside twice its live data, in bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// Turns up to the first look, and up to the second.
fn turns() -> [usize; 2] {
    if long() { [50, 1_000] } else { [20, 60] }
}

/// What a runtime has, as the kernel counts it.
#[derive(Debug, Clone, Copy)]
struct Has {
    resident: u64,
    descriptors: usize,
    threads: usize,
    processes: usize,
    temporary: usize,
}

impl Has {
    fn of(binary: &Binary, runtime: &Running) -> Self {
        let process = format!("/proc/{}", runtime.pid());
        let count = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
        Self {
            resident: resident(&process),
            descriptors: count(&format!("{process}/fd")),
            threads: count(&format!("{process}/task")),
            processes: below(runtime.pid()),
            temporary: count(&temporary(binary)) + unnamed(&process) + own(&binary.data()),
        }
    }

    /// What of both is counted and is now more.
    fn more_than(self, before: Has) -> Vec<(&'static str, usize, usize)> {
        let counted = [
            ("descriptors", before.descriptors, self.descriptors),
            ("threads", before.threads, self.threads),
            ("processes", before.processes, self.processes),
            ("temporary files", before.temporary, self.temporary),
        ];
        counted.into_iter().filter(|(_, before, now)| now > before).collect()
    }
}

/// Where temporary files would be.
fn temporary(binary: &Binary) -> String {
    binary.home.path().join("tmp").display().to_string()
}

fn resident(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Processes that descend from this one.
fn below(pid: u32) -> usize {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // Behind the name, which may hold anything: the state, and the parent.
        let Some(parent) = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) else { continue };
        let name = entry.file_name().to_string_lossy().parse();
        if let (Ok(child), Ok(parent)) = (name, parent.parse()) {
            children.entry(parent).or_default().push(child);
        }
    }
    let (mut all, mut look) = (0, vec![pid]);
    while let Some(next) = look.pop() {
        let found = children.remove(&next).unwrap_or_default();
        all += found.len();
        look.extend(found);
    }
    all
}

/// Files without a name that a process holds.
fn unnamed(process: &str) -> usize {
    let files = std::fs::read_dir(format!("{process}/fd")).unwrap().flatten();
    files
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .filter(|to| to.to_string_lossy().ends_with("(deleted)"))
        .count()
}

/// Files in a data directory that are no record of a job, no output, no blob and none of the store's.
fn own(data: &Path) -> usize {
    let of_store = |name: &OsStr| ["lock", "lakitu.redb", "store.stamp", "ballast"].iter().any(|own| name == *own);
    let counts = |entry: &DirEntry| entry.file_type().unwrap().is_file() && !of_store(&entry.file_name());
    [data.to_owned(), data.join("looks")]
        .into_iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().filter(counts))
        .count()
}

/// The n-th turn of a conversation.
fn turn(n: usize) -> Say {
    let file = format!("notes/{}.txt", n / KINDS % 50);
    match n % KINDS {
        0 => Say::call("file_write", json!({ "path": file, "content": format!("turn {n}\nkept\n") })),
        1 => Say::call("bash", json!({ "command": format!("echo {n} >> log.txt; sed -i s/kept/changed-{n}/ {file}") })),
        2 => Say::call("file_read", json!({ "path": file })),
        3 => Say::call(
            "file_edit",
            json!({ "path": file, "old_string": format!("turn {}", n - 3), "new_string": format!("edited {n}") }),
        ),
        4 => Say::call("grep", json!({ "pattern": format!("edited {}", n - 1), "output_mode": "content" })),
        5 => {
            Say::call("bash", json!({ "command": format!(": {n}; exec tail -f /dev/null"), "run_in_background": true }))
        }
        // Without the name of the job, which only its beginning tells: `says` has it.
        6 => Say::call("bash_list", json!({})),
        7 => Say::Calls(vec![
            ("glob", json!({ "pattern": format!("**/{n}*") })),
            ("ls", json!({ "path": "notes" })),
            ("file_read", json!({ "path": file })),
            ("file_read", json!({ "path": format!("missing-{n}.txt") })),
        ]),
        8 => Say::call("bash", json!({ "command": format!("(setsid sleep 0.1 >/dev/null 2>&1 &); echo {n}; false") })),
        _ => Say::call("checkpoint_create", json!({ "name": format!("turn {n}") })),
    }
}

/// The job that was begun last and still runs, from the results in a request.
fn job(body: &Value) -> Option<String> {
    let messages = body["messages"].as_array()?;
    messages.iter().rev().find_map(|message| {
        let text = message["content"].as_str().filter(|_| message["role"] == "tool")?;
        let at = text.find("job_")?;
        Some(text[at..].chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '_').collect())
    })
}

/// What the model says in a conversation of so many turns, by what was said in it before.
fn says(body: &Value, turns: usize) -> Say {
    let messages = body["messages"].as_array().unwrap();
    let n = messages.iter().filter(|message| message["role"] == "assistant").count();
    let ends_job = n % KINDS == 6;
    match n {
        _ if n >= turns => Say::text("Done."),
        _ if ends_job => job(body).map_or_else(|| turn(n), |job| Say::call("bash_kill", json!({ "job": job }))),
        _ => turn(n),
    }
}

fn place() -> Binary {
    let binary = binary();
    let tmp = temporary(&binary);
    std::fs::create_dir(&tmp).unwrap();
    let binary = binary.env("TMPDIR", &tmp);
    // The store's cache fills up to its bound, and then no further: not what is looked for.
    binary.env("LAKITU__STORE__CACHE_MIB", "1")
}

/// Asks for something, to the end of its run.
fn plays(binary: &Binary, args: &[&str]) {
    let ran = binary.run(&[args, &["-q"]].concat());
    assert_eq!((ran.exit, ran.out.as_str()), (0, "Done.\n"), "{ran:?}");
}

/// What it has when nothing is under way any more: the least that is seen while it rests.
fn rests(binary: &Binary, runtime: &Running, idle: usize) -> Has {
    until("its keepers end", || below(runtime.pid()) <= idle);
    let time = if long() { Duration::from_secs(15) } else { Duration::from_millis(300) };
    let (mut least, until) = (Has::of(binary, runtime), std::time::Instant::now() + time);
    while std::time::Instant::now() < until {
        let now = Has::of(binary, runtime);
        least.resident = least.resident.min(now.resident);
        least.descriptors = least.descriptors.min(now.descriptors);
        least.threads = least.threads.min(now.threads);
        least.processes = least.processes.min(now.processes);
        least.temporary = least.temporary.min(now.temporary);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    least
}

/// Nothing of it has grown. `kept`: what it has to keep, in bytes.
fn is_as_before(binary: &Binary, up: Up, first: Has, idle: usize, kept: u64) {
    until("threads that block end, ten seconds after they did", || {
        Has::of(binary, &up.process).threads <= first.threads
    });
    let now = rests(binary, &up.process, idle);
    assert_eq!(now.more_than(first), [], "{first:?}, {now:?}");
    let file = std::fs::metadata(binary.data().join("lakitu.redb")).unwrap().len();
    let tables = binary.run(&["db", "tables", "--json"]).object();
    let live: u64 = tables["items"].as_array().unwrap().iter().map(|table| table["bytes"].as_u64().unwrap()).sum();
    let grown = now.resident.saturating_sub(first.resident);
    println!(
        "{first:?} then {now:?}: {} KiB more; the file has {} KiB, {} of them live",
        grown / 1024,
        file / 1024,
        live / 1024
    );
    assert!(file <= 2 * live + FILE_MAX, "the file has {file} bytes for {live} that are live");
    if long() {
        assert!(grown <= MEMORY_MAX + KEPT * kept, "{grown} bytes more: {first:?}, {now:?}");
    }
    up.stop();
}

#[test]
fn many_conversations_leave_nothing_in_the_runtime_that_had_them() {
    let model = Model::start(|_, body| says(body, KINDS));
    let binary = place();
    let up = Up::with(&binary, &["--gateway", &model.url]);
    let idle = below(up.process.pid());
    let [first, all] = turns();
    let play = |threads: usize| (0..threads).for_each(|n| plays(&binary, &["run", &format!("conversation {n}")]));
    play(first / KINDS);
    let before = rests(&binary, &up.process, idle);
    play((all - first) / KINDS);
    is_as_before(&binary, up, before, idle, 0);
}

#[test]
fn a_long_conversation_leaves_nothing_but_its_history() {
    let [first, all] = turns();
    let model = Model::start(move |_, body| {
        let messages = body["messages"].as_array().unwrap();
        let last =
            messages.iter().rev().find(|message| message["role"] == "user").unwrap()["content"].as_str().unwrap();
        says(body, if last == "begin" { first } else { all })
    });
    let binary = place();
    let up = Up::with(&binary, &["--gateway", &model.url]);
    let idle = below(up.process.pid());
    plays(&binary, &["run", "begin"]);
    let before = rests(&binary, &up.process, idle);
    plays(&binary, &["continue", "--last", "go on"]);
    is_as_before(&binary, up, before, idle, model.last_bytes());
}
