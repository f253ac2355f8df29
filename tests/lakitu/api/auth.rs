//! Who is let in: by token, by scope, by name, by origin.

use lakitu::token::{Audience, GATEWAY, Keys};
use lakitu_kernel::clock::System;
use std::sync::Arc;

use super::{Client, Scene, token};
use crate::harness::Script;

#[tokio::test]
async fn a_token_is_believed_for_what_it_says_and_no_longer() {
    let scene = Scene::start(Script::new()).await;
    let stranger = Keys::new(&[7; 32], Arc::new(System)).unwrap();
    let good = scene.sign(|_| {});
    let cases = [
        (None, 401, "TOKEN_MISSING"),
        (Some("Bearer".to_owned()), 401, "TOKEN_MISSING"),
        (Some("Basic dXNlcjpwYXNz".to_owned()), 401, "TOKEN_MISSING"),
        (Some("Bearer x".to_owned()), 401, "TOKEN_INVALID"),
        (Some(format!("Bearer {}AAAA", &good[..good.len() - 4])), 401, "TOKEN_INVALID"),
        (Some(format!("Bearer {}", token(&stranger, super::ALL))), 401, "TOKEN_INVALID"),
        (
            Some(format!("Bearer {}", scene.sign(|said| said.aud = Audience::One(GATEWAY.to_owned())))),
            401,
            "TOKEN_INVALID",
        ),
        (Some(format!("Bearer {}", scene.sign(|said| said.iss = "somebody".to_owned()))), 401, "TOKEN_INVALID"),
        (Some(format!("Bearer {}", scene.sign(|said| said.nbf += 600))), 401, "TOKEN_INVALID"),
        (Some(format!("Bearer {}", scene.sign(|said| said.exp += 48 * 3600))), 401, "TOKEN_INVALID"),
        (
            Some(format!("Bearer {}", scene.sign(|said| (said.iat, said.nbf, said.exp) = (1, 1, 2)))),
            401,
            "TOKEN_EXPIRED",
        ),
        (Some(format!("Bearer {}", scene.sign(|said| said.scope = "llm api:readx".to_owned()))), 403, "SCOPE_MISSING"),
    ];
    let nobody = Client { token: None, ..scene.client.clone() };
    for (header, status, code) in cases {
        let headers: Vec<(&str, &str)> = header.iter().map(|header| ("Authorization", &**header)).collect();
        let answer = nobody.ask("GET", "/v1/threads", &headers, b"").await;
        assert_eq!(answer.error(), (status, code.to_owned()), "{header:?}");
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{answer:?}");
    }
    let twice = [("Authorization", "Bearer x")];
    assert_eq!(scene.client.ask("GET", "/v1/threads", &twice, b"").await.error().0, 401);
    let listed =
        scene.client_with(&scene.sign(|said| said.aud = Audience::Many(vec!["x".into(), "lakitu-api".into()])));
    assert_eq!(listed.get("/v1/threads").await.status, 200);
    scene.end().await;
}

#[tokio::test]
async fn each_path_asks_for_its_own_scope_and_for_no_other() {
    let scene = Scene::start(Script::new()).await;
    let thread = "/v1/threads/thr_00000000000000000000000001";
    let paths = [
        ("GET", "/health".to_owned(), "", 200),
        ("GET", "/ready".to_owned(), "", 200),
        ("GET", "/openapi.json".to_owned(), "api:read", 200),
        ("GET", "/v1/threads".to_owned(), "api:read", 200),
        ("GET", thread.to_owned(), "api:read", 404),
        ("GET", format!("{thread}/messages"), "api:read", 404),
        ("GET", format!("{thread}/events"), "api:read", 404),
        ("GET", "/v1/actors".to_owned(), "api:read", 200),
        ("POST", "/v1/threads".to_owned(), "api:write", 415),
        ("POST", format!("{thread}/messages"), "api:write", 415),
        ("POST", format!("{thread}/cancel"), "api:write", 404),
        ("POST", format!("{thread}/resume"), "api:write", 404),
        ("POST", "/v1/actors/restart".to_owned(), "api:admin", 415),
        ("POST", "/v1/actors/stop".to_owned(), "api:admin", 415),
    ];
    let nobody = Client { token: None, ..scene.client.clone() };
    for (method, path, scope, status) in &paths {
        if !scope.is_empty() {
            assert_eq!(nobody.ask(method, path, &[], b"").await.error().1, "TOKEN_MISSING", "{path}");
        }
        for held in ["api:read", "api:write", "api:admin"] {
            let answer = scene.client(held).ask(method, path, &[], b"").await;
            let wanted = if held == *scope || scope.is_empty() { *status } else { 403 };
            assert_eq!(answer.status, wanted, "{method} {path} with {held}: {}", answer.text());
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn a_page_of_another_origin_or_under_another_name_reaches_nothing() {
    let scene = Scene::start(Script::new()).await;
    let port = scene.client.at.port();
    let (own, local) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let (same, other_port) = (format!("http://{own}"), format!("http://127.0.0.1:{}", port ^ 1));
    let foreign_name = format!("evil.example:{port}");
    let cases: [(&[(&str, &str)], u16); 11] = [
        (&[("Host", &own)], 200),
        (&[("Host", &local)], 200),
        (&[("Host", "box.example")], 200),
        (&[("Host", "127.0.0.1")], 403),
        (&[("Host", &foreign_name)], 403),
        (&[("Host", "")], 403),
        (&[("Host", &own), ("Host", &own)], 400),
        (&[("Host", &own), ("Origin", &same)], 200),
        (&[("Host", &own), ("Origin", &other_port)], 403),
        (&[("Host", &own), ("Origin", "null")], 403),
        (&[("Host", &own), ("Origin", "https://evil.example")], 403),
    ];
    for (headers, status) in cases {
        for path in ["/v1/threads", "/health"] {
            let answer = scene.client.ask("GET", path, headers, b"").await;
            assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text());
            if status != 200 {
                answer.error();
            }
        }
    }
    assert_eq!(scene.client.ask("GET", "/nowhere", &[("Host", &foreign_name)], b"").await.error().1, "FOREIGN_HOST");
    scene.end().await;
}
