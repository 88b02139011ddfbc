//! Keys of objects become names in trees, and names become keys again.
//!
//! Any key has a place in a tree that any file system can hold, so that `restic restore` gives a
//! sensible folder:
//!
//! - A key is split at each `/`. All parts but the last are directories, the last one is the file. What
//!   ends with `/` and has no bytes is no file but the marker of its directory.
//! - `%`, `\`, control characters, `.` and `..` are written as `%` and two capital hexadecimal digits
//!   for each byte. No part is written as `%` and a small letter, so that such words are free:
//! - `%empty` is a part without characters; `NAME%object` an object beside a directory of its name;
//!   `BEGINNING%long-HASH` a part that is too long for file systems, whose node keeps the part itself.
//! - `%range-NAME` is a directory that stands for no part: what is in it belongs to the one above. NAME is
//!   that of the first entry, with `%2F` behind it if that is a directory.
//! - `BUCKET%bucket.json`, beside the directory of a bucket, has the settings of it and is no object.
//! - `BUCKET%versions`, beside it too, has the older versions of keys (see [`past`]).
//!
//! Nothing else is read from a name: what follows `%` and is none of these was not written by us.

pub(super) mod past;

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use crate::model::EntryPath;

/// Stands for a part without characters.
pub(super) const EMPTY: &str = "%empty";
/// Ends the name of an object beside a directory of the same name.
const OBJECT: &str = "%object";
/// Follows the beginning of a part that is too long.
const LONG: &str = "%long-";
/// Ends the name of the file with the settings of a bucket, beside its directory.
const SETTINGS: &str = "%bucket.json";
/// Begins the name of a directory that stands for no part.
pub(super) const RANGE: &str = "%range-";
/// Names up to this length are written whole, so that there is room for [`OBJECT`].
const LONGEST_WHOLE: usize = 248;
/// So much is kept of the others.
const LONGEST_BEGINNING: usize = 180;
/// Characters of the hash of a part.
const HASH_CHARACTERS: usize = 32;
const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// A part of a key as a name in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// The name.
    pub(super) text: String,
    /// Whether the part cannot be told from the name alone: its node has to keep it.
    pub(super) is_shortened: bool,
}

impl Name {
    /// The name of a part of a key, or of a bucket.
    pub(super) fn of(part: &str) -> Self {
        let whole = escaped(part);
        if whole.len() <= LONGEST_WHOLE {
            return Self { text: whole, is_shortened: false };
        }
        let beginning = &whole[..cut(&whole)];
        Self { text: format!("{beginning}{LONG}{}", hash(part)), is_shortened: true }
    }

    /// The name of an object beside a directory whose name this is.
    #[must_use]
    pub(super) fn beside_directory(mut self) -> Self {
        self.text.push_str(OBJECT);
        self
    }
}

/// The name of a directory that stands for no part, whose first entry is an object of this part.
pub(super) fn range_of_objects(first: &str) -> String {
    format!("{RANGE}{}", Name::of(first).text)
}

/// The same for one whose first entry is a directory. No object has such a part.
pub(super) fn range_of_directories(first: &str) -> String {
    range_of_objects(&format!("{first}/"))
}

/// Where an entry would stand if no directory were divided.
pub(super) fn undivided(path: &EntryPath) -> EntryPath {
    EntryPath::from_names(path.names().filter(|name| !name.starts_with(RANGE.as_bytes())))
}

/// The name of the file with the settings of a bucket.
pub(super) fn settings_name(bucket: &str) -> String {
    Name::of(bucket).text + SETTINGS
}

/// Whether this is the name of a file with the settings of a bucket, if it stands beside that.
pub(super) fn is_settings(name: &[u8]) -> bool {
    name.ends_with(SETTINGS.as_bytes())
}

/// Where the tree of a bucket has an object with this key that stands beside no directory, below the
/// directory `base`.
pub(super) fn usual_place(base: &EntryPath, key: &str) -> EntryPath {
    let (prefix, last) = divide(key);
    let mut path = base.clone();
    for part in prefix.split_terminator('/').chain([last]) {
        path.push(Name::of(part).text.as_bytes());
    }
    path
}

