//! Buckets that are backed up, on a server in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server};
use backupkit_core::testing::random_bytes;

use crate::scene::{Outcome, PASSWORD, Scene};

struct Bucket {
    scene: Scene,
    server: S3Server,
}

/// Keys, and where a restore into a folder puts them.
const ODD_KEYS: [(&str, &str); 16] = [
    ("plain.txt", "plain.txt"),
    ("a/b/c/deep", "a/b/c/deep"),
    ("a-b", "a-b"),
    ("a.b/x", "a.b/x"),
    ("photos", "photos%object"),
    ("photos/1.jpg", "photos/1.jpg"),
    ("//double", "%empty/%empty/double"),
    ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
    ("./here", "%2E/here"),
    ("line\nbreak", "line%0Abreak"),
    ("nul\u{0}", "nul%00"),
    ("back\\slash", "back%5Cslash"),
    ("100%", "100%25"),
    ("space +&<>\"'", "space +&<>\"'"),
    ("ümlaut/日本/😀", "ümlaut/日本/😀"),
    ("filled/", "filled/%empty"),
];

/// Where a restore puts the settings of the bucket.
const SETTINGS: &str = "bucket%bucket.json";

impl Bucket {
    fn new() -> Self {
        Self { scene: Scene::new(), server: S3Server::start("bucket") }
    }

    /// With odd keys, large objects and empty ones. Returns where a restore puts them.
    fn filled(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut put = |key: &str, file: &str, bytes: Vec<u8>| {
            self.server.put(bucket, key, bytes.clone());
            files.insert(format!("{bucket}/{file}"), bytes);
        };
        for (number, (key, file)) in ODD_KEYS.into_iter().enumerate() {
            put(key, file, random_bytes(number as u64, 100 + number).to_vec());
        }
        put("large/one", "large/one", random_bytes(1, 20 << 20).to_vec());
        put("large/two", "large/two", random_bytes(2, 600_000).to_vec());
        put("none", "none", Vec::new());
        for number in 0..1_500 {
            let key = format!("many/{number:04}");
            put(&key, &key, key.clone().into_bytes());
        }
        self.server.put(bucket, "folder/", "");
        files
    }

