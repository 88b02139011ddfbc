//! Paths of entries: lists of byte strings that are never joined by a separator.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where an entry stands in its source and in the trees of a snapshot.
///
/// A list of names, outermost first. A name is any non-empty byte string, also with `/` in it, as
/// object keys have. Paths order by name, then by depth: `a`, `a` / `x`, `a-b`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath {
    /// All names one after the other, so that a path is two allocations whatever its depth.
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl EntryPath {
    /// The path of the root, which has no names.
    pub fn root() -> Self {
        Self::default()
    }

    /// Returns the path of these names, outermost first.
    pub fn from_names<N: AsRef<[u8]>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut path = Self::root();
        for name in names {
            path.push(name.as_ref());
        }
        path
    }

    /// Returns the names between the slashes of `text`, leaving out empty ones and `.`.
    pub fn from_slashed(text: &[u8]) -> Self {
        Self::from_names(
            text.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b"."),
        )
    }

    /// Appends a name.
    pub fn push(&mut self, name: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// Removes the last name; `false` at the root.
    pub fn pop(&mut self) -> bool {
        let popped = self.ends.pop().is_some();
        self.bytes.truncate(self.start_of(self.ends.len()));
        popped
    }

    /// Returns this path with one more name.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = self.clone();
        path.push(name);
        path
    }

    /// The path without its last name; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        let mut path = self.clone();
        path.pop().then_some(path)
    }

    /// The last name; `None` at the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.len().checked_sub(1).map(|last| self.nth(last))
    }

    /// The names, outermost first.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.len()).map(|index| self.nth(index))
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether this is the root.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether `ancestor` is this path or a directory above it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.len() <= self.len()
            && ancestor.names().zip(self.names()).all(|(ours, theirs)| ours == theirs)
    }

    /// Encodes the path reversibly: each name behind its length, so no byte is special.
    pub fn to_token(&self) -> Vec<u8> {
        let mut token = Vec::with_capacity(self.bytes.len() + 4 * self.ends.len());
        for name in self.names() {
            token.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
            token.extend_from_slice(name);
        }
        token
    }

    /// Decodes what [`Self::to_token`] made; `None` if it did not.
    pub fn from_token(mut token: &[u8]) -> Option<Self> {
        let mut path = Self::root();
        while !token.is_empty() {
            let (length, rest) = token.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            path.push(rest.get(..length)?);
            token = &rest[length..];
        }
        Some(path)
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn nth(&self, index: usize) -> &[u8] {
        &self.bytes[self.start_of(index)..self.ends[index] as usize]
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.names().cmp(other.names())
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// For people: `/`-joined, with control characters and bytes that are not UTF-8 escaped.
impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("/");
        }
        for name in self.names() {
            f.write_str("/")?;
            for chunk in name.utf8_chunks() {
                for character in chunk.valid().chars() {
                    if character.is_control() {
                        write!(f, "{}", character.escape_default())?;
                    } else {
                        write!(f, "{character}")?;
                    }
                }
                for byte in chunk.invalid() {
                    write!(f, "\\x{byte:02x}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

/// As the base64 of the token: JSON strings cannot hold all names.
impl Serialize for EntryPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.to_token()))
    }
}

impl<'de> Deserialize<'de> for EntryPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD
            .decode(text)
            .ok()
            .and_then(|token| Self::from_token(&token))
            .ok_or_else(|| serde::de::Error::custom("not an entry path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_any_byte_and_come_back() {
        let path = EntryPath::from_names([&b"a/b"[..], b"\0\xff", b"c"]);
        assert_eq!(path.names().collect::<Vec<_>>(), [&b"a/b"[..], b"\0\xff", b"c"]);
        assert_eq!(EntryPath::from_token(&path.to_token()), Some(path.clone()));
        let json = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<EntryPath>(&json).unwrap(), path);
        assert_eq!(path.to_string(), "/a/b/\\u{0}\\xff/c");
    }

    #[test]
    fn a_directory_sorts_before_what_it_holds_and_before_longer_names() {
        let mut paths = [["a-b", "x"], ["a", "x"], ["a", "b"]].map(EntryPath::from_names).to_vec();
        paths.push(EntryPath::from_names(["a"]));
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/a", "/a/b", "/a/x", "/a-b/x"]);
    }

    #[test]
    fn ancestors_are_told_by_whole_names() {
        let path = EntryPath::from_slashed(b"/srv/./data//x");
        assert_eq!(path.len(), 3);
        assert!(path.starts_with(&EntryPath::from_slashed(b"srv/data")));
        assert!(!path.starts_with(&EntryPath::from_slashed(b"srv/dat")));
        assert_eq!(
            path.parent().and_then(|path| path.parent()),
            Some(EntryPath::from_names(["srv"]))
        );
    }
}
