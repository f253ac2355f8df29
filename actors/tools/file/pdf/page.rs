//! Where text stands on a page: words, lines and paragraphs out of the places at which its pieces are drawn.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use hayro_syntax::content::TypedIter;
use hayro_syntax::content::ops::TypedInstruction;
use hayro_syntax::object::{Array, Dict, Name, Object, Stream};
use hayro_syntax::page::{Page, Resources};

use super::font::{Font, Shown, UNKNOWN};

/// Forms within forms.
const DEPTH_MAX: u32 = 12;
/// Saved graphics states.
const SAVED_MAX: usize = 256;
/// Text of one page, in bytes.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// The clock is looked at after so many instructions.
const LOOK_EVERY: u32 = 256;

/// A gap that is wider than so much of the font's size is a space …
const SPACE: f64 = 0.16;
/// … one back that is wider is another line …
const BACK: f64 = 0.9;
/// … and so is a step across that is higher …
const LINE: f64 = 0.45;
/// … or, if it is higher than this, a paragraph.
const PARAGRAPH: f64 = 1.9;

/// What was seen of a document so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Characters that could be told.
    pub(super) known: usize,
    /// Characters that could not.
    pub(super) unknown: usize,
}

/// A page's text; none: there was no time for all of it.
pub(super) fn text(page: &Page<'_>, until: Instant, seen: &mut Seen) -> Option<String> {
    let mut walk = Walk { out: String::new(), last: None, fonts: HashMap::new(), left: LOOK_EVERY, until, seen };
    walk.content(page.typed_operations(), page.resources(), State::default(), 0)?;
    Some(walk.out)
}

/// A transformation of the plane: `x' = a x + c y + e`, `y' = b x + d y + f`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Matrix([f64; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    /// This one first, then the other.
    fn then(self, other: Self) -> Self {
        let turned = |x: f64, y: f64| [x * other.0[0] + y * other.0[2], x * other.0[1] + y * other.0[3]];
        let [ax, ay] = turned(self.0[0], self.0[1]);
        let [bx, by] = turned(self.0[2], self.0[3]);
        let [x, y] = turned(self.0[4], self.0[5]);
        Self([ax, ay, bx, by, x + other.0[4], y + other.0[5]])
    }

    fn moved(self, x: f64, y: f64) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y]).then(self)
    }
}

/// What `q` saves and `Q` brings back.
#[derive(Clone)]
struct State {
    page: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    leading: f64,
    per_character: f64,
    per_word: f64,
    stretch: f64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            page: Matrix::IDENTITY,
            font: None,
            size: 0.0,
            leading: 0.0,
            per_character: 0.0,
            per_word: 0.0,
            stretch: 1.0,
        }
    }
}

/// Where the last piece of text ended, along its line and across it.
#[derive(Clone, Copy)]
struct Place {
    along: f64,
    across: f64,
    direction: (f64, f64),
    size: f64,
}

struct Walk<'w> {
    out: String,
    last: Option<Place>,
    fonts: HashMap<Vec<u8>, Rc<Font>>,
    left: u32,
    until: Instant,
    seen: &'w mut Seen,
}

