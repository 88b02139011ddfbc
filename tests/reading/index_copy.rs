//! The local copy of the index makes opening cheaper and nothing else.

use std::path::Path;

use backupkit::model::EntryPath;
use backupkit::repo::{ReaderOptions, RepositoryReader};
use backupkit::testing::{Fault, MemorySource, Operation};
use backupkit::{ErrorKind, Result};
use futures::TryStreamExt as _;

use crate::scene::{Scene, path, random};

async fn open(scene: &Scene, folder: &Path) -> Result<RepositoryReader> {
    let options = ReaderOptions { cache_folder: Some(folder.to_owned()) };
    scene.repository.reader(options).await
}

/// Opens, reads all of the newest snapshot, and returns how many index files were read.
async fn open_and_read(scene: &Scene, folder: &Path) -> usize {
    let gets = |scene: &Scene| {
        let calls = scene.faults.log();
        let of_index = calls.iter().filter(|call| {
            call.operation == Operation::Get
                && call.key.as_ref().is_some_and(|key| key.as_str().starts_with("index/"))
        });
        of_index.count()
    };
    let before = gets(scene);
    let reader = open(scene, folder).await.unwrap();
    let read = gets(scene) - before;
    let (id, _) = scene.repository.find_snapshot("latest").await.unwrap();
    let snapshot = reader.snapshot(id).await.unwrap();
    let entries: Vec<_> = snapshot.walk(&EntryPath::root()).try_collect().await.unwrap();
    for entry in entries.iter().filter(|entry| entry.size_bytes > 0) {
        snapshot.read(entry, 0..entry.size_bytes).await.unwrap();
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn index_files_are_read_once_and_then_only_new_ones() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    scene.faults.record();
    let source = MemorySource::new();
    for round in 0_u64..3 {
        source.set(&path(&format!("{round}")), random(round, 50_000));
        scene.back_up(&source).await;
    }
    assert_eq!(open_and_read(&scene, folder.path()).await, 3);
    assert_eq!(open_and_read(&scene, folder.path()).await, 0);
    source.set(&path("new"), "new");
    scene.back_up(&source).await;
    assert_eq!(open_and_read(&scene, folder.path()).await, 1);
    let copies = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(copies, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_does_not_fit_is_left_alone() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    scene.faults.record();
    let source = MemorySource::new().with_file(&path("a"), random(1, 50_000));
    scene.back_up(&source).await;
    assert_eq!(open_and_read(&scene, folder.path()).await, 1);
    let copy = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&copy).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() - 1], b""] {
        std::fs::write(&copy, damaged).unwrap();
        assert_eq!(open_and_read(&scene, folder.path()).await, 1);
        assert_eq!(std::fs::read(&copy).unwrap(), whole, "it was written anew");
    }
    // What a prune does: the blobs are now named by another index file.
    let (key, _) = scene.objects("index/").pop_first().unwrap();
    scene.remove(&key);
    let reader = open(&scene, folder.path()).await.unwrap();
    let (_, snapshot) = scene.repository.find_snapshot("latest").await.unwrap();
    let error = reader.tree(&snapshot.tree).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().ends_with("is damaged: it is in no index"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_no_error() {
    let scene = Scene::new().await;
    scene.back_up(&MemorySource::new().with_file(&path("a"), "1")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    open_and_read(&scene, file.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_file_is_named() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    scene.back_up(&MemorySource::new().with_file(&path("a"), "1")).await;
    let (key, _) = scene.objects("index/").pop_first().unwrap();
    scene.flip(&key, 50);
    let error = open(&scene, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&format!("index {}", key.name())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_file_that_a_prune_replaces_meanwhile_is_no_error() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    scene.back_up(&MemorySource::new().with_file(&path("a"), "1")).await;
    let gone = Fault::fail(ErrorKind::NotFound).on(Operation::Get).with_prefix("index/");
    scene.faults.add(gone);
    open_and_read(&scene, folder.path()).await;
}
