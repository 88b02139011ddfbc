//! `SNAP[:PATH]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use backupkit_core::Result;
use backupkit_core::model::EntryPath;

use crate::exit::usage;

/// A snapshot, and a path in it; the root if none was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SnapshotPath {
    pub(crate) snapshot: String,
    pub(crate) path: EntryPath,
}

impl SnapshotPath {
    pub(crate) fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let (snapshot, path) = match bytes.iter().position(|&byte| byte == b':') {
            Some(colon) => (&bytes[..colon], &bytes[colon + 1..]),
            None => (bytes, &b""[..]),
        };
        let known = snapshot == b"latest"
            || (!snapshot.is_empty()
                && snapshot.len() <= 64
                && snapshot.iter().all(u8::is_ascii_hexdigit));
        if !known {
            return Err(usage(format!(
                "{:?} is not a snapshot",
                String::from_utf8_lossy(snapshot)
            ))
            .with_hint("write `latest`, or the first digits of an id that `snapshots` lists"));
        }
        Ok(Self {
            snapshot: String::from_utf8_lossy(snapshot).to_ascii_lowercase(),
            path: EntryPath::from_slashed(path),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_ends_the_snapshot() {
        let parsed = SnapshotPath::parse(OsStr::new("AB12:/a:b/c/")).unwrap();
        assert_eq!(parsed.snapshot, "ab12");
        assert_eq!(parsed.path, EntryPath::from_names(["a:b", "c"]));
    }

    #[test]
    fn without_a_path_it_is_the_root() {
        for text in ["latest", "latest:", "latest:/"] {
            assert!(SnapshotPath::parse(OsStr::new(text)).unwrap().path.is_empty(), "{text}");
        }
    }

    #[test]
    fn paths_need_not_be_text() {
        let parsed = SnapshotPath::parse(OsStr::from_bytes(b"latest:/\xff")).unwrap();
        assert_eq!(parsed.path, EntryPath::from_names([b"\xff"]));
    }

    #[test]
    fn what_cannot_be_a_snapshot_is_a_wrong_command_line() {
        for text in ["", ":/a", "newest", "./repo", &"a".repeat(65)] {
            assert_eq!(
                SnapshotPath::parse(OsStr::new(text)).unwrap_err().code(),
                "usage",
                "{text}"
            );
        }
    }
}
