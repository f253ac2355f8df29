//! Images, as `file_read` shows them.

use lakitu_kernel::image::MediaType;
use lakitu_kernel::limits::{IMAGE_BYTES_MAX, IMAGE_SIDE_MAX};

use super::*;

/// A PNG's first chunk, which says how large it is, and then so many bytes of nothing.
fn png(width: u32, height: u32, bytes: usize) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    png.extend(b"\x08\x02\0\0\0");
    png.resize(bytes.max(png.len()), 0);
    png
}

#[tokio::test]
async fn an_image_of_every_kind_is_told_by_its_bytes_and_shown() {
    let mut bench = bench();
    let gif = b"GIF89a\x03\0\x02\0\0\0\0;".to_vec();
    let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\0\x02\0\x03\x03".to_vec();
    let webp = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x02\0\0\x01\0\0".to_vec();
    let rows = [
        ("a.png", png(3, 2, 0), MediaType::Png),
        ("b.txt", gif, MediaType::Gif),
        ("c", jpeg, MediaType::Jpeg),
        ("d.webp", webp, MediaType::Webp),
    ];
    for (name, bytes, kind) in rows {
        bench.put(name, &bytes);
        let outcome = bench.call(&FILE_READ, json!({ "path": name })).await;
        let (what, count) = (kind.name(), bytes.len());
        let text = format!("{what} image, 3 x 2 pixels, {count} bytes: you see it below the results\n");
        assert_eq!(outcome.output, text);
        let [image] = outcome.images.as_slice() else { panic!("{name}: {} images", outcome.images.len()) };
        assert_eq!((image.about.media_type, image.about.width, image.about.height), (kind, 3, 2));
        assert_eq!((&image.bytes[..], image.about.bytes, image.about.name.as_str()), (&bytes[..], count as u64, name));
        let version = event::FileVersion { path: name.to_owned(), hash: Hash::of(&bytes) };
        assert_eq!((outcome.files, image.about.hash), (vec![version], Hash::of(&bytes)));
    }
}

#[tokio::test]
async fn what_providers_refuse_is_refused_with_what_to_do_and_what_is_broken_is_not_shown() {
    let mut bench = bench();
    let most = usize::try_from(IMAGE_BYTES_MAX).unwrap();
    let rows = [
        png(1, 1, most),
        png(1, 1, most + 1),
        png(1, 1, 12 << 20),
        png(IMAGE_SIDE_MAX, 1, 0),
        png(1, IMAGE_SIDE_MAX + 1, 0),
        png(u32::MAX, u32::MAX, 0),
        png(0, 7, 0),
        b"\x89PNG\r\n\x1a\n".to_vec(),
        b"\xff\xd8\xff".to_vec(),
        b"GIF89a".to_vec(),
        b"RIFF\0\0\0\0WEBP????".to_vec(),
    ];
    let mut told = Vec::new();
    for bytes in rows {
        bench.put("i", bytes);
        let outcome = bench.call(&FILE_READ, json!({ "path": "i" })).await;
        assert_eq!(outcome.output.contains("you see it"), outcome.images.len() == 1);
        told.push(outcome.output.replace('\n', ""));
    }
    expect![[r#"
        PNG image, 1 x 1 pixels, 3932160 bytes: you see it below the results
        FILE_TOO_LARGE: i has 3932161 bytes; at most 3932160 are taken; make a smaller one with bash (ImageMagick: convert IN -resize 1568x1568 OUT; or Python's Pillow) and read that
        FILE_TOO_LARGE: i has 12582912 bytes; at most 3932160 are taken; make a smaller one with bash (ImageMagick: convert IN -resize 1568x1568 OUT; or Python's Pillow) and read that
        PNG image, 8000 x 1 pixels, 29 bytes: you see it below the results
        FILE_TOO_LARGE: i has 1 x 8001 pixels; at most 8000 a side are shown; make a smaller one with bash (ImageMagick: convert IN -resize 1568x1568 OUT; or Python's Pillow) and read that
        FILE_TOO_LARGE: i has 4294967295 x 4294967295 pixels; at most 8000 a side are shown; make a smaller one with bash (ImageMagick: convert IN -resize 1568x1568 OUT; or Python's Pillow) and read that
        [PNG image of 29 bytes, not shown: it is broken]
        [PNG image of 8 bytes, not shown: it is broken]
        [JPEG image of 3 bytes, not shown: it is broken]
        [GIF image of 6 bytes, not shown: it is broken]
        [WebP image of 16 bytes, not shown: it is broken]"#]]
    .assert_eq(&told.join("\n"));
}
