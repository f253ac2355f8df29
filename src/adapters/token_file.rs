//! The file of a session's token: replaced while commands run, and never seen by one.
//!
//! A keeper hides files and directories by mounts, and a mount on a file ends when another file is put in its place: a
//! moment before that, so that even the old one can be read. So a new token is written into a directory of its own beside
//! the file, which is hidden as a whole; the file becomes a link into that, by an exchange of the two, which ends no mount.
//!
//! **Invariant:** a new token stands nowhere but in that directory, which was made, and opened, before a command ran.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid};

use super::http;
use super::secret::{Secret, TOKEN_BYTES_MAX};

/// The token in its directory.
const TOKEN: &str = "token";
/// What will take its place, and the link that will take the file's.
const NEXT: &str = "next";
const LINK: &str = "link";

/// A token's file.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    /// None: it is only read.
    own: Option<Arc<Own>>,
}

/// The directory that commands do not see. Whatever they do to its path, these stay what they are.
#[derive(Debug)]
struct Own {
    /// Where the file is.
    folder: OwnedFd,
    file: OsString,
    hidden: OwnedFd,
    name: OsString,
}

/// What commands must not see of a token's file.
#[derive(Debug, PartialEq, Eq)]
pub struct Cover {
    /// The file, its own directory, and the one it is in, if that may be hidden.
    pub paths: Vec<PathBuf>,
    /// Whether nothing is seen of it however it is replaced, by whomever: the directory that it is in is its alone.
    pub whole: bool,
}

impl Cover {
    /// Looks at where the file is, and changes nothing. `needed`: what commands must see.
    pub fn of(path: &Path, needed: &[PathBuf]) -> Self {
        let Some((folder, name)) = place(path) else { return Self { paths: vec![path.to_owned()], whole: false } };
        // Temporary files of whoever replaces it, and what Kubernetes keeps such a file in.
        let hidden = format!(".{name}");
        let beside = |other: &str| other == name || other.starts_with(&hidden) || other.starts_with("..");
        let alone = fs::read_dir(&folder).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(beside)))
        });
        let whole = alone && folder.parent().is_some() && !needed.iter().any(|path| path.starts_with(&folder));
        let mut paths = vec![path.to_owned(), folder.join(own_name(&name))];
        if whole {
            paths.push(folder);
        }
        Self { paths, whole }
    }
}

