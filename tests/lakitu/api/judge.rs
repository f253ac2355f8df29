//! Schemathesis reads the document and asks whatever it allows, and much that it does not, with a token and without.

use serde_json::json;

use super::Scene;
use crate::harness::Script;
use crate::judges::heard;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_no_answer_that_the_document_does_not_have() {
    let scene = Scene::start(Script::new().says("hello").times(100)).await;
    // It finds the actors' paths by itself, and would stop them.
    let of = |scope: &str| scene.sign(|said| said.scope = scope.to_owned());
    let tokens = json!({ "user": of("api:read api:write"), "admin": of("api:read api:admin") }).to_string();
    let url = format!("http://{}", scene.client.at);
    let judged = tokio::task::spawn_blocking(move || {
        heard("api_schemathesis.py", |python| {
            python.env("LAKITU_URL", url).env("LAKITU_TOKENS", tokens);
        })
    });
    judged.await.unwrap();
    scene.lakitu.stop().await;
}
