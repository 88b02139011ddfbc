//! Cases of writes that end early or come twice.

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::{OLD, Restore, TargetFixture, file_step, needs_writing, plan, sample};
use crate::error::{Error, ErrorKind, Result};
use crate::model::EntryPath;
use crate::target::{BodyPiece, BodyReader, RestoreSession};
use crate::testing::{PausePoint, random_bytes};

/// Contract 2.
pub async fn a_step_may_be_written_again(fixture: TargetFixture) {
    let restore = fixture.restore(sample(&fixture));
    for _ in 0..2 {
        let session = restore.open().await;
        for step in plan(&*session).await {
            if needs_writing(&step) {
                restore.write(&*session, &step).await;
                restore.write(&*session, &step).await;
            }
        }
    }
    restore.run().await;
    for (name, seed, size) in [("one", 1, 300_000), ("folder/two", 2, 10)] {
        let wanted = random_bytes(seed, size);
        fixture.assert_file(&fixture.at(name), &wanted).await;
    }
    assert_eq!(fixture.probe.files().await.len(), 3);
}

/// Writes what stands above and before a file, then the file with this body until that ends or the
/// point is reached.
async fn write_broken(
    restore: &Restore,
    session: &dyn RestoreSession,
    path: &EntryPath,
    end: impl Future<Output = Result<BodyPiece>> + Send + 'static,
    point: &PausePoint,
) {
    let steps = plan(session).await;
    let step = file_step(&steps, path);
    for earlier in &steps {
        if earlier.phase < step.phase && needs_writing(earlier) {
            restore.write(session, earlier).await;
        }
    }
    let mut pieces = restore.pieces(step).await;
    pieces.truncate(pieces.len() / 2);
    assert!(!pieces.is_empty(), "a file of several pieces");
    let body = stream::iter(pieces).map(Ok).chain(stream::once(end));
    tokio::select! {
        written = session.write(step, BodyReader::new(body.boxed()), None) => {
            written.expect_err("a part of a file was taken for the whole");
        }
        () = point.reached() => {}
    }
}

/// Contract 4.
pub async fn a_dropped_write_leaves_no_partial_file(fixture: TargetFixture) {
    let path = fixture.at("one");
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let point = PausePoint::new();
    let hang = {
        let point = point.clone();
        async move {
            point.pass().await;
            Err(Error::cancelled())
        }
    };
    write_broken(&restore, &*session, &path, hang, &point).await;
    assert_eq!(fixture.probe.read(&path).await, None);
    drop(session);
    // The same restore goes on all the same.
    restore.run().await;
    fixture.assert_file(&path, &random_bytes(1, 300_000)).await;
    assert_eq!(fixture.probe.files().await.len(), 3);
}

/// Contract 4.
pub async fn a_failed_body_leaves_no_partial_file(fixture: TargetFixture) {
    let path = fixture.at("one");
    let there = Bytes::from_static(b"there");
    fixture.probe.put(&path, there.clone(), OLD).await;
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let end = async { Err(Error::corrupt("a blob", "planned")) };
    write_broken(&restore, &*session, &path, end, &PausePoint::new()).await;
    fixture.assert_file(&path, &there).await;
    session.abort().await.expect("a restore can be aborted");
    fixture.assert_file(&path, &there).await;
    assert_eq!(fixture.probe.files().await.len(), 1);
}

/// [`RestoreSession::abort`].
pub async fn abort_keeps_what_is_whole_and_nothing_else(fixture: TargetFixture) {
    let path = fixture.at("one");
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let end = async { Err(Error::new(ErrorKind::Unavailable, "planned")) };
    write_broken(&restore, &*session, &path, end, &PausePoint::new()).await;
    let steps = plan(&*session).await;
    let whole = fixture.at("folder/two");
    restore.write(&*session, file_step(&steps, &whole)).await;
    session.abort().await.expect("a restore can be aborted");
    assert_eq!(fixture.probe.read(&path).await, None);
    if fixture.probe.read(&whole).await.is_some() {
        fixture.assert_file(&whole, &random_bytes(2, 10)).await;
        assert_eq!(fixture.probe.files().await, [whole]);
    } else {
        // A target that publishes all at the end has published nothing.
        fixture.assert_empty().await;
    }
}
