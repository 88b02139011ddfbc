//! Cases of writes that go on where an earlier one broke off.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::super::not_applicable;
use super::{Restore, TargetFixture, file_step, needs_writing, plan, reader};
use crate::error::{Error, Result};
use crate::model::EntryPath;
use crate::target::{BodyPiece, BodyReader, RestoreSession, Step, VerifyLevel, WriteProgress};
use crate::testing::{MemorySnapshot, PausePoint, random_bytes};
use crate::token::WriteToken;

/// More than targets collect before they write.
const SIZE: usize = 17_000_001;
const NO_TOKENS: &str = "the target tells no tokens";

fn content() -> Bytes {
    let mut bytes = random_bytes(9, SIZE).to_vec();
    // Zeros around the place where it breaks off, as targets may leave them out.
    bytes[SIZE / 2 - 1_000_000..SIZE / 2 + 1_000_000].fill(0);
    bytes.into()
}

/// A restore of one large file, and its path.
fn large_file(fixture: &TargetFixture) -> (Restore, EntryPath) {
    let path = fixture.at("folder/large");
    (fixture.restore(MemorySnapshot::new().with_file(&path, content())), path)
}

/// Writes what comes before the file, then half of it until `end`. Returns how far the target said it
/// was.
async fn write_half(
    restore: &Restore,
    session: &dyn RestoreSession,
    path: &EntryPath,
    end: impl Future<Output = Result<BodyPiece>> + Send + 'static,
    point: &PausePoint,
) -> Option<(u64, WriteToken)> {
    let step = step_of(restore, session, path).await;
    let mut pieces = restore.pieces(&step).await;
    pieces.truncate(pieces.len() / 2);
    let given = pieces.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>();
    let body = stream::iter(pieces).map(Ok).chain(stream::once(end));
    let progress = WriteProgress::new();
    let body = BodyReader::new(body.boxed()).with_progress(&progress);
    assert!(body.wants_tokens());
    tokio::select! {
        written = session.write(&step, body, None) => {
            written.expect_err("a part of a file was taken for the whole");
        }
        () = point.reached() => {}
    }
    let last = progress.last();
    if let Some((bytes, _)) = &last {
        assert!(*bytes <= given, "{bytes} bytes were told of {given}");
    }
    last
}

/// Writes what comes before the file, and returns its step.
async fn step_of(restore: &Restore, session: &dyn RestoreSession, path: &EntryPath) -> Step {
    let steps = plan(session).await;
    let step = file_step(&steps, path);
    for earlier in &steps {
        let is_above = earlier.entry.path != *path && path.starts_with(&earlier.entry.path);
        if is_above && earlier.phase <= step.phase && needs_writing(earlier) {
            restore.write(session, earlier).await;
        }
    }
    step.clone()
}

/// The bytes of a step behind a place, in pieces.
async fn rest(restore: &Restore, step: &Step, from: u64) -> Vec<BodyPiece> {
    let pieces = restore.pieces(step).await.into_iter();
    let rest = pieces.filter_map(|piece| {
        let skipped = from.saturating_sub(piece.offset);
        let skipped = usize::try_from(skipped).expect("a small file");
        let bytes = (skipped < piece.bytes.len()).then(|| piece.bytes.slice(skipped..))?;
        Some(BodyPiece { offset: piece.offset + skipped as u64, bytes })
    });
    rest.collect()
}

/// Goes on in a session of its own, and looks at everything.
async fn go_on(
    fixture: &TargetFixture,
    restore: &Restore,
    path: &EntryPath,
    from: (u64, WriteToken),
) {
    let session = restore.open().await;
    let step = step_of(restore, &*session, path).await;
    let (bytes, token) = from;
    let can = session.can_resume(&step, &token).await;
    assert!(can.expect("a token can be looked at"), "what a token names is gone");
    let body = reader(rest(restore, &step, bytes).await);
    let written = session.write(&step, body, Some(token)).await;
    assert_eq!(written.expect("a write can go on").bytes, step.bytes);
    session.end_phase(step.phase).await.expect("a phase can be ended");
    let verdict = session.verify(&step, VerifyLevel::Bytes).await;
    let verdict = verdict.expect("a step can be verified");
    assert!(!matches!(verdict, crate::target::Verdict::Differs(_)), "{verdict:?}");
    session.finish().await.expect("a restore can be finished");
    fixture.assert_file(path, &content()).await;
    assert_eq!(fixture.probe.files().await.len(), 1);
}

