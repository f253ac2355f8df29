//! `lakitu gateway` with a script, a minted token, and `OpenAI`'s SDK.

use serde_json::json;

use super::heard;
use crate::harness::Binary;

const SCRIPT: &str = r#"
turns:
  - thinking: Hm.
    text: "Looking at it: ü."
    tool_calls:
      - { name: get_weather, arguments: { city: Zürich } }
      - { name: get_time, arguments: { zone: CET } }
    usage: { input_tokens: 11, output_tokens: 5, cached_tokens: 3 }
  - expect: { last_tool_result: { contains: sunny } }
    text: It is sunny in Zürich.
  - fail: { status: 503 }
  - fail: { status: 503, retry_after: 0 }
  - text: third
  - cut: { after_chunks: 2 }
  - text: fourth
    usage: { input_tokens: 5, output_tokens: 5 }
"#;

#[test]
fn openai_s_sdk_is_served() {
    let binary = Binary::new();
    let path = |name: &str| binary.workspace().join(name).display().to_string();
    let (secret, script) = (path("secret"), path("script.yaml"));
    std::fs::write(&script, SCRIPT).unwrap();
    let mint = |more: &[&str]| {
        let minted = binary.run(&[&["token", "mint", "--secret-file", &secret], more].concat());
        assert_eq!((minted.exit, &*minted.err), (0, ""));
        minted.out.trim().to_owned()
    };
    let good = mint(&["--new-secret", "--scope", "llm search"]);
    let tokens = json!({
        "good": good,
        "bad": format!("{}AAAA", &good[..good.len() - 4]),
        "narrow": mint(&["--scope", "search"]),
        "poor": mint(&["--budget-output-tokens", "5", "--sub", "ses_poor"]),
    });
    let args = ["gateway", "--secret-file", &secret, "--script", &script, "--bind", "127.0.0.1:0"];
    let mut gateway = binary.begin(&args);
    let ready = gateway.line();
    let url = ready.split_whitespace().find_map(|word| word.strip_prefix("url=")).unwrap_or_else(|| panic!("{ready}"));
    assert_eq!(ready, format!("lakitu gateway ready url={url} upstreams=script auth=on"));
    heard("openai_sdk.py", |python| {
        python.env("LAKITU_URL", url).env("LAKITU_TOKENS", tokens.to_string());
    });
    gateway.signal(rustix::process::Signal::TERM);
    let ended = gateway.end();
    assert_eq!((ended.exit, &*ended.err), (0, ""));
}
