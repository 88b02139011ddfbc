//! Repositories in buckets, on a server in this process.

use std::process::Command;

use backupkit_core::testing::fakes::{S3Operation, S3Server, S3ServerOptions};

use crate::scene::{Outcome, Scene, assert_same};

struct Bucket {
    scene: Scene,
    server: S3Server,
}

impl Bucket {
    fn new() -> Self {
        Self { scene: Scene::new(), server: S3Server::start("bucket") }
    }

    fn versioned() -> Self {
        let server = S3Server::start_with("bucket", S3ServerOptions::default().versioned());
        Self { scene: Scene::new(), server }
    }

    fn address(&self) -> String {
        format!("s3:{}/bucket/backups/nas", self.server.endpoint())
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

    fn assert_restored(&self, to: &str) {
        assert_same(&self.scene.path("src"), &self.scene.path(to).join("src"));
    }
}

#[test]
fn a_repository_in_a_bucket_is_made_filled_checked_and_restored() {
    let bucket = Bucket::new();
    let address = bucket.address();
    bucket.run(&["repo", "init", "-r", &address]).expect(0);
    let backed_up = bucket.run(&["backup", "src", "--to", &address, "--json"]).expect(0).json();
    assert_eq!(backed_up["outputs"][0]["repository"], address.as_str(), "{backed_up}");
    bucket.run(&["check", "-r", &address, "--read-data"]).expect(0);
    bucket.run(&["restore", "latest", "-r", &address, "--to", "out"]).expect(0);
    bucket.assert_restored("out");
    let keys = bucket.server.keys("bucket");
    assert!(keys.contains(&"backups/nas/config".to_owned()), "{keys:?}");
    assert!(keys.iter().all(|key| key.starts_with("backups/nas/")), "{keys:?}");
    // Nobody holds it any more.
    assert!(!keys.iter().any(|key| key.contains("/locks/")), "{keys:?}");
    assert_eq!(bucket.server.open_uploads("bucket"), 0);
}

#[test]
fn a_folder_and_a_bucket_are_filled_at_once() {
    let bucket = Bucket::new();
    let address = bucket.address();
    bucket.run(&["backup", "src", "--to", &address, "--to", "repo", "--init"]).expect(0);
    for (repository, out) in [(address.as_str(), "out1"), ("repo", "out2")] {
        bucket.run(&["restore", "latest", "-r", repository, "--to", out]).expect(0);
        bucket.assert_restored(out);
    }
    bucket.run(&["backup", "src", "--to", &address, "--to", &address]).expect(2);
}

#[test]
fn the_server_may_stand_in_an_option_or_a_variable() {
    let bucket = Bucket::new();
    let endpoint = format!("endpoint={}", bucket.server.endpoint());
    let address = "s3://bucket/x";
    bucket.run(&["backup", "src", "--to", address, "--init", "--s3", &endpoint]).expect(0);
    let mut list = bucket.command(&["snapshots", "-r", address]);
    let listed = list.env("BACKUPKIT_S3", format!("{endpoint},path_style=true")).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
}

#[test]
fn without_a_choice_no_key_is_used() {
    let bucket = Bucket::new();
    let address = bucket.address();
    let with_aws = |arguments: &[&str]| {
        let mut command = bucket.scene.command(arguments);
        command
            .env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY);
        Outcome(command.output().unwrap())
    };
    let refused = with_aws(&["repo", "init", "-r", &address]).expect(2);
    assert!(refused.stderr().contains("auth=environment"), "{}", refused.stderr());
    assert_eq!(bucket.server.counters().requests, 0);
    with_aws(&["repo", "init", "-r", &address, "--s3", "auth=environment"]).expect(0);
    let text = format!(
        "[nas]\naws_access_key_id={}\naws_secret_access_key={}\n",
        S3Server::ACCESS_KEY_ID,
        S3Server::SECRET_ACCESS_KEY
    );
    bucket.scene.write("home/.aws/credentials", text);
    let profile = "auth=profile,profile=nas";
    bucket.scene.run(["snapshots", "-r", &address, "--s3", profile]).expect(0);
}

#[test]
fn wrong_settings_and_keys_are_told() {
    let bucket = Bucket::new();
    let address = bucket.address();
    for (option, word) in [
        ("regoin=x", "regoin"),
        ("storage_class=GLACIER", "archive"),
        ("path_style=maybe", "neither true nor false"),
        ("secret_access_key=geheim", "seen by others"),
        ("auth=magic", "none of keys"),
    ] {
        let refused = bucket.run(&["snapshots", "-r", &address, "--s3", option]).expect(2);
        let told = refused.stderr();
        assert!(told.contains(word) && !told.contains("geheim"), "{told}");
    }
    bucket.server.take_only("another", "key", None);
    let refused = bucket.run(&["snapshots", "-r", &address, "--json"]).json_error();
    assert_eq!(refused["code"], "s3-unknown-key", "{refused}");
}

