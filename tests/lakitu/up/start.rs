//! How it starts, and what keeps it from starting.

use std::io::{Read, Write};
use std::path::Path;

use lakitu_keeper::Confinement;

use super::{Up, up};
use crate::harness::{Ran, Script};

/// One clear paragraph, on standard error, and nothing else.
fn told(ran: &Ran, exit: i32, words: &[&str]) {
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.lines().count()), (exit, "", 1), "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is not in {:?}", ran.err);
    }
}

#[test]
fn it_says_that_it_is_ready_where_it_is_and_what_keeps_commands_apart() {
    let binary = super::binary();
    let up = Up::start(&binary, &Script::new());
    assert_eq!(up.says("pid"), up.process.pid().to_string());
    let socket = binary.data().join("debug.sock");
    assert_eq!(Path::new(up.says("socket")), socket);
    assert!(socket.exists());
    assert_eq!(landlock(&up), [""; 0], "the sandbox is the wall, where nothing else is said");
    let api = up.says("api").strip_prefix("http://").unwrap();
    let mut health = std::net::TcpStream::connect(api).unwrap();
    write!(health, "GET /ready HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let tree = binary.run(&["tree", "--json"]).object();
    let states = tree["children"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap());
    assert!(states.clone().all(|state| state == "running") && states.count() >= 5, "{tree}");
    assert!(binary.home.path().join("artifacts").is_dir());
    // What a copy of this machine would share with it is not made before somebody needs it.
    assert!(!binary.data().join("api.key").exists());
    let ran = up.stop();
    assert_eq!(ran.out, "", "the ready line is the only one");
    assert!(!socket.exists());
}

/// What the ready line says beside the namespaces and the cgroup.
fn landlock(up: &Up) -> Vec<&str> {
    let mut words = up.says("confinement").split('+');
    assert!(["namespaces", "user-namespaces", "none"].contains(&words.next().unwrap()), "{}", up.ready);
    words.filter(|word| *word != "cgroup").collect()
}

#[test]
fn it_says_whether_commands_are_confined_as_the_configuration_wants() {
    let binary = super::binary().env("LAKITU__CONFINE__COMMANDS", "on");
    let up = Up::start(&binary, &Script::new());
    let expected = match lakitu_keeper::confinement() {
        Confinement::Yes => vec!["landlock"],
        Confinement::Partly(_) => vec!["partly-landlock"],
        Confinement::No(_) => vec![],
    };
    assert_eq!(landlock(&up), expected);
    up.stop();
}

#[test]
fn a_workspace_that_is_not_there_is_told_in_a_paragraph() {
    let binary = super::binary();
    let script = binary.script(&Script::new());
    let missing = binary.home.path().join("missing").display().to_string();
    told(&binary.run(&["up", "--workspace", &missing, "--script", &script]), 2, &[&missing, "--workspace"]);
    // A sandbox's own place, where nothing says otherwise.
    if !Path::new("/home/user/workspace").exists() {
        told(&binary.run(&["up", "--script", &script]), 2, &["/home/user/workspace"]);
    }
}

#[test]
fn a_data_directory_that_nobody_can_write_to_is_told_in_a_paragraph() {
    let mut binary = super::binary();
    binary.data_flag = Some("/proc/lakitu".into());
    let script = binary.script(&Script::new());
    told(&binary.run(&up(&binary, &["--script", &script])), 2, &["the data directory /proc/lakitu", "--data"]);
}

#[test]
fn a_data_directory_has_one_owner_and_its_pid_is_named() {
    let mut binary = super::binary();
    let script = Script::new();
    let first = Up::start(&binary, &script);
    let pid = first.process.pid().to_string();
    let file = binary.script(&script);
    told(&binary.run(&up(&binary, &["--script", &file])), 75, &[&pid]);
    // Nor is its port free, as a rule; the owner is what matters.
    let at = first.says("api").trim_start_matches("http://").to_owned();
    binary.env.push(("LAKITU__API__BIND".to_owned(), at));
    told(&binary.run(&up(&binary, &["--script", &file])), 75, &[&pid]);
    // The first one did not notice.
    assert_eq!(binary.run(&["threads", "ls"]).exit, 0);
    first.stop();
    Up::start(&binary, &script).stop();
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let binary = super::binary().env("LAKITU__API__BIND", &at);
    let script = binary.script(&Script::new());
    told(&binary.run(&up(&binary, &["--script", &script])), 75, &[&at, "[api] bind"]);
}

#[test]
fn a_run_that_owns_the_data_takes_no_other() {
    let binary = super::binary();
    let gate = crate::harness::Fifo::new(&binary.workspace(), "gate");
    let script = Script::new().runs("echo begins; read -r _ < gate").says("Done.");
    let file = binary.script(&script);
    let mut owner = super::Heard::begin(&binary, &["run", "wait", "--script", &file]);
    owner.until("tool.output");
    let pid = owner.process.pid().to_string();
    told(&binary.run(&up(&binary, &["--script", &file])), 75, &[&pid]);
    told(&binary.run(&["run", "me too", "--script", &file]), 75, &[&pid]);
    told(&binary.run(&["resume", "--script", &file]), 75, &[&pid]);
    tokio::runtime::Runtime::new().unwrap().block_on(gate.reached()).open();
    assert_eq!(owner.end().0, 0);
}

#[test]
fn it_comes_up_without_a_model_and_tells_whoever_wants_one() {
    let binary = super::binary();
    if std::net::TcpStream::connect("127.0.0.1:11434").is_ok() {
        eprintln!("an Ollama server answers here: there is a model");
        return;
    }
    let process = Up::with(&binary, &[]);
    told(&binary.run(&["run", "hello"]), 2, &["no model is configured", "OPENROUTER_API_KEY", "--gateway"]);
    assert_eq!(binary.run(&["threads", "ls", "--json"]).object()["items"], serde_json::json!([]));
    process.process.signal(rustix::process::Signal::TERM);
    let ran = process.process.end();
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.err.contains("no model is configured"), "{ran:?}");
}

#[test]
fn it_is_not_ready_where_a_part_of_it_does_not_come_up() {
    let binary = super::binary();
    std::fs::create_dir_all(binary.data().join("debug.sock")).unwrap();
    let script = binary.script(&Script::new());
    told(&binary.run(&up(&binary, &["--script", &script])), 1, &["/debug does not come up", "debug.sock", "remove it"]);
}
