//! The beginning of every request of a thread: what the agent is, where and how it works, what its repository asks of
//! it, what it may call. Rendered once, at the thread's start: later turns only add to it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use lakitu_kernel::chat;
use lakitu_kernel::event::Settings;
use lakitu_kernel::mode::Mode;
use lakitu_kernel::tool::Catalogue;
use tokio::time::timeout;

/// What a repository tells agents (<https://agents.md>).
const FILE: &str = "AGENTS.md";
/// What is taken of it: 32 KiB.
const BYTES_MAX: u64 = 32 * 1024;
/// Directories that are looked into for further ones, so deep, and so many of them are named: a start must not wait for
/// a large tree.
const DIRECTORIES_MAX: usize = 128;
const DEPTH_MAX: usize = 3;
const NAMED_MAX: usize = 20;
/// A disk that does not answer keeps nobody from starting.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Where nobody writes instructions for this repository.
const SKIPPED: [&str; 4] = ["node_modules", "target", "vendor", "dist"];

/// What a repository asks of agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instructions {
    /// The file at its root.
    text: String,
    /// Whether more stood there.
    cut: bool,
    /// Further ones below it, by path.
    nested: Vec<PathBuf>,
}

impl Instructions {
    /// Reads them. What is not there or cannot be read asks for nothing.
    pub fn read(workspace: &Path) -> Self {
        // A link or a pipe in its place is not followed and not waited for.
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let opened = fs::File::options().read(true).custom_flags(flags.cast_signed()).open(workspace.join(FILE));
        let file = opened.ok().filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
        let mut bytes = Vec::new();
        let read = file.is_some_and(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes).is_ok());
        let cut = bytes.len() as u64 > BYTES_MAX;
        bytes.truncate(if read { usize::try_from(BYTES_MAX).unwrap_or(usize::MAX) } else { 0 });
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        Self { text, cut, nested: nested(workspace) }
    }

    fn render(&self) -> String {
        let mut out = String::new();
        if !self.text.is_empty() {
            out.push_str("\n\nWhat this repository asks of you (AGENTS.md):\n\n");
            out.push_str(&self.text);
            if self.cut {
                out.push_str("\n[the rest was left out; read AGENTS.md for it]");
            }
        }
        if !self.nested.is_empty() {
            let names: Vec<String> = self.nested.iter().map(|path| path.display().to_string()).collect();
            out.push_str("\n\nBefore you change something below one of these directories, read its AGENTS.md: ");
            out.push_str(&names.join(", "));
        }
        out
    }
}

/// Further files below the root, by path, nearest first.
fn nested(workspace: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = std::collections::VecDeque::from([(PathBuf::new(), 0)]);
    let mut looked = 0;
    while let Some((directory, depth)) = left.pop_front() {
        looked += 1;
        let Ok(entries) = fs::read_dir(workspace.join(&directory)) else { continue };
        let mut below = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < DEPTH_MAX && !name.starts_with('.') && !SKIPPED.contains(&name) {
                below.push((directory.join(name), depth + 1));
            } else if kind.is_file() && name == FILE && depth > 0 {
                found.push(directory.join(name));
            }
        }
        below.sort();
        left.extend(below.into_iter().take(DIRECTORIES_MAX.saturating_sub(looked + left.len())));
    }
    found.truncate(NAMED_MAX);
    found
}

/// The beginning of every request, with what stands in the repository now.
pub async fn prefix(settings: &Settings, boundary: &str, tools: Catalogue) -> Bytes {
    let workspace = settings.workspace.clone();
    let reading = crate::blocking::spawn_blocking(move || Instructions::read(&workspace));
    let read = timeout(READ_WITHIN, reading).await.map_or_else(|_| Instructions::default(), Result::unwrap_or_default);
    render(settings, boundary, tools, &read)
}

/// The same with these instructions.
pub fn render(settings: &Settings, boundary: &str, tools: Catalogue, instructions: &Instructions) -> Bytes {
    let mode = match settings.mode {
        Mode::Plan => include_str!("../../config/prompts/modes/plan.md"),
        Mode::Build => include_str!("../../config/prompts/modes/build.md"),
        Mode::Review => include_str!("../../config/prompts/modes/review.md"),
        Mode::Debug => include_str!("../../config/prompts/modes/debug.md"),
        Mode::Explore => include_str!("../../config/prompts/modes/explore.md"),
    };
    let mut system = include_str!("../../config/prompts/system.md")
        .replace("{workspace}", &settings.workspace.display().to_string())
        .replace("{artifacts}", &settings.artifacts.display().to_string())
        .replace("{boundary}", boundary);
    system.push('\n');
    system.push_str(mode.trim_end());
    system.push_str(&instructions.render());
    chat::prefix(&settings.model, &system, tools.of(settings.mode))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_repository_says_what_it_asks_for_at_its_root_and_where_more_stands() {
        let place = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Instructions::read(place.path()).render(), "");
        write("AGENTS.md", "\nUse tabs.\n");
        for nested in
            ["b/AGENTS.md", "a/x/AGENTS.md", "a/x/y/z/AGENTS.md", "node_modules/p/AGENTS.md", ".git/AGENTS.md"]
        {
            write(nested, "deeper");
        }
        expect![[r#"


            What this repository asks of you (AGENTS.md):

            Use tabs.

            Before you change something below one of these directories, read its AGENTS.md: b/AGENTS.md, a/x/AGENTS.md"#]]
        .assert_eq(&Instructions::read(place.path()).render());
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_is_no_file_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let limit = usize::try_from(BYTES_MAX).unwrap();
        fs::write(place.path().join(FILE), "x".repeat(limit)).unwrap();
        assert!(!Instructions::read(place.path()).cut);
        fs::write(place.path().join(FILE), "x".repeat(limit + 1)).unwrap();
        let cut = Instructions::read(place.path());
        assert!(cut.cut && cut.text.len() == limit && cut.render().ends_with("read AGENTS.md for it]"));
        fs::remove_file(place.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", place.path().join(FILE)).unwrap();
        assert_eq!(Instructions::read(place.path()), Instructions::default());
        for n in 0..DIRECTORIES_MAX * 2 {
            fs::create_dir(place.path().join(format!("d{n}"))).unwrap();
            fs::write(place.path().join(format!("d{n}/AGENTS.md")), "").unwrap();
        }
        assert_eq!(Instructions::read(place.path()).nested.len(), NAMED_MAX);
    }
}
