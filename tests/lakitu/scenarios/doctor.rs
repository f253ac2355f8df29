//! `lakitu doctor`: what works here, and what to do about what does not.

use expect_test::expect;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Binary, Fifo, Script, answering, response};

/// One that says the same on every kernel.
fn binary() -> Binary {
    Binary::new().env("LAKITU__CONFINE__COMMANDS", "off")
}

/// What it says of the machine, which differs from one to the next.
const MACHINE: [&str; 10] =
    ["workspace", "data", "api", "openat2", "pidfd", "namespaces", "cgroup", "confinement", "bash", "git"];

/// What it says of the model, without what differs from run to run.
fn said(lakitu: &Binary, args: &[&str], url: &str) -> String {
    let ran = lakitu.run(&[&["doctor"], args].concat());
    let home = lakitu.home.path().display().to_string();
    let mut of_machine = false;
    let kept = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        of_machine = if name.is_empty() { of_machine } else { MACHINE.contains(&name) };
        !of_machine
    };
    let told: String = ran.out.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    format!("{told}exit {}\n{}", ran.exit, ran.err).replace(url, "URL").replace(&home, "HOME")
}

/// One of its lines.
fn check<'a>(told: &'a Value, name: &str) -> &'a Value {
    let found = told["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {told}"))
}

