//! Tokens of the gateway and of the HTTP API: JWTs by HS256, and the rules by which one is believed.
//!
//! **Invariant:** the algorithm stands here and nowhere in a token. A header that says anything beside `alg` and `typ`
//! is refused before anything else is looked at, so no key is ever looked for where a token points to.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lakitu_actors::gateway::failure::quote;
use lakitu_kernel::clock::{Clock, Randomness};
use serde::{Deserialize, Serialize};

mod hmac;

/// Who signs.
pub const ISSUER: &str = "lakitu";
/// Whom a sandbox's session tokens are for.
pub const GATEWAY: &str = "lakitu-gateway";
/// Whom the tokens of the HTTP API are for.
pub const API: &str = "lakitu-api";
/// The longest life of a token.
pub const LIFE_MAX: Duration = Duration::from_hours(24);
/// What two clocks may differ by.
pub const LEEWAY: Duration = Duration::from_secs(5);
/// A token: 8 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The shortest secret.
pub const SECRET_BYTES_MIN: usize = 32;
/// The longest secret: 8 KiB.
const SECRET_BYTES_MAX: usize = 8 * 1024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it: [`ISSUER`].
    pub iss: String,
    /// Whom it is for: [`GATEWAY`] or [`API`] is among them.
    pub aud: Audience,
    /// The session.
    pub sub: String,
    /// What it may do, in words with spaces between them.
    pub scope: String,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// When it begins to hold.
    pub nbf: u64,
    /// When it was made.
    pub iat: u64,
    /// Its own name: no two tokens share one.
    pub jti: String,
    /// What the session may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// One audience, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    /// Whether it is among them.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

/// What a session may use; what is not named has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Tokens in, cached ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// US dollars, by the configured prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
}

impl Claims {
    /// Whether it may do this.
    pub fn may(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|word| word == scope)
    }
}

/// Why a token is not believed. Holds nothing of its signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is over [`TOKEN_BYTES_MAX`].
    #[error("the token is over {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JWT.
    #[error("the token is not a JWT: three parts in base64url with points between them")]
    Malformed,
    /// Its header is not the one header that there is.
    #[error("the token's header must say alg HS256, may say typ JWT, and may say nothing else")]
    Header,
    /// Somebody else signed it, or it was changed.
    #[error("the token's signature does not hold")]
    Signature,
    /// A claim is missing, doubled or no such claim.
    #[error("the token's claims are not valid: {0}")]
    Claims(String),
    /// It is from or for somebody else.
    #[error("the token's {0} is not this server's")]
    Foreign(&'static str),
    /// It has ended.
    #[error("the token has expired")]
    Expired,
    /// It holds later.
    #[error("the token does not hold yet")]
    NotYet,
    /// It lives too long.
    #[error("the token's life is over {} h", LIFE_MAX.as_secs() / 3600)]
    LivesTooLong,
}

impl Invalid {
    /// Whether its claims are what is wrong: they are looked at behind a signature that holds, and only there.
    pub fn is_about_claims(&self) -> bool {
        match self {
            Self::TooLong | Self::Malformed | Self::Header | Self::Signature => false,
            Self::Claims(_) | Self::Foreign(_) | Self::Expired | Self::NotYet | Self::LivesTooLong => true,
        }
    }
}

/// The one header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyHeader {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
}

/// The secret, ready to sign and to verify.
#[derive(Clone)]
pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    audience: &'static str,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Keys(***)")
    }
}

