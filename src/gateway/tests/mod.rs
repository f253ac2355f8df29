#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "what a test keeps for itself needs no owner")]

mod auth;
mod budgets;
mod passing;
mod scripts;
mod translated;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::gateway::ScriptGateway;
use lakitu_kernel::clock::System;
use lakitu_kernel::config::Price;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Server, Settings, Upstreams, Way};
use crate::adapters::http::mock::Mock;
use crate::adapters::{Dialect, Secret, TokenSource, Upstream};
use crate::token::{Claims, Keys, claims};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const KEY: &str = "sk-upstream-hush-123456";

/// A gateway on loopback; it ends with the test.
struct Gateway {
    url: String,
    keys: Keys,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ended.abort();
    }
}

fn keys() -> Keys {
    Keys::new(SECRET, Arc::new(System)).unwrap()
}

fn upstream(mock: &Mock) -> Way {
    let key = TokenSource::Value(Secret::new(KEY));
    Way::Http(Upstream::new(&mock.base, Dialect::OpenAi, key, Arc::new(System)).unwrap())
}

fn script(yaml: &str) -> Way {
    Way::Script(ScriptGateway::parse(yaml).unwrap())
}

fn settings(ways: &[(&str, Way)], keys: Option<Keys>) -> Settings {
    let ways: BTreeMap<String, Way> = ways.iter().map(|(name, way)| ((*name).to_owned(), way.clone())).collect();
    let price = Price { input: 1.0, output: 10.0, cached: Some(0.0), cache_write: None };
    Settings::new(Upstreams::new(ways, BTreeMap::from([("priced".to_owned(), price)])), keys)
}

impl Gateway {
    async fn start(ways: &[(&str, Way)]) -> Self {
        Self::start_with(settings(ways, Some(keys()))).await
    }

    async fn start_with(settings: Settings) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), settings).await.unwrap();
        let url = format!("http://{}", server.at());
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.serve(async { drop(stopped.await) }, Duration::from_secs(5)));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().unwrap();
        Self { url, keys: keys(), client, stop: Some(stop), ended }
    }

    fn token(&self, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = claims("ses_1", "llm search", Duration::from_mins(1), &System, &System);
        change(&mut claims);
        self.keys.sign(&claims).unwrap()
    }

    fn chat(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(self.token(|_| {})).body(body)
    }

    async fn ask(&self, body: &Value) -> Response {
        self.chat(body.to_string()).send().await.unwrap()
    }
}

fn asking(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
}

/// Status and body of an error, which must have the one form that errors have.
async fn error(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let error = body["error"].as_object().unwrap();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "param", "type"]);
    assert!(error["message"].is_string() && error["type"].is_string() && error["param"].is_null());
    (status, body["error"]["code"].clone())
}
