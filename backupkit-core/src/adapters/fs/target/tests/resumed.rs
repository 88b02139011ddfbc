//! Large files that are written in several sessions.

use super::*;
use crate::target::WriteProgress;
use crate::token::WriteToken;

const SIZE: usize = 9_000_000;

fn content() -> Vec<u8> {
    (0..SIZE).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

fn snapshot() -> Arc<FakeSnapshot> {
    FakeSnapshot::default().file(&[b"f"], &content()).shared()
}

fn pieces(range: std::ops::Range<usize>) -> Vec<Result<BodyPiece>> {
    let content = Bytes::from(content());
    let starts = range.clone().step_by(1_000_000);
    let piece = |start: usize| {
        let bytes = content.slice(start..range.end.min(start + 1_000_000));
        Ok(BodyPiece { offset: start as u64, bytes })
    };
    starts.map(piece).collect()
}

/// Writes a part, which then ends with this error.
async fn write_part(
    session: &Arc<dyn RestoreSession>,
    step: &Step,
    error: Error,
) -> Option<(u64, WriteToken)> {
    let mut pieces = pieces(0..5_500_000);
    pieces.push(Err(error));
    let progress = WriteProgress::new();
    let body = BodyReader::new(stream::iter(pieces).boxed()).with_progress(&progress);
    session.write(step, body, None).await.unwrap_err();
    progress.last()
}

#[tokio::test]
async fn a_part_that_was_broken_off_waits_and_is_gone_on_with() {
    let scene = Scene::new();
    let snapshot = snapshot();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let step = steps(&session).await.remove(0);
    let (bytes, token) = write_part(&session, &step, Error::cancelled()).await.unwrap();
    assert_eq!(bytes, 5_500_000);
    session.sync().await.unwrap();
    drop(session);
    let left = names(&scene.root());
    assert!(left.len() == 1 && left[0].starts_with(".backupkit-"), "{left:?}");
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let step = steps(&session).await.remove(0);
    assert!(session.can_resume(&step, &token).await.unwrap());
    let body = BodyReader::new(stream::iter(pieces(5_500_000..SIZE)).boxed());
    session.write(&step, body, Some(token.clone())).await.unwrap();
    assert_eq!(fs::read(scene.root().join("f")).unwrap(), content());
    assert_eq!(names(&scene.root()), ["f"]);
    assert!(!session.can_resume(&step, &token).await.unwrap());
}

#[tokio::test]
async fn a_part_that_is_not_gone_on_with_leaves_no_trace() {
    if is_root() {
        run_without_rights(module_path!(), "a_part_that_is_not_gone_on_with_leaves_no_trace");
    }
    let scene = Scene::new();
    let mut snapshot = FakeSnapshot::default().folder(&[b"d"]).file(&[b"d", b"f"], &content());
    snapshot.metadata_mut(&[b"d"]).mode = FileMode::from_unix(0o040_500);
    let snapshot = snapshot.shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let all = steps(&session).await;
    let file = all.iter().find(|step| step.entry.kind == EntryKind::File).unwrap();
    write_part(&session, file, Error::cancelled()).await.unwrap();
    drop(session);
    let folder = scene.root().join("d");
    assert_eq!(names(&folder).len(), 1);
    scene.restore(&snapshot, ConflictPolicy::Overwrite).await.all_went_well();
    assert_eq!(names(&folder), ["f"]);
    assert_eq!(fs::metadata(&folder).unwrap().mtime(), MTIME);
    // So that it can be removed.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_failure_of_the_file_leaves_nothing() {
    let scene = Scene::new();
    let snapshot = snapshot();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let step = steps(&session).await.remove(0);
    write_part(&session, &step, Error::new(ErrorKind::Corrupt, "damaged")).await;
    assert!(names(&scene.root()).is_empty());
}

#[tokio::test]
async fn a_file_that_is_not_the_one_that_was_left_is_not_gone_on_with() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("gone", |left| fs::remove_file(left).unwrap()),
        ("another file", |left| {
            let content = fs::read(left).unwrap();
            fs::write(left.with_extension("other"), content).unwrap();
            fs::rename(left.with_extension("other"), left).unwrap();
        }),
        ("another size", |left| {
            fs::File::options().write(true).open(left).unwrap().set_len(7).unwrap();
        }),
        ("a second name", |left| fs::hard_link(left, left.with_extension("link")).unwrap()),
        ("a link", |left| {
            let outside = left.parent().unwrap().parent().unwrap().join("outside/precious");
            fs::remove_file(left).unwrap();
            symlink(outside, left).unwrap();
        }),
        ("a folder", |left| {
            fs::remove_file(left).unwrap();
            fs::create_dir(left).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let scene = Scene::new();
        let snapshot = snapshot();
        let session = scene.session(&snapshot, RestoreOptions::default()).await;
        let step = steps(&session).await.remove(0);
        let (bytes, token) = write_part(&session, &step, Error::cancelled()).await.unwrap();
        harm(&scene.root().join(&names(&scene.root())[0]));
        assert!(!session.can_resume(&step, &token).await.unwrap(), "{what}");
        let at = usize::try_from(bytes).unwrap();
        let body = BodyReader::new(stream::iter(pieces(at..SIZE)).boxed());
        session.write(&step, body, Some(token)).await.unwrap_err();
        assert!(!scene.root().join("f").exists(), "{what}");
        scene.outside_is_untouched();
    }
}

#[tokio::test]
async fn a_token_leads_nowhere_else() {
    let scene = Scene::new();
    let snapshot = snapshot();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let step = steps(&session).await.remove(0);
    let (_, token) = write_part(&session, &step, Error::cancelled()).await.unwrap();
    let text = String::from_utf8(token.as_bytes().to_vec()).unwrap();
    let name = names(&scene.root()).remove(0);
    for other in ["../outside/precious", "/etc/passwd", "f", "", "..", &format!("./{name}")] {
        let token = WriteToken::new(text.replace(&name, other).into_bytes());
        assert!(!session.can_resume(&step, &token).await.unwrap(), "{other}");
    }
    for (bytes, is_fine) in [("4000000", true), ("9000000", true), ("9000001", false)] {
        let token = WriteToken::new(text.replace("5500000", bytes).into_bytes());
        assert_eq!(session.can_resume(&step, &token).await.unwrap(), is_fine, "{bytes}");
    }
    scene.outside_is_untouched();
}
