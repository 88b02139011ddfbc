//! Checks: nothing whole is called damaged, and no damage stays unseen.

use backupkit::model::SnapshotId;
use backupkit::repo::{CheckOptions, CheckReport, ReadData};
use backupkit::testing::{Fault, MemorySource, Operation, PausePoint};
use backupkit::{CheckRequest, ErrorKind};

use crate::scene::{Scene, path, random};

const STRUCTURE: CheckOptions = CheckOptions { read_data: ReadData::No };
const ALL: CheckOptions = CheckOptions { read_data: ReadData::All };

async fn scene() -> (Scene, SnapshotId) {
    let scene = Scene::new().await;
    let source = MemorySource::new()
        .with_file(&path("large"), random(1, 24 << 20))
        .with_file(&path("a/b/text"), "text ".repeat(100_000))
        .with_file(&path("a/empty"), "")
        .with_link(&path("a/link"), "b");
    let id = scene.back_up(&source).await;
    (scene, id)
}

fn problems(report: &CheckReport) -> Vec<String> {
    assert_eq!(report.finding_count, report.findings.len() as u64);
    assert_eq!(report.is_clean(), report.findings.is_empty());
    report.findings.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_repository_has_no_findings() {
    let (scene, _) = scene().await;
    scene.back_up(&MemorySource::new().with_file(&path("other"), "other")).await;
    let report = scene.check(STRUCTURE).await;
    assert_eq!(problems(&report), [""; 0]);
    assert_eq!((report.snapshots, report.trees, report.read_packs), (2, 4, 0));
    let report = scene.check(ALL).await;
    assert_eq!(problems(&report), [""; 0]);
    let packs = scene.objects("data/");
    assert_eq!(report.packs, packs.len() as u64);
    assert_eq!(report.read_packs, report.packs);
    let bytes: usize = packs.values().map(bytes::Bytes::len).sum();
    assert_eq!(report.read_bytes, bytes as u64);
    assert!(scene.objects("locks/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_together_read_every_pack_once() {
    let (scene, _) = scene().await;
    let mut read = 0;
    for number in 1..=3 {
        let options = CheckOptions { read_data: ReadData::Part { number, of: 3 } };
        read += scene.check(options).await.read_packs;
    }
    assert_eq!(read, scene.objects("data/").len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_damage_is_found_and_named() {
    let (scene, id) = scene().await;
    let pack = scene.longest_pack();
    let bytes = scene.objects("data/")[&pack].clone();

    scene.remove(&pack);
    let found = problems(&scene.check(STRUCTURE).await);
    let name = format!("pack {}: ", pack.name());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{name}it is missing, and with it ")), "{found:?}");

    scene.put(&pack, bytes[1..].to_vec());
    let found = problems(&scene.check(STRUCTURE).await);
    assert_eq!(
        found,
        [format!(
            "{name}it has {} bytes, but by its index it must have {}",
            bytes.len() - 1,
            bytes.len()
        )]
    );

    // What only reading can tell: a blob, the header, and bytes that belong to nothing.
    let mut flipped = bytes.to_vec();
    flipped[100] ^= 1;
    scene.put(&pack, flipped);
    assert_eq!(problems(&scene.check(STRUCTURE).await), [""; 0]);
    let found = problems(&scene.check(ALL).await);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(&format!("{name}data blob ")), "{found:?}");
    assert_eq!(found[1], format!("{name}its bytes do not fit its name"));

    let mut flipped = bytes.to_vec();
    flipped[bytes.len() - 30] ^= 1;
    scene.put(&pack, flipped);
    let found = problems(&scene.check(ALL).await);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("header: the authentication code does not match"), "{found:?}");

    scene.put(&pack, bytes.to_vec());
    assert_eq!(problems(&scene.check(ALL).await), [""; 0]);

    let (snapshot, _) = scene.objects("snapshots/").pop_first().unwrap();
    assert_eq!(snapshot.name(), id.to_string());
    scene.flip(&snapshot, 40);
    let found = problems(&scene.check(STRUCTURE).await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("snapshot {id}: ")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tree_is_found_with_its_path() {
    let (scene, id) = scene().await;
    scene.flip(&scene.shortest_pack(), 20);
    let found = problems(&scene.check(STRUCTURE).await);
    assert_eq!(found.len(), 1, "{found:?}");
    let place = format!(" in snapshot {}, /a/b: ", id.short());
    assert!(found[0].starts_with("tree ") && found[0].contains(&place), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_no_index_names_are_found_by_the_files_that_need_them() {
    let (scene, _) = scene().await;
    let source = MemorySource::new().with_file(&path("second"), random(9, 3 << 20));
    scene.back_up(&source).await;
    let indexes = scene.objects("index/");
    assert_eq!(indexes.len(), 2);
    for (key, bytes) in indexes {
        scene.remove(&key);
        let report = scene.check(ALL).await;
        assert!(!report.is_clean());
        let found = problems(&report);
        assert!(found.iter().all(|one| one.contains("no index")), "{found:?}");
        let notes = &report.notes;
        assert!(notes.iter().any(|note| note.contains("are in no index")), "{notes:?}");
        scene.put(&key, bytes.to_vec());
    }
    let (key, _) = scene.objects("index/").pop_first().unwrap();
    scene.flip(&key, 60);
    let found = problems(&scene.check(STRUCTURE).await);
    assert!(found[0].starts_with(&format!("index {}: ", key.name())), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_in_no_index_are_a_note() {
    let (scene, _) = scene().await;
    let (key, bytes) = scene.objects("data/").pop_first().unwrap();
    let mut name = key.name().to_owned();
    name.replace_range(10..14, "0000");
    let key = format!("data/{}/{name}", &name[..2]);
    scene.put(&backupkit::destination::ObjectKey::new(key).unwrap(), bytes[..80].to_vec());
    let report = scene.check(ALL).await;
    assert!(report.is_clean());
    assert!(report.notes[0].starts_with("1 packs of 80 bytes are in no index"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_damaged_on_their_way_are_no_finding() {
    let (scene, _) = scene().await;
    let flip = || Fault::flip_bit().on(Operation::Get).with_prefix("data/");
    scene.faults.add(flip());
    scene.faults.add(flip().at_call(4));
    assert_eq!(problems(&scene.check(ALL).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_out_of_reach_is_an_error_and_no_finding() {
    let (scene, _) = scene().await;
    scene.faults.add(Fault::fail(ErrorKind::Unavailable).with_prefix("data/").forever());
    let request = CheckRequest::new(scene.repository.clone()).with_read_data();
    let error = scene.engine.check(request).wait().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(scene.objects("locks/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_stops_when_told_and_gives_its_lock_up() {
    let (scene, _) = scene().await;
    let point = PausePoint::new();
    scene.faults.add(Fault::pause(&point).on(Operation::Get).with_prefix("data/").forever());
    let run = scene.engine.check(CheckRequest::new(scene.repository.clone()).with_read_data());
    point.reached().await;
    run.cancel();
    assert_eq!(run.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(scene.objects("locks/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_writes_is_checked_without_a_lock() {
    let (scene, _) = scene().await;
    scene.faults.add(Fault::fail(ErrorKind::PermissionDenied).on(Operation::Create).forever());
    assert!(scene.check(STRUCTURE).await.is_clean());
}
