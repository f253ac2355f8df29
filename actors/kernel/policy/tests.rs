//! What rules cover, and what nobody gets past them with.

use serde_json::json;

use super::*;

fn policy(text: &str) -> Policy {
    toml::from_str(text).unwrap()
}

/// What a policy says of a command: `allow`, `ask` or `deny`.
fn of(policy: &Policy, command: &str) -> &'static str {
    let call = Asked { tool: "bash", reads: false, about: About::Command(command.to_owned()) };
    said(&policy.judge(&call, false))
}

fn said(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Ask(_) => "ask",
        Verdict::Deny(_) => "deny",
    }
}

/// What no rule allows is asked about.
fn allowing(rules: &[&str]) -> Policy {
    policy(&format!("default = \"ask\"\nallow = {}", json!(rules)))
}

fn denying(rules: &[&str]) -> Policy {
    policy(&format!("deny = {}", json!(rules)))
}

#[test]
fn an_allowed_command_is_that_command_and_nothing_else() {
    let policy = allowing(&[
        "bash(git status)",
        "bash(cat[)",
        "bash(git status ])",
        "bash(git log *)",
        "bash(cargo test*)",
        "bash(grep 'a b' *)",
        "bash(cat *)",
    ]);
    let allowed = [
        "git status",
        "  git   status  ",
        "\"git\" status",
        "git \\status",
        "git log",
        "git log --oneline -5",
        "git log -- 'a;b' \"c|d\"",
        "cargo test",
        "cargo tests",
        "cargo test --workspace 2>&1 | cat",
        "cargo test -p 'a b' > /dev/null 2>&1",
        "cargo test &>/dev/null",
        "cargo test 2>&- 3>&12",
        "git status && git log -1; cargo test\ngit status",
        "git status |& cat -n",
        "git log & git status",
        "grep 'a b' src/*.rs",
        "grep \"a b\" x",
        "cat '$HOME'",
        "cat \"a\\$b\" \"c\\d\"",
        "cat #x".trim_end_matches("#x"),
    ];
    for command in allowed {
        assert_eq!(of(&policy, command), "allow", "{command:?}");
    }
    let not_allowed = [
        "",
        "git",
        "git stash",
        "git statusx",
        "GIT status",
        "git status .",
        "xgit status",
        "git logx",
        "grep a b x",
        "git status; rm -rf x",
        "git status && rm -rf x",
        "git status || rm -rf x",
        "git status | sh",
        "git status |& sh",
        "git status & rm -rf x",
        "git status\nrm -rf x",
        "git status\r\nrm -rf x",
        "rm -rf x; git status",
        "git log $(rm -rf x)",
        "git log `rm -rf x`",
        "git log \"$(rm -rf x)\"",
        "git log \"`rm -rf x`\"",
        "git log <(rm -rf x)",
        "git log >(sh)",
        "git log > ~/.bashrc",
        "git log >> x",
        "git log >| x",
        "git log >&x",
        "git log &> x",
        "git log 2> x",
        "git log 2>&1x",
        "git log >&-1",
        "git log >&--",
        "git log 2>&1-",
        "git log > /dev/nullx",
        "git log > /dev/null/x",
        "cat < /etc/passwd",
        "cat <<E\nx\nE",
        "cat <<< x",
        "cat $HOME",
        "cat ${IFS}x",
        "cat \"$HOME\"",
        "cat $'a\\'; rm x'",
        "cat {a,b}",
        "cat a\\\nb",
        "cat 'a",
        "cat \"a",
        "cat a\\",
        "(git status)",
        "{ git status; }",
        "! git status",
        "time git status",
        "if git status; then git log; fi",
        "git() { rm -rf x; }; git status",
        "PATH=. git status",
        "A+=x git status",
        "A='x y' git status",
        "A=\"x\" git status",
        "a[1]=x git status",
        "git status # rm",
        "git status ;; git log",
        "; git status",
        "| git status",
        "cat \u{0}",
        "cat \u{1b}[2J",
    ];
    for command in not_allowed {
        assert_eq!(of(&policy, command), "ask", "{command:?}");
    }
    // What a shell reads as a part of an assignment is no command's name.
    for command in ["A='x y' git status", "A=\"x\" git", "cat[ ; git status ]", "a[1]=x", "a+=(x)"] {
        assert_eq!(shell::plain(command), None, "{command:?}");
    }
    // A rule without a pattern, or with one that is everything, is everything.
    for all in ["bash", "bash(*)", "*", "ba*"] {
        assert_eq!(of(&allowing(&[all]), "git log $(rm -rf x) > y"), "allow", "{all}");
    }
    assert_eq!(of(&allowing(&["file_*", "bash_*"]), "git status"), "ask");
}

