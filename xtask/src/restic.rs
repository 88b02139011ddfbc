//! The restic of the distribution, unpacked into our cache: no root, nothing installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step::{output_of, run};
use crate::{Outcome, cache};

/// The first restic that knows format version 2.
const OLDEST: (u32, u32) = (0, 14);

pub(crate) enum Found {
    /// The program, and what its `version` prints.
    Restic(PathBuf, String),
    /// Why there is none on this machine.
    Impossible(String),
}

pub(crate) fn find() -> Outcome<Found> {
    if let Some(named) = std::env::var_os("BACKUPKIT_TEST_RESTIC") {
        let path = PathBuf::from(named);
        let version = version_of(&path)?;
        return Ok(Found::Restic(path, version));
    }
    let folder = cache::folder("restic")?;
    let program = folder.join("usr/bin/restic");
    let expected = folder.join("version.txt");
    if let (Ok(expected), Ok(version)) = (fs::read_to_string(&expected), version_of(&program))
        && expected == version
    {
        return Ok(Found::Restic(program, version));
    }
    // Beside it under a name of our own: another checkout may be doing the same right now.
    let fresh = folder.with_extension(std::process::id().to_string());
    let unpacked = unpack(&fresh).and_then(|()| version_of(&fresh.join("usr/bin/restic")));
    let version = match unpacked {
        Ok(version) => version,
        Err(why) => {
            cache::remove(&fresh)?;
            return Ok(Found::Impossible(why));
        }
    };
    fs::write(fresh.join("version.txt"), &version)
        .map_err(|error| format!("write in {}: {error}", fresh.display()))?;
    cache::remove(&folder)?;
    fs::rename(&fresh, &folder)
        .map_err(|error| format!("rename {} to {}: {error}", fresh.display(), folder.display()))?;
    Ok(Found::Restic(program, version))
}

/// One line, such as `restic 0.18.0 compiled with go1.24.4 on linux/amd64`.
fn version_of(program: &Path) -> Outcome<String> {
    let version = output_of(Command::new(program).arg("version"))?;
    match number_in(&version) {
        Some(number) if number >= OLDEST => Ok(version),
        Some(_) => Err(format!("`{version}` is too old; format version 2 needs 0.14")),
        None => Err(format!("{} is not restic: it says `{version}`", program.display())),
    }
}

fn number_in(version: &str) -> Option<(u32, u32)> {
    let number = version.strip_prefix("restic ")?.split_whitespace().next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn unpack(folder: &Path) -> Outcome {
    let download = folder.join("download");
    cache::create(&download)?;
    if run(apt(&download).args(["download", "restic"])).is_err() {
        // The machine's package lists may be missing or stale. Lists of our own need no root.
        println!("    the download failed; fetching package lists");
        let lists = folder.join("apt");
        cache::create(&lists.join("lists/partial"))?;
        cache::create(&lists.join("cache/archives/partial"))?;
        let own = |command: &mut Command| {
            command.arg("-o").arg(format!("Dir::State::lists={}", lists.join("lists").display()));
            command.arg("-o").arg(format!("Dir::Cache={}", lists.join("cache").display()));
        };
        let mut update = apt(&download);
        own(&mut update);
        run(update.arg("update"))?;
        let mut again = apt(&download);
        own(&mut again);
        run(again.args(["download", "restic"]))?;
        cache::remove(&lists)?;
    }
    let package = fs::read_dir(&download)
        .map_err(|error| format!("list {}: {error}", download.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get download left no package")?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(folder))?;
    cache::remove(&download)
}

fn apt(download: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").current_dir(download);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_first_line() {
        assert_eq!(number_in("restic 0.14.0 compiled with go1.19.8 on linux/amd64"), Some((0, 14)));
        assert_eq!(number_in("restic 0.18.1-dev (compiled manually)"), Some((0, 18)));
        assert_eq!(number_in("rustic 0.9.0"), None);
    }
}
