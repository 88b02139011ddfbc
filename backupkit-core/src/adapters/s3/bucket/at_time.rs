//! What was there at a time, of all versions that a listing has.

use std::collections::HashMap;

use jiff::Timestamp;

use super::versions::{PagedVersion, VersionsPage};

/// Finds the version of each key that counts at a time: the newest one that is not younger, unless the key
/// was deleted between the two. If both happened in the same moment, the object counts, unless the listing
/// says that the deletion was the last of all.
///
/// Where [`Self::in_order`] is wanted, what was the newest one in the order of the listing counts instead.
///
/// A listing goes by pages, which may part the versions of a key. Only keys that the next page may go on
/// with are kept in memory.
#[derive(Debug)]
pub(in crate::adapters::s3) struct AtTime {
    until: Timestamp,
    is_by_order: bool,
    /// In the order of the listing.
    held: Vec<(String, Candidate)>,
}

/// What is known of a key while its versions are read.
#[derive(Debug, Default)]
struct Candidate {
    newest: Option<PagedVersion>,
    /// Whether the first one was a mark.
    is_gone: Option<bool>,
    /// When it was last deleted, and whether nothing came after that.
    deleted: Option<(Timestamp, bool)>,
}

impl AtTime {
    pub(in crate::adapters::s3) fn new(until: Timestamp) -> Self {
        Self { until, is_by_order: false, held: Vec::new() }
    }

    /// Goes by the order of the listing, which is that in which versions came to be: of each key the first
    /// one counts that is not younger.
    pub(in crate::adapters::s3) fn in_order(until: Timestamp) -> Self {
        Self { is_by_order: true, ..Self::new(until) }
    }

    /// Takes a page, and gives what counts of the keys that are over with it, in the order of the listing.
    pub(in crate::adapters::s3) fn take(&mut self, page: VersionsPage) -> Vec<PagedVersion> {
        let open = self.open_keys(&page);
        let mut candidates = std::mem::take(&mut self.held);
        let mut places: HashMap<String, usize> = HashMap::new();
        for (place, (key, _)) in candidates.iter().enumerate() {
            places.insert(key.clone(), place);
        }
        for version in page.versions {
            let place = places.get(&version.key).copied().unwrap_or_else(|| {
                places.insert(version.key.clone(), candidates.len());
                candidates.push((version.key.clone(), Candidate::default()));
                candidates.len() - 1
            });
            let candidate = &mut candidates[place].1;
            if !self.is_by_order {
                candidate.add(version, self.until);
            } else if version.modified <= self.until {
                candidate.add_first(version);
            }
        }
        let is_open = |(key, _): &(String, Candidate)| open.contains(key);
        let (held, over) = candidates.into_iter().partition(is_open);
        self.held = held;
        over.into_iter().filter_map(|(_, candidate): (_, Candidate)| candidate.pick()).collect()
    }

    /// The keys that may go on in the next page. Versions and marks are two lists of one page, so that it is
    /// not known which one its last line belongs to; and whether a marker names the last key or the next one,
    /// servers do not agree.
    fn open_keys(&self, page: &VersionsPage) -> Vec<String> {
        let Some(next) = &page.next else { return Vec::new() };
        let last_of = |is_mark: bool| {
            let mut backwards = page.versions.iter().rev();
            backwards.find(|version| version.is_mark() == is_mark).map(|version| &version.key)
        };
        let (object, mark) = (last_of(false), last_of(true));
        // What has objects here and is not the last of them is over. So is what began in an earlier page,
        // if there are others behind it.
        let is_over = |key: &&String| {
            let is_held = self.held.iter().any(|(held, _)| held == *key);
            object.is_some_and(|last| last != *key)
                && (is_held || page.versions.iter().any(|one| !one.is_mark() && one.key == **key))
        };
        let mark = mark.filter(|key| !is_over(key));
        [object, mark, Some(&next.key)].into_iter().flatten().cloned().collect()
    }
}

impl Candidate {
    fn add(&mut self, version: PagedVersion, until: Timestamp) {
        let PagedVersion { modified, is_latest, .. } = version;
        if modified > until {
            return;
        }
        if version.is_mark() {
            if self.deleted.is_none_or(|(time, _)| modified > time) {
                self.deleted = Some((modified, is_latest));
            }
        // Of two of the same moment the first one is newer.
        } else if self.newest.as_ref().is_none_or(|newest| modified > newest.modified) {
            self.newest = Some(version);
        }
    }

