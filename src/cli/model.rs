//! Who answers for the model: what flags, configuration and environment say, and why it is that one.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_actors::gateway::{ScriptError, ScriptGateway};
use lakitu_kernel::clock::System;
use lakitu_kernel::config::Config;
use lakitu_kernel::ports::Gateway;

use super::args::ModelFlags;
use super::{Failure, Secrets, providers};
use crate::adapters::{Dialect, HttpGateway, Secret, TokenFile, TokenSource, Upstream};

/// Where Ollama listens unless it is told otherwise.
const OLLAMA: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 11434);
/// A server on loopback answers at once or is not there.
const OLLAMA_DEADLINE: Duration = Duration::from_millis(200);
/// The model of a gateway that was named without one: many serve one alone, or know which is meant.
const DEFAULT_MODEL: &str = "default";

/// What answers, and why.
#[derive(Debug)]
pub(super) struct Chosen {
    /// What is asked.
    pub(super) source: Source,
    /// The model, where none is named.
    pub(super) model: String,
    /// What made it this one, in words.
    pub(super) why: String,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Source {
    /// A model script.
    Script(PathBuf),
    /// A server.
    Server(Upstream),
}

impl Chosen {
    /// The same as a port.
    pub(super) fn gateway(&self) -> Result<Arc<dyn Gateway>, Failure> {
        match &self.source {
            Source::Script(file) => Ok(Arc::new(script(file)?)),
            Source::Server(upstream) => Ok(Arc::new(HttpGateway::from(upstream.clone()))),
        }
    }
}

/// A model script; exit code 2 where it is none.
pub(super) fn script(file: &Path) -> Result<ScriptGateway, Failure> {
    ScriptGateway::read(file).map_err(|error| match error {
        ScriptError::Unreadable { .. } => Failure::usage(error.to_string()),
        ScriptError::Yaml(_) | ScriptError::Entry { .. } => Failure::usage(format!("{}: {error}", file.display())),
    })
}

/// What flags, configuration and environment say together.
pub(super) struct Wish<'a> {
    /// What was typed.
    pub(super) flags: &'a ModelFlags,
    /// A token that is not there yet may still come.
    pub(super) later: bool,
    /// The valid configuration.
    pub(super) config: &'a Config,
    /// What was taken out of the environment.
    pub(super) secrets: &'a Secrets,
    /// The rest of the environment.
    pub(super) env: fn(&str) -> Option<String>,
}

impl<'a> Wish<'a> {
    /// Of whoever begins now.
    pub(super) fn of(flags: &'a ModelFlags, config: &'a Config, secrets: &'a Secrets) -> Self {
        Self { flags, later: false, config, secrets, env: |name| std::env::var(name).ok() }
    }

    /// Who answers. In this order: a script, a gateway, a provider whose key is in the environment, a server on
    /// loopback.
    pub(super) fn choose(&self) -> Result<Chosen, Failure> {
        if let Some(script) = &self.flags.script {
            let source = Source::Script(script.clone());
            return Ok(self.chosen(source, DEFAULT_MODEL, "--script names it".to_owned()));
        }
        let gateway = &self.config.gateway;
        let flag = self.flags.gateway.as_deref().map(|url| (url, "--gateway"));
        if let Some((url, name)) = flag.or_else(|| Some((gateway.url.as_deref()?, "[gateway] url"))) {
            let file = self.flags.token_file.as_ref().or(gateway.token_file.as_ref());
            let (token, from) = match (file, self.secrets.get("LAKITU_TOKEN")) {
                (Some(file), _) => {
                    (TokenSource::File(TokenFile::new(file)), format!("the token from {}", file.display()))
                }
                (None, Some(token)) => {
                    (TokenSource::Value(Secret::new(token)), "the token from LAKITU_TOKEN".to_owned())
                }
                (None, None) => (TokenSource::None, "no token: neither --token-file nor LAKITU_TOKEN".to_owned()),
            };
            // Read once now, so that a file that was named and is not there is told before anything starts.
            if !self.later {
                token.read().map_err(|what| {
                    Failure::usage(format!("{what}. --token-file or [gateway] token_file names it."))
                })?;
            }
            let source = server(name, url, Dialect::OpenAi, token)?;
            return Ok(self.chosen(source, DEFAULT_MODEL, format!("{name} names it; {from}")));
        }
        if let Some((provider, key)) = providers::found(self.secrets).next() {
            let key_of_it = TokenSource::Value(Secret::new(key));
            let source = server(provider.base_variable, &provider.base(self.env), provider.dialect, key_of_it)?;
            let model = (provider.model)(&gateway.defaults);
            return Ok(self.chosen(source, model, format!("{} is set: {}", provider.key, provider.title)));
        }
        if TcpStream::connect_timeout(&OLLAMA, OLLAMA_DEADLINE).is_ok() {
            let source = server("Ollama", &format!("http://{OLLAMA}"), Dialect::OpenAi, TokenSource::None)?;
            let why = format!("an Ollama server answers at {OLLAMA}");
            return Ok(self.chosen(source, &gateway.defaults.ollama, why));
        }
        Err(Failure::usage(NO_MODEL))
    }

