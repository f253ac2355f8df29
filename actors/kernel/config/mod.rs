//! Configuration: raw as written, valid once. Nothing behind this module sees an unchecked value.
//!
//! A key that is not known, or a value out of its range, names itself and the file that it stands in. Order, later wins:
//! built-in, `/etc/lakitu/lakitu.toml`, `--config`, `LAKITU__SECTION__KEY`, flags.

#[cfg(test)]
mod commented;
mod layers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Table;

use self::layers::{layer, not_allowed, read, variable, whole_number};
pub use crate::confine::{ANY, Confine, ConfineCommands, Location};
pub use crate::edits::Edits;
use crate::error::{ErrorCode, ToolError};
use crate::policy::Policy;
pub use crate::price::Price;

/// Where configuration is looked for without being asked.
pub const SYSTEM_FILE: &str = "/etc/lakitu/lakitu.toml";
/// What environment variables begin with: `LAKITU__SUPERVISION__HANDLER_MS=5000`.
pub const ENV_PREFIX: &str = "LAKITU__";

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[paths]`
    pub paths: Paths,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[limits]`
    pub limits: Limits,
    /// `[supervision]`
    pub supervision: Supervision,
    /// `[store]`
    pub store: Store,
    /// `[retention]`
    pub retention: Retention,
    /// `[keeper]`
    pub keeper: Keeper,
    /// `[confine]`
    pub confine: Confine,
    /// `[edits]`
    pub edits: Edits,
    /// `[debug]`
    pub debug: Debug,
    /// `[api]`
    pub api: Api,
    /// `[policy]`
    pub policy: Policy,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Where the agent works. Default: the current directory; of `lakitu up`: `/home/user/workspace`.
    pub workspace: Option<PathBuf>,
    /// Where it puts what it makes. Default: `<data>/artifacts`; of `lakitu up`: `/home/user/artifacts`.
    pub artifacts: Option<PathBuf>,
    /// The database, outputs, sockets. Default: a directory of the workspace's own under the state directory; of `lakitu up`:
    /// `/home/user/.lakitu`.
    pub data: Option<PathBuf>,
}

/// The model.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// An OpenAI-compatible server, with or without a trailing `/v1`.
    pub url: Option<String>,
    /// The file with the session token; re-read when it changes.
    pub token_file: Option<PathBuf>,
    /// The model that is asked when no flag names one.
    pub model: Option<String>,
    /// Models that are asked, in this order, when that one cannot be had.
    pub fallback_models: Vec<String>,
    /// The model of each provider that is found by its key, when nothing names one.
    pub defaults: Defaults,
    /// `lakitu gateway`
    pub server: GatewayServer,
}

/// One sensible model a provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Where `OPENROUTER_API_KEY` is set.
    pub openrouter: String,
    /// Where `ANTHROPIC_API_KEY` is set.
    pub anthropic: String,
    /// Where `OPENAI_API_KEY` is set.
    pub openai: String,
    /// Where an Ollama server answers on loopback.
    pub ollama: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            openrouter: "anthropic/claude-sonnet-4.5".to_owned(),
            anthropic: "claude-sonnet-4-5".to_owned(),
            openai: "gpt-5.1".to_owned(),
            ollama: "qwen3-coder".to_owned(),
        }
    }
}

/// The server that keeps the providers' keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct GatewayServer {
    /// Where it listens.
    pub bind: SocketAddr,
    /// The file with the secret that session tokens are signed with: at least 32 bytes.
    pub secret_file: Option<PathBuf>,
    /// The providers, by name. A model `NAME/MODEL` is asked of the provider NAME; any other of the first one.
    pub upstream: BTreeMap<String, UpstreamConfig>,
    /// What models cost, by name.
    pub prices: BTreeMap<String, Price>,
}

