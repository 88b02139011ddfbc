//! What is there already.

use super::*;

#[tokio::test]
async fn conflicts_are_settled_by_the_policy() {
    let content = |n: u8| [b'0' + n];
    let snapshot = FakeSnapshot::default()
        .folder(&[b"d"])
        .file(&[b"d", b"newer.txt"], &content(1))
        .file(&[b"d", b"none"], &content(2))
        .file(&[b"d", b"older"], &content(3))
        .shared();
    let suffix = ".restored-20010909T014820Z";
    for policy in [
        ConflictPolicy::Overwrite,
        ConflictPolicy::Skip,
        ConflictPolicy::Newer,
        ConflictPolicy::Rename,
    ] {
        let scene = Scene::new();
        let folder = scene.made_root().join("d");
        fs::create_dir(&folder).unwrap();
        for (name, seconds) in [("newer.txt", MTIME + 10), ("older", MTIME - 10)] {
            fs::write(folder.join(name), b"mine").unwrap();
            let time = std::time::UNIX_EPOCH
                + std::time::Duration::from_secs(u64::try_from(seconds).unwrap());
            let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        let done = scene.restore(&snapshot, policy).await;
        done.all_went_well();
        let read = |name: &str| String::from_utf8(fs::read(folder.join(name)).unwrap()).unwrap();
        let found = [read("newer.txt"), read("none"), read("older")];
        let expected = match policy {
            ConflictPolicy::Overwrite => ["1", "2", "3"],
            ConflictPolicy::Newer => ["mine", "2", "3"],
            ConflictPolicy::Skip | ConflictPolicy::Rename => ["mine", "2", "mine"],
        };
        assert_eq!(found, expected, "{policy:?}");
        assert_eq!(*done.action("/d/none"), StepAction::Create);
        if policy == ConflictPolicy::Rename {
            assert_eq!(read(&format!("newer{suffix}.txt")), "1");
            assert_eq!(read(&format!("older{suffix}")), "3");
        } else {
            assert_eq!(names(&folder).len(), 3);
        }
    }
}

#[tokio::test]
async fn what_is_of_another_type_is_replaced_or_refused() {
    let scene = Scene::new();
    let root = scene.made_root();
    fs::write(root.join("folder"), b"a file").unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("full/of")).unwrap();
    symlink("outside", root.join("link")).unwrap();
    let snapshot = FakeSnapshot::default()
        .folder(&[b"folder"])
        .folder(&[b"folder", b"inner"])
        .file(&[b"folder", b"inner", b"f"], b"deep")
        .file(&[b"empty"], b"was a folder")
        .file(&[b"full"], b"is refused")
        .file(&[b"link"], b"was a link")
        .shared();
    let done = scene.restore(&snapshot, ConflictPolicy::Overwrite).await;
    done.all_went_well();
    assert!(matches!(done.action("/full"), StepAction::Refuse(_)));
    assert_eq!(fs::read(root.join("folder/inner/f")).unwrap(), b"deep");
    assert_eq!(fs::read(root.join("empty")).unwrap(), b"was a folder");
    assert_eq!(fs::read(root.join("link")).unwrap(), b"was a link");
    assert!(root.join("full/of").is_dir());
    scene.outside_is_untouched();

    let other = Scene::new();
    fs::write(other.made_root().join("folder"), b"a file").unwrap();
    let kept = other.restore(&snapshot, ConflictPolicy::Skip).await;
    kept.all_went_well();
    assert!(matches!(kept.action("/folder/inner/f"), StepAction::Refuse(_)));
    assert_eq!(fs::read(other.root().join("folder")).unwrap(), b"a file");

    let third = Scene::new();
    fs::write(third.made_root().join("folder"), b"a file").unwrap();
    third.restore(&snapshot, ConflictPolicy::Rename).await.all_went_well();
    let renamed = third.root().join("folder.restored-20010909T014820Z/inner/f");
    assert_eq!(fs::read(renamed).unwrap(), b"deep");
}