    fn address(&self, path: &str) -> String {
        format!("s3:{}/{path}", self.server.endpoint())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.scene.command(arguments);
        command
            .env("BACKUPKIT_S3_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID)
            .env("BACKUPKIT_S3_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome(self.command(arguments).output().unwrap())
    }

    fn gets(&self) -> u64 {
        self.server.counters().of(S3Operation::GetObject)
    }

    fn assert_restored(&self, to: &str, files: &BTreeMap<String, Vec<u8>>) {
        let root = self.scene.path(to);
        let found: Vec<String> = self
            .scene
            .files(to)
            .iter()
            .map(|file| file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut found: Vec<&String> = found.iter().filter(|file| **file != SETTINGS).collect();
        found.sort();
        assert!(found.iter().copied().eq(files.keys()), "{found:?}");
        for (file, bytes) in files {
            assert!(std::fs::read(root.join(file)).unwrap() == *bytes, "{file} has other bytes");
        }
    }
}

#[test]
fn a_bucket_of_odd_keys_is_backed_up_and_restored_into_a_folder() {
    let bucket = Bucket::new();
    let mut files = bucket.filled("bucket");
    let address = bucket.address("bucket");
    let backup = ["backup", &address, "--to", "repo", "--init", "--json"];
    let first = bucket.run(&backup).expect(0).json();
    assert_eq!(first["summary"]["files_new"], files.len() + 1, "{first}");
    bucket.run(&["check", "-r", "repo", "--read-data"]).expect(0);
    bucket.run(&["restore", "latest", "-r", "repo", "--to", "out"]).expect(0);
    bucket.assert_restored("out", &files);
    assert!(bucket.scene.path("out/bucket/folder").is_dir());
    let settings = std::fs::read(bucket.scene.path("out").join(SETTINGS)).unwrap();
    let settings: serde_json::Value = serde_json::from_slice(&settings).unwrap();
    assert_eq!(settings["settings"]["policy"], "absent", "{settings}");

    // No object is asked for again, nor a marker.
    let before = bucket.gets();
    let second = bucket.run(&["backup", &address, "--to", "repo", "--json"]).expect(0).json();
    assert_eq!(second["summary"]["files_unmodified"], files.len() + 1, "{second}");
    assert_eq!(bucket.gets() - before, 0);
    assert_eq!(second["outputs"][0]["tree_blobs"], 0, "the tree is another: {second}");

    bucket.server.put("bucket", "photos/1.jpg", "changed");
    files.insert("bucket/photos/1.jpg".to_owned(), b"changed".to_vec());
    let third = bucket.run(&["backup", &address, "--to", "repo", "--json"]).expect(0).json();
    assert_eq!(third["summary"]["files_changed"], 1, "{third}");
    assert_eq!(third["summary"]["files_new"], 0, "{third}");
    assert_restored_by_restic(&bucket.scene, &files, &bucket);
}

fn assert_restored_by_restic(scene: &Scene, files: &BTreeMap<String, Vec<u8>>, bucket: &Bucket) {
    let Some(program) = std::env::var_os("BACKUPKIT_TEST_RESTIC") else {
        return;
    };
    let restic = |arguments: &[&str]| {
        let mut restic = Command::new(&program);
        let done = scene.clean(&mut restic).args(arguments).env("RESTIC_PASSWORD", PASSWORD);
        let done = done.current_dir(scene.path("")).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    restic(&["--no-cache", "-r", "repo", "check", "--read-data"]);
    restic(&["--no-cache", "-r", "repo", "restore", "latest", "--target", "by-restic"]);
    assert!(Path::new(&scene.path("by-restic")).is_dir());
    bucket.assert_restored("by-restic", files);
}

#[test]
fn a_bucket_is_backed_up_into_itself_beside_what_it_holds() {
    let bucket = Bucket::new();
    let files = bucket.filled("bucket");
    let (from, to) = (bucket.address("bucket"), bucket.address("bucket/backups"));
    for _ in 0..2 {
        let done = bucket.run(&["backup", &from, "--to", &to, "--init", "--json"]).expect(0).json();
        assert_eq!(done["summary"]["files_failed"], 0, "{done}");
    }
    bucket.run(&["restore", "latest", "-r", &to, "--to", "out"]).expect(0);
    bucket.assert_restored("out", &files);
    let refused = bucket.run(&["backup", &from, "--to", &from, "--init"]);
    assert!(refused.stderr().contains("into itself"), "{}", refused.stderr());
}

#[test]
fn a_prefix_is_backed_up_alone() {
    let bucket = Bucket::new();
    bucket.server.put("bucket", "photos/a", "a");
    bucket.server.put("bucket", "photos2/b", "b");
    let address = bucket.address("bucket/photos");
    bucket.run(&["backup", &address, "--to", "repo", "--init"]).expect(0);
    bucket.run(&["restore", "latest", "-r", "repo", "--to", "out"]).expect(0);
    let files = [("bucket/photos/a".to_owned(), b"a".to_vec())];
    bucket.assert_restored("out", &files.into());
    let missing = bucket.address("bucket/phtoos");
    let refused = bucket.run(&["backup", &missing, "--to", "repo", "--json"]).json_error();
    assert_eq!(refused["code"], "s3-no-such-prefix", "{refused}");
    bucket.run(&["backup", &address, "src", "--to", "repo"]).expect(2);
}

#[test]
fn a_listing_that_fails_makes_no_snapshot() {
    let bucket = Bucket::new();
    bucket.filled("bucket");
    let address = bucket.address("bucket");
    bucket.run(&["repo", "init", "-r", "repo"]).expect(0);
    let denied = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    bucket.server.add_fault(denied.on(S3Operation::ListObjects).after(1));
    let refused = bucket.run(&["backup", &address, "--to", "repo", "--json"]).json_error();
    assert_eq!(refused["code"], "s3-access-denied", "{refused}");
    let listed = bucket.run(&["snapshots", "-r", "repo", "--json"]).expect(0).stdout();
    assert!(!listed.contains("\"tree\""), "{listed}");
}

#[test]
fn objects_that_cannot_be_read_are_warnings() {
    let bucket = Bucket::new();
    for key in ["fine", "denied", "lost"] {
        bucket.server.put("bucket", key, key);
    }
    let address = bucket.address("bucket");
    let on_get =
        |effect, key| S3Fault::new(effect).on(S3Operation::GetObject).for_keys_with(key).always();
    // It is listed all the same.
    bucket.server.add_fault(on_get(S3Effect::refuse(404, "NoSuchKey"), "lost"));
    bucket.server.add_fault(on_get(S3Effect::refuse(403, "AccessDenied"), "denied"));
    let warned = bucket.run(&["backup", &address, "--to", "repo", "--init"]).expect(3);
    for key in ["/bucket/denied", "/bucket/lost"] {
        assert!(warned.stderr().contains(key), "{}", warned.stderr());
    }
}

#[test]
fn a_plan_backs_a_bucket_up_through_its_connection() {
    let bucket = Bucket::new();
    let files = bucket.filled("bucket");
    let address = bucket.address("bucket");
    bucket.run(&["connection", "add", "pictures", "--bucket", &address]).expect(0);
    bucket.run(&["connection", "add", "disk", "--folder", "."]).expect(0);
    let without_key = |arguments: &[&str]| bucket.scene.run(arguments);
    without_key(&["connection", "test", "pictures"]).expect(0);
    without_key(&["repo", "add", "r", "--connection", "disk", "--path", "repo"]).expect(0);
    without_key(&["plan", "create", "daily", "--from", "pictures", "--to", "r"]).expect(0);
    without_key(&["plan", "run", "daily"]).expect(0);
    without_key(&["restore", "latest", "-r", "repo", "--to", "out"]).expect(0);
    bucket.assert_restored("out", &files);
}

#[test]
fn a_bucket_that_keeps_versions_is_backed_up_as_it_was() {
    let bucket = Bucket::new();
    let server = &bucket.server;
    server.keep_versions("bucket", true);
    for key in ["a", "b"] {
        server.put("bucket", key, "old");
    }
    server.set_now("2026-01-01T01:00:00Z".parse().unwrap());
    server.put("bucket", "a", "new");
    server.put("bucket", "c", "new");
    server.remove("bucket", "b");
    server.set_now("2026-01-01T02:00:00Z".parse().unwrap());
    let address = bucket.address("bucket");
    let backup = |time: &str| {
        let time = format!("consistent_at={time}");
        bucket.run(&["backup", &address, "--to", "repo", "--init", "--s3", &time])
    };
    let restored = |to: &str, files: &[(&str, &str)]| {
        bucket.run(&["restore", "latest", "--repo", "repo", "--to", to]).expect(0);
        let files = files.iter().map(|(file, bytes)| (format!("bucket/{file}"), (*bytes).into()));
        bucket.assert_restored(to, &files.collect());
    };
    backup("2026-01-01T01:30:00+01:00").expect(0);
    restored("then", &[("a", "old"), ("b", "old")]);
    backup("now").expect(0);
    restored("now", &[("a", "new"), ("c", "new")]);
    for (time, code) in [("yesterday", 2), ("2999-01-01", 2)] {
        backup(time).expect(code);
    }
}

#[test]
fn older_versions_of_a_bucket_are_backed_up_once_and_restored_into_a_folder() {
    let bucket = Bucket::new();
    let server = &bucket.server;
    server.keep_versions("bucket", true);
    let large = random_bytes(1, 700_000);
    server.put("bucket", "a/large", large.clone());
    for text in ["one", "two", "three"] {
        server.put("bucket", "k", text);
    }
    server.set_now("2026-01-01T01:00:00Z".parse().unwrap());
    server.put("bucket", "a/large", "small");
    server.remove("bucket", "k");
    let address = bucket.address("bucket");
    let backup = ["backup", &address, "--to", "repo", "--init", "--s3", "versions=true", "--json"];
    let first = bucket.run(&backup).expect(0).json();
    assert_eq!(first["summary"]["files_new"], 7, "{first}");
    let past = |key: &str, name: &str| format!("bucket%versions/{key}%past/{name}");
    let mut files: BTreeMap<String, Vec<u8>> = [
        ("bucket/a/large".to_owned(), b"small".to_vec()),
        (past("a/large", "20260101T000000.000000Z-v1"), large.to_vec()),
        (past("k", "20251231T235959.999998Z-v2"), b"one".to_vec()),
        (past("k", "20251231T235959.999999Z-v3"), b"two".to_vec()),
        (past("k", "20260101T000000.000000Z-v4"), b"three".to_vec()),
        (past("k", "20260101T010000.000000Z-v6%deleted"), Vec::new()),
    ]
    .into();
    let listed = bucket.run(&["ls", "latest", "-r", "repo", "-R"]).expect(0);
    for file in files.keys() {
        assert!(listed.stdout().contains(file.as_str()), "{file}: {}", listed.stdout());
    }
    bucket.run(&["check", "-r", "repo", "--read-data"]).expect(0);
    bucket.run(&["restore", "latest", "-r", "repo", "--to", "out"]).expect(0);
    bucket.assert_restored("out", &files);

    // What is older is not read again.
    let before = bucket.gets();
    let second = bucket.run(&backup).expect(0).json();
    assert_eq!(second["summary"]["files_unmodified"], 7, "{second}");
    assert_eq!(bucket.gets(), before);

    // What was there is older now, and all else stays.
    server.set_now("2026-01-01T02:00:00Z".parse().unwrap());
    server.put("bucket", "a/large", "new");
    bucket.run(&backup).expect(0);
    assert_eq!(bucket.gets(), before + 2, "the new one, and the one that was there");
    files.insert("bucket/a/large".to_owned(), b"new".to_vec());
    files.insert(past("a/large", "20260101T010000.000000Z-v5"), b"small".to_vec());
    bucket.run(&["restore", "latest", "-r", "repo", "--to", "later"]).expect(0);
    bucket.assert_restored("later", &files);
}