impl Default for GatewayServer {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 3211)),
            secret_file: None,
            upstream: BTreeMap::new(),
            prices: BTreeMap::new(),
        }
    }
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// What it speaks.
    pub kind: UpstreamKind,
    /// Where it is, with or without a trailing `/v1`. Not for a script.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The environment variable that holds its key. None: none is sent.
    #[serde(default)]
    pub key_env: Option<String>,
    /// The script, where it is one.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// `OpenAI` Chat Completions: OpenRouter, OpenAI, vLLM, LiteLLM, Ollama.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
    /// A model script, for tests and demonstrations.
    Script,
}

/// Bounds that are configured; all others are constants of the tools.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Turns of a run when no flag says so; 0: no limit.
    pub max_turns: u32,
    /// Attempts of one model call.
    pub model_attempts: u32,
    /// Time that one model call's attempts may take together, in milliseconds.
    pub model_retry_ms: u64,
    /// Until the first sign of life of an answer, in milliseconds.
    pub model_first_byte_ms: u64,
    /// Between two pieces of an answer, in milliseconds.
    pub model_idle_ms: u64,
    /// Unfinished threads that `lakitu up` goes on with at a time when it comes up; 0: none.
    pub boot_threads: u32,
    /// A running thread of which nothing was told for so long says what it waits for, in milliseconds.
    pub stalled_ms: u64,
}

impl Limits {
    /// A run that is given more time than the attempts of a model call uses it up.
    pub fn outlast(&mut self, run: Duration) {
        /// Behind the first few attempts no two begin closer to each other, on average.
        const BETWEEN: Duration = Duration::from_secs(8);
        let run_ms = u64::try_from(run.as_millis()).unwrap_or(u64::MAX);
        if run_ms > self.model_retry_ms {
            let attempts = u32::try_from(run.as_secs() / BETWEEN.as_secs()).unwrap_or(u32::MAX);
            self.model_retry_ms = run_ms;
            self.model_attempts = self.model_attempts.max(attempts);
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_turns: 0,
            model_attempts: 70,
            model_retry_ms: 600_000,
            model_first_byte_ms: 30_000,
            model_idle_ms: 60_000,
            boot_threads: 8,
            stalled_ms: 300_000,
        }
    }
}

/// How actors are looked after.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Supervision {
    /// A handler that takes longer is killed and its actor restarted, in milliseconds.
    pub handler_ms: u64,
    /// An orderly stop of everything, in milliseconds.
    pub shutdown_ms: u64,
    /// A core handler that blocks its thread for so long ends the process, in milliseconds.
    pub blocked_ms: u64,
}

impl Default for Supervision {
    fn default() -> Self {
        Self { handler_ms: 5_000, shutdown_ms: 10_000, blocked_ms: 30_000 }
    }
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// What the database keeps in memory, in MiB.
    pub cache_mib: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { cache_mib: 8 }
    }
}

/// What is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// What commands put out, of all threads together, in MiB. Beyond it the oldest of settled threads goes.
    pub outputs_mib: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { outputs_mib: 1024 }
    }
}

/// The processes under which commands run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Keeper {
    /// How long commands live on when the runtime is gone, in milliseconds; 0: not at all.
    pub lease_ms: u64,
    /// How long a command may run, and what it leaves behind, in milliseconds. Then it is killed.
    pub job_lifetime_ms: u64,
    /// Whether commands run in namespaces of their own where the kernel allows it.
    pub namespaces: bool,
}

impl Default for Keeper {
    fn default() -> Self {
        Self { lease_ms: 60_000, job_lifetime_ms: 86_400_000, namespaces: true }
    }
}

/// Looking into the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Debug {
    /// Whether `<data>/debug.sock` is served.
    pub socket: bool,
    /// Whether faults can be injected through it. For tests alone.
    pub fault_injection: bool,
}

impl Default for Debug {
    fn default() -> Self {
        Self { socket: true, fault_injection: false }
    }
}

/// The HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where it listens.
    pub bind: SocketAddr,
    /// The file with the secret that tokens are signed with: at least 32 bytes. Default, on loopback alone:
    /// `<data>/api.key`, made with the first token.
    pub key_file: Option<PathBuf>,
    /// Names by which it is reached from elsewhere, as a request's `Host` says them: with a port, or whatever the port.
    pub hosts: Vec<String>,
}

