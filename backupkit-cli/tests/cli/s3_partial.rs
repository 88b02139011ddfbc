//! A folder and a bucket as the two places of a plan, and one of them fails.

use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server};
use backupkit_core::testing::random_bytes;

use crate::scene::{Scene, assert_same};

const BLOCK_BYTES: usize = 8 << 20;
const BLOCKS: u64 = 20;

#[test]
fn a_bucket_that_fails_half_way_is_made_whole_from_the_folder() {
    let (scene, server) = (Scene::new(), S3Server::start("bucket"));
    for number in 0..BLOCKS {
        let path = scene.path(format!("src/{number}"));
        std::fs::write(path, random_bytes(number, BLOCK_BYTES)).unwrap();
    }
    let address = format!("s3:{}/bucket/backups", server.endpoint());
    let mut add = scene.command(["connection", "add", "cloud", "--bucket", &address]);
    let key = ("BACKUPKIT_S3_ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID);
    let secret = ("BACKUPKIT_S3_SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY);
    assert!(add.envs([key, secret]).output().unwrap().status.success());
    scene.run(["connection", "add", "docs", "--folder", "src"]).expect(0);
    scene.run(["connection", "add", "disk", "--folder", "disk"]).expect(0);
    scene.run(["repo", "add", "near", "--connection", "disk"]).expect(0);
    scene.run(["repo", "add", "far", "--connection", "cloud"]).expect(0);
    let both = ["--to", "near", "--to", "far"];
    scene.run(["plan", "create", "both", "--from", "docs"].into_iter().chain(both)).expect(0);
    // Half of the packs arrive; then the key may write no more of them.
    let revoked = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
    let revoked = revoked.on(S3Operation::PutObject).for_keys_with("/data/").after(4).always();
    server.add_fault(revoked);
    let run = scene.run(["plan", "run", "both", "--json"]).expect(4).json();
    assert_eq!(run["state"], "partial", "{run}");
    let outputs = &run["report"]["outputs"];
    assert!(outputs[0]["snapshot"].is_string() && outputs[1]["snapshot"].is_null(), "{run}");
    let packs = || server.keys("bucket").iter().filter(|key| key.contains("/data/")).count();
    assert_eq!(packs(), 4);
    assert!(server.keys("bucket").iter().all(|key| !key.contains("/snapshots/")), "{run}");
    assert_whole(&scene, "near", "src");
    server.clear_faults();
    // What is missing comes from what is stored: the source has gone on.
    std::fs::rename(scene.path("src"), scene.path("kept")).unwrap();
    std::fs::create_dir(scene.path("src")).unwrap();
    let again = scene.run(["run", "retry", "1", "--follow", "--json"]).expect(0).json();
    assert_eq!(again["state"], "succeeded", "{again}");
    assert_whole(&scene, "far", "kept");
    assert_eq!(server.open_uploads("bucket"), 0);
    assert!(server.keys("bucket").iter().all(|key| !key.contains("/locks/")));
}

/// The newest snapshot of a repository holds what is in this folder.
fn assert_whole(scene: &Scene, repository: &str, folder: &str) {
    let to = format!("back-{repository}");
    scene.run(["repo", "restore", repository, "latest:/", "--to", &to]).expect(0);
    let back = scene.path(&to).join(scene.path("src").strip_prefix("/").unwrap());
    assert_same(&scene.path(folder), &back);
}
