//! A drive: files known by id, several of one name, a change token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Entry, EntryPath, FileMode, FileTime, Fingerprint, Metadata, Origin};
use crate::probe::Probe;
use crate::source::{
    Body, ListError, Listed, OpenContext, Outcome, Segment, Source, SourceCapabilities,
    SourceNotes, SourceView,
};
use crate::store::AdapterStore;
use crate::testing::listing::Listing;
use crate::testing::{healthy, lock};
use crate::token::{CancelToken, ListToken, ViewToken};

const ATTRIBUTE: &str = "backupkit.gdrive";
/// Where the adapter store keeps the token of the last complete view.
const CHANGE_TOKEN: &str = "change-token";
const FOLDER_PREFIX: &str = "folder/";

/// A source that behaves as a drive does. Clones are the same drive.
///
/// Files and folders are known by ids; several may have one name in one folder. Those are listed as
/// `name~id`, and the attribute `backupkit.gdrive` keeps the name. The adapter store keeps the paths
/// of folders by id, and the change token of the last complete view.
#[derive(Debug, Clone, Default)]
pub struct FakeDrive(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By id.
    items: BTreeMap<String, Item>,
    changes: u64,
    oldest_token: u64,
}

#[derive(Debug, Clone)]
struct Item {
    name: String,
    parent: Option<String>,
    /// `None` for a folder.
    bytes: Option<Bytes>,
}

impl FakeDrive {
    /// Returns an empty drive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder; without `parent` it stands at the top.
    pub fn put_folder(&self, id: &str, name: &str, parent: Option<&str>) {
        self.put(id, name, parent, None);
    }

    /// Adds a file or replaces the one with this id.
    pub fn put_file(&self, id: &str, name: &str, parent: Option<&str>, bytes: impl Into<Bytes>) {
        self.put(id, name, parent, Some(bytes.into()));
    }

    /// Removes what has this id.
    pub fn remove(&self, id: &str) {
        let mut state = lock(&self.0);
        state.items.remove(id);
        state.changes += 1;
    }

    /// Makes views opened so far impossible to resume, as after a long time.
    pub fn expire_tokens(&self) {
        let mut state = lock(&self.0);
        state.changes += 1;
        state.oldest_token = state.changes;
    }

    /// Where what has this id is listed.
    pub fn path(&self, id: &str) -> Option<EntryPath> {
        lock(&self.0).path(id)
    }

    fn put(&self, id: &str, name: &str, parent: Option<&str>, bytes: Option<Bytes>) {
        let item = Item { name: name.to_owned(), parent: parent.map(str::to_owned), bytes };
        let mut state = lock(&self.0);
        state.items.insert(id.to_owned(), item);
        state.changes += 1;
    }
}

impl State {
    fn path(&self, id: &str) -> Option<EntryPath> {
        let mut names = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let item = self.items.get(id)?;
            names.push(self.unique_name(id, item));
            next = item.parent.as_deref();
            // Folders in a circle have no path.
            if names.len() > self.items.len() {
                return None;
            }
        }
        Some(EntryPath::from_names(names.into_iter().rev()))
    }

    /// The name, with the id behind it where others have the same or where it looks as if.
    fn unique_name(&self, id: &str, item: &Item) -> String {
        let same = |other: &&Item| other.name == item.name && other.parent == item.parent;
        let twins = self.items.values().filter(same).take(2).count();
        if twins > 1 || item.name.contains('~') {
            format!("{}~{id}", item.name)
        } else {
            item.name.clone()
        }
    }

    fn entry(&self, id: &str, item: &Item, bytes: &Bytes) -> Option<Entry> {
        let checksum = checksum(bytes);
        let modified = FileTime::from_unix(1_700_000_000, 0);
        let mut metadata = Metadata::new(FileMode::FILE, modified);
        let attribute = json!({ "fingerprint": checksum, "id": id, "name": item.name });
        let attribute = to_raw_value(&attribute).ok()?;
        metadata.attributes.insert(ATTRIBUTE.to_owned(), attribute);
        Some(Entry {
            handle: Some(id.to_owned()),
            fingerprint: Fingerprint::Attribute {
                attribute: ATTRIBUTE.to_owned(),
                value: checksum,
                others: Vec::new(),
            },
            ..Entry::file(self.path(id)?, metadata, bytes.len() as u64)
        })
    }
}