impl Default for Api {
    fn default() -> Self {
        Self { bind: SocketAddr::from(([127, 0, 0, 1], 3210)), key_file: None, hosts: Vec::new() }
    }
}

impl Config {
    /// Puts the layers together and checks the whole. `file`: what `--config` names. `env`: the process's environment.
    pub fn load(file: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Self, ToolError> {
        let (mut config, mut whole) = (Self::default(), Table::new());
        let system = Path::new(SYSTEM_FILE);
        if system.exists() {
            config = layer(&mut whole, read(system)?, &system.display().to_string())?;
        }
        if let Some(file) = file {
            config = layer(&mut whole, read(file)?, &file.display().to_string())?;
        }
        for (name, value) in env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                config = layer(&mut whole, variable(key, &value, &name)?, &name)?;
            }
        }
        Ok(config)
    }

    /// Numbers that have bounds: key, value, least, most.
    fn ranges(&self) -> impl IntoIterator<Item = (&'static str, u64, u64, u64)> {
        [
            ("limits.model_attempts", u64::from(self.limits.model_attempts), 1, 1_000),
            ("limits.model_retry_ms", self.limits.model_retry_ms, 0, 86_400_000),
            ("limits.model_first_byte_ms", self.limits.model_first_byte_ms, 100, 3_600_000),
            ("limits.model_idle_ms", self.limits.model_idle_ms, 100, 3_600_000),
            ("limits.boot_threads", u64::from(self.limits.boot_threads), 0, 1_000),
            ("limits.stalled_ms", self.limits.stalled_ms, 1_000, 86_400_000),
            ("supervision.handler_ms", self.supervision.handler_ms, 10, 3_600_000),
            ("supervision.shutdown_ms", self.supervision.shutdown_ms, 100, 600_000),
            ("supervision.blocked_ms", self.supervision.blocked_ms, 1_000, 3_600_000),
            ("store.cache_mib", self.store.cache_mib, 1, 16_384),
            ("retention.outputs_mib", self.retention.outputs_mib, 0, 16_777_216),
            ("keeper.lease_ms", self.keeper.lease_ms, 0, 86_400_000),
            ("keeper.job_lifetime_ms", self.keeper.job_lifetime_ms, 1_000, 604_800_000),
            ("confine.max_processes", self.confine.max_processes, 0, 4_194_304),
            ("confine.max_memory_mb", self.confine.max_memory_mb, 0, 16_777_216),
            ("confine.max_file_mb", self.confine.max_file_mb, 0, 16_777_216),
            ("edits.files_max", self.edits.files_max, 1, 1_000_000),
            ("edits.look_ms", self.edits.look_ms, 1, 60_000),
            ("edits.keep_bytes", self.edits.keep_bytes, 0, 1_073_741_824),
            ("edits.call_bytes", self.edits.call_bytes, 0, 268_435_456),
        ]
    }

    fn check(&self) -> Result<(), ToolError> {
        for (key, value, least, most) in self.ranges() {
            if !(least..=most).contains(&value) {
                return Err(invalid(not_allowed(key, &value.to_string(), &whole_number(least, most))));
            }
        }
        for host in &self.api.hosts {
            if host.is_empty() || host.contains(|char: char| char.is_whitespace() || "/@?#*".contains(char)) {
                return Err(invalid(not_allowed("api.hosts", &format!("[{host:?}]"), "names, each NAME or NAME:PORT")));
            }
        }
        for (name, upstream) in &self.gateway.server.upstream {
            let (wanted, given) = match upstream.kind {
                UpstreamKind::Script => ("file", upstream.file.is_some()),
                UpstreamKind::OpenAi | UpstreamKind::Anthropic => ("base_url", upstream.base_url.is_some()),
            };
            if !given {
                return Err(invalid(format!("[gateway.server.upstream.{name}] has no {wanted}")));
            }
        }
        for (model, price) in &self.gateway.server.prices {
            let sums = [Some(price.input), Some(price.output), price.cached, price.cache_write];
            if !sums.into_iter().flatten().all(|sum| sum.is_finite() && sum >= 0.0) {
                return Err(invalid(format!("[gateway.server.prices.{model}]: a price is a number from 0")));
            }
        }
        Ok(())
    }

    /// How long an orderly stop may take.
    pub fn shutdown(&self) -> Duration {
        Duration::from_millis(self.supervision.shutdown_ms)
    }
}

