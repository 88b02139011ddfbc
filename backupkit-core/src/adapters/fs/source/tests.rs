mod listing;
mod reading;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;

use super::super::test_support::{env, is_root, make_tree, open_context, set_attribute};
use super::*;
use crate::model::{EntryKind, FileMode, Fingerprint, Metadata};
use crate::source::{BodyContent, BodyEnd, ListedItem, RangedBody};

fn source(folder: &Path, roots: &[&str]) -> FsSource {
    let roots = roots.iter().map(PathBuf::from).collect();
    FsSource::new(roots, env(), "host").unwrap().with_working_directory(folder)
}

async fn view(source: &FsSource) -> Arc<dyn SourceView> {
    source.open(open_context()).await.unwrap()
}

type Items = Vec<Result<Listed, ListError>>;

async fn list(view: &Arc<dyn SourceView>, after: Option<&ListToken>) -> Items {
    view.list(after).collect().await
}

/// One line per item: directories end with a slash, errors begin with an exclamation mark.
fn lines(items: &Items) -> Vec<String> {
    let line = |item: &Result<Listed, ListError>| match item {
        Ok(listed) => match &listed.item {
            ListedItem::Entry(entry) => entry.path.to_string(),
            ListedItem::DirDone { path, .. } => format!("{path}/"),
        },
        Err(error) => {
            let path = error.path.as_ref().map(ToString::to_string);
            format!("!{} {}", path.unwrap_or_default(), error.error.kind())
        }
    };
    items.iter().map(line).collect()
}

fn entry_of(items: &Items, path: &str) -> Entry {
    let found = items.iter().find_map(|item| match &item.as_ref().ok()?.item {
        ListedItem::Entry(entry) if entry.path.to_string() == path => Some(entry.clone()),
        _ => None,
    });
    *found.unwrap_or_else(|| panic!("{path} is not listed"))
}

fn directory_of(items: &Items, path: &str) -> Metadata {
    let found = items.iter().find_map(|item| match &item.as_ref().ok()?.item {
        ListedItem::DirDone { path: at, metadata } if at.to_string() == path => {
            Some(metadata.clone())
        }
        _ => None,
    });
    *found.unwrap_or_else(|| panic!("{path} is not listed"))
}

async fn body(view: &Arc<dyn SourceView>, entry: &Entry) -> (Entry, Arc<dyn RangedBody>) {
    let body = view.body(entry, None).await.unwrap();
    let BodyContent::Ranged(ranged) = body.content else {
        panic!("files can be read anywhere");
    };
    (*body.refreshed.unwrap(), ranged)
}
