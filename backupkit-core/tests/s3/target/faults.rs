//! Servers and networks that fail, and restores that are stopped.

use std::sync::Arc;

use backupkit_core::snapshot::SnapshotReader;
use backupkit_core::target::{
    BodyReader, ConflictPolicy, RestoreSession, Step, Verdict, VerifyLevel, WriteProgress,
};
use backupkit_core::testing::fakes::{S3Effect, S3Fault, S3Operation, S3ServerOptions};
use backupkit_core::testing::random_bytes;
use backupkit_core::{ErrorKind, WriteToken};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Place, body, broken_body, bucket_snapshot, pieces, rest_of_body, with_object};
use crate::scene::BUCKET;

const LEN_BYTES: usize = (17 << 20) + 5;

fn large() -> Bytes {
    random_bytes(7, LEN_BYTES)
}

/// A restore of one large object, and its step.
async fn begin(place: &Place) -> (Arc<dyn SnapshotReader>, Arc<dyn RestoreSession>, Step) {
    let snapshot = with_object(bucket_snapshot(), "large", large(), r#"{"v":1}"#).into_reader();
    let session = place.open(&place.target(|settings| settings), &snapshot).await.unwrap();
    let mut steps: Vec<Step> = session.plan().try_collect().await.unwrap();
    (snapshot, session, steps.remove(0))
}

#[tokio::test]
async fn trouble_is_waited_out_whatever_the_policy() {
    use S3Operation::{CompleteUpload, CreateUpload, PutObject, UploadPart};
    for policy in [ConflictPolicy::Overwrite, ConflictPolicy::Skip, ConflictPolicy::Rename] {
        let place = Place::new().with_policy(policy);
        for (operation, key) in
            [(PutObject, "small"), (CreateUpload, "l"), (UploadPart, "l"), (CompleteUpload, "l")]
        {
            let fault = |effect| S3Fault::new(effect).on(operation).for_keys_with(key);
            place.server.add_fault(fault(S3Effect::slow_down()));
            place.server.add_fault(fault(S3Effect::Reset).after(1));
            place.server.add_fault(fault(S3Effect::refuse(503, "ServiceUnavailable")).after(2));
            place.server.add_fault(fault(S3Effect::LoseReply).after(3));
        }
        let snapshot = with_object(bucket_snapshot(), "small", "bytes", r#"{"v":1}"#);
        let snapshot = with_object(snapshot, "large", large(), r#"{"v":1}"#);
        place.restore(snapshot).await.assert_fine();
        assert!(place.bytes("large").unwrap() == large(), "{policy:?}");
        assert_eq!(place.bytes("small").unwrap(), "bytes");
    }
}

#[tokio::test]
async fn what_is_damaged_on_the_way_is_sent_again() {
    let place = Place::new();
    let damaged = S3Fault::new(S3Effect::refuse(400, "BadDigest")).on(S3Operation::PutObject);
    place.server.add_fault(damaged.for_keys_with("xyz").times(2));
    let snapshot = with_object(bucket_snapshot(), "xyz", "bytes", r#"{"v":1}"#);
    place.restore(snapshot).await.assert_fine();
}

#[tokio::test]
async fn an_object_that_cannot_be_written_leaves_nothing_and_the_rest_goes_on() {
    let place = Place::new();
    let refuse = |operation, key| {
        let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
        refuse.on(operation).for_keys_with(key).always()
    };
    place.server.add_fault(refuse(S3Operation::UploadPart, "large"));
    place.server.add_fault(refuse(S3Operation::CompleteUpload, "other"));
    let mut snapshot = bucket_snapshot();
    for path in ["large", "other"] {
        snapshot = with_object(snapshot, path, large(), r#"{"v":1}"#);
    }
    let snapshot = with_object(snapshot, "small", "bytes", r#"{"v":1}"#);
    let restored = place.restore(snapshot).await;
    for path in ["large", "other"] {
        assert!(restored.error(path).is(ErrorKind::PermissionDenied));
    }
    assert_eq!(place.server.keys(BUCKET), ["small"]);
}

#[tokio::test]
async fn bytes_that_are_too_few_or_too_many_make_no_object() {
    for extra in [false, true] {
        let place = Place::new();
        let (snapshot, session, step) = begin(&place).await;
        let mut given = pieces(&*snapshot, &step).await;
        if extra {
            let mut more = given[0].clone();
            more.offset = LEN_BYTES as u64;
            given.push(more);
        } else {
            given.pop();
        }
        let given = BodyReader::new(stream::iter(given).map(Ok).boxed());
        let error = session.write(&step, given, None).await.unwrap_err();
        assert!(error.is(ErrorKind::Corrupt), "{error:?}");
        assert_eq!(place.bytes("large"), None);
        assert_eq!(place.server.open_uploads(BUCKET), 0);
    }
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing_unless_somebody_comes_back() {
    let place = Place::new();
    let (snapshot, session, step) = begin(&place).await;
    let half = broken_body(&*snapshot, &step, 100, None).await;
    session.write(&step, half, None).await.unwrap_err();
    assert_eq!(place.server.open_uploads(BUCKET), 0);
    let progress = WriteProgress::new();
    let half = broken_body(&*snapshot, &step, 100, Some(&progress)).await;
    session.write(&step, half, None).await.unwrap_err();
    assert_eq!(place.server.open_uploads(BUCKET), 1);
    assert_eq!(progress.last().unwrap().0, 8 << 20);
    session.abort().await.unwrap();
    assert_eq!(place.server.open_uploads(BUCKET), 0);
    assert_eq!(place.bytes("large"), None);
}

#[tokio::test]
async fn an_upload_that_is_dropped_goes_with_the_restore() {
    for (operation, aborts) in [
        (S3Operation::UploadPart, true),
        (S3Operation::UploadPart, false),
        (S3Operation::CompleteUpload, true),
    ] {
        let place = Place::new();
        let (snapshot, session, step) = begin(&place).await;
        let hold = S3Fault::new(S3Effect::Hold).on(operation).for_keys_with("large");
        place.server.add_fault(hold.always());
        let given = body(&*snapshot, &step).await;
        tokio::select! {
            _ = session.write(&step, given, None) => panic!("it cannot end"),
            () = place.server.held(1) => {}
        }
        assert_eq!(place.server.open_uploads(BUCKET), 1);
        place.server.clear_faults();
        // Another process knows of it by the store.
        drop(session);
        let (_, session, _) = begin(&place).await;
        if aborts {
            session.abort().await.unwrap();
        } else {
            session.finish().await.unwrap();
        }
        assert_eq!(place.server.open_uploads(BUCKET), 0);
        assert_eq!(place.bytes("large"), None);
    }
}

#[tokio::test]
async fn an_upload_whose_name_was_lost_is_found_again() {
    let place = Place::new();
    let (snapshot, session, step) = begin(&place).await;
    let hold = S3Fault::new(S3Effect::LoseReply).on(S3Operation::CreateUpload);
    place.server.add_fault(hold);
    session.write(&step, body(&*snapshot, &step).await, None).await.unwrap();
    assert!(place.bytes("large").unwrap() == large());
    assert_eq!(place.server.open_uploads(BUCKET), 0);
}

/// Writes half of the object, and returns how far the target said it was.
async fn write_half(
    snapshot: &dyn SnapshotReader,
    session: &dyn RestoreSession,
    step: &Step,
) -> (u64, WriteToken) {
    let progress = WriteProgress::new();
    let half = broken_body(snapshot, step, 100, Some(&progress)).await;
    session.write(step, half, None).await.unwrap_err();
    progress.last().unwrap()
}

#[tokio::test]
async fn a_restore_goes_on_behind_the_parts_that_the_server_has() {
    let place = Place::new();
    let (snapshot, session, step) = begin(&place).await;
    let (bytes, token) = write_half(&*snapshot, &*session, &step).await;
    drop(session);
    let (_, session, step) = begin(&place).await;
    assert!(session.can_resume(&step, &token).await.unwrap());
    place.server.reset_counters();
    let rest = rest_of_body(&*snapshot, &step, bytes).await;
    let written = session.write(&step, rest, Some(token)).await.unwrap();
    assert_eq!(written.bytes, LEN_BYTES as u64);
    // Of those, the last one and one that is tried.
    assert!(place.server.counters().received_bytes < 10 << 20);
    assert!(place.bytes("large").unwrap() == large());
    session.finish().await.unwrap();
    assert_eq!(place.server.open_uploads(BUCKET), 0);
}

#[tokio::test]
async fn a_token_of_parts_that_are_gone_is_of_no_use() {
    let place = Place::new();
    let (snapshot, session, step) = begin(&place).await;
    let (_, token) = write_half(&*snapshot, &*session, &step).await;
    session.abort().await.unwrap();
    assert!(!session.can_resume(&step, &token).await.unwrap());
    let error = session.write(&step, BodyReader::empty(), Some(token)).await.unwrap_err();
    assert!(error.is(ErrorKind::Conflict), "{error:?}");
}

#[tokio::test]
async fn a_comparison_reads_what_no_checksum_proves() {
    for checksums in [true, false] {
        let place = Place::new();
        let target = place.target(
            |settings| {
                if checksums { settings } else { settings.without_checksums() }
            },
        );
        let snapshot = with_object(bucket_snapshot(), "a", "bytes", r#"{"v":1}"#);
        let snapshot = with_object(snapshot, "b", "bytes", r#"{"v":1}"#).into_reader();
        let session = place.open(&target, &snapshot).await.unwrap();
        let steps: Vec<Step> = session.plan().try_collect().await.unwrap();
        for step in &steps {
            session.write(step, body(&*snapshot, step).await, None).await.unwrap();
        }
        place.server.put(BUCKET, "b", "other");
        for level in [VerifyLevel::Checksum, VerifyLevel::Bytes] {
            let verdict = session.verify(&steps[0], level).await.unwrap();
            assert_eq!(verdict, Verdict::Same(level));
            let verdict = session.verify(&steps[1], level).await.unwrap();
            assert!(matches!(verdict, Verdict::Differs(_)), "{verdict:?}");
        }
        place.server.remove(BUCKET, "a");
        let verdict = session.verify(&steps[0], VerifyLevel::Count).await.unwrap();
        assert_eq!(verdict, Verdict::Differs("it is missing".to_owned()));
    }
}

#[tokio::test]
async fn a_check_leaves_nothing_and_names_what_is_missing() {
    use backupkit_core::target::RestoreTarget as _;
    let options = S3ServerOptions::default().without_header("x-amz-tagging");
    for (place, skipped) in [(Place::new(), 0), (Place::with(options), 1)] {
        let probe = place.target(|settings| settings.with_prefix("p")).check().await.unwrap();
        assert!(probe.is_healthy(), "{probe:?}");
        let found = probe.steps.iter().filter(|step| step.outcome.reason().is_some()).count();
        assert_eq!(found, skipped, "{probe:?}");
        assert!(place.server.keys(BUCKET).is_empty());
        let refuse = S3Fault::new(S3Effect::refuse(403, "AccessDenied"));
        place.server.add_fault(refuse.on(S3Operation::PutObject).always());
        let probe = place.target(|settings| settings).check().await.unwrap();
        assert!(!probe.is_healthy(), "{probe:?}");
    }
}