fn invalid(message: String) -> ToolError {
    ToolError::new(ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn told(file: &str, env: &[(&str, &str)]) -> String {
        let dir = std::env::temp_dir().join(format!("lakitu-config-{}-{:x}", std::process::id(), crc(file)));
        std::fs::write(&dir, file).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = Config::load(Some(&dir), env);
        let shown = dir.display().to_string();
        std::fs::remove_file(&dir).unwrap();
        match loaded {
            Ok(config) => format!("handler {} url {:?}", config.supervision.handler_ms, config.gateway.url),
            Err(error) => error.to_string().replace(&shown, "FILE"),
        }
    }

    const UPSTREAM: &str = "[gateway.server.upstream.a]\nkind = \"openai\"\nbase_url = \"http://h\"";

    fn crc(text: &str) -> u64 {
        text.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn later_layers_win_and_what_is_wrong_is_named_with_its_file() {
        let rows = [
            told("", &[]),
            told("[supervision]\nhandler_ms = 7", &[]),
            told("[supervision]\nhandler_ms = 70", &[("LAKITU__SUPERVISION__HANDLER_MS", "80")]),
            told("", &[("LAKITU__GATEWAY__URL", "http://127.0.0.1:1/v1")]),
            told("[gateway]\nurl = 3", &[]),
            told("[gatway]\n", &[]),
            told("[supervision]\nhandlerms = 1", &[]),
            told("[supervision]\nhandler_ms = -1", &[]),
            told("", &[("LAKITU__SUPERVISION__HANDLER", "80")]),
            told("", &[("LAKITU__X", "80")]),
            told("[", &[]),
            told("[limits]\n\nmax_turns = many\n", &[]),
            told("model = \"m\"", &[]),
            told("gateway = true", &[]),
            told("[gateway]\ndefaults = \"opus\"", &[]),
            told("[gateway]\nfallback_models = \"m\"", &[]),
            told("[gateway]\nwarp_drive = 9", &[]),
            told("[keeper]\nnamespaces = \"yes\"", &[]),
            told("[limits]\nmax_turns = 4294967296", &[]),
            told("[limits]\nmodel_attempts = \"many\"", &[]),
            told("[paths]\ndata = [\"/home/user/.lakitu/with/a/path/that/is/longer/than/anybody/wants/to/read\"]", &[]),
            told("[gateway.server.upstream.a]\nbase_url = \"http://h\"", &[]),
            told("[gateway.server.prices.m]\ninput = \"dear\"\noutput = 1", &[]),
            told("[gateway.server.upstream.a]\nkind = \"openai\"", &[]),
            told("[gateway.server.upstream.a]\nkind = \"gpt\"", &[]),
            told("[gateway.server.prices.m]\ninput = -1\noutput = 1", &[]),
            told("", &[("LAKITU__GATEWAY__SERVER__BIND", "127.0.0.1:99999")]),
            told("[confine]\ncommands = \"never\"", &[]),
            told("", &[("LAKITU__CONFINE__WRITE", "[\"/srv\", \"data\"]")]),
            told("[api]\nhosts = [\"box.example:8443\", \"box/x\"]", &[]),
            // A variable changes one key of what a file has.
            told(UPSTREAM, &[("LAKITU__GATEWAY__SERVER__UPSTREAM__A__KEY_ENV", "K")]),
            told(UPSTREAM, &[("LAKITU__GATEWAY__SERVER__UPSTREAM__A__KEY", "K")]),
            told("[policy]\ndeny = [\"bash(rm *)\", \"bash(\"]", &[]),
            told("[policy]\ndefault = \"never\"", &[]),
        ];
        expect![[r#"
            handler 5000 url None
            INVALID_CONFIG: FILE: supervision.handler_ms = 7: it must be a whole number from 10 to 3600000
            handler 80 url None
            handler 5000 url Some("http://127.0.0.1:1/v1")
            INVALID_CONFIG: FILE: gateway.url = 3: it must be a text in quotes
            INVALID_CONFIG: FILE: there is no section [gatway]: did you mean [gateway]? There are paths, gateway, limits, supervision, store, retention, keeper, confine, edits, debug, api, policy
            INVALID_CONFIG: FILE: there is no key supervision.handlerms: did you mean supervision.handler_ms? [supervision] has handler_ms, shutdown_ms, blocked_ms
            INVALID_CONFIG: FILE: supervision.handler_ms = -1: it must be a whole number from 10 to 3600000
            INVALID_CONFIG: LAKITU__SUPERVISION__HANDLER: there is no key supervision.handler: did you mean supervision.handler_ms? [supervision] has handler_ms, shutdown_ms, blocked_ms
            INVALID_CONFIG: LAKITU__X: variables are named LAKITU__SECTION__KEY
            INVALID_CONFIG: FILE, line 1, column 2: this is not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
            INVALID_CONFIG: FILE, line 3, column 13: this is not TOML: string values must be quoted, expected literal string
            INVALID_CONFIG: FILE: model stands in no section. There are paths, gateway, limits, supervision, store, retention, keeper, confine, edits, debug, api, policy
            INVALID_CONFIG: FILE: gateway = true: it must be a section of its own, [gateway]
            INVALID_CONFIG: FILE: gateway.defaults = "opus": it must be a section of its own, [gateway.defaults]
            INVALID_CONFIG: FILE: gateway.fallback_models = "m": it must be a list of texts in quotes, ["one", "two"]
            INVALID_CONFIG: FILE: there is no key gateway.warp_drive. [gateway] has url, token_file, model, fallback_models, defaults, server
            INVALID_CONFIG: FILE: keeper.namespaces = "yes": it must be true or false
            INVALID_CONFIG: FILE: limits.max_turns = 4294967296: it must be a whole number from 0 to 4294967295
            INVALID_CONFIG: FILE: limits.model_attempts = "many": it must be a whole number from 1 to 1000
            INVALID_CONFIG: FILE: paths.data = ["/home/user/.lakitu/with/a/path/that/is/longer/than/anybody…: it must be a text in quotes
            INVALID_CONFIG: FILE: [gateway.server.upstream.a] has no kind
            INVALID_CONFIG: FILE: gateway.server.prices.m.input = "dear": it must be a number
            INVALID_CONFIG: FILE: [gateway.server.upstream.a] has no base_url
            INVALID_CONFIG: FILE: gateway.server.upstream.a.kind = "gpt": it must be one of openai, anthropic, script
            INVALID_CONFIG: FILE: [gateway.server.prices.m]: a price is a number from 0
            INVALID_CONFIG: LAKITU__GATEWAY__SERVER__BIND: gateway.server.bind = "127.0.0.1:99999": it must be ADDRESS:PORT, such as "127.0.0.1:3210"
            INVALID_CONFIG: FILE: confine.commands = "never": it must be one of auto, on, off, require
            INVALID_CONFIG: LAKITU__CONFINE__WRITE: confine.write[1]: "data" is no place: /PATH, ~/PATH, $VARIABLE/PATH or ${VARIABLE:-~/PATH}/PATH
            INVALID_CONFIG: FILE: api.hosts = ["box/x"]: it must be names, each NAME or NAME:PORT
            handler 5000 url None
            INVALID_CONFIG: LAKITU__GATEWAY__SERVER__UPSTREAM__A__KEY: there is no key gateway.server.upstream.a.key: did you mean gateway.server.upstream.a.key_env? [gateway.server.upstream.a] has kind, base_url, key_env, file
            INVALID_CONFIG: FILE: policy.deny[1]: the rule "bash(" does not end with `)`; rules are `TOOL` or `TOOL(PATTERN)`
            INVALID_CONFIG: FILE: policy.default = "never": it must be one of allow, ask, deny"#]].assert_eq(&rows.join("\n"));
    }
}
