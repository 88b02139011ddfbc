//! What adapters see of a snapshot.

use backupkit::model::{EntryKind, EntryPath};
use backupkit::repo::ReaderOptions;
use backupkit::snapshot::{SnapshotEntry, SnapshotReader};
use backupkit::testing::{Fault, MemorySource, Operation};
use backupkit::{ErrorKind, Result};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use crate::scene::{Scene, path, random};

async fn shown(entries: BoxStream<'static, Result<SnapshotEntry>>) -> Vec<String> {
    let entries: Vec<_> = entries.try_collect().await.unwrap();
    entries.iter().map(|entry| entry.path.to_string()).collect()
}

async fn entry(snapshot: &dyn SnapshotReader, name: &str) -> SnapshotEntry {
    snapshot.find(&path(name)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_gives_everything_depth_first_in_the_order_of_names() {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("b/x"), "1")
        .with_file(&path("a-b"), "2")
        .with_file(&path("a/z/deep"), "3")
        .with_file(&path("a/b"), "4")
        .with_link(&path("c"), "a")
        .with_directory(&path("empty"));
    let snapshot = scene.open(scene.back_up(&source).await).await;
    let all = ["/a", "/a/b", "/a/z", "/a/z/deep", "/a-b", "/b", "/b/x", "/c", "/empty"];
    assert_eq!(shown(snapshot.walk(&EntryPath::root())).await, all);
    assert_eq!(shown(snapshot.walk(&path("a"))).await, all[1..4]);
    assert_eq!(
        shown(snapshot.children(&EntryPath::root())).await,
        ["/a", "/a-b", "/b", "/c", "/empty"]
    );
    assert_eq!(shown(snapshot.children(&path("a/z"))).await, ["/a/z/deep"]);
    assert_eq!(shown(snapshot.walk(&path("empty"))).await, [""; 0]);
    assert_eq!(shown(snapshot.walk(&path("a-b"))).await, [""; 0]);
    let missing = snapshot.walk(&path("a/none")).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_comes_whole() {
    let scene = Scene::new().await;
    let source = MemorySource::new();
    let mut names: Vec<String> = (0..1500).map(|number| format!("/d/{number}")).collect();
    for name in &names {
        source.set(&path(name), name.clone());
        source.set(&path(&format!("/dirs{name}/file")), "");
    }
    let snapshot = scene.open(scene.back_up(&source).await).await;
    names.sort();
    assert_eq!(shown(snapshot.children(&path("d"))).await, names);
    assert_eq!(shown(snapshot.walk(&path("dirs"))).await.len(), 1 + 2 * 1500);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_looked_up_one_by_one() {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("a/b/file"), "12345")
        .with_link(&path("a/link"), "b/file");
    let snapshot = scene.open(scene.back_up(&source).await).await;
    let file = entry(&*snapshot, "a/b/file").await;
    assert_eq!((file.kind, file.size_bytes), (EntryKind::File, 5));
    assert_eq!(entry(&*snapshot, "a/b").await.kind, EntryKind::Directory);
    assert_eq!(entry(&*snapshot, "").await.kind, EntryKind::Directory);
    let target = b"b/file".to_vec();
    assert_eq!(entry(&*snapshot, "a/link").await.kind, EntryKind::Symlink { target });
    for missing in ["b", "a/b/file/x", "a/link/file", "a/b/fil"] {
        assert!(snapshot.find(&path(missing)).await.unwrap().is_none(), "{missing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_stretch_of_a_file_is_read_across_its_blobs() {
    const BYTES: usize = 20 << 20;
    let scene = Scene::new().await;
    let content = random(1, BYTES);
    let source = MemorySource::new()
        .with_file(&path("large"), content.clone())
        .with_file(&path("empty"), "");
    let snapshot = scene.open(scene.back_up(&source).await).await;
    let file = entry(&*snapshot, "large").await;
    let stretches = snapshot.stretches(&file).unwrap().unwrap();
    assert!(stretches.len() > 2);
    assert_eq!(stretches.iter().map(|one| one.bytes).sum::<u64>(), BYTES as u64);
    let cut = usize::try_from(stretches[0].bytes).unwrap();
    for range in [0..BYTES, 0..1, cut - 1..cut + 1, cut..cut + 7, 5..BYTES - 5, BYTES..BYTES] {
        let read = snapshot.read(&file, range.start as u64..range.end as u64).await.unwrap();
        assert!(read == content[range.clone()], "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "what callers may get wrong")]
    for range in [0..BYTES as u64 + 1, 2..1, u64::MAX..u64::MAX] {
        let error = snapshot.read(&file, range).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let empty = entry(&*snapshot, "empty").await;
    assert!(snapshot.read(&empty, 0..0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_file_in_order_fetches_each_blob_once() {
    let scene = Scene::new().await;
    let content = random(2, 12 << 20);
    let source = MemorySource::new().with_file(&path("large"), content.clone());
    let snapshot = scene.open(scene.back_up(&source).await).await;
    let file = entry(&*snapshot, "large").await;
    let blobs = snapshot.stretches(&file).unwrap().unwrap().len() as u64;
    let before = scene.faults.calls_of(Operation::Get);
    let mut at = 0;
    for piece in content.chunks(100_000) {
        let end = at + piece.len() as u64;
        assert!(snapshot.read(&file, at..end).await.unwrap() == piece);
        at = end;
    }
    assert!(scene.faults.calls_of(Operation::Get) - before <= blobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_damaged_on_their_way_are_asked_for_again() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("a"), random(3, 100_000));
    let id = scene.back_up(&source).await;
    let snapshot = scene.open(id).await;
    let flip = || Fault::flip_bit().on(Operation::Get).with_prefix("data/");
    scene.faults.add(flip());
    let file = entry(&*snapshot, "a").await;
    scene.faults.add(flip());
    assert!(snapshot.read(&file, 0..100_000).await.unwrap() == random(3, 100_000));
    scene.faults.add(flip().forever());
    let snapshot = scene.open(id).await;
    let error = snapshot.find(&path("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().starts_with("read directory /: tree "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_named_and_others_are_read() {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("d/a"), random(4, 3 << 20))
        .with_file(&path("d/b"), random(5, 3 << 20));
    let snapshot = scene.open(scene.back_up(&source).await).await;
    let pack = scene.longest_pack();
    scene.flip(&pack, 40);
    let mut damaged = 0;
    for name in ["d/a", "d/b"] {
        let file = entry(&*snapshot, name).await;
        if let Err(error) = snapshot.read(&file, 0..file.size_bytes).await {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let text = error.to_string();
            assert!(text.starts_with(&format!("read /{name}: data blob ")), "{text}");
            assert!(text.contains(&format!("in pack {}", pack.name())), "{text}");
            damaged += 1;
        }
    }
    assert_eq!(damaged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_behind_a_damaged_directory_but_not_behind_a_lost_connection() {
    let scene = Scene::new().await;
    let source = MemorySource::new().with_file(&path("z"), random(6, 1 << 20));
    for directory in ["a", "b", "c"] {
        source.set(&path(&format!("{directory}/file")), directory);
    }
    let id = scene.back_up(&source).await;
    // The first tree that was stored is that of a directory without directories.
    scene.flip(&scene.shortest_pack(), 20);
    let snapshot = scene.open(id).await;
    let entries: Vec<_> = snapshot.walk(&EntryPath::root()).collect().await;
    let errors: Vec<_> = entries.iter().filter_map(|entry| entry.as_ref().err()).collect();
    assert_eq!((entries.len(), errors.len()), (7, 1), "{entries:?}");
    assert_eq!(errors[0].kind(), ErrorKind::Corrupt);

    let snapshot = scene.open(id).await;
    let mut walk = snapshot.walk(&EntryPath::root());
    assert!(walk.next().await.unwrap().is_ok());
    scene.faults.add(Fault::fail(ErrorKind::Unavailable).forever());
    let rest: Vec<_> = walk.collect().await;
    assert!(rest.last().unwrap().is_err());
    assert_eq!(rest.iter().filter(|entry| entry.is_err()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_opens_snapshots_by_id() {
    let scene = Scene::new().await;
    let id = scene.back_up(&MemorySource::new().with_file(&path("a"), "1")).await;
    let reader = scene.repository.reader(ReaderOptions::default()).await.unwrap();
    let stored = scene.repository.snapshot(id).await.unwrap();
    let snapshot = reader.snapshot(id).await.unwrap();
    assert_eq!(snapshot.paths(), stored.paths);
    assert_eq!(snapshot.time(), stored.time);
    assert_eq!(reader.tree(&stored.tree).await.unwrap()[0].name, b"a");
    let unknown = backupkit::model::SnapshotId::of(b"unknown");
    assert_eq!(reader.snapshot(unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
}
