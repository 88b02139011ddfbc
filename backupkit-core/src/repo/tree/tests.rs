use super::*;
use crate::ErrorKind;
use crate::model::{EntryKind, FileMode, FileTime, Metadata};
use crate::repo::fixtures;

fn encode(nodes: &[Node]) -> String {
    let mut tree = TreeEncoder::new();
    for node in nodes {
        tree.push(node).unwrap();
    }
    String::from_utf8(tree.finish()).unwrap()
}

fn node(name: &[u8]) -> Node {
    let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
    Node::file(name.to_vec(), metadata, 0, [])
}

fn kind_of(json: &str) -> ErrorKind {
    decode_tree(json.as_bytes()).unwrap_err().kind()
}

#[test]
fn trees_of_restic_come_back_byte_for_byte() {
    for program in ["restic-014", "restic-019"] {
        for (id, json) in fixtures::stored("trees", program) {
            let text = encode(&decode_tree(&json).unwrap());
            assert_eq!(text.as_bytes(), json, "{program} {id}");
            assert_eq!(BlobId::of(text.as_bytes()).to_string(), id);
        }
    }
}

#[test]
fn trees_of_rustic_differ_only_in_odd_names_and_the_order_of_fields() {
    for (id, json) in fixtures::stored("trees", "rustic-0114") {
        assert_eq!(BlobId::of(&json).to_string(), id);
        let nodes = decode_tree(&json).unwrap();
        let mut expected = String::from_utf8(json).unwrap();
        // It quotes ASCII only, not DEL, and does not escape for HTML.
        for (theirs, ours) in [
            ("\"\\\\a\u{7f}\"", r#""\\a\\x7f""#),
            ("\"\u{a0}\u{200b}\u{2028}\"", r#""\\u00a0\\u200b\\u2028""#),
            ("\"<a>&b\"", r#""\u003ca\u003e\u0026b""#),
        ] {
            expected = expected.replace(theirs, ours);
        }
        if nodes.iter().any(|node| node.name == b"tree") {
            // The root's directories have no times and owners there.
            expected = expected.replace(
                r#""mode":493,"#,
                concat!(
                    r#""mode":493,"mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","#,
                    r#""ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0,"#
                ),
            );
        }
        let text = encode(&nodes);
        if text.contains("linktarget") {
            // It writes the target of a link right behind the type.
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(value(&text), value(&expected), "{id}");
        } else {
            assert_eq!(text, expected, "{id}");
        }
    }
}

#[test]
fn nodes_that_go_writes_come_back_byte_for_byte() {
    for line in fixtures::lines("nodes.jsonl") {
        let nodes = decode_tree(format!("{{\"nodes\":[{line}]}}").as_bytes()).unwrap();
        let mut json = Vec::new();
        encode_node(&nodes[0], &mut json);
        assert_eq!(String::from_utf8(json).unwrap(), line);
    }
}

#[test]
fn a_tree_without_nodes_has_the_id_that_everybody_uses() {
    let (id, json) = empty_tree();
    assert_eq!(json, b"{\"nodes\":[]}\n");
    let expected = "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8";
    assert_eq!(id.to_string(), expected);
    assert!(decode_tree(&json).unwrap().is_empty());
    assert!(decode_tree(b"{\"nodes\":null}\n").unwrap().is_empty());
}

#[test]
fn nodes_are_taken_only_in_ascending_order() {
    for names in [["b", "a"], ["a", "a"], ["", "a"], ["a-b", "a"]] {
        let mut tree = TreeEncoder::new();
        let error = names
            .iter()
            .map(|name| tree.push(&node(name.as_bytes())))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Internal, "{names:?}");
    }
    let mut tree = TreeEncoder::new();
    for name in [&b"A"[..], b"a", b"a\"", b"a-b", b"a.b", b"\xff"] {
        tree.push(&node(name)).unwrap();
    }
    assert_eq!(tree.len(), 6);
}

#[test]
fn encoded_nodes_give_the_same_tree_as_nodes() {
    let nodes = [node(b"a"), node(b"b<"), node(b"c\n")];
    let mut tree = TreeEncoder::new();
    for node in &nodes {
        let mut json = Vec::new();
        encode_node(node, &mut json);
        tree.push_encoded(&node.name, &json).unwrap();
    }
    assert_eq!(tree.finish(), encode(&nodes).as_bytes());
}

#[test]
fn an_empty_file_has_empty_content_and_others_have_none() {
    let file = encode(&[node(b"a")]);
    assert!(file.contains(r#""content":[]}"#), "{file}");
    let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
    let fifo = encode(&[Node::other(b"f".to_vec(), EntryKind::Fifo, metadata)]);
    assert!(fifo.contains(r#""content":null}"#), "{fifo}");
}

#[test]
fn attributes_that_were_not_read_are_stored_like_none() {
    let mut unread = node(b"a");
    unread.metadata.extended_attributes = None;
    assert_eq!(encode(&[unread]), encode(&[node(b"a")]));
}

#[test]
fn fields_of_later_versions_are_ignored() {
    let json = encode(&[node(b"a")]);
    let node = &json["{\"nodes\":[".len()..json.len() - 3];
    let newer = node.replacen('{', r#"{"new":[{"x":"]"}],"#, 1);
    let text = format!(r#" {{ "v" : {{"a":[1]}} , "n":2, "nodes" : [ {newer} ] , "w" : "}}" }} "#);
    assert_eq!(encode(&decode_tree(text.as_bytes()).unwrap()), json);
}

#[test]
fn a_node_of_an_unknown_type_is_named_and_the_next_one_follows() {
    let json = encode(&[node(b"a"), node(b"b")]).replacen("file", "irregular", 1);
    let nodes: Vec<_> = TreeNodes::new(json.as_bytes()).unwrap().collect();
    let error = nodes[0].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("\"irregular\""), "{error}");
    assert_eq!(nodes[1].as_ref().unwrap().name, b"b");
    assert_eq!(kind_of(&json), ErrorKind::Unsupported);
}

#[test]
fn what_is_not_a_tree_is_damaged() {
    let json = encode(&[node(b"a"), node(b"b")]);
    let texts = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"nodes":{}}"#.to_owned(),
        r#"{"nodes":[null]}"#.to_owned(),
        r#"{"nodes":[{"name":"a","type":"file"},]}"#.to_owned(),
        r#"{"nodes":[{"name":"a\nb","type":"file"}]}"#.to_owned(),
        r#"{"nodes":[{"name":"a\"b","type":"file"}]}"#.to_owned(),
        r#"{"nodes":[{"name":"a","type":"file","uid":-1}]}"#.to_owned(),
        r#"{"nodes":[],"nodes":[]}"#.to_owned(),
        format!("{json}{json}"),
    ];
    for text in &texts {
        assert_eq!(kind_of(text), ErrorKind::Corrupt, "{text}");
    }
    for end in 0..json.len() - 1 {
        assert_eq!(kind_of(&json[..end]), ErrorKind::Corrupt, "{end}");
    }
}

#[test]
fn after_an_error_of_the_text_nothing_follows() {
    let json = encode(&[node(b"a"), node(b"b")]).replacen("\"uid\":0", "\"uid\":-1", 1);
    let mut nodes = TreeNodes::new(json.as_bytes()).unwrap();
    assert!(nodes.next().unwrap().is_err());
    assert!(nodes.next().is_none());
}

#[test]
fn times_that_no_calendar_holds_do_not_hide_a_directory() {
    for (time, shown) in [
        ("9999-12-31T23:59:59.5Z", "9999-12-30T22:00:00Z"),
        ("9999-12-30T20:00:00-10:00", "9999-12-30T22:00:00Z"),
        ("0000-01-01T00:00:00+14:00", "0000-01-01T00:00:00+14:00"),
        ("0000-01-01T00:00:00-12:00", "0000-01-01T00:00:00-12:00"),
    ] {
        let json = encode(&[node(b"a")]).replace("1970-01-01T00:00:00Z", time);
        let nodes = decode_tree(json.as_bytes()).unwrap();
        assert_eq!(nodes[0].metadata.mtime.to_string(), shown);
    }
    let json = encode(&[node(b"a")]).replacen("1970-01-01T00:00:00Z", "yesterday", 1);
    assert_eq!(kind_of(&json), ErrorKind::Corrupt);
}

#[test]
fn names_that_no_file_may_have_are_read_and_told_apart() {
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
        assert!(!node(name).is_safe_name(), "{name:?}");
    }
    for name in [&b"a"[..], b"...", b".a", b"\xff", b"a\nb", b" "] {
        assert!(node(name).is_safe_name(), "{name:?}");
    }
    let json = encode(&[node(b"../x")]);
    assert_eq!(decode_tree(json.as_bytes()).unwrap()[0].name, b"../x");
}

#[test]
fn owners_are_shared_between_nodes() {
    let mut first = node(b"a");
    first.metadata.user = "user".into();
    let mut second = node(b"b");
    second.metadata.user = "user".into();
    let nodes = decode_tree(encode(&[first, second]).as_bytes()).unwrap();
    let users = [&nodes[0].metadata.user, &nodes[1].metadata.user];
    assert!(std::sync::Arc::ptr_eq(users[0], users[1]));
}
