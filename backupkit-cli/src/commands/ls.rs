//! `ls`.

use std::sync::Arc;

use backupkit_core::model::{EntryKind, FileMode};
use backupkit_core::repo::ReaderOptions;
use backupkit_core::snapshot::{SnapshotEntry, SnapshotReader};
use backupkit_core::{Error, ErrorKind, Result};
use futures::TryStreamExt as _;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::app::App;
use crate::cli::{LsArguments, ReadOption, SnapshotPath};
use crate::exit::Exit;
use crate::output::format;
use crate::output::record::{PathFields, base64_unless_text};

#[derive(Serialize)]
struct EntryRecord<'a> {
    #[serde(flatten)]
    path: PathFields,
    kind: &'static str,
    size_bytes: u64,
    mode: String,
    mtime: String,
    uid: u32,
    gid: u32,
    user: &'a str,
    group: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target_b64: Option<String>,
}

pub(super) async fn run(app: &App<'_>, arguments: LsArguments) -> Result<Exit> {
    let wanted = SnapshotPath::parse(&arguments.snapshot)?;
    let (snapshot, root) = open(app, &arguments.repository, &wanted).await?;
    let zone = app.env.time_zone();
    let print = |entry: &SnapshotEntry| {
        let line = if arguments.long { long_line(entry, zone) } else { short_line(entry) };
        app.output.item("entry", line, &record(entry));
    };
    if root.kind == EntryKind::Directory {
        let mut entries = if arguments.recursive {
            snapshot.walk(&wanted.path)
        } else {
            snapshot.children(&wanted.path)
        };
        while let Some(entry) = entries.try_next().await? {
            if app.output.is_closed() {
                return Ok(Exit::Success);
            }
            print(&entry);
        }
    } else {
        print(&root);
    }
    app.output.end_items();
    Ok(Exit::Success)
}

/// Opens a snapshot and finds a path in it.
pub(super) async fn open(
    app: &App<'_>,
    option: &ReadOption,
    wanted: &SnapshotPath,
) -> Result<(Arc<dyn SnapshotReader>, SnapshotEntry)> {
    let repository = app.open_to_read(option).await?;
    let (id, _) = repository.find_snapshot(&wanted.snapshot).await?;
    let options = ReaderOptions { cache_folder: app.index_folder() };
    let snapshot = repository.reader(options).await?.snapshot(id).await?;
    let entry = snapshot.find(&wanted.path).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("{} is not in snapshot {}", wanted.path, id.short()),
        )
        .with_code("path-not-found")
        .with_hint("list what is there with `ls`")
    })?;
    Ok((snapshot, entry))
}

fn short_line(entry: &SnapshotEntry) -> String {
    let slash = if entry.kind == EntryKind::Directory { "/" } else { "" };
    format!("{}{slash}", entry.path)
}

fn long_line(entry: &SnapshotEntry, zone: &TimeZone) -> String {
    let metadata = &entry.metadata;
    let owner = |name: &str, number: u32| {
        if name.is_empty() { number.to_string() } else { format::one_line(name) }
    };
    let link = match &entry.kind {
        EntryKind::Symlink { target } => format!(" -> {}", format::lossy(target)),
        _ => String::new(),
    };
    format!(
        "{} {:>8} {:>8} {:>10} {} {}{link}",
        mode_text(&entry.kind, metadata.mode),
        owner(&metadata.user, metadata.uid),
        owner(&metadata.group, metadata.gid),
        format::bytes(entry.size_bytes),
        format::time(&metadata.mtime, zone),
        short_line(entry)
    )
}

fn record(entry: &SnapshotEntry) -> EntryRecord<'_> {
    let metadata = &entry.metadata;
    let target = match &entry.kind {
        EntryKind::Symlink { target } => Some(target),
        _ => None,
    };
    EntryRecord {
        path: PathFields::new(&entry.path),
        kind: kind_name(&entry.kind),
        size_bytes: entry.size_bytes,
        mode: format!("{:04o}", metadata.mode.unix_permissions()),
        mtime: metadata.mtime.to_string(),
        uid: metadata.uid,
        gid: metadata.gid,
        user: &metadata.user,
        group: &metadata.group,
        link_target: target.map(|target| format::lossy(target)),
        link_target_b64: target.and_then(|target| base64_unless_text(target)),
    }
}

fn kind_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "dir",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::BlockDevice(_) => "block-device",
        EntryKind::CharacterDevice(_) => "character-device",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

/// `drwxr-xr-x`, as `ls -l` writes it.
fn mode_text(kind: &EntryKind, mode: FileMode) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::BlockDevice(_) => 'b',
        EntryKind::CharacterDevice(_) => 'c',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
    });
    let bits = mode.unix_permissions();
    for (shift, special, letters) in
        [(6, 0o4000, ['s', 'S']), (3, 0o2000, ['s', 'S']), (0, 0o1000, ['t', 'T'])]
    {
        let bit = |bit: u32, letter: char| {
            if bits >> shift & bit != 0 { letter } else { '-' }
        };
        text.push(bit(4, 'r'));
        text.push(bit(2, 'w'));
        text.push(match (bits & special != 0, bits >> shift & 1 != 0) {
            (true, true) => letters[0],
            (true, false) => letters[1],
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_in_ls() {
        for (unix, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_745, "-rwxr-Sr-x"),
            (0o101_776, "-rwxrwxrwT"),
            (0o100_000, "----------"),
        ] {
            assert_eq!(mode_text(&EntryKind::File, FileMode::from_unix(unix)), text);
        }
    }
}
