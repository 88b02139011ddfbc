//! What a fuzzer feeds: each takes any bytes and must neither panic nor break its promise.

use super::json::push_string;
use super::quote::{quote_name, unquote_name};
use super::{Snapshot, TreeEncoder, TreeNodes, decode_tree, encode_node};

/// Reads a tree; what can be read and written must come back the same.
///
/// # Panics
/// If it does not.
pub fn fuzz_tree(data: &[u8]) {
    let all = decode_tree(data);
    let Ok(nodes) = TreeNodes::new(data) else {
        assert!(all.is_err(), "a tree that does not begin can be read");
        return;
    };
    let mut tree = TreeEncoder::new();
    let mut complete = true;
    for node in nodes {
        let Ok(node) = node else {
            complete = false;
            continue;
        };
        let mut json = Vec::new();
        encode_node(&node, &mut json);
        assert!(!json.contains(&b'\n'), "a node has a line break");
        if tree.push_encoded(&node.name, &json).is_err() {
            // Out of order, as other programs may have written it.
            complete = false;
            break;
        }
    }
    let json = tree.finish();
    let again = decode_tree(&json).expect("what was encoded can be decoded");
    let mut tree = TreeEncoder::new();
    for node in &again {
        tree.push(node).expect("the order stays");
    }
    assert_eq!(tree.finish(), json, "the text is not canonical");
    if complete {
        let all = all.expect("each node alone could be read");
        assert_eq!(all.len(), again.len(), "a node is lost");
    }
}

/// Reads a snapshot; what can be read must come back the same.
///
/// # Panics
/// If it does not.
pub fn fuzz_snapshot(data: &[u8]) {
    if let Ok(snapshot) = Snapshot::decode(data) {
        let again = Snapshot::decode(&snapshot.encode()).expect("what was encoded can be decoded");
        assert_eq!(again, snapshot, "a field is lost");
    }
}

/// Quotes `data` as a name, and reads it as a quoted name; both must come back.
///
/// # Panics
/// If they do not.
pub fn fuzz_name(data: &[u8]) {
    let quoted = quote_name(data);
    assert!(
        !quoted.contains(|character: char| character.is_control()),
        "a control character stays"
    );
    let name = unquote_name(&quoted).expect("what was quoted can be unquoted");
    assert_eq!(name, data, "a name changes");
    let mut json = Vec::new();
    push_string(&mut json, &quoted);
    let text: String = serde_json::from_slice(&json).expect("a string is JSON");
    assert_eq!(text, quoted, "a string changes");
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(name) = unquote_name(text)
    {
        let again = unquote_name(&quote_name(&name)).expect("what was quoted can be unquoted");
        assert_eq!(again, name, "a name changes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixtures;

    /// A generator good enough to break texts, the same on every machine.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % limit.max(1) as u64).unwrap()
        }

        fn mutate(&mut self, data: &mut Vec<u8>) {
            const TOKENS: [&[u8]; 16] = [
                b"\"",
                b"\\",
                b"\\\\u",
                b"{",
                b"}",
                b"[",
                b"]",
                b",",
                b":",
                b"null",
                b"\xff",
                b"\"nodes\":[",
                b"-1",
                b"1e9",
                b"\\ud800",
                b"\n",
            ];
            for _ in 0..=self.below(4) {
                let at = self.below(data.len());
                match self.below(5) {
                    0 => data.truncate(at),
                    1 => {
                        let end = (at + self.below(20)).min(data.len());
                        data.drain(at..end);
                    }
                    2 if !data.is_empty() => data[at] = self.below(256).to_le_bytes()[0],
                    3 => {
                        let end = (at + self.below(200)).min(data.len());
                        let part = data[at..end].to_vec();
                        let at = self.below(data.len());
                        data.splice(at..at, part);
                    }
                    _ => {
                        let token = TOKENS[self.below(TOKENS.len())];
                        data.splice(at..at, token.iter().copied());
                    }
                }
            }
        }
    }

    /// Runs `body` on each seed and on mutations of it.
    fn smoke(seeds: &[Vec<u8>], mutations: usize, body: fn(&[u8])) {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in seeds {
            body(seed);
            for _ in 0..mutations {
                let mut data = seed.clone();
                random.mutate(&mut data);
                body(&data);
            }
        }
    }

    fn stored(kind: &str) -> Vec<Vec<u8>> {
        ["restic-014", "restic-019", "rustic-0114"]
            .iter()
            .flat_map(|program| fixtures::stored(kind, program))
            .map(|(_, json)| json)
            .collect()
    }

    #[test]
    fn damaged_trees_are_refused_or_read_without_harm() {
        let mut seeds = stored("trees");
        seeds.extend(
            fixtures::lines("nodes.jsonl")
                .iter()
                .map(|node| format!(r#"{{"nodes":[{node}]}}"#).into_bytes()),
        );
        smoke(&seeds, 60, fuzz_tree);
    }

    #[test]
    fn damaged_snapshots_are_refused_or_read_without_harm() {
        let mut seeds = stored("snapshots");
        seeds.extend(fixtures::lines("snapshots.jsonl").into_iter().map(String::into_bytes));
        smoke(&seeds, 200, fuzz_snapshot);
    }

    #[test]
    fn any_bytes_are_a_name_and_come_back() {
        let mut seeds: Vec<_> =
            fixtures::hex_and_json("names.tsv").into_iter().map(|(name, _)| name).collect();
        seeds.extend(fixtures::lines("quoted.tsv").into_iter().map(String::into_bytes));
        smoke(&seeds, 50, fuzz_name);
    }
}