#[test]
fn a_server_that_answers_is_well_and_a_model_that_it_does_not_list_is_noted() {
    let lakitu = binary();
    let script = lakitu.script(&Script::new().says("Hello."));
    let mut gateway = lakitu.begin(&["gateway", "--script", &script, "--bind", "127.0.0.1:0"]);
    let ready = gateway.line();
    let url = ready.split_whitespace().find_map(|word| word.strip_prefix("url=")).unwrap().to_owned();

    expect![[r#"
        configuration  ok       built-in values; no file
        model          ok       script at URL (--gateway names it; the token from LAKITU_TOKEN)
        reachable      ok       it answers and lists 1 model
        listed         ok       script
        exit 0
    "#]]
    .assert_eq(&said(&lakitu, &["--gateway", &url, "--model", "script"], &url));
    let other = lakitu.run(&["doctor", "--gateway", &url, "--model", "other", "--json"]);
    let told = other.object();
    assert_eq!((other.exit, &told["ok"]), (0, &json!(true)), "{told}");
    let expected = json!({
        "name": "listed",
        "state": "note",
        "detail": "other is not among the models that the server lists",
        "fix": "if a run says that there is no such model, name one with --model: script",
    });
    assert_eq!(check(&told, "listed"), &expected);

    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().exit, 0);
}

#[test]
fn what_does_not_answer_is_told_with_what_to_do() {
    let (url, server) = answering(vec![response("401 Unauthorized", "no"), response("404 Not Found", "nothing here")]);
    let lakitu = binary();
    expect![[r#"
        configuration  ok       built-in values; no file
        model          ok       default at URL (--gateway names it; the token from LAKITU_TOKEN)
        reachable      failed   HTTP 401, the token was rejected; give a valid one: no
                       ->       give a valid key or token: the variable or file named above
        exit 1
    "#]]
    .assert_eq(&said(&lakitu, &["--gateway", &url], &url));
    expect![[r#"
        configuration  ok       built-in values; no file
        model          ok       default at URL (--gateway names it; the token from LAKITU_TOKEN)
        reachable      failed   HTTP 404, no chat completions here; check the gateway's URL: nothing here
                       ->       check the server's URL: models are not listed there as OpenAI lists them
        exit 1
    "#]]
    .assert_eq(&said(&lakitu, &["--gateway", &url], &url));
    server.join().unwrap();
    expect![[r#"
        configuration  ok       built-in values; no file
        model          failed   the script nowhere.yaml cannot be read: No such file or directory (os error 2)
                       ->       mend the script
        exit 1
    "#]]
    .assert_eq(&said(&lakitu, &["--script", "nowhere.yaml"], "http://nowhere"));
    let script = lakitu.script(&Script::new().says("Hello."));
    expect![[r#"
        configuration  ok       built-in values; no file
        model          ok       the script HOME/script.yaml (--script names it)
        exit 0
    "#]]
    .assert_eq(&said(&lakitu, &["--script", &script], "http://nowhere"));
}

/// The state of one line, what it says, and whether it says what to do; and the exit code.
fn state(lakitu: &Binary, args: &[&str], name: &str) -> (String, String, bool, i32) {
    let script = lakitu.script(&Script::new().says("Hello."));
    let ran = lakitu.run(&[&["doctor", "--json", "--script", &script], args].concat());
    let told = ran.object();
    assert_eq!(told["ok"], json!(ran.exit == 0), "{told}");
    let found = check(&told, name);
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("detail"), !text("fix").is_empty(), ran.exit)
}

#[test]
fn every_line_is_there_and_nothing_is_left_behind() {
    let lakitu = Binary::new();
    let script = lakitu.script(&Script::new().says("Hello."));
    let before = lakitu.home.files();
    let ran = lakitu.run(&["doctor", "--script", &script]);
    let names: Vec<&str> =
        ran.out.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect();
    let expected: Vec<&str> = ["configuration"].into_iter().chain(MACHINE).chain(["model"]).collect();
    assert_eq!(names, expected, "{}", ran.out);
    assert_eq!((ran.exit, lakitu.home.files()), (0, before), "{}", ran.out);
}

#[test]
fn places_that_will_not_do_are_told_with_what_to_do() {
    let mut lakitu = Binary::new();
    let (state_of, detail, _, exit) = state(&lakitu, &["--workspace", "/nowhere"], "workspace");
    assert_eq!((state_of.as_str(), exit), ("missing", 1));
    assert!(detail.contains("--workspace"), "{detail}");
    lakitu.data_flag = Some("/proc/lakitu".into());
    let (state_of, detail, fix, exit) = state(&lakitu, &[], "data");
    assert_eq!((state_of.as_str(), fix, exit), ("failed", true, 1), "{detail}");
    lakitu.data_flag = Some(lakitu.home.path().join("script.yaml").join("data"));
    let (state_of, detail, ..) = state(&lakitu, &[], "data");
    assert!(state_of == "failed" && detail.ends_with("script.yaml is no directory"), "{detail}");
    lakitu.data_flag = Some(format!("/dev/shm/lakitu-doctor-{}", std::process::id()).into());
    let (state_of, detail, fix, exit) = state(&lakitu, &[], "data");
    assert_eq!((state_of.as_str(), fix, exit), ("note", true, 0), "{detail}");
    assert!(detail.contains("not made yet") && detail.ends_with("free on tmpfs"), "{detail}");
}

#[test]
fn a_port_that_is_taken_is_noted_and_a_public_one_without_a_key_will_not_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lakitu = Binary::new().env("LAKITU__API__BIND", &taken.local_addr().unwrap().to_string());
    let (state_of, _, fix, exit) = state(&lakitu, &[], "api");
    assert_eq!((state_of.as_str(), fix, exit), ("note", true, 0));
    let lakitu = Binary::new().env("LAKITU__API__BIND", "0.0.0.0:0");
    let (state_of, detail, fix, exit) = state(&lakitu, &[], "api");
    assert_eq!((state_of.as_str(), fix, exit), ("failed", true, 1), "{detail}");
    assert!(detail.contains("[api] key_file"), "{detail}");
}

#[test]
fn what_commands_lack_is_noted() {
    let lakitu = Binary::new().env("LAKITU__KEEPER__NAMESPACES", "false").env("PATH", "/nowhere");
    for (name, said) in [("namespaces", "switched off"), ("bash", "not on the PATH"), ("git", "not on the PATH")] {
        let (state_of, detail, fix, exit) = state(&lakitu, &[], name);
        assert_eq!((state_of.as_str(), fix, exit), ("note", true, 0), "{name}: {detail}");
        assert!(detail.contains(said), "{name}: {detail}");
    }
}

#[test]
fn a_token_that_others_can_read_is_noted() {
    use std::os::unix::fs::PermissionsExt as _;
    let lakitu = Binary::new();
    let token = lakitu.home.path().join("token");
    std::fs::write(&token, "a-token").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let shown = token.display().to_string();
    let (state_of, _, fix, exit) = state(&lakitu, &["--token-file", &shown], "token");
    assert_eq!((state_of.as_str(), fix, exit), ("note", true, 0));
}

#[tokio::test]
async fn a_runtime_that_serves_the_data_is_told_by_its_process() {
    let lakitu = Binary::new();
    let gate = Fifo::new(&lakitu.workspace(), "gate");
    let script = lakitu.script(&Script::new().runs("read -r _ < gate").says("Through."));
    let owner = lakitu.begin(&["run", "wait", "--script", &script]);
    let door = gate.reached().await;
    // How full the disk is, is another matter.
    let (_, detail, _, exit) = state(&lakitu, &[], "data");
    assert_eq!(exit, 0, "{detail}");
    assert!(detail.ends_with(&format!("served by process {}", owner.pid())), "{detail}");
    door.open();
    // The script is another one by now; the owner has read its own.
    assert_eq!(owner.end().exit, 0);
}