#[test]
fn a_connection_to_a_bucket_keeps_its_secret_sealed() {
    let bucket = Bucket::new();
    let address = bucket.address();
    bucket.run(&["connection", "add", "nas", "--bucket", &address]).expect(0);
    bucket.run(&["connection", "add", "docs", "--folder", "src"]).expect(0);
    // From now on the state has the key.
    let without_key = |arguments: &[&str]| bucket.scene.run(arguments);
    without_key(&["connection", "test", "nas"]).expect(0);
    without_key(&["repo", "add", "r", "--connection", "nas", "--path", "p"]).expect(0);
    without_key(&["plan", "create", "daily", "--from", "docs", "--to", "r"]).expect(0);
    without_key(&["plan", "run", "daily"]).expect(0);
    assert!(bucket.server.counters().of(S3Operation::PutObject) > 5);
    let listed = without_key(&["connection", "list", "--json"]).expect(0).stdout();
    assert!(listed.contains(S3Server::ACCESS_KEY_ID), "{listed}");
    let shown = listed + &without_key(&["config", "export"]).expect(0).stdout();
    assert!(!shown.contains(S3Server::SECRET_ACCESS_KEY), "{shown}");
    for file in bucket.scene.files("home") {
        let bytes = std::fs::read(&file).unwrap();
        let secret = S3Server::SECRET_ACCESS_KEY.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", file.display());
    }
}

#[test]
fn a_policy_is_printed_for_a_bucket_and_for_a_connection() {
    let bucket = Bucket::new();
    let of_bucket = ["connection", "policy", "--bucket", "s3://box/nas", "--for", "repository"];
    // Without a state, and without a key.
    let policy = bucket.scene.run(of_bucket).expect(0);
    assert!(!bucket.scene.path("home/.local").exists());
    let policy: serde_json::Value = serde_json::from_str(&policy.stdout()).unwrap();
    assert_eq!(policy["Statement"][1]["Resource"][0], "arn:aws:s3:::box/nas/*");
    let address = bucket.address();
    bucket.run(&["connection", "add", "nas", "--bucket", &address]).expect(0);
    let of_connection = ["connection", "policy", "nas", "--for", "maintenance", "--json"];
    let policy = bucket.run(&of_connection).expect(0).json();
    assert_eq!(policy["Statement"][1]["Resource"][0], "arn:aws:s3:::bucket/backups/nas/*");
    bucket.run(&["connection", "policy", "nas"]).expect(2);
    bucket.run(&["connection", "add", "docs", "--folder", "src"]).expect(0);
    let refused = bucket.run(&["connection", "policy", "docs", "--for", "source"]).expect(1);
    assert!(refused.stderr().contains("folder need no policy"), "{}", refused.stderr());
}

#[test]
fn a_repository_that_somebody_deleted_is_read_as_it_was() {
    let bucket = Bucket::versioned();
    let address = bucket.address();
    bucket.run(&["backup", "src", "--to", &address, "--init"]).expect(0);
    bucket.server.set_now("2026-01-01T02:00:00Z".parse().unwrap());
    for key in bucket.server.keys("bucket") {
        bucket.server.remove("bucket", &key);
    }
    bucket.server.put("bucket", "backups/nas/config", "pay, and you get it back");
    bucket.run(&["snapshots", "-r", &address]).expect(13);
    bucket.server.reset_counters();
    let as_it_was = |arguments: &[&str]| {
        let of = ["-r", &address, "--as-of", "2026-01-01T01:00:00Z"];
        bucket.run(&[arguments, &of].concat())
    };
    let listed = as_it_was(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    as_it_was(&["repo", "info"]).expect(0);
    as_it_was(&["ls", "latest", "-R"]).expect(0);
    let checked = as_it_was(&["check", "--read-data"]).expect(0);
    assert!(!checked.stderr().contains("without a lock"), "{}", checked.stderr());
    as_it_was(&["restore", "latest", "--to", "out"]).expect(0);
    bucket.assert_restored("out");
    assert_eq!(bucket.server.counters().of(S3Operation::PutObject), 0);
    assert_eq!(bucket.server.keys("bucket"), ["backups/nas/config"]);
    as_it_was(&["repo", "unlock"]).expect(2);
    let before = ["snapshots", "-r", &address, "--as-of", "2025-12-01"];
    bucket.run(&before).expect(10);
    bucket.run(&["snapshots", "-r", &address, "--as-of", "soon"]).expect(2);
    bucket.run(&["snapshots", "-r", "repo", "--as-of", "2026-01-01"]).expect(1);
}
