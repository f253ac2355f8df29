//! Images: a short text, and the image itself for the model to see.

use std::io::Read;

use lakitu_kernel::Hash;
use lakitu_kernel::event::FileVersion;
use lakitu_kernel::image::{Image, MediaType};
use lakitu_kernel::limits::{IMAGE_BYTES_MAX, IMAGE_SIDE_MAX};
use lakitu_kernel::tool::ToolOutcome;

use crate::tools::workspace::{FileError, Spot};

/// How an image is made smaller.
const SMALLER: &str =
    "; make a smaller one with bash (ImageMagick: convert IN -resize 1568x1568 OUT; or Python's Pillow) and read that";

/// Reads an image. One that providers would refuse is refused here, where the model is told what to do.
pub(super) fn read(file: impl Read, kind: MediaType, bytes: u64, spot: &Spot<'_>) -> Result<ToolOutcome, FileError> {
    let shown = spot.shown();
    // It may have grown since its length was looked at.
    if bytes > IMAGE_BYTES_MAX {
        return Err(FileError::TooLarge { path: shown, bytes, max: IMAGE_BYTES_MAX, way_out: SMALLER });
    }
    let bytes = super::read::whole(file, IMAGE_BYTES_MAX, &shown, SMALLER)?;
    let found = imagesize::blob_size(&bytes).ok().filter(|size| size.width > 0 && size.height > 0);
    let (name, count, hash) = (kind.name(), bytes.len(), Hash::of(&bytes));
    let outcome = match found {
        None => ToolOutcome::ok(format!("[{name} image of {count} bytes, not shown: it is broken]\n")),
        Some(size) => {
            let pixels = |side: usize| u32::try_from(side).ok().filter(|side| *side <= IMAGE_SIDE_MAX);
            let (Some(width), Some(height)) = (pixels(size.width), pixels(size.height)) else {
                let why = format!(
                    "has {} x {} pixels; at most {IMAGE_SIDE_MAX} a side are shown{SMALLER}",
                    size.width, size.height
                );
                return Err(FileError::TooWide { path: shown, why });
            };
            let text =
                format!("{name} image, {width} x {height} pixels, {count} bytes: you see it below the results\n");
            ToolOutcome::ok(text).with_image(Image::new(bytes, kind, (width, height), shown))
        }
    };
    let files = spot.name.clone().map(|path| FileVersion { path, hash }).into_iter().collect();
    Ok(outcome.with_files(files))
}
