//! The data: the same bytes on every machine, made once and kept.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::random::Random;
use crate::{Outcome, cache};

/// Changed whenever the data changes.
const VERSION: u32 = 3;
const MIB: u64 = 1 << 20;
/// Text that files take their pieces from.
const POOL_BYTES: usize = 8 << 20;

/// A kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// 3 GiB in files of 1 to 256 MiB: two thirds random, one third text.
    Mixed,
    /// 50,000 files of up to 16 KiB in 500 folders.
    Small,
    /// 100,000 files as programs have them: deep folders, much that repeats.
    Source,
}

impl Set {
    pub(crate) const ALL: [Self; 3] = [Self::Mixed, Self::Small, Self::Source];

    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let found = Self::ALL.into_iter().find(|set| set.name() == name);
        found.ok_or_else(|| format!("no set is called `{name}`; there are mixed, small, source"))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mixed => "mixed",
            Self::Small => "small",
            Self::Source => "source",
        }
    }

    /// Where the data lies.
    pub(crate) fn folder(self, scale: u64, work: &Path) -> PathBuf {
        work.join(format!("data-{VERSION}-{scale}")).join(self.name())
    }

    /// Where a copy lies of which about 1 % is changed, if the set has one.
    pub(crate) fn changed_folder(self, scale: u64, work: &Path) -> Option<PathBuf> {
        (self == Self::Mixed).then(|| self.folder(scale, work).with_file_name("mixed-changed"))
    }
}

/// Makes a set where it is missing.
pub(crate) fn make(set: Set, scale: u64, work: &Path) -> Outcome {
    make_folder(&set.folder(scale, work), |folder| match set {
        Set::Mixed => mixed(folder, scale * 3072 * MIB),
        Set::Small => small(folder, scale * 50_000),
        Set::Source => source(folder, scale * 100_000),
    })?;
    let Some(changed) = set.changed_folder(scale, work) else { return Ok(()) };
    let original = set.folder(scale, work);
    make_folder(&changed, |folder| change(&original, folder))
}

fn make_folder(folder: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> Outcome {
    if folder.exists() {
        return Ok(());
    }
    // Under another name until it is whole.
    let unfinished = folder.with_extension("unfinished");
    cache::remove(&unfinished)?;
    cache::create(&unfinished)?;
    fill(&unfinished)
        .and_then(|()| fs::rename(&unfinished, folder))
        .map_err(|error| format!("write data in {}: {error}", folder.display()))
}

fn mixed(folder: &Path, total_bytes: u64) -> std::io::Result<()> {
    let mut random = Random::new(2);
    let pool = pool(&mut random);
    let (mut left, mut number) = (total_bytes, 0_u64);
    while left > 0 {
        let wanted = (1 << (number % 9)) * MIB + random.below(MIB);
        let size_bytes = wanted.min(left);
        let group = number / 9;
        let is_text = (group + number) % 3 == 0;
        let name = if is_text { "text" } else { "binary" };
        let parent = folder.join(format!("{name}-{group:02}"));
        fs::create_dir_all(&parent)?;
        let path = parent.join(format!("{number:03}"));
        let mut file = BufWriter::new(File::create_new(&path)?);
        if is_text {
            write_text(&mut file, &mut random, &pool, size_bytes, 4096..65_536)?;
        } else {
            write_random(&mut file, &mut random, size_bytes)?;
        }
        file.flush()?;
        left -= size_bytes;
        number += 1;
    }
    Ok(())
}

fn small(folder: &Path, files: u64) -> std::io::Result<()> {
    let mut random = Random::new(1);
    let pool = pool(&mut random);
    for number in 0..files {
        let parent = folder.join(format!("{:03}", number % (files / 100).max(1)));
        fs::create_dir_all(&parent)?;
        // Squared: most are small. Every fiftieth is empty.
        let share = (random.below(1 << 14) * random.below(1 << 14)) >> 14;
        let size_bytes = if number % 50 == 0 { 0 } else { share };
        let mut file = BufWriter::new(File::create_new(parent.join(format!("{number:06}.txt")))?);
        write_text(&mut file, &mut random, &pool, size_bytes, 200..2000)?;
        file.flush()?;
    }
    Ok(())
}

/// Files of 11 KiB on average, most far smaller; one in twelve is a copy of an earlier one, one in
/// forty a link.
fn source(folder: &Path, files: u64) -> std::io::Result<()> {
    let mut random = Random::new(3);
    let pool = pool(&mut random);
    let mut parent = folder.to_owned();
    let mut depth = 0;
    let mut earlier: Vec<PathBuf> = Vec::new();
    for number in 0..files {
        if number % 11 == 0 {
            // One folder further: deeper, beside, or near the root again.
            while depth > 0 && (depth > 9 || random.below(5) < 2) {
                parent.pop();
                depth -= 1;
            }
            parent.push(format!("module_{}", random.below(400)));
            depth += 1;
            fs::create_dir_all(&parent)?;
        }
        let path = parent.join(format!("source_{number}.rs"));
        match random.below(120) {
            0..10 if !earlier.is_empty() => {
                let copied = random.pick(&earlier).clone();
                fs::write(&path, fs::read(copied)?)?;
                continue;
            }
            10..13 => {
                std::os::unix::fs::symlink(format!("source_{}.rs", number / 2), &path)?;
                continue;
            }
            _ => {}
        }
        // Between 64 bytes and 4 MiB, each doubling about half as likely from 4 KiB on.
        let doublings = (random.number() | 1 << 10).trailing_zeros() + 3;
        let size_bytes = 64 + random.below(256 << doublings.min(13));
        let mut file = BufWriter::new(File::create_new(&path)?);
        write_lines(&mut file, &mut random, &pool, size_bytes * 2)?;
        file.flush()?;
        if number % 500 == 0 {
            earlier.push(path);
        }
    }
    Ok(())
}

/// Copies with about 1 % of the bytes overwritten or inserted, in edits of 1 KiB to 1 MiB.
fn change(original: &Path, folder: &Path) -> std::io::Result<()> {
    let mut random = Random::new(4);
    for parent in sorted(original)? {
        let copy = folder.join(parent.file_name().unwrap_or_default());
        fs::create_dir_all(&copy)?;
        for path in sorted(&parent)? {
            let to = File::create_new(copy.join(path.file_name().unwrap_or_default()))?;
            change_file(&mut random, &path, &to)?;
        }
    }
    Ok(())
}

fn change_file(random: &mut Random, from: &Path, to: &File) -> std::io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = BufWriter::with_capacity(1 << 20, to);
    let mut left = source.metadata()?.len();
    while left > 0 {
        let edit_bytes = 1024 << random.below(11);
        let kept = (edit_bytes * (50 + random.below(100))).min(left);
        std::io::copy(&mut (&mut source).take(kept), &mut target)?;
        left -= kept;
        if left == 0 {
            break;
        }
        let edit_bytes = edit_bytes.min(left);
        write_random(&mut target, random, edit_bytes)?;
        if random.below(2) == 0 {
            std::io::copy(&mut (&mut source).take(edit_bytes), &mut std::io::sink())?;
            left -= edit_bytes;
        }
    }
    target.flush()
}

