//! `backup`.

mod report;
mod repositories;

use std::path::PathBuf;
use std::sync::Arc;

use backupkit_core::adapters::fs::FsSource;
use backupkit_core::source::Source;
use backupkit_core::{BackupRequest, Error, Result};

use self::repositories::Opened;
use crate::app::{App, with_resources};
use crate::cli::BackupArguments;
use crate::exit::Exit;
#[cfg(feature = "s3")]
use crate::exit::usage;
use crate::uri;
use crate::watch::{Run, watch};

pub(super) async fn run(app: &App<'_>, arguments: BackupArguments) -> Result<Exit> {
    #[cfg(feature = "s3")]
    let bucket = bucket(&arguments)?;
    #[cfg(not(feature = "s3"))]
    let bucket: Option<std::convert::Infallible> = None;
    let folders = if bucket.is_some() { Vec::new() } else { sources(&arguments)? };
    let places = repositories::places(app, &arguments.to)?;
    let host = host(app, &arguments);
    let source: Arc<dyn Source> = match bucket {
        #[cfg(feature = "s3")]
        Some(bucket) => app.bucket_source(&bucket, &host, &arguments.to)?,
        #[cfg(not(feature = "s3"))]
        Some(never) => match never {},
        None => {
            let excluded = places.iter().filter_map(|place| place.folder.clone()).collect();
            let source = FsSource::new(folders, app.env.clone(), host)?;
            Arc::new(source.with_excluded_paths(excluded))
        }
    };
    let opened = repositories::open(app, &arguments, &places).await?;
    for failed in opened.iter().filter_map(|opened| opened.result.as_ref().err()) {
        app.output.failure(failed);
    }
    let usable: Vec<_> =
        opened.iter().filter_map(|opened| opened.result.as_ref().ok().cloned()).collect();
    let mut request = BackupRequest::new(source, usable).with_tags(arguments.tags.iter().cloned());
    if arguments.from_start {
        request = request.without_resume();
    }
    let engine = app.engine(|builder| {
        let builder = with_resources(builder, &arguments.resources);
        let builder = match arguments.memory {
            Some(bytes) => builder.memory_bytes(bytes),
            None => builder,
        };
        match arguments.compression_level {
            Some(level) => builder.compression_level(level),
            None => builder,
        }
    })?;
    let report = watch(app, Run::Backup, || engine.backup(request)).await?;
    Ok(report::print(app, &opened, &report))
}

/// The bucket to back up, if one was named.
///
/// # Errors
/// If something else was named beside it: what is in one snapshot has one origin.
#[cfg(feature = "s3")]
fn bucket(arguments: &BackupArguments) -> Result<Option<uri::BucketAddress>> {
    let is_bucket = |source: &&std::ffi::OsString| uri::is_bucket(source);
    let Some(bucket) = arguments.sources.iter().find(is_bucket) else { return Ok(None) };
    if arguments.sources.len() > 1 {
        return Err(usage("a bucket is backed up alone")
            .with_hint("run a backup for each, or make a plan of several connections"));
    }
    match uri::place(bucket)? {
        uri::Place::Bucket(bucket) => Ok(Some(bucket)),
        uri::Place::Folder(_) => Ok(None),
    }
}

/// The folders and files to back up, as they were written: relative ones stay relative in snapshots.
///
/// # Errors
/// If none of them exists. A missing one among others is told by the backup.
fn sources(arguments: &BackupArguments) -> Result<Vec<PathBuf>> {
    let addresses = arguments.sources.iter();
    let folders: Vec<_> = addresses.map(|source| uri::folder(source)).collect::<Result<_>>()?;
    let mut missing = None;
    for folder in &folders {
        match std::fs::symlink_metadata(folder) {
            Ok(_) => return Ok(folders),
            Err(error) => {
                missing.get_or_insert_with(|| {
                    let doing = format!("back up {}", folder.display());
                    Error::io(doing, error).with_hint("check the path; nothing was backed up")
                });
            }
        }
    }
    missing.map_or(Ok(folders), Err)
}

fn host(app: &App<'_>, arguments: &BackupArguments) -> String {
    arguments.host.clone().unwrap_or_else(|| app.identity.hostname.clone())
}
