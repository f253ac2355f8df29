//! What two sequences have in common, by Myers' algorithm.
//!
//! It is called by its name: the general call of `similar` brings all of its six algorithms along, anew for each type.

use std::convert::Infallible;
use std::hash::Hash;

use similar::algorithms::{Capture, Compact, Replace, myers};
use similar::{DiffOp, diff_ratio};

/// What becomes of `old` so that it is `new`.
pub(super) fn compare<T: Hash + Eq>(old: &[T], new: &[T]) -> Vec<DiffOp> {
    let mut ops = Compact::new(Replace::new(Capture::new()), old, new);
    let done: Result<(), Infallible> = myers::diff(&mut ops, old, 0..old.len(), new, 0..new.len());
    let Ok(()) = done;
    ops.into_inner().into_inner().into_ops()
}

/// How much two texts have in common: 0 nothing, 1 all.
pub(super) fn likeness(a: &str, b: &str) -> f32 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    diff_ratio(&compare(&a, &b), a.len(), b.len())
}

/// Those of `names` that are most like `wanted`, the best first: up to `most` of them, each at least `alike` it.
pub(super) fn nearest<'a>(wanted: &str, names: &[&'a str], most: usize, alike: f32) -> Vec<&'a str> {
    let mut near: Vec<_> = names.iter().map(|name| (likeness(wanted, name), *name)).collect();
    near.retain(|(likeness, _)| *likeness >= alike);
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(most).map(|(_, name)| name).collect()
}
