//! Clients as they should not be.

use super::*;
use crate::debug::protocol::request;

fn short(limits: impl FnOnce(&mut DebugLimits)) -> Setup {
    let mut setup = Setup::default();
    limits(&mut setup.limits);
    setup
}

/// A request of exactly so many bytes.
fn request_of(bytes: usize) -> String {
    let (before, after) = (r#"{"jsonrpc":"2.0","id":1,"method":"version","params":{},"pad":""#, r#""}"#);
    format!("{before}{}{after}", "x".repeat(bytes - before.len() - after.len()))
}

#[tokio::test]
async fn a_line_may_have_a_mebibyte_and_not_a_byte_more() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    client.send(request_of(DEBUG_LINE_BYTES_MAX) + "\n").await;
    assert_eq!(client.line().await.unwrap()["result"]["protocol"], 1);
    let line = request_of(DEBUG_LINE_BYTES_MAX + 1) + "\n";
    // The socket is closed while it is still being written.
    let _ = client.stream.get_mut().write_all(line.as_bytes()).await;
    let error = client.line().await.unwrap();
    assert_eq!((&error["error"]["code"], &error["id"]), (&json!(-32600), &Value::Null));
    assert_eq!(client.line().await, None);
    fixture.client().good("version", json!({})).await;
}

#[tokio::test]
async fn endless_lines_cost_no_more_than_a_line() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    let piece = vec![b'x'; 1 << 16];
    let mut sent = 0;
    while client.stream.get_mut().write_all(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 16 << 20, "nobody stops it");
    }
    assert_eq!(client.line().await.unwrap()["error"]["code"], -32600);
}

#[tokio::test]
async fn the_client_past_the_last_place_is_told_and_a_place_that_is_left_is_free_again() {
    let fixture = Fixture::start().await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        let mut client = fixture.client();
        client.good("version", json!({})).await;
        clients.push(client);
    }
    let mut turned_away = fixture.client();
    let told = turned_away.line().await.unwrap();
    assert_eq!((&told["error"]["code"], &told["error"]["data"]["code"]), (&json!(-32000), &json!("UNAVAILABLE")));
    assert_eq!(turned_away.line().await, None);
    let gauges = clients[0].good("inspect", json!({ "path": "/debug" })).await["gauges"].take();
    assert_eq!((&gauges["clients"], &gauges["refused"]), (&json!(64), &json!(1)));
    clients.pop();
    loop {
        let mut client = fixture.client();
        client.ask("version", json!({})).await;
        if client.line().await.unwrap()["error"].is_null() {
            break;
        }
    }
}

