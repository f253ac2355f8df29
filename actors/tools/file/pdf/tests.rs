//! Documents made by hand, whole and broken, and processes that do not do what they should.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use expect_test::expect;
use proptest::prelude::*;

use super::text::{Failure, document};
use super::worker::TEXT_BYTES_MAX;
use super::*;
use crate::tools::file::search::Span;

/// A document of these objects, the first of them its catalogue.
fn pdf(objects: &[String]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n{object}\nendobj\n", at + 1).bytes());
    }
    let table = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    places.iter().for_each(|place| bytes.extend(format!("{place:010} 00000 n \n").bytes()));
    let size = objects.len() + 1;
    bytes.extend(format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").bytes());
    bytes
}

fn stream(dict: &str, content: &str) -> String {
    format!("<< {dict} /Length {} >>\nstream\n{content}\nendstream", content.len())
}

/// A document with these pages, which share fonts and forms; further objects are number 4 and on.
fn pages(contents: &[&str], resources: &str, more: &[String]) -> Vec<u8> {
    let first = 4 + more.len();
    let page = |at: usize| format!("{} 0 R", first + 2 * at);
    let kids: Vec<String> = (0..contents.len()).map(page).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Count {} /Kids [{}] /MediaBox [0 0 600 800] >>", kids.len(), kids.join(" ")),
        format!("<< {resources} >>"),
    ];
    objects.extend_from_slice(more);
    for (at, content) in contents.iter().enumerate() {
        let own = first + 2 * at + 1;
        objects.push(format!("<< /Type /Page /Parent 2 0 R /Resources 3 0 R /Contents {own} 0 R >>"));
        objects.push(stream("", content));
    }
    pdf(&objects)
}

const HELVETICA: &str =
    "/Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >> >>";

/// What the process would put out, and how it would end.
fn told(bytes: Vec<u8>) -> String {
    told_within(bytes, Duration::from_secs(20))
}

fn told_within(bytes: Vec<u8>, time: Duration) -> String {
    let mut out = String::new();
    let end = document(bytes, Instant::now() + time, &mut |text: &str| {
        out.push_str(text);
        true
    });
    match end {
        Ok(()) => out,
        Err(Failure::Late) => out + "[late]\n",
        Err(Failure::Refused(why)) => format!("{out}[refused: {why}]\n"),
    }
}

