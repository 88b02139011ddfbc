//! A source of one's own: two notes from memory. `cargo run --example custom_source`.

use std::sync::Arc;

use async_trait::async_trait;
use backupkit::destination::MemoryDestination;
use backupkit::model::{Entry, EntryPath, FileMode, FileTime, Metadata, Origin};
use backupkit::repo::{InitOptions, Repository};
use backupkit::source::{
    Body, ListError, Listed, ListedItem, OpenContext, Segment, Source, SourceCapabilities,
    SourceView,
};
use backupkit::{BackupRequest, Engine, Env, ListToken, Probe, Result, ViewToken};
use futures::stream::{self, BoxStream, StreamExt as _};

const NOTES: [(&str, &str); 2] = [("monday", "buy milk"), ("tuesday", "drink milk")];

#[derive(Debug)]
struct Notes;

#[async_trait]
impl Source for Notes {
    fn capabilities(&self) -> SourceCapabilities {
        SourceCapabilities::new(4)
    }

    fn origin(&self) -> Origin {
        Origin { scheme: "notes".into(), host: "me".into(), paths: vec!["notes://all".into()] }
    }

    async fn check(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    async fn open(&self, _cx: OpenContext) -> Result<Arc<dyn SourceView>> {
        Ok(Arc::new(Self))
    }
}

#[async_trait]
impl SourceView for Notes {
    fn token(&self) -> ViewToken {
        ViewToken::new(*b"notes do not change")
    }

    fn list(&self, after: Option<&ListToken>) -> BoxStream<'static, Result<Listed, ListError>> {
        let seen = after.and_then(|token| token.as_bytes().first().copied()).map_or(0, |at| at + 1);
        let notes = (0_u8..).zip(NOTES).skip(seen.into()).map(|(number, (name, text))| {
            let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
            let entry = Entry::file(EntryPath::from_names([name]), metadata, text.len() as u64);
            Ok(Listed { item: ListedItem::Entry(Box::new(entry)), token: ListToken::new([number]) })
        });
        stream::iter(notes).boxed()
    }

    async fn body(&self, entry: &Entry, _segment: Option<&Segment>) -> Result<Body> {
        let note = NOTES.iter().find(|(name, _)| entry.path.name() == Some(name.as_bytes()));
        Ok(Body::in_memory(note.map_or("", |(_, text)| text)))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (env, place) = (Env::system(), Arc::new(MemoryDestination::new()));
    let repository =
        Repository::init(place, &"secret".into(), InitOptions::default(), &env).await?;
    let request = BackupRequest::new(Arc::new(Notes), [repository]);
    let report = Engine::builder().env(env).build()?.backup(request).wait().await?;
    assert_eq!(report.summary.files_new, 2);
    Ok(())
}
