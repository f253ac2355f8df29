//! What sessions used, and whether they may go on. Kept in memory: it begins again with the process.
//!
//! A call is let in as long as its session has something left; what it uses is counted when its answer ends, however it
//! ends. So a session may end over its budget by the calls that were under way.

use std::collections::HashMap;
use std::sync::Arc;

use lakitu_kernel::chat::{Usage, Usd};
use lakitu_kernel::config::Price;
use lakitu_kernel::supervise::Guarded;

use super::error::ApiError;
use crate::token::{Claims, LEEWAY};

/// Sessions with a budget whose tokens are alive.
const SESSIONS_MAX: usize = 65_536;

/// What every session with a budget used. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Guarded<HashMap<String, Used>>>);

/// What one session used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) cost: Usd,
    /// When the last of its tokens that was seen ends.
    until: u64,
}

/// One call's place in the ledger.
#[derive(Debug, Clone)]
pub(super) struct Tab {
    ledger: Ledger,
    session: String,
    price: Option<Price>,
}

impl Ledger {
    /// Lets a call of a session in; no tab for one whose token has no budget.
    pub(super) fn open(
        &self,
        claims: &Claims,
        model: &str,
        price: Option<Price>,
        now: u64,
    ) -> Result<Option<Tab>, ApiError> {
        let Some(budget) = claims.budget else { return Ok(None) };
        if budget.usd.is_some() && price.is_none() {
            return Err(ApiError::no_price(model));
        }
        let used = self.0.with(|sessions| {
            if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(&claims.sub) {
                // Nobody holds a token of these any more.
                sessions.retain(|_, used| used.until + LEEWAY.as_secs() > now);
                if sessions.len() >= SESSIONS_MAX {
                    return Err(ApiError::busy("too many sessions with a budget are alive"));
                }
            }
            let used = sessions.entry(claims.sub.clone()).or_default();
            used.until = used.until.max(claims.exp);
            Ok(*used)
        })?;
        if budget.input_tokens.is_some_and(|most| used.input_tokens >= most) {
            return Err(ApiError::over_budget("input tokens"));
        }
        if budget.output_tokens.is_some_and(|most| used.output_tokens >= most) {
            return Err(ApiError::over_budget("output tokens"));
        }
        if budget.usd.is_some_and(|most| used.cost.dollars() >= most) {
            return Err(ApiError::over_budget("US dollars"));
        }
        Ok(Some(Tab { ledger: self.clone(), session: claims.sub.clone(), price }))
    }
}

impl Tab {
    /// Adds what an answer used.
    pub(super) fn add(&self, usage: Usage) {
        // What is no amount of money any more is over every budget.
        let cost = self.price.map_or(Usd::default(), |price| price.of(&usage).unwrap_or(Usd(u64::MAX)));
        self.ledger.0.with(|sessions| {
            let used = sessions.entry(self.session.clone()).or_default();
            used.input_tokens = used.input_tokens.saturating_add(usage.input_tokens);
            used.output_tokens = used.output_tokens.saturating_add(usage.output_tokens);
            used.cost = Usd(used.cost.0.saturating_add(cost.0));
        });
    }
}
