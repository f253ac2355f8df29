//! `ls`

use std::os::unix::ffi::OsStrExt as _;

use lakitu_kernel::policy::Subject;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolOutcome, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ignored::Level;
use super::pattern::Shown;
use super::{PATH_ALIASES, start};
use crate::tools::file::aliases;
use crate::tools::file::listing::listing;
use crate::tools::workspace::{FileError, Kind, Roots};

/// Lists a directory.
pub const LS: ToolSpec =
    ToolSpec::of::<LsArgs>("ls", include_str!("ls.md"), EffectClass::Read, Category::File).on(Subject::Path);

/// Arguments of `ls`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct LsArgs {
    /// The directory; the workspace if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Hidden and ignored names too.
    #[serde(default)]
    pub hidden: bool,
}

impl Arguments for LsArgs {
    const ALIASES: &'static [(&'static str, &'static str)] =
        &aliases::<_, _, 8>(PATH_ALIASES, [("all", "hidden"), ("show_hidden", "hidden")]);
}

/// Lists.
pub(in crate::tools::file) fn ls(roots: &Roots, args: &LsArgs) -> Result<ToolOutcome, FileError> {
    let begin = start(roots, args.path.as_deref())?;
    let spot = &begin.spot;
    if begin.kind() != Some(Kind::Directory) {
        return Ok(ToolOutcome::ok(format!("{}\n", spot.shown())));
    }
    if args.hidden {
        return listing(spot, |_, _| true).map(ToolOutcome::ok);
    }
    let dir = spot.root.open_dir(&spot.canonical)?;
    let prefix = spot.canonical.as_os_str().as_bytes();
    let level = Level::of(&dir, prefix, Level::above(spot.root, &spot.canonical));
    let shown = Shown::default();
    let text = listing(spot, |name, is_dir| {
        let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
        shown.shows(name) && !level.as_ref().is_some_and(|level| level.leaves_out(&path, is_dir))
    })?;
    Ok(ToolOutcome::ok(text))
}
