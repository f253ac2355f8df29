//! Too few descriptors: sixty-four are enough for a run with commands, jobs and reads side by side, and where a hundred
//! clients take what there is, those that come are turned away and nobody else is harmed.

use std::net::TcpStream;

use serde_json::json;

use crate::harness::{Binary, Ran, Script};
use crate::up::{Up, binary, until};

/// Starts what stands behind it with so few.
const FEW: [&str; 4] = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
const CLIENTS: usize = 100;

/// Commands, jobs, and as many reads and writes as a turn may have.
fn work() -> Script {
    let read = |n: usize| ("file_read", json!({ "path": format!("{}.txt", n % 20) }));
    let write = |n: usize| ("file_write", json!({ "path": format!("{n}.txt"), "content": format!("{n}\n") }));
    let job = |n: usize| {
        ("bash", json!({ "command": format!("echo {n} >> jobs; exec sleep 1000"), "run_in_background": true }))
    };
    Script::new()
        .calls_all((0..20).map(write))
        .calls_all((0..64).map(read))
        .calls_all((0..8).map(job))
        .calls_all((0..8).map(|n| ("bash", json!({ "command": format!("cat *.txt | wc -l; echo {n} >> marks") }))))
        .calls_all((0..32).map(|n| ("grep", json!({ "pattern": format!("^{n}$") }))))
        .says("All of it.")
}

/// It did all of it once; where it was stopped, with an error that says why, it goes on when there are enough.
fn is_done(binary: &Binary, ran: &Ran, script: &str) {
    if ran.exit != 0 {
        let error = &ran.object()["error"];
        assert!(error["code"].as_str().is_some_and(|code| code != "INTERNAL"), "{ran:?}");
        let resumed = binary.run(&["resume", "-q", "--script", script]);
        assert_eq!((resumed.exit, resumed.out.as_str()), (0, "All of it.\n"), "{ran:?} {resumed:?}");
    }
    assert_eq!(binary.home.read("marks").lines().count(), 8);
    assert_eq!((0..20).filter(|n| binary.home.read(&format!("{n}.txt")) == format!("{n}\n")).count(), 20);
    let verified = binary.run(&["db", "verify"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
}

#[test]
fn a_run_with_sixty_four_descriptors_does_its_work() {
    let binary = Binary::new();
    let script = binary.script(&work());
    let ran = binary.begin_in(&FEW, &["run", "go", "--script", &script, "--output", "json"]).end();
    is_done(&binary, &ran, &script);
}

#[test]
fn a_hundred_clients_at_the_same_time_take_nothing_from_whoever_works() {
    let binary = binary();
    let script = binary.script(&work());
    let up = Up::under(&binary, &FEW, &["--script", &script]);
    let at = up.says("api").trim_start_matches("http://").to_owned();
    // Connections that the runtime has no descriptor for wait in the kernel.
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(&at).unwrap()).collect();
    let held = || std::fs::read_dir(format!("/proc/{}/fd", up.process.pid())).unwrap().count();
    until("it holds what it can", || held() >= 32);
    let crowded = binary.run(&["run", "go", "--output", "json"]);
    drop(clients);
    until("it lets go of them", || held() < 32);
    is_done_by(&binary, &crowded);
    assert!(healthy(&at), "it serves again");
    let ran = up.ends();
    assert_eq!(ran.exit, 0, "{ran:?}");
}

/// Under an `up` that had no descriptor left: it is done, or was refused with a reason and is done now.
fn is_done_by(binary: &Binary, crowded: &Ran) {
    if crowded.exit != 0 {
        assert!(!crowded.err.contains("panicked"), "{crowded:?}");
        let again = binary.run(&["resume", "-q"]);
        let ran = if again.exit == 2 { binary.run(&["run", "go", "-q"]) } else { again };
        assert_eq!((ran.exit, ran.out.as_str()), (0, "All of it.\n"), "{crowded:?} {ran:?}");
    }
    assert_eq!(binary.home.read("marks").lines().count(), 8, "{crowded:?}");
}

fn healthy(at: &str) -> bool {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET /health HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200")
}
