//! Alive, ready, what there is, and the document that says all of it.

use std::collections::BTreeSet;

use lakitu_kernel::supervise::What;
use serde_json::{Value, json};

use super::{Client, Scene};
use crate::harness::{Harness, Script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_run_is_named_and_what_is_restarted_comes_back() {
    let scene = Scene::start(Script::new()).await;
    let nobody = Client { token: None, ..scene.client.clone() };
    assert_eq!(nobody.get("/health").await.json()["status"], "ok");
    let ready = nobody.get("/ready").await;
    assert_eq!((ready.status, ready.json()), (200, json!({ "status": "ready", "not_running": [] })));
    let paths = |node: &Value| -> Vec<String> {
        node["children"].as_array().unwrap().iter().map(|child| child["path"].as_str().unwrap().to_owned()).collect()
    };
    let tree = scene.client.get("/v1/actors").await.json();
    assert_eq!(paths(&tree), ["/debug", "/store", "/gateway", "/checkpoint", "/tools", "/threads", "/api"]);
    assert!(tree["children"].as_array().unwrap().iter().all(|child| child["state"] == "running"), "{tree}");

    let on = json!({ "path": "/tools/file" });
    let stopped = scene.client.post("/v1/actors/stop", &on).await;
    assert_eq!((stopped.status, stopped.json()), (202, on.clone()));
    scene.lakitu.has("/tools/file", What::Stopped, 1).await;
    let ready = nobody.get("/ready").await;
    assert_eq!((ready.error().0, &ready.json()["not_running"]), (503, &json!(["/tools/file"])));
    assert_eq!(scene.client.post("/v1/actors/restart", &on).await.status, 202);
    scene.lakitu.has("/tools/file", What::Started, 2).await;
    assert_eq!(nobody.get("/ready").await.status, 200);

    // It answers before it goes, and is there again.
    assert_eq!(scene.client.post("/v1/actors/restart", &json!({ "path": "/api" })).await.status, 202);
    scene.lakitu.has("/api", What::Started, 2).await;
    assert_eq!(nobody.get("/ready").await.status, 200);
    for (path, status, code) in [("/nobody", 404, "ACTOR_NOT_FOUND"), ("/", 422, "INVALID_ARGUMENTS")] {
        let answer = scene.client.post("/v1/actors/restart", &json!({ "path": path })).await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{path}");
    }
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_begun() {
    let scene = Scene::start(Script::new()).await;
    scene.lakitu.runtime().wiring.nodes.stop("/store").unwrap();
    scene.lakitu.has("/store", What::Stopped, 1).await;
    let refused = scene.client.post("/v1/threads", &json!({ "prompt": "hello" })).await;
    assert_eq!(refused.error(), (503, "UNAVAILABLE".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(scene.client.get("/v1/threads").await.error().0, 503);
    assert_eq!(scene.client.get("/health").await.status, 200);
    scene.lakitu.runtime().wiring.nodes.restart("/store").unwrap();
    scene.lakitu.has("/store", What::Started, 2).await;
    assert_eq!(scene.client.get("/v1/threads").await.json()["items"], json!([]));
    scene.end().await;
}

#[tokio::test]
async fn without_its_parts_there_is_no_api() {
    let lakitu = Harness::start(Script::new()).await;
    assert!(lakitu.runtime().wiring.nodes.node("/api").is_none());
    lakitu.end().await;
}

#[tokio::test]
async fn the_document_lists_what_is_served_and_nothing_else() {
    let scene = Scene::start(Script::new()).await;
    let document = scene.client.get("/openapi.json").await.json();
    assert_eq!(document, lakitu_actors::api::document());
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let real = path.replace("{id}", "thr_00000000000000000000000001");
        let listed: BTreeSet<String> = methods.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = scene.client.ask(method, &real, &[], b"").await;
            assert_eq!(answer.status != 405, listed.contains(method), "{method} {path}: {}", answer.text());
            if answer.status == 405 {
                let allowed: BTreeSet<String> =
                    answer.header("allow").unwrap().split(',').map(|name| name.trim().to_owned()).collect();
                assert_eq!(allowed.into_iter().filter(|name| name != "HEAD").collect::<BTreeSet<_>>(), listed);
            } else {
                let known = &methods[method.to_lowercase()]["responses"][answer.status.to_string()];
                assert!(known.is_object(), "{method} {path} answers {}, which is not written down", answer.status);
            }
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for (at, _) in text.match_indices("#/components/schemas/") {
        let name: String = text[at + 21..].chars().take_while(|char| *char != '"').collect();
        assert!(document["components"]["schemas"][&name].is_object(), "{name}");
    }
    scene.end().await;
}
