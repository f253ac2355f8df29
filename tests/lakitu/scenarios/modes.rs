//! How an agent works is enforced, not asked for; and what the repository asks of it stands in its prompt.

use expect_test::expect;
use lakitu_kernel::mode::Mode;
use serde_json::{Value, json};

use crate::harness::{Harness, Script};

/// The tools that the request of this turn offers, and its system text.
fn offered(lakitu: &Harness, turn: u32) -> (Vec<String>, String) {
    let sent = lakitu.gateway.sent().into_iter().find(|sent| sent.turn == turn).unwrap();
    let body: Value = serde_json::from_slice(&sent.body).unwrap();
    let name = |tool: &Value| tool["function"]["name"].as_str().unwrap().to_owned();
    let tools = body["tools"].as_array().unwrap().iter().map(name).collect();
    (tools, body["messages"][0]["content"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_changes_nothing_offers_nothing_else_and_refuses_it() {
    for mode in [Mode::Plan, Mode::Review, Mode::Explore] {
        let script = Script::new()
            .calls("file_write", json!({ "path": "a", "content": "x" }))
            .runs("echo x > a")
            .calls("file_read", json!({ "path": "b" }))
            .says("A plan.");
        let lakitu = Harness::start(script).await;
        lakitu.home.write("b", "here");

        assert_eq!(lakitu.prompt_with("plan it", |settings| settings.mode = mode).await, Ok("A plan.".to_owned()));

        assert!(!lakitu.home.workspace().join("a").exists());
        let (tools, system) = offered(&lakitu, 1);
        assert!(tools.contains(&"file_read".to_owned()), "{tools:?}");
        assert!(
            !tools.iter().any(|tool| tool.starts_with("bash") || tool == "file_write" || tool == "file_edit"),
            "{tools:?}"
        );
        assert!(system.contains(&format!("Mode: {mode}.")), "{system}");
        let told = lakitu.gateway.request(4);
        assert_eq!(told.matches("NOT_IN_MODE: ").count(), 2, "{told}");
        assert!(told.contains("here"), "{told}");
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mode_that_is_given_again_counts_from_then_on() {
    let script =
        Script::new().says("A plan.").calls("file_write", json!({ "path": "a", "content": "x" })).says("Built.");
    let lakitu = Harness::start(script).await;

    let planned = lakitu.prompt_with("plan it", |settings| settings.mode = Mode::Plan).await;
    assert_eq!(planned, Ok("A plan.".to_owned()));
    let built = lakitu.continue_with("do it", |settings| settings.mode = Mode::Build).await;
    assert_eq!(built, Ok("Built.".to_owned()));

    assert_eq!(lakitu.home.read("a"), "x");
    assert!(offered(&lakitu, 2).0.contains(&"bash".to_owned()));
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_repository_asks_for_is_part_of_the_prompt() {
    let lakitu = Harness::start(Script::new().says("Understood.")).await;
    lakitu.home.write("AGENTS.md", "Write tests first.\n");
    lakitu.home.write("web/AGENTS.md", "No frameworks.\n");

    assert_eq!(lakitu.prompt("hello").await, Ok("Understood.".to_owned()));

    let (_, system) = offered(&lakitu, 1);
    let asked = &system[system.find("What this repository").unwrap()..];
    expect![[r#"
        What this repository asks of you (AGENTS.md):

        Write tests first.

        Before you change something below one of these directories, read its AGENTS.md: web/AGENTS.md"#]]
    .assert_eq(asked);
    lakitu.end().await;
}
