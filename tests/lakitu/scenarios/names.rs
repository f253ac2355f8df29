//! The real binary and a gateway that a name server leads to. Which resolver the binary has, the system's or (linked
//! statically) its own, makes no difference.

use std::process::{Command, Stdio};

use crate::harness::{Binary, Ran};

/// Runs the binary on a machine of its own, whose name server knows `gateway.example` alone; `None` where the kernel gives
/// none.
fn ask(gateway: &str) -> Option<Ran> {
    let home = Binary::new().env("LAKITU__LIMITS__MODEL_ATTEMPTS", "2");
    let file = |name: &str, text: &str| {
        let path = home.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let resolv = file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let hosts = file("hosts", "127.0.0.1 localhost\n");
    let machine = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lakitu/harness/names.py");
    let ways = [vec!["unshare", "--net", "--mount"], vec!["unshare", "--map-root-user", "--net", "--mount"]];
    let way = ways.into_iter().find(|way| {
        let tried = Command::new(way[0]).args(&way[1..]).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })?;
    let before = [way, vec!["python3", machine, &resolv, &hosts]].concat();
    Some(home.begin_in(&before, &["run", "hello", "--gateway", gateway, "--model", "m"]).end())
}

#[test]
fn a_gateway_is_found_by_the_name_server_and_a_name_that_nobody_knows_is_no_gateway() {
    let Some(known) = ask("http://gateway.example:8077") else {
        eprintln!("no network of one's own can be made here: nothing of this can be tested");
        return;
    };
    assert_eq!(known.exit, 0, "{known:?}");
    assert!(known.out.contains("By a name: gateway.example:8077."), "{known:?}");

    let unknown = ask("http://other.example:8077").unwrap();
    assert_eq!(unknown.exit, 4, "{unknown:?}");
    assert!(unknown.err.contains("(dns)"), "{unknown:?}");
}
