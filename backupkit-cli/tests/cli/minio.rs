//! The program and restic on one server, `MinIO`. `cargo xtask test` starts it and finds restic; without
//! one of them the test says that it is skipped.

use std::process::Command;

use crate::scene::{Outcome, PASSWORD, Scene, assert_same};

/// A prefix of its own in the bucket of the server.
struct Server {
    scene: Scene,
    address: String,
    restic: String,
    id: String,
    secret: String,
}

impl Server {
    fn find(prefix: &str) -> Option<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                eprintln!("SKIPPED: {name} is not set");
            }
            value
        };
        let endpoint = variable("BACKUPKIT_TEST_S3_MINIO")?;
        Some(Self {
            scene: Scene::new(),
            // The folder of a test has a name of its own; so has each process on a server that stays.
            address: format!("s3:{endpoint}/bucket/{prefix}-{}", std::process::id()),
            restic: variable("BACKUPKIT_TEST_RESTIC")?,
            id: variable("BACKUPKIT_TEST_S3_ACCESS_KEY_ID")?,
            secret: variable("BACKUPKIT_TEST_S3_SECRET_ACCESS_KEY")?,
        })
    }

    fn ours(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.scene.command(arguments);
        command
            .env("BACKUPKIT_S3_ACCESS_KEY_ID", &self.id)
            .env("BACKUPKIT_S3_SECRET_ACCESS_KEY", &self.secret);
        Outcome(command.output().unwrap()).expect(0)
    }

    fn restic(&self, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(&self.restic);
        command
            .args(["--repo", &self.address, "--no-cache"])
            .args(arguments)
            .current_dir(self.scene.path(""))
            .env("AWS_ACCESS_KEY_ID", &self.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("RESTIC_PASSWORD", PASSWORD);
        Outcome(command.output().unwrap()).expect(0)
    }
}

#[test]
fn restic_checks_and_restores_what_we_wrote_into_a_bucket() {
    let Some(server) = Server::find("ours") else { return };
    server.scene.write("src/large", vec![7; 9 << 20]);
    for _ in 0..2 {
        server.ours(&["backup", "src", "--to", &server.address, "--init"]);
        server.scene.write("src/new.txt", "new\n");
    }
    // What maintenance leaves beside its files is none of them.
    server.ours(&["connection", "add", "box", "--bucket", &server.address]);
    server.ours(&["repo", "add", "nas", "--connection", "box"]);
    server.ours(&["maintenance", "run"]);
    server.restic(&["check", "--read-data"]);
    std::fs::remove_file(server.scene.path("src/new.txt")).unwrap();
    server.ours(&["backup", "src", "--to", &server.address]);
    server.restic(&["restore", "latest", "--target", "out"]);
    assert_same(&server.scene.path("src"), &server.scene.path("out/src"));
    // It cleans up, and we go on.
    server.restic(&["forget", "--keep-last", "1", "--prune"]);
    server.ours(&["check", "-r", &server.address, "--read-data"]);
    server.ours(&["backup", "src", "--to", &server.address]);
}

#[test]
fn we_check_restore_and_go_on_with_what_restic_wrote_into_a_bucket() {
    let Some(server) = Server::find("restic") else { return };
    server.restic(&["init"]);
    server.restic(&["backup", "src"]);
    server.ours(&["check", "-r", &server.address, "--read-data"]);
    server.ours(&["restore", "latest", "-r", &server.address, "--to", "out"]);
    assert_same(&server.scene.path("src"), &server.scene.path("out/src"));
    server.ours(&["backup", "src", "--to", &server.address]);
    server.restic(&["check", "--read-data"]);
    let listed = server.restic(&["snapshots", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
}
