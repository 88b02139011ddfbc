//! Are two folders the same? Byte for byte, with everything that a restore gives back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::data::paths_below;
use super::extended;

/// What is compared besides kinds, names, sizes and bytes.
#[derive(Debug, Clone, Copy)]
pub struct Aspects {
    pub modes: bool,
    pub owners: bool,
    /// Modification times, to the nanosecond.
    pub times: bool,
    pub hard_links: bool,
    pub attributes: bool,
    /// The two folders themselves, not only what is in them.
    pub roots: bool,
}

impl Aspects {
    pub const ALL: Self = Self {
        modes: true,
        owners: true,
        times: true,
        hard_links: true,
        attributes: true,
        roots: true,
    };
    /// What is in the folders: the folders themselves were made by different hands.
    pub const BELOW: Self = Self { roots: false, ..Self::ALL };
    /// Kinds, names, sizes, bytes and link targets alone.
    pub const CONTENT: Self = Self {
        modes: false,
        owners: false,
        times: false,
        hard_links: false,
        attributes: false,
        roots: false,
    };
}

/// Panics with a readable list if the folders differ.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path, aspects: Aspects) {
    let differences = differences(left, right, aspects);
    if differences.is_empty() {
        return;
    }
    let shown = differences.iter().take(30).cloned().collect::<Vec<_>>().join("\n  ");
    panic!(
        "{} and {} differ in {} places:\n  {shown}",
        left.display(),
        right.display(),
        differences.len()
    );
}

/// One line for each difference, in order of path; empty if there is none.
pub fn differences(left: &Path, right: &Path, aspects: Aspects) -> Vec<String> {
    let (left, right) = (Tree::read(left, aspects), Tree::read(right, aspects));
    let mut lines = Vec::new();
    let paths: BTreeSet<&PathBuf> = left.entries.keys().chain(right.entries.keys()).collect();
    for path in paths {
        match (left.entries.get(path), right.entries.get(path)) {
            (Some(ours), Some(theirs)) => {
                for difference in ours.differences(theirs, aspects) {
                    lines.push(format!("{path:?}: {difference}"));
                }
                if aspects.hard_links && left.linked_with(path) != right.linked_with(path) {
                    let (ours, theirs) = (left.linked_with(path), right.linked_with(path));
                    lines.push(format!("{path:?}: hard links {ours:?} against {theirs:?}"));
                }
            }
            (Some(_), None) => lines.push(format!("{path:?}: only on the left")),
            (None, _) => lines.push(format!("{path:?}: only on the right")),
        }
    }
    lines
}

struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    /// Device and inode to the paths that share it, for files with more than one.
    linked: BTreeMap<(u64, u64), Vec<PathBuf>>,
}

struct Entry {
    path: PathBuf,
    details: Metadata,
    link_target: Option<PathBuf>,
    attributes: Vec<(OsString, Vec<u8>)>,
}

impl Tree {
    fn read(root: &Path, aspects: Aspects) -> Self {
        let mut tree = Self { entries: BTreeMap::new(), linked: BTreeMap::new() };
        assert!(root.is_dir(), "{} is not a folder", root.display());
        let mut paths = paths_below(root);
        if aspects.roots {
            paths.push(root.to_owned());
        }
        for path in paths {
            let entry = Entry::read(&path);
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if entry.details.nlink() > 1 && !entry.details.is_dir() {
                let paths = tree.linked.entry(entry.inode()).or_default();
                paths.push(relative.clone());
            }
            tree.entries.insert(relative, entry);
        }
        // A link to something outside the folder makes no group inside it.
        tree.linked.retain(|_, paths| paths.len() > 1);
        tree
    }

    fn linked_with(&self, path: &Path) -> &[PathBuf] {
        self.entries
            .get(path)
            .and_then(|entry| self.linked.get(&entry.inode()))
            .map_or(&[], Vec::as_slice)
    }
}