    /// Takes the first one only.
    fn add_first(&mut self, version: PagedVersion) {
        if self.is_gone.is_none() {
            self.is_gone = Some(version.is_mark());
            self.newest = Some(version).filter(|version| !version.is_mark());
        }
    }

    fn pick(self) -> Option<PagedVersion> {
        let newest = self.newest?;
        let is_gone = self.deleted.is_some_and(|(deleted, is_last)| {
            deleted > newest.modified || deleted == newest.modified && is_last
        });
        (!is_gone).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::versions::VersionMarker;
    use super::*;

    /// Keys and times of versions, newest first; a time below nothing is that of a mark.
    type Line = (&'static str, i64);

    fn version((key, seconds): Line, is_latest: bool) -> PagedVersion {
        PagedVersion {
            key: key.to_owned(),
            id: Some(format!("{key}{seconds}")),
            modified: Timestamp::from_second(seconds.abs()).unwrap(),
            is_latest,
            len_bytes: (seconds >= 0).then_some(1),
            etag: String::new(),
            storage_class: None,
        }
    }

    /// What counts at a time, if pages have so many lines.
    fn found(lines: &[Line], until: i64, page_lines: usize, names_next: bool) -> Vec<String> {
        let at_time = AtTime::new(Timestamp::from_second(until).unwrap());
        found_by(at_time, lines, page_lines, names_next)
    }

    fn found_by(
        mut at_time: AtTime,
        lines: &[Line],
        page_lines: usize,
        names_next: bool,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let mut pages = lines.chunks(page_lines).peekable();
        let mut before = "";
        while let Some(page) = pages.next() {
            let mut versions = Vec::new();
            for line in page {
                versions.push(version(*line, line.0 != before));
                before = line.0;
            }
            if !at_time.is_by_order {
                versions.sort_by_key(PagedVersion::is_mark);
            }
            let last = page.last().map(|(key, _)| *key);
            let first = pages.peek().and_then(|next| next.first()).map(|(key, _)| *key);
            let marker = if names_next { first } else { last.filter(|_| first.is_some()) };
            let next = marker.map(VersionMarker::behind);
            let taken = at_time.take(VersionsPage { versions, next, is_encoded: true });
            found.extend(taken.into_iter().filter_map(|version| version.id));
            assert!(at_time.held.len() <= 3, "bounded: {:?}", at_time.held);
        }
        found
    }

    #[test]
    fn wherever_pages_end_the_same_counts_in_the_order_of_the_listing() {
        let lines = [
            ("a", -9),
            ("a", 8),
            ("a", 2),
            ("b", 9),
            ("b", -8),
            ("b", -7),
            ("b", 1),
            ("c", -3),
            ("c", -2),
            ("d", 9),
            ("e", 5),
            ("e", 4),
            ("e", -3),
            ("e", 2),
            ("f", -1),
            ("g", 4),
        ];
        for (until, expected) in [
            (0, &[][..]),
            (1, &["b1"][..]),
            (2, &["a2", "b1", "e2"]),
            (3, &["a2", "b1"]),
            (4, &["a2", "b1", "e4", "g4"]),
            (7, &["a2", "e5", "g4"]),
            (8, &["a8", "e5", "g4"]),
            (9, &["b9", "d9", "e5", "g4"]),
        ] {
            for page_lines in 1..=lines.len() {
                for names_next in [false, true] {
                    let found = found(&lines, until, page_lines, names_next);
                    assert_eq!(found, expected, "{until} {page_lines} {names_next}");
                    let by_order = AtTime::in_order(Timestamp::from_second(until).unwrap());
                    let found = found_by(by_order, &lines, page_lines, names_next);
                    assert_eq!(found, expected, "{until} {page_lines} {names_next}");
                }
            }
        }
    }

    #[test]
    fn what_happened_in_one_moment_is_gone_only_if_nothing_came_after() {
        assert_eq!(found(&[("a", -1), ("a", 1)], 1, 9, false), [""; 0]);
        assert_eq!(found(&[("a", 2), ("a", -1), ("a", 1)], 1, 9, false), ["a1"]);
    }

    #[test]
    fn by_order_what_comes_first_counts_whatever_its_time() {
        let by_order = |until, lines: &[Line]| {
            let at_time = AtTime::in_order(Timestamp::from_second(until).unwrap());
            found_by(at_time, lines, 2, false)
        };
        assert_eq!(by_order(1, &[("a", 2), ("a", -1), ("a", 1)]), [""; 0]);
        // Written in parts: begun before the one that it replaced.
        assert_eq!(by_order(9, &[("a", 3), ("a", 5), ("b", 1)]), ["a3", "b1"]);
    }
}
