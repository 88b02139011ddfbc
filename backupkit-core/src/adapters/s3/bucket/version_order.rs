//! The order of the lines of a page of versions. The client gives objects and marks of deletions apart, but
//! only their order says which was before which within a second.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::versions::PagedVersion;
use crate::adapters::s3::keys::by_tree;

/// Looks which lines of a reply are marks.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<bool>>>);

impl Lines {
    /// Puts objects and marks, of each key the newest first, in the order of the reply. Where a server lists
    /// the ones behind the others, those of a key are put together, by time.
    pub(super) fn in_order(
        &self,
        objects: Vec<PagedVersion>,
        marks: Vec<PagedVersion>,
    ) -> Vec<PagedVersion> {
        let are_marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = are_marks.iter().filter(|is_mark| **is_mark).count();
        let is_told = counted == marks.len() && are_marks.len() == objects.len() + counted;
        if !is_told || !tell_order(&are_marks, &objects, &marks) {
            return joined(objects, marks);
        }
        let (mut objects, mut marks) = (objects.into_iter(), marks.into_iter());
        let lines = are_marks.iter();
        lines.filter_map(|is_mark| if *is_mark { marks.next() } else { objects.next() }).collect()
    }
}

impl Intercept for Lines {
    fn name(&self) -> &'static str {
        "Lines"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let document = context.response().body().bytes().unwrap_or_default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lines_of(document);
        Ok(())
    }
}

/// Of each line of a document whether it is a mark. In texts there is no `<`.
fn lines_of(document: &[u8]) -> Vec<bool> {
    let mut lines = Vec::new();
    for element in document.split(|byte| *byte == b'<') {
        if element.starts_with(b"Version>") {
            lines.push(false);
        } else if element.starts_with(b"DeleteMarker>") {
            lines.push(true);
        }
    }
    lines
}

/// Whether the order of a reply is that of what happened, and not one list behind the other.
fn tell_order(are_marks: &[bool], objects: &[PagedVersion], marks: &[PagedVersion]) -> bool {
    let switches = are_marks.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let (before, after) = match are_marks.first() {
        Some(true) => (marks.last(), objects.first()),
        _ => (objects.last(), marks.first()),
    };
    match (switches, before.zip(after)) {
        // It may be either.
        (1, Some((before, after))) if before.key == after.key => {
            !after.is_latest && after.modified <= before.modified
        }
        (1, Some((before, after))) => {
            before.key < after.key || by_tree(&before.key, &after.key) == Ordering::Less
        }
        _ => true,
    }
}

fn joined(objects: Vec<PagedVersion>, marks: Vec<PagedVersion>) -> Vec<PagedVersion> {
    let is_by_bytes = |lines: &[PagedVersion]| lines.is_sorted_by(|one, next| one.key <= next.key);
    let is_by_bytes = is_by_bytes(&objects) && is_by_bytes(&marks);
    let compare = |one: &str, other: &str| {
        if is_by_bytes { one.cmp(other) } else { by_tree(one, other) }
    };
    let mut lines = Vec::with_capacity(objects.len() + marks.len());
    let (mut objects, mut marks) = (objects.into_iter().peekable(), marks.into_iter().peekable());
    loop {
        let is_mark_next = match (objects.peek(), marks.peek()) {
            (None, None) => return lines,
            (object, None) => object.is_none(),
            (None, Some(_)) => true,
            (Some(object), Some(mark)) => match compare(&object.key, &mark.key) {
                Ordering::Less => false,
                Ordering::Greater => true,
                // What is deleted within a second was mostly written before.
                Ordering::Equal => {
                    !object.is_latest && (mark.is_latest || mark.modified >= object.modified)
                }
            },
        };
        lines.extend(if is_mark_next { marks.next() } else { objects.next() });
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// A version of a key and a time, newest first; a time below nothing is that of a mark.
    fn version((key, seconds, is_latest): (&str, i64, bool)) -> PagedVersion {
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

    fn in_order(lines: &[(&str, i64, bool)], told: &[bool]) -> Vec<String> {
        let versions = lines.iter().copied().map(version);
        let (marks, objects) = versions.partition(PagedVersion::is_mark);
        let found = Lines(Arc::new(Mutex::new(told.to_vec()))).in_order(objects, marks);
        found.into_iter().filter_map(|version| version.id).collect()
    }

    #[test]
    fn lines_come_as_the_reply_has_them_also_within_a_second() {
        let lines = [
            ("a", 5, true),
            ("a", -5, false),
            ("a", 5, false),
            // Written in parts: begun before the one that it replaced.
            ("b", 2, true),
            ("b", -4, false),
            ("b", 3, false),
        ];
        let told = lines.map(|(_, seconds, _)| seconds < 0);
        assert_eq!(in_order(&lines, &told), ["a5", "a-5", "a5", "b2", "b-4", "b3"]);
    }

    #[test]
    fn marks_behind_all_objects_are_put_among_them() {
        let lines = [
            ("a", -5, true),
            ("a", 5, false),
            ("b", 9, true),
            ("b", -8, false),
            ("c", -1, true),
            ("d", 1, true),
        ];
        let expected = ["a-5", "a5", "b9", "b-8", "c-1", "d1"];
        assert_eq!(in_order(&lines, &[false, false, false, true, true, true]), expected);
        // Of a reply that is not understood nothing is told.
        assert_eq!(in_order(&lines, &[]), expected);
        let boundary = [("a", 1, true), ("b", -5, false), ("b", 3, false)];
        assert_eq!(in_order(&boundary, &[false, false, true]), ["a1", "b-5", "b3"]);
    }

    #[test]
    fn a_document_tells_its_lines() {
        let document = b"<?xml?><L><Version><Key>x&lt;</Key><VersionId>1</VersionId></Version>\
            <DeleteMarker></DeleteMarker><Version></Version></L>";
        assert_eq!(lines_of(document), [false, true, false]);
    }
}
