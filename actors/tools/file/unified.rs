//! A change as a unified diff that `patch -p1` and `git apply` take: whole, byte for byte. Only from the bytes before and
//! after.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use lakitu_kernel::edit::FileKind;
use similar::group_diff_ops;

use super::diff::{CONTEXT_LINES, changes, is_equal, lines, range};

/// The mode by which git knows a link.
const LINK_MODE: &str = "120000";

/// What stands on one side: of which kind, permission bits and bytes.
pub type Side<'a> = Option<(FileKind, u32, &'a [u8])>;

/// The diff of one path, which is relative; nothing where both sides are the same, but for permissions that no diff knows, and
/// nothing of directories, which no diff knows at all. What is of another kind is removed and made, as git has it.
pub fn unified(path: &Path, before: Side<'_>, after: Side<'_>) -> Vec<u8> {
    let (before, after) = (told(before), told(after));
    let is_link = |side: Told<'_>| side.is_some_and(|(mode, _)| mode == LINK_MODE);
    if before.is_some() && after.is_some() && is_link(before) != is_link(after) {
        return [one(path, before, None), one(path, None, after)].concat();
    }
    one(path, before, after)
}

/// A side as git knows it.
type Told<'a> = Option<(&'static str, &'a [u8])>;

fn told(side: Side<'_>) -> Told<'_> {
    match side {
        Some((FileKind::Directory, ..)) | None => None,
        Some((kind @ (FileKind::File | FileKind::Link), mode, bytes)) => Some((git_mode(kind, mode), bytes)),
    }
}

fn one(path: &Path, before: Told<'_>, after: Told<'_>) -> Vec<u8> {
    let known = |side: Told<'_>| side.map(|(mode, _)| mode);
    if bytes(before) == bytes(after) && known(before) == known(after) {
        return Vec::new();
    }
    let (old, new) = (quoted("a/", path), quoted("b/", path));
    let mode = match (before, after) {
        (None, Some((mode, _))) => format!("new file mode {mode}\n"),
        (Some((mode, _)), None) => format!("deleted file mode {mode}\n"),
        (Some((before, _)), Some((after, _))) if before != after => {
            format!("old mode {before}\nnew mode {after}\n")
        }
        (Some(_) | None, _) => String::new(),
    };
    let mut out = format!("diff --git {old} {new}\n{mode}").into_bytes();
    let (before_bytes, after_bytes) = (bytes(before), bytes(after));
    if before_bytes == after_bytes {
        return out;
    }
    let name = |side: Told<'_>, name: &str| if side.is_some() { tabbed(name) } else { "/dev/null".to_owned() };
    let (old, new) = (name(before, &old), name(after, &new));
    if [before_bytes, after_bytes].iter().any(|bytes| bytes.contains(&0)) {
        out.extend(format!("Binary files {old} and {new} differ\n").bytes());
        return out;
    }
    out.extend(format!("--- {old}\n+++ {new}\n").bytes());
    let (before, after) = (lines(before_bytes), lines(after_bytes));
    for group in group_diff_ops(changes(&before, &after), CONTEXT_LINES) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let old = range(first.old_range().start, last.old_range().end);
        let new = range(first.new_range().start, last.new_range().end);
        out.extend(format!("@@ -{old} +{new} @@\n").bytes());
        for op in &group {
            let equal = is_equal(op);
            let sign = if equal { b' ' } else { b'-' };
            before.get(op.old_range()).unwrap_or_default().iter().for_each(|text| line(&mut out, sign, text));
            if !equal {
                after.get(op.new_range()).unwrap_or_default().iter().for_each(|text| line(&mut out, b'+', text));
            }
        }
    }
    out
}

fn bytes(side: Told<'_>) -> &[u8] {
    side.map_or(&[][..], |(_, bytes)| bytes)
}

