//! Times as trees and snapshots hold them: with nanoseconds and the offset of their time zone.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time with the UTC offset in which it is written.
///
/// Text form is Go's `RFC3339Nano`, which the format asks for: no trailing zeros in the fraction, `Z`
/// for offset zero, years 0 to 9999. Two values are equal only if their offsets are, since trees are
/// compared byte by byte; use [`Self::same_instant`] to compare times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileTime {
    seconds: i64,
    nanoseconds: u32,
    offset_minutes: i16,
}

/// From 0000-01-02T00:00:00Z to 9999-12-30T22:00:00Z: what the text form and the calendar library can
/// hold with any offset.
const SECONDS: std::ops::RangeInclusive<i64> = -62_167_132_800..=253_402_207_200;

impl FileTime {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { seconds: 0, nanoseconds: 0, offset_minutes: 0 };

    /// Returns the time `seconds` and `nanoseconds` after 1970, in UTC. What the text form cannot hold
    /// is clamped to it.
    pub fn from_unix(seconds: i64, nanoseconds: u32) -> Self {
        Self {
            seconds: seconds.clamp(*SECONDS.start(), *SECONDS.end()),
            nanoseconds: nanoseconds.min(999_999_999),
            offset_minutes: 0,
        }
    }

    /// Returns the same instant, written in `time_zone`.
    #[must_use]
    pub fn in_time_zone(mut self, time_zone: &TimeZone) -> Self {
        let offset = time_zone.to_offset(self.timestamp());
        self.offset_minutes = i16::try_from(offset.seconds() / 60).unwrap_or_default();
        self
    }

    /// Returns `timestamp`, written in `time_zone`.
    pub fn from_timestamp(timestamp: Timestamp, time_zone: &TimeZone) -> Self {
        let nanoseconds = timestamp.as_nanosecond();
        let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or_default();
        let rest = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default();
        Self::from_unix(seconds, rest).in_time_zone(time_zone)
    }

    /// The instant.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_nanosecond(
            i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds),
        )
        .unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Whole seconds since 1970, rounded down.
    pub fn unix_seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::unix_seconds`].
    pub fn nanoseconds(&self) -> u32 {
        self.nanoseconds
    }

    /// The offset from UTC in minutes, east positive.
    pub fn offset_minutes(&self) -> i16 {
        self.offset_minutes
    }

    /// Whether both name the same instant, whatever their offsets.
    pub fn same_instant(&self, other: &Self) -> bool {
        (self.seconds, self.nanoseconds) == (other.seconds, other.nanoseconds)
    }

    fn local(&self) -> DateTime {
        let offset =
            Offset::from_seconds(i32::from(self.offset_minutes) * 60).unwrap_or(Offset::UTC);
        offset.to_datetime(self.timestamp())
    }
}

impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.local();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )?;
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if self.offset_minutes == 0 {
            return f.write_str("Z");
        }
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// The text is not a time in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time in RFC 3339")]
pub struct ParseTimeError;

impl FromStr for FileTime {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        parse(text.as_bytes()).ok_or(ParseTimeError)
    }
}

fn parse(text: &[u8]) -> Option<FileTime> {
    let (date_time, rest) = text.split_at_checked(19)?;
    for (at, separator) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if date_time[at] != separator {
            return None;
        }
    }
    let field = |range: std::ops::Range<usize>| number(&date_time[range]);
    let (fraction, zone) = match rest.strip_prefix(b".") {
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (&rest[..digits], &rest[digits..])
        }
        None => (&b""[..], rest),
    };
    if rest.starts_with(b".") && !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let mut nanoseconds = number(fraction).unwrap_or_default();
    for _ in fraction.len()..9 {
        nanoseconds *= 10;
    }
    let offset_minutes = match zone {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), hours @ .., _, _, _] if zone.len() == 6 && zone[3] == b':' => {
            let minutes = number(&zone[4..6]).filter(|minutes| *minutes < 60)?;
            let offset = number(hours).filter(|hours| *hours < 24)? * 60 + minutes;
            let offset = i16::try_from(offset).ok()?;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let narrow = |value: u32| i8::try_from(value).ok();
    let local = DateTime::new(
        i16::try_from(field(0..4)?).ok()?,
        narrow(field(5..7)?)?,
        narrow(field(8..10)?)?,
        narrow(field(11..13)?)?,
        narrow(field(14..16)?)?,
        narrow(field(17..19)?)?,
        0,
    )
    .ok()?;
    let utc = Offset::UTC.to_timestamp(local).ok()?;
    Some(FileTime {
        seconds: utc.as_second() - i64::from(offset_minutes) * 60,
        nanoseconds,
        offset_minutes,
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Serialize for FileTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = FileTime;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in RFC 3339")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<FileTime, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_go_writes() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2001-09-09T07:16:40.123456789+05:30",
            "2001-09-09T07:16:41.5-03:30",
            "0001-01-01T00:00:00Z",
            "9999-12-30T12:59:59.000000001Z",
            "1969-12-31T23:59:59.9Z",
        ] {
            assert_eq!(text.parse::<FileTime>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "2001-09-09",
            "2001-09-09 07:16:40Z",
            "2001-09-09T07:16:40",
            "2001-13-09T07:16:40Z",
            "2001-09-09T07:16:40.Z",
            "2001-09-09T07:16:40+0530",
            "2001-09-09T07:16:40+25:00",
            "2001-09-09T07:16:40.1234567891Z",
            "+001-09-09T07:16:40Z",
        ] {
            assert!(text.parse::<FileTime>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_offset_is_that_of_the_zone_at_that_time() {
        let kolkata = TimeZone::fixed(Offset::constant(5)); // no zone files needed
        let time = FileTime::from_unix(1_000_000_000, 5).in_time_zone(&kolkata);
        assert_eq!(time.to_string(), "2001-09-09T06:46:40.000000005+05:00");
        assert!(time.same_instant(&FileTime::from_unix(1_000_000_000, 5)));
    }
}
