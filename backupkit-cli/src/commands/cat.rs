//! `cat`.

use backupkit_core::model::EntryKind;
use backupkit_core::{Error, ErrorKind, Result};

use crate::app::App;
use crate::cli::{CatArguments, SnapshotPath};
use crate::exit::{Exit, usage};

/// As much as is read ahead of the one who takes it.
const PIECE_BYTES: u64 = 8 << 20;

pub(super) async fn run(app: &App<'_>, arguments: CatArguments) -> Result<Exit> {
    let wanted = SnapshotPath::parse(&arguments.file)?;
    if wanted.path.is_empty() {
        return Err(usage("cat needs a file").with_hint("write SNAP:PATH"));
    }
    let (snapshot, entry) = super::ls::open(app, &arguments.repository, &wanted).await?;
    match &entry.kind {
        EntryKind::File => {}
        EntryKind::Directory => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} is a directory", wanted.path),
            )
            .with_code("not-a-file")
            .with_hint("list it with `ls`, or restore it"));
        }
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{} is not a file with bytes", wanted.path),
            )
            .with_code("not-a-file"));
        }
    }
    let mut at = 0;
    while at < entry.size_bytes && !app.output.is_closed() {
        let end = at.saturating_add(PIECE_BYTES).min(entry.size_bytes);
        let bytes = snapshot.read(&entry, at..end).await?;
        app.output.bytes(&bytes);
        at = end;
    }
    Ok(Exit::Success)
}
