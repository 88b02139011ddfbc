use std::collections::BTreeMap;

use super::*;
use crate::adapters::s3::keys::by_tree;

/// The directories of a walk, each with the names in it.
fn tree(keys: &[String], sizes: Sizes) -> BTreeMap<String, Vec<String>> {
    tree_of(Walk::new("b").with_sizes(sizes), keys)
}

fn tree_of(mut walk: Walk, keys: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut keys = keys.iter();
    let mut tree: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        while let Some(found) = walk.step() {
            let (Found::Object { path, .. } | Found::Directory { path, .. }) = found;
            let above = path.parent().unwrap().to_string();
            let name = String::from_utf8(path.name().unwrap().to_vec()).unwrap();
            tree.entry(above).or_default().push(name);
        }
        if walk.has_ended() {
            for names in tree.values_mut() {
                names.sort();
            }
            return tree;
        }
        match keys.next() {
            Some(key) => {
                let (key, etag) = (key.clone(), String::new());
                walk.offer(ListedObject {
                    key,
                    len_bytes: 1,
                    etag,
                    modified: 1,
                    version: None,
                    past: None,
                })
                .unwrap();
            }
            None => walk.end().unwrap(),
        }
    }
}

fn shards(tree: &BTreeMap<String, Vec<String>>) -> Vec<usize> {
    let shards = tree.iter().filter(|(path, _)| path.contains("%range-"));
    shards.map(|(_, names)| names.len()).collect()
}

fn flat(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("flat/{number:08}")).collect()
}

#[test]
fn a_directory_of_65_536_entries_is_not_divided_and_a_larger_one_is() {
    assert!(shards(&tree(&flat(65_536), Sizes::default())).is_empty());
    let keys = flat(130_000);
    let tree = tree(&keys, Sizes::default());
    let sizes = shards(&tree);
    assert!(sizes.len() > 5, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 16_384), "{sizes:?}");
    let small = sizes.iter().filter(|size| **size < 1_024).count();
    assert!(small <= 1, "only the last one: {sizes:?}");
    let own = tree["/b/flat"].iter().filter(|name| !name.starts_with('%')).count();
    assert!((65_536..=65_536 + 16_384).contains(&own), "{own}");
    assert_eq!(own + sizes.iter().sum::<usize>(), keys.len());
}

#[test]
fn what_comes_and_goes_changes_few_shards() {
    let before = tree(&flat(130_000), Sizes::default());
    let mut keys = flat(130_000);
    keys.remove(100_000);
    keys.insert(10, "flat/00000009-more".to_owned());
    let after = tree(&keys, Sizes::default());
    let changed: Vec<&String> = after
        .iter()
        .filter(|(path, names)| before.get(*path) != Some(names))
        .map(|(p, _)| p)
        .collect();
    assert!(changed.len() <= 4, "{changed:?}");
    assert!(after.len() > 6);
}

#[test]
fn many_directories_are_divided_as_well() {
    let sizes = Sizes { undivided: 50, least: 10, most: 40, one_in: 20 };
    let keys: Vec<String> = (0..1_000).map(|number| format!("{number:04}/x")).collect();
    let tree = tree(&keys, sizes);
    let first = tree.keys().find(|path| path.contains("%range-")).unwrap();
    assert!(first.contains("%2F"), "{first}");
    let named = |path: &&String| path.ends_with("%2F");
    let divided: usize = tree.keys().filter(named).map(|path| tree[path].len()).sum();
    let own = tree["/b"].iter().filter(|name| !name.starts_with('%')).count();
    assert_eq!(own + divided, 1_000);
    assert!(tree.iter().filter(|(path, _)| named(path)).all(|(_, names)| names.len() <= 40));
}

#[test]
fn objects_are_divided_alike_in_whichever_order_the_server_lists() {
    let sizes = Sizes { undivided: 20, least: 4, most: 16, one_in: 8 };
    let mut keys = Vec::new();
    for number in 0..200 {
        keys.push(format!("f/{number:03}"));
        if number % 7 == 0 {
            keys.extend([format!("f/{number:03}-a"), format!("f/{number:03}/x")]);
        }
    }
    keys.sort();
    let by_bytes = tree(&keys, sizes);
    keys.sort_by(|one, other| by_tree(one, other));
    let by_directory = tree(&keys, sizes);
    let of_objects = |tree: &BTreeMap<String, Vec<String>>| {
        let mut tree = tree.clone();
        tree.retain(|path, _| !path.contains("%2F"));
        for names in tree.values_mut() {
            names.retain(|name| !name.contains("%2F"));
        }
        tree
    };
    assert_eq!(of_objects(&by_bytes), of_objects(&by_directory));
    assert!(shards(&by_bytes).len() > 10);
}

#[test]
fn a_shard_has_the_time_of_the_newest_in_it_and_a_token_stays_small() {
    let mut walk = Walk::new("b").with_sizes(Sizes { undivided: 2, least: 2, most: 2, one_in: 1 });
    let mut found = Vec::new();
    for number in 0..10_i64 {
        let key = format!("{number}");
        let (len_bytes, etag) = (1, String::new());
        walk.offer(ListedObject {
            key,
            len_bytes,
            etag,
            modified: 100 - number,
            version: None,
            past: None,
        })
        .unwrap();
        while let Some(one) = walk.step() {
            assert!(walk.to_text().unwrap().len() < 1_000);
            found.push(one);
        }
    }
    walk.end().unwrap();
    while let Some(one) = walk.step() {
        found.push(one);
    }
    let shards: Vec<(String, i64)> = found
        .iter()
        .filter_map(|found| match found {
            Found::Directory { path, modified, .. } => Some((path.to_string(), *modified)),
            Found::Object { .. } => None,
        })
        .collect();
    let wanted = [("2", 98), ("4", 96), ("6", 94), ("8", 92)];
    let mut wanted: Vec<(String, i64)> =
        wanted.map(|(name, time)| (format!("/b/%range-{name}"), time)).into();
    wanted.push(("/b".to_owned(), 100));
    assert_eq!(shards, wanted);
}

#[test]
fn directories_of_histories_are_divided_alike_and_wait_for_nothing() {
    let sizes = Sizes { undivided: 50, least: 10, most: 40, one_in: 20 };
    let mut keys: Vec<String> = (0..1_000).map(|number| format!("flat/{number:04}")).collect();
    keys.extend(["flat/0999/x".to_owned(), "z".to_owned()]);
    let histories = tree_of(Walk::of_histories("b").with_sizes(sizes), &keys);
    let objects = tree(&keys, sizes);
    let of_objects = objects.into_iter().map(|(above, names)| {
        let mut names: Vec<_> = names.into_iter().map(|name| name.replace("%object", "")).collect();
        names.sort();
        let above = match above.strip_prefix("/b") {
            Some(below) => format!("/b%versions{below}"),
            None => above,
        };
        (above, names)
    });
    let mut of_objects: BTreeMap<_, _> = of_objects.collect();
    of_objects.insert("/".to_owned(), vec!["b%versions".to_owned()]);
    assert_eq!(histories, of_objects);
    assert!(shards(&histories).len() > 10);

    let mut walk = Walk::of_histories("b");
    for key in ["a", "a/", "a/x"] {
        let (key, etag) = (key.to_owned(), String::new());
        let object =
            ListedObject { key, len_bytes: 1, etag, modified: 1, version: None, past: None };
        walk.offer(object).unwrap();
        assert!(matches!(walk.step(), Some(Found::Object { .. })), "it waits");
        assert_eq!(walk.step(), None);
    }
}
