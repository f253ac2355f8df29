//! `gateway`: providers behind one door, for sandboxes that hold tokens and no keys.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use lakitu_kernel::clock::System;
use lakitu_kernel::config::{Config, UpstreamConfig, UpstreamKind};

use super::args::{GatewayArgs, Global};
use super::run::runtime;
use super::signals::Signals;
use super::{Failure, Prepared, Secrets, complain, model, paths, providers};
use crate::adapters::{Dialect, Secret, TokenSource, Upstream};
use crate::gateway::{Server, Settings, Upstreams, Way};
use crate::token::Keys;

const NOTHING_TO_ASK: &str = "the gateway has nobody to ask. Set OPENROUTER_API_KEY, ANTHROPIC_API_KEY or OPENAI_API_KEY \
                              (with OPENAI_BASE_URL for another server that speaks it; the others have such a variable \
                              too), or configure providers under \
                              [gateway.server.upstream.NAME], or play a model script with --script FILE.";

/// `lakitu gateway`
pub(super) fn gateway(global: &Global, args: GatewayArgs, prepared: &Prepared) -> Result<u8, Failure> {
    let config = paths::config(global)?;
    let server = &config.gateway.server;
    let named = server.upstream.values().filter_map(|upstream| upstream.key_env.as_deref());
    let secrets = prepared.secrets.clone().and_take(named);
    let secrets = secrets.map_err(|error| {
        Failure::other(format!("the upstreams' keys cannot be taken out of the environment: {error}"))
    })?;
    let bind = args.bind.unwrap_or(server.bind);
    let secret_file = args.secret_file.as_deref().or(server.secret_file.as_deref());
    let keys = secret_file.map(keys).transpose()?;
    if keys.is_none() && !bind.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "{bind} can be reached from other machines, and no token would be checked. Name a secret with --secret-file \
             FILE (or [gateway.server] secret_file); `lakitu token mint --new-secret --secret-file FILE` makes one. Or \
             listen on loopback alone."
        )));
    }
    let ways = match &args.script {
        Some(file) => BTreeMap::from([("script".to_owned(), script(file)?)]),
        None if server.upstream.is_empty() => found(&secrets)?,
        None => configured(&server.upstream, &secrets)?,
    };
    if ways.is_empty() {
        return Err(Failure::usage(NOTHING_TO_ASK));
    }
    super::log::start()?;
    let settings = Settings::new(Upstreams::new(ways, server.prices.clone()), keys);
    runtime(2)?.block_on(serve(bind, settings, &config))
}

async fn serve(bind: std::net::SocketAddr, settings: Settings, config: &Config) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let names = settings.upstreams.names().collect::<Vec<_>>().join(",");
    let auth = if settings.keys.is_some() { "on" } else { "off" };
    let server = Server::bind(bind, settings).await.map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::AddrInUse { 75 } else { 2 };
        let message = format!("{bind} cannot be listened on: {error}. Name another address with --bind.");
        Failure { exit, message }
    })?;
    if auth == "off" {
        complain(
            "no secret_file is configured: NO TOKEN IS CHECKED. Every program of this machine may use the providers' keys.",
        );
    }
    let ready = format!("lakitu gateway ready url=http://{} upstreams={names} auth={auth}\n", server.at());
    let told = std::io::stdout().write_all(ready.as_bytes()).and_then(|()| std::io::stdout().flush());
    told.map_err(|error| Failure::other(format!("nobody can be told where the gateway is: {error}")))?;
    server.serve(signals.first(), config.shutdown()).await;
    Ok(0)
}

/// The secret's keys; exit code 2 where they cannot be had.
pub(super) fn keys(file: &Path) -> Result<Keys, Failure> {
    let keys = Keys::read(file, Arc::new(System)).map_err(|what| {
        Failure::usage(format!(
            "{what}. `lakitu token mint --new-secret --secret-file {}` makes a new one where there is none.",
            file.display()
        ))
    })?;
    if is_open(file) {
        let file = file.display();
        complain(&format!(
            "the secret file {file} can be read by others than its owner; `chmod 600 {file}` changes that"
        ));
    }
    Ok(keys)
}

fn is_open(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// What the environment has keys for.
fn found(secrets: &Secrets) -> Result<BTreeMap<String, Way>, Failure> {
    let known = providers::found(secrets).map(|(provider, key)| {
        let base = provider.base(|variable| std::env::var(variable).ok());
        let way = http(provider.name, &base, provider.dialect, Some(key))?;
        Ok((provider.name.to_owned(), way))
    });
    known.collect()
}

fn configured(
    upstreams: &BTreeMap<String, UpstreamConfig>,
    secrets: &Secrets,
) -> Result<BTreeMap<String, Way>, Failure> {
    let way = |(name, upstream): (&String, &UpstreamConfig)| {
        let base = upstream.base_url.as_deref().unwrap_or_default();
        let way = match upstream.kind {
            UpstreamKind::Script => script(upstream.file.as_deref().unwrap_or(Path::new("")))?,
            UpstreamKind::OpenAi => http(name, base, Dialect::OpenAi, key(name, upstream, secrets)?)?,
            UpstreamKind::Anthropic => http(name, base, Dialect::Anthropic, key(name, upstream, secrets)?)?,
        };
        Ok((name.clone(), way))
    };
    upstreams.iter().map(way).collect()
}

/// The key of a provider.
fn key<'a>(name: &str, upstream: &UpstreamConfig, secrets: &'a Secrets) -> Result<Option<&'a str>, Failure> {
    let Some(variable) = &upstream.key_env else { return Ok(None) };
    match secrets.get(variable) {
        Some(key) => Ok(Some(key)),
        None => Err(Failure::usage(format!(
            "gateway.server.upstream.{name}: its key_env names the variable {variable}, which is not set"
        ))),
    }
}

fn http(name: &str, base: &str, dialect: Dialect, key: Option<&str>) -> Result<Way, Failure> {
    let key = key.map_or(TokenSource::None, |key| TokenSource::Value(Secret::new(key)));
    let upstream = Upstream::new(base, dialect, key, Arc::new(System));
    upstream.map(Way::Http).map_err(|error| Failure::usage(format!("the upstream {name}: {}", error.message)))
}

fn script(file: &Path) -> Result<Way, Failure> {
    Ok(Way::Script(model::script(file)?))
}