impl TokenFile {
    /// Makes the directory beside it in which it can be replaced, where there is something to be replaced: a session's
    /// token, or one that is still to come. To be called before a command runs. Where it cannot be made, a new token is
    /// not written down.
    pub fn prepare(path: &Path) {
        let is_session = match fs::metadata(path) {
            Ok(_) => read(path).is_ok_and(|token| http::is_session(&token)),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if let Some((folder, name)) = place(path).filter(|_| is_session) {
            // Others may read the file by its name, if its own mode lets them.
            let mode = Mode::RWXU | Mode::XGRP | Mode::XOTH;
            let _ = rustix::fs::mkdirat(CWD, folder.join(own_name(&name)), mode);
        }
    }

    /// The file as it is found now.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), own: Own::open(path).ok().map(Arc::new) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a token in another's place: whoever reads the file finds the one or the other, whole. Where somebody else put
    /// one there meanwhile, that one stays.
    pub fn replace(&self, old: &Secret, new: &Secret) -> io::Result<()> {
        let Some(own) = &self.own else {
            let why = "there is no directory beside it that commands do not see";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        // Another runtime may be at it.
        rustix::fs::flock(&own.hidden, FlockOperation::NonBlockingLockExclusive)?;
        let replaced = match read(&self.path) {
            Ok(found) if found == *old => own.put(&self.path, new),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        rustix::fs::flock(&own.hidden, FlockOperation::Unlock)?;
        replaced
    }
}

impl Own {
    fn open(path: &Path) -> io::Result<Self> {
        let (folder, file) = place(path).ok_or(io::ErrorKind::NotFound)?;
        let name = own_name(&file);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let hidden = rustix::fs::openat(&folder, &name, flags, Mode::empty())?;
        Ok(Self { folder, file: file.into(), hidden, name: name.into() })
    }

    fn put(&self, path: &Path, new: &Secret) -> io::Result<()> {
        let before = fs::metadata(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // One that was left behind may have been made for another's eyes.
        self.remove(NEXT)?;
        let next = rustix::fs::openat(&self.hidden, NEXT, flags | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
        let mut next = File::from(next);
        next.write_all(new.expose().as_bytes())?;
        next.write_all(b"\n")?;
        // Whose it is only root can say; who may read it, its owner.
        let (uid, gid) = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
        let _ = rustix::fs::fchown(&next, Some(uid), Some(gid));
        rustix::fs::fchmod(&next, Mode::from_raw_mode(before.mode()))?;
        next.sync_all()?;
        rustix::fs::renameat(&self.hidden, NEXT, &self.hidden, TOKEN)?;
        rustix::fs::fsync(&self.hidden)?;
        self.remove(LINK)?;
        rustix::fs::symlinkat(Path::new(&self.name).join(TOKEN), &self.hidden, LINK)?;
        // Each time, so that whoever watches the file is told.
        rustix::fs::renameat_with(&self.hidden, LINK, &self.folder, &self.file, RenameFlags::EXCHANGE)?;
        self.remove(LINK)?;
        Ok(rustix::fs::fsync(&self.folder)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(self.hidden.as_fd(), name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Its directory, without links, and its name there. None: it has none.
fn place(path: &Path) -> Option<(PathBuf, String)> {
    let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    Some((parent.canonicalize().ok()?, path.file_name()?.to_str()?.to_owned()))
}

/// `.token.lakitu` of `token`.
fn own_name(name: &str) -> String {
    format!(".{name}.lakitu")
}

fn read(path: &Path) -> io::Result<Secret> {
    let mut text = String::new();
    // A pipe would block whoever opens it otherwise.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(Secret::new(&text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use expect_test::expect;

    use super::*;

    fn session(name: &str) -> Secret {
        let payload = format!("{{\"aud\":\"lakitu-gateway\",\"exp\":1,\"sub\":\"{}\"}}", name.repeat(300));
        Secret::new(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)))
    }

    /// A folder with a token in it, prepared.
    fn scene(token: &Secret) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, token.expose()).unwrap();
        TokenFile::prepare(&path);
        (folder, path)
    }

    fn entries(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn whoever_reads_it_meanwhile_finds_one_token_or_the_other() {
        let tokens: Vec<Secret> = (0..50).map(|at| session(&at.to_string())).collect();
        let (folder, path) = scene(&tokens[0]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let file = TokenFile::new(&path);
        let over = std::sync::atomic::AtomicBool::new(false);
        let reads = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(tokens.contains(&read(&path).unwrap()), "half a token");
                    reads += 1;
                }
                reads
            });
            for pair in tokens.windows(2) {
                file.replace(&pair[0], &pair[1]).unwrap();
                assert!(read(&path).unwrap() == pair[1]);
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(reads > 0);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(entries(folder.path()), [".token.lakitu", "token"]);
        assert_eq!(entries(&folder.path().join(".token.lakitu")), ["token"]);
        // The next start finds it as this one did.
        TokenFile::prepare(&path);
        TokenFile::new(&path).replace(&tokens[49], &tokens[0]).unwrap();
        assert!(read(&path).unwrap() == tokens[0]);
    }

    #[test]
    fn what_was_left_behind_or_put_there_is_in_nobodys_way() {
        let (old, new) = (session("old"), session("new"));
        let (folder, path) = scene(&old);
        let file = TokenFile::new(&path);
        let own = folder.path().join(".token.lakitu");
        fs::write(own.join(NEXT), "of a crash").unwrap();
        std::os::unix::fs::symlink("/nowhere", own.join(LINK)).unwrap();
        file.replace(&old, &new).unwrap();
        assert!(read(&path).unwrap() == new);
        // Somebody else was faster.
        fs::write(&path, "another").unwrap();
        file.replace(&new, &old).unwrap();
        assert!(read(&path).unwrap() == Secret::new("another"));
        // Another runtime is at it.
        let other = File::open(&own).unwrap();
        rustix::fs::flock(&other, FlockOperation::LockExclusive).unwrap();
        assert_eq!(file.replace(&Secret::new("another"), &old).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    /// A command that may rename the directories above would be shown the next token otherwise.
    #[test]
    fn a_directory_in_the_place_of_its_own_gets_no_token() {
        let (old, new) = (session("old"), session("new"));
        let (folder, path) = scene(&old);
        let file = TokenFile::new(&path);
        let own = folder.path().join(".token.lakitu");
        fs::rename(&own, folder.path().join("moved")).unwrap();
        fs::create_dir(&own).unwrap();
        file.replace(&old, &new).unwrap();
        assert_eq!(entries(&own), Vec::<String>::new());
        assert!(read(&folder.path().join("moved/token")).unwrap() == new);
    }

    #[test]
    fn only_a_session_or_what_is_still_to_come_is_prepared_for() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("key", Some("sk-or-v1-1")), ("long", Some(&*"x".repeat(9000))), ("later", None)] {
            if let Some(text) = text {
                fs::write(folder.path().join(name), text).unwrap();
            }
            TokenFile::prepare(&folder.path().join(name));
        }
        assert_eq!(entries(folder.path()), [".later.lakitu", "key", "long"]);
        let kept = TokenFile::new(&folder.path().join("key")).replace(&Secret::new("sk-or-v1-1"), &session("new"));
        assert_eq!(kept.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_directory_of_its_own_is_hidden_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let cover = |made: &[&str], needed: &[&str]| {
            let folder = root.join("d");
            fs::create_dir(&folder).unwrap();
            made.iter().for_each(|name| fs::write(folder.join(name), "").unwrap());
            let needed: Vec<PathBuf> = needed.iter().map(|path| root.join(path)).collect();
            let cover = Cover::of(&folder.join("token"), &needed);
            fs::remove_dir_all(&folder).unwrap();
            let paths: Vec<_> =
                cover.paths.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect();
            format!("{made:?} {needed} {} {paths:?}", cover.whole, needed = needed.len())
        };
        let rows = [
            cover(&[], &[]),
            cover(&["token", ".token.tmp", ".token.lakitu", "..data"], &["e"]),
            cover(&["token", "other"], &[]),
            cover(&["token", ".other"], &[]),
            cover(&["token"], &["d"]),
            cover(&["token"], &["d/work"]),
        ];
        expect![[r#"
            [] 0 true ["d/token", "d/.token.lakitu", "d"]
            ["token", ".token.tmp", ".token.lakitu", "..data"] 1 true ["d/token", "d/.token.lakitu", "d"]
            ["token", "other"] 0 false ["d/token", "d/.token.lakitu"]
            ["token", ".other"] 0 false ["d/token", "d/.token.lakitu"]
            ["token"] 1 false ["d/token", "d/.token.lakitu"]
            ["token"] 1 false ["d/token", "d/.token.lakitu"]"#]]
        .assert_eq(&rows.join("\n"));
    }
}