#[test]
fn a_denied_command_is_found_wherever_a_shell_would_find_it() {
    let policy = denying(&["bash(rm *)", "bash(git push*)", "bash(*--no-verify*)", "bash(shutdown)"]);
    let denied = [
        "rm",
        "rm -rf x",
        "  rm\t-rf x",
        "true; rm x",
        "true && rm x",
        "true || rm x",
        "true | rm x",
        "true & rm x",
        "true\nrm x",
        "(rm x)",
        "{ rm x; }",
        "echo $(rm x)",
        "echo `rm x`",
        "echo \"$(rm x)\"",
        "cat <(rm x)",
        "if rm x; then :; fi",
        "if true; then rm x; fi",
        "while rm x; do :; done",
        "! rm x",
        "A=1 B=2 rm x",
        "2>/dev/null rm x",
        "/bin/rm x",
        "../../bin/rm x",
        "\\rm x",
        "'rm' x",
        "r''m x",
        "r\"\"m x",
        "$'rm' x",
        "r\\\nm x",
        "sudo rm x",
        "sudo -u root rm x",
        "sudo /bin/rm x",
        "env -i A=1 rm x",
        "timeout 5 rm x",
        "nice -n 5 nohup rm x",
        "xargs -0 rm x",
        "find . -exec rm {} +",
        "find . -name a -exec rm -f {} \\;",
        "bash -c 'rm x'",
        "sh -c \"true; rm x\"",
        "eval rm x",
        "exec rm x",
        "ssh host rm x",
        "f() { rm x; }; f",
        "git push",
        "git push --force",
        "cd a && git push",
        "git commit --no-verify -m x",
        "shutdown",
        "sudo shutdown",
    ];
    for command in denied {
        assert_eq!(of(&policy, command), "deny", "{command:?}");
    }
    for command in
        ["git rm x", "npm rm x", "rmdir x", "docker run --rm x", "echo rm x", "git pull", "shutdown -c", "firm x"]
    {
        assert_eq!(of(&policy, command), "allow", "{command:?}");
    }
}

#[test]
fn deny_goes_before_ask_and_ask_before_allow() {
    let policy = policy(
        "deny = [\"bash(git push --force*)\"]\nask = [\"bash(git push *)\", \"file_write\"]\nallow = [\"bash(git *)\"]\ndefault = \"deny\"",
    );
    assert_eq!(of(&policy, "git push --force origin"), "deny");
    assert_eq!(of(&policy, "git push origin"), "ask");
    assert_eq!(of(&policy, "git fetch"), "allow");
    assert_eq!(of(&policy, "make"), "deny");
    let read = Asked { tool: "file_read", reads: true, about: About::Paths(vec![vec!["a".into()]]) };
    assert_eq!(said(&policy.judge(&read, true)), "allow", "what changes nothing needs no rule");
    let Verdict::Ask(why) = policy.judge(&Asked { tool: "file_write", reads: false, ..read.clone() }, false) else {
        panic!("it is asked about")
    };
    assert_eq!(why, "the rule `file_write`");
    let none = Policy::default();
    assert!(none.is_empty() && !policy.is_empty());
    assert_eq!(said(&none.judge(&Asked { reads: false, ..read.clone() }, false)), "allow");
    assert_eq!(said(&none.judge(&Asked { reads: false, ..read.clone() }, true)), "ask");
    assert_eq!(said(&none.judge(&read, true)), "allow");
}

