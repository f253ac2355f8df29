//! Times as the `bd` tool writes them: RFC 3339 with any offset, to the nanosecond.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lakitu_kernel::clock::Timestamp;

/// Since 1970-01-01 UTC; what lies before that is as good as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (local, offset) = if let Some(local) = text.strip_suffix(['Z', 'z']) {
            (local, 0)
        } else {
            let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            (local, seconds(offset)?)
        };
        let time: SystemTime = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let shift = Duration::from_secs(i64::unsigned_abs(offset));
        Some(Self(if offset > 0 { since.saturating_sub(shift) } else { since.checked_add(shift)? }))
    }

    /// To the millisecond.
    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(Duration::from_millis(at.0))
    }
}

/// `+02:00`, in seconds.
fn seconds(offset: &str) -> Option<i64> {
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_taken_into_account_and_nanoseconds_are_compared() {
        let at = |text| Moment::parse(text);
        assert_eq!(at("2025-10-14T14:43:06.907657-07:00"), at("2025-10-14T21:43:06.907657Z"));
        assert_eq!(at("2025-10-14T14:43:06+05:30"), at("2025-10-14T09:13:06Z"));
        assert!(at("2025-10-14T14:43:06.000000001Z") > at("2025-10-14T14:43:06Z"));
        assert_eq!(at("1970-01-01T00:00:01.5Z").map(Moment::timestamp), Some(Timestamp(1500)));
        for wrong in ["", "yesterday", "2025-10-14", "2025-10-14T14:43:06", "2025-10-14T14:43:06+5:30", "ä+00:00"] {
            assert_eq!(at(wrong), None, "{wrong:?}");
        }
    }
}
