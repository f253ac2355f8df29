//! Damaged data: one bad row is one typed error, a bad file is set aside.

use expect_test::expect;
use lakitu_kernel::config::Config;
use lakitu_kernel::supervise::NodeState;
use redb::{Database, ReadableTable, TableDefinition};

use crate::harness::{Ended, Harness, Home, Recorder, Script};

const JOURNAL: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("journal");

/// Two threads that completed.
async fn two_threads(script: &Script) -> (Home, [lakitu_kernel::ThreadId; 2]) {
    let lakitu = Harness::start(script.clone()).await;
    assert_eq!(lakitu.prompt("one").await, Ok("Hello.".to_owned()));
    let one = lakitu.thread();
    assert_eq!(lakitu.prompt("two").await, Ok("Hello.".to_owned()));
    let two = lakitu.thread();
    (lakitu.stop().await.0, [one, two])
}

#[tokio::test(start_paused = true)]
async fn a_damaged_row_is_one_typed_error_and_other_threads_go_on() {
    let script = Script::new().says("Hello.").says("Still here.");
    let (home, [one, two]) = two_threads(&script).await;
    let database = Database::open(home.data().join("lakitu.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(JOURNAL).unwrap();
        let key = table.first().unwrap().unwrap().0.value().to_vec();
        table.insert(key.as_slice(), b"garbage".as_slice()).unwrap();
    }
    write.commit().unwrap();
    drop(database);

    let lakitu = Harness::start_on(home, script, Config::default()).await;
    let read =
        lakitu.runtime().wiring.store.read(move |reading| lakitu_actors::threads::journal::fold(reading, one)).await;
    let error = lakitu_kernel::ToolError::from(read.err().expect("a row that cannot be read"));
    expect!["STORE_CORRUPT: journal THREAD/1 is damaged: the checksum does not fit"]
        .assert_eq(&error.to_string().replace(&one.to_string(), "THREAD"));
    assert_eq!(lakitu.resume_damaged(one).await, Err(Ended::Refused("STORE_CORRUPT".to_owned())));
    lakitu.turn_to(two);
    assert_eq!(lakitu.continue_("are you there?").await, Ok("Still here.".to_owned()));
    assert_eq!(lakitu.node("/store").state, NodeState::Running);
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_set_aside_and_the_new_start_says_so() {
    let script = Script::new().says("Hello.");
    let (home, _) = two_threads(&script).await;
    let file = home.data().join("lakitu.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..4096].fill(0x5a);
    std::fs::write(&file, &bytes).unwrap();

    let lakitu = Harness::boot(home, Recorder::new(&script), Config::default()).await;
    let opened = lakitu.runtime().wiring.store.last_start().expect("a start").expect("one that came up");
    let salvaged = opened.salvaged.expect("word of what was set aside");
    assert!(!format!("{salvaged:?}").is_empty());
    let kept: Vec<_> = std::fs::read_dir(lakitu.home.data())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && *path != file && std::fs::read(path).unwrap() == bytes)
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(lakitu.prompt("three").await, Ok("Hello.".to_owned()));
    lakitu.end().await;
}
