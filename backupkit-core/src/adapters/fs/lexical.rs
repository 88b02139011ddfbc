//! Paths as text, by the rules that restic's names of roots follow: no look at the file system.

/// Returns the shortest equal path: no empty names, no `.`, and `..` only at the front of a relative
/// path. An empty path becomes `.`.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.first() == Some(&b'/');
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => match names.last() {
                Some(&last) if last != b".." => {
                    names.pop();
                }
                _ if absolute => {}
                _ => names.push(name),
            },
            _ => names.push(name),
        }
    }
    let joined = names.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [&b"/"[..], &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Joins and cleans.
pub(super) fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    clean(&[base, b"/", path].concat())
}

/// Appends a path to a folder as it is, leaving `..` to the file system.
pub(super) fn append(folder: &[u8], path: &[u8]) -> Vec<u8> {
    match path {
        [b'/', ..] => path.to_vec(),
        _ if folder.ends_with(b"/") => [folder, path].concat(),
        _ => [folder, b"/", path].concat(),
    }
}

/// The names under which a cleaned path stands in a snapshot: a relative one as if it began at the
/// root, where `..` leads nowhere.
pub(super) fn names_in_snapshot(cleaned: &[u8]) -> Vec<Vec<u8>> {
    let rooted = join(b"/", cleaned);
    let names = rooted.split(|&byte| byte == b'/');
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The folder that holds the first name of a cleaned path: `/`, `.`, or as many `..` as it begins with.
pub(super) fn root_of(cleaned: &[u8]) -> Vec<u8> {
    if cleaned.first() == Some(&b'/') {
        return b"/".to_vec();
    }
    let ups: Vec<&[u8]> =
        cleaned.split(|&byte| byte == b'/').take_while(|name| *name == b"..").collect();
    clean(&ups.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn cleaned_paths_are_shortest() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("a//b/./c/", "a/b/c"),
            ("a/../../b", "../b"),
            ("../..", "../.."),
            ("/../a/..", "/"),
            ("a/..", "."),
            ("/a/../../b", "/b"),
        ] {
            assert_eq!(text(&clean(path.as_bytes())), expected, "{path}");
        }
    }

    #[test]
    fn roots_are_where_the_first_name_is_found() {
        for (path, root, names) in [
            (".", ".", ""),
            ("foo/bar/baz", ".", "foo|bar|baz"),
            ("../foo/bar", "..", "foo|bar"),
            ("..", "..", ""),
            ("../../..", "../../..", ""),
            ("/home/foo", "/", "home|foo"),
        ] {
            assert_eq!(text(&root_of(path.as_bytes())), root, "{path}");
            let found = names_in_snapshot(path.as_bytes()).join(&b'|');
            assert_eq!(text(&found), names, "{path}");
        }
    }
}
