//! Which objects are backed up.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Error, ErrorKind, Result};

/// Which objects of a bucket are backed up: those that all parts of it take. All, if it has none.
///
/// Patterns are matched with the key below the prefix of the source, letter by letter. `*` and `?` stand
/// for anything but `/`, `**/` for any folders, `[ab]` and `{a,b}` for one of several, and `\` takes the
/// meaning from the character behind it. A pattern without `/` is matched with the last part of the key;
/// one that ends with `/` takes all that is in such a folder, wherever that is if there is no other `/`;
/// a first `/` is the place of the prefix.
#[derive(Debug, Clone, Default)]
pub struct S3Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    min_bytes: Option<u64>,
    max_bytes: Option<u64>,
    min_age: Option<Duration>,
    max_age: Option<Duration>,
    storage_classes: Vec<String>,
    include_tags: Vec<String>,
    exclude_tags: Vec<String>,
}

/// What a filter is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// Below the prefix.
    pub(super) key: &'a str,
    /// Nothing for the mark of a deletion, which has no class either.
    pub(super) len_bytes: Option<u64>,
    /// In seconds since 1970.
    pub(super) modified: Option<i64>,
    pub(super) storage_class: Option<&'a str>,
}

impl S3Filter {
    /// Takes only objects that one of these patterns matches.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no pattern.
    pub fn with_include<P: AsRef<str>>(mut self, patterns: &[P]) -> Result<Self> {
        self.include = if patterns.is_empty() { None } else { Some(patterns_of(patterns)?) };
        Ok(self)
    }

    /// Leaves out objects that one of these patterns matches, also if one of [`Self::with_include`] does.
    ///
    /// # Errors
    /// `InvalidInput` for a text that is no pattern.
    pub fn with_exclude<P: AsRef<str>>(mut self, patterns: &[P]) -> Result<Self> {
        self.exclude = patterns_of(patterns)?;
        Ok(self)
    }

    /// Leaves out objects with fewer bytes than the first number, or more than the second one.
    #[must_use]
    pub fn with_size(mut self, min_bytes: Option<u64>, max_bytes: Option<u64>) -> Self {
        (self.min_bytes, self.max_bytes) = (min_bytes, max_bytes);
        self
    }

    /// Leaves out objects that were written less than the first time before the backup began, or more than
    /// the second one. One whose time the server does not tell is taken.
    #[must_use]
    pub fn with_age(mut self, min_age: Option<Duration>, max_age: Option<Duration>) -> Self {
        (self.min_age, self.max_age) = (min_age, max_age);
        self
    }

    /// Takes only objects in these storage classes, such as `STANDARD`; in all of them if there is none.
    /// One whose class the server does not tell is in `STANDARD`.
    #[must_use]
    pub fn with_storage_classes(mut self, classes: impl IntoIterator<Item = String>) -> Self {
        self.storage_classes = classes.into_iter().collect();
        self
    }

    /// Takes only objects with one of the first tags, if there are any, and none of the second ones. A tag is
    /// `name=value`, or `name` for any value.
    ///
    /// Tags are in no listing: each object that the other parts take costs a request in each backup. A key
    /// that may not read tags cannot tell which objects are meant, and the backup fails.
    #[must_use]
    pub fn with_tags<T: Into<String>>(
        mut self,
        include: impl IntoIterator<Item = T>,
        exclude: impl IntoIterator<Item = T>,
    ) -> Self {
        self.include_tags = include.into_iter().map(T::into).collect();
        self.exclude_tags = exclude.into_iter().map(T::into).collect();
        self
    }

    /// Whether tags have to be known.
    pub(super) fn asks_for_tags(&self) -> bool {
        !(self.include_tags.is_empty() && self.exclude_tags.is_empty())
    }

    /// Whether an object with these tags is taken.
    pub(super) fn takes_tags(&self, tags: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| {
            tags.iter().any(|(name, value)| {
                let rest = wanted.strip_prefix(name.as_str());
                rest.is_some_and(|rest| {
                    rest.is_empty() || rest.strip_prefix('=') == Some(value.as_str())
                })
            })
        };
        (self.include_tags.is_empty() || self.include_tags.iter().any(has))
            && !self.exclude_tags.iter().any(has)
    }

    /// Whether an object is taken, whatever its tags, by a backup that began `now`, in seconds since 1970.
    pub(super) fn takes(&self, candidate: &Candidate<'_>, now: i64) -> bool {
        let Candidate { key, len_bytes, modified, storage_class } = *candidate;
        let class = storage_class.unwrap_or("STANDARD");
        // What is said to be of the future is new.
        let age = modified.map(|modified| {
            Duration::from_secs(u64::try_from(now.saturating_sub(modified)).unwrap_or_default())
        });
        self.include.as_ref().is_none_or(|include| include.is_match(key))
            && !self.exclude.is_match(key)
            && self.min_bytes.is_none_or(|least| len_bytes.is_none_or(|length| length >= least))
            && self.max_bytes.is_none_or(|most| len_bytes.is_none_or(|length| length <= most))
            && self.min_age.is_none_or(|least| age.is_none_or(|age| age >= least))
            && self.max_age.is_none_or(|most| age.is_none_or(|age| age <= most))
            && (self.storage_classes.is_empty()
                || len_bytes.is_none()
                || self.storage_classes.iter().any(|one| one == class))
    }
}