/// Contract 6, 7 and 9.
pub async fn a_broken_off_write_goes_on_from_its_token(fixture: TargetFixture) {
    let (restore, path) = large_file(&fixture);
    let session = restore.open().await;
    let end = async { Err(Error::cancelled()) };
    let told = write_half(&restore, &*session, &path, end, &PausePoint::new()).await;
    session.sync().await.expect("what was written can be made durable");
    assert_eq!(fixture.probe.read(&path).await, None);
    drop(session);
    match told {
        Some(told) => go_on(&fixture, &restore, &path, told).await,
        None => not_applicable(NO_TOKENS),
    }
}

/// Contract 6 and 7.
pub async fn a_dropped_write_goes_on_from_its_token(fixture: TargetFixture) {
    let (restore, path) = large_file(&fixture);
    let session = restore.open().await;
    let point = PausePoint::new();
    let hang = {
        let point = point.clone();
        async move {
            point.pass().await;
            Err(Error::cancelled())
        }
    };
    let told = write_half(&restore, &*session, &path, hang, &point).await;
    assert_eq!(fixture.probe.read(&path).await, None);
    drop(session);
    match told {
        Some(told) => go_on(&fixture, &restore, &path, told).await,
        None => not_applicable(NO_TOKENS),
    }
}

/// Contract 8.
pub async fn a_token_of_something_else_is_refused(fixture: TargetFixture) {
    let (restore, path) = large_file(&fixture);
    let session = restore.open().await;
    let end = async { Err(Error::cancelled()) };
    let told = write_half(&restore, &*session, &path, end, &PausePoint::new()).await;
    let step = step_of(&restore, &*session, &path).await;
    let mut tokens = vec![Vec::new(), b"{}".to_vec(), vec![0xff; 4096]];
    if let Some((_, token)) = &told {
        let bytes = token.as_bytes();
        tokens.push(bytes[..bytes.len() - 1].to_vec());
        // Tokens of another file of the same size.
        let other = fixture.at("folder/other");
        let snapshot = MemorySnapshot::new().with_file(&other, content());
        let elsewhere = fixture.restore(snapshot);
        let session = elsewhere.open().await;
        let step = step_of(&elsewhere, &*session, &other).await;
        assert_refused(&session, &step, token).await;
        session.abort().await.expect("a restore can be aborted");
    }
    for token in tokens {
        assert_refused(&session, &step, &WriteToken::new(token)).await;
    }
    // From the beginning it can be written all the same.
    restore.write(&*session, &step).await;
    session.end_phase(step.phase).await.expect("a phase can be ended");
    if let Some((_, token)) = &told {
        // A step that was done is not gone on with.
        drop(session.can_resume(&step, token).await);
    }
    session.finish().await.expect("a restore can be finished");
    fixture.assert_file(&path, &content()).await;
    assert_eq!(fixture.probe.files().await.len(), 1);
}

async fn assert_refused(session: &Arc<dyn RestoreSession>, step: &Step, token: &WriteToken) {
    let can = session.can_resume(step, token).await;
    assert!(!can.unwrap_or_default(), "a token of something else was taken: {token:?}");
}

/// Contract 7, [`RestoreSession::abort`].
pub async fn abort_removes_what_tokens_name(fixture: TargetFixture) {
    for aborts_later in [false, true] {
        let (restore, path) = large_file(&fixture);
        let mut session = restore.open().await;
        let end = async { Err(Error::cancelled()) };
        let told = write_half(&restore, &*session, &path, end, &PausePoint::new()).await;
        if aborts_later {
            session = restore.open().await;
        }
        session.abort().await.expect("a restore can be aborted");
        fixture.assert_empty().await;
        if let Some((_, token)) = told {
            let session = restore.open().await;
            let step = step_of(&restore, &*session, &path).await;
            assert_refused(&session, &step, &token).await;
        }
    }
}
