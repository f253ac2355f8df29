//! `artifact_save`

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lakitu_kernel::artifact::{Saved, mime_of, wrong_name};
use lakitu_kernel::edit::FileKind;
use lakitu_kernel::limits::{ARTIFACT_BYTES_MAX, ARTIFACT_METADATA_BYTES_MAX, ARTIFACTS_PER_THREAD_MAX};
use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use lakitu_kernel::{ErrorCode, Hash, ToolError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ArtifactTools;
use crate::blocking::spawn_blocking;
use crate::tools::workspace::{Change, FileError, Roots, Workspace, temp_name};
use crate::tools::{Ask, arguments};

/// Saves a version of an artifact.
pub const ARTIFACT_SAVE: ToolSpec =
    ToolSpec::of::<SaveArgs>("artifact_save", include_str!("save.md"), EffectClass::Keyed, Category::Artifact)
        .on(Subject::Path);

/// A type that is longer than this is none.
const TYPE_CHARS_MAX: usize = 200;

/// Arguments of `artifact_save`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct SaveArgs {
    /// A file's name, such as report.md.
    pub name: String,
    /// What to save …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// … or the file to save.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// MIME type, if not told by the name.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Anything to keep with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

impl Arguments for SaveArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &[("filename", "name"), ("title", "name"), ("file_path", "path"), ("text", "content"), ("mime_type", "type")];

    fn check(&self) -> Result<(), String> {
        if let Some(why) = wrong_name(&self.name) {
            return Err(why);
        }
        match (&self.content, &self.path) {
            (None, None) => return Err("give content, or the path of the file to save".to_owned()),
            (Some(_), Some(_)) => return Err("give content or path, not both".to_owned()),
            (Some(_), None) | (None, Some(_)) => {}
        }
        let visible =
            |mime: &String| !mime.is_empty() && mime.chars().all(|char| char.is_ascii_graphic() || char == ' ');
        if let Some(mime) = &self.mime
            && !(visible(mime) && mime.len() <= TYPE_CHARS_MAX)
        {
            return Err("type is a MIME type, such as text/markdown".to_owned());
        }
        let said = self.metadata.as_ref().map_or(0, |said| serde_json::to_string(said).map_or(0, |text| text.len()));
        if said > ARTIFACT_METADATA_BYTES_MAX {
            return Err(format!("metadata has {said} bytes, of at most {ARTIFACT_METADATA_BYTES_MAX}"));
        }
        Ok(())
    }
}

/// Saves.
pub(super) async fn run(tools: &ArtifactTools, ask: &Ask) -> Result<ToolOutcome, ToolError> {
    let args: SaveArgs = arguments(&ask.call.arguments)?;
    let (thread, name) = (ask.call.thread, args.name.clone());
    let known = tools.store.read(move |reading| {
        let newest = reading.artifact_versions(thread, &name, 1)?.pop();
        Ok((newest, reading.artifacts_saved_by(thread)?))
    });
    let (newest, all) = known.await.map_err(ToolError::from)?;
    if all >= ARTIFACTS_PER_THREAD_MAX {
        let message = format!("this thread saved {ARTIFACTS_PER_THREAD_MAX} versions of artifacts, and saves no more");
        return Err(ToolError::new(ErrorCode::InvalidArguments, message));
    }
    let version = newest.map_or(0, |newest| newest.version) + 1;
    let (tools, ask) = (tools.clone(), ask.clone());
    let saved = spawn_blocking(move || saved(&tools, &ask, args, version)).await;
    let (saved, content) = saved.map_err(|error| ToolError::new(ErrorCode::Internal, error.to_string()))??;
    let Saved { name, mime, bytes, path, .. } = &saved;
    let what = if *bytes == 1 { "byte" } else { "bytes" };
    let told = format!("Saved {name}, version {version} ({mime}, {bytes} {what}), at {}", path.display());
    let mut outcome = ToolOutcome::ok(told);
    outcome.artifact = Some(Box::new((saved, content)));
    Ok(outcome)
}

/// Puts the content where it is looked for, and tells what it is.
fn saved(tools: &ArtifactTools, ask: &Ask, args: SaveArgs, version: u32) -> Result<(Saved, Bytes), FileError> {
    let content = match (args.content, args.path) {
        (Some(content), _) => Bytes::from(content),
        (None, Some(path)) => file(tools, ask, Path::new(&path))?,
        (None, None) => Bytes::new(),
    };
    let path = put(ask, &args.name, &content)?;
    let saved = Saved {
        version,
        mime: args.mime.unwrap_or_else(|| mime_of(&args.name, &content).to_owned()),
        name: args.name,
        hash: Hash::of(&content),
        bytes: content.len() as u64,
        path,
        metadata: args.metadata.map(Value::Object),
    };
    Ok((saved, content))
}

/// The bytes of a file that the agent can reach.
fn file(tools: &ArtifactTools, ask: &Ask, path: &Path) -> Result<Bytes, FileError> {
    let roots = Roots::open(&ask.place, &tools.outputs, &tools.data)?;
    let spot = roots.locate(path)?;
    let refused = |why: &str| FileError::Refused { path: spot.shown(), why: why.to_owned() };
    let found = spot.root.content(&spot.canonical, ARTIFACT_BYTES_MAX)?;
    match found {
        Some(found) if found.kind == FileKind::File => Ok(found.bytes),
        Some(_) => Err(refused("is no file; save its files one by one, or an archive of it")),
        None => Err(FileError::NotFound(spot.shown())),
    }
}

/// Puts the content into the artifacts directory, durably; whatever stands there under that name makes way.
fn put(ask: &Ask, name: &str, content: &[u8]) -> Result<PathBuf, FileError> {
    let directory = &ask.place.artifacts;
    std::fs::create_dir_all(directory)
        .map_err(|cause| FileError::from_io("making", directory.as_os_str().as_encoded_bytes(), cause))?;
    let artifacts = Workspace::open(directory)?;
    let canonical = Path::new(&ask.call.thread.to_string()).join(name);
    let temp = temp_name(ask.call.thread, ask.call.intent);
    artifacts.sweep(&canonical, &temp)?;
    let (path, hash) = (artifacts.root().join(&canonical), Hash::of(content));
    let before = artifacts.version(&canonical)?.map(|found| (found.kind, found.hash));
    if before != Some((FileKind::File, hash)) {
        let after = Some((FileKind::File, content));
        artifacts.change(&Change { canonical: &canonical, before, after, mode: 0o644, temp: &temp })?;
    }
    Ok(path)
}
