//! Large buckets are listed in several places at the same time.

use std::time::Duration;

use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use futures::StreamExt as _;

use super::{Scene, entries, list};
use crate::scene::BUCKET;

const OBJECTS: usize = 3_000;
const PAGE_KEYS: usize = 20;

/// `0-` comes before `0/x` where a server lists by bytes.
fn scene() -> Scene {
    let options = S3ServerOptions::default().with_page_keys(PAGE_KEYS);
    let scene = Scene::with(options, |settings| settings).filled(&["0-", "0/x"]);
    for number in 0..OBJECTS {
        scene.server.put(BUCKET, &format!("{}/{number:06}", number / 1_000), "");
    }
    scene
}

#[tokio::test]
async fn a_large_bucket_is_asked_for_in_several_places_at_the_same_time() {
    let scene = scene();
    let hold = S3Fault::new(S3Effect::Hold).on(S3Operation::ListObjects);
    scene.server.add_fault(hold.always());
    let view = scene.open().await;
    let (listed, ()) = tokio::join!(list(&*view, None), async {
        let ahead = async {
            for answered in 0..12 {
                scene.server.held(answered + 1).await;
                scene.server.release(1);
            }
            // Twelve are answered, and more are waited for.
            scene.server.held(12 + 7).await;
        };
        tokio::time::timeout(Duration::from_mins(1), ahead).await.expect("one after the other");
        scene.server.clear_faults();
        scene.server.release(10_000);
    });
    let listed = listed.unwrap();
    assert_eq!(entries(&listed).len(), OBJECTS + 2);
    let requests = scene.server.counters().requests;
    let pages = (OBJECTS / PAGE_KEYS) as u64;
    assert!(requests <= 2 * pages, "{requests} requests for {pages} pages");
}

#[tokio::test]
async fn it_is_the_same_listing_as_of_one_page_after_the_other() {
    let scene = scene();
    let view = scene.open().await;
    let paths = |listed: &[_]| entries(listed).into_iter().map(|entry| entry.path).collect();
    let ahead: Vec<_> = paths(&list(&*view, None).await.unwrap());
    // Without the two, nothing shows the order.
    scene.server.remove(BUCKET, "0-");
    scene.server.remove(BUCKET, "0/x");
    scene.server.reset_counters();
    let in_turn: Vec<_> = paths(&list(&*view, None).await.unwrap());
    assert_eq!(scene.server.counters().requests, (OBJECTS / PAGE_KEYS) as u64);
    assert_eq!(ahead.len(), in_turn.len() + 2);
    assert!(ahead.iter().filter(|path| in_turn.contains(path)).eq(&in_turn));
}

#[tokio::test]
async fn a_listing_that_fails_in_one_place_gives_what_comes_before_and_is_no_shorter_one() {
    for failing in [3, 10, 40] {
        let scene = scene();
        let fault = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
        scene.server.add_fault(fault.on(S3Operation::ListObjects).after(failing));
        let view = scene.open().await;
        let mut items = view.list(None);
        let mut last = None;
        let error = loop {
            match items.next().await.expect("not the end") {
                Ok(listed) => last = Some(listed.token),
                Err(error) => break error,
            }
        };
        assert_eq!(error.error.code(), "s3-access-denied");
        let all = list(&*view, None).await.unwrap().len();
        let rest = list(&*view, last.as_ref()).await.unwrap().len();
        assert!(rest < all, "{rest} of {all}");
    }
}
