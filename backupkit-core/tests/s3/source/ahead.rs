//! A bucket that was backed up before is listed in several places at the same time.

use std::sync::Arc;
use std::time::Duration;

use backupkit_core::model::{EntryKind, FileMode, FileTime, Metadata};
use backupkit_core::snapshot::SnapshotReader;
use backupkit_core::source::{OpenContext, Source as _, SourceView};
use backupkit_core::testing::MemorySnapshot;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use futures::StreamExt as _;

use super::{Scene, context, entries, list, path};
use crate::scene::BUCKET;

const OBJECTS: usize = 3_000;
const PAGE_KEYS: usize = 20;
const PAGES: u64 = (OBJECTS / PAGE_KEYS) as u64;

fn key(number: usize) -> String {
    format!("{}/{number:06}", number / 1_000)
}

fn scene(options: S3ServerOptions) -> Scene {
    let scene = Scene::with(options.with_page_keys(PAGE_KEYS), |settings| settings);
    for number in 0..OBJECTS {
        scene.server.put(BUCKET, &key(number), "");
    }
    scene
}

/// A snapshot with these keys.
fn parent(keys: impl Iterator<Item = String>) -> Arc<dyn SnapshotReader> {
    let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
    let snapshot = keys.fold(MemorySnapshot::new(), |snapshot, key| {
        let names: Vec<&str> = [BUCKET].into_iter().chain(key.split('/')).collect();
        snapshot.with_node(&path(&names), EntryKind::File, metadata.clone(), "")
    });
    snapshot.into_reader()
}

async fn open(scene: &Scene, parent: Arc<dyn SnapshotReader>) -> Arc<dyn SourceView> {
    let context = OpenContext { parent: Some(parent), ..context() };
    scene.source.open(context).await.unwrap()
}

#[tokio::test]
async fn it_is_asked_for_in_several_places_at_the_same_time_and_hardly_more_often() {
    // Byte by byte, `0-` comes before `0/`: that shows the order.
    let scene = scene(S3ServerOptions::default()).filled(&["0-"]);
    let view = open(&scene, parent((0..OBJECTS).map(key))).await;
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::ListObjects);
    scene.server.add_fault(hold.always());
    let (listed, ()) = tokio::join!(list(&*view, None), async {
        let ahead = async {
            for answered in 0..30 {
                scene.server.held(answered + 1).await;
                scene.server.release(1);
            }
            // Thirty are answered, and more are waited for.
            scene.server.held(30 + 7).await;
        };
        tokio::time::timeout(Duration::from_mins(1), ahead).await.expect("one after the other");
        scene.server.clear_faults();
        scene.server.release(10_000);
    });
    assert_eq!(entries(&listed.unwrap()).len(), OBJECTS + 1);
    let requests = scene.server.counters().requests;
    assert!(requests * 100 <= PAGES * 115, "{requests} requests for {PAGES} pages");
}

#[tokio::test]
async fn it_is_the_same_listing_as_of_one_page_after_the_other() {
    let orders = [S3ServerOptions::default(), S3ServerOptions::default().listing_by_directory()];
    for options in orders {
        let scene = scene(options).filled(&["0", "0-", "0-/x", "1", "1.b/c", "2", "2/x/y"]);
        let paths = |listed: &[_]| entries(listed).into_iter().map(|entry| entry.path).collect();
        let in_turn: Vec<_> = paths(&list(&*scene.open().await, None).await.unwrap());
        for others in [0, 7, 90] {
            let keys = (0..OBJECTS).map(|number| key(number + others * 13));
            let keys = keys.chain(["0-".to_owned(), "1.b/c".to_owned(), "2%".to_owned()]);
            let view = open(&scene, parent(keys)).await;
            let listed = list(&*view, None).await.unwrap();
            let ahead: Vec<_> = paths(&listed);
            assert_eq!(ahead, in_turn, "{others}");
            let middle = &listed[listed.len() / 2];
            let rest: Vec<_> = paths(&list(&*view, Some(&middle.token)).await.unwrap());
            assert!(in_turn.ends_with(&rest) && rest.len() > OBJECTS / 3, "{}", rest.len());
        }
    }
}

#[tokio::test]
async fn a_listing_that_fails_in_one_place_gives_what_comes_before_and_is_no_shorter_one() {
    for failing in [3, 10, 40] {
        let scene = scene(S3ServerOptions::default()).filled(&["0-"]);
        let fault = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
        scene.server.add_fault(fault.on(S3Operation::ListObjects).after(failing).always());
        let view = open(&scene, parent((0..OBJECTS).map(key))).await;
        let mut items = view.list(None);
        let mut last = None;
        let error = loop {
            match items.next().await.expect("not the end") {
                Ok(listed) => last = Some(listed.token),
                Err(error) => break error,
            }
        };
        assert_eq!(error.error.code(), "s3-access-denied");
        scene.server.clear_faults();
        let all = list(&*view, None).await.unwrap().len();
        let rest = list(&*view, last.as_ref()).await.unwrap().len();
        assert!(rest < all, "{rest} of {all}");
    }
}
