//! The providers that are found by their keys in the environment: for a run and for the gateway alike.

use lakitu_kernel::config::Defaults;

use super::Secrets;
use crate::adapters::Dialect;

/// A provider that is found by its key.
pub(super) struct Provider {
    /// As people write it.
    pub(super) title: &'static str,
    /// As the gateway's models name it.
    pub(super) name: &'static str,
    /// The variable with its key.
    pub(super) key: &'static str,
    /// The variable that names another place than its usual one.
    pub(super) base_variable: &'static str,
    base: &'static str,
    pub(super) dialect: Dialect,
    /// The model of a run that names none.
    pub(super) model: fn(&Defaults) -> &String,
}

/// In this order: a run asks the first one that has a key.
pub(super) const PROVIDERS: [Provider; 3] = [
    Provider {
        title: "OpenRouter",
        name: "openrouter",
        key: "OPENROUTER_API_KEY",
        base_variable: "OPENROUTER_BASE_URL",
        base: "https://openrouter.ai/api/v1",
        dialect: Dialect::OpenAi,
        model: |defaults| &defaults.openrouter,
    },
    Provider {
        title: "Anthropic",
        name: "anthropic",
        key: "ANTHROPIC_API_KEY",
        base_variable: "ANTHROPIC_BASE_URL",
        base: "https://api.anthropic.com",
        dialect: Dialect::Anthropic,
        model: |defaults| &defaults.anthropic,
    },
    Provider {
        title: "OpenAI",
        name: "openai",
        key: "OPENAI_API_KEY",
        base_variable: "OPENAI_BASE_URL",
        base: "https://api.openai.com/v1",
        dialect: Dialect::OpenAi,
        model: |defaults| &defaults.openai,
    },
];

/// Those whose key is there, with it.
pub(super) fn found(secrets: &Secrets) -> impl Iterator<Item = (&'static Provider, &str)> {
    PROVIDERS.iter().filter_map(|provider| Some((provider, secrets.get(provider.key)?)))
}

impl Provider {
    /// Where it is asked, by this environment.
    pub(super) fn base(&self, env: impl Fn(&str) -> Option<String>) -> String {
        let other = env(self.base_variable).filter(|base| !base.trim().is_empty());
        other.unwrap_or_else(|| self.base.to_owned())
    }
}
