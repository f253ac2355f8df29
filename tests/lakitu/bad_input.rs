//! What is typed, configured or piped in wrongly: the exit code says so, one paragraph says what is wrong and what to do,
//! standard output stays empty, and nothing is lost or left half made.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;

use expect_test::{Expect, expect};
use lakitu_kernel::limits::PROMPT_BYTES_MAX;
use serde_json::json;

use crate::harness::{Binary, Fifo, Script};

/// A command that is wrong. `HOME` in what it names is the test's directory, which holds `script.yaml`, a model script,
/// and `workspace`, in which it runs; its data is `HOME/data`.
#[derive(Default)]
struct Wrong<'a> {
    /// What stands there before: paths below `HOME`, and texts.
    files: &'a [(&'a str, &'a str)],
    env: &'a [(&'a str, &'a str)],
    /// Nothing, where nothing is piped in.
    stdin: &'a [u8],
    /// In the place of `HOME/data`.
    data: Option<&'a str>,
    args: &'a [&'a str],
}

/// What it says, under its exit code.
fn told(wrong: &Wrong<'_>) -> String {
    let mut lakitu = Binary::new().env("LAKITU__API__BIND", "127.0.0.1:0");
    let home = lakitu.home.path().display().to_string();
    let here = |text: &str| text.replace("HOME", &home);
    lakitu.script(&Script::new().says("Hello."));
    for (path, text) in wrong.files {
        std::fs::write(Path::new(&home).join(path), text).unwrap();
    }
    lakitu.env.extend(wrong.env.iter().map(|(name, value)| ((*name).to_owned(), here(value))));
    lakitu.data_flag = wrong.data.map(|data| here(data).into());
    let args: Vec<String> = wrong.args.iter().map(|arg| here(arg)).collect();
    let before = lakitu.home.files();

    let mut child = lakitu
        .command(&args.iter().map(String::as_str).collect::<Vec<_>>())
        .env_remove("LAKITU_TOKEN")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever does not read it ends before it is written.
    let _ = child.stdin.take().unwrap().write_all(wrong.stdin);
    let ended = child.wait_with_output().unwrap();

    assert_eq!(String::from_utf8_lossy(&ended.stdout), "", "{args:?}");
    assert_eq!(lakitu.home.files(), before, "{args:?} left something behind");
    let said = String::from_utf8(ended.stderr).unwrap().replace(&home, "HOME");
    // One paragraph is one line, but for what the parser of the command line says in its own form.
    assert!(said.starts_with("error: ") || said.lines().count() == 1, "{args:?}: {said}");
    format!("{} {}\n", ended.status.code().unwrap(), said.trim_end().replace("\n\n", "\n"))
}

/// `lakitu` with these words and the script.
fn scripted<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &["--script", "HOME/script.yaml"]].concat()
}

fn all_told<'a>(rows: impl IntoIterator<Item = Wrong<'a>>, expected: &Expect) {
    let told: Vec<String> = rows.into_iter().map(|row| told(&row)).collect();
    expected.assert_eq(&told.concat());
}

