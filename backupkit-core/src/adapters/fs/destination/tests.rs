use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use futures::TryStreamExt as _;
use tempfile::TempDir;

use super::*;
use crate::destination::PayloadFile;

fn destination(folder: &TempDir) -> FsDestination {
    FsDestination::new(folder.path().join("repo"), Env::system())
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

async fn keys(destination: &FsDestination, prefix: &str) -> Vec<String> {
    let listed: Vec<_> = destination.list(&key(prefix)).try_collect().await.unwrap();
    let mut keys: Vec<_> = listed.iter().map(|meta| meta.key.to_string()).collect();
    keys.sort();
    keys
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    entries.map(name).collect()
}

#[tokio::test]
async fn an_object_comes_back_as_created_and_is_private() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    let parts: Vec<_> = (0..3000u32).map(|n| Bytes::from(n.to_string())).collect();
    let whole: Vec<u8> = parts.concat();
    let payload = Payload::from_parts(parts);
    destination.create(&key("data/3f/x"), payload).await.unwrap();

    assert_eq!(destination.get(&key("data/3f/x"), None).await.unwrap(), whole);
    let middle = destination.get(&key("data/3f/x"), Some(10..20)).await;
    assert_eq!(middle.unwrap(), whole[10..20]);
    let meta = destination.stat(&key("data/3f/x")).await.unwrap();
    assert_eq!(meta.size_bytes, whole.len() as u64);

    let mode = |path: &str| {
        let metadata = std::fs::metadata(folder.path().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("repo/data/3f/x"), 0o600);
    assert_eq!(mode("repo/data/3f"), 0o700);
    assert_eq!(mode("repo"), 0o700);
    assert_eq!(names(&folder.path().join("repo/data/3f")), ["x"]);
}

#[tokio::test]
async fn the_same_bytes_again_are_success_and_others_are_refused() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    let config = key("config");
    let file = folder.path().join("payload");
    std::fs::write(&file, b"first").unwrap();
    let from_file = Payload::from(PayloadFile::open(&file).unwrap());
    destination.create(&config, from_file.clone()).await.unwrap();
    destination.create(&config, from_file).await.unwrap();
    let same = Payload::from_parts(vec![Bytes::from("fi"), Bytes::new(), Bytes::from("rst")]);
    destination.create(&config, same).await.unwrap();
    for other in ["fir", "other", "first!"] {
        let error = destination.create(&config, Bytes::from(other).into()).await.unwrap_err();
        assert!(error.is(ErrorKind::AlreadyExists), "{error}");
    }
    assert_eq!(destination.get(&config, None).await.unwrap(), "first");
    assert_eq!(names(&folder.path().join("repo")), ["config"]);
}

#[tokio::test]
async fn of_many_writers_of_one_key_exactly_one_wins() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    let writers = (0..16u8).map(|n| {
        let destination = destination.clone();
        async move { destination.create(&key("config"), vec![n; 100_000].into()).await }
    });
    let results = futures::future::join_all(writers).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let winner = results.iter().position(Result::is_ok).unwrap();
    let content = destination.get(&key("config"), None).await.unwrap();
    assert!(content.iter().all(|byte| usize::from(*byte) == winner));
    assert_eq!(names(&folder.path().join("repo")), ["config"]);
}

#[tokio::test]
async fn a_payload_file_that_is_too_short_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    let path = folder.path().join("payload");
    std::fs::write(&path, b"abc").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let payload = PayloadFile::new(file, 5, "payload").into();
    destination.create(&key("locks/x"), payload).await.unwrap_err();
    assert!(names(&folder.path().join("repo/locks")).is_empty());
}

