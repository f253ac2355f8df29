//! What `/api` gets from outside the tree: its key, who is believed by it, and its port.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lakitu_actors::api::{ApiParts, Door};
use lakitu_kernel::clock::{Clock, Randomness as _, System, Timestamp};
use lakitu_kernel::config;
use lakitu_kernel::event::Settings;
use lakitu_kernel::ports::{Authority, Caller, Disbelief};
use lakitu_kernel::{ErrorCode, ToolError};

use crate::token::{API, Invalid, Keys};

/// The file with the API's secret. Commands must not see it: where it is configured, it is one of the runtime's hidden
/// files.
pub fn key_file(config: &config::Api, data: &Path) -> PathBuf {
    config.key_file.clone().unwrap_or_else(|| data.join("api.key"))
}

/// What `/api` is made of: takes its port. Its key is not made here: a machine that is copied while it runs would give
/// each copy the same. `settings`: those of a thread whose start says nothing else.
///
/// # Errors
/// `ADDRESS_IN_USE` where the port is taken, else `INVALID_CONFIG`.
pub fn parts(config: &config::Api, data: &Path, settings: Settings) -> Result<ApiParts, ToolError> {
    let authority: Arc<dyn Authority> = match named_keys(config, data)? {
        Some(keys) => Arc::new(Signed(keys)),
        None => Arc::new(SignedLater(key_file(config, data))),
    };
    let door = Door::open(config.bind).map_err(|error| {
        let taken = error.kind() == std::io::ErrorKind::AddrInUse;
        let code = if taken { ErrorCode::AddressInUse } else { ErrorCode::InvalidConfig };
        let what = format!(
            "{} cannot be listened on: {error}. [api] bind (LAKITU__API__BIND) names another address; its port 0 is whatever \
             is free",
            config.bind
        );
        ToolError::new(code, what)
    })?;
    Ok(ApiParts { door, hosts: config.hosts.clone(), authority, settings })
}

/// The keys that the configuration names; none where it need not name any. Makes nothing.
///
/// # Errors
/// `INVALID_CONFIG`: other machines can reach the API and no key is named, or the one that is named cannot be had.
pub fn named_keys(config: &config::Api, data: &Path) -> Result<Option<Keys>, ToolError> {
    if config.key_file.is_some() {
        return keys(config, data, Arc::new(System)).map(Some);
    }
    must_be_named_elsewhere_than_on_loopback(config).map(|()| None)
}

/// The keys that the API's tokens are signed and verified with.
///
/// # Errors
/// `INVALID_CONFIG`: other machines can reach the API and no key is named, or the key cannot be had.
pub fn keys(config: &config::Api, data: &Path, clock: Arc<dyn Clock>) -> Result<Keys, ToolError> {
    if config.key_file.is_none() {
        must_be_named_elsewhere_than_on_loopback(config)?;
        make_key(data).map_err(|error| invalid(format!("{} cannot be made: {error}", data.display())))?;
    }
    let file = key_file(config, data);
    let keys = Keys::read(&file, clock).map_err(|what| {
        let file = file.display();
        invalid(format!(
            "{what} ([api] key_file). `lakitu token mint --audience api --new-secret --secret-file {file}` makes a new one \
             where there is none"
        ))
    })?;
    Ok(keys.of(API))
}

fn must_be_named_elsewhere_than_on_loopback(config: &config::Api) -> Result<(), ToolError> {
    if config.bind.ip().is_loopback() {
        return Ok(());
    }
    Err(invalid(format!(
        "{} can be reached from other machines, so the key that tokens are signed with must be named: [api] key_file \
         (`lakitu token mint --audience api --new-secret --secret-file FILE` makes one); or bind to loopback alone",
        config.bind
    )))
}

/// Makes the key that belongs to a data directory, unless it is there. Whole or not at all: the file of a process that
/// was killed meanwhile would be too short for ever.
fn make_key(data: &Path) -> std::io::Result<()> {
    let file = data.join("api.key");
    if file.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(data)?;
    let made = data.join(format!("api.key.{:032x}", System.u128()));
    let secret = format!("{:032x}{:032x}\n", System.u128(), System.u128());
    let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made)?;
    open.write_all(secret.as_bytes()).and_then(|()| open.sync_all())?;
    // Not renamed: of two that begin at once, the first one's key counts.
    let linked = std::fs::hard_link(&made, &file);
    std::fs::remove_file(&made)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Believes what was signed with the API's key.
struct Signed(Keys);

impl Authority for Signed {
    fn verify(&self, token: &str) -> Result<Caller, Disbelief> {
        let claims = self
            .0
            .verify(token)
            .map_err(|invalid| Disbelief { expired: invalid == Invalid::Expired, why: invalid.to_string() })?;
        Ok(Caller {
            token: claims.jti,
            subject: claims.sub,
            scopes: claims.scope.split(' ').map(str::to_owned).collect(),
            expires: Timestamp(claims.exp.saturating_mul(1000)),
        })
    }
}

/// The same with the data directory's own key, which whoever mints the first token makes. Read each time: it is a few
/// bytes, and what is not kept is not copied.
struct SignedLater(PathBuf);

impl Authority for SignedLater {
    fn verify(&self, token: &str) -> Result<Caller, Disbelief> {
        let keys = Keys::read(&self.0, Arc::new(System)).map_err(|_| Disbelief {
            expired: false,
            why: "no token was minted here yet: `lakitu token mint --audience api`".to_owned(),
        })?;
        Signed(keys.of(API)).verify(token)
    }
}

fn invalid(message: String) -> ToolError {
    ToolError::new(ErrorCode::InvalidConfig, message)
}
