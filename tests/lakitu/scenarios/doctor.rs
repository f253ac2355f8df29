//! `lakitu doctor`: what would answer for the model, why, whether it does, and what to do where it does not.

use expect_test::expect;
use rustix::process::Signal;

use crate::harness::{Binary, Script, answering, response};

/// One that says the same on every kernel.
fn binary() -> Binary {
    Binary::new().env("LAKITU__CONFINE__COMMANDS", "off")
}

/// What it says, without what differs from run to run.
fn said(lakitu: &Binary, args: &[&str], url: &str) -> String {
    let ran = lakitu.run(&[&["doctor"], args].concat());
    let home = lakitu.home.path().display().to_string();
    format!("{}exit {}\n{}", ran.out, ran.exit, ran.err).replace(url, "URL").replace(&home, "HOME")
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
        confinement    note     switched off: commands write wherever you may
                       ->       leave out [confine] commands = "off"
        model          ok       script at URL (--gateway names it; the token from LAKITU_TOKEN)
        reachable      ok       it answers and lists 1 model
        listed         ok       script
        exit 0
    "#]]
    .assert_eq(&said(&lakitu, &["--gateway", &url, "--model", "script"], &url));
    expect![[r#"
        {"checks":[{"detail":"built-in values; no file","name":"configuration","state":"ok"},{"detail":"switched off: commands write wherever you may","fix":"leave out [confine] commands = \"off\"","name":"confinement","state":"note"},{"detail":"other at URL (--gateway names it; the token from LAKITU_TOKEN)","name":"model","state":"ok"},{"detail":"it answers and lists 1 model","name":"reachable","state":"ok"},{"detail":"other is not among the models that the server lists","fix":"if a run says that there is no such model, name one with --model: script","name":"listed","state":"note"}],"ok":true}
        exit 0
    "#]].assert_eq(&said(&lakitu, &["--gateway", &url, "--model", "other", "--json"], &url));

    gateway.signal(Signal::TERM);
    assert_eq!(gateway.end().exit, 0);
}

#[test]
fn what_does_not_answer_is_told_with_what_to_do() {
    let (url, server) = answering(vec![response("401 Unauthorized", "no"), response("404 Not Found", "nothing here")]);
    let lakitu = binary();
    expect![[r#"
        configuration  ok       built-in values; no file
        confinement    note     switched off: commands write wherever you may
                       ->       leave out [confine] commands = "off"
        model          ok       default at URL (--gateway names it; the token from LAKITU_TOKEN)
        reachable      failed   HTTP 401, the token was rejected; give a valid one: no
                       ->       give a valid key or token: the variable or file named above
        exit 1
    "#]]
    .assert_eq(&said(&lakitu, &["--gateway", &url], &url));
    expect![[r#"
        configuration  ok       built-in values; no file
        confinement    note     switched off: commands write wherever you may
                       ->       leave out [confine] commands = "off"
        model          ok       default at URL (--gateway names it; the token from LAKITU_TOKEN)
        reachable      failed   HTTP 404, no chat completions here; check the gateway's URL: nothing here
                       ->       check the server's URL: models are not listed there as OpenAI lists them
        exit 1
    "#]]
    .assert_eq(&said(&lakitu, &["--gateway", &url], &url));
    server.join().unwrap();
    expect![[r#"
        configuration  ok       built-in values; no file
        confinement    note     switched off: commands write wherever you may
                       ->       leave out [confine] commands = "off"
        model          failed   the script nowhere.yaml cannot be read: No such file or directory (os error 2)
                       ->       mend the script
        exit 1
    "#]]
    .assert_eq(&said(&lakitu, &["--script", "nowhere.yaml"], "http://nowhere"));
    let script = lakitu.script(&Script::new().says("Hello."));
    expect![[r#"
        configuration  ok       built-in values; no file
        confinement    note     switched off: commands write wherever you may
                       ->       leave out [confine] commands = "off"
        model          ok       the script HOME/script.yaml (--script names it)
        exit 0
    "#]]
    .assert_eq(&said(&lakitu, &["--script", &script], "http://nowhere"));
}
