use std::collections::BTreeSet;

use super::*;
use crate::adapters::s3::keys::{Prefix, by_tree};

fn object(key: &str) -> ListedObject {
    let modified = i64::try_from(key.len()).unwrap();
    ListedObject {
        key: key.to_owned(),
        len_bytes: 0,
        etag: String::new(),
        modified,
        version: None,
        past: None,
    }
}

/// What is found, each with the text that continues behind it.
fn walk(mut walk: Walk, keys: &[String]) -> Result<Vec<(Found, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut keys = keys.iter();
    loop {
        while let Some(one) = walk.step() {
            found.push((one, walk.to_text()?));
        }
        if walk.has_ended() {
            return Ok(found);
        }
        match keys.next() {
            Some(key) => walk.offer(object(key))?,
            None => walk.end()?,
        }
    }
}

/// Divides directories of three objects already.
const SMALL: Sizes = Sizes { undivided: 2, least: 1, most: 3, one_in: 2 };

/// A walk from the beginning; every other one divides small directories.
fn begun(round: usize) -> Walk {
    let walk = Walk::new("b");
    if round % 4 < 2 { walk } else { walk.with_sizes(SMALL) }
}

/// The same behind a token.
fn resumed(round: usize, text: &[u8]) -> Walk {
    let walk = Walk::resume("b", text).unwrap();
    if round % 4 < 2 { walk } else { walk.with_sizes(SMALL) }
}

fn paths(found: &[(Found, Vec<u8>)]) -> Vec<String> {
    let shown = found.iter().map(|(found, _)| match found {
        Found::Object { path, .. } => path.to_string(),
        Found::Directory { path, marker, .. } => {
            format!("{path}/{}", if marker.is_some() { "+" } else { "" })
        }
    });
    shown.collect()
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % end as u64).unwrap()
    }
}

/// Keys in which names are beginnings of each other, and directories stand beside objects.
fn random_keys(random: &mut Random) -> Vec<String> {
    let mut keys = BTreeSet::new();
    for _ in 0..=random.below(24) {
        let mut key = String::new();
        for _ in 0..=random.below(6) {
            key.push_str(["a", "a", "b", "-", "/", "/", "!", "0"][random.below(8)]);
        }
        keys.insert(key);
    }
    keys.into_iter().collect()
}

#[test]
fn what_is_in_a_directory_comes_before_it_is_done() {
    let found = walk(Walk::new("b"), &keys(&["a/", "a/x", "a/y/z", "c"])).unwrap();
    assert_eq!(paths(&found), ["/b/a/x", "/b/a/y/z", "/b/a/y/", "/b/a/+", "/b/c", "/b/"]);
}

#[test]
fn an_object_beside_a_directory_has_another_name() {
    let found = walk(Walk::new("b"), &keys(&["a", "a-b/c", "a/x"])).unwrap();
    assert_eq!(paths(&found), ["/b/a%object", "/b/a-b/c", "/b/a-b/", "/b/a/x", "/b/a/", "/b/"]);
    let found = walk(Walk::new("b"), &keys(&["a", "a-b/c", "ab"])).unwrap();
    assert_eq!(paths(&found), ["/b/a-b/c", "/b/a-b/", "/b/a", "/b/ab", "/b/"]);
}

#[test]
fn a_bucket_without_keys_is_an_empty_directory() {
    assert_eq!(paths(&walk(Walk::new("b"), &[]).unwrap()), ["/b/"]);
}

#[test]
fn directories_have_the_time_of_the_newest_in_them_or_of_their_marker() {
    let found = walk(Walk::new("b"), &keys(&["a/long-name", "m/", "m/x"])).unwrap();
    let times: Vec<(String, i64)> = found
        .iter()
        .filter_map(|(found, _)| match found {
            Found::Directory { path, modified, .. } => Some((path.to_string(), *modified)),
            Found::Object { .. } => None,
        })
        .collect();
    let of = |path: &str, time| (path.to_owned(), time);
    assert_eq!(times, [of("/b/a", 11), of("/b/m", 2), of("/b", 11)]);
}

#[test]
fn each_order_of_a_server_will_do_and_no_order_is_refused() {
    let mut random = Random(2);
    for round in 0..3_000 {
        let sorted = random_keys(&mut random);
        let mut by_directory = sorted.clone();
        by_directory.sort_by(|one, other| by_tree(one, other));
        let one = walk(Walk::new("b"), &sorted).unwrap();
        let other = walk(Walk::new("b"), &by_directory).unwrap();
        let set =
            |found: &[(Found, Vec<u8>)]| -> BTreeSet<String> { paths(found).into_iter().collect() };
        assert_eq!(set(&one), set(&other), "seed 2, round {round}: {sorted:?}");
        assert_eq!(one.len(), other.len());
    }
    for wrong in [&["b", "a"][..], &["a", "a"], &["a/x", "a-b", "a/y"], &["a-b", "a/x", "a-c"]] {
        let error = walk(Walk::new("b"), &keys(wrong)).unwrap_err();
        assert_eq!(error.code(), "s3-unordered", "{wrong:?}");
    }
}

