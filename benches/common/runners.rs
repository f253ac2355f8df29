//! The agents that are measured side by side: how each is told to run one prompt to its end, on its own, against the
//! model on loopback, without an account, prompts, a sandbox around it, update checks or telemetry.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::children::{cpu_of_children, reap_orphans, wait_for_group};

/// How long processes that a run leaves behind may take to end by themselves.
const ORPHANS_GRACE: Duration = Duration::from_secs(5);
/// Telling one's version takes no longer.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);

/// How an agent is run. `{url}`, `{home}` and `{workspace}` stand for the model's base URL and the agent's directories.
pub(crate) struct Recipe {
    /// The command that a person would type.
    pub(crate) name: &'static str,
    /// Names of its executable.
    executables: &'static [&'static str],
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// Files in its home.
    files: &'static [(&'static str, &'static str)],
}

/// This project's own, as it comes: confined and durable.
pub(crate) const LAKITU: Recipe = Recipe {
    name: "lakitu run",
    executables: &["lakitu"],
    arguments: &[
        "run",
        "measure this",
        "--model",
        "bench",
        "--gateway",
        "{url}",
        "--workspace",
        "{workspace}",
        "--data",
        "{home}/data",
    ],
    environment: &[],
    files: &[],
};

/// The others.
pub(crate) const PEERS: [Recipe; 4] = [
    Recipe {
        name: "codex exec",
        executables: &["codex"],
        arguments: &["exec", "--dangerously-bypass-approvals-and-sandbox", "measure this"],
        environment: &[],
        // The features are those that ask GitHub and ChatGPT for something at the start.
        files: &[(
            ".codex/config.toml",
            r#"
            model = "bench"
            model_provider = "bench"
            check_for_update_on_startup = false
            [analytics]
            enabled = false
            [features]
            apps = false
            plugins = false
            remote_plugin = false
            [model_providers.bench]
            name = "bench"
            base_url = "{url}/v1"
            wire_api = "responses"
            "#,
        )],
    },
    Recipe {
        name: "goose run",
        // The second is what its npm package calls it.
        executables: &["goose", "goose-binary-linux-x64"],
        arguments: &["run", "--text", "measure this"],
        environment: &[
            ("GOOSE_PROVIDER", "openai"),
            ("GOOSE_MODEL", "bench"),
            ("OPENAI_HOST", "{url}"),
            ("OPENAI_API_KEY", "none"),
            ("GOOSE_MODE", "auto"),
            ("GOOSE_MAX_TURNS", "1000000"),
            ("GOOSE_DISABLE_KEYRING", "1"),
            ("GOOSE_TELEMETRY_OFF", "1"),
        ],
        files: &[],
    },
    Recipe {
        name: "pi -p",
        executables: &["pi"],
        arguments: &["--provider", "bench", "--model", "bench", "-p", "measure this"],
        environment: &[("PI_OFFLINE", "1"), ("PI_TELEMETRY", "0")],
        files: &[(
            ".pi/agent/models.json",
            r#"{ "providers": { "bench": {
                "baseUrl": "{url}/v1", "api": "openai-completions", "apiKey": "none", "models": [{ "id": "bench" }]
            } } }"#,
        )],
    },
    Recipe {
        name: "claude -p",
        executables: &["claude"],
        arguments: &["-p", "measure this", "--dangerously-skip-permissions"],
        environment: &[
            ("ANTHROPIC_BASE_URL", "{url}"),
            ("ANTHROPIC_API_KEY", "none"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("DISABLE_ERROR_REPORTING", "1"),
            ("DISABLE_TELEMETRY", "1"),
            // Without it root may not go without permission prompts.
            ("IS_SANDBOX", "1"),
        ],
        files: &[],
    },
];

impl Recipe {
    /// Its executable: in `first` if it is there, else on `PATH`.
    pub(crate) fn find(&self, first: Option<&Path>) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = first.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
        let candidates = folders.flat_map(|folder| self.executables.iter().map(move |name| folder.join(name)));
        candidates.into_iter().find(|candidate| candidate.is_file())
    }
}

