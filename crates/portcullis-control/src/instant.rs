//! Instants at the edges of the control plane: RFC 3339 in the API, milliseconds in the store and
//! in the feed. It never asks what time it is.

use std::fmt;

use jiff::Timestamp;
use portcullis_core::time::WallMs;
use serde::{Serialize, Serializer};

/// The last instant that can be written with a four-digit year, in milliseconds.
const END_OF_YEAR_9999: i64 = 253_402_300_799_999;

/// An instant as the API shows it: RFC 3339, UTC, microseconds.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(pub(crate) WallMs);

impl Stamp {
    /// The instant stored in a `_ms` column.
    pub(crate) fn of_column(ms: i64) -> Stamp {
        Stamp(wall(ms))
    }

    /// Parses RFC 3339 with any offset. Digits below the millisecond are cut off, so that no
    /// deadline ever lies later than written.
    pub(crate) fn parse(text: &str) -> Option<Stamp> {
        let ms = text.parse::<Timestamp>().ok()?.as_millisecond();
        (0..=END_OF_YEAR_9999).contains(&ms).then(|| Stamp::of_column(ms))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Timestamp::from_millisecond(column(self.0).min(END_OF_YEAR_9999));
        write!(f, "{:.6}", shown.unwrap_or(Timestamp::MAX))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An instant for a `_ms` column.
pub(crate) fn column(at: WallMs) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// The instant of a `_ms` column. Nothing before 1970 is ever stored.
pub(crate) fn wall(ms: i64) -> WallMs {
    WallMs(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Stamp, WallMs};

    #[test]
    fn an_instant_is_shown_with_six_digits_in_utc() {
        assert_eq!(Stamp(WallMs(1_795_305_600_123)).to_string(), "2026-11-22T00:00:00.123000Z");
    }

    #[test]
    fn an_offset_is_understood_and_digits_below_a_millisecond_are_cut() {
        assert_eq!(
            Stamp::parse("2026-11-22T02:00:00.123999+02:00"),
            Some(Stamp(WallMs(1_795_305_600_123)))
        );
    }

    #[test]
    fn what_is_no_instant_or_outside_the_calendar_is_refused() {
        for text in ["", "tomorrow", "2026-11-22", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z"]
        {
            assert_eq!(Stamp::parse(text), None, "{text}");
        }
    }
}
