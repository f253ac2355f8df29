//! `token mint`, `token inspect`: tokens for the gateway and for the HTTP API.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lakitu_kernel::clock::{Clock as _, Randomness as _, System};
use serde_json::json;

use super::args::{Audience, Global, InspectArgs, MintArgs, TokenCommand};
use super::{Failure, Prepared, gateway, paths};
use crate::api;
use crate::token::{self, API, Budget, Claims, GATEWAY, Invalid, LIFE_MAX, TOKEN_BYTES_MAX, claims, unverified};

/// `lakitu token …`
pub(super) fn token(global: &Global, command: &TokenCommand, prepared: &Prepared) -> Result<u8, Failure> {
    match command {
        TokenCommand::Mint(args) => mint(global, args),
        TokenCommand::Inspect(args) => inspect(global, args, prepared),
    }
}

/// The file with an audience's secret, where something names it. `make`: that of a data directory is made where it is
/// missing.
fn secret_file(
    global: &Global,
    named: Option<&Path>,
    audience: Audience,
    make: bool,
) -> Result<Option<PathBuf>, Failure> {
    if let Some(named) = named {
        return Ok(Some(named.to_owned()));
    }
    let config = paths::config(global)?;
    match audience {
        Audience::Gateway => Ok(config.gateway.server.secret_file),
        Audience::Api => {
            let data = match &config.api.key_file {
                Some(_) => PathBuf::new(),
                None => paths::operators_data(global)?,
            };
            if make {
                api::keys(&config.api, &data, Arc::new(System))?;
            }
            Ok(Some(api::key_file(&config.api, &data)))
        }
    }
}

fn mint(global: &Global, args: &MintArgs) -> Result<u8, Failure> {
    let file = secret_file(global, args.secret_file.as_deref(), args.audience, !args.new_secret)?.ok_or_else(|| {
        Failure::usage(
            "a token is signed with the gateway's secret, and none is named. Name its file with --secret-file FILE (or \
             [gateway.server] secret_file in a configuration file); add --new-secret to make a new one there.",
        )
    })?;
    let file = file.as_path();
    if args.ttl.is_zero() || args.ttl > LIFE_MAX || args.ttl.subsec_nanos() > 0 {
        return Err(Failure::usage("--ttl is whole seconds, at least one and at most 24h"));
    }
    if args.budget_usd.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
        return Err(Failure::usage("--budget-usd is a number from 0"));
    }
    let (audience, usual) = match args.audience {
        Audience::Gateway => (GATEWAY, "llm"),
        Audience::Api => (API, "api:read api:write"),
    };
    let scope = args.scope.as_deref().unwrap_or(usual).split_whitespace().collect::<Vec<_>>().join(" ");
    if args.new_secret {
        new_secret(file)?;
    }
    let keys = gateway::keys(file)?.of(audience);
    let subject = args.sub.clone().unwrap_or_else(|| format!("ses_{:032x}", System.u128()));
    let budget = Budget {
        input_tokens: args.budget_input_tokens,
        output_tokens: args.budget_output_tokens,
        usd: args.budget_usd,
    };
    let budget = (budget != Budget::default()).then_some(budget);
    let aud = token::Audience::One(audience.to_owned());
    let said = Claims { aud, budget, ..claims(&subject, &scope, args.ttl, &System, &System) };
    let token = keys.sign(&said).map_err(Failure::other)?;
    // What nobody would believe is not handed out.
    keys.verify(&token).map_err(|invalid| Failure::usage(invalid.to_string()))?;
    print(&if global.json { json!({"token": token, "claims": said}).to_string() } else { token })?;
    Ok(0)
}

/// A secret of 32 random bytes, in a file that is not there yet.
fn new_secret(file: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!(
            "{} is there already: a new secret would end every token that it signed. Leave --new-secret away to use it, \
             or name another file.",
            file.display()
        )),
        _ => Failure::usage(format!("the secret file {} cannot be made: {error}", file.display())),
    };
    let secret = format!("{:032x}{:032x}\n", System.u128(), System.u128());
    let mut made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    made.write_all(secret.as_bytes()).and_then(|()| made.sync_all()).map_err(failed)
}

