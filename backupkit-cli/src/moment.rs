//! Moments as people write them.

use backupkit_core::{Env, Error, Result};
use jiff::civil::DateTime;
use jiff::{Timestamp, Zoned};

use crate::exit::usage;

/// Returns a moment in the past: `2026-03-01T14:00:00Z`, or without a zone in that of this machine.
///
/// # Errors
/// A usage error for other texts, and for moments that are to come.
pub(crate) fn parse(text: &str, env: &Env) -> Result<Timestamp> {
    let local = || text.parse::<DateTime>().ok()?.to_zoned(env.time_zone().clone()).ok();
    let zoned = || text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp());
    let local = || local().map(|local| local.timestamp()).filter(|_| !text.contains('['));
    let parsed = text.parse().ok().or_else(zoned).or_else(local);
    let time: Timestamp = parsed.ok_or_else(|| wrong(text, "is no time"))?;
    if time > env.now() { Err(wrong(text, "is yet to come")) } else { Ok(time) }
}

fn wrong(text: &str, why: &str) -> Error {
    usage(format!("{text:?} {why}"))
        .with_hint("write it as \"2026-03-01 14:00\", 2026-03-01 or 2026-03-01T14:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_of_here_unless_they_say_otherwise() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        let env = Env::system().with_time_zone(zone);
        let read = |text: &str| parse(text, &env).map(|time| time.to_string()).ok();
        assert_eq!(read("2026-03-01 14:00").as_deref(), Some("2026-03-01T12:00:00Z"));
        assert_eq!(read("2026-03-01").as_deref(), Some("2026-02-28T22:00:00Z"));
        assert_eq!(read("2026-03-01T14:00:00Z").as_deref(), Some("2026-03-01T14:00:00Z"));
        let named = read("2026-03-01 14:00[America/New_York]");
        assert_eq!(named.as_deref(), Some("2026-03-01T19:00:00Z"));
        for text in
            ["2026-03-01 14:00[Nowhere/Else]", "", "yesterday", "14:00", "2999-01-01", "2026-13-01"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
