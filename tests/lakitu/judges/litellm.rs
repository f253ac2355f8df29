//! A run through LiteLLM's proxy, which stands in front of the scripted server: what we send and what we take passes a
//! server that somebody else wrote.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::prepared;
use crate::harness::{Binary, Script};

/// Ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the proxy in front of this server, and waits until it says that it listens.
fn proxy(before: &str, place: &std::path::Path) -> (Proxy, String) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "model_list:\n  - model_name: scripted\n    litellm_params: {{ model: openai/scripted, api_base: \"{before}/v1\", api_key: none }}\n"
    );
    let file = place.join("litellm.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(prepared("litellm").join("bin/litellm"));
    command.arg("--config").arg(file).args(["--host", "127.0.0.1", "--telemetry", "False", "--port"]);
    command.arg(free.port().to_string()).current_dir(place).stdin(Stdio::null());
    // It asks for prices on the network otherwise.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut proxy = Proxy(command.spawn().unwrap());
    let said = BufReader::new(proxy.0.stderr.take().unwrap());
    let mut lines = said.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("Uvicorn running on")), "the proxy ended");
    // Read on, so that it never waits for somebody to do so.
    std::thread::spawn(move || lines.count());
    (proxy, format!("http://{free}"))
}

#[test]
fn a_run_through_litellm_s_proxy_streams_and_calls_tools() {
    let lakitu = Binary::new();
    let script = Script::new().runs("echo one >> marks; cat marks").runs("echo two >> marks").says("Grüße.");
    let script = lakitu.script(&script);
    let mut gateway = lakitu.begin(&["gateway", "--script", &script, "--bind", "127.0.0.1:0"]);
    let ready = gateway.line();
    let url = ready.split_whitespace().find_map(|word| word.strip_prefix("url=")).unwrap_or_else(|| panic!("{ready}"));
    let (proxy, url) = proxy(url, &lakitu.home.path());

    let ran = lakitu.run(&["run", "mark", "--gateway", &url, "--model", "scripted", "--output", "stream-json"]);

    assert_eq!(ran.exit, 0, "{}{}", ran.out, ran.err);
    assert_eq!(lakitu.home.read("marks"), "one\ntwo\n");
    let result = ran.lines().pop().unwrap();
    assert_eq!((&result["text"], &result["tool_calls"]), (&"Grüße.".into(), &2.into()));
    assert!(ran.out.contains("text.delta"), "{}", ran.out);
    drop(proxy);
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.end().exit, 0);
}