fn checksum(bytes: &[u8]) -> String {
    crate::model::BlobId::of(bytes).to_string()
}

#[async_trait]
impl Source for FakeDrive {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(4)
    }

    fn origin(&self) -> Origin {
        Origin {
            scheme: String::from("gdrive"),
            host: String::from("drive.example"),
            paths: vec![String::from("gdrive://my-drive")],
        }
    }

    async fn check(&self) -> Result<Probe> {
        Ok(healthy("read the account"))
    }

    async fn open(&self, cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        let (now, oldest) = {
            let state = lock(&self.0);
            (state.changes, state.oldest_token)
        };
        let token = match &cx.resume {
            None => now,
            Some(token) => <[u8; 8]>::try_from(token.as_bytes())
                .map(u64::from_le_bytes)
                .ok()
                .filter(|token| (oldest..=now).contains(token))
                .ok_or_else(|| {
                    Error::new(ErrorKind::SourceChanged, "the change token is too old")
                })?,
        };
        Ok(Arc::new(View { drive: self.clone(), token, store: cx.store, cancel: cx.cancel }))
    }
}

#[derive(Debug)]
struct View {
    drive: FakeDrive,
    token: u64,
    store: Arc<dyn AdapterStore>,
    cancel: CancelToken,
}

impl View {
    fn listing(&self) -> (Listing, Vec<(String, EntryPath)>) {
        let state = lock(&self.drive.0);
        let mut entries = Vec::new();
        let mut folders = Vec::new();
        for (id, item) in &state.items {
            match &item.bytes {
                Some(bytes) => entries.extend(state.entry(id, item, bytes)),
                None => folders.extend(state.path(id).map(|path| (id.clone(), path))),
            }
        }
        let paths: BTreeSet<_> = folders.iter().map(|(_, path)| path.clone()).collect();
        let listing = Listing::new(&EntryPath::root(), entries, paths);
        (listing, folders)
    }
}

#[async_trait]
impl SourceView for View {
    fn token(&self) -> ViewToken {
        ViewToken::new(self.token.to_le_bytes())
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let (listing, folders) = self.listing();
        let items = stream::iter(listing.behind(after)).map(Ok::<_, ListError>);
        let (store, cancel) = (Arc::clone(&self.store), self.cancel.clone());
        let remember = stream::once(async move {
            for (id, path) in folders {
                let key = format!("{FOLDER_PREFIX}{id}");
                store.put(&key, path.to_token().into(), false).await?;
            }
            Ok::<_, ListError>(items)
        });
        let items = remember.flat_map(|items| match items {
            Ok(items) => items.boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        items
            .scan(false, move |over, item| {
                let give = !*over;
                let item = item.and_then(|item| Ok(cancel.check().map(|()| item)?));
                *over = item.is_err();
                std::future::ready(give.then_some(item))
            })
            .boxed()
    }

    async fn body(&self, entry: &Entry, _segment: Option<&Segment>) -> Result<Body> {
        self.cancel.check()?;
        let id = entry.handle.as_deref().unwrap_or_default();
        let found = lock(&self.drive.0).items.get(id).cloned();
        let Some(bytes) = found.and_then(|item| item.bytes) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{} is no longer in the drive", entry.path),
            ));
        };
        let listed = match &entry.fingerprint {
            Fingerprint::Attribute { value, .. } => value.as_str(),
            _ => "",
        };
        if checksum(&bytes) != listed {
            return Err(Error::new(
                ErrorKind::SourceChanged,
                format!("{} has changed since it was listed", entry.path),
            ));
        }
        Ok(Body::in_memory(bytes))
    }

    async fn close(&self, outcome: Outcome) -> Result<SourceNotes> {
        if outcome == Outcome::Completed {
            let token = Bytes::copy_from_slice(&self.token.to_le_bytes());
            self.store.put(CHANGE_TOKEN, token, true).await?;
        }
        Ok(SourceNotes::default())
    }
}
