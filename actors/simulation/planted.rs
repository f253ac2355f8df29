//! The tests tested: each planted bug is found by a layer that is there to find it.

use std::io::Write as _;

use lakitu_kernel::planted::Planted;

/// The layers of this crate's tests, by what their names begin with; the first that finds a bug is named.
const LAYERS: [(&str, &str); 3] =
    [("simulation", "simulation::nothing_is_lost"), ("store", "store::"), ("gateway", "gateway::")];

/// Runs a layer with a bug; whether it failed. That it passes without one is seen by running it: it is in the same suite.
#[allow(clippy::disallowed_methods, reason = "the tests themselves, in a process that has the bug")]
fn finds(filter: &str, bug: &str) -> bool {
    let tests = std::process::Command::new(std::env::current_exe().unwrap())
        .arg(filter)
        .env("LAKITU_PLANTED", bug)
        .env("RUST_BACKTRACE", "0")
        // What a property finds with the bug is no regression of this code.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
        .env_remove("LAKITU_SEED")
        .output()
        .unwrap();
    // 101 is how a failed test ends the process; anything else would be no finding.
    tests.status.code() == Some(101)
}

#[test]
fn every_planted_bug_is_caught() {
    let caught = Planted::ALL.map(|bug| {
        let layer = LAYERS.iter().find(|(_, filter)| finds(filter, bug.name())).map(|(layer, _)| *layer);
        // Where a test that passes would keep it to itself.
        let _ = writeln!(std::io::stderr(), "planted {:<32} {}", bug.name(), layer.unwrap_or("NOT CAUGHT"));
        layer
    });
    assert!(caught.iter().all(Option::is_some), "a planted bug was not caught");
}
