//! Where the socket stands, and who may come in.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;
use crate::debug::protocol::SOCKET;
use crate::debug::socket::{bind, may_enter};

#[test]
fn only_we_and_root_may_come_in() {
    assert!(may_enter(1000, 1000) && may_enter(0, 1000) && may_enter(0, 0));
    assert!(!may_enter(1001, 1000) && !may_enter(1000, 0) && !may_enter(65_534, 1000));
}

#[tokio::test]
async fn nobody_else_can_reach_it() {
    let fixture = Fixture::start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&fixture.data.join(SOCKET)), 0o600);
    assert_eq!(mode(&fixture.data), 0o700);
}

#[test]
fn a_directory_that_was_open_to_others_is_closed() {
    let home = TempDir::new().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let _bound = bind(home.path()).unwrap();
    assert_eq!(std::fs::metadata(home.path()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_socket_that_nobody_answers_on_is_taken_over_and_a_live_one_is_not() {
    let home = TempDir::new().unwrap();
    let stale = UnixListener::bind(home.path().join(SOCKET)).unwrap();
    drop(stale);
    assert!(home.path().join(SOCKET).exists());
    let (_listener, bound) = bind(home.path()).unwrap();
    let error = bind(home.path()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    bound.remove();
    assert!(!home.path().join(SOCKET).exists());
}

#[test]
fn a_successors_file_is_not_removed() {
    let home = TempDir::new().unwrap();
    let (listener, old) = bind(home.path()).unwrap();
    // Its number could be given to the next file otherwise.
    std::fs::rename(home.path().join(SOCKET), home.path().join("old.sock")).unwrap();
    drop(listener);
    let (_listener, _new) = bind(home.path()).unwrap();
    old.remove();
    assert!(home.path().join(SOCKET).exists());
}

#[test]
fn what_is_no_socket_is_neither_followed_nor_removed() {
    let home = TempDir::new().unwrap();
    let elsewhere = TempDir::new().unwrap();
    let (_listener, _bound) = bind(elsewhere.path()).unwrap();
    symlink(elsewhere.path().join(SOCKET), home.path().join(SOCKET)).unwrap();
    assert!(bind(home.path()).is_err() && connect(home.path()).is_err(), "a link");
    assert!(home.path().join(SOCKET).is_symlink() && elsewhere.path().join(SOCKET).exists());

    std::fs::remove_file(home.path().join(SOCKET)).unwrap();
    symlink(home.path().join("nothing"), home.path().join(SOCKET)).unwrap();
    assert!(bind(home.path()).is_err(), "a link to nothing");
    assert!(!home.path().join("nothing").exists());

    std::fs::remove_file(home.path().join(SOCKET)).unwrap();
    std::fs::write(home.path().join(SOCKET), "mine").unwrap();
    assert!(bind(home.path()).is_err(), "a file");
    assert_eq!(std::fs::read(home.path().join(SOCKET)).unwrap(), b"mine");
}

#[tokio::test]
async fn a_path_longer_than_an_address_is_no_obstacle() {
    let data = ["long"; 60].join("/");
    let fixture = Fixture::with(Setup { data, ..Setup::default() }).await;
    assert!(fixture.data.as_os_str().len() > 200);
    fixture.client().good("version", json!({})).await;
}

#[tokio::test]
async fn the_file_goes_with_an_orderly_stop_and_a_killed_ones_is_taken_over() {
    let home = TempDir::new().unwrap();
    let data = home.path().join("data");
    // What a runtime that was killed leaves.
    std::fs::create_dir(&data).unwrap();
    drop(UnixListener::bind(data.join(SOCKET)).unwrap());
    let mut fixture = Fixture::on(home, data, Setup::default()).await;
    let mut client = fixture.client();
    client.good("version", json!({})).await;
    fixture.root.stop(PATIENCE).await;
    assert_eq!(client.line().await, None);
    assert!(!fixture.data.join(SOCKET).exists());
    assert_eq!(connect(&fixture.data).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_socket_that_crashed_is_bound_again() {
    let fixture = Fixture::with(Setup { fault_injection: true, ..Setup::default() }).await;
    let mut events = fixture.world.nodes.subscribe();
    let mut client = fixture.client();
    for fault in ["panic", "error"] {
        client.good("inject", json!({ "path": "/debug", "fault": fault })).await;
        fixture.world.debug.send(DebugMsg::Deaf { listener: Arc::default() }).unwrap();
        until(&mut events, "/debug", What::Started).await;
        assert_eq!(client.line().await, None);
        client = fixture.client();
    }
    client.good("version", json!({})).await;
    // A word of an older listener ends nobody.
    fixture.world.debug.send(DebugMsg::Deaf { listener: Arc::default() }).unwrap();
    client.good("version", json!({})).await;
    assert_eq!(client.good("inspect", json!({ "path": "/debug" })).await["restarts"], 2);
}
