//! The environment of commands: an allow-list of the runtime's own, so that no credential gets in by being forgotten.

/// Variables that commands see as the runtime does.
const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_DIST_SERVER",
    "RUSTUP_UPDATE_ROOT",
    "GOPATH",
    "GOROOT",
    "GOBIN",
    "GOCACHE",
    "GOMODCACHE",
    "GOPROXY",
    "GOSUMDB",
    "GOFLAGS",
    "GOTOOLCHAIN",
    "JAVA_HOME",
    "MAVEN_HOME",
    "GRADLE_HOME",
    "GRADLE_USER_HOME",
    "NVM_DIR",
    "NVM_BIN",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_REGISTRY",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_CACHE",
    "YARN_CACHE_FOLDER",
    "BUN_INSTALL",
    "PNPM_HOME",
    "COREPACK_HOME",
    "PYENV_ROOT",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_CACHE_DIR",
    "RBENV_ROOT",
    "GEM_HOME",
    "GEM_PATH",
    "BUNDLE_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Families of them.
const ALLOWED_PREFIXES: &[&str] = &["LC_", "XDG_"];

/// A name with one of these in it is out, whatever the lists say.
const CREDENTIALS: &[&str] = &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH", "COOKIE"];

/// What every command sees: no terminal, no pager, no colour, no question that nobody answers.
const FIXED: &[(&str, &str)] = &[
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("GIT_PAGER", "cat"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("NO_COLOR", "1"),
    ("PAGER", "cat"),
    ("TERM", "dumb"),
];

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of commands, sorted by name, from the runtime's.
pub(super) fn of_commands(runtime: &[(String, String)]) -> Vec<(String, String)> {
    let fixed = FIXED.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut env: Vec<_> =
        runtime.iter().filter(|(name, value)| is_allowed(name, value)).cloned().chain(fixed).collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".to_owned(), PATH_DEFAULT.to_owned()));
    }
    env.sort();
    env.dedup_by(|later, earlier| later.0 == earlier.0);
    env
}

fn is_allowed(name: &str, value: &str) -> bool {
    // Lower case is how npm and the proxies' variables are spelled as well.
    let upper = name.to_ascii_uppercase();
    let fixed = FIXED.iter().any(|(fixed, _)| *fixed == name);
    let listed = ALLOWED.contains(&name)
        || (ALLOWED.contains(&upper.as_str()) && (upper.ends_with("_PROXY") || upper.starts_with("NPM_CONFIG_")))
        || ALLOWED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    listed && !fixed && !CREDENTIALS.iter().any(|word| upper.contains(word)) && !holds_login(value)
}

/// `https://user:password@host/`, anywhere in a list of addresses.
fn holds_login(value: &str) -> bool {
    value.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ', ',']).next().unwrap_or(rest);
        authority.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn commands_see_what_they_need_and_no_credential() {
        let runtime = [
            ("PATH", "/usr/bin"),
            ("HOME", "/home/user"),
            ("LC_ALL", "C.UTF-8"),
            ("XDG_CACHE_HOME", "/c"),
            ("XDG_AUTH_TOKEN", "t"),
            ("TERM", "xterm-256color"),
            ("PAGER", "less"),
            ("OPENAI_API_KEY", "sk-1"),
            ("LAKITU_TOKEN", "jwt"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
            ("LD_PRELOAD", "/tmp/x.so"),
            ("BASH_ENV", "/workspace/.env"),
            ("PROMPT_COMMAND", "id"),
            ("npm_config_registry", "https://registry.example/"),
            ("npm_config__authToken", "t"),
            ("PIP_INDEX_URL", "https://user:pass@pypi.example/simple"),
            ("GOPROXY", "https://proxy.example,https://u:p@other.example,direct"),
            ("https_proxy", "http://proxy:3128"),
            ("HTTPS_PROXY", "http://me:pw@proxy:3128"),
            ("path", "lower"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let lines: Vec<_> = of_commands(&runtime).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect![[r"
            DEBIAN_FRONTEND=noninteractive
            GIT_PAGER=cat
            GIT_TERMINAL_PROMPT=0
            HOME=/home/user
            LC_ALL=C.UTF-8
            NO_COLOR=1
            PAGER=cat
            PATH=/usr/bin
            TERM=dumb
            XDG_CACHE_HOME=/c
            https_proxy=http://proxy:3128
            npm_config_registry=https://registry.example/"]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn there_is_always_a_path() {
        assert!(of_commands(&[]).contains(&("PATH".to_owned(), PATH_DEFAULT.to_owned())));
    }
}
