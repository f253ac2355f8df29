use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use lakitu_kernel::clock::{Clock, Timestamp};

use super::*;
use crate::token::{Invalid, unverified};

const NOW: u64 = 1_800_000_000;

struct At;

impl Clock for At {
    fn now(&self) -> Timestamp {
        Timestamp(NOW * 1000)
    }
}

fn at_noon() -> Keys {
    Keys::new(SECRET, Arc::new(At)).unwrap()
}

fn good() -> Value {
    json!({
        "iss": "lakitu", "aud": "lakitu-gateway", "sub": "ses_1", "scope": "llm",
        "exp": NOW + 60, "nbf": NOW, "iat": NOW, "jti": "1",
    })
}

/// A token of exactly these texts, signed by HS256 whatever they say.
fn forged(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

fn judged(token: &str) -> String {
    match at_noon().verify(token) {
        Ok(claims) => {
            assert_eq!(claims.sub, "ses_1");
            "believed".to_owned()
        }
        Err(Invalid::Claims(_)) => "Claims".to_owned(),
        Err(invalid) => format!("{invalid:?}"),
    }
}

#[test]
fn rfc_7515_s_own_example_verifies_by_its_key_and_is_not_ours() {
    let secret = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    let keys = Keys::new(&secret, Arc::new(At)).unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    assert!(matches!(keys.verify(token), Err(Invalid::Claims(_) | Invalid::Foreign(_))), "the signature holds");
    let unsecured = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    assert_eq!(keys.verify(unsecured), Err(Invalid::Header));
}

#[test]
fn one_header_is_believed_and_no_other() {
    let rows = [
        (HEADER, "believed"),
        (r#"{"alg":"HS256"}"#, "believed"),
        (r#"{"alg":"HS256","typ":"jwt"}"#, "believed"),
        (r#"{"alg":"none"}"#, "Header"),
        (r#"{"alg":"None"}"#, "Header"),
        (r#"{"alg":"nOnE"}"#, "Header"),
        (r#"{"alg":""}"#, "Header"),
        (r#"{"typ":"JWT"}"#, "Header"),
        (r#"{"alg":"hs256"}"#, "Header"),
        (r#"{"alg":"RS256"}"#, "Header"),
        (r#"{"alg":"ES256"}"#, "Header"),
        (r#"{"alg":"HS512"}"#, "Header"),
        (r#"{"alg":"EdDSA"}"#, "Header"),
        (r#"{"alg":["HS256"]}"#, "Header"),
        (r#"{"alg":"none","alg":"HS256"}"#, "Header"),
        (r#"{"alg":"HS256","typ":"at+jwt"}"#, "Header"),
        (r#"{"alg":"HS256","crit":["exp"]}"#, "Header"),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, "Header"),
        (r#"{"alg":"HS256","crit":[]}"#, "Header"),
        (r#"{"alg":"HS256","b64":false}"#, "Header"),
        (r#"{"alg":"HS256","kid":"../../dev/null"}"#, "Header"),
        (r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#, "Header"),
        (r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}"#, "Header"),
        (r#"{"alg":"HS256","jku":"http://169.254.169.254/"}"#, "Header"),
        (r#"{"alg":"HS256","x5u":"http://169.254.169.254/"}"#, "Header"),
        (r#"{"alg":"HS256","x5c":[]}"#, "Header"),
        (r#"{"alg":"HS256","zip":"DEF"}"#, "Header"),
        (r#"{"alg":"HS256","cty":"JWT"}"#, "Header"),
        ("[]", "Header"),
        ("", "Header"),
    ];
    for (header, expected) in rows {
        assert_eq!(judged(&forged(header, &good().to_string())), expected, "{header}");
    }
}

#[test]
fn claims_are_all_there_once_ours_and_of_now() {
    let but = |change: Value| {
        let mut claims = good();
        for (key, value) in change.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(key)
            } else {
                claims[key] = value.clone();
                None
            };
        }
        claims.to_string()
    };
    let rows = [
        (but(json!({})), "believed"),
        (but(json!({"aud": ["else", "lakitu-gateway"]})), "believed"),
        (but(json!({"budget": {"usd": 1.5, "input_tokens": 7}})), "believed"),
        (but(json!({"unknown": 1})), "believed"),
        (but(json!({"exp": NOW - 4})), "believed"),
        (but(json!({"exp": NOW - 5})), "Expired"),
        (but(json!({"exp": NOW - 30})), "Expired"),
        (but(json!({"exp": 0})), "Expired"),
        (but(json!({"exp": NOW + 86_400})), "believed"),
        (but(json!({"exp": NOW + 86_406})), "LivesTooLong"),
        (but(json!({"exp": u64::MAX})), "LivesTooLong"),
        (but(json!({"exp": NOW + 60, "iat": NOW - 86_400})), "LivesTooLong"),
        (but(json!({"nbf": NOW + 5})), "believed"),
        (but(json!({"nbf": NOW + 6})), "NotYet"),
        (but(json!({"nbf": NOW + 3600})), "NotYet"),
        (but(json!({"iat": NOW + 6})), "NotYet"),
        (but(json!({"exp": "1800000060"})), "Claims"),
        (but(json!({"exp": 1e300})), "Claims"),
        (but(json!({"exp": -1})), "Claims"),
        (but(json!({"iss": "else"})), "Foreign(\"issuer\")"),
        (but(json!({"aud": "lakitu-api"})), "Foreign(\"audience\")"),
        (but(json!({"aud": []})), "Foreign(\"audience\")"),
        (but(json!({"sub": ""})), "Claims"),
        (but(json!({"budget": {"euro": 1}})), "Claims"),
        (but(json!({"budget": {"usd": -1}})), "Claims"),
        (but(json!({"budget": {"input_tokens": -1}})), "Claims"),
        ("[]".to_owned(), "Claims"),
        ("{".to_owned(), "Claims"),
        (format!("{}{}", "[".repeat(2500), "]".repeat(2500)), "Claims"),
    ];
    for (claims, expected) in rows {
        assert_eq!(judged(&forged(HEADER, &claims)), expected, "{claims}");
    }
    for claim in ["iss", "aud", "sub", "scope", "exp", "nbf", "iat", "jti"] {
        assert_eq!(judged(&forged(HEADER, &but(json!({claim: null})))), "Claims", "without {claim}");
        let doubled = format!("{{\"{claim}\":{},{}", good()[claim], &good().to_string()[1..]);
        assert_eq!(judged(&forged(HEADER, &doubled)), "Claims", "{doubled}");
    }
}

#[test]
fn a_token_is_three_whole_parts_and_its_signature_covers_them() {
    let token = forged(HEADER, &good().to_string());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let padded = format!("{token}=");
    let other = forged(HEADER, &good().to_string().replace("llm", "all"));
    let foreign = Keys::new(&[7; 32], Arc::new(At)).unwrap();
    assert_eq!(foreign.verify(&token), Err(Invalid::Signature));
    let rows = [
        (token.clone(), "believed"),
        (format!("{signed}."), "Signature"),
        (signed.to_owned(), "Malformed"),
        (format!("{token}.x"), "Malformed"),
        (format!("{token}.x.y"), "Malformed"),
        (format!("{signed}.{}", &signature[..20]), "Signature"),
        (format!("{signed}.{}", other.rsplit_once('.').unwrap().1), "Signature"),
        (padded, "Malformed"),
        (format!("{token}\n"), "Malformed"),
        (format!(" {token}"), "Malformed"),
        (format!("{}.{}", STANDARD.encode("{\"alg\":\"HS256\" }"), token.split_once('.').unwrap().1), "Malformed"),
        (String::new(), "Malformed"),
        ("..".to_owned(), "Header"),
        ("x".repeat(1024 * 1024), "TooLong"),
        (forged(HEADER, &good().to_string().replace("\"1\"", &format!("\"{}\"", "x".repeat(8000)))), "TooLong"),
    ];
    for (token, expected) in rows {
        assert_eq!(judged(&token), expected, "{}", &token[..token.len().min(300)]);
    }
    assert_eq!(unverified(&other).unwrap().scope, "all");
}

#[test]
fn a_short_secret_is_refused_and_no_secret_is_shown() {
    for (bytes, fits) in [(0, false), (31, false), (32, true), (8 * 1024, true), (8 * 1024 + 1, false)] {
        let keys = Keys::new(&vec![b'x'; bytes], Arc::new(At));
        assert_eq!(keys.is_ok(), fits, "{bytes}");
        assert!(!format!("{keys:?}").contains("xx") && !format!("{keys:?}").contains("120"));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    assert!(Keys::read(&path, Arc::new(At)).unwrap_err().contains("cannot be read"));
    assert!(Keys::read(folder.path(), Arc::new(At)).unwrap_err().contains("not a file"));
    std::fs::write(&path, "hush\n").unwrap();
    let error = Keys::read(&path, Arc::new(At)).unwrap_err();
    assert!(error.contains("has 4 bytes") && !error.contains("hush"), "{error}");
    std::fs::write(&path, [SECRET, b"\r\n"].concat()).unwrap();
    let read = Keys::read(&path, Arc::new(At)).unwrap();
    assert!(read.verify(&forged(HEADER, &good().to_string())).is_ok());
}

#[tokio::test]
async fn who_may_not_is_told_so_and_how() {
    let gateway = Gateway::start(&[("s", script("turns: [{ text: hi }]"))]).await;
    let get = || gateway.client.get(format!("{}/v1/models", gateway.url));
    let token = gateway.token(|_| {});
    let now = System.now().0 / 1000;
    let narrow = gateway.token(|claims| "search llm2 xllm".clone_into(&mut claims.scope));
    let expired = gateway.token(|claims| (claims.iat, claims.nbf, claims.exp) = (now - 90, now - 90, now - 30));
    let rows = [
        (get().bearer_auth(&token), 200, "", ""),
        (get().header("Authorization", format!("bearer {token}")), 200, "", ""),
        (get(), 401, "missing_token", "Bearer"),
        (get().header("Authorization", &token), 401, "missing_token", "Bearer"),
        (get().header("Authorization", format!("Basic {token}")), 401, "missing_token", "Bearer"),
        (get().header("Authorization", format!("Bearer  {token}")), 401, "invalid_token", "Bearer"),
        (get().bearer_auth(&token).header("Authorization", "Bearer x"), 401, "missing_token", "Bearer"),
        (get().bearer_auth("x"), 401, "invalid_token", "Bearer"),
        (get().bearer_auth("x".repeat(9000)), 401, "invalid_token", "Bearer"),
        (get().bearer_auth(expired), 401, "token_expired", "Bearer"),
        (get().bearer_auth(narrow), 403, "insufficient_scope", "Bearer"),
    ];
    for (request, status, code, challenge) in rows {
        let response = request.send().await.unwrap();
        let told = response.headers().get("www-authenticate").map_or("", |value| value.to_str().unwrap()).to_owned();
        assert!(told.starts_with(challenge) && told.is_empty() == challenge.is_empty(), "{code}: {told}");
        if status == 200 {
            assert_eq!(response.status().as_u16(), 200);
        } else {
            assert_eq!(error(response).await, (status, json!(code)));
        }
    }
}

#[tokio::test]
async fn a_token_is_renewed_with_the_same_rights_and_life() {
    let gateway = Gateway::start(&[("s", script("turns: [{ text: hi }]"))]).await;
    let old = gateway.token(|claims| {
        "nothing".clone_into(&mut claims.scope);
        claims.budget = Some(crate::token::Budget { usd: Some(2.0), ..Default::default() });
    });
    let request = gateway.client.post(format!("{}/v1/token/refresh", gateway.url)).bearer_auth(&old);
    let answer: Value = serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let (old, new) = (keys().verify(&old).unwrap(), keys().verify(answer["token"].as_str().unwrap()).unwrap());
    assert_eq!(answer["expires_at"], json!(new.exp));
    assert_eq!(new.exp - new.iat, old.exp - old.iat);
    assert_ne!(new.jti, old.jti);
    assert_eq!(crate::token::Claims { exp: old.exp, nbf: old.nbf, iat: old.iat, jti: old.jti.clone(), ..new }, old);
}

#[tokio::test]
async fn without_tokens_programs_are_answered_and_pages_are_not() {
    let gateway = Gateway::start_with(settings(&[("s", script("turns: [{ text: hi }]"))], None)).await;
    let get = || gateway.client.get(format!("{}/v1/models", gateway.url));
    for (request, status) in [
        (get(), 200),
        (get().header("Host", "localhost:3211"), 200),
        (get().header("Host", "[::1]:3211"), 200),
        (get().header("Host", "evil.example"), 403),
        (get().header("Host", "127.0.0.1.evil.example:3211"), 403),
        (get().header("Origin", "http://evil.example"), 403),
        (get().header("Origin", "null"), 403),
        (get().header("Sec-Fetch-Site", "cross-site"), 403),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    let refreshed = gateway.client.post(format!("{}/v1/token/refresh", gateway.url)).send().await.unwrap();
    assert_eq!(error(refreshed).await, (404, json!("not_found")));
}