#[tokio::test]
async fn a_resumed_restore_follows_the_decisions_of_the_first() {
    for policy in [ConflictPolicy::Skip, ConflictPolicy::Rename, ConflictPolicy::Overwrite] {
        let scene = Scene::new();
        let root = scene.made_root();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/b"), b"mine").unwrap();
        let snapshot = FakeSnapshot::default()
            .folder(&[b"d"])
            .file(&[b"d", b"a"], b"a")
            .file(&[b"d", b"b"], b"b")
            .file(&[b"d", b"c"], b"c")
            .shared();
        let path = EntryPath::root();
        let options = RestoreOptions { path, conflict: policy, ..Default::default() };
        let first = scene.session(&snapshot, options.clone()).await;
        let planned = steps(&first).await;
        for step in &planned[..3] {
            first.write(step, body_of(step, &snapshot), None).await.unwrap();
        }
        // What the process leaves that is killed while it writes.
        let restore = first_temporary_prefix(&scene, &snapshot, &options);
        fs::write(root.join(format!("d/{restore}0011.tmp")), b"half").unwrap();
        fs::write(root.join("d/.backupkit-other-0011.tmp"), b"not ours").unwrap();
        drop(first);

        let second = scene.session(&snapshot, options).await;
        let done = run(&second, &snapshot).await;
        done.all_went_well();
        let shown = |steps: &[Step]| -> Vec<_> {
            let show = |step: &Step| (step.destination.clone(), step.action.clone(), step.phase);
            steps.iter().map(show).collect()
        };
        assert_eq!(shown(&done.steps), shown(&planned));
        let mut left = names(&root.join("d"));
        left.retain(|name| !name.contains("restored"));
        assert_eq!(left, [".backupkit-other-0011.tmp", "a", "b", "c"]);
        assert!(scene.store.scan("", None, 10).await.unwrap().is_empty());
    }
}

fn first_temporary_prefix(
    scene: &Scene,
    snapshot: &Arc<FakeSnapshot>,
    options: &RestoreOptions,
) -> String {
    let cx = RestoreContext {
        snapshot: Arc::<FakeSnapshot>::clone(snapshot),
        options: options.clone(),
        store: Arc::<InMemoryAdapterStore>::clone(&scene.store),
        cancel: CancelToken::new(),
    };
    session::Session::new(&Arc::from(scene.root()), env(), cx).temporary_prefix()
}

#[tokio::test]
async fn a_plan_alone_writes_nothing_and_binds_nobody() {
    let scene = Scene::new();
    let snapshot = FakeSnapshot::default().file(&[b"f"], b"content").shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    assert_eq!(steps(&session).await[0].action, StepAction::Create);
    assert!(!scene.root().exists());
    drop(session);
    fs::write(scene.made_root().join("f"), b"mine").unwrap();
    let skipped = scene.restore(&snapshot, ConflictPolicy::Skip).await;
    assert_eq!(*skipped.action("/f"), StepAction::Skip);
    assert_eq!(fs::read(scene.root().join("f")).unwrap(), b"mine");
}

#[tokio::test]
async fn what_appears_after_the_plan_is_not_replaced() {
    let scene = Scene::new();
    let root = scene.made_root();
    let mut snapshot = FakeSnapshot::default().file(&[b"f"], b"content").link(&[b"l"], b"f");
    snapshot.add(&[b"p"], EntryKind::Fifo, FileMode::FILE, b"");
    let snapshot = snapshot.shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let planned = steps(&session).await;
    for name in ["f", "l", "p"] {
        fs::write(root.join(name), b"mine").unwrap();
    }
    for step in &planned {
        let error = session.write(step, body_of(step, &snapshot), None).await.unwrap_err();
        assert!(error.is(ErrorKind::Conflict), "{error}");
    }
    for name in ["f", "l", "p"] {
        assert_eq!(fs::read(root.join(name)).unwrap(), b"mine");
    }
    assert_eq!(names(&root), ["f", "l", "p"]);
}

#[tokio::test]
async fn links_of_a_file_that_is_kept_are_files_of_their_own() {
    let mut snapshot = FakeSnapshot::default()
        .file(&[b"a"], b"content")
        .file(&[b"b"], b"content")
        .file(&[b"c"], b"content");
    for name in [b"a", b"b", b"c"] {
        let metadata = snapshot.metadata_mut(&[&name[..]]);
        (metadata.links, metadata.inode, metadata.device_id) = (3, 7, 9);
    }
    let snapshot = snapshot.shared();
    let scene = Scene::new();
    let root = scene.made_root();
    fs::write(root.join("a"), b"mine").unwrap();
    scene.restore(&snapshot, ConflictPolicy::Skip).await.all_went_well();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"mine");
    assert_eq!(fs::read(root.join("b")).unwrap(), b"content");
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("b"), inode("c"));
    assert_ne!(inode("a"), inode("b"));

    // Without their first file, the others are not linked to what happens to stand there.
    let other = Scene::new();
    let session = other.session(&snapshot, RestoreOptions::default()).await;
    let planned = steps(&session).await;
    fs::write(other.made_root().join("a"), b"a stranger").unwrap();
    let links: Vec<_> = planned.iter().filter(|step| step.phase == HARD_LINKS).collect();
    assert_eq!(links.len(), 2);
    for step in links {
        session.write(step, BodyReader::empty(), None).await.unwrap_err();
    }
    assert_eq!(names(&other.root()), ["a"]);
}
