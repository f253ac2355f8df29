//! How often a token may ask.

use std::collections::HashMap;

use lakitu_kernel::limits::{API_REQUESTS_BURST, API_REQUESTS_PER_SECOND};
use lakitu_kernel::supervise::Guarded;
use tokio::time::{Duration, Instant};

/// Tokens that are remembered; those that are full again are forgotten first.
const TOKENS_MAX: usize = 4096;
/// What one request takes out of a bucket.
const PERIOD: Duration = Duration::from_millis(1000 / API_REQUESTS_PER_SECOND as u64);

/// For each token: when its bucket is full again. Time alone fills it, so nothing has to be counted.
#[derive(Debug, Default)]
pub(super) struct Rates {
    full_at: Guarded<HashMap<String, Instant>>,
}

impl Rates {
    /// Takes one request, or says how long the next one has to wait.
    pub(super) fn take(&self, token: &str) -> Result<(), Duration> {
        let now = Instant::now();
        let whole = PERIOD * API_REQUESTS_BURST;
        self.full_at.with(|full_at| {
            if full_at.len() >= TOKENS_MAX && !full_at.contains_key(token) {
                full_at.retain(|_, at| *at > now);
                // Whoever signs so many tokens is let through rather than remembered.
                if full_at.len() >= TOKENS_MAX {
                    return Ok(());
                }
            }
            let at = full_at.entry(token.to_owned()).or_insert(now);
            let next = (*at).max(now) + PERIOD;
            match next.duration_since(now).checked_sub(whole) {
                Some(over) if !over.is_zero() => Err(over),
                Some(_) | None => {
                    *at = next;
                    Ok(())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_and_then_what_comes_in_time() {
        let rates = Rates::default();
        for _ in 0..API_REQUESTS_BURST {
            assert_eq!(rates.take("a"), Ok(()));
        }
        assert_eq!(rates.take("a"), Err(PERIOD));
        assert_eq!(rates.take("b"), Ok(()), "one token's requests are not another's");
        tokio::time::advance(PERIOD).await;
        assert_eq!(rates.take("a"), Ok(()));
        assert_eq!(rates.take("a"), Err(PERIOD));
        tokio::time::advance(PERIOD * API_REQUESTS_BURST * 2).await;
        for _ in 0..API_REQUESTS_BURST {
            assert_eq!(rates.take("a"), Ok(()));
        }
        assert!(rates.take("a").is_err(), "a bucket holds no more than a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_tokens_are_remembered_than_may_be() {
        let rates = Rates::default();
        for token in 0..=TOKENS_MAX {
            assert_eq!(rates.take(&token.to_string()), Ok(()));
        }
        assert_eq!(rates.full_at.with(|all| all.len()), TOKENS_MAX);
        tokio::time::advance(PERIOD).await;
        assert_eq!(rates.take("one more"), Ok(()));
        assert_eq!(rates.full_at.with(|all| all.len()), 1);
    }
}
