use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// `SplitMix64`.
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

/// What keys are made of: all that is special to us, to restic, to JSON, to file systems.
const PIECES: [&str; 64] = [
    "a",
    "b",
    "ab",
    "A",
    "0",
    "9",
    "/",
    "/",
    "/",
    "/",
    "//",
    ".",
    "..",
    "./",
    "../",
    "/.",
    "/..",
    "%",
    "%%",
    "%2",
    "%2E",
    "%2e",
    "%25",
    "%empty",
    "%object",
    "%long-",
    "%range-",
    "%range-a/",
    "%bucket.json",
    "%versions",
    "\\",
    "\\x00",
    "\0",
    "\u{1}",
    "\n",
    "\r",
    "\t",
    "\u{7f}",
    "\u{80}",
    " ",
    "  ",
    "-",
    "!",
    "$",
    "&",
    "<",
    ">",
    "\"",
    "'",
    ":",
    "*",
    "?",
    "|",
    "~",
    "ä",
    "a\u{308}",
    "日本",
    "😀",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{fffd}",
    "photos",
    "photos/",
];

fn random_key(random: &mut Random) -> String {
    let mut key = String::new();
    for _ in 0..=random.below(8) {
        let piece = PIECES[random.below(PIECES.len())];
        // Around the lengths at which a part is written another way.
        let times = match random.below(24) {
            0 => 176 + random.below(80),
            1 => 58 + random.below(8),
            _ => 1,
        };
        for _ in 0..times {
            key.push_str(piece);
        }
    }
    while key.len() > 1024 {
        key.pop();
    }
    key
}

/// What restic asks of a name, and file systems of its length.
fn assert_name(name: &str, key: &str) {
    assert!(!name.is_empty() && name != "." && name != "..", "{key:?}");
    assert!(!name.contains(['/', '\\']) && !name.chars().any(|one| one.is_ascii_control()));
    assert!(name.len() <= 255, "{} bytes for {key:?}", name.len());
}

type Tree = BTreeMap<String, Node>;

#[derive(Debug)]
enum Node {
    File { kept: Option<String> },
    Directory { kept: Option<String>, marker: bool, tree: Tree },
}

fn kept(part: &str, name: &Name) -> Option<String> {
    name.is_shortened.then(|| part.to_owned())
}

/// Puts a key where a backup would.
fn insert(root: &mut Tree, key: &str, is_empty: bool, keys: &BTreeSet<String>) {
    let (prefix, last) = divide(key);
    let mut tree = root;
    let mut marker_of = None;
    for part in prefix.split_terminator('/') {
        let name = Name::of(part);
        assert_name(&name.text, key);
        let kept = kept(part, &name);
        let node = tree.entry(name.text).or_insert_with(|| Node::Directory {
            kept: kept.clone(),
            marker: false,
            tree: Tree::new(),
        });
        let Node::Directory { kept: before, marker, tree: below } = node else {
            panic!("{key:?} stands below a file");
        };
        assert_eq!(*before, kept, "two parts have one name");
        (marker_of, tree) = (Some(marker), below);
    }
    if last.is_empty()
        && is_empty
        && let Some(marker) = marker_of
    {
        *marker = true;
        return;
    }
    let below = format!("{key}/");
    let is_beside = keys.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below));
    let name = if is_beside { Name::of(last).beside_directory() } else { Name::of(last) };
    assert_name(&name.text, key);
    let kept = kept(last, &name);
    let taken = tree.insert(name.text, Node::File { kept });
    assert!(taken.is_none(), "two keys have one name: {key:?}");
}

fn collect(tree: &Tree, prefix: &Prefix, keys: &mut BTreeSet<String>) {
    for (name, node) in tree {
        match node {
            Node::File { kept } => {
                let key = prefix.key_of_file(name.as_bytes(), kept.as_deref());
                assert!(keys.insert(key.unwrap()), "a key came back twice");
            }
            Node::Directory { kept, marker, tree } => {
                let inside = prefix.enter(name.as_bytes(), kept.as_deref()).unwrap();
                if *marker {
                    assert!(keys.insert(inside.as_str().to_owned()));
                }
                collect(tree, &inside, keys);
            }
        }
    }
}

#[test]
fn whatever_keys_there_are_they_come_back() {
    let mut random = Random(1);
    let mut keys = BTreeSet::new();
    while keys.len() < 120_000 {
        let key = random_key(&mut random);
        if !key.is_empty() {
            keys.insert(key);
        }
    }
    let mut tree = Tree::new();
    for key in &keys {
        insert(&mut tree, key, random.below(2) == 0, &keys);
    }
    let mut back = BTreeSet::new();
    collect(&tree, &Prefix::default(), &mut back);
    assert!(back == keys, "seed 1: other keys came back");
}

#[test]
fn names_are_what_the_format_says() {
    let name = |part: &str| Name::of(part).text;
    for (part, expected) in [
        ("", "%empty"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
        ("a%b", "a%25b"),
        ("a\\b\n\u{7f}", "a%5Cb%0A%7F"),
        ("ä é", "ä é"),
        ("%empty", "%25empty"),
    ] {
        assert_eq!(name(part), expected, "{part:?}");
    }
    assert_eq!(Name::of("photos").beside_directory().text, "photos%object");
    let long = "é".repeat(125);
    let hash = &hex::encode(Sha256::digest(&long))[..32];
    assert_eq!(name(&long), format!("{}%long-{hash}", "é".repeat(90)));
    let escapes = "%".repeat(100);
    assert!(name(&escapes).starts_with(&format!("{}%long-", "%25".repeat(60))));
    assert!(!Name::of(&"x".repeat(248)).is_shortened);
    assert!(Name::of(&"x".repeat(249)).is_shortened);
    assert_eq!(divide("a/b/c"), ("a/b/", "c"));
    assert_eq!(divide("a/b/"), ("a/b/", ""));
    assert_eq!(divide("a"), ("", "a"));
}

#[test]
fn names_that_we_did_not_write_are_refused() {
    for name in ["", "%", "%2", "%2e", "%zz", "a%", "%FF", "%objects", "%long-0", "%unknown"] {
        assert_eq!(part(name, None), None, "{name:?}");
    }
    let long = "x".repeat(300);
    let name = Name::of(&long).text;
    assert_eq!(part(&name, None), None);
    assert_eq!(part(&name, Some("another")), None);
    assert_eq!(part(&name, Some(&long)), Some(long));
    assert_eq!(Prefix::default().enter(b"\xff", None), None);
}

#[test]
fn a_directory_that_stands_for_no_part_adds_nothing() {
    let inside = Prefix::default().enter(b"a", None).unwrap();
    let range = inside.enter(b"%range-0001", None).unwrap();
    assert_eq!(range, inside);
    assert_eq!(range.key_of_file(b"%2E", None).unwrap(), "a/.");
}