fn inspect(global: &Global, args: &InspectArgs, prepared: &Prepared) -> Result<u8, Failure> {
    let token = match args.token.as_deref() {
        Some("-") => piped()?,
        Some(token) => token.to_owned(),
        None => match prepared.secrets.get("LAKITU_TOKEN") {
            Some(token) => token.to_owned(),
            None if std::io::stdin().is_terminal() => {
                return Err(Failure::usage("name a token, or give it on standard input, or in LAKITU_TOKEN"));
            }
            None => piped()?,
        },
    };
    let token = token.trim();
    let said = unverified(token).map_err(|invalid| Failure::other(invalid.to_string()))?;
    let (audience, name) = if said.aud.has(API) { (Audience::Api, API) } else { (Audience::Gateway, GATEWAY) };
    // Nothing is made for a look: a key that is not there has signed nothing.
    let file = secret_file(global, args.secret_file.as_deref(), audience, false)?;
    let file = file.filter(|file| audience == Audience::Gateway || args.secret_file.is_some() || file.exists());
    let keys = file.as_deref().map(gateway::keys).transpose()?.map(|keys| keys.of(name));
    let verified = keys.map(|keys| keys.verify(token));
    let now = System.now().0 / 1000;
    let (signature, why) = match &verified {
        None if said.exp <= now => ("unchecked", Some(Invalid::Expired.to_string())),
        None => ("unchecked", None),
        Some(Ok(_)) => ("holds", None),
        Some(Err(invalid)) if invalid.is_about_claims() => ("holds", Some(invalid.to_string())),
        Some(Err(invalid)) => ("does not hold", Some(invalid.to_string())),
    };
    let shown = if global.json {
        json!({"claims": said, "expires": in_words(said.exp, now), "signature": signature, "valid": why.is_none(), "error": why})
            .to_string()
    } else {
        table(&said, signature, why.as_deref(), now)
    };
    print(&shown)?;
    Ok(u8::from(why.is_some()))
}

fn piped() -> Result<String, Failure> {
    let mut text = String::new();
    let most = u64::try_from(TOKEN_BYTES_MAX).unwrap_or(u64::MAX) + 16;
    let read = std::io::stdin().take(most).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("no token can be read from standard input: {error}")))?;
    Ok(text)
}

fn table(claims: &Claims, signature: &str, why: Option<&str>, now: u64) -> String {
    let time = |seconds: u64| lakitu_kernel::clock::Timestamp(seconds.saturating_mul(1000)).to_string();
    let mut lines = vec![
        format!("session    {:?}", claims.sub),
        format!("scope      {:?}", claims.scope),
        format!("made       {}", time(claims.iat)),
        format!("expires    {} ({})", time(claims.exp), in_words(claims.exp, now)),
        format!("name       {:?}", claims.jti),
        format!("from, for  {:?}, {}", claims.iss, json!(claims.aud)),
    ];
    if let Some(budget) = claims.budget {
        lines.push(format!("budget     {}", json!(budget)));
    }
    let unchecked = "not checked: no secret is named (--secret-file FILE)";
    lines.push(format!("signature  {}", if signature == "unchecked" { unchecked } else { signature }));
    lines.extend(why.map(|why| format!("INVALID    {why}")));
    lines.join("\n")
}

fn in_words(end: u64, now: u64) -> String {
    let words = |seconds: u64| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    if end > now { format!("in {}", words(end - now)) } else { format!("{} ago", words(now - end)) }
}

fn print(text: &str) -> Result<(), Failure> {
    let written = writeln!(std::io::stdout(), "{text}");
    written.map_err(|error| Failure::other(format!("the result cannot be written: {error}")))
}
