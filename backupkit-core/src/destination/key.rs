//! Keys of objects.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The key of an object: segments of `a-z`, `0-9`, `-`, `_` and `.` joined by `/`, none of them
/// empty, `.` or `..`. So a key is safe as a relative path and in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks and wraps a key.
    ///
    /// # Errors
    /// `InvalidInput` if it is not of the form that the type describes, or longer than 512 bytes.
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        let is_segment = |segment: &str| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
        };
        if key.len() > 512 || !key.split('/').all(is_segment) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("not an object key: {key:?}")));
        }
        Ok(Self(key))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether this key is `prefix` or stands below it.
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_relative_keys_are_taken() {
        for key in ["config", "data/3f/3fa0", "locks/x-tmp.1", "a_b"] {
            assert_eq!(ObjectKey::new(key).unwrap().as_str(), key);
        }
        for key in ["", "/config", "a//b", "a/", "../x", "a/./b", "A", "a b", "a\\b", "é"] {
            assert!(ObjectKey::new(key).is_err(), "{key}");
        }
    }

    #[test]
    fn below_is_told_by_whole_segments() {
        let key = ObjectKey::new("data/3f/x").unwrap();
        assert!(key.is_below(&ObjectKey::new("data/3f").unwrap()));
        assert!(!key.is_below(&ObjectKey::new("data/3").unwrap()));
        assert_eq!(key.name(), "x");
    }
}
