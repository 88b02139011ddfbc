use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::env::Env;
use crate::scratch::{Scratch, Tuning};

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes())
}

fn node(name: &str) -> FinishedNode {
    FinishedNode {
        name: name.as_bytes().into(),
        json: PerLane::Same(format!("{{\"name\":\"{name}\"}}").into_bytes().into()),
    }
}

fn metadata() -> Metadata {
    Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH)
}

#[test]
fn a_directory_closes_when_it_is_listed_and_everything_in_it_is_finished() {
    let mut directories = Directories::new(NodeMemory::default());
    directories.expect(&path("a/x")).unwrap();
    directories.expect(&path("a/y")).unwrap();
    let closing = directories.complete(path("a"), metadata()).unwrap();
    assert!(closing.is_none());
    assert!(directories.finish(&path("a/y"), Some(node("y"))).unwrap().is_none());
    let closing = directories.finish(&path("a/x"), None).unwrap().unwrap();
    assert_eq!((closing.path.clone(), closing.nodes.len()), (path("a"), 1));
    // Its parent waits for its tree.
    assert!(directories.complete_all().is_empty());
    drop(directories.stored(&path("a")));
    let root = directories.finish(&path("a"), Some(node("a"))).unwrap().unwrap();
    assert!(root.path.is_empty());
}

#[test]
fn an_entry_below_a_complete_directory_is_refused() {
    let mut directories = Directories::new(NodeMemory::default());
    directories.expect(&path("a/x")).unwrap();
    directories.complete(path("a"), metadata()).unwrap();
    assert!(directories.expect(&path("a/y")).is_err());
    assert!(directories.expect(&path("a/b/y")).is_err());
    assert!(directories.complete(path("a/b"), metadata()).is_err());
    assert!(directories.complete(path("a"), metadata()).is_err());
    directories.finish(&path("a/x"), None).unwrap();
    drop(directories.stored(&path("a")));
    assert!(directories.finish(&path("a/z"), None).is_err());
}

#[test]
fn trees_are_sorted_and_names_are_unique() {
    let sorted = encode_tree(&[node("b"), node("a")], &[], 1).unwrap();
    let tree = br#"{"nodes":[{"name":"a"},{"name":"b"}]}"#;
    assert_eq!(sorted.get(0).trim_ascii_end(), tree);
    assert!(encode_tree(&[node("a"), node("a")], &[], 1).is_err());
}

/// Directories that hold `node_bytes` in memory.
fn tight(folder: &tempfile::TempDir, node_bytes: u64) -> (Directories, Tuning) {
    let tuning = Tuning { node_bytes, ..Tuning::default() };
    let scratch = Scratch::new(folder.path(), &Env::system(), tuning.clone()).unwrap();
    (Directories::new(NodeMemory::new(Some(scratch))), tuning)
}

fn most_node_bytes(tuning: &Tuning) -> u64 {
    tuning.gauges.most_node_bytes.load(std::sync::atomic::Ordering::Relaxed)
}

