//! `lakitu gateway` and `lakitu token` as they are typed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Binary, alive, answering, response};

const SCRIPT: &str = "turns: [{ text: hi }]";
/// In no test's environment by accident.
const KEY: &str = "sk-canary-0f3a9b17c2";

fn write(binary: &Binary, name: &str, text: &str) -> String {
    let path = binary.workspace().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn refused(binary: &Binary, args: &[&str], exit: i32, parts: &[&str]) {
    let ran = binary.run(args);
    assert_eq!((ran.exit, &*ran.out), (exit, ""), "{args:?}: {}", ran.err);
    for part in parts {
        assert!(ran.err.contains(part), "{args:?} does not say {part:?}: {}", ran.err);
    }
}

#[test]
fn a_gateway_that_cannot_be_is_refused_with_what_to_do() {
    let binary = Binary::new();
    let script = write(&binary, "script.yaml", SCRIPT);
    let short = write(&binary, "short", &"x".repeat(31));
    let upstream = "[gateway.server.upstream.x]\nkind = \"openai\"\n";
    let unset = format!("{upstream}base_url = \"http://127.0.0.1:1\"\nkey_env = \"LAKITU_NO_SUCH_KEY\"\n");
    let unset = write(&binary, "unset.toml", &unset);
    let wrong = write(&binary, "wrong.toml", &format!("{upstream}base_url = \"ftp://x\"\n"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let rows: [(&[&str], i32, &[&str]); 8] = [
        (&["gateway"], 2, &["OPENROUTER_API_KEY", "[gateway.server.upstream.NAME]", "--script"]),
        (&["gateway", "--script", "nope.yaml"], 2, &["nope.yaml"]),
        (&["gateway", "--script", &script, "--bind", "0.0.0.0:0"], 2, &["0.0.0.0:0", "--secret-file", "--new-secret"]),
        (&["gateway", "--script", &script, "--secret-file", &short], 2, &["31 bytes", "32"]),
        (&["gateway", "--script", &script, "--secret-file", "nope"], 2, &["nope", "--new-secret"]),
        (&["gateway", "--config", &unset], 2, &["upstream.x", "LAKITU_NO_SUCH_KEY"]),
        (&["gateway", "--config", &wrong], 2, &["upstream x", "http://"]),
        (&["gateway", "--script", &script, "--bind", &port], 75, &[&port]),
    ];
    for (args, exit, parts) in rows {
        refused(&binary, args, exit, parts);
    }
}

#[test]
fn a_token_is_minted_and_looked_into() {
    let binary = Binary::new();
    let secret = binary.workspace().join("secret").display().to_string();
    refused(&binary, &["token", "mint"], 2, &["--secret-file", "--new-secret"]);
    refused(&binary, &["token", "mint", "--secret-file", &secret], 2, &["--new-secret"]);
    let mint = ["token", "mint", "--secret-file", &secret];
    let minted =
        binary.run(&[&mint[..], &["--new-secret", "--scope", "llm  search", "--sub", "ses_x", "--ttl", "1h"]].concat());
    let token = minted.out.trim_end_matches('\n').to_owned();
    assert_eq!((minted.exit, &*minted.err, token.split('.').count()), (0, "", 3));
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(&secret).unwrap();
    assert!(written.trim().len() == 64 && written.trim().bytes().all(|byte| byte.is_ascii_hexdigit()));
    refused(&binary, &[&mint[..], &["--new-secret"]].concat(), 2, &["is there already"]);
    refused(&binary, &[&mint[..], &["--ttl", "25h"]].concat(), 2, &["24h"]);
    refused(&binary, &[&mint[..], &["--budget-usd", "nan"]].concat(), 2, &["--budget-usd"]);

    let inspect = |token: &str, more: &[&str]| {
        let ran = binary.run(&[&["token", "inspect", token], more].concat());
        let said = ran.out.clone() + &ran.err;
        let signature = token.rsplit('.').next().unwrap();
        assert!(!said.contains(signature) && !said.contains(written.trim()), "{said}");
        (ran.exit, said)
    };
    let (exit, said) = inspect(&token, &["--secret-file", &secret]);
    assert!(exit == 0 && said.contains("ses_x") && said.contains("llm search") && said.contains("holds"), "{said}");
    let (exit, said) = inspect(&token, &[]);
    assert!(exit == 0 && said.contains("not checked"), "{said}");
    let (exit, said) = inspect(&format!("{}AAAA", &token[..token.len() - 4]), &["--secret-file", &secret]);
    assert!(exit == 1 && said.contains("does not hold"), "{said}");
    assert_eq!(inspect("a.b.c", &[]).0, 1);
    let short = binary.run(&[&mint[..], &["--ttl", "1s", "--json", "--budget-usd", "1.5"]].concat()).object();
    assert_eq!(short["claims"]["budget"], json!({"usd": 1.5}));
    assert_eq!(short["claims"]["exp"].as_u64().unwrap() - short["claims"]["iat"].as_u64().unwrap(), 1);
    let judged =
        binary.run(&["token", "inspect", short["token"].as_str().unwrap(), "--secret-file", &secret, "--json"]);
    assert_eq!(judged.object()["valid"], json!(true), "within the leeway of a clock");
}

/// What the gateway answers to this request, to the connection's end.
fn asked(at: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    let length = body.len();
    let request = format!("{head}\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn no_key_and_no_token_is_in_a_log_an_answer_or_the_environment() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let binary = Binary::new()
        .env("OPENAI_API_KEY", KEY)
        .env("OPENAI_BASE_URL", &format!("http://{nobody}"))
        .env("LAKITU_LOG", "trace");
    let secret = write(&binary, "secret", &"s3cret-canary!".repeat(3));
    let token = binary.run(&["token", "mint", "--secret-file", &secret]).out.trim().to_owned();
    let mut gateway = binary.begin(&["gateway", "--bind", "127.0.0.1:0", "--secret-file", &secret]);
    let ready = gateway.line();
    let at = at(&ready);
    assert!(ready.ends_with("upstreams=openai auth=on"), "{ready}");
    assert_eq!(alive(KEY), Vec::<String>::new(), "somebody's environment or command line holds the key");
    let ask = "POST /v1/chat/completions HTTP/1.1";
    let mut answers = asked(at, &format!("{ask}\r\nAuthorization: Bearer {token}"), "{\"model\":\"m\"}");
    assert!(answers.starts_with("HTTP/1.1 502 "), "{answers}");
    answers += &asked(at, &format!("{ask}\r\nAuthorization: Bearer {token}x"), "{}");
    answers += &asked(at, &format!("{ask}\r\nAuthorization: Bearer {token}\r\nAuthorization: Bearer {token}"), "{}");
    gateway.signal(Signal::TERM);
    let ended = gateway.end();
    assert_eq!(ended.exit, 0, "{}", ended.err);
    let said = answers + &ended.out + &ended.err;
    for hidden in [KEY, &token, token.rsplit('.').next().unwrap(), "s3cret-canary!"] {
        assert!(!said.contains(hidden), "{hidden} is told");
    }
}

/// Where a gateway is, by its ready line.
fn at(ready: &str) -> &str {
    ready.split_whitespace().find_map(|word| word.strip_prefix("url=http://")).unwrap_or_else(|| panic!("{ready}"))
}

#[test]
fn the_key_of_a_variable_that_the_configuration_names_leaves_the_environment() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "[gateway.server.upstream.x]\nkind = \"openai\"\nbase_url = \"http://{nobody}\"\nkey_env = \"MY_OWN_KEY\"\n\
         [gateway.server.upstream.y]\nkind = \"openai\"\nbase_url = \"http://{nobody}\"\nkey_env = \"OPENAI_API_KEY\"\n"
    );
    let (own, known) = ("sk-own-5d1f0e77ab42", "sk-known-90ce21bb63d8");
    let binary = Binary::new().env("MY_OWN_KEY", own).env("OPENAI_API_KEY", known).env("STAYS", "here");
    let config = write(&binary, "lakitu.toml", &config);
    let mut gateway = binary.begin(&["gateway", "--bind", "127.0.0.1:0", "--config", &config]);
    assert!(gateway.line().contains("upstreams=x,y "));
    let environ = std::fs::read(format!("/proc/{}/environ", gateway.pid())).unwrap();
    let environ = String::from_utf8_lossy(&environ);
    assert!(!environ.contains(own) && !environ.contains(known) && !environ.contains("MY_OWN_KEY"), "{environ}");
    assert!(environ.contains("STAYS=here"));
    for key in [own, known] {
        assert_eq!(alive(key), Vec::<String>::new());
    }
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().exit, 0);
}

#[test]
fn every_provider_that_is_found_may_be_somewhere_else() {
    for name in ["OPENROUTER", "ANTHROPIC", "OPENAI"] {
        let list = json!({"data": [{"id": "only-here"}]}).to_string();
        let (url, provider) = answering(vec![response("200 OK", &list)]);
        let binary = Binary::new().env(&format!("{name}_API_KEY"), KEY).env(&format!("{name}_BASE_URL"), &url);
        let mut gateway = binary.begin(&["gateway", "--bind", "127.0.0.1:0"]);
        let ready = gateway.line();
        assert!(asked(at(&ready), "GET /v1/models HTTP/1.1", "").contains("only-here"), "{name}");
        assert!(provider.join().unwrap()[0].contains(KEY), "{name}");
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.end().exit, 0);
    }
}

