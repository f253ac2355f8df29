//! Whether beads would wait for each other in a ring.

use std::collections::BTreeMap;

use lakitu_kernel::BeadId;

/// A way from one of `from` to `to` along what `next` says, as the beads on it, both ends included. Each bead is looked at
/// once, and there is no recursion: a chain may be as long as there are beads.
pub(super) fn way<E>(
    from: &[BeadId],
    to: &BeadId,
    mut next: impl FnMut(&BeadId) -> Result<Vec<BeadId>, E>,
) -> Result<Option<Vec<BeadId>>, E> {
    // Each bead that was reached, and from where.
    let mut reached: BTreeMap<BeadId, Option<BeadId>> = from.iter().map(|id| (id.clone(), None)).collect();
    let mut open: Vec<BeadId> = from.to_vec();
    while let Some(id) = open.pop() {
        if id == *to {
            let mut way = vec![id];
            while let Some(Some(before)) = way.last().and_then(|id| reached.get(id)) {
                way.push(before.clone());
            }
            way.reverse();
            return Ok(Some(way));
        }
        for further in next(&id)? {
            if !reached.contains_key(&further) {
                reached.insert(further.clone(), Some(id.clone()));
                open.push(further);
            }
        }
    }
    Ok(None)
}

/// The beads of a ring in a sentence; of a long one both ends.
pub(super) fn shown(ring: &[BeadId]) -> String {
    const ENDS: usize = 10;
    let names = |ids: &[BeadId]| ids.iter().map(BeadId::as_str).collect::<Vec<_>>().join(" → ");
    match (ring.get(..ENDS), ring.len().checked_sub(ENDS).and_then(|at| ring.get(at..))) {
        (Some(first), Some(last)) if ring.len() > 2 * ENDS => {
            format!("{} → … {} more … → {}", names(first), ring.len() - 2 * ENDS, names(last))
        }
        _ => names(ring),
    }
}