#[test]
fn a_configuration_that_is_wrong() {
    let file = |text| [("lakitu.toml", text)];
    let texts = [
        "[gatway]",
        "[gateway]\nurll = \"http://127.0.0.1:9\"",
        "[limits]\nmodel_attempts = 0",
        "[limits]\nmodel_attempts = \"many\"",
        "[api]\nbind = \"everywhere\"",
        "[gateway]\nurl = \"localhost:8000\"",
        "[gateway]\ntoken_file = \"HOME/none\"\nurl = \"http://127.0.0.1:9\"",
        "[gateway",
    ];
    let files: Vec<_> = texts.into_iter().map(file).collect();
    let args = ["run", "hello", "--config", "HOME/lakitu.toml"];
    let wrong = files.iter().map(|files| Wrong { files, args: &args, ..Wrong::default() });
    let run = ["run", "hello"];
    let variable = |env| Wrong { env, args: &run, ..Wrong::default() };
    let others = [
        Wrong { args: &["run", "hello", "--config", "HOME/none.toml"], ..Wrong::default() },
        // Nobody may read this as a file, whoever they are.
        Wrong { args: &["run", "hello", "--config", "HOME/workspace"], ..Wrong::default() },
        variable(&[("LAKITU__LIMITS__MAX_TURN", "3")]),
        variable(&[("LAKITU__LIMITS__MAX_TURNS", "few")]),
        variable(&[("LAKITU__MAX_TURNS", "3")]),
        // Whoever reads says it too, and the one who serves.
        Wrong { env: &[("LAKITU__STORE__CACHE_MIB", "0")], args: &["threads", "ls"], ..Wrong::default() },
        Wrong { env: &[("LAKITU__STORE__CACHE_MIB", "0")], args: &["up"], ..Wrong::default() },
    ];
    all_told(
        wrong.chain(others),
        &expect![[r#"
            2 lakitu: INVALID_CONFIG: HOME/lakitu.toml: there is no section [gatway]: did you mean [gateway]? There are paths, gateway, limits, supervision, store, retention, keeper, confine, edits, debug, api, policy
            2 lakitu: INVALID_CONFIG: HOME/lakitu.toml: there is no key gateway.urll: did you mean gateway.url? [gateway] has url, token_file, model, fallback_models, defaults, server
            2 lakitu: INVALID_CONFIG: HOME/lakitu.toml: limits.model_attempts = 0: it must be a whole number from 1 to 1000
            2 lakitu: INVALID_CONFIG: HOME/lakitu.toml: limits.model_attempts = "many": it must be a whole number from 1 to 1000
            2 lakitu: INVALID_CONFIG: HOME/lakitu.toml: api.bind = "everywhere": it must be ADDRESS:PORT, such as "127.0.0.1:3210"
            2 lakitu: [gateway] url: the gateway's URL must begin with http:// or https:// and a host. Such a URL is http://127.0.0.1:8000, or with https.
            2 lakitu: the token file HOME/none cannot be read: No such file or directory (os error 2). --token-file or [gateway] token_file names it.
            2 lakitu: INVALID_CONFIG: HOME/lakitu.toml, line 1, column 9: this is not TOML: unclosed table, expected `]`
            2 lakitu: INVALID_CONFIG: HOME/none.toml cannot be read: No such file or directory (os error 2). Name a file that is there and that you may read, or none.
            2 lakitu: INVALID_CONFIG: HOME/workspace cannot be read: Is a directory (os error 21). Name a file that is there and that you may read, or none.
            2 lakitu: INVALID_CONFIG: LAKITU__LIMITS__MAX_TURN: there is no key limits.max_turn: did you mean limits.max_turns? [limits] has max_turns, model_attempts, model_retry_ms, model_first_byte_ms, model_idle_ms, boot_threads, stalled_ms
            2 lakitu: INVALID_CONFIG: LAKITU__LIMITS__MAX_TURNS: limits.max_turns = "few": it must be a whole number from 0 to 4294967295
            2 lakitu: INVALID_CONFIG: LAKITU__MAX_TURNS: variables are named LAKITU__SECTION__KEY
            2 lakitu: INVALID_CONFIG: LAKITU__STORE__CACHE_MIB: store.cache_mib = 0: it must be a whole number from 1 to 16384
            2 lakitu: INVALID_CONFIG: LAKITU__STORE__CACHE_MIB: store.cache_mib = 0: it must be a whole number from 1 to 16384
        "#]],
    );
}

#[test]
fn no_model_or_one_that_cannot_be_asked() {
    let run = |more: &'static [&'static str]| [&["run", "hello"], more].concat();
    let script = |text| [("broken.yaml", text)];
    let broken = run(&["--script", "HOME/broken.yaml"]);
    let scripts = [script("turns: ["), script("turns: 3"), script("turns: [{txt: hello}]")];
    let flags: [&[&str]; 8] = [
        &[],
        &["--script", "HOME/none.yaml"],
        &["--script", "HOME/workspace"],
        &["--gateway", "localhost"],
        &["--gateway", "ftp://user:password@host"],
        &["--gateway", "http://127.0.0.1:9", "--token-file", "HOME/none"],
        &["--gateway", "http://127.0.0.1:9", "--token-file", "HOME/empty"],
        &["--gateway", "http://127.0.0.1:9", "--script", "HOME/script.yaml"],
    ];
    let flags: Vec<_> = flags.into_iter().map(run).collect();
    let flags = flags.iter().map(|args| Wrong { args, files: &[("empty", "\n")], ..Wrong::default() });
    let scripts = scripts.iter().map(|files| Wrong { args: &broken, files, ..Wrong::default() });
    let others = [
        Wrong {
            env: &[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "nowhere")],
            args: &["run", "x"],
            ..Wrong::default()
        },
        Wrong { args: &["gateway"], ..Wrong::default() },
        Wrong { args: &["up", "--workspace", "HOME/workspace", "--script", "HOME/none.yaml"], ..Wrong::default() },
    ];
    all_told(
        flags.chain(scripts).chain(others),
        &expect![[r#"
        2 lakitu: no model is configured. Set OPENROUTER_API_KEY, ANTHROPIC_API_KEY or OPENAI_API_KEY (with OPENAI_BASE_URL for another server), or name an OpenAI-compatible server with --gateway URL (or [gateway] url in a configuration file, with --token-file or LAKITU_TOKEN where it asks for a token), or play a model script with --script FILE. To see it work with nothing configured: lakitu demo
        2 lakitu: the script HOME/none.yaml cannot be read: No such file or directory (os error 2)
        2 lakitu: the script HOME/workspace cannot be read: Is a directory (os error 21)
        2 lakitu: --gateway: the gateway's URL is not one: relative URL without a base. Such a URL is http://127.0.0.1:8000, or with https.
        2 lakitu: --gateway: the gateway's URL must begin with http:// or https:// and a host. Such a URL is http://127.0.0.1:8000, or with https.
        2 lakitu: the token file HOME/none cannot be read: No such file or directory (os error 2). --token-file or [gateway] token_file names it.
        2 lakitu: the token file HOME/empty is empty. --token-file or [gateway] token_file names it.
        2 error: the argument '--gateway <URL>' cannot be used with '--script <FILE>'
        Usage: lakitu run --gateway <URL> --data <DIR> <PROMPT>
        For more information, try '--help'.
        2 lakitu: HOME/broken.yaml: the script is not one: did not find expected node content at line 2 column 1, while parsing a flow node
        2 lakitu: HOME/broken.yaml: the script is not one: turns: invalid type: integer `3`, expected a sequence at line 1 column 8
        2 lakitu: HOME/broken.yaml: the script is not one: turns[0]: unknown field `txt`, expected one of `text`, `thinking`, `tool_calls`, `expect`, `delay_ms`, `finish`, `usage`, `fail`, `cut` at line 1 column 10
        2 lakitu: OPENAI_BASE_URL: the gateway's URL is not one: relative URL without a base. Such a URL is http://127.0.0.1:8000, or with https.
        2 lakitu: the gateway has nobody to ask. Set OPENROUTER_API_KEY, ANTHROPIC_API_KEY or OPENAI_API_KEY (with OPENAI_BASE_URL for another server that speaks it; the others have such a variable too), or configure providers under [gateway.server.upstream.NAME], or play a model script with --script FILE.
        2 lakitu: the script HOME/none.yaml cannot be read: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn a_prompt_or_a_flag_that_says_nothing() {
    let words: [&[&str]; 9] = [
        &["run"],
        &["run", "-"],
        &["run", " \n"],
        &["run", "hello", "--timeout", "soon"],
        &["run", "hello", "--timeout", "0s"],
        &["run", "hello", "--max-turns", "0"],
        &["run", "hello", "--mode", "fast"],
        &["run", "hello", "--output", "xml"],
        &["run", "hello", "--colour"],
    ];
    let words: Vec<_> = words.into_iter().map(scripted).collect();
    let (piped, long) = (scripted(&["run"]), "x".repeat(PROMPT_BYTES_MAX + 1));
    let others = [
        Wrong { args: &piped, stdin: b"\xff\xfe\x00", ..Wrong::default() },
        Wrong { args: &piped, stdin: b" \n", ..Wrong::default() },
        Wrong { args: &piped, stdin: long.as_bytes(), ..Wrong::default() },
        Wrong { args: &["rum", "hello"], ..Wrong::default() },
    ];
    let words = words.iter().map(|args| Wrong { args, ..Wrong::default() });
    all_told(
        words.chain(others),
        &expect![[r#"
        2 lakitu: there is no prompt, and nothing on standard input. Say what is to be done: lakitu run "fix the failing test", or pipe it in.
        2 lakitu: there is no prompt on standard input. Say what is to be done: lakitu run "fix the failing test", or pipe it in.
        2 lakitu: the prompt is empty. Say what is to be done: lakitu run "fix the failing test", or pipe it in.
        2 error: invalid value 'soon' for '--timeout <DURATION>': a number over 0 with its unit is expected, such as 90s or 10m
        For more information, try '--help'.
        2 error: invalid value '0s' for '--timeout <DURATION>': a number over 0 with its unit is expected, such as 90s or 10m
        For more information, try '--help'.
        2 error: invalid value '0' for '--max-turns <N>': 0 is not in 1..=4294967295
        For more information, try '--help'.
        2 error: invalid value 'fast' for '--mode <MODE>'
          [possible values: plan, build, review, debug, explore]
        For more information, try '--help'.
        2 error: invalid value 'xml' for '--output <OUTPUT>'
          [possible values: text, json, stream-json]
        For more information, try '--help'.
        2 error: unexpected argument '--colour' found
          tip: to pass '--colour' as a value, use '-- --colour'
        Usage: lakitu run <PROMPT>
        For more information, try '--help'.
        2 lakitu: the prompt on standard input is not text in UTF-8
        2 lakitu: there is no prompt, and nothing on standard input. Say what is to be done: lakitu run "fix the failing test", or pipe it in.
        2 lakitu: the prompt has more than 1048576 bytes: put it in a file of the workspace. Say what is to be done: lakitu run "fix the failing test", or pipe it in.
        2 error: unrecognized subcommand 'rum'
          tip: some similar subcommands exist: 'run', 'resume'
        Usage: lakitu [OPTIONS] <COMMAND>
        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn a_thread_that_is_not_there() {
    const UNKNOWN: &str = "thr_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let words: [&[&str]; 8] = [
        &["continue"],
        &["continue", "write a test"],
        &["continue", UNKNOWN, "more"],
        &["continue", "--last", "more"],
        &["continue", "--last", UNKNOWN, "more"],
        &["resume"],
        &["resume", UNKNOWN],
        &["resume", "the last one"],
    ];
    let words: Vec<_> = words.into_iter().map(scripted).collect();
    let words = words.iter().map(|args| Wrong { args, ..Wrong::default() });
    let reading: [&[&str]; 2] = [&["threads", "show", UNKNOWN], &["threads", "events", "mine"]];
    let reading = reading.iter().map(|args| Wrong { args, ..Wrong::default() });
    all_told(
        words.chain(reading),
        &expect![[r#"
        2 lakitu: which thread goes on? Name it, or give --last for the newest of this workspace: lakitu continue --last "now write a test".
        2 lakitu: "write a test" is not a thread id: `thr_` and 26 characters are expected, as `lakitu threads ls` prints them. Name it, or give --last for the newest of this workspace: lakitu continue --last "now write a test".
        2 lakitu: THREAD_NOT_FOUND: there is no thread thr_01ARZ3NDEKTSV4RRFFQ69G5FAV; `lakitu threads ls` lists what there is
        2 lakitu: THREAD_NOT_FOUND: there is no thread here yet; `lakitu run "…"` starts one. (Another workspace has its own: --workspace, --data.)
        2 lakitu: --last stands in place of THREAD; give one of them
        2 lakitu: THREAD_NOT_FOUND: there is no thread here yet; `lakitu run "…"` starts one. (Another workspace has its own: --workspace, --data.)
        2 lakitu: THREAD_NOT_FOUND: there is no thread thr_01ARZ3NDEKTSV4RRFFQ69G5FAV; `lakitu threads ls` lists what there is
        2 lakitu: "the last one" is not a thread id: `thr_` and 26 characters are expected, as `lakitu threads ls` prints them
        2 lakitu: there is no thread thr_01ARZ3NDEKTSV4RRFFQ69G5FAV: HOME/data holds no database
        2 error: invalid value 'mine' for '<ID>': not a thread id: `thr_` and 26 characters are expected, as `lakitu threads ls` prints them
        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn a_directory_that_cannot_be_used() {
    let run = scripted(&["run", "hello"]);
    let up = scripted(&["up", "--workspace", "HOME/workspace", "--artifacts", "HOME/artifacts"]);
    let words: [&[&str]; 4] = [
        &["run", "hello", "--workspace", "HOME/none"],
        &["run", "hello", "--workspace", "HOME/script.yaml"],
        &["run", "hello", "--artifacts", "HOME/script.yaml"],
        &["up", "--workspace", "HOME/none"],
    ];
    let words: Vec<_> = words.into_iter().map(scripted).collect();
    let words = words.iter().map(|args| Wrong { args, ..Wrong::default() });
    // A file system that nobody can write to, root included.
    let nobodys = Some("/proc/lakitu");
    let others = [
        Wrong { data: nobodys, args: &run, ..Wrong::default() },
        Wrong { data: Some("HOME/script.yaml"), args: &run, ..Wrong::default() },
        Wrong { data: nobodys, args: &up, ..Wrong::default() },
        Wrong { data: Some("HOME/script.yaml"), args: &up, ..Wrong::default() },
    ];
    all_told(
        words.chain(others),
        &expect![[r#"
            2 lakitu: the workspace HOME/none is not there: No such file or directory (os error 2). Make it first, or name another with --workspace.
            2 lakitu: the workspace HOME/script.yaml is not a directory. Name one with --workspace.
            2 lakitu: the artifacts directory HOME/script.yaml cannot be written to: it is a file. Make it writable, or name another with --artifacts.
            2 lakitu: the workspace HOME/none is not there: No such file or directory (os error 2). Make it first, or name another with --workspace.
            2 lakitu: the data directory /proc/lakitu cannot be written to: No such file or directory (os error 2). Make it writable, or name another with --data.
            2 lakitu: the data directory HOME/script.yaml cannot be written to: it is a file. Make it writable, or name another with --data.
            2 lakitu: the data directory /proc/lakitu cannot be written to: No such file or directory (os error 2). Make it writable, or name another with --data.
            2 lakitu: the data directory HOME/script.yaml cannot be written to: it is a file. Make it writable, or name another with --data.
        "#]],
    );
}

#[test]
fn a_port_that_cannot_be_had() {
    let up = scripted(&["up", "--workspace", "HOME/workspace", "--artifacts", "HOME/artifacts"]);
    let public = ("LAKITU__API__BIND", "0.0.0.0:0");
    let envs: [&[(&str, &str)]; 4] = [
        &[public],
        &[public, ("LAKITU__API__KEY_FILE", "HOME/none")],
        &[public, ("LAKITU__API__KEY_FILE", "HOME/short")],
        &[("LAKITU__API__BIND", "192.0.2.1:1"), ("LAKITU__API__KEY_FILE", "HOME/key")],
    ];
    let files = &[("short", "short"), ("key", "01234567890123456789012345678901")];
    let ups = envs.iter().map(|env| Wrong { env, files, args: &up, ..Wrong::default() });
    let gateway = scripted(&["gateway", "--bind", "0.0.0.0:0"]);
    let gateway = [
        Wrong { args: &gateway, ..Wrong::default() },
        Wrong { args: &["gateway", "--bind", "everywhere"], ..Wrong::default() },
    ];
    all_told(
        ups.chain(gateway),
        &expect![[r#"
            2 lakitu: INVALID_CONFIG: 0.0.0.0:0 can be reached from other machines, so the key that tokens are signed with must be named: [api] key_file (`lakitu token mint --audience api --new-secret --secret-file FILE` makes one); or bind to loopback alone
            2 lakitu: INVALID_CONFIG: the secret file HOME/none cannot be read: No such file or directory (os error 2) ([api] key_file). `lakitu token mint --audience api --new-secret --secret-file HOME/none` makes a new one where there is none
            2 lakitu: INVALID_CONFIG: the secret file HOME/short has 5 bytes and must have 32 to 8192 ([api] key_file). `lakitu token mint --audience api --new-secret --secret-file HOME/short` makes a new one where there is none
            2 lakitu: INVALID_CONFIG: 192.0.2.1:1 cannot be listened on: Cannot assign requested address (os error 99). [api] bind (LAKITU__API__BIND) names another address; its port 0 is whatever is free
            2 lakitu: 0.0.0.0:0 can be reached from other machines, and no token would be checked. Name a secret with --secret-file FILE (or [gateway.server] secret_file); `lakitu token mint --new-secret --secret-file FILE` makes one. Or listen on loopback alone.
            2 error: invalid value 'everywhere' for '--bind <ADDRESS>': invalid socket address syntax
            For more information, try '--help'.
        "#]],
    );
}

#[test]
fn words_that_are_no_text() {
    let lakitu = Binary::new();
    let script = lakitu.script(&Script::new().says("Hello."));
    let broken = OsStr::from_bytes(b"\xff\xfe");
    let before = lakitu.home.files();
    let typed = lakitu.command(&["run", "--script", &script]).arg(broken).output().unwrap();
    let configured =
        lakitu.command(&["run", "hello", "--script", &script]).env("LAKITU__GATEWAY__MODEL", broken).output();
    let told: Vec<(Option<i32>, String)> = [typed, configured.unwrap()]
        .map(|ended| (ended.status.code(), String::from_utf8(ended.stderr).unwrap().lines().next().unwrap().to_owned()))
        .to_vec();
    expect![[r#"
        [
            (
                Some(
                    2,
                ),
                "error: invalid UTF-8 was detected in one or more arguments",
            ),
            (
                Some(
                    2,
                ),
                "lakitu: the variable LAKITU__GATEWAY__MODEL is not text in UTF-8",
            ),
        ]
    "#]]
    .assert_debug_eq(&told);
    // Others' variables are others' business.
    let other = lakitu.command(&["run", "hello", "--script", &script]).env("OTHER", broken).output().unwrap();
    assert!(other.status.success(), "{other:?}");
    assert_ne!(lakitu.home.files(), before);
}

#[test]
fn a_workspace_that_went_away_is_told_and_the_thread_goes_on_where_it_is_told_to() {
    let lakitu = Binary::new();
    let script =
        lakitu.script(&Script::new().calls("file_write", json!({ "path": "a", "content": "b" })).says("Done."));
    let first = lakitu.home.path().join("first");
    std::fs::create_dir(&first).unwrap();
    let at = first.display().to_string();
    let ran = lakitu.run(&["run", "go", "--script", &script, "--workspace", &at, "--max-turns", "1"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    std::fs::rename(&first, lakitu.home.path().join("second")).unwrap();
    let ran = lakitu.run(&["resume", "--script", &script]);
    expect![[r#"
        lakitu: the thread's workspace HOME/first is not there any more. Put it back, or say where it is with --workspace.
    "#]]
    .assert_eq(&ran.err.replace(&lakitu.home.path().display().to_string(), "HOME"));
    assert_eq!((ran.exit, ran.out.as_str()), (2, ""), "{ran:?}");
    let second = lakitu.home.path().join("second").display().to_string();
    let ran = lakitu.run(&["resume", "--script", &script, "--workspace", &second, "--output", "json"]);
    assert_eq!((ran.exit, &ran.object()["text"]), (0, &json!("Done.")), "{ran:?}");
}

/// Whoever is refused loses nothing: what was there is there, to the byte.
#[tokio::test]
async fn whoever_is_turned_away_leaves_what_is_there_as_it_is() {
    let lakitu = Binary::new().env("LAKITU__API__BIND", "127.0.0.1:0");
    let gate = Fifo::new(&lakitu.workspace(), "gate");
    let script = lakitu.script(&Script::new().runs("read -r _ < gate").says("Through."));
    let owner = lakitu.begin(&["run", "wait", "--script", &script, "--output", "json"]);
    let door = gate.reached().await;
    let (pid, workspace) = (owner.pid().to_string(), lakitu.workspace().display().to_string());
    // The owner writes its ballast when it finds the time.
    let ballast = lakitu.data().join("ballast");
    let files = || lakitu.home.files().into_iter().filter(|path| *path != ballast).collect::<Vec<_>>();
    let (before, database) = (files(), std::fs::read(lakitu.data().join("lakitu.redb")).unwrap());
    let second: [&[&str]; 4] =
        [&["run", "me too"], &["continue", "--last", "me too"], &["resume"], &["up", "--workspace", &workspace]];
    for args in second {
        let ran = lakitu.run(&[args, &["--script", &script]].concat());
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.lines().count()), (75, "", 1), "{args:?} {ran:?}");
        assert!(ran.err.contains(&format!("process {pid}")) && ran.err.contains("--data"), "{ran:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let ran = lakitu.run(&["gateway", "--bind", &at, "--script", &script]);
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.lines().count()), (75, "", 1), "{ran:?}");
    assert!(ran.err.contains(&at) && ran.err.contains("--bind"), "{ran:?}");
    assert_eq!(files(), before);
    assert!(std::fs::read(lakitu.data().join("lakitu.redb")).unwrap() == database, "somebody wrote into the database");
    door.open();
    let ran = owner.end();
    assert_eq!((ran.exit, &ran.object()["text"]), (0, &json!("Through.")), "{ran:?}");
}

#[test]
fn a_database_that_is_none_is_named_and_the_result_has_no_thread() {
    let lakitu = Binary::new().env("LAKITU__API__BIND", "127.0.0.1:0");
    let script = lakitu.script(&Script::new().says("Hello."));
    let database = lakitu.data().join("lakitu.redb");
    std::fs::create_dir_all(&database).unwrap();
    let workspace = lakitu.workspace().display().to_string();
    let rows: [&[&str]; 3] = [
        &["run", "hello", "--script", &script],
        &["threads", "ls"],
        &["up", "--workspace", &workspace, "--artifacts", &workspace, "--script", &script],
    ];
    for args in rows {
        let ran = lakitu.run(args);
        assert_eq!((ran.exit, ran.out.as_str()), (1, ""), "{ran:?}");
        assert!(ran.err.contains(&lakitu.data().display().to_string()) && !ran.err.contains("thr_"), "{ran:?}");
    }
    let ran = lakitu.run(&["run", "hello", "--script", &script, "--output", "json"]);
    let object = ran.object();
    let expected = json!(["failed", "STORE_FAILED", null]);
    assert_eq!((ran.exit, json!([object["status"], object["error"]["code"], object["thread"]])), (1, expected));
    assert!(database.is_dir(), "it is left as it was");
}
