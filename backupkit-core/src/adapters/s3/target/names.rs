//! Keys as paths of steps, and keys that not every server keeps as they are.

use crate::model::EntryPath;

/// No server takes longer ones.
pub(super) const MOST_KEY_BYTES: usize = 1024;

/// Why some servers change or refuse a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oddity {
    /// It begins with `/`.
    LeadingSlash,
    /// A part of it has no characters.
    EmptyPart,
    /// A part of it is `.` or `..`.
    Dots,
}

impl Oddity {
    pub(super) const ALL: [Self; 3] = [Self::LeadingSlash, Self::EmptyPart, Self::Dots];

    /// What it is, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LeadingSlash => "begins with /",
            Self::EmptyPart => "has a part without characters",
            Self::Dots => "has a part that is . or ..",
        }
    }

    /// Whether a whole key has it.
    pub(super) fn is_in(self, key: &str) -> bool {
        match self {
            Self::LeadingSlash => key.starts_with('/'),
            Self::EmptyPart => key.trim_start_matches('/').contains("//") || key.starts_with("//"),
            Self::Dots => key.split('/').any(|part| matches!(part, "." | "..")),
        }
    }
}

/// Why no server may be given a key below a prefix that begins every whole key.
pub(super) fn why_not(root: &str, key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("its key would be empty".to_owned());
    }
    if root.len() + key.len() > MOST_KEY_BYTES {
        return Some(format!("its key is longer than {MOST_KEY_BYTES} bytes"));
    }
    let mut depth = 0_usize;
    for part in key.split('/') {
        match part {
            ".." if depth == 0 => return Some("its key leads out of the target by ..".to_owned()),
            ".." => depth -= 1,
            "" | "." => {}
            _ => depth += 1,
        }
    }
    None
}

/// The path of a key, whose names joined by `/` are the key again. No name is empty.
pub(super) fn path_of(key: &str) -> EntryPath {
    let mut names: Vec<String> = Vec::new();
    let mut slashes = String::new();
    for part in key.split('/') {
        if part.is_empty() {
            slashes.push('/');
        } else {
            names.push(std::mem::take(&mut slashes) + part);
        }
    }
    match names.last_mut() {
        Some(last) => last.push_str(&slashes),
        None => names.push(slashes.get(1..).unwrap_or_default().to_owned()),
    }
    EntryPath::from_names(names)
}

/// The key of a path.
pub(super) fn key_of(path: &EntryPath) -> String {
    let names: Vec<_> = path.names().map(String::from_utf8_lossy).collect();
    names.join("/")
}

/// A key beside another one, for the same object.
pub(super) fn beside(key: &str, middle: &str) -> String {
    let (above, name) = key.split_at(key.rfind('/').map_or(0, |slash| slash + 1));
    // Files keep their extension, so that programs still know them.
    let dot = name.rfind('.').filter(|dot| *dot > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    format!("{above}{stem}{middle}{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_from_its_path() {
        for key in ["a", "a/b", "/a", "//a", "a//b", "a/", "a//", "/", "//", "a/./b", "///a///b///"]
        {
            let path = path_of(key);
            assert_eq!(key_of(&path), key);
            assert!(path.names().all(|name| !name.is_empty()), "{key}");
        }
        assert_eq!(path_of("a/b"), EntryPath::from_slashed(b"a/b"));
    }

    #[test]
    fn odd_keys_are_told_from_others() {
        let found = |key: &str| -> Vec<Oddity> {
            Oddity::ALL.into_iter().filter(|one| one.is_in(key)).collect()
        };
        for key in ["a", "a/b", "a/", "a.b/..c"] {
            assert_eq!(found(key), [], "{key}");
        }
        assert_eq!(found("/a"), [Oddity::LeadingSlash]);
        assert_eq!(found("//a"), [Oddity::LeadingSlash, Oddity::EmptyPart]);
        assert_eq!(found("a//"), [Oddity::EmptyPart]);
        assert_eq!(found("a/./b"), [Oddity::Dots]);
        assert_eq!(found(".."), [Oddity::Dots]);
    }

    #[test]
    fn keys_that_lead_out_or_are_too_long_are_refused() {
        for key in ["..", "../a", "a/../../b", "/../a", "./.."] {
            assert!(why_not("p/", key).is_some(), "{key}");
        }
        for key in ["a/../b", "./a", "..a", "a..", "/a"] {
            assert_eq!(why_not("p/", key), None, "{key}");
        }
        assert_eq!(why_not("", &"x".repeat(1024)), None);
        assert!(why_not("p/", &"x".repeat(1023)).is_some());
        assert!(why_not("", "").is_some());
    }

    #[test]
    fn a_name_beside_another_keeps_its_extension() {
        assert_eq!(beside("a/b.txt", "-x"), "a/b-x.txt");
        assert_eq!(beside("a.d/b", "-x"), "a.d/b-x");
        assert_eq!(beside(".b", "-x"), ".b-x");
    }
}
