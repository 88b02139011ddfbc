//! Addresses of sources, repositories and targets.

use crate::scene::{Scene, assert_same};

#[test]
fn what_is_not_built_in_is_wrong_usage() {
    let scene = Scene::new();
    for address in ["b2:bucket/prefix", "rest:https://host/bucket", "sftp:host:/srv", "@nas"] {
        let outcome = scene.run(["backup", "src", "--to", address, "--init"]).expect(2);
        assert!(outcome.stderr().contains("not built in"), "{}", outcome.stderr());
        scene.run(["snapshots", "-r", address]).expect(2);
        scene.run(["backup", address, "--to", "repo", "--init"]).expect(2);
    }
    assert!(!scene.path("repo").exists());
}

#[test]
fn credentials_in_an_address_are_refused_and_not_repeated() {
    let scene = Scene::new();
    for arguments in [
        &["snapshots", "-r", "rest:https://user:geheim@host/repo"][..],
        &["backup", "src", "--to", "s3://key:geheim@bucket/x"],
        &["backup", "src", "--too", "s3://key:geheim@bucket/x"],
        &["snapshots", "s3://key:geheim@bucket/x", "-r", "repo"],
        &["snapshots", "s3://key:geheim@bucket/x", "-r", "repo", "--json"],
    ] {
        let outcome = scene.run(arguments).expect(2);
        let shown = outcome.stdout() + &outcome.stderr();
        assert!(!shown.contains("geheim"), "{shown}");
    }
}

#[test]
fn file_addresses_work_everywhere() {
    let scene = Scene::new();
    let root = scene.path("");
    let address = |name: &str| format!("file://{}{name}", root.display());
    scene.run(["backup", &address("src"), "--to", &address("re%20po"), "--init"]).expect(0);
    assert!(scene.path("re po/config").is_file());
    let mut restore = scene.command(["restore", "latest", "--to", &address("out")]);
    let restored = restore.env("BACKUPKIT_REPOSITORY", address("re%20po")).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let inner = scene.path("src");
    let inner = inner.strip_prefix("/").unwrap();
    assert_same(&scene.path("src"), &scene.path("out").join(inner));
}

#[test]
fn a_name_that_looks_like_an_address_is_a_folder_behind_a_dot() {
    let scene = Scene::new();
    scene.run(["backup", "src", "--to", "./s3:repo", "--init"]).expect(0);
    assert!(scene.path("s3:repo/config").is_file());
}