/// The same for an object beside a directory of its name.
pub(super) fn place_beside_directory(usual: &EntryPath) -> EntryPath {
    let mut path = usual.parent().unwrap_or_default();
    path.push(&[usual.name().unwrap_or_default(), OBJECT.as_bytes()].concat());
    path
}

/// Whether this is the name of an object beside a directory of its name.
pub(super) fn is_beside_directory(name: &[u8]) -> bool {
    name.ends_with(OBJECT.as_bytes())
}

/// Divides a key into the part that names its object, which may be empty, and what stands before it,
/// which is empty or ends with `/`.
pub(super) fn divide(key: &str) -> (&str, &str) {
    key.split_at(key.rfind('/').map_or(0, |slash| slash + 1))
}

/// How keys come to each other directory by directory: `/` comes before all other characters.
pub(super) fn by_tree(one: &str, other: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    one.bytes().map(rank).cmp(other.bytes().map(rank))
}

/// The key of a directory: what the keys of all that is in it begin with. Empty, or ends with `/`; it
/// is the key of the directory's marker, too.
///
/// It is built by entering directories one by one. Whether something is a file or a directory is told
/// by its node, `kept` is the part that the node keeps of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the prefix of a directory in this one; nothing if we did not write this name.
    pub(super) fn enter(&self, name: &[u8], kept: Option<&str>) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        if name.starts_with(RANGE) {
            return Some(self.clone());
        }
        Some(Self(format!("{}{}/", self.0, part(name, kept)?)))
    }

    /// Returns the prefix of a directory whose name is a part of the key as it is.
    pub(super) fn enter_plain(&self, part: &str) -> Self {
        Self(format!("{}{part}/", self.0))
    }

    /// The key of a file in this directory; nothing if we did not write this name.
    pub(super) fn key_of_file(&self, name: &[u8], kept: Option<&str>) -> Option<String> {
        let name = std::str::from_utf8(name).ok()?;
        let name = name.strip_suffix(OBJECT).unwrap_or(name);
        Some(format!("{}{}", self.0, part(name, kept)?))
    }
}

/// The part that a name stands for; nothing if we did not write this name.
pub(super) fn part(name: &str, kept: Option<&str>) -> Option<String> {
    if name == EMPTY {
        return Some(String::new());
    }
    if let Some((_, named)) = name.rsplit_once(LONG) {
        return kept.filter(|kept| hash(kept) == named).map(str::to_owned);
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte| HEX_DIGITS.iter().position(|known| *known == byte);
        bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = after;
    }
    // No name is empty, and only one word means that.
    String::from_utf8(bytes).ok().filter(|part| !part.is_empty())
}

fn escaped(part: &str) -> String {
    match part {
        "" => EMPTY.to_owned(),
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => {
            let mut name = String::with_capacity(part.len());
            for character in part.chars() {
                // `/` is in no part of a key, but in names of access points.
                if matches!(character, '\0'..='\x1f' | '\x7f' | '%' | '\\' | '/') {
                    // All of them are one byte.
                    let byte = character as usize & 0x7f;
                    name.push('%');
                    name.push(char::from(HEX_DIGITS[byte >> 4]));
                    name.push(char::from(HEX_DIGITS[byte & 15]));
                } else {
                    name.push(character);
                }
            }
            name
        }
    }
}

/// Where the beginning of a long name ends: neither in a character nor in an escape.
fn cut(name: &str) -> usize {
    let mut end = LONGEST_BEGINNING.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = name.as_bytes();
    match (bytes.get(end.wrapping_sub(2)), bytes.get(end.wrapping_sub(1))) {
        (_, Some(b'%')) => end - 1,
        (Some(b'%'), _) => end - 2,
        _ => end,
    }
}

fn hash(part: &str) -> String {
    let mut text = hex::encode(Sha256::digest(part));
    text.truncate(HASH_CHARACTERS);
    text
}

#[cfg(test)]
mod tests;
