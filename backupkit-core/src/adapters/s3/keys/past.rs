//! Names of older versions: `pictures%versions/photos/a.jpg%past/20261124T123456.789000Z-ID` beside `pictures`.
//!
//! The names of the versions of a key sort by bytes from the oldest to the newest. The time in them is that
//! of the version, but always before that of the next newer one: servers name whole seconds, and AWS gives
//! an object that was written in parts the time when that began.

use jiff::{SignedDuration, Timestamp};

use super::{EMPTY, LONG, Name, OBJECT, escaped, hash};
use crate::model::EntryPath;

/// Ends the name of the directory with the older versions of a bucket, beside its directory.
const VERSIONS: &str = "%versions";
/// Ends the name of the directory with the older versions of a key.
const PAST: &str = "%past";
/// Ends the name of a version that is the mark of a deletion.
const DELETED: &str = "%deleted";
const TIME: &str = "%Y%m%dT%H%M%S.%6fZ";
/// Identifiers up to this length are written whole; those of servers have 32 to 36 characters.
const LONGEST_ID: usize = 128;
const MICROSECOND: SignedDuration = SignedDuration::from_micros(1);

/// The name of the directory with the older versions of a bucket.
pub(in super::super) fn versions_name(bucket: &str) -> String {
    Name::of(bucket).text + VERSIONS
}

/// Whether this is the name of a directory with the older versions of a bucket, if it stands beside that.
pub(in super::super) fn is_versions(name: &[u8]) -> bool {
    name.ends_with(VERSIONS.as_bytes())
}

/// The name of the directory of a bucket, of which this directory has the older versions.
pub(in super::super) fn name_of_versions(name: &[u8]) -> Option<&[u8]> {
    name.strip_suffix(VERSIONS.as_bytes())
}

/// The name of the directory with the older versions of a key whose last part has this name.
pub(in super::super) fn past_name(name: &str) -> String {
    format!("{name}{PAST}")
}

/// The name of the last part of a key, of which this directory has the older versions.
pub(in super::super) fn name_of_past(name: &[u8]) -> Option<&[u8]> {
    name.strip_suffix(PAST.as_bytes())
}

/// Whether a version of this name is the mark of a deletion.
pub(in super::super) fn is_deletion(name: &[u8]) -> bool {
    name.ends_with(DELETED.as_bytes())
}

/// Where the tree of older versions has what stands at this undivided place in that of its bucket.
pub(in super::super) fn past_side(place: &EntryPath) -> EntryPath {
    let mut names = place.names();
    let bucket = [names.next().unwrap_or_default(), VERSIONS.as_bytes()].concat();
    EntryPath::from_names([bucket].into_iter().chain(names.map(<[u8]>::to_vec)))
}

/// The same, for the older versions of an object: two places, as those may stand beside a directory or not,
/// whether the object does or does not. For a directory, of its marker.
pub(in super::super) fn past_of_object(place: &EntryPath, is_marker: bool) -> [EntryPath; 2] {
    let mut above = past_side(place);
    let mut name = EMPTY.as_bytes().to_vec();
    if !is_marker {
        let own = above.name().unwrap_or_default();
        name = own.strip_suffix(OBJECT.as_bytes()).unwrap_or(own).to_vec();
        above.pop();
    }
    ["", OBJECT].map(|end| above.join(&[&name, end.as_bytes(), PAST.as_bytes()].concat()))
}

/// Where the object stands in the tree of its bucket whose older versions are in the directory at this
/// undivided place, if it does not stand beside a directory; nothing if that is no such directory.
pub(in super::super) fn object_of_past(past: &EntryPath) -> Option<EntryPath> {
    let name = name_of_past(past.name()?)?;
    let name = name.strip_suffix(OBJECT.as_bytes()).unwrap_or(name);
    let above = past.parent()?;
    let mut names = above.names();
    let bucket = name_of_versions(names.next()?)?;
    let names = [bucket].into_iter().chain(names).chain([name]);
    Some(EntryPath::from_names(names))
}

/// Times that names of the versions of one key have, from the newest version to the oldest.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Times {
    newer: Option<Timestamp>,
}

impl Times {
    /// Those behind a version that has this time.
    pub(in super::super) fn behind(newer: Timestamp) -> Self {
        Self { newer: Some(newer) }
    }

    /// The time of the next older version, which the server says is of `modified`.
    pub(in super::super) fn next(&mut self, modified: Timestamp) -> Timestamp {
        let before = self.newer.and_then(|newer| newer.checked_sub(MICROSECOND).ok());
        let time = before.map_or(modified, |before| before.min(modified));
        self.newer = Some(time);
        time
    }
}

/// The name of a version.
pub(in super::super) fn version_name(time: Timestamp, id: &str, is_deletion: bool) -> String {
    let end = if is_deletion { DELETED } else { "" };
    let whole = escaped(id);
    let id = if whole.len() <= LONGEST_ID { whole } else { format!("{LONG}{}", hash(id)) };
    format!("{}-{id}{end}", time.strftime(TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn names_sort_from_the_oldest_to_the_newest_even_within_a_second() {
        let mut times = Times::behind(at("2026-11-24T12:00:01Z"));
        // From the newest: the second was begun earlier than the third, and written later.
        let told = ["2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z", "2026-11-24T12:00:05Z"];
        let names = told.map(|modified| version_name(times.next(at(modified)), "id", false));
        let expected = [
            "20261124T120000.000000Z-id",
            "20261124T115959.999999Z-id",
            "20261124T115959.999998Z-id",
        ];
        assert_eq!(names, expected);
        assert!(names.is_sorted_by(|newer, older| newer > older));
    }

    #[test]
    fn a_time_stays_what_it_is_if_no_newer_version_forbids_it() {
        let mut times = Times::default();
        let modified = at("2026-11-24T12:00:00.123456Z");
        assert_eq!(times.next(modified), modified);
    }

    #[test]
    fn a_name_fits_into_every_file_system() {
        let id = "x/".repeat(600);
        let name = version_name(Timestamp::UNIX_EPOCH, &id, true);
        assert!(name.len() <= 255 && !name.contains('/'), "{name}");
        assert!(is_deletion(name.as_bytes()));
        assert!(past_name(&Name::of(&"k".repeat(1_000)).text).len() <= 255);
        assert!(past_name(&Name::of(&"k".repeat(248)).text).len() <= 255);
    }

    #[test]
    fn no_part_of_a_key_has_the_name_of_a_directory_of_versions() {
        for part in ["a%past", "a%versions", "%past"] {
            let name = Name::of(part).text;
            assert!(name_of_past(name.as_bytes()).is_none() && !is_versions(name.as_bytes()));
        }
        assert_eq!(name_of_past(past_name("a").as_bytes()), Some(&b"a"[..]));
        assert!(is_versions(versions_name("pictures").as_bytes()));
    }
}
