//! The HTTP API as its clients have it: over loopback, on the real tree.

mod approve;
mod artifacts;
mod auth;
mod beads;
mod cancel;
mod checkpoints;
mod client;
mod crowd;
mod judge;
mod key;
mod limits;
mod operate;
mod stream;
mod tables;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use lakitu::token::{API, Audience, Claims, Keys, claims};
use lakitu_actors::runtime::Parts;
use lakitu_kernel::clock::System;
use lakitu_kernel::config::Config;
use lakitu_kernel::event::Settings;
use lakitu_kernel::{Seq, ThreadId};
use serde_json::{Value, json};

use self::client::Client;
use crate::harness::{Harness, Home, Recorder, Script};

const ALL: &str = "api:read api:write api:admin";

/// A tree with an API, and a client that may do everything.
struct Scene {
    lakitu: Harness,
    client: Client,
    keys: Keys,
}

impl Scene {
    async fn start(script: Script) -> Self {
        Self::start_on(Home::new(), script).await
    }

    /// With rules of `[policy]`.
    async fn start_asking(script: Script, policy: Value) -> Self {
        let config = Config { policy: serde_json::from_value(policy).unwrap(), ..Config::default() };
        Self::start_with(Home::new(), script, config).await
    }

    async fn start_on(home: Home, script: Script) -> Self {
        Self::start_with(home, script, Config::default()).await
    }

    async fn start_with(home: Home, script: Script, config: Config) -> Self {
        Self::start_set(home, script, config, |_| ()).await
    }

    /// With parts of the test's own.
    async fn start_set(home: Home, script: Script, mut config: Config, own: impl FnOnce(&mut Parts)) -> Self {
        config.api.bind = "127.0.0.1:0".parse().unwrap();
        config.api.hosts = vec!["box.example".to_owned()];
        let settings = Settings {
            model: "scripted".to_owned(),
            mode: lakitu_kernel::mode::Mode::Build,
            workspace: home.workspace(),
            artifacts: home.data().join("artifacts"),
            max_turns: None,
            timeout_ms: None,
            asking: lakitu_kernel::event::Asking { every_change: false, somebody: true },
        };
        let parts = lakitu::api::parts(&config.api, &home.data(), settings).unwrap();
        let keys = lakitu::api::keys(&config.api, &home.data(), Arc::new(System)).unwrap();
        let client = Client { at: parts.door.at(), token: Some(token(&keys, ALL)) };
        let set = |all: &mut Parts| {
            all.api = Some(parts);
            own(all);
        };
        let lakitu = Harness::boot_with(home, Recorder::new(&script), config, set).await;
        Self { lakitu, client, keys }
    }

    /// A client that may do this.
    fn client(&self, scope: &str) -> Client {
        self.client_with(&token(&self.keys, scope))
    }

    fn client_with(&self, token: &str) -> Client {
        Client { at: self.client.at, token: Some(token.to_owned()) }
    }

    /// A token that says this.
    fn sign(&self, set: impl FnOnce(&mut Claims)) -> String {
        let mut said = said(ALL);
        set(&mut said);
        self.keys.sign(&said).unwrap()
    }

    /// Starts a thread; its id.
    async fn thread(&self, prompt: &str) -> ThreadId {
        let started = self.client.post("/v1/threads", &json!({ "prompt": prompt })).await;
        assert_eq!(started.status, 201, "{}", started.text());
        let thread = started.json()["thread"].as_str().unwrap().parse().unwrap();
        self.lakitu.turn_to(thread);
        thread
    }

    /// Waits for the end of a thread's run, by its stream: its status then.
    async fn ended(&self, thread: ThreadId) -> String {
        let mut events = self.client.events(&format!("/v1/threads/{thread}/events"), None).await.ok().unwrap();
        loop {
            let told = events.durable().await.expect("an event");
            if let Some(end) = told.event.strip_prefix("thread.").filter(|end| !["started", "resumed"].contains(end)) {
                return end.to_owned();
            }
        }
    }

    /// A thread's journal, as the stream should tell it.
    async fn journal(&self, thread: ThreadId) -> Vec<Value> {
        let events = self.lakitu.events(thread).await;
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == Seq(seq)));
        events.iter().map(|event| serde_json::to_value(event).unwrap()).collect()
    }

    async fn end(self) {
        self.lakitu.end().await;
    }
}

fn token(keys: &Keys, scope: &str) -> String {
    keys.sign(&said(scope)).unwrap()
}

fn said(scope: &str) -> Claims {
    let aud = Audience::One(API.to_owned());
    Claims { aud, ..claims("test", scope, Duration::from_secs(3600), &System, &System) }
}