impl Keys {
    /// Keys of a secret. The error says what is wrong with it, never what it is.
    pub fn new(secret: &[u8], clock: Arc<dyn Clock>) -> Result<Self, String> {
        hmac::install();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            let wanted = format!("{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}");
            return Err(format!("has {} bytes and must have {wanted}", secret.len()));
        }
        let (encoding, decoding) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Ok(Self { encoding, decoding, audience: GATEWAY, clock })
    }

    /// The same for tokens of another audience than [`GATEWAY`].
    #[must_use]
    pub fn of(self, audience: &'static str) -> Self {
        Self { audience, ..self }
    }

    /// Keys of the secret in this file: its bytes, without one line end behind them.
    pub fn read(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let wrong = |what: &dyn fmt::Display| format!("the secret file {} {what}", path.display());
        let unreadable = |error: std::io::Error| wrong(&format!("cannot be read: {error}"));
        // Looked at first: a pipe would block whoever opens it.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(wrong(&"is not a file"));
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX) + 3;
        let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(unreadable)?;
        let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        Self::new(secret, clock).map_err(|what| wrong(&what))
    }

    /// Now, in seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now().0 / 1000
    }

    /// A token that says this.
    pub fn sign(&self, claims: &Claims) -> Result<String, String> {
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding);
        token.map_err(|error| format!("the token cannot be signed: {error}"))
    }

    /// What a token says, if it is to be believed now.
    pub fn verify(&self, token: &str) -> Result<Claims, Invalid> {
        check_header(token)?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[self.audience]);
        rules.set_required_spec_claims(&["iss", "aud", "sub"]);
        // The times are checked below, by the clock that everything here goes by.
        rules.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &rules);
        let claims = claims.map_err(|error| invalid(error.kind()))?.claims;
        check_sense(&claims)?;
        check_times(&claims, self.now())?;
        Ok(claims)
    }
}

/// What a token says, whoever signed it: to be shown, never to be believed.
pub fn unverified(token: &str) -> Result<Claims, Invalid> {
    check_header(token)?;
    let claims =
        token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).ok_or(Invalid::Malformed)?;
    serde_json::from_slice(&claims).map_err(|error| Invalid::Claims(quote(error.to_string().as_bytes())))
}

/// New claims for a session of the gateway that begins now.
pub fn claims(subject: &str, scope: &str, life: Duration, clock: &dyn Clock, random: &dyn Randomness) -> Claims {
    let now = clock.now().0 / 1000;
    Claims {
        iss: ISSUER.to_owned(),
        aud: Audience::One(GATEWAY.to_owned()),
        sub: subject.to_owned(),
        scope: scope.to_owned(),
        exp: now + life.as_secs(),
        nbf: now,
        iat: now,
        jti: format!("{:032x}", random.u128()),
        budget: None,
    }
}

/// The same rights for the same length of time, beginning now.
pub fn renewed(old: &Claims, clock: &dyn Clock, random: &dyn Randomness) -> Claims {
    let life = Duration::from_secs(old.exp.saturating_sub(old.iat)).min(LIFE_MAX);
    Claims { budget: old.budget, ..claims(&old.sub, &old.scope, life, clock, random) }
}

/// Before anything else: only this header is read further.
fn check_header(token: &str) -> Result<(), Invalid> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Invalid::TooLong);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, _, _] = parts[..] else { return Err(Invalid::Malformed) };
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Invalid::Malformed)?;
    let header: OnlyHeader = serde_json::from_slice(&header).map_err(|_| Invalid::Header)?;
    let typed = header.typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
    if header.alg == "HS256" && typed { Ok(()) } else { Err(Invalid::Header) }
}

fn check_sense(claims: &Claims) -> Result<(), Invalid> {
    if claims.sub.is_empty() || claims.jti.is_empty() {
        return Err(Invalid::Claims("sub and jti must not be empty".to_owned()));
    }
    let sums = claims.budget.and_then(|budget| budget.usd);
    if sums.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
        return Err(Invalid::Claims("budget.usd is a number from 0".to_owned()));
    }
    Ok(())
}

fn check_times(claims: &Claims, now: u64) -> Result<(), Invalid> {
    let (leeway, life) = (LEEWAY.as_secs(), LIFE_MAX.as_secs());
    if claims.exp.saturating_add(leeway) <= now {
        return Err(Invalid::Expired);
    }
    if claims.nbf > now + leeway || claims.iat > now + leeway {
        return Err(Invalid::NotYet);
    }
    // Behind the line above, `iat` is not in the future, so this bounds both what is left and the whole.
    if claims.exp > claims.iat.saturating_add(life + leeway) {
        return Err(Invalid::LivesTooLong);
    }
    Ok(())
}

fn invalid(kind: &ErrorKind) -> Invalid {
    match kind {
        ErrorKind::InvalidSignature => Invalid::Signature,
        ErrorKind::InvalidIssuer => Invalid::Foreign("issuer"),
        ErrorKind::InvalidAudience => Invalid::Foreign("audience"),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Invalid::Header,
        ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => Invalid::Malformed,
        other => Invalid::Claims(quote(format!("{other:?}").as_bytes())),
    }
}
