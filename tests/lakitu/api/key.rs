//! The key, the tokens that are made of it, and the port.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use lakitu::token::Invalid;
use lakitu_kernel::clock::System;
use lakitu_kernel::config;
use lakitu_kernel::supervise::{NodeState, What};
use lakitu_kernel::{ErrorCode, ToolError};
use serde_json::Value;

use super::Scene;
use crate::harness::{Binary, Script};

fn refused<T>(outcome: Result<T, ToolError>) -> ToolError {
    outcome.err().expect("a refusal")
}

#[test]
fn on_loopback_a_key_is_made_once_and_for_other_machines_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut config = config::Api::default();
    lakitu::api::keys(&config, &data, Arc::new(System)).unwrap();
    let made = std::fs::read(data.join("api.key")).unwrap();
    assert_eq!(made.len(), 65);
    assert_eq!(std::fs::metadata(data.join("api.key")).unwrap().permissions().mode() & 0o777, 0o600);
    lakitu::api::keys(&config, &data, Arc::new(System)).unwrap();
    assert_eq!(std::fs::read(data.join("api.key")).unwrap(), made);
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing else is left there");

    for public in ["0.0.0.0:3210", "[::]:3210", "10.0.0.1:3210"] {
        config.bind = public.parse().unwrap();
        let error = refused(lakitu::api::keys(&config, &data, Arc::new(System)));
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        assert!(error.message.contains(public) && error.message.contains("key_file"), "{}", error.message);
    }
    let named = folder.path().join("named");
    for (secret, good) in [("", false), (&*"x".repeat(31), false), (&*"x".repeat(32), true)] {
        std::fs::write(&named, secret).unwrap();
        config.key_file = Some(named.clone());
        assert_eq!(lakitu::api::keys(&config, &data, Arc::new(System)).is_ok(), good, "{} bytes", secret.len());
    }
}

#[test]
fn the_command_line_makes_tokens_that_the_api_believes() {
    let binary = Binary::new();
    let data = binary.data();
    let mint = |more: &[&str]| binary.run(&[&["token", "mint", "--audience", "api"], more].concat());
    let usual = mint(&[]);
    assert_eq!((usual.exit, &*usual.err), (0, ""));
    let keys = lakitu::api::keys(&config::Api::default(), &data, Arc::new(System)).unwrap();
    assert_eq!(keys.verify(usual.out.trim()).unwrap().scope, "api:read api:write");
    let admin = mint(&["--scope", "api:admin", "--sub", "me"]).out;
    assert_eq!(keys.verify(admin.trim()).unwrap().sub, "me");
    let inspected = binary.run(&["--json", "token", "inspect", admin.trim()]);
    let inspected: Value = serde_json::from_str(&inspected.out).unwrap();
    assert_eq!((&inspected["valid"], &inspected["claims"]["aud"]), (&true.into(), &"lakitu-api".into()));
    // One secret for both does not make one audience of them.
    let secret = data.join("api.key").display().to_string();
    let other = binary.run(&["token", "mint", "--secret-file", &secret]);
    assert_eq!(keys.verify(other.out.trim()), Err(Invalid::Foreign("audience")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named_and_one_that_is_free_again_is_taken() {
    let scene = Scene::start(Script::new()).await;
    let at = scene.client.at;
    let config = config::Api { bind: at, ..config::Api::default() };
    let settings = scene.lakitu.settings();
    let error = refused(lakitu::api::parts(&config, &scene.lakitu.home.data(), settings));
    assert_eq!(error.code, ErrorCode::AddressInUse);
    assert!(error.message.contains(&at.to_string()), "{}", error.message);

    let nodes = &scene.lakitu.runtime().wiring.nodes;
    nodes.stop("/api").unwrap();
    scene.lakitu.has("/api", What::Stopped, 1).await;
    let taken = std::net::TcpListener::bind(at).unwrap();
    nodes.restart("/api").unwrap();
    scene.lakitu.has("/api", What::Failed, 1).await;
    let node = scene.lakitu.node("/api");
    assert!(node.last_error.as_ref().is_some_and(|error| error.contains(&at.to_string())), "{node:?}");
    assert_ne!(node.state, NodeState::Running);
    drop(taken);
    nodes.restart("/api").unwrap();
    scene.lakitu.has("/api", What::Started, 2).await;
    assert_eq!(scene.client.get("/ready").await.status, 200);
    scene.end().await;
}
