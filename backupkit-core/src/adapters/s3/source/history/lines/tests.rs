use super::*;
use crate::adapters::s3::keys::past::version_name;
use crate::adapters::s3::source::found::Past;

/// A version: its id, and when it was written, in seconds; marks below nothing.
fn line(key: &str, id: &str, seconds: i64) -> PagedVersion {
    PagedVersion {
        key: key.to_owned(),
        id: Some(id.to_owned()),
        modified: Timestamp::from_second(seconds.abs()).unwrap(),
        is_latest: false,
        len_bytes: (seconds >= 0).then_some(1),
        etag: String::new(),
        storage_class: None,
    }
}

type Line = (&'static str, &'static str, i64);

fn past(lines: &mut Lines, given: &[Line]) -> Result<Vec<PastVersion>> {
    let mut past = Vec::new();
    let given: Vec<_> = given.iter().map(|(key, id, seconds)| line(key, id, *seconds)).collect();
    lines.look(&given);
    for line in given {
        if let Some((time, trail)) = lines.take(&line)? {
            let object = ListedObject {
                key: line.key,
                len_bytes: 0,
                etag: String::new(),
                modified: 0,
                version: line.id,
                past: Some(Past::Version),
            };
            past.push(PastVersion { object, time, trail });
        }
    }
    lines.end()?;
    Ok(past)
}

fn names(past: &[PastVersion]) -> Vec<String> {
    let name = |past: &PastVersion| {
        let id = past.object.version.as_deref().unwrap_or_default();
        format!("{} {}", past.object.key, version_name(past.time().unwrap(), id, false))
    };
    past.iter().map(name).collect()
}

fn lines(until: Option<i64>) -> Lines {
    Lines::new(until.map(|seconds| Timestamp::from_second(seconds).unwrap()))
}

const LINES: [Line; 7] = [
    ("a", "3", 5),
    ("a", "2", 5),
    ("a", "1", -5),
    ("b", "1", 1),
    ("c", "2", -9),
    ("c", "1", 7),
    ("d", "1", 9),
];

#[test]
fn all_but_what_is_there_is_past() {
    let found = past(&mut lines(None), &LINES).unwrap();
    let expected = [
        "a 19700101T000004.999999Z-2",
        "a 19700101T000004.999998Z-1",
        "c 19700101T000009.000000Z-2",
        "c 19700101T000007.000000Z-1",
    ];
    assert_eq!(names(&found), expected);
}

#[test]
fn at_a_time_the_past_is_that_of_then() {
    let found = past(&mut lines(Some(7)), &LINES).unwrap();
    let expected = ["a 19700101T000004.999999Z-2", "a 19700101T000004.999998Z-1"];
    assert_eq!(names(&found), expected, "the object c was there");
}

/// What is given behind one of the past, if by then these lines are there.
fn behind(last: &PastVersion, now: &[Line]) -> Result<Vec<String>> {
    let mut lines = lines(None).behind(&last.object.key, last)?;
    past(&mut lines, now).map(|past| names(&past))
}

#[test]
fn a_listing_goes_on_behind_each_version_whatever_is_gone() {
    // Fifteen of one second, and some of others.
    let ids: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    let ids: Vec<&'static str> = ids.into_iter().map(|id| &*id.leak()).collect();
    let all: Vec<Line> =
        ids.iter().rev().map(|id| ("k", *id, 100)).chain([("l", "1", -1)]).collect();
    let whole = past(&mut lines(None), &all).unwrap();
    for (place, last) in whole.iter().enumerate().take(29) {
        let rest = names(&whole[place + 1..]);
        assert_eq!(behind(last, &all).unwrap(), rest);
        let mut newer = vec![("k", "new", 100), ("k", "newer", -100)];
        newer.extend(&all);
        assert_eq!(behind(last, &newer).unwrap(), rest, "new ones came");
        // The one itself and the one before are gone.
        let is_left = |(number, _): &(usize, &Line)| *number != place + 1 && *number != place;
        let left = all.iter().enumerate().filter(is_left).map(|(_, line)| *line);
        let left: Vec<Line> = left.collect();
        if place > 0 {
            assert_eq!(behind(last, &left).unwrap(), rest, "behind {place}");
        }
    }
    // All that is known is gone: whether the others came before is not known.
    let error = behind(&whole[20], &all[..5]).unwrap_err();
    assert!(error.is(ErrorKind::SourceChanged), "{error}");
    assert_eq!(behind(&whole[20], &[("k", "new", 101), ("l", "1", -1)]).unwrap().len(), 1);
    // Those of another second did not, and of a key of which all is known no line did.
    let older = [("k", "left", 99), ("l", "1", -1)];
    assert_eq!(behind(&whole[20], &older).unwrap().len(), 2);
    assert_eq!(behind(&whole[0], &all[5..]).unwrap().len(), whole.len() - 4);
    // And where nothing is left of the key, what follows is due.
    assert_eq!(behind(&whole[20], &all[30..]).unwrap().len(), 1);
}

#[test]
fn a_version_that_replaces_one_of_its_id_is_another_one() {
    let all = [("k", "null", 9), ("k", "2", 8), ("k", "1", 7)];
    let whole = past(&mut lines(None), &all).unwrap();
    let now = [("k", "null", 11), ("k", "2", 8), ("k", "1", 7)];
    assert_eq!(behind(&whole[0], &now).unwrap(), names(&whole[1..]));
}