#[tokio::test]
async fn ten_thousand_connections_leave_nothing_behind() {
    let fixture = Fixture::start().await;
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for _ in 0..10_000 {
        // The queue of those who wait to be let in has an end too.
        while socket::connect(&fixture.data).is_err() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
    }
    let mut client = loop {
        let mut client = fixture.client();
        client.ask("version", json!({})).await;
        if client.line().await.unwrap()["error"].is_null() {
            break client;
        }
    };
    while client.good("inspect", json!({ "path": "/debug" })).await["gauges"]["clients"] != 1 {}
    // Other tests of this process open files too.
    assert!(open() < before + 100, "{before} became {}", open());
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_holds_up_nobody() {
    let fixture = Fixture::with(short(|limits| limits.write_deadline = Duration::from_millis(200))).await;
    let mut silent = fixture.client();
    let mut other = fixture.client();
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": "tree" }).to_string() + "\n";
    let mut refused = false;
    while !refused {
        let write = silent.stream.get_mut().write_all(line.as_bytes());
        refused = tokio::time::timeout(PATIENCE, write).await.expect("closed in time").is_err();
    }
    other.good("version", json!({})).await;
    while other.good("inspect", json!({ "path": "/debug" })).await["gauges"]["clients"] != 1 {}
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_told_how_much_it_missed() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    client.good("watch", json!({})).await;
    let mut events = fixture.world.nodes.subscribe();
    // Everything on the way is full: the socket, the queue, then the events that are kept.
    for _ in 0..2000 {
        fixture.world.nodes.restart("/probe").unwrap();
        until(&mut events, "/probe", What::Started).await;
    }
    let (mut told, mut dropped) = (0, 0);
    while told + dropped < 6000 {
        let line = client.line().await.unwrap();
        match line["params"]["dropped"].as_u64() {
            Some(count) => dropped += count,
            None => told += 1,
        }
    }
    assert!(dropped > 0, "{told} were told");
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_gets_its_answers() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    // The last line has no end.
    client.send(format!("{}\n{}", request_of(100), request_of(200))).await;
    client.stream.get_mut().shutdown().await.unwrap();
    assert_eq!(client.line().await.unwrap()["result"]["protocol"], 1);
    assert_eq!(client.line().await.unwrap()["result"]["protocol"], 1);
    assert_eq!(client.line().await, None);
}

#[tokio::test]
async fn a_watcher_may_send_no_more_and_its_place_is_free_when_it_goes() {
    let fixture = Fixture::start().await;
    let mut watcher = fixture.client();
    watcher.good("watch", json!({})).await;
    watcher.stream.get_mut().shutdown().await.unwrap();
    fixture.world.nodes.restart("/probe").unwrap();
    assert_eq!(watcher.line().await.unwrap()["params"]["path"], "/probe");
    drop(watcher);
    let mut other = fixture.client();
    while other.good("inspect", json!({ "path": "/debug" })).await["gauges"]["clients"] != 1 {}
}

#[tokio::test]
async fn half_a_line_does_not_keep_a_place_for_ever() {
    let fixture = Fixture::with(short(|limits| limits.line_deadline = Duration::from_millis(50))).await;
    let mut client = fixture.client();
    client.send("{\"jsonrpc\":").await;
    assert_eq!(client.line().await.unwrap()["error"]["data"]["code"], "TIMEOUT");
    assert_eq!(client.line().await, None);
}

#[tokio::test]
async fn requests_may_come_at_once_and_are_answered_in_order() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    let all: String =
        (1..=200).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "version" }).to_string() + "\r\n\n").collect();
    client.send(all).await;
    for id in 1..=200 {
        assert_eq!(client.line().await.unwrap()["id"], id);
    }
}

#[tokio::test]
async fn rubbish_is_answered_with_an_error_and_the_next_line_as_ever() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let rows: [(&[u8], i64); 12] = [
        (b"hello", -32700),
        (b"{", -32700),
        (b"\xff\xfe\x00\x01", -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", -32700),
        (deep.as_bytes(), -32700),
        (b"[]", -32600),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"tree"}]"#, -32600),
        (b"17", -32600),
        (br#"{"id":1,"method":"tree"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":{},"method":"tree"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
    ];
    for (line, code) in rows {
        client.send(line).await;
        client.send("\n").await;
        let error = client.line().await.unwrap();
        assert_eq!(error["error"]["code"], code, "{}", String::from_utf8_lossy(&line[..line.len().min(60)]));
    }
    client.good("version", json!({})).await;
}

#[tokio::test]
async fn a_notification_is_done_and_not_answered() {
    let fixture = Fixture::start().await;
    let mut client = fixture.client();
    client.send("{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":{\"level\":\"trace\"}}\n").await;
    client.good("version", json!({})).await;
    assert_eq!(fixture.world.level.0.with(|kept| kept.clone()).as_deref(), Some("trace"));
}

#[tokio::test]
async fn the_store_may_be_away_without_the_tree_being_away() {
    let fixture = Fixture::start().await;
    let mut events = fixture.world.nodes.subscribe();
    fixture.world.nodes.stop("/store").unwrap();
    until(&mut events, "/store", What::Stopped).await;
    let mut waiting = fixture.client();
    waiting.ask("db.tables", json!({})).await;
    fixture.client().good("tree", json!({})).await;
    let mut rest = Vec::new();
    waiting.stream.get_mut().shutdown().await.unwrap();
    fixture.world.nodes.restart("/store").unwrap();
    waiting.stream.read_to_end(&mut rest).await.unwrap();
    assert!(!rest.is_empty(), "it is answered, with rows or with an error");
}

#[test]
fn ids_that_would_not_fit_are_refused() {
    let line = json!({ "jsonrpc": "2.0", "id": "x".repeat(257), "method": "tree" }).to_string();
    assert_eq!(request(line.as_bytes()).unwrap_err().0, Value::Null);
    let line = json!({ "jsonrpc": "2.0", "id": "x".repeat(256), "method": "tree" }).to_string();
    assert!(request(line.as_bytes()).is_ok());
}

proptest::proptest! {
    #[test]
    fn no_bytes_are_too_strange(line: Vec<u8>) {
        let _ = request(&line);
    }
}
