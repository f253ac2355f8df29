//! Calls out of their fragments: by index, then by id, then by where they stand. Pure, and linear in what comes.

use std::collections::HashMap;

use lakitu_kernel::chat::RawCall;

use super::wire::Fragment;

/// Calls that are kept. An agent takes far fewer; the others it must still be able to refuse one by one.
pub(super) const CALLS_KEPT_MAX: usize = 4096;

/// The calls so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Calls {
    all: Vec<Draft>,
    /// Which call a provider's index means now. A provider that numbers every call 0 moves it.
    by_index: HashMap<i64, usize>,
    /// Which call an id means now. A provider that repeats ids moves it.
    by_id: HashMap<String, usize>,
}

/// A call under way.
#[derive(Debug, Default, Clone)]
struct Draft {
    call: RawCall,
    arguments: Brackets,
}

/// Says when a JSON object or list is whole, without reading it again with every piece.
#[derive(Debug, Default, Clone, Copy)]
struct Brackets {
    begun: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Brackets {
    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => (self.begun, self.depth) = (true, self.depth + 1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn closed(self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

impl Calls {
    /// Takes the fragments of one chunk in.
    pub(super) fn take(&mut self, fragments: Vec<Fragment>) {
        let several = fragments.len() > 1;
        for (position, fragment) in fragments.into_iter().enumerate() {
            let position = i64::try_from(position).ok().filter(|_| several);
            self.take_fragment(fragment, position);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn into_calls(self) -> Vec<RawCall> {
        self.all.into_iter().map(|draft| draft.call).collect()
    }

    /// `position` is the fragment's place among several of one chunk: what tells them apart where nothing else does.
    fn take_fragment(&mut self, fragment: Fragment, position: Option<i64>) {
        let (index, id, function) = (fragment.index, fragment.id(), fragment.function.unwrap_or_default());
        let (name, arguments) = (function.name.as_deref().unwrap_or_default(), function.arguments());
        let place = index.or(position);
        let known = match index {
            Some(index) => self.by_index.get(&index).copied(),
            None => self.by_id.get(&id).copied().or_else(|| match position {
                Some(position) => self.by_index.get(&position).copied(),
                // An id alone begins nothing.
                None if id.is_empty() || name.is_empty() => self.all.len().checked_sub(1),
                None => None,
            }),
        };
        let piece = Piece { place, indexed: index.is_some(), id: &id, name, arguments: &arguments };
        if known.is_some_and(|slot| self.all[slot].is_told_by(&piece)) {
            return;
        }
        let slot = known.filter(|slot| !self.all[*slot].is_behind(&piece)).unwrap_or_else(|| self.begin(place));
        let draft = &mut self.all[slot];
        if draft.call.id.is_empty() && !id.is_empty() {
            draft.call.id.clone_from(&id);
            self.by_id.insert(id, slot);
        }
        draft.join(name, &arguments);
    }

    fn begin(&mut self, place: Option<i64>) -> usize {
        // Past the bound everything goes into the last call, which makes it one that is refused.
        if self.all.len() < CALLS_KEPT_MAX {
            self.all.push(Draft::default());
            self.by_index.extend(place.map(|place| (place, self.all.len() - 1)));
        }
        self.all.len() - 1
    }
}

/// What a fragment says.
struct Piece<'a> {
    /// Its index, or its place in its chunk.
    place: Option<i64>,
    /// Whether that is an index.
    indexed: bool,
    id: &'a str,
    name: &'a str,
    arguments: &'a str,
}

impl Draft {
    /// Whether a piece tells this whole call again. Some send each call once more at the end, and it runs once.
    fn is_told_by(&self, piece: &Piece<'_>) -> bool {
        let Self { call, arguments } = self;
        let same = !piece.id.is_empty() && piece.id == call.id && piece.name == call.name;
        same && arguments.closed() && piece.arguments == call.arguments
    }

    /// Whether a piece, although its index, id or place says that it belongs here, begins a call of its own.
    fn is_behind(&self, piece: &Piece<'_>) -> bool {
        let Self { call, arguments } = self;
        // Some send another id with every piece: without a name it begins nothing.
        if piece.name.is_empty() {
            return false;
        }
        if !piece.id.is_empty() && !call.id.is_empty() && piece.id != call.id {
            return true;
        }
        if arguments.closed() && !piece.arguments.trim().is_empty() {
            // What its index, its id and its name all call one call stays one. Its arguments are none then, so it is refused.
            return !(piece.indexed && !piece.id.is_empty() && piece.name == call.name);
        }
        piece.place.is_none() && piece.id.is_empty() && !call.name.is_empty() && piece.name != call.name
    }

    /// Names come once, or again and again, or growing, or in two pieces before the arguments.
    fn join(&mut self, name: &str, arguments: &str) {
        let call = &mut self.call;
        if name.starts_with(&call.name) {
            name.clone_into(&mut call.name);
        } else if call.arguments.is_empty() {
            call.name.push_str(name);
        }
        call.arguments.push_str(arguments);
        self.arguments.push(arguments);
    }
}
