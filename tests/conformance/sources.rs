//! Sources and fakes. An adapter gets one macro call.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use backupkit::adapters::fs::FsSource;
use backupkit::destination::MemoryDestination;
use backupkit::model::EntryPath;
use backupkit::repo::{InitOptions, Repository};
use backupkit::source_conformance;
use backupkit::testing::conformance::SourceFixture;
use backupkit::testing::fakes::{FakeDrive, FakeMongoDb, FakeS3};
use backupkit::testing::{FaultSource, MemorySource, SourceFaults, random_bytes};
use backupkit::{BackupRequest, Engine, Env, SnapshotSource};
use bytes::Bytes;
use futures::FutureExt;

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes())
}

fn memory() -> (MemorySource, SourceFixtureParts) {
    let mut files = BTreeMap::new();
    let mut source = MemorySource::new();
    for (name, size) in [
        ("top", 10),
        ("a-b/x", 1),
        ("a/x", 3_000_000),
        ("a/empty", 0),
        ("a/deep/er/file", 70_000),
        ("a.b", 5),
    ] {
        let bytes = random_bytes(size as u64, size);
        source = source.with_file(&path(name), bytes.clone());
        files.insert(path(name), bytes);
    }
    for (name, size) in [("streams/one", 100_000), ("streams/none", 0)] {
        let bytes = random_bytes(7, size);
        source = source.with_stream(&path(name), bytes.clone(), 4_096);
        files.insert(path(name), bytes);
    }
    let late = BTreeMap::from([
        (path("late"), Bytes::from_static(b"late")),
        (path("a/late"), Bytes::from_static(b"too")),
    ]);
    for (name, bytes) in &late {
        source = source.with_late_file(name, bytes.clone());
    }
    source = source.with_link(&path("a/link"), "x").with_directory(&path("empty/inner"));
    (source, SourceFixtureParts { files, late })
}

struct SourceFixtureParts {
    files: BTreeMap<EntryPath, Bytes>,
    late: BTreeMap<EntryPath, Bytes>,
}

impl SourceFixtureParts {
    fn fixture(
        self,
        memory: MemorySource,
        source: impl backupkit::source::Source,
    ) -> SourceFixture {
        SourceFixture::new(source, self.files)
            .with_late_files(self.late)
            .with_other_entries([path("a/link")])
            .with_empty_directories([path("empty/inner")])
            .with_vanish(move |path| {
                memory.remove(&path);
                async {}.boxed()
            })
    }
}

source_conformance!(memory_source, async || {
    let (source, parts) = memory();
    parts.fixture(source.clone(), source)
});

source_conformance!(memory_source_with_validators, async || {
    let (source, parts) = memory();
    parts.fixture(source.clone(), source.with_validators())
});

source_conformance!(fault_source_without_faults, async || {
    let (source, parts) = memory();
    let faulty = FaultSource::new(Arc::new(source.clone()), &SourceFaults::new());
    parts.fixture(source, faulty)
});

source_conformance!(snapshot_source, async || {
    let (source, SourceFixtureParts { mut files, late }) = memory();
    files.extend(late);
    let env = Env::system();
    let (place, options) = (Arc::new(MemoryDestination::new()), InitOptions::default());
    let repository = Repository::init(place, &"snapshot".into(), options, &env).await.unwrap();
    let engine = Engine::builder().env(env).build().unwrap();
    let request = BackupRequest::new(Arc::new(source), [repository.clone()]);
    let report = engine.backup(request).wait().await.unwrap();
    let source = SnapshotSource::load(&repository, report.outputs[0].snapshot.unwrap()).await;
    SourceFixture::new(source.unwrap(), files)
        .with_other_entries([path("a/link")])
        .with_empty_directories([path("empty/inner")])
});

source_conformance!(fake_s3, async || {
    let bucket = FakeS3::new();
    let mut files = BTreeMap::new();
    for key in [
        "a", "a-b/1", "a-b/2", "a.txt", "b/c/d/1", "b/c/d/2", "b/c/e", "b/z", "c/1", "d/1", "d/2",
        "empty", "e/f/g",
    ] {
        let size = if key == "empty" { 0 } else { 1_000 * key.len() };
        let bytes = random_bytes(size as u64, size);
        bucket.put(key, bytes.clone());
        files.insert(FakeS3::path(key), bytes);
    }
    let other = bucket.clone();
    SourceFixture::new(bucket, files).with_roots([path("bucket")]).with_vanish(move |path| {
        let names = path.names().skip(1).map(String::from_utf8_lossy);
        other.remove(&names.collect::<Vec<_>>().join("/"));
        async {}.boxed()
    })
});