#[test]
fn a_path_is_covered_under_any_of_its_names_and_allowed_under_all_of_them() {
    let edit = |paths: &[&[&str]]| Asked {
        tool: "file_edit",
        reads: false,
        about: About::Paths(paths.iter().map(|names| names.iter().map(ToString::to_string).collect()).collect()),
    };
    let deny = |rule: &str, names: &[&str]| said(&denying(&[rule]).judge(&edit(&[names]), false)) == "deny";
    let rows = [
        ("file_edit(.env)", ".env", true),
        ("file_edit(.env)", "a/b/.env", true),
        ("file_edit(.env)", "a/.env.example", false),
        ("file_edit(secrets)", "secrets/a/b", true),
        ("file_edit(secrets/)", "a/secrets/b", true),
        ("file_edit(./secrets/**)", "secrets/a", true),
        ("file_edit(secrets/**)", "a/secrets/b", false),
        ("file_edit(src/*.rs)", "src/a.rs", true),
        ("file_edit(src/*.rs)", "src/a/b.rs", false),
        ("file_edit(src/**/*.rs)", "src/a/b.rs", true),
        ("file_edit(*.{key,pem})", "a/b.pem", true),
        ("file_edit(/etc/**)", "/etc/passwd", true),
        ("file_edit(/etc)", "/etc/ssl/a", true),
        ("file_edit(etc)", "/etc/passwd", true),
        ("file_*(a)", "a", true),
        ("file_write(a)", "a", false),
        ("file_edit(.)", "", true),
        ("file_edit(.)", "a", false),
    ];
    for (rule, name, covered) in rows {
        assert_eq!(deny(rule, &[name]), covered, "{rule} of {name}");
    }
    // `link` leads to `secrets`.
    assert!(deny("file_edit(secrets/**)", &["link/a", "secrets/a"]));
    let policy = allowing(&["file_edit(src/**)", "file_edit(docs/**)"]);
    for (paths, expected) in [
        ([["src/a"].as_slice()].as_slice(), "allow"),
        (&[&["src/a"], &["docs/b"]], "allow"),
        (&[&["src/a"], &["x"]], "ask"),
        (&[&["src/link", "x"]], "ask"),
        (&[&["src/link", "docs/x"]], "allow"),
        (&[], "ask"),
    ] {
        assert_eq!(said(&policy.judge(&edit(paths), false)), expected, "{paths:?}");
    }
}

