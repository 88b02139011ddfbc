//! Buckets that snapshots are restored into, on a server in this process.

use std::process::Command;

use backupkit_core::testing::fakes::S3Server;
use backupkit_core::testing::random_bytes;

use crate::scene::{Outcome, Scene};

struct Buckets {
    scene: Scene,
    server: S3Server,
}

const ODD_KEYS: [&str; 15] = [
    "plain.txt",
    "a/b/c/deep",
    "a-b",
    "photos",
    "photos/1.jpg",
    "//double",
    "a/../b",
    "./here",
    "line\nbreak",
    "nul\u{0}",
    "back\\slash",
    "100%",
    "space +&<>\"'",
    "ümlaut/日本/😀",
    "filled/",
];

impl Buckets {
    fn new() -> Self {
        let server = S3Server::start("bucket");
        server.make_bucket("other");
        Self { scene: Scene::new(), server }
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

    /// Odd keys, headers, metadata, tags, markers and large objects.
    fn fill(&self) {
        for (number, key) in ODD_KEYS.into_iter().enumerate() {
            self.server.put("bucket", key, random_bytes(number as u64, 100 + number));
        }
        let headers = [
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("content-disposition", "attachment"),
            ("cache-control", "no-store"),
            ("expires", "never"),
            ("x-amz-website-redirect-location", "/elsewhere"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-meta-owner", "=?UTF-8?Q?=C3=A4?="),
        ];
        self.server.put_with("bucket", "full", "bytes", &headers, "a=b%20c&d=%C3%BC");
        let large = random_bytes(1, 20 << 20);
        self.server.put_with("bucket", "large", large, &headers[..4], "e=f");
        self.server.put_with("bucket", "marked/", "", &headers[..1], "g=h");
        self.server.put("bucket", "none", "");
        for number in 0..300 {
            self.server.put("bucket", &format!("many/{number:04}"), format!("{number}"));
        }
    }

    /// Every key of `other` is one of `bucket`, below a prefix, with all that belongs to it.
    fn assert_same(&self, prefix: &str) {
        let keys = self.server.keys("bucket");
        let found: Vec<_> = self.server.keys("other");
        let wanted: Vec<_> = keys.iter().map(|key| format!("{prefix}{key}")).collect();
        assert_eq!(found, wanted);
        for key in keys {
            let one = self.server.object("bucket", &key).unwrap();
            let other = self.server.object("other", &format!("{prefix}{key}")).unwrap();
            assert!(one.bytes == other.bytes, "{key} has other bytes");
            let headers = |headers: &std::collections::BTreeMap<String, String>| {
                let mut headers = headers.clone();
                headers.retain(|name, _| !name.contains("checksum"));
                headers
                    .entry("content-type".to_owned())
                    .or_insert("binary/octet-stream".to_owned());
                headers
            };
            assert_eq!(headers(&one.headers), headers(&other.headers), "{key:?}");
            assert_eq!(one.tags, other.tags, "{key:?}");
        }
    }
}

#[test]
fn a_bucket_comes_back_as_it_was_in_another_one() {
    let buckets = Buckets::new();
    buckets.fill();
    let (from, to) = (buckets.address("bucket"), buckets.address("other/copy"));
    let backup = ["backup", &from, "--to", "repo", "--init", "--s3", "tags=true"];
    buckets.run(&backup).expect(0);
    let restore = ["restore", "latest", "-r", "repo", "--to", &to];
    let planned = buckets.run(&[&restore[..], &["--dry-run", "--json"]].concat()).expect(0).json();
    assert!(buckets.server.keys("other").is_empty());
    let restored = buckets.run(&[&restore[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(restored["created"], planned["created"], "{planned} {restored}");
    assert_eq!(restored["verified"]["differs"], 0, "{restored}");
    buckets.assert_same("copy/");
    assert_eq!(buckets.server.open_uploads("other"), 0);

    // Again: what has the same entity tag is left alone.
    let again = buckets.run(&[&restore[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(again["created"], 0, "{again}");
    assert!(again["skipped"].as_u64() > Some(300), "{again}");
    buckets.assert_same("copy/");
}

#[test]
fn a_folder_is_restored_into_a_bucket_and_what_it_cannot_hold_is_named() {
    let buckets = Buckets::new();
    let to = buckets.address("other");
    buckets.scene.write("tree/a/one", "one");
    buckets.scene.write("tree/two", "two");
    std::os::unix::fs::symlink("two", buckets.scene.path("tree/link")).unwrap();
    buckets.scene.run(["backup", "tree", "--to", "repo", "--init"]).expect(0);
    let restore = ["restore", "latest:/tree", "-r", "repo", "--to", &to];
    let planned = buckets.run(&[&restore[..], &["--dry-run"]].concat());
    assert!(planned.stdout().contains("symbolic links"), "{}", planned.stdout());
    let restored = buckets.run(&restore);
    assert!(restored.stderr().contains("symbolic links"), "{}", restored.stderr());
    assert_eq!(buckets.server.keys("other"), ["a/one", "two"]);
    assert_eq!(buckets.server.object("other", "a/one").unwrap().bytes, "one");
    let skip = [&restore[..], &["--conflict", "skip", "--json"]].concat();
    buckets.server.put("other", "two", "theirs");
    assert_eq!(buckets.run(&skip).json()["skipped"], 2);
    assert_eq!(buckets.server.object("other", "two").unwrap().bytes, "theirs");
}

#[test]
fn nothing_is_restored_around_the_repository_that_it_comes_from() {
    let buckets = Buckets::new();
    let repository = buckets.address("bucket/backups/nas");
    buckets.scene.write("tree/one", "one");
    buckets.run(&["backup", "tree", "--to", &repository, "--init"]).expect(0);
    let before = buckets.server.keys("bucket");
    for to in ["bucket", "bucket/backups", "bucket/backups/nas", "bucket/backups/nas/data"] {
        let to = buckets.address(to);
        let restore = ["restore", "latest", "-r", &repository, "--to", &to, "--json"];
        let refused = buckets.run(&restore).json_error();
        assert_eq!(refused["code"], "target-holds-repository", "{to}: {refused}");
    }
    let without_locks = |keys: Vec<String>| -> Vec<String> {
        keys.into_iter().filter(|key| !key.contains("/locks/")).collect()
    };
    assert_eq!(without_locks(buckets.server.keys("bucket")), without_locks(before));
    let to = buckets.address("bucket/restored");
    buckets.run(&["restore", "latest", "-r", &repository, "--to", &to]).expect(0);
}

#[test]
fn a_run_restores_through_a_connection_without_being_given_its_key() {
    let buckets = Buckets::new();
    buckets.fill();
    let (from, to) = (buckets.address("bucket"), buckets.address("other"));
    buckets.run(&["connection", "add", "pictures", "--bucket", &from]).expect(0);
    buckets.run(&["connection", "add", "copy", "--bucket", &to]).expect(0);
    let run = |arguments: &[&str]| buckets.scene.run(arguments);
    run(&["connection", "add", "disk", "--folder", "."]).expect(0);
    run(&["repo", "add", "r", "--connection", "disk", "--path", "repo"]).expect(0);
    run(&["plan", "create", "daily", "--from", "pictures", "--to", "r"]).expect(0);
    run(&["plan", "run", "daily"]).expect(0);
    run(&["repo", "restore", "r", "latest", "--to-connection", "copy"]).expect(0);
    assert_eq!(buckets.server.object("other", "many/0200").unwrap().bytes, "200");
    // Nothing needs it any more.
    run(&["connection", "rm", "copy"]).expect(0);
    let told = buckets.run(&["repo", "restore", "r", "latest", "--to", &to]).expect(2);
    assert!(told.stderr().contains("--to-connection"), "{}", told.stderr());
}

#[test]
fn the_policy_of_a_target_is_printed() {
    let buckets = Buckets::new();
    let policy = ["connection", "policy", "--bucket", "s3://other/copy", "--for", "target"];
    let printed = buckets.scene.run(policy).expect(0).stdout();
    for action in ["s3:PutObjectTagging", "s3:PutObject", "s3:AbortMultipartUpload", "copy/*"] {
        assert!(printed.contains(action), "{printed}");
    }
}

#[test]
fn older_versions_are_restored_only_if_asked_for() {
    let buckets = Buckets::new();
    let server = &buckets.server;
    for bucket in ["bucket", "other"] {
        server.keep_versions(bucket, true);
    }
    for text in ["one", "two", "three"] {
        server.put("bucket", "k", text);
    }
    server.put("bucket", "gone", "was");
    server.remove("bucket", "gone");
    let (from, to) = (buckets.address("bucket"), buckets.address("other"));
    let asked = ["--s3", "versions=true"];
    let backup = ["backup", &from, "--to", "repo", "--init"];
    buckets.run(&[&backup[..], &asked].concat()).expect(0);
    let plain = format!("{to}/plain");
    let told = buckets.run(&["restore", "latest", "-r", "repo", "--to", &plain]).expect(0);
    let all = format!("{}{}", told.stdout(), told.stderr());
    assert!(all.contains("4 older versions"), "{all}");
    assert_eq!(server.versions("other", "plain/k").len(), 1);
    assert_eq!(server.versions("other", "plain/gone").len(), 0);
    let whole = format!("{to}/whole");
    for _ in 0..2 {
        let restore = ["restore", "latest", "-r", "repo", "--to", &whole];
        buckets.run(&[&restore[..], &asked].concat()).expect(0);
        let texts = |key: &str| -> Vec<Option<String>> {
            let versions = server.versions("other", &format!("whole/{key}")).into_iter();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            versions.map(|version| version.map(|object| text(&object.bytes))).collect()
        };
        assert_eq!(texts("k"), ["one", "two", "three"].map(|text| Some(text.to_owned())));
        assert_eq!(texts("gone"), [Some("was".to_owned()), None]);
    }
    server.keep_versions("other", false);
    let restore = ["restore", "latest", "-r", "repo", "--to", &to];
    let refused = buckets.run(&[&restore[..], &asked].concat());
    assert!(refused.stderr().contains("keeps no"), "{}", refused.stderr());
}
