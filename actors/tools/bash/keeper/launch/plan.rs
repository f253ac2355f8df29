//! Which mounts hide what is to be hidden: a pure decision over paths.

use std::path::{Path, PathBuf};

use crate::Visible;

/// One mount, in the order in which they are made: parents before what lies below them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Cover it with nothing.
    Cover(PathBuf),
    /// Bind it back over the cover of a directory above it.
    Reveal(Visible),
}

/// Decides the mounts. What is hidden by a directory above it already needs none; what is visible needs one only below
/// a hidden directory; of two words on one path, "hidden" counts.
pub(crate) fn plan(hidden: &[PathBuf], visible: &[Visible]) -> Vec<Step> {
    let mut wishes: Vec<Step> = hidden.iter().cloned().map(Step::Cover).collect();
    wishes.extend(visible.iter().cloned().map(Step::Reveal));
    wishes.sort_by(|a, b| a.path().cmp(b.path()).then(a.hides().cmp(&b.hides()).reverse()));

    let mut steps: Vec<Step> = Vec::new();
    let mut above: Vec<usize> = Vec::new(); // the steps whose paths contain the one at hand, outermost first
    for wish in wishes {
        while above.last().and_then(|at| steps.get(*at)).is_some_and(|step| !wish.path().starts_with(step.path())) {
            above.pop();
        }
        let nearest = above.last().and_then(|at| steps.get(*at));
        let is_hidden = nearest.is_some_and(Step::hides);
        let decided_already = nearest.is_some_and(|step| step.path() == wish.path());
        if wish.hides() != is_hidden && !decided_already {
            above.push(steps.len());
            steps.push(wish);
        }
    }
    steps
}

impl Step {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Cover(path) => path,
            Self::Reveal(visible) => &visible.path,
        }
    }

    fn hides(&self) -> bool {
        matches!(self, Self::Cover(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(hidden: &[&str], visible: &[&str]) -> Vec<String> {
        let hidden: Vec<PathBuf> = hidden.iter().map(PathBuf::from).collect();
        let visible: Vec<Visible> =
            visible.iter().map(|path| Visible { path: path.into(), read_only: false }).collect();
        let name = |step: &Step| format!("{}{}", if step.hides() { "-" } else { "+" }, step.path().display());
        plan(&hidden, &visible).iter().map(name).collect()
    }

    #[test]
    fn parents_come_first_and_nothing_is_mounted_twice() {
        assert_eq!(planned(&["/d/jobs", "/d", "/d"], &[]), ["-/d"]);
        assert_eq!(planned(&["/d", "/token"], &["/d/out"]), ["-/d", "+/d/out", "-/token"]);
        assert_eq!(planned(&["/d"], &["/d/out/t", "/d/out"]), ["-/d", "+/d/out"]);
    }

    #[test]
    fn a_name_that_begins_alike_is_not_below() {
        assert_eq!(planned(&["/d"], &["/data/out"]), ["-/d"]);
        assert_eq!(planned(&["/d", "/d-2"], &["/d/w"]), ["-/d", "+/d/w", "-/d-2"]);
    }

    #[test]
    fn what_is_hidden_in_a_visible_directory_is_covered_again() {
        assert_eq!(planned(&["/d", "/d/w/.key"], &["/d/w"]), ["-/d", "+/d/w", "-/d/w/.key"]);
        assert_eq!(planned(&["/d", "/d/w/k"], &["/d/w", "/d/w/k/x"]), ["-/d", "+/d/w", "-/d/w/k", "+/d/w/k/x"]);
    }

    #[test]
    fn visible_without_anything_hidden_above_is_left_alone() {
        assert_eq!(planned(&[], &["/w"]), Vec::<String>::new());
        assert_eq!(planned(&["/w/.git/key"], &["/w"]), ["-/w/.git/key"]);
    }

    #[test]
    fn hidden_wins_over_visible() {
        assert_eq!(planned(&["/d"], &["/d"]), ["-/d"]);
    }
}
