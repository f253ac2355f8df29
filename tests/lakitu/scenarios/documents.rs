//! PDF documents: read in a process of its own, by the real program.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;

use crate::harness::{Harness, PATIENCE, Script, alive};

/// A document of one page with this content.
fn pdf(content: &[u8], filter: &str) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Count 1 \
        /Kids [3 0 R] >>\nendobj\n3 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R \
        /Resources << /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>\nendobj\n"
        .to_vec();
    bytes.extend(format!("4 0 obj\n<< {filter} /Length {} >>\nstream\n", content.len()).bytes());
    bytes.extend(content);
    // Without a table of its objects: it is found all the same.
    bytes.extend(b"\nendstream\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n");
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_read_as_text_and_a_window_of_it_too() {
    let script = Script::new()
        .calls_all([
            ("file_read", json!({ "path": "a.pdf" })),
            ("file_read", json!({ "path": "a.pdf", "offset": 2, "limit": 1 })),
            ("file_read", json!({ "path": "broken.pdf" })),
        ])
        .calls("file_write", json!({ "path": "a.pdf", "content": "it was read" }))
        .says("Read.");
    let lakitu = Harness::start(script).await;
    let lines = b"BT /F 12 Tf 50 700 Td (First line) Tj 0 -14 Td (Second line) Tj ET";
    lakitu.home.write_bytes("a.pdf", &pdf(lines, ""));
    lakitu.home.write("broken.pdf", "%PDF-1.7\n");

    assert_eq!(lakitu.prompt("read it").await, Ok("Read.".to_owned()));

    let told = lakitu.gateway.request(2);
    let (_, results) = told.split_once("result 1: ").unwrap();
    expect_test::expect![[r#"
        [PDF document of 1 page, 438 bytes: its text]
               1	--- page 1 of 1 ---
               2	First line
               3	Second line
        result 2: [PDF document of 1 page, 438 bytes: its text]
               2	First line
          [lines 2-2 of 3; go on with offset 3]
        result 3: [PDF document of 9 bytes, not shown: it is broken]
    "#]]
    .assert_eq(results);
    assert_eq!(lakitu.home.read("a.pdf"), "it was read");
    lakitu.end().await;
}

/// Runs the reader as the runtime does; what it puts out, and whether it says itself that it is done.
fn read(document: &[u8]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakitu"));
    command.arg("__read-pdf").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // One that has ended takes no more.
    let _ = input.write_all(document);
    drop(input);
    let ran = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&ran.stdout).into_owned(), ran.status.code())
}

#[test]
fn hostile_documents_are_bounded_in_time_and_memory() {
    let page = |content: &str| pdf(content.as_bytes(), "");
    // 4 MiB that run-length coding makes 250 MiB of, twice over.
    let bomb: Vec<u8> = [129, b' '].repeat(2 * 1024 * 1024);
    let deep = format!("{}1{}", "[".repeat(3_000_000), "]".repeat(3_000_000));
    let rows = [
        ("a bomb", pdf(&bomb, "/Filter /RunLengthDecode")),
        ("a bomb in a bomb", pdf(&bomb, "/Filter [/RunLengthDecode /RunLengthDecode]")),
        ("deep arrays", page(&format!("{deep} TJ"))),
        ("deep dictionaries", page(&format!("/A {} BDC", "<< /A ".repeat(200_000)))),
        ("much text", page(&format!("BT /F 1 Tf {} ET", "(xxxxxxxxxxxxxxxxxxxx) Tj T* ".repeat(300_000)))),
        ("far away", page("BT /F 1e38 Tf 1e38 1e38 1e38 1e38 1e38 1e38 Tm [(a) -1e38 (b) 1e38 (c)] TJ ET")),
        ("no numbers", page("BT /F 12 Tf (a) (b) Td 1 Tj [] TJ /F Tf ' \" (x) Tj ET Q Q Q")),
        ("loops", b"%PDF-1.7\n1 0 obj\n<< /Pages 1 0 R /Kids [1 0 R 1 0 R] /Count 9 /Parent 1 0 R >>\nendobj\ntrailer << /Root 1 0 R >>".to_vec()),
    ];
    for (name, document) in rows {
        let began = Instant::now();
        let (text, code) = read(&document);
        assert!(began.elapsed() < PATIENCE / 2, "{name} took {:?}", began.elapsed());
        assert!(text.len() <= 4 * 1024 * 1024, "{name}: {} bytes", text.len());
        assert_ne!(code, Some(101), "{name}: a panic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_given_up_leaves_no_reader_behind() {
    let lakitu = Harness::start(Script::new().calls("file_read", json!({ "path": "long.pdf" }))).await;
    // A picture of itself, twice over, twelve levels deep and on each of the levels hundreds of times.
    let form = "/Subtype /Form /Resources << /XObject << /X 4 0 R >> >>";
    let mut document = pdf("/X Do ".repeat(300).as_bytes(), form);
    let (from, to) = (b"/Resources << /Font".as_slice(), b"/Resources << /XObject << /X 4 0 R >> /Font");
    let at = document.windows(from.len()).position(|window| window == from).unwrap();
    document.splice(at..at + from.len(), to.iter().copied());
    lakitu.home.write_bytes("long.pdf", &document);
    let mut run = lakitu.begin("read it").await;
    while run.next().await.unwrap().body.name() != "tool.intent" {}
    let until = Instant::now() + PATIENCE;
    while alive("__read-pdf").is_empty() {
        assert!(Instant::now() < until, "no reader");
        tokio::task::yield_now().await;
    }
    lakitu.cancel().await;
    assert!(run.end().await.is_err());
    lakitu.end().await;
    let until = Instant::now() + PATIENCE;
    while !alive("__read-pdf").is_empty() {
        assert!(Instant::now() < until, "{:?}", alive("__read-pdf"));
        tokio::task::yield_now().await;
    }
}
