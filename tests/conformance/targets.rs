//! Targets and fakes. An adapter gets one macro call.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use backupkit::Env;
use backupkit::adapters::fs::FsTarget;
use backupkit::model::{EntryKind, EntryPath, FileTime};
use backupkit::store::InMemoryAdapterStore;
use backupkit::target::{
    BodyPiece, BodyReader, Phase, RestoreContext, RestoreOptions, RestoreTarget as _,
    TargetCapabilities, Verdict, VerifyLevel, WriteProgress,
};
use backupkit::testing::conformance::{Found, TargetFixture, TargetProbe};
use backupkit::testing::fakes::{FakeMongoDb, FakeMongoDbTarget};
use backupkit::testing::{MemoryNode, MemorySnapshot, MemoryTarget};
use backupkit::{CancelToken, Error, target_conformance};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

#[derive(Debug)]
struct MemoryProbe(MemoryTarget);

#[async_trait]
impl TargetProbe for MemoryProbe {
    async fn read(&self, path: &EntryPath) -> Option<Found> {
        let node = self.0.nodes().remove(path)?;
        Some(match node.kind {
            EntryKind::File => Found::File(node.bytes),
            EntryKind::Directory => Found::Directory,
            EntryKind::Symlink { target } => Found::Symlink(target),
            _ => Found::Other,
        })
    }

    async fn put(&self, path: &EntryPath, bytes: Bytes, mtime: FileTime) {
        self.0.put(path, MemoryNode::file(bytes, mtime));
    }

    async fn files(&self) -> Vec<EntryPath> {
        let nodes = self.0.nodes().into_iter();
        let files = nodes.filter(|(_, node)| node.kind == EntryKind::File);
        files.map(|(path, _)| path).collect()
    }
}

target_conformance!(memory_target, async || {
    let target = MemoryTarget::new();
    TargetFixture::new(target.clone(), MemoryProbe(target))
});

target_conformance!(memory_target_in_order, async || {
    let target = MemoryTarget::new().with_capabilities(TargetCapabilities::new(1));
    TargetFixture::new(target.clone(), MemoryProbe(target))
});

#[test]
fn a_dump_is_restored_in_phases_and_published_at_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let server = FakeMongoDb::new(2);
        for id in 0..5 {
            server.insert("shop", "orders", id, b"document");
        }
        let mut dump = server.dump();
        dump.extend(server.late_dump(3));
        let mut snapshot = MemorySnapshot::new();
        for (path, bytes) in &dump {
            snapshot = snapshot.with_file(path, bytes.clone());
        }
        let target = FakeMongoDbTarget::new();
        let snapshot = snapshot.into_reader();
        let cx = RestoreContext {
            snapshot: Arc::clone(&snapshot),
            options: RestoreOptions::default(),
            store: Arc::new(InMemoryAdapterStore::default()),
            cancel: CancelToken::new(),
        };
        let session = target.open(cx).await.unwrap();
        let steps: Vec<_> = session.plan().try_collect().await.unwrap();
        let phases: Vec<_> = steps.iter().map(|step| step.phase).collect();
        assert_eq!(phases, [Phase(1), Phase(2), Phase(3)]);
        for step in &steps {
            let bytes = snapshot.read(&step.entry, 0..step.bytes).await.unwrap();
            let piece = stream::iter([Ok(BodyPiece { offset: 0, bytes })]);
            let body = BodyReader::new(piece.boxed());
            session.write(step, body, None).await.unwrap();
            session.end_phase(step.phase).await.unwrap();
            let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
            assert_eq!(verdict, Verdict::Same(VerifyLevel::Bytes));
            assert!(target.published().is_empty());
        }
        session.finish().await.unwrap();
        dump.retain(|path, _| path.name() != Some(b"manifest.json"));
        assert_eq!(target.published(), dump);
        assert_eq!(target.ended_phases(), phases);
    });
}

#[test]
fn a_part_of_a_collection_is_gone_on_with_in_another_session() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let place = EntryPath::from_slashed(b"dump/shop/orders.bson");
        let documents = Bytes::from(vec![7; 100]);
        let snapshot = MemorySnapshot::new().with_file(&place, documents.clone());
        let cx = RestoreContext {
            snapshot: snapshot.into_reader(),
            options: RestoreOptions::default(),
            store: Arc::new(InMemoryAdapterStore::default()),
            cancel: CancelToken::new(),
        };
        let target = FakeMongoDbTarget::new();
        let piece = |from: usize, to: usize| {
            Ok(BodyPiece { offset: from as u64, bytes: documents.slice(from..to) })
        };
        let session = target.open(cx.clone()).await.unwrap();
        let steps: Vec<_> = session.plan().try_collect().await.unwrap();
        let progress = WriteProgress::new();
        let broken_off = stream::iter([piece(0, 40), piece(40, 60), Err(Error::cancelled())]);
        let body = BodyReader::new(broken_off.boxed()).with_progress(&progress);
        session.write(&steps[0], body, None).await.unwrap_err();
        drop(session);
        let (bytes, token) = progress.last().unwrap();
        assert_eq!(bytes, 60);
        let session = target.open(cx).await.unwrap();
        assert!(session.can_resume(&steps[0], &token).await.unwrap());
        let body = BodyReader::new(stream::iter([piece(60, 100)]).boxed());
        let written = session.write(&steps[0], body, Some(token)).await.unwrap();
        assert_eq!(written.bytes, 100);
        session.finish().await.unwrap();
        assert_eq!(target.published()[&place], documents);
    });
}

/// Looks at a folder, and at what is beside it.
#[derive(Debug)]
struct FolderProbe {
    root: PathBuf,
    beside: PathBuf,
}

impl FolderProbe {
    fn path(&self, path: &EntryPath) -> PathBuf {
        let names = path.names().map(|name| PathBuf::from(OsStr::from_bytes(name)));
        std::iter::once(self.root.clone()).chain(names).collect()
    }
}

#[async_trait]
impl TargetProbe for FolderProbe {
    async fn read(&self, path: &EntryPath) -> Option<Found> {
        let path = self.path(path);
        let kind = std::fs::symlink_metadata(&path).ok()?.file_type();
        Some(if kind.is_file() {
            Found::File(std::fs::read(path).unwrap().into())
        } else if kind.is_dir() {
            Found::Directory
        } else if kind.is_symlink() {
            Found::Symlink(std::fs::read_link(path).unwrap().into_os_string().into_vec())
        } else {
            Found::Other
        })
    }

    async fn put(&self, path: &EntryPath, bytes: Bytes, mtime: FileTime) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let time = SystemTime::from(mtime.timestamp());
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    async fn files(&self) -> Vec<EntryPath> {
        let mut files = Vec::new();
        let mut folders = vec![(self.root.clone(), EntryPath::root())];
        while let Some((folder, path)) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.map(Result::unwrap) {
                let path = path.join(entry.file_name().as_bytes());
                if entry.file_type().unwrap().is_dir() {
                    folders.push((entry.path(), path));
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    async fn outside(&self) -> String {
        let names = std::fs::read_dir(&self.beside).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| Some(name.as_os_str()) != self.root.file_name());
        names.sort();
        format!("{names:?}")
    }
}

target_conformance!(fs_target, async || {
    let folder = tempfile::tempdir().unwrap();
    let (beside, root) = (folder.path().to_owned(), folder.path().join("target"));
    std::fs::write(beside.join("witness"), "unchanged").unwrap();
    let target = FsTarget::new(&root, Env::system());
    TargetFixture::new(target, FolderProbe { root, beside }).keeping(folder)
});
