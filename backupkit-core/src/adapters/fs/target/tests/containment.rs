//! Nothing leaves the target.

use super::*;

#[tokio::test]
async fn names_that_are_none_are_refused_and_nothing_leaves_the_target() {
    let scene = Scene::new();
    let deep = FakeSnapshot::default()
        .folder(&[b".."])
        .file(&[b"..", b"escaped"], b"bad")
        .file(&[b"../escaped"], b"bad")
        .file(&[b"/escaped"], b"bad")
        .file(&[b"nul\0name"], b"bad")
        .folder(&[b"."])
        .file(&[b".", b"f"], b"bad")
        .folder(&[b"d"])
        .link(&[b"d", b".."], b"/")
        .folder(&[b"d", b"a/../../.."])
        .file(&[b"d", b"a/../../..", b"escaped"], b"bad")
        .file(&[b"d", b""], b"bad")
        .file(&[b"d", b"good"], b"good")
        .file(&[b"nowhere", b"f"], b"bad");
    let done = scene.restore(&deep.shared(), ConflictPolicy::Overwrite).await;
    assert!(done.failures.is_empty(), "{:?}", done.failures);
    let is_refused = |step: &&Step| matches!(step.action, StepAction::Refuse(_));
    assert_eq!(done.steps.iter().filter(is_refused).count(), 12);
    assert_eq!(fs::read(scene.root().join("d/good")).unwrap(), b"good");
    assert_eq!(names(&scene.root()), ["d"]);
    assert_eq!(names(&scene.root().join("d")), ["good"]);
    scene.outside_is_untouched();
}

#[tokio::test]
async fn a_link_of_the_snapshot_is_made_but_never_followed() {
    let scene = Scene::new();
    let outside = scene.folder.path().join("outside");
    let snapshot = FakeSnapshot::default()
        .link(&[b"absolute"], outside.as_os_str().as_encoded_bytes())
        .link(&[b"relative"], b"../outside")
        .folder(&[b"z"])
        .link(&[b"z", b"precious"], b"../../outside/precious")
        .shared();
    scene.restore(&snapshot, ConflictPolicy::Overwrite).await.all_went_well();
    // A second snapshot has folders where the first had links.
    let second = FakeSnapshot::default()
        .folder(&[b"absolute"])
        .file(&[b"absolute", b"precious"], b"overwritten")
        .folder(&[b"relative"])
        .folder(&[b"relative", b"deeper"])
        .file(&[b"relative", b"deeper", b"f"], b"new")
        .folder(&[b"z"])
        .file(&[b"z", b"precious"], b"a file now")
        .shared();
    let done = scene.restore(&second, ConflictPolicy::Overwrite).await;
    assert!(done.failures.is_empty(), "{:?}", done.failures);
    for path in ["/absolute", "/absolute/precious", "/relative/deeper/f"] {
        assert!(matches!(done.action(path), StepAction::Refuse(_)), "{path}");
    }
    assert_eq!(fs::read(scene.root().join("z/precious")).unwrap(), b"a file now");
    assert!(!scene.root().join("z/precious").is_symlink());
    scene.outside_is_untouched();
}

#[tokio::test]
async fn links_planted_at_any_level_do_not_lead_outside() {
    for level in ["a", "a/b", "a/b/f", "a/b/l", "a/b/p"] {
        for policy in [ConflictPolicy::Overwrite, ConflictPolicy::Newer, ConflictPolicy::Rename] {
            let scene = Scene::new();
            let planted = scene.made_root().join(level);
            fs::create_dir_all(planted.parent().unwrap()).unwrap();
            symlink(scene.folder.path().join("outside"), &planted).unwrap();
            let mut snapshot = FakeSnapshot::default()
                .folder(&[b"a"])
                .folder(&[b"a", b"b"])
                .file(&[b"a", b"b", b"f"], b"content")
                .file(&[b"a", b"b", b"precious"], b"overwritten")
                .link(&[b"a", b"b", b"l"], b"f");
            snapshot.add(&[b"a", b"b", b"p"], EntryKind::Fifo, FileMode::FILE, b"");
            let done = scene.restore(&snapshot.shared(), policy).await;
            assert!(done.failures.is_empty(), "{level}: {:?}", done.failures);
            assert!(done.differences.is_empty(), "{level}: {:?}", done.differences);
            scene.outside_is_untouched();
        }
    }
}

#[tokio::test]
async fn a_folder_swapped_for_a_link_during_the_restore_does_not_lead_outside() {
    for n_before in 0..7 {
        let scene = Scene::new();
        let root = scene.made_root();
        let snapshot = FakeSnapshot::default()
            .folder(&[b"a"])
            .folder(&[b"a", b"b"])
            .file(&[b"a", b"b", b"f"], b"content")
            .file(&[b"a", b"b", b"precious"], b"overwritten")
            .link(&[b"a", b"b", b"z"], b"f")
            .shared();
        let session = scene.session(&snapshot, RestoreOptions::default()).await;
        for (index, step) in steps(&session).await.iter().enumerate() {
            if index == n_before {
                fs::create_dir_all(root.join("a")).unwrap();
                fs::rename(root.join("a"), root.join("moved")).unwrap();
                fs::create_dir(root.join("a")).unwrap();
                symlink("../../outside", root.join("a/b")).unwrap();
            }
            // Some fail, some still reach the folder that they had opened inside the target.
            drop(session.write(step, body_of(step, &snapshot), None).await);
        }
        session.finish().await.unwrap();
        scene.outside_is_untouched();
    }
}
