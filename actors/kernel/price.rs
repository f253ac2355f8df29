//! What models cost.

use serde::Deserialize;

use crate::chat::{Usage, Usd};

/// What a model costs, in US dollars a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens in that have to do with no cache.
    pub input: f64,
    /// Tokens out.
    pub output: f64,
    /// Tokens in that came from a cache. Default: as those that did not.
    #[serde(default)]
    pub cached: Option<f64>,
    /// Tokens in that a provider says it put into a cache. Default: 1.25 times the input, which is what Anthropic takes for
    /// a cache that holds five minutes.
    #[serde(default)]
    pub cache_write: Option<f64>,
}

impl Price {
    /// What a call with this usage costs.
    pub fn of(&self, usage: &Usage) -> Option<Usd> {
        /// Prices are for a million tokens.
        const PER: f64 = 1e6;
        /// Of the price of the input.
        const CACHE_WRITE: f64 = 1.25;
        let tokens = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let fresh = usage.input_tokens.saturating_sub(usage.cached_tokens).saturating_sub(usage.cache_write_tokens);
        let sum = tokens(fresh) * self.input
            + tokens(usage.cached_tokens) * self.cached.unwrap_or(self.input)
            + tokens(usage.cache_write_tokens) * self.cache_write.unwrap_or(self.input * CACHE_WRITE)
            + tokens(usage.output_tokens) * self.output;
        Usd::from_dollars(sum / PER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = |input_tokens, cached_tokens, cache_write_tokens| Usage {
            input_tokens,
            output_tokens: 1_000,
            cached_tokens,
            cache_write_tokens,
            cost: None,
        };
        let plain = Price { input: 4.0, output: 10.0, cached: None, cache_write: None };
        let own = Price { cached: Some(0.5), cache_write: Some(8.0), ..plain };
        for (price, usage, cost) in [
            (plain, usage(1_000, 0, 0), 0.014),
            (plain, usage(1_000, 500, 0), 0.014),
            (plain, usage(1_000, 500, 200), 0.014_2),
            (own, usage(1_000, 500, 200), 0.013_05),
            // What cannot be is not paid back.
            (own, usage(100, 500, 200), 0.011_85),
        ] {
            assert_eq!(price.of(&usage), Usd::from_dollars(cost), "{price:?} {usage:?}");
        }
    }
}
