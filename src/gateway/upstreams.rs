//! The providers, and which of them is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use lakitu_actors::gateway::ScriptGateway;
use lakitu_kernel::config::Price;
use lakitu_kernel::{ErrorCode, ToolError};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::asked::Asked;
use super::error::ApiError;
use crate::adapters::Upstream;

/// What one provider may take to list its models.
const MODELS_DEADLINE: Duration = Duration::from_secs(5);

/// Who answers.
#[derive(Debug, Clone)]
pub enum Way {
    /// A provider behind HTTP.
    Http(Upstream),
    /// A script.
    Script(ScriptGateway),
}

/// All of them by name, and what their models cost.
#[derive(Debug, Clone, Default)]
pub struct Upstreams {
    ways: BTreeMap<String, Way>,
    prices: BTreeMap<String, Price>,
}

/// Where a request goes, and as what.
#[derive(Debug)]
pub(super) struct Routed<'a> {
    /// The provider's name.
    pub(super) name: &'a str,
    pub(super) way: &'a Way,
    /// The model as the provider names it.
    pub(super) model: String,
    /// The body, in pieces.
    pub(super) body: Vec<Bytes>,
    pub(super) price: Option<Price>,
}

impl Upstreams {
    /// Providers by name, and prices by model: as it is asked for, or as its provider names it.
    pub fn new(ways: BTreeMap<String, Way>, prices: BTreeMap<String, Price>) -> Self {
        Self { ways, prices }
    }

    /// The providers' names, in order: the first one is asked for what no other is named for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ways.keys().map(String::as_str)
    }

    /// `NAME/REST` is asked of the provider NAME as REST, anything else of the first provider.
    /// With a budget the body asks for usage too, which is what is counted.
    pub(super) fn route(&self, asked: &Asked, body: &Bytes, budget: bool) -> Result<Routed<'_>, ApiError> {
        let named = asked.model.split_once('/').and_then(|(name, rest)| Some((self.ways.get_key_value(name)?, rest)));
        let first = || Some((self.ways.first_key_value()?, &*asked.model));
        let ((name, way), model) = named.or_else(first).ok_or_else(|| ApiError::internal("there is no upstream"))?;
        let price = self.prices.get(&asked.model).or_else(|| self.prices.get(model)).copied();
        Ok(Routed { name, way, model: model.to_owned(), body: asked.told(body, model, budget && asked.stream), price })
    }

    /// Every provider's models, in the form of a list. Who does not answer is left out; nobody answering is an error.
    pub(super) async fn models(&self, within: Duration) -> Result<Value, ApiError> {
        let within = within.min(MODELS_DEADLINE);
        let many = self.ways.len() > 1;
        let lists =
            join_all(self.ways.iter().map(async |(name, way)| (name, models_of(name, way, within).await))).await;
        if lists.iter().all(|(_, models)| models.is_err()) {
            let failures = lists.into_iter().filter_map(|(_, models)| models.err());
            return Err(ApiError::worst(failures).unwrap_or_else(|| ApiError::internal("there is no upstream")));
        }
        let data: Vec<Value> = lists
            .iter()
            .flat_map(|(name, models)| models.iter().flatten().map(move |model| (name, model)))
            .filter_map(|(name, model)| {
                let id = model.get("id")?.as_str()?;
                let id = if many { format!("{name}/{id}") } else { id.to_owned() };
                let created = model.get("created").and_then(Value::as_u64).unwrap_or(0);
                Some(json!({"id": id, "object": "model", "created": created, "owned_by": name}))
            })
            .collect();
        Ok(json!({"object": "list", "data": data}))
    }
}

async fn models_of(name: &str, way: &Way, within: Duration) -> Result<Vec<Value>, ApiError> {
    let upstream = match way {
        Way::Http(upstream) => upstream,
        Way::Script(_) => return Ok(vec![json!({"id": "script"})]),
    };
    let listed = timeout(within, upstream.models()).await;
    let listed = listed
        .map_err(|_| ApiError::late(name, &format!("no list of models within {} s", within.as_secs_f32())))?
        .map_err(|refusal| ApiError::from_refusal(name, refusal))?;
    let listed: Option<Value> = serde_json::from_slice(&listed).ok();
    let data = listed.as_ref().and_then(|listed| listed.get("data")?.as_array().cloned());
    data.ok_or_else(|| {
        let error = ToolError::new(ErrorCode::GatewayProtocol, "what it sends is no list of models");
        ApiError::upstream(name, &error)
    })
}