impl Entry {
    fn read(path: &Path) -> Self {
        let details = must(path.symlink_metadata(), "read", path);
        let is_link = details.is_symlink();
        let link_target = is_link.then(|| must(fs::read_link(path), "read the link", path));
        let attributes = must(extended::attributes(path), "read the attributes of", path);
        Self { path: path.to_owned(), details, link_target, attributes }
    }

    fn inode(&self) -> (u64, u64) {
        (self.details.dev(), self.details.ino())
    }

    fn kind(&self) -> &'static str {
        let kind = self.details.file_type();
        match () {
            () if kind.is_file() => "file",
            () if kind.is_dir() => "folder",
            () if kind.is_symlink() => "symbolic link",
            () if kind.is_fifo() => "fifo",
            () if kind.is_char_device() => "character device",
            () if kind.is_block_device() => "block device",
            () if kind.is_socket() => "socket",
            () => "unknown",
        }
    }

    fn differences(&self, other: &Self, aspects: Aspects) -> Vec<String> {
        if self.kind() != other.kind() {
            return vec![format!("{} against {}", self.kind(), other.kind())];
        }
        let mut lines = Vec::new();
        let mut compare = |what: &str, left: String, right: String| {
            if left != right {
                lines.push(format!("{what} {left} against {right}"));
            }
        };
        let each = |show: &dyn Fn(&Metadata) -> String| (show(&self.details), show(&other.details));
        let has_size = self.details.is_file();
        if has_size {
            let (left, right) = each(&|details| details.len().to_string());
            compare("size", left, right);
        }
        if self.kind().ends_with("device") {
            let (left, right) = each(&|details| format!("{:#x}", details.rdev()));
            compare("device", left, right);
        }
        if let (Some(left), Some(right)) = (&self.link_target, &other.link_target) {
            compare("target", format!("{left:?}"), format!("{right:?}"));
        }
        // The mode of a link means nothing, and cannot be set.
        if aspects.modes && !self.details.is_symlink() {
            let (left, right) = each(&|details| format!("{:04o}", details.mode() & 0o7777));
            compare("mode", left, right);
        }
        if aspects.owners {
            let (left, right) = each(&|details| format!("{}:{}", details.uid(), details.gid()));
            compare("owner", left, right);
        }
        if aspects.times {
            let (left, right) =
                each(&|details| format!("{}.{:09}", details.mtime(), details.mtime_nsec()));
            compare("time", left, right);
        }
        if aspects.attributes {
            compare("attributes", show(&self.attributes), show(&other.attributes));
        }
        if has_size
            && self.details.len() == other.details.len()
            && let Some(offset) = first_difference(&self.path, &other.path)
        {
            lines.push(format!("bytes, first at {offset}"));
        }
        lines
    }
}

fn show(attributes: &[(OsString, Vec<u8>)]) -> String {
    let one = |(name, value): &(OsString, Vec<u8>)| {
        format!("{}={}", name.to_string_lossy(), value.escape_ascii())
    };
    format!("[{}]", attributes.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn first_difference(left: &Path, right: &Path) -> Option<u64> {
    let (mut left, mut right) =
        (must(File::open(left), "open", left), must(File::open(right), "open", right));
    let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut offset = 0;
    loop {
        let (n_ours, n_theirs) = (fill(&mut left, &mut ours), fill(&mut right, &mut theirs));
        let (ours, theirs) = (&ours[..n_ours], &theirs[..n_theirs]);
        if ours != theirs {
            let same = ours.iter().zip(theirs).take_while(|(left, right)| left == right).count();
            return Some(offset + same as u64);
        }
        if n_ours == 0 {
            return None;
        }
        offset += n_ours as u64;
    }
}

/// Reads until the buffer is full or the file ends: two files may come in different pieces.
fn fill(file: &mut File, buffer: &mut [u8]) -> usize {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]).unwrap() {
            0 => break,
            more => length += more,
        }
    }
    length
}

fn must<T>(result: io::Result<T>, what: &str, path: &Path) -> T {
    result.unwrap_or_else(|error| panic!("{what} {}: {error}", path.display()))
}
