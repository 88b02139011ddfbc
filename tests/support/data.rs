//! Folders to back up: the same seed gives the same bytes, names, links, modes and times.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::extended::{self, name};
use super::random::Random;

/// What goes into a folder. `everything` has all kinds and is small.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Sizes of files that do not compress, in bytes.
    pub random_files: Vec<u64>,
    /// Sizes of files that compress well, in bytes.
    pub text_files: Vec<u64>,
    /// Sizes of files of zeros, in bytes.
    pub zero_files: Vec<u64>,
    /// How many files of 0 to 4 KiB, spread over folders.
    pub n_small_files: u64,
    pub odd_names: bool,
    pub links: bool,
    /// Fifos, and devices where this process may make them.
    pub special_files: bool,
    pub sparse_files: bool,
    pub attributes: bool,
    pub modes: bool,
    pub times: bool,
    /// Targets of symbolic links that are not UTF-8; restic before 0.16 cannot keep them.
    pub odd_link_targets: bool,
}

impl Plan {
    /// Every kind, with sizes around the edges of the chunker; about 25 MB.
    pub fn everything() -> Self {
        let mib = 1 << 20;
        Self {
            random_files: vec![0, 1, 63, 64, 65, mib / 2 - 1, mib / 2, mib / 2 + 1, 9 * mib + 7],
            text_files: vec![1, 4096, 3 * mib],
            zero_files: vec![1, mib, 8 * mib],
            n_small_files: 200,
            odd_names: true,
            links: true,
            special_files: true,
            sparse_files: true,
            attributes: true,
            modes: true,
            times: true,
            odd_link_targets: false,
        }
    }

    /// A few files, for tests that repeat the same thing very often; about 10 kB.
    pub fn tiny() -> Self {
        Self {
            random_files: vec![0, 5000],
            text_files: vec![3000],
            n_small_files: 3,
            links: true,
            ..Self::nothing()
        }
    }

    /// Mostly files of some megabytes and some small ones, about `size_bytes` in sum.
    pub fn bulk(size_bytes: u64) -> Self {
        let large = 4 << 20;
        let n_large = size_bytes * 9 / 10 / large;
        Self {
            random_files: vec![large; usize::try_from(n_large).unwrap()],
            n_small_files: size_bytes / 10 / 2048,
            ..Self::nothing()
        }
    }

    pub fn nothing() -> Self {
        Self {
            random_files: Vec::new(),
            text_files: Vec::new(),
            zero_files: Vec::new(),
            n_small_files: 0,
            odd_names: false,
            links: false,
            special_files: false,
            sparse_files: false,
            attributes: false,
            modes: false,
            times: false,
            odd_link_targets: false,
        }
    }
}

/// Names that break programs: quotes, control characters, two forms of one letter, bytes that are
/// no UTF-8, the longest that Linux allows.
pub const ODD_NAMES: [&[u8]; 30] = [
    b" ",
    b"  two  ",
    b"-rf",
    b"--help",
    b"...",
    b".hidden",
    b"a\nb",
    b"a\tb",
    b"\x01\x1b[31m",
    b"\x7f",
    b"quote\"s",
    b"apostrophe's",
    b"back\\slash",
    b"\\x41",
    b"$HOME `id`",
    b"*?[a]",
    b"<&>",
    b"%2F%00",
    b"a:b",
    b"CON",
    b"name.",
    "n\u{e9}e".as_bytes(),
    "ne\u{301}e".as_bytes(),
    "\u{1f980}\u{200d}".as_bytes(),
    "\u{2028}\u{feff}".as_bytes(),
    "\u{fffd}".as_bytes(),
    b"\xff\xfe",
    b"latin-\xe9",
    b"cut-\xf0\x9f\xa6",
    &[b'n'; 255],
];

/// Times at the edges of what formats hold: seconds and nanoseconds since 1970.
const TIMES: [(i64, u32); 8] = [
    (0, 0),
    (0, 1),
    (-1, 999_999_999),
    (-86_400 * 365, 123_456_789),
    (1_000_000_000, 100_000_000),
    (1_711_846_799, 999_999_999), // the second before a change to summer time
    (1_711_846_800, 0),
    (2_147_483_648, 5), // does not fit 32 bits
];