/// An agent that can be run, in a home and a workspace of its own. It keeps them from run to run.
pub(crate) struct Runner {
    pub(crate) recipe: &'static Recipe,
    /// What it says its version is.
    pub(crate) version: String,
    executable: PathBuf,
    home: PathBuf,
    pub(crate) workspace: PathBuf,
    url: String,
}

/// One run that came to its end, or to its deadline.
pub(crate) struct Ran {
    pub(crate) spawned_at: Instant,
    /// `None`: killed at the deadline.
    pub(crate) status: Option<ExitStatus>,
    /// Its tree's.
    pub(crate) cpu: Duration,
    /// Processes that it left behind and that did not end by themselves.
    pub(crate) left: usize,
    /// What it wrote.
    pub(crate) told: String,
}

impl Runner {
    /// Makes its directories, the workspace as an empty repository of git, and asks it for its version.
    #[allow(clippy::disallowed_methods, reason = "git itself, before anything is measured")]
    pub(crate) fn new(recipe: &'static Recipe, executable: PathBuf, place: &Path, url: String) -> Result<Self> {
        let (home, workspace) = (place.join("home"), place.join("workspace"));
        fs::create_dir_all(home.join("tmp"))?;
        // A repository, so that nobody looks for one further up.
        let mut git = Command::new("git");
        let made = git.args(["init", "--quiet"]).arg(&workspace).env("HOME", &home).status().context("git")?;
        ensure!(made.success(), "git init ended with {made}");
        // Not where a link leads to: some tell by their name what to run.
        let executable = std::path::absolute(executable)?;
        let mut runner = Self { recipe, version: String::new(), executable, home, workspace, url };
        for (name, text) in recipe.files {
            let path = runner.home.join(name);
            fs::create_dir_all(path.parent().context("a file without a folder")?)?;
            fs::write(path, runner.fill(text))?;
        }
        // One that cannot even do this says what is wrong in its first session.
        let told = runner.run_telling(&["--version"], VERSION_DEADLINE).map(|ran| ran.told).unwrap_or_default();
        let version = told.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        version.unwrap_or("?").clone_into(&mut runner.version);
        Ok(runner)
    }

    /// Runs the prompt.
    pub(crate) fn run(&self, deadline: Duration) -> Result<Ran> {
        self.run_telling(self.recipe.arguments, deadline)
    }

    #[allow(clippy::disallowed_methods, reason = "the agent itself, from outside")]
    fn run_telling(&self, arguments: &[&str], deadline: Duration) -> Result<Ran> {
        let told = self.home.join("told");
        let mut command = Command::new(&self.executable);
        command
            .args(arguments.iter().map(|argument| self.fill(argument)))
            .current_dir(&self.workspace)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("TMPDIR", self.home.join("tmp"))
            .envs(self.recipe.environment.iter().map(|(name, value)| (name, self.fill(value))))
            .stdin(Stdio::null())
            .stdout(File::create(&told)?)
            .stderr(File::options().append(true).open(&told)?)
            .process_group(0);
        let cpu_before = cpu_of_children()?;
        let spawned_at = Instant::now();
        let mut child = command.spawn().with_context(|| self.executable.display().to_string())?;
        let status = wait_for_group(&mut child, deadline)?;
        let left = reap_orphans(ORPHANS_GRACE)?;
        let cpu = cpu_of_children()?.saturating_sub(cpu_before);
        let told = String::from_utf8_lossy(&fs::read(told)?).into_owned();
        Ok(Ran { spawned_at, status, cpu, left, told })
    }

    fn fill(&self, text: &str) -> String {
        let places = [("{home}", &self.home), ("{workspace}", &self.workspace)];
        let text = text.replace("{url}", &self.url);
        places.into_iter().fold(text, |text, (name, place)| text.replace(name, &place.display().to_string()))
    }
}
