//! Images that the model sees.

use lakitu_kernel::config::Config;
use lakitu_kernel::limits::PROMPT_IMAGES_MAX;
use serde_json::{Value, json};

use crate::harness::{Harness, Script};

/// A GIF of that size; the name tells it from others.
fn gif(name: u8) -> Vec<u8> {
    [b"GIF89a\x03\0\x02\0\0\0\0".as_slice(), &[name], b";"].concat()
}

fn reads(path: &str) -> (&str, Value) {
    ("file_read", json!({ "path": path }))
}

/// How many images a turn's request shows.
fn shown(lakitu: &Harness, turn: u32) -> usize {
    lakitu.gateway.request(turn).matches("<data:image/").count()
}

#[tokio::test(start_paused = true)]
async fn what_is_read_is_seen_behind_the_results_of_its_turn() {
    let script = Script::new().calls_all([reads("a.gif"), reads("b.txt"), reads("c.gif")]).says("Two pictures.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write_bytes("a.gif", &gif(1));
    lakitu.home.write("b.txt", "text\n");
    lakitu.home.write_bytes("c.gif", &gif(2));

    assert_eq!(lakitu.prompt("look").await, Ok("Two pictures.".to_owned()));

    let told = lakitu.gateway.request(2);
    let (_, results) = told.split_once("result 1: ").unwrap();
    expect_test::expect![[r#"
        GIF image, 3 x 2 pixels, 15 bytes: you see it below the results
        result 2:      1	text
        result 3: GIF image, 3 x 2 pixels, 15 bytes: you see it below the results
        user: [lakitu] a.gif: <data:image/gif;base64,R0lGODlh…> [lakitu] c.gif: <data:image/gif;base64,R0lGODlh…>
    "#]]
    .assert_eq(results);
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_prompt_with_too_many_images_keeps_those_of_the_last_turn_over_a_restart_too() {
    let ten = || (0..10).map(|n| ("file_read", json!({ "path": format!("{n}.gif") })));
    let script = Script::new().calls_all(ten()).calls_all(ten()).calls_all(ten()).says("Enough.").says("Again.");
    let lakitu = Harness::start(script.clone()).await;
    (0..10).for_each(|n| lakitu.home.write_bytes(&format!("{n}.gif"), &gif(n)));

    assert_eq!(lakitu.prompt("look").await, Ok("Enough.".to_owned()));

    assert_eq!([2, 3, 4].map(|turn| shown(&lakitu, turn)), [10, PROMPT_IMAGES_MAX, 10]);
    let before = lakitu.gateway.sent().pop().unwrap();
    let thread = lakitu.thread();
    let (home, _) = lakitu.stop().await;
    let lakitu = Harness::start_on(home, script, Config::default()).await;
    lakitu.turn_to(thread);
    assert_eq!(lakitu.continue_("and now?").await, Ok("Again.".to_owned()));
    let next = lakitu.gateway.sent().pop().unwrap();
    assert!(next.body.starts_with(&before.body[..before.body.len() - 2]), "the restart changed bytes of before");
    lakitu.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_model_that_refuses_images_is_asked_again_without_them() {
    for status in [400, 404, 422] {
        let script = Script::new().calls_all([reads("a.gif")]).fails(status).says("I saw nothing.").says("Still.");
        let lakitu = Harness::start(script).await;
        lakitu.home.write_bytes("a.gif", &gif(1));

        assert_eq!(lakitu.prompt("look").await, Ok("I saw nothing.".to_owned()));

        let sent = lakitu.gateway.sent();
        assert_eq!(sent.iter().map(|sent| sent.turn).collect::<Vec<_>>(), [1, 2, 2], "status {status}");
        assert!(lakitu.gateway.request(2).contains("the model's server refused the request with it"));
        assert_eq!(shown(&lakitu, 2), 0);
        assert!(lakitu.transcript().await.contains("pruned: 0 results, 1 images"));
        // The thread is not poisoned.
        assert_eq!(lakitu.continue_("and now?").await, Ok("Still.".to_owned()));
        lakitu.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn old_images_go_where_the_prompt_does_not_fit() {
    let script = Script::new().calls_all([reads("a.gif")]).calls_all([reads("b.gif")]).fails(413).says("The last one.");
    let lakitu = Harness::start(script).await;
    lakitu.home.write_bytes("a.gif", &gif(1));
    lakitu.home.write_bytes("b.gif", &gif(2));

    assert_eq!(lakitu.prompt("look").await, Ok("The last one.".to_owned()));

    let told = lakitu.gateway.request(3);
    assert_eq!(shown(&lakitu, 3), 1);
    assert!(told.contains("taken out of the prompt to make room") && told.contains("[lakitu] b.gif: <data"), "{told}");
    lakitu.end().await;
}
