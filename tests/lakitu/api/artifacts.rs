//! Artifacts over HTTP: listed, shown, and given out as what they are.

use serde_json::json;

use super::Scene;
use crate::harness::Script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_are_listed_shown_and_given_out_as_what_they_are() {
    let script = Script::new()
        .calls("artifact_save", json!({ "name": "page.html", "content": "<script>1</script>" }))
        .calls("artifact_save", json!({ "name": "page.html", "content": "<p>" }))
        .says("Saved.");
    let scene = Scene::start(script).await;
    let thread = scene.thread("save").await;
    assert_eq!(scene.ended(thread).await, "completed");

    let first = scene.client.get(&format!("/v1/artifacts?thread={thread}&limit=1")).await.json();
    assert_eq!((&first["items"][0]["version"], &first["items"][0]["name"]), (&json!(2), &json!("page.html")));
    let cursor = first["cursor"].as_str().unwrap();
    let rest = scene.client.get(&format!("/v1/artifacts?thread={thread}&limit=1&cursor={cursor}")).await.json();
    assert_eq!((&rest["items"][0]["version"], &rest["cursor"]), (&json!(1), &json!(null)));
    let all = scene.client.get("/v1/artifacts").await.json();
    assert_eq!(all["items"], json!([first["items"][0], rest["items"][0]]));

    let id = rest["items"][0]["_id"].as_str().unwrap();
    assert_eq!(scene.client.get(&format!("/v1/artifacts/{id}")).await.json(), rest["items"][0]);
    let content = scene.client.get(&format!("/v1/artifacts/{id}/content")).await;
    assert_eq!((content.status, content.header("content-type")), (200, Some("text/html")));
    // An agent wrote it: no browser runs it as a page of this server.
    assert_eq!(content.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(content.header("content-disposition"), Some("attachment"));
    assert_eq!(content.body, b"<script>1</script>");

    for nobody in ["art_00000000000000000000000007_1", "chk_00000000000000000000000007_1", "page.html", "%00"] {
        for path in [format!("/v1/artifacts/{nobody}"), format!("/v1/artifacts/{nobody}/content")] {
            assert_eq!(scene.client.get(&path).await.error(), (404, "ARTIFACT_NOT_FOUND".to_owned()), "{path}");
        }
    }
    let nobodys = scene.client.get("/v1/artifacts?thread=thr_00000000000000000000000007").await;
    assert_eq!(nobodys.error(), (404, "THREAD_NOT_FOUND".to_owned()));
    assert_eq!(scene.client.get("/v1/artifacts?limit=0").await.status, 422);
    scene.end().await;
}