fn sorted(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Text of words from a vocabulary of 20,000, the first of them far more often, with numbers and
/// punctuation in between.
fn pool(random: &mut Random) -> Vec<u8> {
    const SYLLABLES: [&str; 24] = [
        "ba", "co", "di", "fu", "ga", "he", "in", "jo", "ka", "lu", "me", "no", "or", "pa", "re",
        "sa", "te", "un", "va", "we", "xi", "yo", "zu", "st",
    ];
    let word = |random: &mut Random| {
        (0..=random.below(4)).map(|_| *random.pick(&SYLLABLES)).collect::<String>()
    };
    let words: Vec<String> = (0..20_000).map(|_| word(random)).collect();
    let mut text = String::with_capacity(POOL_BYTES + 64);
    while text.len() < POOL_BYTES {
        let share = random.below(1 << 20);
        let rank = (((share * share) >> 20) * share) >> 20;
        let index = usize::try_from((rank * words.len() as u64) >> 20).unwrap_or_default();
        text.push_str(&words[index]);
        match random.below(24) {
            0 => text.push_str(";\n    "),
            1 => drop(write!(text, "({:x}), ", random.below(1 << 32))),
            2 => text.push('_'),
            3 => text.push_str(" = "),
            _ => text.push(' '),
        }
    }
    text.into_bytes()
}

/// Lines of which most come again and again, as in programs: it compresses to about a fifth.
fn write_lines(
    to: &mut impl std::io::Write,
    random: &mut Random,
    pool: &[u8],
    size_bytes: u64,
) -> std::io::Result<()> {
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut left = usize::try_from(size_bytes).unwrap_or(usize::MAX);
    while left > 0 {
        // One line in five is new; the others are of the last 64.
        let line = if lines.is_empty() || random.below(5) == 0 {
            let length = 12 + usize::try_from(random.below(60)).unwrap_or_default();
            let at = random.below((pool.len() - length) as u64);
            let at = usize::try_from(at).unwrap_or_default();
            let line = &pool[at..at + length];
            lines.push(line);
            line
        } else {
            let recent = lines.len().saturating_sub(64);
            random.pick(&lines[recent..])
        };
        let length = line.len().min(left);
        to.write_all(&line[..length])?;
        left -= length;
        if left > 0 {
            to.write_all(b"\n")?;
            left -= 1;
        }
    }
    Ok(())
}

fn write_random(
    to: &mut impl std::io::Write,
    random: &mut Random,
    size_bytes: u64,
) -> std::io::Result<()> {
    let mut buffer = [0; 8192];
    let mut left = size_bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        random.fill(&mut buffer[..length]);
        to.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}

/// Pieces from all over the pool behind a number, so that no two files are the same.
fn write_text(
    to: &mut impl std::io::Write,
    random: &mut Random,
    pool: &[u8],
    size_bytes: u64,
    piece_bytes: std::ops::Range<u64>,
) -> std::io::Result<()> {
    let mut left = usize::try_from(size_bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let mark = format!("#{:08x}\n", random.below(1 << 32));
        let mark = &mark.as_bytes()[..mark.len().min(left)];
        to.write_all(mark)?;
        left -= mark.len();
        let spread = piece_bytes.end - piece_bytes.start;
        let wanted = piece_bytes.start + random.below(spread);
        let length = usize::try_from(wanted).unwrap_or(usize::MAX).min(left);
        let at = random.below((pool.len() - length) as u64);
        let at = usize::try_from(at).unwrap_or_default();
        to.write_all(&pool[at..at + length])?;
        left -= length;
    }
    Ok(())
}