    fn chosen(&self, source: Source, default: &str, why: String) -> Chosen {
        let named = self.flags.model.as_deref().or(self.config.gateway.model.as_deref());
        Chosen { source, model: named.unwrap_or(default).to_owned(), why }
    }
}

/// `name`: what says that it is this one. The URL itself is not repeated: a password may stand in it.
fn server(name: &str, base: &str, dialect: Dialect, key: TokenSource) -> Result<Source, Failure> {
    let upstream = Upstream::new(base, dialect, key, Arc::new(System)).map_err(|error| {
        Failure::usage(format!("{name}: {}. Such a URL is http://127.0.0.1:8000, or with https.", error.message))
    })?;
    Ok(Source::Server(upstream))
}

/// What is said where nothing is found.
pub(super) const NO_MODEL: &str = "no model is configured. Set OPENROUTER_API_KEY, ANTHROPIC_API_KEY or OPENAI_API_KEY (with \
                        OPENAI_BASE_URL for another server), or name an OpenAI-compatible server with --gateway URL (or \
                        [gateway] url in a configuration file, with --token-file or LAKITU_TOKEN where it asks for a \
                        token), or play a model script with --script FILE. To see it work with nothing configured: \
                        lakitu demo";

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen, in one line.
    fn chosen(set: &[&str], gateway: Option<&str>, script: Option<&str>, config: &str) -> String {
        let config = {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), config).unwrap();
            Config::load(Some(file.path()), []).unwrap()
        };
        let secrets = Secrets::of(set.iter().map(|name| ((*name).to_owned(), "hush".to_owned())));
        let (gateway, script) = (gateway.map(str::to_owned), script.map(PathBuf::from));
        let wish = Wish {
            flags: &ModelFlags { gateway, script, ..ModelFlags::default() },
            later: false,
            config: &config,
            secrets: &secrets,
            env: |name| (name == "OPENAI_BASE_URL").then(|| "http://127.0.0.1:9/v1".to_owned()),
        };
        match wish.choose() {
            Ok(Chosen { source, model, why }) => format!("{model} | {why} | {source:?}"),
            Err(failure) => format!("{} {}", failure.exit, failure.message),
        }
    }

    #[test]
    fn the_first_that_says_something_wins_and_tells_why() {
        let url = "[gateway]\nurl = \"http://127.0.0.1:8/v1\"\nmodel = \"m\"";
        let all = ["LAKITU_TOKEN", "OPENROUTER_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"];
        let script = chosen(&all, Some("http://h"), Some("s.yaml"), url);
        assert_eq!(script, "m | --script names it | Script(\"s.yaml\")");
        let flag = chosen(&all, Some("http://h"), None, url);
        assert!(flag.starts_with("m | --gateway names it") && flag.contains("http://h/v1/chat"), "{flag}");
        let configured = chosen(&all, None, None, url);
        assert!(configured.contains("[gateway] url names it") && configured.contains("127.0.0.1:8"), "{configured}");
        let named = chosen(&[], Some("http://h"), None, "");
        assert!(named.starts_with("default | --gateway"), "{named}");
        for (from, expected, place) in [
            (1, "OPENROUTER_API_KEY is set", "https://openrouter.ai/api/v1/chat/completions"),
            (2, "ANTHROPIC_API_KEY is set", "https://api.anthropic.com/v1/messages"),
            (3, "OPENAI_API_KEY is set", "http://127.0.0.1:9/v1/chat/completions"),
        ] {
            let found = chosen(&all[from..], None, None, "");
            assert!(found.contains(expected) && found.contains(place) && !found.contains("hush"), "{found}");
            assert!(!found.starts_with("default"), "{found}");
        }
    }

    #[test]
    fn a_gateway_that_cannot_be_one_is_told_with_its_reason() {
        let refused = chosen(&[], Some("ftp://h"), None, "");
        assert!(refused.starts_with("2 ") && refused.contains("http://"), "{refused}");
    }
}
