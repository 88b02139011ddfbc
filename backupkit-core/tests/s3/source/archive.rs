//! Objects that are asked for from an archive.

use backupkit_core::ErrorKind;
use backupkit_core::adapters::s3::{ArchivedObjects, S3SourceOptions, ThawTier};
use backupkit_core::source::Outcome;
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation};

use super::{Scene, attribute, only_entry, read};
use crate::scene::BUCKET;

fn scene() -> Scene {
    let thaw = ArchivedObjects::Thaw { tier: ThawTier::Bulk, days: 3 };
    let scene = Scene::new().reading(S3SourceOptions::default().with_archived(thaw));
    let class = [("x-amz-storage-class", "GLACIER")];
    scene.server.put_with(BUCKET, "cold", "bytes", &class, "");
    scene
}

#[tokio::test]
async fn an_archived_object_is_asked_for_and_read_by_a_later_backup() {
    let scene = scene();
    for _ in 0..2 {
        let view = scene.open().await;
        let entry = only_entry(&*view).await;
        let error = view.body(&entry, None).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unsupported, "s3-thawing"), "{error}");
        assert!(error.to_string().contains("a later backup"), "{error}");
        assert!(!view.concerns_all(&error));
        let notes = view.close(Outcome::Completed).await.unwrap();
        assert_eq!(notes.remarks, ["cold: asked for from the archive, and left to a later backup"]);
    }
    assert_eq!(scene.server.counters().of(S3Operation::RestoreObject), 2);
    scene.server.end_restores(BUCKET);
    let view = scene.open().await;
    let (now, bytes) = read(&*view, &only_entry(&*view).await).await.unwrap();
    assert_eq!(bytes, "bytes");
    assert_eq!(attribute(&now)["sc"], "GLACIER");
    assert_eq!(scene.server.counters().of(S3Operation::RestoreObject), 2, "asked for once more");
}

#[tokio::test]
async fn an_archive_that_gives_nothing_is_told() {
    for (status, code, kind) in [
        (403, "AccessDenied", ErrorKind::PermissionDenied),
        (501, "NotImplemented", ErrorKind::Unsupported),
        (503, "GlacierExpeditedRetrievalNotAvailable", ErrorKind::RateLimited),
    ] {
        let scene = scene();
        let refuse = S3Fault::new(S3Effect::refuse(status, code)).on(S3Operation::RestoreObject);
        scene.server.add_fault(refuse.always());
        let view = scene.open().await;
        let error = view.body(&only_entry(&*view).await, None).await.unwrap_err();
        assert!(error.is(kind), "{error}");
        assert!(!view.concerns_all(&error), "{error}");
        assert!(view.close(Outcome::Completed).await.unwrap().remarks.is_empty());
    }
}
