//! A listing is whole, or an error.

use backupkit_core::ErrorKind;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};

use crate::scene::{BUCKET, Scene};

/// Ten objects in pages of three.
fn scene() -> Scene {
    let scene = Scene::with(S3ServerOptions::default().with_page_keys(3), |settings| settings);
    for n in 0..10 {
        scene.server.put(BUCKET, &format!("data/{n}"), "x");
    }
    scene
}

async fn names(scene: &Scene) -> Vec<String> {
    let listed = scene.list("data").await.unwrap();
    listed.into_iter().map(|object| object.key.to_string()).collect()
}

#[tokio::test]
async fn pages_are_joined_in_order() {
    let scene = scene();
    let expected: Vec<String> = (0..10).map(|n| format!("data/{n}")).collect();
    assert_eq!(names(&scene).await, expected);
    assert_eq!(scene.server.counters().of(S3Operation::ListObjects), 4);
}

#[tokio::test]
async fn a_page_that_contradicts_itself_is_asked_for_again() {
    for effect in [S3Effect::ForgetToken, S3Effect::RepeatPage, S3Effect::DropKey] {
        let scene = scene();
        let fault = S3Fault::new(effect.clone()).on(S3Operation::ListObjects).after(1);
        // The page before is not asked for again.
        scene.server.add_fault(fault.times(2));
        assert_eq!(scene.list("data").await.unwrap().len(), 10, "{effect:?}");
        assert_eq!(scene.server.counters().of(S3Operation::ListObjects), 6, "{effect:?}");
    }
}

#[tokio::test]
async fn a_last_page_with_the_keys_of_another_one_is_an_error() {
    let scene = scene();
    let fault = S3Fault::new(S3Effect::RepeatKeys).on(S3Operation::ListObjects);
    scene.server.add_fault(fault.after(3).always());
    let error = scene.list("data").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "s3-listing-incomplete"));
}

#[tokio::test]
async fn a_page_that_is_cut_off_is_never_taken_for_a_whole_one() {
    for options in [S3ServerOptions::default(), S3ServerOptions::default().uncounted()] {
        let scene = Scene::with(options, |settings| settings);
        for n in 0..10 {
            scene.server.put(BUCKET, &format!("data/{n}"), "x");
        }
        scene.list("data").await.unwrap();
        let whole = usize::try_from(scene.server.counters().sent_bytes).unwrap();
        assert!(whole > 1_000);
        for length in (0..whole).step_by(31).chain([whole - 1]) {
            let fault = S3Fault::new(S3Effect::ShortenBody(length)).on(S3Operation::ListObjects);
            scene.server.add_fault(fault.always());
            let error = scene.list("data").await.unwrap_err();
            assert!(error.is(ErrorKind::Unavailable), "{length} of {whole}: {error}");
            scene.server.clear_faults();
        }
    }
}

#[tokio::test]
async fn a_page_that_stays_wrong_is_an_error() {
    let refuse = S3Effect::refuse(500, "InternalError");
    let html = S3Effect::RefuseInHtml { status: 504 };
    for effect in [
        S3Effect::ForgetToken,
        S3Effect::RepeatPage,
        S3Effect::DropKey,
        refuse,
        html,
        S3Effect::Reset,
    ] {
        for page in 0..3 {
            let scene = scene();
            let fault = S3Fault::new(effect.clone()).on(S3Operation::ListObjects);
            scene.server.add_fault(fault.after(page).always());
            let error = scene.list("data").await.unwrap_err();
            assert!(error.is(ErrorKind::Unavailable), "{effect:?} {page}: {error}");
        }
    }
}

#[tokio::test]
async fn keys_that_are_not_ours_are_left_out() {
    let scene = scene();
    for foreign in
        ["data/", "data/\u{1}x", "data/a b", "data//x", "data/Ä+%", "data-2/x", "data/é\n"]
    {
        scene.server.put(BUCKET, foreign, "not ours");
    }
    assert_eq!(names(&scene).await.len(), 10);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_empty_listing() {
    let scene = Scene::with(S3ServerOptions::default(), |mut settings| {
        "other".clone_into(&mut settings.bucket);
        settings
    });
    let error = scene.list("data").await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidConfig, "s3-no-such-bucket"));
    assert_eq!(scene.server.counters().requests, 1);
}

#[tokio::test]
async fn a_page_that_is_out_of_order_is_told_from_one_that_was_given() {
    for page in 0..3 {
        let scene = scene();
        let reverse = S3Fault::new(S3Effect::ReversePage).on(S3Operation::ListObjects).after(page);
        scene.server.add_fault(reverse);
        let mut found = names(&scene).await;
        found.sort();
        assert_eq!(found, (0..10).map(|n| format!("data/{n}")).collect::<Vec<_>>());
        // What was given before is read once more.
        assert_eq!(scene.server.counters().of(S3Operation::ListObjects), 4 + page);
        let repeat = S3Fault::new(S3Effect::RepeatKeys).on(S3Operation::ListObjects);
        let reverse = S3Fault::new(S3Effect::ReversePage).on(S3Operation::ListObjects);
        scene.server.add_fault(reverse.after(page));
        scene.server.add_fault(repeat.after(3 + page).always());
        let error = scene.list("data").await.unwrap_err();
        assert_eq!(error.code(), "s3-listing-incomplete");
    }
}
