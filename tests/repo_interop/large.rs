//! One large file: the same chunks as restic's, and few new ones after a change at its front.

use std::path::Path;

use crate::support::data;
use crate::support::random::Random;
use crate::{Scene, assert_succeeded};

const LARGE_BYTES: u64 = 3 << 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_3_gib_has_the_same_blobs_in_both_programs() {
    let scene = Scene::new("UTC");
    let Some(restic) = scene.restic("shared") else { return };
    std::fs::create_dir(scene.path("data")).unwrap();
    let file = scene.path("data/large");
    Random::new(9).write_file(&file, LARGE_BYTES);
    let repository = scene.init("shared").await;
    assert_succeeded(&scene.back_up("data", &[&repository]).await);
    let summary = restic.backup(&[Path::new("data")]);
    assert_eq!((&summary["data_blobs"], &summary["tree_blobs"]), (&0.into(), &0.into()));
    data::insert_byte_at_front(&file, b'x');
    let report = scene.back_up("data", &[&repository]).await;
    assert_succeeded(&report);
    let added = report.outputs[0].data_blobs;
    assert!(added <= 3, "one byte at the front added {added} data blobs");
}