source_conformance!(fake_s3_of_many_keys, async || {
    let files = (0..2_500).map(|n: u64| {
        let key = format!("folder-{:06}/{n:09}", n / 1_000);
        (FakeS3::path(&key), random_bytes(n, 20))
    });
    SourceFixture::new(FakeS3::generated(2_500, 20), files.collect()).with_roots([path("bucket")])
});

source_conformance!(fake_mongodb, async || {
    let server = FakeMongoDb::new(4);
    for (database, collection, count) in [("shop", "orders", 21), ("shop", "one", 1), ("x", "y", 8)]
    {
        for id in 0..count {
            let body = random_bytes(id, 100 + usize::try_from(id).unwrap());
            server.insert(database, collection, id * 3 + 1, &body);
        }
    }
    server.create_collection("shop", "nothing");
    let late = server.late_dump(server.oplog_time());
    let other = server.clone();
    let files = server.dump();
    SourceFixture::new(server, files).with_late_files(late).with_vanish(move |path| {
        let name = |at| String::from_utf8_lossy(path.names().nth(at).unwrap()).into_owned();
        let collection = name(2);
        let collection = collection.split('.').next().unwrap();
        other.drop_collection(&name(1), collection);
        async {}.boxed()
    })
});

source_conformance!(fake_drive, async || {
    let drive = FakeDrive::new();
    drive.put_folder("f1", "folder", None);
    drive.put_folder("f2", "folder", None);
    drive.put_folder("f3", "in/ner", Some("f1"));
    drive.put_folder("f4", "empty", Some("f2"));
    let mut files = BTreeMap::new();
    for (id, name, parent) in [
        ("i1", "same", Some("f1")),
        ("i2", "same", Some("f1")),
        ("i3", "same", Some("f2")),
        ("i4", "a~b", Some("f3")),
        ("i5", "top", None),
    ] {
        let bytes = random_bytes(9, 10 * id.len());
        drive.put_file(id, name, parent, bytes.clone());
        files.insert(id, bytes);
    }
    let files = files.into_iter();
    let files = files.map(|(id, bytes)| (drive.path(id).unwrap(), bytes)).collect();
    let empty = drive.path("f4").unwrap();
    let other = drive.clone();
    SourceFixture::new(drive, files).with_empty_directories([empty]).with_vanish(move |path| {
        for id in ["i1", "i2", "i3", "i4", "i5"] {
            if other.path(id).as_ref() == Some(&path) {
                other.remove(id);
                break;
            }
        }
        async {}.boxed()
    })
});

source_conformance!(fs_source, async || {
    let folder = tempfile::tempdir().unwrap();
    let mut files = BTreeMap::new();
    let names: [(&[&str], usize); 6] = [
        (&["data", "a"], 10),
        (&["data", "a-b", "x"], 0),
        (&["data", "a.d", "y"], 700_000),
        (&["data", "a.d", "in", "z"], 9 << 20),
        (&["data", "b"], 512 << 10),
        (&["data", "c"], (512 << 10) + 1),
    ];
    for (number, (names, len_bytes)) in (0..).zip(names) {
        let path: PathBuf =
            std::iter::once(folder.path().into()).chain(names.iter().map(PathBuf::from)).collect();
        let bytes = random_bytes(number, len_bytes);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        files.insert(EntryPath::from_names(names), bytes);
    }
    std::fs::create_dir(folder.path().join("data/empty")).unwrap();
    std::os::unix::fs::symlink("a", folder.path().join("data/link")).unwrap();
    let source = FsSource::new(vec!["data".into()], Env::system(), "host")
        .unwrap()
        .with_working_directory(folder.path());
    let root = folder.path().to_owned();
    SourceFixture::new(source, files)
        .with_other_entries([EntryPath::from_names(["data", "link"])])
        .with_empty_directories([EntryPath::from_names(["data", "empty"])])
        .with_roots([EntryPath::from_names(["data"])])
        .with_vanish(move |path| {
            let names = path.names().map(|name| String::from_utf8(name.to_vec()).unwrap());
            let path: PathBuf =
                std::iter::once(root.to_str().unwrap().to_owned()).chain(names).collect();
            std::fs::remove_file(path).unwrap();
            async {}.boxed()
        })
        .keeping(folder)
});
