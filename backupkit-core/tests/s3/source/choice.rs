//! Which objects are backed up, where more than the listing tells it.

use std::sync::Arc;
use std::time::Duration;

use backupkit_core::ErrorKind;
use backupkit_core::adapters::s3::{S3Filter, S3Source, S3SourceOptions};
use backupkit_core::source::{OpenContext, Outcome, Source as _, SourceView};
use backupkit_core::testing::ManualClock;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3Server};
use jiff::Timestamp;

use super::{Scene, context, entries, list, read, refused};
use crate::scene::{BUCKET, credentials, env, settings};

/// Objects whose tags differ, and a source that takes some of them.
fn tagged(include: &[&str], exclude: &[&str]) -> Scene {
    let scene = Scene::new();
    for (key, tags) in [("a", "stage=live"), ("b", "stage=test&x=1"), ("c", ""), ("d.tmp", "x=2")] {
        scene.server.put_with(BUCKET, key, key.to_owned(), &[], tags);
    }
    let filter = S3Filter::default().with_tags(include.to_vec(), exclude.to_vec());
    let filter = filter.with_exclude(&["*.tmp"]).unwrap();
    scene.reading(S3SourceOptions::default().with_filter(filter))
}

async fn names(view: &dyn SourceView) -> Vec<String> {
    let listed = entries(&list(view, None).await.unwrap());
    listed.iter().map(|entry| entry.path.to_string()).collect()
}

#[tokio::test]
async fn objects_are_chosen_by_their_tags() {
    for (include, exclude, expected) in [
        (&["stage=live"][..], &[][..], &["/bucket/a"][..]),
        (&["stage"], &[], &["/bucket/a", "/bucket/b"]),
        (&[], &["x"], &["/bucket/a", "/bucket/c"]),
        (&["stage"], &["x=1"], &["/bucket/a"]),
    ] {
        let scene = tagged(include, exclude);
        let view = scene.open().await;
        assert_eq!(names(&*view).await, expected, "{include:?} {exclude:?}");
        let asked = scene.server.counters().of(S3Operation::GetTagging);
        assert_eq!(asked, 3, "what others leave out is not asked about");
        let remarks = view.close(Outcome::Completed).await.unwrap().remarks;
        let left_out = 4 - expected.len();
        assert!(remarks[0].starts_with(&format!("{left_out} objects are left out")), "{remarks:?}");
    }
}

#[tokio::test]
async fn a_listing_goes_on_with_the_same_choice_behind_every_token() {
    let scene = tagged(&["stage"], &[]);
    let view = scene.open().await;
    let listed = list(&*view, None).await.unwrap();
    for (number, one) in listed.iter().enumerate() {
        scene.server.reset_counters();
        let rest = list(&*view, Some(&one.token)).await.unwrap();
        assert_eq!(entries(&rest), entries(&listed[number + 1..]));
        let asked = scene.server.counters().of(S3Operation::GetTagging);
        assert!(asked < 3, "{number}: {asked}, also of what was passed");
    }
}

#[tokio::test]
async fn a_backup_that_may_not_see_the_tags_it_chooses_by_fails() {
    for (status, code, kind) in [
        (403, "AccessDenied", ErrorKind::PermissionDenied),
        (501, "NotImplemented", ErrorKind::Unsupported),
    ] {
        let scene = tagged(&["stage"], &[]);
        let denied = S3Fault::new(S3Effect::refuse(status, code)).on(S3Operation::GetTagging);
        scene.server.add_fault(denied.for_keys_with("b").always());
        let error = refused(&*scene.open().await).await;
        assert_eq!(error.kind(), kind, "{error}");
        if kind == ErrorKind::PermissionDenied {
            assert!(error.report().contains("s3:GetObjectTagging"), "{}", error.report());
        }
    }
}

#[tokio::test]
async fn what_is_gone_before_its_tags_are_asked_for_has_vanished() {
    let scene = tagged(&["stage"], &[]);
    let gone = S3Fault::new(S3Effect::refuse(404, "NoSuchKey")).on(S3Operation::GetTagging);
    scene.server.add_fault(gone.for_keys_with("b"));
    let view = scene.open().await;
    let listed = entries(&list(&*view, None).await.unwrap());
    assert_eq!(listed.len(), 2);
    scene.server.remove(BUCKET, "b");
    let error = read(&*view, &listed[1]).await.unwrap_err();
    assert!(error.is(ErrorKind::NotFound), "{error}");
    let remarks = view.close(Outcome::Completed).await.unwrap().remarks;
    assert!(remarks.iter().any(|one| one.starts_with("b: deleted")), "{remarks:?}");
}

#[tokio::test]
async fn ages_are_those_at_the_beginning_of_a_backup_that_goes_on_later() {
    let server = S3Server::start(BUCKET);
    let written = Timestamp::from_second(1_790_000_000).unwrap();
    server.set_now(written);
    server.put(BUCKET, "a", "x");
    let clock = ManualClock::new(written);
    let day = Duration::from_hours(24);
    let filter = S3Filter::default().with_age(None, Some(day));
    let source = S3Source::new(settings(&server), &credentials(), env(&clock), "host").unwrap();
    let options = S3SourceOptions::default().with_filter(filter).without_bucket_settings();
    let source = source.with_options(options);
    let first = source.open(context()).await.unwrap();
    assert_eq!(names(&*first).await, ["/bucket/a"]);
    clock.advance(2 * day);
    server.set_now(written + 2 * day);
    let resumed = OpenContext { resume: Some(first.token()), ..context() };
    let later: Arc<dyn SourceView> = source.open(resumed).await.unwrap();
    assert_eq!(names(&*later).await, ["/bucket/a"], "it is as old as it was");
    assert_eq!(later.token(), first.token());
    let anew = source.open(context()).await.unwrap();
    assert_eq!(names(&*anew).await, [""; 0]);
}

#[tokio::test]
async fn an_object_that_was_deleted_while_its_tags_were_asked_for_fails_no_listing() {
    for are_kept in [false, true] {
        let scene = tagged(&["stage"], &[]);
        scene.server.keep_versions(BUCKET, are_kept);
        let view = scene.open().await;
        scene.server.add_fault(S3Fault::new(S3Effect::Hold).on(S3Operation::GetTagging));
        let (found, ()) = tokio::join!(names(&*view), async {
            scene.server.held(1).await;
            for key in ["a", "b", "c"] {
                scene.server.remove(BUCKET, key);
            }
            scene.server.release(1);
        });
        assert!(!found.is_empty(), "what is gone is found out when it is read: {found:?}");
    }
}
