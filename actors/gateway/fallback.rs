//! Fallback models: which model is asked when the one that was wanted cannot be had.
//!
//! Every call begins with the model that it names. A model that the other side does not know is skipped from then on; what
//! is kept of them is bounded, and is gone with `/gateway`'s incarnation.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use lakitu_kernel::chat::ModelRequest;
use lakitu_kernel::supervise::Guarded;

/// Models that are remembered as unknown.
const UNKNOWN_MAX: usize = 64;

/// The models that stand in for others. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Fallbacks {
    models: Arc<[String]>,
    unknown: Arc<Guarded<BTreeSet<String>>>,
}

impl Fallbacks {
    pub(super) fn new(models: Arc<[String]>) -> Self {
        Self { models, unknown: Arc::default() }
    }

    /// The models to ask for a call that names this one, in order: at least one. Where every one of them is unknown, all
    /// are asked again.
    pub(super) fn of(&self, model: &str) -> Candidates {
        let mut all: Vec<String> = Vec::new();
        for model in std::iter::once(model).chain(self.models.iter().map(String::as_str)) {
            if !all.iter().any(|known| known == model) {
                all.push(model.to_owned());
            }
        }
        let known: Vec<String> =
            self.unknown.with(|unknown| all.iter().filter(|model| !unknown.contains(*model)).cloned().collect());
        let models = if known.is_empty() { all } else { known };
        Candidates { wanted: model.to_owned(), models, at: 0 }
    }

    /// The other side does not know this model.
    pub(super) fn is_unknown(&self, model: &str) {
        // Without others to ask there is nothing to skip it for.
        if !self.models.is_empty() {
            self.unknown.with(|unknown| {
                if unknown.len() < UNKNOWN_MAX {
                    unknown.insert(model.to_owned());
                }
            });
        }
    }
}

/// The models of one call.
pub(super) struct Candidates {
    wanted: String,
    models: Vec<String>,
    at: usize,
}

impl Candidates {
    /// The model whose turn it is.
    pub(super) fn model(&self) -> &str {
        self.models.get(self.at).unwrap_or(&self.wanted)
    }

    /// The one behind it.
    pub(super) fn next(&mut self) -> Option<String> {
        let next = self.models.get(self.at + 1)?;
        self.at += 1;
        Some(next.clone())
    }

    /// The request, to the model whose turn it is.
    pub(super) fn request(&self, request: &ModelRequest) -> ModelRequest {
        if self.model() == self.wanted {
            return request.clone();
        }
        ModelRequest { model: self.model().to_owned(), body: renamed(&request.body, self.model()), ..request.clone() }
    }

    /// The model that answered, where it is not the one that was wanted.
    pub(super) fn stand_in(&self) -> Option<String> {
        (self.model() != self.wanted).then(|| self.model().to_owned())
    }
}

/// The body with another model in its beginning, which is `{"model":` and a JSON string. All behind that stays the same
/// bytes. A body that begins otherwise stays as it is.
fn renamed(body: &[Bytes], model: &str) -> Vec<Bytes> {
    const HEAD: &[u8] = b"{\"model\":";
    let end = body.first().and_then(|first| string_end(first, HEAD.len()).filter(|_| first.starts_with(HEAD)));
    let (Some(first), Some(end)) = (body.first(), end) else { return body.to_vec() };
    let model = serde_json::Value::from(model).to_string();
    let mut renamed = vec![Bytes::from([HEAD, model.as_bytes()].concat()), first.slice(end..)];
    renamed.extend_from_slice(&body[1..]);
    renamed
}

/// Where the JSON string that begins at `at` ends.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut rest = bytes.get(at..)?.iter().enumerate();
    if rest.next()?.1 != &b'"' {
        return None;
    }
    while let Some((index, byte)) = rest.next() {
        match byte {
            b'\\' => drop(rest.next()),
            b'"' => return Some(at + index + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use lakitu_kernel::{ThreadId, Turn, chat};

    use super::*;

    fn request(model: &str) -> ModelRequest {
        let body = vec![chat::prefix(model, "s", []), chat::user("hi"), Bytes::from_static(chat::SUFFIX)];
        ModelRequest { thread: ThreadId(1), turn: Turn(1), model: model.into(), body }
    }

    #[test]
    fn another_model_changes_the_bytes_of_its_name_and_no_others() {
        let (quoted, fallbacks) = ("a\"\\b\u{7}", ["x\"y".to_owned(), "z".to_owned()]);
        let mut candidates = Fallbacks::new(fallbacks.to_vec().into()).of(quoted);
        assert_eq!(candidates.request(&request(quoted)).body, request(quoted).body);
        for model in fallbacks {
            assert_eq!(candidates.next().as_ref(), Some(&model));
            let sent = candidates.request(&request(quoted));
            assert_eq!((&*sent.model, sent.body_bytes()), (&*model, request(&model).body_bytes()));
            assert_eq!(candidates.stand_in(), Some(model));
        }
        assert_eq!(candidates.next(), None);
    }

    #[test]
    fn a_body_that_begins_otherwise_is_left_alone() {
        for body in ["", "{\"messages\":[]}", "{\"model\":\"m", "{\"model\":7}", "{\"model\":\"m\\\""] {
            let body = vec![Bytes::copy_from_slice(body.as_bytes())];
            assert_eq!(renamed(&body, "x"), body);
        }
        assert_eq!(renamed(&[], "x"), Vec::<Bytes>::new());
    }

    #[test]
    fn an_unknown_model_is_skipped_until_none_is_left() {
        let fallbacks = Fallbacks::new(["b".to_owned(), "a".to_owned(), "b".to_owned()].into());
        assert_eq!(fallbacks.of("a").models, ["a", "b"]);
        fallbacks.is_unknown("a");
        assert_eq!(fallbacks.of("a").model(), "b");
        fallbacks.is_unknown("b");
        assert_eq!(fallbacks.of("a").models, ["a", "b"]);
        let alone = Fallbacks::default();
        alone.is_unknown("a");
        assert_eq!(alone.of("a").models, ["a"]);
        for n in 0..1000 {
            fallbacks.is_unknown(&n.to_string());
        }
        assert_eq!(fallbacks.unknown.with(|unknown| unknown.len()), UNKNOWN_MAX);
    }
}