#[test]
fn a_run_whose_budget_is_used_up_is_checkpointed_and_goes_on_with_more() {
    let serving = Binary::new();
    let script = "turns:\n  - tool_calls: [{ name: bash, arguments: { command: touch ran } }]\n    \
                  usage: { input_tokens: 40, output_tokens: 5 }\n  - text: Done.\n";
    let script = write(&serving, "script.yaml", script);
    let secret = write(&serving, "secret", &"s3cret-canary!".repeat(3));
    let mint = |more: &[&str]| serving.run(&[&["token", "mint", "--secret-file", &secret], more].concat()).out;
    let mut gateway =
        serving.begin(&["gateway", "--bind", "127.0.0.1:0", "--script", &script, "--secret-file", &secret]);
    let ready = gateway.line();
    let url = format!("http://{}", at(&ready));
    let binary = Binary::new();
    let token = write(&binary, "token", &mint(&["--budget-output-tokens", "5"]));
    let asks = ["--gateway", &*url, "--token-file", &*token, "--output", "json"];

    let stopped = binary.run(&[&["run", "go"], &asks[..]].concat());
    assert_eq!(stopped.exit, 3, "{stopped:?}");
    let told = stopped.object();
    assert_eq!((&told["status"], &told["checkpoint"]["reason"]), (&json!("checkpointed"), &json!("budget_limit")));
    assert_eq!((&told["error"]["code"], &told["turns"]), (&json!("GATEWAY_REFUSED"), &json!(1)));
    assert!(binary.workspace().join("ran").exists());

    write(&binary, "token", &mint(&[]));
    let resumed = binary.run(&[&["resume"], &asks[..]].concat());
    assert_eq!((resumed.exit, &resumed.object()["text"]), (0, &json!("Done.")), "{resumed:?}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().exit, 0);
}

/// A chunk with a call of `bash`, or with the last words.
fn chunk(command: Option<&str>) -> String {
    let (delta, finish) = match command {
        Some(command) => {
            let arguments = json!({"command": command}).to_string();
            let call = json!({"index": 0, "id": "c", "type": "function", "function": {"name": "bash", "arguments": arguments}});
            (json!({"tool_calls": [call]}), "tool_calls")
        }
        None => (json!({"content": "Done."}), "stop"),
    };
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))
}

#[test]
fn a_call_of_a_stream_that_was_cut_on_its_way_to_the_gateway_does_not_run() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let whole = |command| head.to_owned() + &chunk(command) + "data: [DONE]\n\n";
    let answers = vec![head.to_owned() + &chunk(Some("touch cut")), whole(Some("touch whole")), whole(None)];
    let (url, provider) = answering(answers);
    let serving = Binary::new().env("OPENAI_API_KEY", KEY).env("OPENAI_BASE_URL", &url);
    let mut gateway = serving.begin(&["gateway", "--bind", "127.0.0.1:0"]);
    let ready = gateway.line();
    let binary = Binary::new();
    let ran = binary.run(&["run", "go", "--gateway", &format!("http://{}", at(&ready))]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(provider.join().unwrap().len(), 3, "the cut one was asked for again");
    let there = |name: &str| binary.workspace().join(name).exists();
    assert!(there("whole") && !there("cut"));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().exit, 0);
}