#[tokio::test]
async fn missing_objects_and_wrong_ranges_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    destination.create(&key("data/3f/x"), vec![7; 10].into()).await.unwrap();
    for missing in ["data/3f/y", "data/3f", "data/3f/x/y", "keys/a"] {
        let error = destination.get(&key(missing), None).await.unwrap_err();
        assert!(error.is(ErrorKind::NotFound), "{error}");
        let error = destination.stat(&key(missing)).await.unwrap_err();
        assert!(error.is(ErrorKind::NotFound), "{error}");
    }
    for range in [5..11, 11..12, 0..u64::MAX] {
        let error = destination.get(&key("data/3f/x"), Some(range)).await.unwrap_err();
        assert!(error.is(ErrorKind::InvalidInput), "{error}");
    }
    let nothing = destination.get(&key("data/3f/x"), Some(10..10)).await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn a_listing_has_every_object_below_the_prefix_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    assert!(keys(&destination, "data").await.is_empty());
    let mut expected = Vec::new();
    for n in 0..300 {
        let name = format!("data/{:02x}/{n:04}", n % 5);
        destination.create(&key(&name), vec![0; 3].into()).await.unwrap();
        expected.push(name);
    }
    expected.sort();
    destination.create(&key("config"), vec![1].into()).await.unwrap();
    let data = folder.path().join("repo/data");
    std::fs::write(data.join("00/abc-tmp-0011223344556677"), b"unfinished").unwrap();
    std::fs::write(data.join("00/NOT A KEY"), b"foreign").unwrap();
    std::fs::create_dir(data.join("empty")).unwrap();

    assert_eq!(keys(&destination, "data").await, expected);
    assert_eq!(keys(&destination, "data/03").await.len(), 60);
    assert_eq!(keys(&destination, "config").await, ["config"]);
    assert!(keys(&destination, "config/x").await.is_empty());
    assert!(keys(&destination, "da").await.is_empty());
}

#[tokio::test]
async fn a_listing_that_cannot_read_a_folder_is_an_error() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    destination.create(&key("data/3f/x"), vec![1].into()).await.unwrap();
    let data = folder.path().join("repo/data");
    // A loop of links cannot be looked at, whoever tries.
    std::os::unix::fs::symlink("loop", data.join("loop")).unwrap();
    let listed: Result<Vec<_>> = destination.list(&key("data")).try_collect().await;
    listed.unwrap_err();
}

#[tokio::test]
async fn deleting_twice_succeeds() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    destination.create(&key("locks/a"), vec![1].into()).await.unwrap();
    for _ in 0..2 {
        destination.delete(&key("locks/a")).await.unwrap();
        assert!(keys(&destination, "locks").await.is_empty());
    }
    destination.delete(&key("never/was")).await.unwrap();
}

#[tokio::test]
async fn only_old_unfinished_files_of_the_prefix_are_removed() {
    let folder = TempDir::new().unwrap();
    let destination = destination(&folder);
    for object in ["config", "data/3f/x"] {
        destination.create(&key(object), vec![1].into()).await.unwrap();
    }
    let root = folder.path().join("repo");
    let unfinished = ["config-tmp-0011223344556677", "data/3f/y-tmp-0011223344556677"];
    let others = ["photo-tmp-0011223344556677", "data/3f/a-tmp-b", "data/3f/-tmp-0011223344556677"];
    for name in unfinished.iter().chain(&others) {
        std::fs::write(root.join(name), b"half").unwrap();
    }
    let day = Duration::from_hours(24);
    let prefixes = ["config", "data", "locks"];
    let remove = async |unchanged_for, dry_run| {
        let mut found = Leftovers::default();
        for prefix in prefixes.map(key) {
            found
                .join(destination.remove_abandoned(&prefix, unchanged_for, dry_run).await.unwrap());
        }
        found
    };
    assert_eq!(remove(day, false).await, Leftovers::default());
    let both = Leftovers { count: 2, bytes: 8 };
    assert_eq!(remove(Duration::ZERO, true).await, both);
    assert!(unfinished.iter().all(|name| root.join(name).exists()));
    assert_eq!(remove(Duration::ZERO, false).await, both);
    assert!(!unfinished.iter().any(|name| root.join(name).exists()));
    assert!(others.iter().all(|name| root.join(name).exists()));
    assert_eq!(keys(&destination, "data").await, ["data/3f/x"]);
    let refused = destination.create(&key("a-tmp-b"), vec![1].into()).await;
    assert!(refused.unwrap_err().is(ErrorKind::InvalidInput));
}

#[tokio::test]
async fn a_check_tells_folders_that_work_from_those_that_do_not() {
    let folder = TempDir::new().unwrap();
    let healthy = destination(&folder).check().await.unwrap();
    assert!(healthy.is_healthy(), "{healthy:?}");
    assert!(!folder.path().join("repo").exists());
    let existing = FsDestination::new(folder.path(), Env::system());
    let probe = existing.check().await.unwrap();
    assert!(probe.is_healthy(), "{probe:?}");
    assert!(names(folder.path()).is_empty());
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let probe = FsDestination::new(path, Env::system()).check().await.unwrap();
        assert!(!probe.is_healthy());
    }
}