fn line(out: &mut Vec<u8>, sign: u8, text: &[u8]) {
    out.push(sign);
    out.extend_from_slice(text);
    if !text.ends_with(b"\n") {
        out.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

/// As git writes the mode of a file: it knows whether it may be executed, and nothing else.
fn git_mode(kind: FileKind, mode: u32) -> &'static str {
    match kind {
        FileKind::Link => LINK_MODE,
        FileKind::File | FileKind::Directory if mode & 0o111 == 0 => "100644",
        FileKind::File | FileKind::Directory => "100755",
    }
}

/// A name with a space in it ends with a tab, so that nobody takes the rest for a time.
fn tabbed(name: &str) -> String {
    if name.contains(' ') && !name.starts_with('"') { format!("{name}\t") } else { name.to_owned() }
}

/// The name as git quotes it, where it has to be.
fn quoted(prefix: &str, path: &Path) -> String {
    let path = path.as_os_str().as_bytes();
    let plain =
        path.iter().copied().all(|byte| !byte.is_ascii_control() && byte != b'"' && byte != b'\\' && byte < 0x80);
    if plain {
        return format!("{prefix}{}", String::from_utf8_lossy(path));
    }
    let escaped = path.iter().copied().map(|byte| match byte {
        b'"' => "\\\"".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        byte if byte.is_ascii_control() || byte >= 0x80 => format!("\\{byte:03o}"),
        byte => char::from(byte).to_string(),
    });
    format!("\"{prefix}{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    fn stands(directory: &Path, name: &str) -> Option<(bool, Vec<u8>)> {
        let path = directory.join(name);
        let bytes = std::fs::read(&path).ok()?;
        Some((path.metadata().unwrap().permissions().mode() & 0o100 != 0, bytes))
    }

    /// What a tool makes of the version before, given the diff.
    #[expect(clippy::disallowed_methods, reason = "those that a person would use")]
    fn applied(tool: &[&str], name: &str, before: Option<(u32, &[u8])>, diff: &[u8]) -> Option<(bool, Vec<u8>)> {
        let directory = tempfile::tempdir().unwrap();
        if let Some((mode, bytes)) = before {
            std::fs::write(directory.path().join(name), bytes).unwrap();
            std::fs::set_permissions(directory.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::write(directory.path().join("the.diff"), diff).unwrap();
        let stdin = std::fs::File::open(directory.path().join("the.diff")).unwrap();
        let ran = Command::new(tool[0])
            .args(&tool[1..])
            .current_dir(directory.path())
            .env_remove("GIT_DIR")
            .stdin(Stdio::from(stdin))
            .output()
            .unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        assert!(
            ran.status.success(),
            "{tool:?}: {}\n{}",
            String::from_utf8_lossy(&said),
            String::from_utf8_lossy(diff)
        );
        stands(directory.path(), name)
    }

    fn file(side: Option<(u32, &[u8])>) -> Side<'_> {
        side.map(|(mode, bytes)| (FileKind::File, mode, bytes))
    }

    const PATCH: [&str; 3] = ["patch", "-p1", "--force"];
    const GIT: [&str; 3] = ["git", "apply", "-"];

    #[track_caller]
    fn both_make_it(name: &str, before: Option<(u32, &[u8])>, after: Option<(u32, &[u8])>) {
        let diff = unified(Path::new(name), file(before), file(after));
        if diff.is_empty() {
            return;
        }
        let expected = after.map(|(mode, bytes)| (mode & 0o100 != 0, bytes.to_vec()));
        assert_eq!(applied(&PATCH, name, before, &diff), expected, "patch\n{}", String::from_utf8_lossy(&diff));
        assert_eq!(applied(&GIT, name, before, &diff), expected, "git apply\n{}", String::from_utf8_lossy(&diff));
    }

    #[test]
    fn patch_and_git_apply_make_the_version_after_of_the_one_before() {
        let versions: [&[u8]; 12] = [
            b"",
            b"a\n",
            b"a",
            b"a\r\nb\r\n",
            b"a\nb\r\n",
            b"\xef\xbb\xbfa\nb\n",
            b"caf\xe9\nb\n",
            b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
            b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\ntwelve",
            b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
            b"\n\n\n",
            b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n",
        ];
        for before in versions {
            both_make_it("x", None, Some((0o644, before)));
            both_make_it("x", Some((0o755, before)), None);
            for after in versions {
                both_make_it("x", Some((0o644, before)), Some((0o644, after)));
            }
        }
        both_make_it("x", Some((0o644, b"a\n")), Some((0o755, b"a\n")));
        assert_eq!(unified(Path::new("x"), file(Some((0o644, b"a\n"))), file(Some((0o600, b"a\n")))), b"");
        both_make_it("x", Some((0o755, b"a\n")), Some((0o644, b"b\n")));
        for name in ["with space", "quo\"te", "tab\there", "caf\u{e9}", "-rf", "back\\slash"] {
            both_make_it(name, Some((0o644, b"a\nb\n")), Some((0o644, b"b\n")));
            both_make_it(name, None, Some((0o644, b"b\n")));
        }
    }

    #[test]
    fn what_is_no_text_is_said_to_be_none() {
        let told = unified(Path::new("x"), file(Some((0o644, b"a\0b"))), file(Some((0o644, b"a\0c"))));
        assert_eq!(String::from_utf8(told).unwrap(), "diff --git a/x b/x\nBinary files a/x and b/x differ\n");
        assert_eq!(unified(Path::new("x"), file(Some((0o644, b"a\0b"))), file(Some((0o644, b"a\0b")))), b"");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn patch_makes_any_version_of_any_other(
            before in "([ab]?(\r?\n)?){0,24}",
            after in "([ab]?(\r?\n)?){0,24}",
        ) {
            both_make_it("x", Some((0o644, before.as_bytes())), Some((0o644, after.as_bytes())));
        }
    }
}