/// Fills a folder that is empty or missing. Says the seed, and what this file system cannot hold.
pub fn create(folder: &Path, seed: u64, plan: &Plan) {
    fs::create_dir_all(folder).unwrap();
    let builder = Builder { folder, random: Random::new(seed), plan };
    builder.contents();
    builder.small_files();
    if plan.odd_names {
        builder.odd_names();
    }
    if plan.sparse_files {
        builder.sparse_files();
    }
    if plan.links {
        builder.links();
    }
    if plan.special_files {
        builder.special_files();
    }
    if plan.attributes {
        builder.attributes();
    }
    if plan.modes {
        builder.modes();
    }
    if plan.times {
        builder.times();
    }
}

struct Builder<'plan> {
    folder: &'plan Path,
    random: Random,
    plan: &'plan Plan,
}

impl Builder<'_> {
    fn contents(&self) {
        let folder = self.subfolder("contents");
        for (index, size_bytes) in self.plan.random_files.iter().enumerate() {
            let file = format!("random-{index}-{size_bytes}");
            self.random.fork(&file).write_file(&folder.join(&file), *size_bytes);
        }
        for (index, size_bytes) in self.plan.text_files.iter().enumerate() {
            let file = format!("text-{index}-{size_bytes}");
            let text = self.random.fork(&file).text(usize::try_from(*size_bytes).unwrap());
            fs::write(folder.join(file), text).unwrap();
        }
        for (index, size_bytes) in self.plan.zero_files.iter().enumerate() {
            let zeros = vec![0; usize::try_from(*size_bytes).unwrap()];
            fs::write(folder.join(format!("zeros-{index}-{size_bytes}")), zeros).unwrap();
        }
    }

    fn small_files(&self) {
        let mut random = self.random.fork("small");
        for index in 0..self.plan.n_small_files {
            // Up to three levels, a few dozen files in each folder.
            let folder = match index % 3 {
                0 => self.subfolder("small"),
                1 => self.subfolder(&format!("small/{}", index / 50)),
                _ => self.subfolder(&format!("small/{}/deep", index / 50)),
            };
            let size_bytes = random.below(4096);
            let content = random.bytes(usize::try_from(size_bytes).unwrap());
            fs::write(folder.join(format!("file-{index:05}")), content).unwrap();
        }
    }

    fn odd_names(&self) {
        let folder = self.subfolder("odd names");
        let mut n_refused = 0;
        for (index, odd) in ODD_NAMES.iter().enumerate() {
            let content = format!("the content of odd name {index}");
            // Some file systems take UTF-8 only.
            if fs::write(folder.join(name(odd)), content).is_err() {
                n_refused += 1;
                continue;
            }
            let below = self.subfolder("odd folders").join(name(odd));
            fs::create_dir(&below).unwrap();
            fs::write(below.join(name(odd)), "below").unwrap();
        }
        if n_refused > 0 {
            eprintln!("left out: {n_refused} names that this file system refuses");
        }
        self.subfolder("empty folder");
        // As deep as a path can name from the root, not as deep as a folder can be.
        self.subfolder(&vec!["d"; 100].join("/"));
    }

    fn sparse_files(&self) {
        let folder = self.subfolder("sparse");
        File::create_new(folder.join("only a hole")).unwrap().set_len(5 << 20).unwrap();
        let mut file = File::create_new(folder.join("islands")).unwrap();
        for offset in [0, 1 << 20, (6 << 20) + 17] {
            file.seek(SeekFrom::Start(offset)).unwrap();
            file.write_all(b"island").unwrap();
        }
        file.set_len(9 << 20).unwrap();
    }

    fn links(&self) {
        let folder = self.subfolder("links");
        let other = self.subfolder("links/other");
        let linked = folder.join("linked-1");
        fs::write(&linked, self.random.fork("linked").bytes(2000)).unwrap();
        fs::hard_link(&linked, folder.join("linked-2")).unwrap();
        fs::hard_link(&linked, other.join("linked-3")).unwrap();
        // Same bytes, but a file of its own.
        fs::copy(&linked, folder.join("copy")).unwrap();
        let targets: [(&str, &[u8]); 9] = [
            ("relative", b"linked-1"),
            ("up", b"../links/other/linked-3"),
            ("absolute", b"/etc/hostname"),
            ("outside", b"../../../../../../../../etc/passwd"),
            ("dangling", b"nothing/here"),
            ("loop", b"loop"),
            ("folder", b"other"),
            ("odd", "a \"b\" <\u{e9}>\n\u{2028}".as_bytes()),
            ("long", &[b'l'; 4000]),
        ];
        for (link, target) in targets {
            symlink(name(target), folder.join(link)).unwrap();
        }
        if self.plan.odd_link_targets {
            symlink(name(b"not-utf8-\xff\xe9"), folder.join("raw")).unwrap();
        }
    }

    fn special_files(&self) {
        let folder = self.subfolder("special");
        extended::make_fifo(&folder.join("fifo")).unwrap();
        if let Err(error) = extended::make_device(&folder.join("null"), 1, 3) {
            eprintln!("left out: a device: {error}");
        }
    }

    fn attributes(&self) {
        let folder = self.subfolder("attributes");
        let file = folder.join("file");
        fs::write(&file, "with attributes").unwrap();
        let large = self.random.fork("attributes").bytes(1000);
        let values: [(&str, &[u8]); 4] = [
            ("user.z-first-made", b"text"),
            ("user.binary", &[0, 255, 10, 0]),
            ("user.empty", b""),
            ("user.large", &large),
        ];
        for path in [&file, &folder] {
            for (attribute, value) in values {
                if let Err(error) = extended::set_attribute(path, attribute, value) {
                    eprintln!("left out: extended attributes: {error}");
                    return;
                }
            }
        }
    }

    fn modes(&self) {
        let folder = self.subfolder("modes");
        let everybody = [0o400, 0o444, 0o600, 0o640, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o1644];
        // What the owner may not read, only root can back up.
        let only_root: &[u32] = if extended::is_root() { &[0, 0o200, 0o111] } else { &[] };
        for mode in everybody.iter().chain(only_root) {
            let file = folder.join(format!("file-{mode:04o}"));
            fs::write(&file, format!("{mode:o}")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).unwrap();
        }
        for mode in [0o700, 0o755, 0o1777, 0o2775] {
            let below = self.subfolder(&format!("modes/folder-{mode:04o}"));
            fs::write(below.join("file"), "below").unwrap();
            fs::set_permissions(&below, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Last, and children before parents: each change of a folder moves its time.
    fn times(&self) {
        let mut random = self.random.fork("times");
        let mut paths = paths_below(self.folder);
        paths.reverse();
        for path in paths {
            let (seconds, nanoseconds) = *random.pick(&TIMES);
            extended::set_modified(&path, seconds, nanoseconds).unwrap();
        }
    }

    fn subfolder(&self, path: &str) -> PathBuf {
        let folder = self.folder.join(path);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// Everything below a folder, parents first, in order of name; links are not followed.
pub fn paths_below(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut paths = Vec::new();
    for path in names {
        let is_folder = path.symlink_metadata().unwrap().is_dir();
        paths.push(path.clone());
        if is_folder {
            paths.extend(paths_below(&path));
        }
    }
    paths
}

/// Changes a part of what [`create`] made: rewrites, appends, removes, renames and adds files.
pub fn change(folder: &Path, seed: u64) {
    let mut random = Random::new(seed).fork("change");
    let mut n_changed = 0;
    for path in paths_below(folder) {
        let details = path.symlink_metadata().unwrap();
        if !details.is_file() || details.permissions().readonly() || random.below(4) > 0 {
            continue;
        }
        n_changed += 1;
        match random.below(4) {
            0 => fs::write(&path, random.bytes(700)).unwrap(),
            1 => {
                let mut file = File::options().append(true).open(&path).unwrap();
                file.write_all(&random.bytes(300)).unwrap();
            }
            2 => fs::remove_file(&path).unwrap(),
            _ => fs::rename(&path, path.with_file_name(format!("renamed-{n_changed}"))).unwrap(),
        }
    }
    fs::write(folder.join(format!("added-{seed}")), random.bytes(10_000)).unwrap();
}

/// Moves a whole file by one byte, without holding it in memory.
pub fn insert_byte_at_front(path: &Path, byte: u8) {
    let moved = path.with_extension("moved");
    let mut from = File::open(path).unwrap();
    let mut to = File::create_new(&moved).unwrap();
    to.write_all(&[byte]).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = from.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        to.write_all(&buffer[..length]).unwrap();
    }
    fs::rename(moved, path).unwrap();
}
