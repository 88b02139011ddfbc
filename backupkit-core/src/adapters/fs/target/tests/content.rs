//! What comes back.

use super::*;

#[tokio::test]
async fn a_tree_comes_back_with_all_that_is_known_of_it() {
    let scene = Scene::new();
    let original = TempDir::new().unwrap();
    make_tree(original.path());
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    for name in ["a/x", "a", "sparse", "."] {
        let file = fs::File::open(original.path().join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    if is_root() {
        let device = rustix::fs::makedev(1, 3);
        let kind = rustix::fs::FileType::CharacterDevice;
        let mode = rustix::fs::Mode::from_raw_mode(0o620);
        let path = original.path().join("device");
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
        std::os::unix::fs::lchown(original.path().join("link"), Some(12345), Some(54321)).unwrap();
        std::os::unix::fs::chown(original.path().join("nothing"), Some(12345), Some(1)).unwrap();
        let setuid = fs::Permissions::from_mode(0o4751);
        fs::set_permissions(original.path().join("nothing"), setuid).unwrap();
    }
    let snapshot = FakeSnapshot::of(original.path()).await.shared();
    let done = scene.restore(&snapshot, ConflictPolicy::Overwrite).await;
    done.all_went_well();

    let restored = FakeSnapshot::of(&scene.root()).await;
    let all: Vec<_> = snapshot.walk(&EntryPath::root()).try_collect().await.unwrap();
    for entry in all {
        let found = restored.find(&entry.path).await.unwrap().unwrap();
        assert_eq!(found.kind, entry.kind, "{}", entry.path);
        assert_eq!(restored.content(&entry.path), snapshot.content(&entry.path));
        let mut metadata = found.metadata;
        metadata.ctime = entry.metadata.ctime;
        metadata.inode = entry.metadata.inode;
        metadata.device_id = entry.metadata.device_id;
        assert_eq!(metadata, entry.metadata, "{}", entry.path);
    }
    let inode = |name: &str| fs::metadata(scene.root().join(name)).unwrap().ino();
    assert_eq!(inode("a/x"), inode("z-link-of-x"));
    let sparse = fs::metadata(scene.root().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 200_000, "{} blocks", sparse.blocks());
    scene.outside_is_untouched();

    // Once more over it: nothing is new, and all is as it was.
    let again = scene.restore(&snapshot, ConflictPolicy::Overwrite).await;
    again.all_went_well();
    assert!(again.steps.iter().all(|step| step.action == StepAction::Overwrite));
    assert_eq!(inode("a/x"), inode("z-link-of-x"));
    assert_eq!(names(&scene.root()), names(original.path()));
}

#[tokio::test]
async fn an_incomplete_file_leaves_nothing() {
    let scene = Scene::new();
    let content = vec![7; 9_000_000];
    let snapshot = FakeSnapshot::default().file(&[b"f"], &content).shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let planned = steps(&session).await;
    let piece = |offset: u64, length: usize| {
        let bytes = Bytes::from(vec![7; length]);
        Ok(BodyPiece { offset, bytes })
    };
    let failed = || Err(Error::new(ErrorKind::Corrupt, "damaged"));
    for pieces in [
        vec![piece(0, 5_000_000)],
        vec![piece(0, 5_000_000), failed()],
        vec![piece(5_000_000, 5_000_000)],
        vec![piece(u64::MAX, 1)],
        Vec::new(),
    ] {
        let body = BodyReader::new(stream::iter(pieces).boxed());
        let error = session.write(&planned[0], body, None).await.unwrap_err();
        assert!(error.is(ErrorKind::Corrupt), "{error}");
        assert!(names(&scene.root()).is_empty());
    }
    // A dropped call, after its first pieces were written.
    let pieces = stream::iter([piece(0, 5_000_000)]).chain(stream::pending());
    let body = BodyReader::new(pieces.boxed());
    let mut writing = session.write(&planned[0], body, None);
    while names(&scene.root()).is_empty() {
        assert!(futures::poll!(&mut writing).is_pending());
        tokio::task::yield_now().await;
    }
    drop(writing);
    session.abort().await.unwrap();
    while !names(&scene.root()).is_empty() {
        tokio::task::yield_now().await;
    }
    session.write(&planned[0], body_of(&planned[0], &snapshot), None).await.unwrap();
    assert_eq!(fs::read(scene.root().join("f")).unwrap(), content);
}

#[tokio::test]
async fn verification_reads_what_is_really_there() {
    let scene = Scene::new();
    let mut snapshot = FakeSnapshot::default()
        .folder(&[b"d"])
        .file(&[b"d", b"gone"], b"gone")
        .file(&[b"d", b"bytes"], &vec![1; 5_000_000])
        .file(&[b"d", b"size"], b"size")
        .file(&[b"d", b"mode"], b"mode")
        .file(&[b"d", b"type"], b"type")
        .link(&[b"d", b"link"], b"here");
    snapshot.metadata_mut(&[b"d"]).mode = FileMode::from_unix(0o040_700);
    let snapshot = snapshot.shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let planned = steps(&session).await;
    for step in &planned {
        session.write(step, body_of(step, &snapshot), None).await.unwrap();
        let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
        assert_eq!(verdict, Verdict::Same(VerifyLevel::Bytes));
    }
    let folder = scene.root().join("d");
    fs::remove_file(folder.join("gone")).unwrap();
    let time = fs::metadata(folder.join("bytes")).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(folder.join("bytes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\x02", 4_500_000).unwrap();
    file.set_modified(time).unwrap();
    fs::write(folder.join("size"), b"longer").unwrap();
    fs::set_permissions(folder.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    for name in ["type", "link"] {
        fs::remove_file(folder.join(name)).unwrap();
        symlink("elsewhere", folder.join(name)).unwrap();
    }
    for step in planned.iter().filter(|step| step.entry.path.len() == 2) {
        let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
        assert!(matches!(verdict, Verdict::Differs(_)), "{}: {verdict:?}", step.destination);
    }
    let last = planned.last().unwrap();
    let verdict = session.verify(last, VerifyLevel::Bytes).await.unwrap();
    assert!(matches!(verdict, Verdict::Differs(_)), "the folder was changed: {verdict:?}");
}

#[tokio::test]
async fn a_part_of_the_snapshot_goes_to_the_root_of_the_target() {
    let snapshot = FakeSnapshot::default()
        .folder(&[b"srv"])
        .folder(&[b"srv", b"data"])
        .folder(&[b"srv", b"data", b"sub"])
        .file(&[b"srv", b"data", b"sub", b"f"], b"deep")
        .file(&[b"srv", b"data", b"g"], b"flat")
        .file(&[b"srv", b"data-2"], b"not this")
        .shared();
    let scene = Scene::new();
    let session = scene.session(&snapshot, options(&["srv", "data"])).await;
    run(&session, &snapshot).await.all_went_well();
    assert_eq!(names(&scene.root()), ["g", "sub"]);
    assert_eq!(fs::read(scene.root().join("sub/f")).unwrap(), b"deep");

    let scene = Scene::new();
    let session = scene.session(&snapshot, options(&["srv", "data", "sub", "f"])).await;
    run(&session, &snapshot).await.all_went_well();
    assert_eq!(names(&scene.root()), ["f"]);

    let session = scene.session(&snapshot, options(&["srv", "none"])).await;
    let planned: Result<Vec<_>> = session.plan().try_collect().await;
    assert!(planned.unwrap_err().is(ErrorKind::NotFound));
}

#[tokio::test]
async fn folders_that_their_owner_may_not_enter_are_filled_first() {
    let scene = Scene::new();
    let mut snapshot = FakeSnapshot::default()
        .folder(&[b"closed"])
        .folder(&[b"closed", b"inner"])
        .file(&[b"closed", b"inner", b"f"], b"content");
    for names in [&[&b"closed"[..]][..], &[b"closed", b"inner"]] {
        snapshot.metadata_mut(names).mode = FileMode::from_unix(0o040_000);
    }
    let snapshot = snapshot.shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    for step in steps(&session).await {
        session.write(&step, body_of(&step, &snapshot), None).await.unwrap();
    }
    session.finish().await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let closed = scene.root().join("closed");
    assert_eq!(mode(&closed), 0);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(mode(&closed.join("inner")), 0);
    fs::set_permissions(closed.join("inner"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::read(closed.join("inner/f")).unwrap(), b"content");
}

#[tokio::test]
async fn sockets_and_forbidden_devices_are_told() {
    let scene = Scene::new();
    let mut snapshot = FakeSnapshot::default();
    snapshot.add(&[b"s"], EntryKind::Socket, FileMode::FILE, b"");
    let device = EntryKind::BlockDevice(Device(rustix::fs::makedev(7, 0)));
    snapshot.add(&[b"d"], device, FileMode::from_unix(0o060_600), b"");
    let done = scene.restore(&snapshot.shared(), ConflictPolicy::Overwrite).await;
    assert_eq!(*done.action("/s"), StepAction::Skip);
    assert_eq!(done.notes.warnings.len(), 1);
    let is_refused = matches!(done.action("/d"), StepAction::Refuse(_));
    assert_eq!(is_refused, !is_root());
}

#[tokio::test]
async fn a_target_that_is_no_folder_is_told() {
    let scene = Scene::new();
    fs::write(scene.root(), b"a file").unwrap();
    let target = FsTarget::new(scene.root(), env());
    assert!(!target.check().await.unwrap().is_healthy());
    let snapshot = FakeSnapshot::default().file(&[b"f"], b"content").shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let planned: Result<Vec<_>> = session.plan().try_collect().await;
    assert!(planned.unwrap_err().is(ErrorKind::InvalidConfig));
    let healthy = FsTarget::new(scene.folder.path().join("new"), env()).check().await;
    assert!(healthy.unwrap().is_healthy());
}
