//! The store is looked at, copied, compacted and repaired, with its owner and without.

use std::path::Path;

use redb::{Database, TableDefinition};

use super::{Up, binary};
use crate::harness::{Binary, Script};

const BY_STATUS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("threads.by_status");

/// The threads of a data directory; none: of the binary's own.
fn listed(binary: &mut Binary, data: Option<&Path>) -> String {
    binary.data_flag = data.map(Path::to_path_buf);
    let listed = binary.run(&["threads", "ls", "--json"]).out;
    binary.data_flag = None;
    listed
}

#[test]
fn a_store_is_backed_up_compacted_and_repaired() {
    let mut binary = binary();
    let up = Up::start(&binary, &Script::new().says("Kept."));
    assert_eq!(binary.run(&["run", "keep this", "-q"]).out, "Kept.\n");
    let place = tempfile::tempdir().unwrap();
    let (online, offline) = (place.path().join("online"), place.path().join("offline"));

    // Its owner does it.
    let made = binary.run(&["db", "backup", "--json", online.to_str().unwrap()]).object();
    assert!(made["rows"].as_u64() > Some(5), "{made}");
    assert_eq!(binary.run(&["db", "backup", online.to_str().unwrap()]).exit, 2, "nothing is overwritten");
    assert_eq!(binary.run(&["db", "compact"]).exit, 0);
    let refused = binary.run(&["db", "verify", "--repair"]);
    assert_eq!(refused.exit, 75);
    assert!(refused.err.contains(&up.process.pid().to_string()), "{refused:?}");
    up.stop();

    // Nobody owns it.
    assert_eq!(binary.run(&["db", "backup", offline.to_str().unwrap()]).exit, 0);
    let compacted = binary.run(&["db", "compact", "--json"]).object();
    assert!(compacted["after_bytes"].as_u64() <= compacted["before_bytes"].as_u64(), "{compacted}");
    assert!(listed(&mut binary, Some(&online)).contains("keep this"));
    assert_eq!(listed(&mut binary, Some(&online)), listed(&mut binary, Some(&offline)));
    binary.data_flag = Some(offline);
    assert_eq!(binary.run(&["db", "verify"]).exit, 0);
    binary.data_flag = None;

    // An index that names what is not there.
    let database = Database::open(binary.data().join("lakitu.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(BY_STATUS).unwrap().insert(b"nonsense".as_slice(), b"no thread".as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    let found = binary.run(&["db", "verify"]);
    assert_eq!(found.exit, 1);
    assert!(found.out.contains("threads.by_status"), "{found:?}");
    let repaired = binary.run(&["db", "verify", "--repair"]);
    assert_eq!(repaired.exit, 0, "{repaired:?}");
    assert!(repaired.out.contains("set aside: "), "{repaired:?}");
    assert_eq!(binary.run(&["db", "verify"]).exit, 0);
    assert!(binary.run(&["db", "verify", "--repair"]).out.contains("nothing is wrong"));
    assert!(listed(&mut binary, None).contains("keep this"));
}