/// What is finished in some directories, in the order in which it is.
fn finished_entries() -> impl Strategy<Value = Vec<(u8, FinishedNode)>> {
    let json = proptest::collection::vec(b'a'..=b'z', 0..80);
    let each = proptest::option::weighted(0.1, json.clone());
    let entry = (0..6_u8, "[a-z]{1,6}", json, each);
    proptest::collection::vec(entry, 0..400).prop_map(|entries| {
        let mut unique = BTreeMap::new();
        for (number, (directory, name, json, other)) in entries.into_iter().enumerate() {
            unique.entry((directory, name)).or_insert((number, json, other));
        }
        let mut ordered: Vec<_> = unique.into_iter().collect();
        ordered.sort_by_key(|(_, (number, ..))| *number);
        let node = |((directory, name), (_, json, other)): ((u8, String), (_, Vec<u8>, _))| {
            let name = name.into_bytes().into();
            let json: Box<[u8]> = json.into();
            let json = match other {
                Some(other) => PerLane::collect(vec![json, Vec::into(other)]),
                None => PerLane::Same(json),
            };
            (directory, FinishedNode { name, json })
        };
        ordered.into_iter().map(node).collect()
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn entry_path(directory: u8, node: &FinishedNode) -> EntryPath {
    path(&format!("d{directory}/{}", String::from_utf8_lossy(&node.name)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is where when the tree is made: its text is that of all nodes in memory.
    #[test]
    fn a_tree_from_runs_is_that_from_memory(
        entries in finished_entries(),
        node_bytes in 0..8_000_u64,
        saves in proptest::collection::vec(any::<bool>(), 400),
    ) {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (mut directories, tuning) = tight(&folder, node_bytes);
            for directory in 0..6 {
                directories.expect(&path(&format!("d{directory}/last"))).unwrap();
            }
            for (directory, node) in &entries {
                directories.expect(&entry_path(*directory, node)).unwrap();
            }
            let mut largest = 0;
            for ((directory, node), save) in entries.iter().zip(saves) {
                largest = largest.max(node.size_bytes());
                let path = entry_path(*directory, node);
                assert!(directories.finish(&path, Some(node.clone())).unwrap().is_none());
                if save {
                    // As a checkpoint does.
                    for (_, open) in directories.iter_mut() {
                        open.saved = open.nodes.len();
                        open.saved_runs.append(&mut open.runs);
                    }
                }
                directories.spill().await.unwrap();
            }
            assert!(most_node_bytes(&tuning) <= node_bytes + node_bytes / 8 + largest);
            for number in 0..6 {
                let name = format!("d{number}");
                directories.complete(path(&name), metadata()).unwrap();
                let last = path(&format!("{name}/last"));
                let closing = directories.finish(&last, None).unwrap().unwrap();
                let nodes: Vec<FinishedNode> = entries
                    .iter()
                    .filter(|(directory, _)| *directory == number)
                    .map(|(_, node)| node.clone())
                    .collect();
                let expected = encode_tree(&nodes, &[], 2).unwrap();
                assert_eq!(encode_tree(&closing.nodes, &closing.runs, 2).unwrap(), expected);
            }
        });
    }
}

#[test]
fn a_name_that_came_twice_is_found_between_runs_and_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let twice = |spill_between: bool, spill_after: bool| {
        let (mut directories, _) = tight(&folder, 0);
        directories.expect(&path("d/last")).unwrap();
        for spill in [spill_between, spill_after] {
            directories.expect(&path("d/x")).unwrap();
            directories.finish(&path("d/x"), Some(node("x"))).unwrap();
            if spill {
                run(directories.spill()).unwrap();
            }
        }
        directories.complete(path("d"), metadata()).unwrap();
        let closing = directories.finish(&path("d/last"), None).unwrap().unwrap();
        encode_tree(&closing.nodes, &closing.runs, 1).unwrap_err().to_string()
    };
    for (between, after) in [(false, false), (false, true), (true, false), (true, true)] {
        let error = twice(between, after);
        assert_eq!(error, "the source listed \"x\" twice in one directory");
    }
}

#[test]
fn runs_of_a_directory_stay_few() {
    let folder = tempfile::tempdir().unwrap();
    let (mut directories, _) = tight(&folder, 0);
    let mut most = 0;
    for number in 0..2_000 {
        let name = format!("{number:04}");
        directories.expect(&path(&name)).unwrap();
        directories.finish(&path(&name), Some(node(&name))).unwrap();
        run(directories.spill()).unwrap();
        let runs = directories.iter_mut().map(|(_, open)| open.runs.len());
        most = most.max(runs.max().unwrap());
    }
    assert!(most <= 45, "{most}");
    let [closing] = directories.complete_all().try_into().unwrap();
    let tree = encode_tree(&closing.nodes, &closing.runs, 1).unwrap();
    let nodes: Vec<FinishedNode> = (0..2_000).map(|number| node(&format!("{number:04}"))).collect();
    assert_eq!(tree, encode_tree(&nodes, &[], 1).unwrap());
}