impl Walk<'_> {
    fn content(
        &mut self,
        mut operations: TypedIter<'_>,
        resources: &Resources<'_>,
        mut state: State,
        depth: u32,
    ) -> Option<()> {
        let (mut saved, mut text, mut line) = (Vec::new(), Matrix::IDENTITY, Matrix::IDENTITY);
        while let Some(operation) = operations.next() {
            self.look()?;
            if self.out.len() > PAGE_BYTES_MAX {
                return Some(());
            }
            #[allow(clippy::wildcard_enum_match_arm, reason = "what draws no text means nothing here")]
            match operation {
                TypedInstruction::SaveState(_) if saved.len() < SAVED_MAX => saved.push(state.clone()),
                TypedInstruction::RestoreState(_) => state = saved.pop().unwrap_or(state),
                TypedInstruction::Transform(by) => {
                    let by = [by.0, by.1, by.2, by.3, by.4, by.5].map(|number| number.as_f64());
                    state.page = Matrix(by).then(state.page);
                }
                TypedInstruction::XObject(name) => self.form(name.0, resources, &state, depth)?,
                TypedInstruction::BeginText(_) => (text, line) = (Matrix::IDENTITY, Matrix::IDENTITY),
                TypedInstruction::TextFont(font) => {
                    state.font = self.font(font.0, resources, depth);
                    state.size = font.1.as_f64();
                }
                TypedInstruction::TextLeading(by) => state.leading = by.0.as_f64(),
                TypedInstruction::CharacterSpacing(by) => state.per_character = by.0.as_f64(),
                TypedInstruction::WordSpacing(by) => state.per_word = by.0.as_f64(),
                TypedInstruction::HorizontalScaling(by) => state.stretch = by.0.as_f64() / 100.0,
                TypedInstruction::SetTextMatrix(to) => {
                    line = Matrix([to.0, to.1, to.2, to.3, to.4, to.5].map(|number| number.as_f64()));
                    text = line;
                }
                TypedInstruction::NextLine(by) => {
                    line = line.moved(by.0.as_f64(), by.1.as_f64());
                    text = line;
                }
                TypedInstruction::NextLineAndSetLeading(by) => {
                    state.leading = -by.1.as_f64();
                    line = line.moved(by.0.as_f64(), by.1.as_f64());
                    text = line;
                }
                TypedInstruction::NextLineUsingLeading(_) => {
                    line = line.moved(0.0, -state.leading);
                    text = line;
                }
                TypedInstruction::ShowText(shown) => self.show(shown.0.as_bytes(), &state, &mut text),
                TypedInstruction::ShowTexts(shown) => self.show_all(shown.0, &state, &mut text),
                TypedInstruction::NextLineAndShowText(shown) => {
                    line = line.moved(0.0, -state.leading);
                    text = line;
                    self.show(shown.0.as_bytes(), &state, &mut text);
                }
                TypedInstruction::ShowTextWithParameters(shown) => {
                    (state.per_word, state.per_character) = (shown.0.as_f64(), shown.1.as_f64());
                    line = line.moved(0.0, -state.leading);
                    text = line;
                    self.show(shown.2.as_bytes(), &state, &mut text);
                }
                _ => {}
            }
        }
        Some(())
    }

    /// None: the time is up.
    fn look(&mut self) -> Option<()> {
        self.left -= 1;
        if self.left == 0 {
            self.left = LOOK_EVERY;
            return (Instant::now() < self.until).then_some(());
        }
        Some(())
    }

    /// What is drawn as one picture may be text too.
    fn form(&mut self, name: &Name<'_>, resources: &Resources<'_>, state: &State, depth: u32) -> Option<()> {
        let form = resources.get_x_object(name).filter(|_| depth < DEPTH_MAX);
        let Some(form) = form.filter(is_form) else { return Some(()) };
        let Ok(content) = form.decoded_data() else { return Some(()) };
        let mut inner = state.clone();
        if let Some(matrix) = form.dict().get::<Array<'_>>("Matrix") {
            let mut by = Matrix::IDENTITY.0;
            by.iter_mut().zip(matrix.iter::<f32>()).for_each(|(to, from)| *to = f64::from(from));
            inner.page = Matrix(by).then(inner.page);
        }
        match form.dict().get::<Dict<'_>>("Resources") {
            Some(own) => self.content(TypedIter::new(&content), &Resources::new(own), inner, depth + 1),
            None => self.content(TypedIter::new(&content), resources, inner, depth + 1),
        }
    }

    fn font(&mut self, name: &Name<'_>, resources: &Resources<'_>, depth: u32) -> Option<Rc<Font>> {
        let dict = resources.get_font(name)?;
        // Each form has names of its own; an object is the same everywhere.
        let key = match resources.fonts.get_ref(name) {
            Some(object) => format!("{object:?}").into_bytes(),
            None => [&depth.to_le_bytes(), name.as_ref(), dict.data()].concat(),
        };
        let font = self.fonts.entry(key).or_insert_with(|| Rc::new(Font::of(&dict)));
        Some(font.clone())
    }

    fn show_all(&mut self, pieces: &Array<'_>, state: &State, text: &mut Matrix) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "what is neither text nor a number means nothing here")]
        for piece in pieces.iter::<Object<'_>>() {
            match piece {
                Object::String(bytes) => self.show(bytes.as_bytes(), state, text),
                Object::Number(back) => {
                    *text = text.moved(-back.as_f64() / 1000.0 * state.size * state.stretch, 0.0);
                }
                _ => {}
            }
        }
    }

    fn show(&mut self, bytes: &[u8], state: &State, text: &mut Matrix) {
        let Some(font) = &state.font else { return };
        for Shown { text: said, width, space } in font.shown(bytes) {
            if self.out.len() > PAGE_BYTES_MAX {
                return;
            }
            let step = width / 1000.0 * state.size + state.per_character + if space { state.per_word } else { 0.0 };
            let place = text.then(state.page);
            *text = text.moved(step * state.stretch, 0.0);
            let end = text.then(state.page);
            self.seen.known += usize::from(said.as_ref().is_some_and(|said| !said.trim().is_empty()));
            self.seen.unknown += usize::from(said.is_none());
            let said = said.unwrap_or_else(|| UNKNOWN.to_string());
            self.put(&said, (place, end), state.size);
        }
    }

    /// A piece of text from one place to another.
    fn put(&mut self, said: &str, (from, to): (Matrix, Matrix), size: f64) {
        let [right, up, ..] = from.0;
        let along = right.hypot(up);
        let direction = if along > 0.0 { (right / along, up / along) } else { (1.0, 0.0) };
        let size = (size * from.0[2].hypot(from.0[3])).abs();
        let on = |x: f64, y: f64| (x * direction.0 + y * direction.1, y * direction.0 - x * direction.1);
        let (start, across) = on(from.0[4], from.0[5]);
        let (end, _) = on(to.0[4], to.0[5]);
        if let Some(last) = self.last {
            self.between(&last, (start, across), direction, size.max(last.size));
        }
        for char in said.chars() {
            match char {
                ' ' | '\u{a0}' | '\t' | '\n' | '\r' => self.space(),
                '\u{ad}' => self.out.push('-'),
                char if char.is_control() => {}
                char => self.out.push(char),
            }
        }
        self.last = Some(Place { along: end, across, direction, size });
    }

    fn between(&mut self, last: &Place, (start, across): (f64, f64), direction: (f64, f64), size: f64) {
        if size <= 0.0 || !size.is_finite() {
            return;
        }
        let turned = (direction.0 * last.direction.0 + direction.1 * last.direction.1) < 0.9;
        let (gap, step) = ((start - last.along) / size, ((across - last.across) / size).abs());
        if turned || step > PARAGRAPH {
            self.line();
            self.out.push('\n');
        } else if step > LINE || gap < -BACK {
            self.line();
        } else if gap > SPACE {
            self.space();
        }
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
            self.out.push(' ');
        }
    }

    fn line(&mut self) {
        self.out.truncate(self.out.trim_end().len());
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }
}

fn is_form(form: &Stream<'_>) -> bool {
    form.dict().get::<Name<'_>>("Subtype").is_some_and(|kind| kind.as_ref() == b"Form")
}
