//! What the machine itself takes, measured in the same run as everything that is held against it.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::children::cpu_of_children;
use super::ms;
use super::report::{Report, Samples};

/// Over this a raw overwrite says that the disk is busy with others.
const OVERWRITE_MS_MAX: f64 = 1.0;

/// A raw `bash -c :` that takes so many times its processor time says that the processors are busy with others.
const WAITING_MAX: f64 = 1.6;
/// Over this a raw new file says that the file system is still busy with what others deleted: ext4 without a journal
/// passes over every inode that was deleted in the last minute.
const NEW_FILE_MS_MAX: f64 = 0.1;

/// The raw costs, in rounds, so that both ends of a run are in them.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    /// Overwriting 4 KiB, and fdatasync.
    pub(crate) overwrite: Samples,
    /// A file that is made, empty.
    pub(crate) new_file: Samples,
    /// `bash -c :`, started and waited for.
    pub(crate) bash: Samples,
    /// Its processor time.
    pub(crate) bash_cpu: Samples,
    /// A request and its answer on loopback.
    pub(crate) round_trip: Samples,
}

impl Raw {
    /// One round, beside `dir`; `model` is where the loopback server listens.
    pub(crate) fn measure(&mut self, dir: &Path, model: Option<&str>) -> Result<()> {
        self.overwrite.extend(overwrites(dir, 100)?);
        let made = dir.join(format!("made-{}", self.new_file.len()));
        self.new_file.extend(new_files(&made, 100)?);
        for _ in 0..25 {
            let (before, begun) = (cpu_of_children()?, Instant::now());
            bash()?;
            self.bash.push(ms(begun.elapsed()));
            self.bash_cpu.push(ms(cpu_of_children()?.saturating_sub(before)));
        }
        if let Some(model) = model {
            self.round_trip.extend(round_trips(model, 100)?);
        }
        Ok(())
    }

    /// Tells them, and whether the run is of use.
    pub(crate) fn tell(&self, report: &mut Report) {
        report.samples("raw: overwrite 4 KiB + fdatasync", "ms", &self.overwrite, Some(OVERWRITE_MS_MAX));
        report.samples("raw: a new file", "ms", &self.new_file, Some(NEW_FILE_MS_MAX));
        report.samples("raw: bash -c :", "ms", &self.bash, None);
        report.samples("raw: bash -c :, CPU", "ms", &self.bash_cpu, None);
        if self.round_trip.len() > 0 {
            report.samples("raw: HTTP round trip on loopback", "ms", &self.round_trip, None);
        }
        judge(&self.overwrite, report);
        let (bash, cpu) = (self.bash.median(), self.bash_cpu.median());
        if bash > WAITING_MAX * cpu {
            report.invalid(format!("a raw bash took {bash:.2} ms for {cpu:.2} ms of a processor: they are busy"));
        }
        if self.new_file.median() > NEW_FILE_MS_MAX {
            report.note(
                "a new file takes long here: others deleted many within the last minute, and every call makes some",
            );
        }
    }
}

/// Calls the run invalid where the disk was not ours.
pub(crate) fn judge(overwrite: &Samples, report: &mut Report) {
    let median = overwrite.median();
    if median > OVERWRITE_MS_MAX {
        report.invalid(format!("a raw overwrite took {median:.2} ms, over {OVERWRITE_MS_MAX} ms: the disk is busy"));
    }
}

/// Overwrites one page and makes it durable, so often.
pub(crate) fn overwrites(dir: &Path, count: usize) -> Result<Samples> {
    let path = dir.join("overwritten");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    let mut samples = Samples::default();
    for n in 0..count {
        let page = [u8::try_from(n % 251)?; 4096];
        let begun = Instant::now();
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
        samples.push(ms(begun.elapsed()));
    }
    std::fs::remove_file(path)?;
    Ok(samples)
}

fn new_files(dir: &Path, count: usize) -> Result<Samples> {
    std::fs::create_dir(dir)?;
    let mut samples = Samples::default();
    for n in 0..count {
        let path = dir.join(n.to_string());
        let begun = Instant::now();
        OpenOptions::new().create_new(true).write(true).open(path)?;
        samples.push(ms(begun.elapsed()));
    }
    Ok(samples)
}

#[allow(clippy::disallowed_methods, reason = "the raw cost of a command, without a keeper")]
fn bash() -> Result<()> {
    let mut bash = Command::new("bash");
    bash.args(["-c", ":"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = bash.status().context("bash")?;
    ensure!(status.success(), "bash -c : ended with {status}");
    Ok(())
}

fn round_trips(model: &str, count: usize) -> Result<Samples> {
    let mut stream = TcpStream::connect(model)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = b"POST / HTTP/1.1\r\nIdempotency-Key: raw:0\r\nContent-Length: 2\r\n\r\n{}";
    let (mut samples, mut answer) = (Samples::default(), vec![0; 64 * 1024]);
    for _ in 0..count {
        let begun = Instant::now();
        stream.write_all(request)?;
        let mut length = 0;
        while !answer[..length].ends_with(b"\r\n0\r\n\r\n") {
            let read = stream.read(&mut answer[length..])?;
            ensure!(read > 0, "the loopback server closed its connection");
            length += read;
        }
        samples.push(ms(begun.elapsed()));
    }
    Ok(samples)
}