fn patterns_of<P: AsRef<str>>(patterns: &[P]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let wrong = |error: globset::Error| {
            let shown = pattern.as_ref().escape_debug();
            let message = format!("cannot use the pattern {shown}: {}", error.kind());
            Error::new(ErrorKind::InvalidInput, message).with_code("s3-wrong-pattern")
        };
        let glob = whole_pattern(pattern.as_ref());
        // As in every key, `/` divides, and `\` can take the meaning from a star on each system.
        let glob = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build();
        set.add(glob.map_err(wrong)?);
    }
    set.build().map_err(|error| {
        let message = format!("cannot use so many patterns: {}", error.kind());
        Error::new(ErrorKind::InvalidInput, message).with_code("s3-wrong-pattern")
    })
}

/// A pattern of whole keys.
fn whole_pattern(pattern: &str) -> String {
    let (body, end) = match pattern.strip_suffix('/') {
        Some(folder) => (folder, "/**"),
        None => (pattern, ""),
    };
    match body.strip_prefix('/') {
        Some(anchored) => format!("{anchored}{end}"),
        None if body.contains('/') => format!("{body}{end}"),
        None => format!("**/{body}{end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str) -> Candidate<'_> {
        Candidate { key, len_bytes: Some(10), modified: Some(1_000), storage_class: None }
    }

    fn matches(pattern: &str, key: &str) -> bool {
        let filter = S3Filter::default().with_include(&[pattern]).unwrap();
        filter.takes(&object(key), 1_000)
    }

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, yes, no) in [
            ("*.tmp", &["a.tmp", "x/a.tmp", "x/y/.tmp"][..], &["a.tmpx", "a.tmp/x"][..]),
            ("cache/", &["cache/x", "a/cache/x/y"], &["cache", "a/cachex/y", "xcache/y"]),
            ("/cache/", &["cache/x"], &["a/cache/x"]),
            ("a/*", &["a/x"], &["a/x/y", "b/a/x", "ax"]),
            ("a/**", &["a/x", "a/x/y"], &["b/a/x", "a"]),
            ("**/b/*.txt", &["b/x.txt", "a/b/x.txt"], &["b/c/x.txt"]),
            ("/top", &["top"], &["a/top"]),
            ("{a,b}?", &["ax", "d/bx"], &["a", "cx"]),
            ("\\*", &["*", "a/*"], &["x"]),
            ("ä*", &["äpfel"], &["apfel"]),
            ("A", &["A"], &["a"]),
            ("a//b", &["a//b"], &["a/b"]),
        ] {
            for key in yes {
                assert!(matches(pattern, key), "{pattern} {key}");
            }
            for key in no {
                assert!(!matches(pattern, key), "{pattern} {key}");
            }
        }
        let error = S3Filter::default().with_exclude(&["a[".to_owned()]).unwrap_err();
        assert_eq!(error.code(), "s3-wrong-pattern", "{error}");
    }

    #[test]
    fn tags_are_names_or_names_with_a_value() {
        let tagged = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (live, test) = (tagged(&[("stage", "live"), ("x", "")]), tagged(&[("stage", "test")]));
        let (odd, none) = (tagged(&[("a=b", "c=d")]), tagged(&[]));
        let no: &[&str] = &[];
        for (include, exclude, taken) in [
            (no, no, [true, true, true, true]),
            (&["stage"], no, [true, true, false, false]),
            (&["stage=live"], no, [true, false, false, false]),
            (&["stage="], no, [false; 4]),
            (&["stag"], no, [false; 4]),
            (&["x=", "stage=test"], no, [true, true, false, false]),
            (no, &["stage=test"], [true, false, true, true]),
            (&["stage"], &["x"], [false, true, false, false]),
            (&["a=b"], no, [false, false, true, false]),
            (&["a=b=c=d"], no, [false, false, true, false]),
            (&["a"], no, [false; 4]),
        ] {
            let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let (include, exclude): (Vec<String>, Vec<String>) = (words(include), words(exclude));
            let filter = S3Filter::default().with_tags(include.clone(), exclude.clone());
            assert_eq!(filter.asks_for_tags(), !(include.is_empty() && exclude.is_empty()));
            let found = [&live, &test, &odd, &none].map(|tags| filter.takes_tags(tags));
            assert_eq!(found, taken, "{include:?} {exclude:?}");
        }
    }

    #[test]
    fn every_part_of_a_filter_has_to_take_an_object() {
        let takes = |filter: &S3Filter| filter.takes(&object("a/x"), 1_000 + 86_400);
        let all = S3Filter::default();
        assert!(takes(&all));
        let both = all.clone().with_include(&["a/"]).unwrap();
        assert!(takes(&both) && !takes(&both.with_exclude(&["x"]).unwrap()));
        for (min, max, is_taken) in [
            (None, None, true),
            (Some(10), Some(10), true),
            (Some(11), None, false),
            (None, Some(9), false),
        ] {
            assert_eq!(takes(&all.clone().with_size(min, max)), is_taken, "{min:?} {max:?}");
        }
        let day = Duration::from_hours(24);
        for (min, max, is_taken) in [
            (Some(day), Some(day), true),
            (Some(day * 2), None, false),
            (None, Some(day / 2), false),
        ] {
            let filter = all.clone().with_age(min, max);
            assert_eq!(takes(&filter), is_taken, "{min:?} {max:?}");
            let untold = Candidate { modified: None, ..object("a/x") };
            assert!(filter.takes(&untold, 1_000), "nobody knows its age");
        }
        assert!(takes(&all.clone().with_storage_classes(["STANDARD".to_owned()])));
        let cold = all.with_storage_classes(["GLACIER_IR".to_owned()]).with_size(Some(99), None);
        assert!(!takes(&cold));
        let mark = Candidate { len_bytes: None, ..object("a/x") };
        assert!(cold.takes(&mark, 1_000), "it has neither");
        assert!(!cold.with_exclude(&["a/"]).unwrap().takes(&mark, 1_000));
    }
}