#[test]
fn every_key_is_found_and_nothing_below_a_directory_that_is_done() {
    let mut random = Random(3);
    for round in 0..3_000 {
        let keys = random_keys(&mut random);
        let mut done = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut back = BTreeSet::new();
        for (found, _) in walk(begun(round), &keys).unwrap() {
            let (Found::Object { path, .. } | Found::Directory { path, .. }) = &found;
            assert!(seen.insert(path.clone()), "seed 3, round {round}: {path} twice");
            let mut above = path.parent();
            while let Some(directory) = above {
                assert!(!done.contains(&directory), "seed 3, round {round}: {path}");
                above = directory.parent();
            }
            let names: Vec<&[u8]> = path.names().skip(1).collect();
            let enter = |prefix: Prefix, name: &&[u8]| prefix.enter(name, None).unwrap();
            match &found {
                Found::Object { object, .. } => {
                    let (last, above) = names.split_last().unwrap();
                    let prefix = above.iter().fold(Prefix::default(), enter);
                    let key = prefix.key_of_file(last, None).unwrap();
                    assert_eq!(key, object.key);
                    back.insert(key);
                }
                Found::Directory { marker, .. } => {
                    done.insert(path.clone());
                    if let Some(marker) = marker {
                        let prefix = names.iter().fold(Prefix::default(), enter);
                        assert_eq!(prefix.as_str(), marker.key);
                        back.insert(marker.key.clone());
                    }
                }
            }
        }
        assert!(back.iter().eq(&keys), "seed 3, round {round}: {keys:?}");
    }
}

#[test]
fn a_walk_goes_on_behind_whatever_it_found() {
    let mut random = Random(4);
    for round in 0..400 {
        let mut sorted = random_keys(&mut random);
        if round % 2 == 0 {
            sorted.sort_by(|one, other| by_tree(one, other));
        }
        let all = walk(begun(round), &sorted).unwrap();
        for (index, (_, text)) in all.iter().enumerate() {
            let resumed = resumed(round, text);
            // Listed again as a whole, or from the last key on where that is safe.
            let behind = resumed.behind(false).map(str::to_owned);
            let again: Vec<String> = match &behind {
                Some(last) => sorted.iter().filter(|key| *key > last).cloned().collect(),
                None => sorted.clone(),
            };
            let rest = if resumed.has_ended() {
                walk(resumed, &[]).unwrap()
            } else {
                walk(resumed, &again).unwrap()
            };
            let wanted: Vec<&Found> = all[index + 1..].iter().map(|(found, _)| found).collect();
            let found: Vec<&Found> = rest.iter().map(|(found, _)| found).collect();
            assert_eq!(found, wanted, "seed 4, round {round}: {sorted:?} behind {index}");
        }
    }
}

#[test]
fn a_key_that_went_or_came_meanwhile_breaks_no_promise() {
    let all = walk(Walk::new("b"), &keys(&["a/x", "b/x", "c"])).unwrap();
    // `a` was done because `b/x` came.
    let (_, text) = &all[1];
    let resumed = Walk::resume("b", text).unwrap();
    let rest = walk(resumed, &keys(&["a/x", "a/y", "c"])).unwrap();
    assert_eq!(paths(&rest), ["/b/c", "/b/"]);
    assert!(Walk::resume("b", b"{}").is_err());
}

/// Adds keys, and takes away others.
fn changed(random: &mut Random, keys: &[String]) -> BTreeSet<String> {
    let mut now: BTreeSet<String> = keys.iter().filter(|_| random.below(4) > 0).cloned().collect();
    now.extend(random_keys(random).into_iter().take(random.below(6)));
    now
}

#[test]
fn a_bucket_that_changed_while_a_walk_rested_loses_no_key_that_stayed() {
    let mut random = Random(5);
    let mut unordered = 0;
    for round in 0..4_000 {
        let sorted = random_keys(&mut random);
        let is_by_tree = round % 2 == 0;
        let arrange = |keys: &mut Vec<String>| {
            if is_by_tree {
                keys.sort_by(|one, other| by_tree(one, other));
            }
        };
        let mut before = sorted.clone();
        arrange(&mut before);
        let all = walk(begun(round), &before).unwrap();
        for (index, (_, text)) in all.iter().enumerate() {
            let seed = format!("seed 5, round {round}, behind {index} of {before:?}");
            let now = changed(&mut random, &sorted);
            let resumed = resumed(round, text);
            let behind = resumed.behind(false).map(str::to_owned);
            let mut again: Vec<String> = match &behind {
                Some(last) => now.iter().filter(|key| *key > last).cloned().collect(),
                None => now.iter().cloned().collect(),
            };
            arrange(&mut again);
            let is_over = resumed.has_ended();
            let rest = match walk(resumed, if is_over { &[] } else { &again }) {
                Ok(rest) => rest,
                Err(error) => {
                    assert_eq!(error.code(), "s3-unordered", "{seed}: {error}");
                    unordered += 1;
                    continue;
                }
            };
            let mut paths = BTreeSet::new();
            let mut found_keys = BTreeSet::new();
            let mut done: Vec<EntryPath> = Vec::new();
            for (found, _) in all[..=index].iter().chain(&rest) {
                let (Found::Object { path, .. } | Found::Directory { path, .. }) = found;
                assert!(paths.insert(path.clone()), "{seed}: {path} twice, now {now:?}");
                assert!(
                    !done.iter().any(|done| path.starts_with(done)),
                    "{seed}: {path} came late, now {now:?}"
                );
                match found {
                    Found::Object { object, .. } => drop(found_keys.insert(object.key.clone())),
                    Found::Directory { marker, .. } => {
                        done.push(path.clone());
                        found_keys.extend(marker.iter().map(|marker| marker.key.clone()));
                    }
                }
            }
            let stayed = sorted.iter().filter(|key| now.contains(*key));
            for key in stayed {
                assert!(found_keys.contains(key), "{seed}: {key:?} is lost, now {now:?}");
            }
        }
    }
    assert!(unordered < 10, "{unordered} listings could not go on");
}