#[test]
fn words_lines_and_paragraphs_come_out_of_where_text_stands() {
    let one =
        "BT /F 10 Tf 50 700 Td (Hello) Tj 27 0 Td (world,) Tj 0 -12 Td (next line) Tj 0 -30 Td (a paragraph) Tj ET";
    let two = "BT /F 10 Tf 1 0 0 1 50 700 Tm [(W) 80 (o) -20 (rd) -300 (by) -250 (word)] TJ T* (same) Tj 14 TL (up) ' ET \
               q 2 0 0 2 0 0 cm BT /F 5 Tf 25 300 Td (scaled) Tj ET Q BT /F 10 Tf 0 1 -1 0 300 300 Tm (turned) Tj ET";
    expect![[r#"
        --- page 1 of 3 ---
        Hello world,
        next line

        a paragraph
        --- page 2 of 3 ---
        Word by word
        same
        up

        scaled

        turned
        --- page 3 of 3 ---
    "#]]
    .assert_eq(&told(pages(&[one, two, ""], HELVETICA, &[])));
}

#[test]
fn codes_become_characters_by_whatever_the_font_says() {
    let unicode = "/CIDInit /ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <0000> <FFFF> \
                   endcodespacerange 2 beginbfchar <0001> <00480069> <0002> <D83DDE00> endbfchar 1 beginbfrange <0010> \
                   <0012> <0061> endbfrange endcmap end end";
    let fonts = "/Font << /W << /Subtype /Type1 /Encoding /WinAnsiEncoding >> /M << /Subtype /TrueType /Encoding \
                 /MacRomanEncoding >> /S << /Subtype /Type1 >> /D << /Subtype /Type1 /Encoding << /Differences [1 /fi \
                 /Aacute /uni20AC /f_f_i /a.alt /g77 200 /omega] >> >> /C << /Subtype /Type0 /Encoding /Identity-H \
                 /DescendantFonts [<< /DW 600 /W [1 [500 500] 16 18 400] >>] /ToUnicode 4 0 R >> /U << /Subtype /Type0 \
                 /Encoding /UniJIS-UCS2-H /DescendantFonts [<< >>] >> /N << /Subtype /Type0 /Encoding /Identity-H \
                 /DescendantFonts [<< >>] >> >>";
    let row = |font: &str, y: u32, text: &str| format!("BT /{font} 10 Tf 50 {y} Td {text} Tj ET ");
    let content = [
        row("W", 700, "(caf\\351 \\200 \\223x\\224)"),
        row("M", 680, "(caf\\216)"),
        row("S", 660, "(it's \\256 \\341)"),
        row("D", 640, "<010203040506C8>"),
        row("C", 620, "<00010002001000110012>"),
        row("U", 600, "<65E5672C>"),
        row("N", 580, "<0001>"),
    ]
    .concat();
    expect![[r#"
        --- page 1 of 1 ---
        café € “x”

        café

        it’s fi Æ

        fiÁ€ffia�ω

        Hi😀abc

        日本

        �
    "#]]
    .assert_eq(&told(pages(&[&content], fonts, &[stream("", unicode)])));
}

#[test]
fn forms_are_read_and_one_that_draws_itself_ends() {
    let inner = "BT /F 10 Tf 50 700 Td (in a form) Tj ET /X Do /X Do /X Do";
    let resources = format!("{HELVETICA} /XObject << /X 4 0 R >>");
    let form =
        stream(&format!("/Type /XObject /Subtype /Form /Resources << {HELVETICA} /XObject << /X 4 0 R >> >>"), inner);
    let twice = told_within(pages(&["/X Do"], &resources, &[form]), Duration::from_millis(300));
    assert!(twice.ends_with("[late]\n") || twice.contains("in a form"), "{}", &twice[..twice.len().min(300)]);
    let form = stream("/Subtype /Form /Matrix [1 0 0 1 0 -20]", "BT /F 10 Tf 50 700 Td (in a form) Tj ET");
    let page = "BT /F 10 Tf 50 700 Td (above) Tj ET /X Do";
    assert_eq!(told(pages(&[page], &resources, &[form])), "--- page 1 of 1 ---\nabove\n\nin a form\n");
}

#[test]
fn what_has_no_text_says_why() {
    let image = stream("/Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8", "x");
    let scan = pages(&["/I Do", "/I Do"], "/XObject << /I 4 0 R >>", &[image]);
    let mut locked = pages(&[""], HELVETICA, &["<< /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O <00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF> /U <00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF> >>".to_owned()]);
    let trailer = b"/Root 1 0 R".as_slice();
    let at = locked.windows(trailer.len()).rposition(|window| window == trailer).unwrap();
    locked.splice(at..at, *b"/Encrypt 4 0 R /ID [<00> <00>] ");
    let told = [scan, locked, b"%PDF-1.7\nnothing".to_vec(), pages(&[], "", &[]), b"%PDF-".to_vec()].map(told);
    expect![[r#"
        [refused: its 2 pages hold no text: they are images, most likely scans; make images of them with bash (pdftoppm -r 100 -png IN OUT) and read those]
        [refused: it is encrypted and needs a password; decrypt it with bash (qpdf --password=… --decrypt IN OUT) and read that]
        [refused: it is broken]
        [refused: it has no pages]
        [refused: it is broken]
    "#]].assert_eq(&told.concat());
}

/// Every document that stands here was whole once.
fn samples() -> Vec<Vec<u8>> {
    let text = "BT /F 10 Tf 50 700 Td [(Some) -300 (text)] TJ ET q 1 0 0 1 0 0 cm /X Do Q";
    let form = stream("/Subtype /Form", "BT /F 10 Tf 50 600 Td (more) Tj ET");
    vec![pages(&[text, text], &format!("{HELVETICA} /XObject << /X 4 0 R >>"), &[form])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is cut off, exchanged or repeated: it is read or refused, within its time.
    #[test]
    fn a_damaged_document_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut bytes = samples().remove(0);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        let began = Instant::now();
        let _ = told_within(bytes, Duration::from_secs(2));
        prop_assert!(began.elapsed() < Duration::from_secs(20));
    }
}

/// A program that stands where the reader is called.
fn program(dir: &tempfile::TempDir, script: &str) -> PathBuf {
    let path = dir.path().join("reader");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn ended(script: &str, span: &Span) -> (String, End) {
    let dir = tempfile::tempdir().unwrap();
    Worker::start(&program(&dir, script), b"document").unwrap().end(span)
}

#[test]
fn a_process_is_read_to_its_end_whatever_end_that_is() {
    let long = Span::of(Duration::from_mins(1));
    let page = "--- page 1 of 3 ---";
    let rows = [
        ("cat; echo", "document\n", End::Whole),
        ("echo why; exit 3", "why\n", End::Refused),
        ("echo half; exit 1", "half\n", End::Died),
        ("echo half; kill -9 $$", "half\n", End::Died),
        ("echo half; exit 4", "half\n", End::Late),
        ("test $# = 1 && test -z \"$HOME$LAKITU_TOKEN\" && pwd", "/\n", End::Whole),
    ];
    for (script, text, end) in rows {
        assert_eq!(ended(script, &long), (text.to_owned(), end), "{script}");
    }
    let (text, end) = ended("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", &long);
    assert_eq!((text.len(), end), (TEXT_BYTES_MAX, End::TooMuch));
    // Nobody waits any more.
    let began = Instant::now();
    let short = Span::of(Duration::from_millis(100));
    assert_eq!(ended("echo begun; exec sleep 1000", &short), ("begun\n".to_owned(), End::Late));
    assert!(began.elapsed() < Duration::from_secs(10));
    let view = || View::new(1, 100);
    let told = [
        shown((format!("{page}\none\n"), End::Whole), view(), 9),
        shown((format!("{page}\none\n"), End::Died), view(), 9),
        shown((format!("{page}\none\n--- page 2 of 3 ---\ntw"), End::TooMuch), View::new(3, 9), 9),
        shown((String::new(), End::Late), view(), 9),
        shown((String::new(), End::Died), view(), 9),
        shown(("it is broken\n".to_owned(), End::Refused), view(), 9),
    ];
    expect![[r#"
        [PDF document of 3 pages, 9 bytes: its text]
             1	--- page 1 of 3 ---
             2	one
        --
        [PDF document of 3 pages, 9 bytes: its text]
             1	--- page 1 of 3 ---
             2	one
             3	[the rest is not shown: it is broken, or needs too much memory]
        --
        [PDF document of 3 pages, 9 bytes: its text]
             3	--- page 2 of 3 ---
             4	tw
             5	[the rest is not shown: there is more text than is taken]
        [lines 3-5 of 5; the end of the file]
        --
        [PDF document of 9 bytes, not shown: reading it takes too long]
        --
        [PDF document of 9 bytes, not shown: it is broken, or needs too much memory]
        --
        [PDF document of 9 bytes, not shown: it is broken]
    "#]]
    .assert_eq(&told.join("--\n"));
}
