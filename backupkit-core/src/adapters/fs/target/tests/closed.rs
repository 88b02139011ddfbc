//! Folders that their owner may not enter.

use super::*;
use crate::target::WriteProgress;

static CONTENT: [u8; 9_000_000] = [7; 9_000_000];

/// Closed folders in each other, with a large file in the inner one.
fn snapshot() -> Arc<FakeSnapshot> {
    let mut snapshot = FakeSnapshot::default()
        .folder(&[b"a"])
        .folder(&[b"a", b"b"])
        .file(&[b"a", b"b", b"f"], &CONTENT);
    for names in [&[&b"a"[..]][..], &[b"a", b"b"]] {
        snapshot.metadata_mut(names).mode = FileMode::from_unix(0o040_600);
    }
    snapshot.shared()
}

fn is_open(folder: &Path) -> bool {
    fs::metadata(folder).unwrap().permissions().mode() & 0o100 != 0
}

/// Opens the folders, and looks at what is in them.
fn assert_whole(scene: &Scene) {
    let a = scene.root().join("a");
    for folder in [a.clone(), a.join("b")] {
        let found = fs::metadata(&folder).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{}", folder.display());
        assert_eq!(found.mtime(), MTIME, "{}", folder.display());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(names(&a.join("b")), ["f"]);
    assert_eq!(fs::read(a.join("b/f")).unwrap(), CONTENT);
}

/// Leaves a part of the file, as a crash would.
async fn leave_a_part(scene: &Scene, snapshot: &Arc<FakeSnapshot>) {
    let session = scene.session(snapshot, RestoreOptions::default()).await;
    let steps = steps(&session).await;
    let file = steps.iter().find(|step| step.entry.kind == EntryKind::File).unwrap();
    let piece = BodyPiece { offset: 0, bytes: Bytes::from_static(&CONTENT[..6_000_000]) };
    let pieces = stream::iter([Ok(piece), Err(Error::cancelled())]);
    let body = BodyReader::new(pieces.boxed()).with_progress(&WriteProgress::new());
    session.write(file, body, None).await.unwrap_err();
    session.sync().await.unwrap();
    assert_eq!(names(&scene.root().join("a/b")).len(), 1);
}

async fn write_all(session: &Arc<dyn RestoreSession>, snapshot: &FakeSnapshot) {
    let steps = steps(session).await;
    for phase in [ENTRIES, FOLDERS] {
        for step in steps.iter().filter(|step| step.phase == phase) {
            let written = session.write(step, body_of(step, snapshot), None).await.unwrap();
            assert!(written.warnings.is_empty(), "{:?}", written.warnings);
        }
        session.end_phase(phase).await.unwrap();
    }
}

async fn finish(session: &Arc<dyn RestoreSession>) {
    let notes = session.finish().await.unwrap();
    assert!(notes.warnings.is_empty(), "{:?}", notes.warnings);
}

#[tokio::test]
async fn a_resumed_restore_finishes_with_them() {
    if is_root() {
        run_without_rights(module_path!(), "a_resumed_restore_finishes_with_them");
    }
    let (scene, snapshot) = (Scene::new(), snapshot());
    leave_a_part(&scene, &snapshot).await;
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    write_all(&session, &snapshot).await;
    finish(&session).await;
    assert_whole(&scene);
}

#[tokio::test]
async fn they_stay_open_until_the_restore_finishes() {
    if is_root() {
        return run_without_rights(module_path!(), "they_stay_open_until_the_restore_finishes");
    }
    let (scene, snapshot) = (Scene::new(), snapshot());
    leave_a_part(&scene, &snapshot).await;
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    write_all(&session, &snapshot).await;
    session.sync().await.unwrap();
    drop(session);
    // All is done, so the next session only compares.
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    for step in steps(&session).await {
        let verdict = session.verify(&step, VerifyLevel::Bytes).await.unwrap();
        assert!(matches!(verdict, Verdict::Same(_)), "{}: {verdict:?}", step.destination);
    }
    assert!(is_open(&scene.root().join("a/b")));
    finish(&session).await;
    assert_whole(&scene);
}

#[tokio::test]
async fn a_restore_that_was_stopped_while_it_finished_finishes_again() {
    if is_root() {
        run_without_rights(
            module_path!(),
            "a_restore_that_was_stopped_while_it_finished_finishes_again",
        );
    }
    let (scene, snapshot) = (Scene::new(), snapshot());
    leave_a_part(&scene, &snapshot).await;
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    write_all(&session, &snapshot).await;
    let decisions = scene.store.scan("", None, 100).await.unwrap();
    finish(&session).await;
    // It came as far as to close them, and no further.
    for (key, value) in decisions {
        scene.store.put(&key, value, false).await.unwrap();
    }
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    steps(&session).await;
    finish(&session).await;
    assert_whole(&scene);
}

#[tokio::test]
async fn what_goes_wrong_with_them_is_told_by_the_session_that_finishes() {
    if is_root() {
        return run_without_rights(
            module_path!(),
            "what_goes_wrong_with_them_is_told_by_the_session_that_finishes",
        );
    }
    let (scene, snapshot) = (Scene::new(), snapshot());
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    write_all(&session, &snapshot).await;
    fs::remove_dir_all(scene.root().join("a/b")).unwrap();
    session.sync().await.unwrap();
    drop(session);
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    steps(&session).await;
    let notes = session.finish().await.unwrap();
    assert_eq!(notes.warnings.len(), 1, "{:?}", notes.warnings);
    assert!(notes.warnings[0].contains("/a/b"), "{:?}", notes.warnings);
}
