//! A hundred files that a command changes at random, in rounds: each diff is one that `patch` applies, and all of it goes
//! back to the byte and the mode.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::edits::{bytes, copied, patch, tree};
use crate::harness::{Binary, Script};

const FILES: u64 = 100;
const ROUNDS: u64 = 2;

/// Numbers that a seed determines (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((bits ^ (bits >> 31)) % end.max(1) as u64).unwrap()
    }

    fn line(&mut self) -> Vec<u8> {
        let words: [&[u8]; 7] = [b"one", b"", b"caf\xe9", b"\xc3\xa4\xc3\xb6", b"$& \\0 %s", b"\ttab", b"-- minus"];
        let ends: [&[u8]; 3] = [b"\n", b"\r\n", b"\n"];
        [words[self.below(words.len())], b" ", self.below(1000).to_string().as_bytes(), ends[self.below(3)]].concat()
    }

    /// A file of one of the kinds that text comes in.
    fn file(&mut self, n: u64) -> Vec<u8> {
        let many = if n.is_multiple_of(40) { 90_000 } else { self.below(40) };
        let mut content: Vec<u8> = (0..many).flat_map(|_| self.line()).collect();
        content.truncate(1024 * 1024);
        match self.below(4) {
            0 => content.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
            1 => drop(content.pop()),
            _ => {}
        }
        content
    }

    /// The same after some lines came, went or changed; all of them, or none are left.
    fn changed(&mut self, content: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for _ in 0..=self.below(4) {
            let at = self.below(lines.len() + 1);
            match self.below(8) {
                0..3 => lines.insert(at, self.line()),
                3..5 if at < lines.len() => drop(lines.remove(at)),
                5 if at < lines.len() => lines[at] = self.line(),
                6 => lines.clear(),
                _ => lines.iter_mut().for_each(|line| line.retain(|byte| *byte != b'\r')),
            }
        }
        // Only the last line may be without an end, or it would be one with the next.
        let last = lines.len().saturating_sub(1);
        lines.iter_mut().take(last).filter(|line| !line.ends_with(b"\n")).for_each(|line| line.push(b'\n'));
        if self.below(3) == 0 && lines.last().is_some_and(|line| line.len() > 1) {
            lines.last_mut().and_then(Vec::pop);
        }
        lines.concat()
    }
}

/// What a round's command does: the content that each file gets, that it goes, or another mode.
fn round(dice: &mut Dice, number: u64, now: &mut [Option<Vec<u8>>], payload: &Path) -> String {
    let mut command = String::from("set -e\n");
    for (n, content) in now.iter_mut().enumerate() {
        let file = format!("f{n}");
        match content {
            Some(_) if dice.below(12) == 0 => {
                *content = None;
                command += &format!("rm {file}\n");
            }
            known => {
                let next = dice.changed(known.as_deref().unwrap_or_default());
                std::fs::write(payload.join(format!("{number}-{n}")), &next).unwrap();
                *known = Some(next);
                command += &format!("cp --no-preserve=mode ../payload/{number}-{n} {file}\n");
                if dice.below(6) == 0 {
                    command += &format!("chmod {} {file}\n", ["600", "755", "640"][dice.below(3)]);
                }
            }
        }
    }
    command
}

#[test]
fn a_hundred_sequences_of_random_edits_go_back_to_the_byte_and_each_diff_applies() {
    let mut dice = Dice(7);
    let binary = Binary::new();
    let (workspace, payload) = (binary.workspace(), binary.home.path().join("payload"));
    std::fs::create_dir(&payload).unwrap();
    let mut now: Vec<Option<Vec<u8>>> = Vec::new();
    for n in 0..FILES {
        let (content, path) = (dice.file(n), workspace.join(format!("f{n}")));
        std::fs::write(&path, &content).unwrap();
        let mode = [0o644, 0o600, 0o755, 0o640][dice.below(4)];
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        now.push(Some(content));
    }
    let before = tree(&workspace);
    let mut script = Script::new();
    for number in 0..ROUNDS {
        script = script.runs(&round(&mut dice, number, &mut now, &payload));
    }
    let ran = binary.plays(&script.says("Done."), "change", &[]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let after = tree(&workspace);
    for (n, content) in now.iter().enumerate() {
        assert_eq!(after.get(&format!("f{n}")).map(|(_, bytes)| bytes), content.as_ref(), "f{n}");
    }

    let edits = binary.edits();
    assert!(edits.len() > 150, "{}", edits.len());
    let copy = copied(&before);
    for edit in edits.iter().rev() {
        // One that changed a file's mode alone has none.
        let diff = binary.diff(edit);
        if !diff.is_empty() {
            patch(copy.path(), &diff);
        }
    }
    assert_eq!(bytes(&tree(copy.path())), bytes(&after), "what `patch` made");
    for edit in &edits {
        let back = binary.rollback(edit, &[]);
        assert_eq!(back.exit, 0, "{back:?} of {edit}");
    }
    assert!(tree(&workspace) == before, "all of it is as it was");
    binary.verified();
}
