//! Beads over HTTP: made, claimed, closed; and the refusals.

use serde_json::json;

use super::Scene;
use crate::harness::Script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bead_is_made_claimed_and_closed_and_what_waited_is_free() {
    let scene = Scene::start(Script::new()).await;
    let made = scene.client.post("/v1/beads", &json!({ "title": "first", "priority": 0, "labels": ["x"] })).await;
    let first = made.json();
    let id = first["_id"].as_str().unwrap().to_owned();
    assert_eq!((made.status, made.header("location")), (201, Some(format!("/v1/beads/{id}").as_str())));
    assert_eq!((&first["status"], &first["type"], &first["priority"]), (&json!("open"), &json!("task"), &json!(0)));

    let waits = json!({ "title": "second", "blocked_by": [id] });
    let second = scene.client.post("/v1/beads", &waits).await.json();
    assert_eq!((&second["status"], &second["blockedBy"]), (&json!("blocked"), &json!([id])));
    let path = |bead: &serde_json::Value| format!("/v1/beads/{}", bead["_id"].as_str().unwrap());
    let claim = json!({ "status": "in_progress" });
    let early = scene.client.patch(&path(&second), &claim).await;
    assert_eq!(early.error(), (409, "BEAD_BLOCKED".to_owned()));
    let claimed = scene.client.patch(&path(&first), &claim).await.json();
    assert_eq!(claimed["status"], "in_progress");
    let closed = json!({ "status": "closed", "reason": "done" });
    let closed = scene.client.patch(&path(&first), &closed).await.json();
    assert_eq!((&closed["status"], &closed["closeReason"]), (&json!("closed"), &json!("done")));
    assert_eq!(scene.client.patch(&path(&second), &claim).await.json()["status"], "in_progress");

    let ring = json!({ "blocked_by": [second["_id"]] });
    assert_eq!(scene.client.patch(&path(&first), &ring).await.error(), (409, "BEAD_CYCLE".to_owned()));
    for (body, status, code) in [
        (json!({ "title": "" }), 422, "INVALID_ARGUMENTS"),
        (json!({ "title": "x", "parent_id": "" }), 422, "INVALID_ARGUMENTS"),
        (json!(["x"]), 422, "INVALID_ARGUMENTS"),
        (json!({ "title": "x", "priority": 5 }), 422, "INVALID_ARGUMENTS"),
        (json!({ "title": "x", "colour": "red" }), 422, "INVALID_ARGUMENTS"),
        (json!({ "title": "x", "blocked_by": ["bd-none"] }), 404, "BEAD_NOT_FOUND"),
    ] {
        assert_eq!(scene.client.post("/v1/beads", &body).await.error(), (status, code.to_owned()), "{body}");
    }
    let nobody = scene.client.patch("/v1/beads/bd-none", &claim).await;
    assert_eq!(nobody.error(), (404, "BEAD_NOT_FOUND".to_owned()));
    scene.end().await;
}
