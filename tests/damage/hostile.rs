//! Repositories that somebody with the key made to do harm: one clear error each, bounded memory, and
//! nothing outside the folder that is restored into.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use backupkit::adapters::fs::FsTarget;
use backupkit::destination::ObjectKey;
use backupkit::model::{BlobId, EntryKind, FileMode, FileTime, Metadata, PackId, SnapshotId};
use backupkit::repo::Node;
use backupkit::repo::compress::Compressor;
use backupkit::repo::index_file::IndexedPack;
use backupkit::repo::pack_header::{BlobKind, PackedBlob};
use backupkit::testing::MemorySource;
use backupkit::{BackupRequest, Error, ErrorKind, RestoreReport, RestoreRequest, Result};

use crate::forge::{Forge, SEALED_BYTES, directory, file, narrow, tree};
use crate::scene::{check, engine, path};

/// No test of such repositories may take more: the bombs ask for more than that.
const MAX_MEMORY_BYTES: u64 = 2 << 30;

/// A folder to restore into, with a neighbour that must stay as it is.
struct Folders {
    outer: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("neighbour"), "untouched").unwrap();
        Self { outer }
    }

    fn root(&self) -> std::path::PathBuf {
        self.outer.path().join("root")
    }

    /// Everything in the restored folder.
    fn restored(&self) -> BTreeSet<String> {
        let neighbour = std::fs::read(self.outer.path().join("neighbour")).unwrap();
        assert_eq!(neighbour, b"untouched");
        let mut outside = names(self.outer.path());
        outside.remove("root");
        assert_eq!(outside, BTreeSet::from(["neighbour".to_owned()]));
        if self.root().exists() { names(&self.root()) } else { BTreeSet::new() }
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

async fn findings(forge: &Forge) -> Vec<String> {
    let repository = forge.open().await.unwrap();
    let report = check(&engine(&forge.env), &repository).await.unwrap();
    assert!(forge.objects.objects().keys().all(|key| !key.as_str().starts_with("locks/")));
    report.findings.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_told(lines: &[String], expected: &str) {
    assert!(
        lines.iter().any(|line| line.contains(expected)),
        "{expected:?} is not told in {lines:#?}"
    );
    assert!(lines.iter().all(|line| !line.contains('\n')));
}

async fn restore(forge: &Forge, id: SnapshotId, folders: &Folders) -> Result<RestoreReport> {
    let target = FsTarget::new(folders.root(), forge.env.clone());
    let repository = forge.open().await.unwrap();
    let request = RestoreRequest::new(repository, id, Arc::new(target));
    engine(&forge.env).restore(request).wait().await
}

/// A backup must not take over what is hostile, nor trip over it.
async fn back_up(forge: &Forge) -> Result<()> {
    let source = MemorySource::new().with_file(&path("plain"), "plain");
    let request = BackupRequest::new(Arc::new(source), [forge.open().await.unwrap()]);
    engine(&forge.env).backup(request).wait().await.map(drop)
}

fn told(report: &RestoreReport) -> Vec<String> {
    let kinds = report.problems.iter().map(|event| event.kind.to_string());
    kinds.collect()
}

#[cfg(target_os = "linux")]
#[track_caller]
fn assert_memory_was_bounded() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    let peak_bytes = peak.parse::<u64>().unwrap() * 1024;
    assert!(peak_bytes < MAX_MEMORY_BYTES, "{peak_bytes} bytes");
}

#[cfg(not(target_os = "linux"))]
fn assert_memory_was_bounded() {}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_file_may_have_are_found_and_not_restored() {
    let long = vec![b'n'; 5000];
    let bad: [&[u8]; 9] =
        [b"..", b".", b"", b"/", b"/etc", b"a/b", b"../out", b"nul\0l", b"../../../out"];
    for name in bad.into_iter().chain([&long[..]]) {
        let forge = Forge::new().await;
        let inner = tree(&[file(b"inner", b"x")]);
        let hostile_folder = directory(name, BlobId::of(&inner));
        for hostile in [file(name, b"x"), hostile_folder] {
            let root = tree(&[hostile, file(b"fine", b"x")]);
            let id = forge.store(&[b"x".to_vec()], &[inner.clone(), root]);
            // A name that is only too long is for the target to refuse.
            if name.len() < 5000 {
                assert_told(&findings(&forge).await, "no file may have this name");
            }
            let folders = Folders::new();
            let report = restore(&forge, id, &folders).await.unwrap();
            assert!(!report.is_complete(), "{name:?}");
            assert!(report.problem_count > 0);
            assert_eq!(folders.restored(), BTreeSet::from(["fine".to_owned()]), "{name:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_comes_as_a_folder_as_well_leads_nowhere() {
    let forge = Forge::new().await;
    let folders = Folders::new();
    let target = folders.outer.path().as_os_str().as_encoded_bytes().to_vec();
    let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
    let link = Node::other(b"a".to_vec(), EntryKind::Symlink { target }, metadata);
    let inner = tree(&[file(b"neighbour", b"x"), file(b"new", b"x")]);
    let folder = directory(b"a", BlobId::of(&inner));
    for nodes in [[link.clone(), folder.clone()], [folder, link]] {
        let id = forge.store(&[b"x".to_vec()], &[inner.clone(), tree(&nodes)]);
        assert_told(&findings(&forge).await, "the name is there twice");
        // Whatever comes of it, nothing outside changes.
        if let Ok(report) = restore(&forge, id, &folders).await {
            assert!(!report.is_complete(), "{report:?}");
        }
        folders.restored();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_come_twice_or_out_of_order_are_found() {
    let data = [b"x".to_vec(), b"other".to_vec()];
    for (nodes, expected) in [
        ([file(b"a", b"x"), file(b"a", b"other")], "twice"),
        ([file(b"b", b"x"), file(b"a", b"other")], "not in order"),
    ] {
        let forge = Forge::new().await;
        let id = forge.store(&data, &[tree(&nodes)]);
        assert_told(&findings(&forge).await, expected);
        let folders = Folders::new();
        let report = restore(&forge, id, &folders).await.unwrap();
        // Two files cannot both be at one place, so that must not pass for success.
        assert_eq!(report.is_complete(), expected != "twice", "{report:?}");
    }
}

/// Stores a file below so many folders.
fn store_deep(forge: &Forge, depth: usize) -> SnapshotId {
    let mut trees = vec![tree(&[file(b"bottom", b"x")])];
    for _ in 0..depth {
        let below = BlobId::of(trees.last().unwrap());
        trees.push(tree(&[directory(b"d", below)]));
    }
    forge.store(&[b"x".to_vec()], &trees)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_folders_deep_is_no_stack_overflow() {
    let forge = Forge::new().await;
    let id = store_deep(&forge, 10_000);
    assert_eq!(findings(&forge).await, [""; 0]);
    let repository = forge.open().await.unwrap();
    let target = FsTarget::new(Folders::new().root(), forge.env.clone());
    let request = RestoreRequest::new(repository, id, Arc::new(target)).dry_run();
    let report = engine(&forge.env).restore(request).wait().await.unwrap();
    assert_eq!(report.counts.created, 10_001);
    back_up(&forge).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_longer_than_the_system_takes_are_restored() {
    let forge = Forge::new().await;
    let id = store_deep(&forge, 2_500);
    let folders = Folders::new();
    let report = restore(&forge, id, &folders).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.counts.created, 2_501);
    folders.restored();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_that_does_not_fit_its_blobs_is_found_and_the_file_not_restored() {
    for size_bytes in [0, 1, u64::MAX] {
        let forge = Forge::new().await;
        let mut odd = file(b"odd", b"four");
        odd.size_bytes = size_bytes;
        let root = tree(&[file(b"fine", b"four"), odd]);
        let id = forge.store(&[b"four".to_vec()], &[root]);
        assert_told(&findings(&forge).await, "but its blobs have 4 bytes");
        let folders = Folders::new();
        let report = restore(&forge, id, &folders).await.unwrap();
        assert!(!report.is_complete(), "{size_bytes}: {report:?}");
        assert_told(&told(&report), "/odd");
        assert_eq!(folders.restored(), BTreeSet::from(["fine".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_missing_are_found_and_named() {
    let lost = BlobId::of(b"lost");
    let forge = Forge::new().await;
    forge.index(&[]);
    let id = forge.snapshot(lost);
    assert_told(&findings(&forge).await, &lost.to_string());
    let folders = Folders::new();
    let result = restore(&forge, id, &folders).await;
    let lines = match &result {
        Ok(report) => told(report),
        Err(error) => vec![error.report()],
    };
    assert!(result.is_err() || !result.unwrap().is_complete());
    assert_told(&lines, &lost.to_string());
    back_up(&forge).await.unwrap();

    let root = tree(&[directory(b"d", lost), file(b"fine", b"x")]);
    let id = forge.store(&[b"x".to_vec()], &[root]);
    assert_told(&findings(&forge).await, &lost.to_string());
    let report = restore(&forge, id, &folders).await.unwrap();
    assert!(!report.is_complete());
    assert!(folders.restored().contains("fine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_bomb_size_are_refused_and_do_not_lock_out() {
    for (n, r, p) in [("1073741824", "8", "1"), ("32768", "4294967295", "4294967295")] {
        let forge = Forge::new().await;
        let json = String::from_utf8(forge.key_file("bomb")).unwrap();
        let bomb = json.replace(r#""N":16,"r":1,"p":1"#, &format!(r#""N":{n},"r":{r},"p":{p}"#));
        assert_ne!(bomb, json);
        let id = forge.put("keys", bomb.as_bytes());
        // The other key opens still.
        assert_told(&findings(&forge).await, &id.to_string());
        remove_keys_but(&forge, &id);
        let error = forge.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_told(&[error.report()], "takes more memory or time than is allowed");
        assert_told(&[error.report()], &id.to_string());
    }
    assert_memory_was_bounded();
}

fn remove_keys_but(forge: &Forge, kept: &BlobId) {
    for key in forge.objects.objects().into_keys() {
        if key.as_str().starts_with("keys/") && key.name() != kept.to_string() {
            forge.objects.remove_raw(&key);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_bomb_size_in_an_index_are_found() {
    let content = b"content".to_vec();
    for (sealed_bytes, plain_bytes) in [
        (u32::MAX - 100, None),
        (1 << 30, None),
        (SEALED_BYTES + 7, Some(u32::MAX)),
        (SEALED_BYTES + 7, Some(1 << 30)),
        (SEALED_BYTES, Some(1)),
        (SEALED_BYTES, None),
    ] {
        let forge = Forge::new().await;
        let root = tree(&[file(b"f", &content)]);
        let trees = forge.pack(&[(BlobKind::Tree, root.clone())]);
        let mut data = forge.pack(&[(BlobKind::Data, content.clone())]);
        data.blobs[0].sealed_bytes = sealed_bytes;
        data.blobs[0].plain_bytes = plain_bytes;
        forge.index(&[trees, data.clone()]);
        let id = forge.snapshot(BlobId::of(&root));
        assert_told(&findings(&forge).await, &data.id.to_string());
        let folders = Folders::new();
        let report = restore(&forge, id, &folders).await.unwrap();
        assert_eq!((report.counts.failed, report.counts.created), (1, 0), "{report:?}");
        assert_eq!(folders.restored(), BTreeSet::new());
        back_up(&forge).await.unwrap();
    }
    assert_memory_was_bounded();
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_of_bomb_size_in_an_index_are_found() {
    for (sealed_bytes, plain_bytes) in
        [(u32::MAX - 100, None), (1 << 30, None), (SEALED_BYTES + 7, Some(u32::MAX))]
    {
        let forge = Forge::new().await;
        let root = tree(&[file(b"f", b"x")]);
        let mut trees = forge.pack(&[(BlobKind::Tree, root.clone())]);
        trees.blobs[0].sealed_bytes = sealed_bytes;
        trees.blobs[0].plain_bytes = plain_bytes;
        forge.index(&[trees.clone()]);
        let id = forge.snapshot(BlobId::of(&root));
        assert_told(&findings(&forge).await, &trees.id.to_string());
        let folders = Folders::new();
        let result = restore(&forge, id, &folders).await;
        assert!(result.map_or(true, |report| !report.is_complete()));
        back_up(&forge).await.unwrap();
    }
    assert_memory_was_bounded();
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_bomb_size_are_found() {
    for header_bytes in [0, 1, 68, 1 << 24, u32::MAX] {
        let forge = Forge::new().await;
        let root = tree(&[]);
        let pack = forge.pack(&[(BlobKind::Tree, root.clone())]);
        let key = format!("data/{}/{}", &pack.id.to_string()[..2], pack.id);
        let key = ObjectKey::new(key).unwrap();
        let mut bytes = forge.objects.remove_raw(&key).unwrap().to_vec();
        let trailer = bytes.len() - 4;
        bytes[trailer..].copy_from_slice(&u32::to_le_bytes(header_bytes));
        let id = PackId::from_bytes(*forge.put("data", &bytes).as_bytes());
        let blobs = pack.blobs.clone();
        // As an interrupted backup leaves it, and as part of the repository.
        back_up(&forge).await.unwrap();
        forge.index(&[IndexedPack { id, blobs }]);
        forge.snapshot(BlobId::of(&root));
        assert_told(&findings(&forge).await, &id.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_of_bomb_size_in_a_header_are_found() {
    let forge = Forge::new().await;
    let root = tree(&[]);
    let sealed = forge.seal(&root);
    let honest = PackedBlob {
        id: BlobId::of(&root),
        kind: BlobKind::Tree,
        offset: 0,
        sealed_bytes: narrow(sealed.len()),
        plain_bytes: None,
    };
    for (sealed_bytes, plain_bytes) in [(u32::MAX - 1000, None), (1 << 30, Some(u32::MAX))] {
        let lie = PackedBlob { sealed_bytes, plain_bytes, ..honest };
        let pack = forge.close_pack(sealed.clone(), vec![lie]);
        let (id, blobs) = (pack.id, vec![honest]);
        forge.index(&[IndexedPack { id, blobs }]);
        forge.snapshot(BlobId::of(&root));
        assert_told(&findings(&forge).await, &id.to_string());
    }
    assert_memory_was_bounded();
}

/// 64 MiB of zeros, compressed to 6 kB, as often as asked for.
fn zstd_bomb(frames: usize) -> Vec<u8> {
    let zeros = vec![0; 64 << 20];
    let mut compressor = Compressor::new(3).unwrap();
    compressor.compress(&zeros).unwrap().repeat(frames)
}

/// A frame that claims to hold more than there is memory.
fn zstd_claim() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend((1_u64 << 60).to_le_bytes());
    frame.extend([1, 0, 0]);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_that_blow_up_are_refused() {
    // No index blows up here: one of 2 GiB is taken, as old programs made them.
    let bombs = [(zstd_bomb(8), &["snapshots"][..]), (zstd_claim(), &["snapshots", "index"][..])];
    for (bomb, folders) in bombs {
        let mut plain = vec![2];
        plain.extend(bomb);
        for &folder in folders {
            let forge = Forge::new().await;
            let id = forge.put(folder, &forge.seal(&plain));
            assert_told(&findings(&forge).await, &id.to_string());
            if folder == "snapshots" {
                let id = SnapshotId::from_bytes(*id.as_bytes());
                let error = restore(&forge, id, &Folders::new()).await.unwrap_err();
                assert_told(&[error.report()], &id.to_string());
            }
            let result: Result<(), Error> = back_up(&forge).await;
            if let Err(error) = result {
                assert_told(&[error.report()], &id.to_string());
            }
        }
    }
    assert_memory_was_bounded();
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_blobs_that_blow_up_are_not_restored() {
    for (bomb, plain_bytes) in [(zstd_bomb(40), 100), (zstd_bomb(1), 1000), (zstd_claim(), 4)] {
        let forge = Forge::new().await;
        let sealed = forge.seal(&bomb);
        let blob = PackedBlob {
            id: BlobId::of(b"content"),
            kind: BlobKind::Data,
            offset: 0,
            sealed_bytes: narrow(sealed.len()),
            plain_bytes: Some(plain_bytes),
        };
        let data = forge.close_pack(sealed, vec![blob]);
        let mut node = file(b"f", b"content");
        node.size_bytes = u64::from(plain_bytes);
        let root = tree(&[node]);
        let trees = forge.pack(&[(BlobKind::Tree, root.clone())]);
        forge.index(&[trees, data.clone()]);
        let id = forge.snapshot(BlobId::of(&root));
        assert_told(&findings(&forge).await, &data.id.to_string());
        let folders = Folders::new();
        let report = restore(&forge, id, &folders).await.unwrap();
        assert_eq!((report.counts.failed, report.counts.created), (1, 0), "{report:?}");
        assert_eq!(folders.restored(), BTreeSet::new());
    }
    assert_memory_was_bounded();
}