#[test]
fn a_rule_that_could_mean_nothing_is_refused_with_its_key() {
    use crate::tool::{Arguments, Category, EffectClass, ToolSpec};
    #[derive(Debug, serde::Serialize, Deserialize, schemars::JsonSchema)]
    struct None {}
    impl Arguments for None {}
    const fn tool(name: &'static str, subject: Subject) -> ToolSpec {
        ToolSpec::of::<None>(name, "", EffectClass::Detached, Category::Bash).on(subject)
    }
    static TOOLS: [ToolSpec; 3] =
        [tool("bash", Subject::Command), tool("bash_kill", Subject::Nothing), tool("file_read", Subject::Path)];
    let told = |text: &str| match toml::from_str::<Policy>(text) {
        Ok(policy) => policy.check(&Catalogue(&TOOLS)).map_or_else(|error| error.to_string(), |()| "fine".to_owned()),
        Err(error) => error.message().to_owned(),
    };
    let rows = [
        "allow = [\"bash(git log *)\", \"bash*\", \"file_read(src/**)\"]\ndeny = [\"bash(*|*sh)\", \"*(.env)\"]",
        "deny = [\"bsh\"]",
        "deny = [\"bash(\"]",
        "deny = [\"bash(rm\"]",
        "deny = [\"bash()\"]",
        "deny = [\"(rm)\"]",
        "deny = [\"ba sh\"]",
        "deny = [\"bash_kill(x)\"]",
        "deny = [\"file_read(../x)\"]",
        "ask = [\"file_read({a)\"]",
        "allow = [\"bash(a; b)\"]",
        "allow = [\"bash(echo $HOME)\"]",
        "alow = []",
        "default = \"no\"",
    ];
    expect_test::expect![[r#"
        fine
        INVALID_CONFIG: policy.deny: the rule `bsh` names no tool; there are bash, bash_kill, file_read
        the rule "bash(" does not end with `)`; rules are `TOOL` or `TOOL(PATTERN)`
        the rule "bash(rm" does not end with `)`; rules are `TOOL` or `TOOL(PATTERN)`
        the rule "bash()" has an empty pattern; rules are `TOOL` or `TOOL(PATTERN)`
        the rule "(rm)" does not begin with a tool's name; rules are `TOOL` or `TOOL(PATTERN)`
        the rule "ba sh" does not begin with a tool's name; rules are `TOOL` or `TOOL(PATTERN)`
        INVALID_CONFIG: policy.deny: the rule `bash_kill(x)` has a pattern, and its tool has neither a command nor a path: leave the pattern out
        INVALID_CONFIG: policy.deny: the rule `file_read(../x)` has a pattern that is no path: no `..`, and brackets and braces closed
        INVALID_CONFIG: policy.ask: the rule `file_read({a)` has a pattern that is no path: no `..`, and brackets and braces closed
        INVALID_CONFIG: policy.allow: the rule `bash(a; b)` allows nothing: an allowed command is one without `;`, `|`, `$`, redirections and the like
        INVALID_CONFIG: policy.allow: the rule `bash(echo $HOME)` allows nothing: an allowed command is one without `;`, `|`, `$`, redirections and the like
        unknown field `alow`, expected one of `allow`, `ask`, `deny`, `default`
        unknown variant `no`, expected one of `allow`, `ask`, `deny`"#]].assert_eq(&rows.map(told).join("\n"));
}

#[test]
fn a_rule_at_its_limit_is_taken_and_one_byte_more_is_not() {
    let rule = |bytes: usize| Rule::try_from(format!("bash({})", "x".repeat(bytes - "bash()".len())));
    assert!(rule(RULE_BYTES_MAX).is_ok());
    assert!(rule(RULE_BYTES_MAX + 1).unwrap_err().contains("is too long"));
}

#[test]
fn the_longest_command_is_judged_in_no_time() {
    let policy = denying(&["bash(rm * never)", "bash(*a*a*a*a*never)", "bash(sudo * x * y * z never)"]);
    let commands = ["rm ".repeat(43_000), "sudo x y z ".repeat(12_000), "a".repeat(130_000), "a;".repeat(65_000)];
    let began = std::time::Instant::now();
    for command in &commands {
        assert_eq!(of(&policy, command), "allow");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 2048, ..Default::default() })]

    /// What is not plain at its beginning does not become plain by what is put behind it, and what is plain runs nothing
    /// but its commands: a list of plain commands is the lists of its parts.
    #[test]
    fn a_list_is_plain_where_its_parts_are(
        parts in proptest::collection::vec("[a-c$`'\"\\\\<>(){}#=! *]{0,8}", 1..4),
        between in proptest::sample::select(vec![";", "&&", "||", "|", "\n", "&"]),
    ) {
        let whole = shell::plain(&parts.join(between));
        let each: Option<Vec<_>> = parts.iter().map(|part| shell::plain(part)).collect();
        if let Some(each) = each {
            proptest::prop_assert_eq!(whole, Some(each.concat()));
        } else if let Some(whole) = whole {
            // What is quoted at the end of one part may go on in the next; empty parts are nothing.
            let quotes = |part: &String| part.contains(['\'', '"', '\\']) || part.trim().is_empty();
            proptest::prop_assert!(parts.iter().any(quotes), "{whole:?}");
        }
    }
}
