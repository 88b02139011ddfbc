//! What is listed, and in which order.

use super::*;

#[tokio::test]
async fn a_tree_is_listed_depth_first_in_the_order_of_raw_names() {
    let folder = TempDir::new().unwrap();
    make_tree(&folder.path().join("t"));
    let source = source(folder.path(), &["t"]);
    let items = list(&view(&source).await, None).await;
    assert_eq!(
        lines(&items),
        [
            "/t/a/deep/er/large",
            "/t/a/deep/er/",
            "/t/a/deep/",
            "/t/a/x",
            "/t/a/",
            "/t/a-b/x",
            "/t/a-b/",
            "/t/dangling",
            "/t/empty/",
            "/t/link",
            "/t/nothing",
            "/t/not\\xffutf\\n8",
            "/t/pipe",
            "/t/sparse",
            "/t/z-link-of-x",
            "/t/",
        ]
    );
    let origin = source.origin();
    assert_eq!(origin.scheme, "fs");
    assert_eq!(origin.paths, [folder.path().join("t").to_str().unwrap()]);
}

#[tokio::test]
async fn metadata_is_what_restic_records() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("t");
    make_tree(&tree);
    let items = list(&view(&source(folder.path(), &["t"])).await, None).await;

    let stat = fs::metadata(tree.join("a/x")).unwrap();
    let file = entry_of(&items, "/t/a/x");
    assert_eq!(file.kind, EntryKind::File);
    assert_eq!(file.fingerprint, Fingerprint::Stat);
    assert_eq!(file.size_bytes, 6);
    let metadata = &file.metadata;
    assert_eq!(metadata.extended_attributes, None);
    assert_eq!(metadata.atime, metadata.mtime);
    assert_eq!(metadata.mtime.offset_minutes(), 330);
    assert_eq!(metadata.mtime.unix_seconds(), stat.mtime());
    assert_eq!(i64::from(metadata.ctime.nanoseconds()), stat.ctime_nsec());
    assert_eq!((metadata.inode, metadata.device_id), (stat.ino(), stat.dev()));
    assert_eq!((metadata.uid, metadata.gid), (stat.uid(), stat.gid()));
    assert_eq!(metadata.links, 2);
    if is_root() {
        assert_eq!((&*metadata.user, &*metadata.group), ("root", "root"));
    }
    let other = entry_of(&items, "/t/z-link-of-x").metadata;
    assert_eq!((other.inode, other.links), (metadata.inode, 2));

    let link = entry_of(&items, "/t/dangling");
    let target = b"/no\xff/where".to_vec();
    assert_eq!(link.kind, EntryKind::Symlink { target });
    assert_eq!((link.size_bytes, link.metadata.links), (0, 1));
    assert_eq!(link.metadata.mode.raw(), (1 << 27) | 0o777);
    assert_eq!(link.metadata.extended_attributes, Some(Vec::new()));

    let pipe = entry_of(&items, "/t/pipe");
    assert_eq!((pipe.kind, pipe.metadata.links), (EntryKind::Fifo, 0));
    let special = entry_of(&items, "/t/nothing").metadata.mode;
    assert_eq!(special, FileMode::from_unix(0o104_751));

    let directory = directory_of(&items, "/t/a-b");
    assert_eq!(directory.mode, FileMode::from_unix(0o041_750));
    assert_eq!(directory.links, 0);
    let probe = tree.join("probe");
    fs::write(&probe, b"").unwrap();
    if set_attribute(&probe, "user.a", b"b") {
        let attributes = directory.extended_attributes.unwrap();
        assert_eq!(attributes.len(), 1);
        assert_eq!(attributes[0].name, "user.kind");
        assert_eq!(attributes[0].value, b"folder");
    }
}

#[tokio::test]
async fn listing_after_any_token_gives_exactly_the_rest() {
    let folder = TempDir::new().unwrap();
    make_tree(&folder.path().join("t"));
    make_tree(&folder.path().join("u/v"));
    let source = source(folder.path(), &["t", "u/v/a", "u/v/a-b"]);
    let view = view(&source).await;
    let all = list(&view, None).await;
    let expected = lines(&all);
    assert!(expected.contains(&String::from("/u/v/")));
    for (index, item) in all.iter().enumerate() {
        let token = &item.as_ref().unwrap().token;
        let rest = list(&view, Some(token)).await;
        assert_eq!(lines(&rest), expected[index + 1..]);
    }
    let foreign = list(&view, Some(&ListToken::new(*b"\x09x"))).await;
    assert_eq!(lines(&foreign), ["! invalid-input"]);
}

#[tokio::test]
async fn a_directory_that_vanished_before_a_resume_is_told() {
    let folder = TempDir::new().unwrap();
    make_tree(&folder.path().join("t"));
    let source = source(folder.path(), &["t"]);
    let view = view(&source).await;
    let all = list(&view, None).await;
    let token = &all[0].as_ref().unwrap().token;
    fs::remove_dir_all(folder.path().join("t/a/deep")).unwrap();
    let rest = lines(&list(&view, Some(token)).await);
    assert_eq!(rest[0], "!/t/a/deep not-found");
    assert_eq!(rest[1..3], ["/t/a/x", "/t/a/"]);
}

#[tokio::test]
async fn roots_stand_where_restic_puts_them() {
    let folder = TempDir::new().unwrap();
    let here = folder.path().join("here");
    for path in ["here/foo/one", "here/foo/two", "foo/three", "here/bar"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
        fs::write(folder.path().join(path).join("f"), b"").unwrap();
    }
    let shown = async |roots: &[&str]| lines(&list(&view(&source(&here, roots)).await, None).await);

    assert_eq!(shown(&["foo/one"]).await, ["/foo/one/f", "/foo/one/", "/foo/"]);
    assert_eq!(
        shown(&["./foo/../foo/one/", "foo/one", "../foo/three"]).await,
        ["/foo/one/f", "/foo/one/", "/foo/", "/foo-1/three/f", "/foo-1/three/", "/foo-1/"]
    );
    let content =
        ["/bar/f", "/bar/", "/foo/one/f", "/foo/one/", "/foo/two/f", "/foo/two/", "/foo/"];
    assert_eq!(shown(&["."]).await, content);
    assert_eq!(shown(&[".", "."]).await, content);
    assert_eq!(shown(&["foo/one", "."]).await, content);
    assert_eq!(shown(&["foo", "foo/one"]).await, content[2..]);
    assert_eq!(shown(&["foo/one/f"]).await, ["/foo/one/f", "/foo/one/", "/foo/"]);
    assert_eq!(
        shown(&["..", "bar"]).await,
        [
            "/bar/f",
            "/bar/",
            "/foo/three/f",
            "/foo/three/",
            "/foo/",
            "/here/bar/f",
            "/here/bar/",
            "/here/foo/one/f",
            "/here/foo/one/",
            "/here/foo/two/f",
            "/here/foo/two/",
            "/here/foo/",
            "/here/",
        ]
    );
    let absolute = here.join("foo/one");
    let found = shown(&[absolute.to_str().unwrap()]).await;
    assert_eq!(found[0], format!("{}/f", absolute.display()));
    assert_eq!(found.len(), 1 + absolute.components().count() - 1);
}

#[tokio::test]
async fn directories_above_roots_have_their_own_metadata_and_links_there_are_followed() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("real/x")).unwrap();
    fs::write(folder.path().join("real/x/f"), b"through").unwrap();
    let mode = fs::Permissions::from_mode(0o711);
    fs::set_permissions(folder.path().join("real"), mode).unwrap();
    symlink("real", folder.path().join("way")).unwrap();
    let view = view(&source(folder.path(), &["way/x"])).await;
    let items = list(&view, None).await;
    assert_eq!(lines(&items), ["/way/x/f", "/way/x/", "/way/"]);
    let metadata = directory_of(&items, "/way");
    assert_eq!(metadata.mode, FileMode::from_unix(0o040_711));
    let (_, file) = body(&view, &entry_of(&items, "/way/x/f")).await;
    assert_eq!(file.read_at(0..7).await.unwrap(), "through");
}

#[tokio::test]
async fn a_root_that_is_a_link_is_recorded_and_a_missing_one_is_told() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink("real", folder.path().join("link")).unwrap();
    let found = list(&view(&source(folder.path(), &["link", "gone", "real"])).await, None).await;
    assert_eq!(lines(&found), ["!/gone not-found", "/link", "/real/"]);
    let error = source(folder.path(), &["gone", "away"]).open(open_context()).await;
    assert!(error.unwrap_err().is(ErrorKind::NotFound));
    assert!(FsSource::new(Vec::new(), env(), "host").is_err());
    let probe = source(folder.path(), &["real", "gone"]).check().await.unwrap();
    assert!(!probe.is_healthy());
    assert!(source(folder.path(), &["real"]).check().await.unwrap().is_healthy());
}

#[tokio::test]
async fn excluded_paths_and_sockets_are_left_out_and_named() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("t");
    fs::create_dir_all(tree.join("repo/data")).unwrap();
    fs::create_dir(tree.join("d")).unwrap();
    fs::write(tree.join("d/f"), b"").unwrap();
    symlink("t", folder.path().join("way")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    // The first is known by another path, the second does not exist yet.
    let excluded = vec![folder.path().join("way/repo"), tree.join("d/later")];
    let source = source(folder.path(), &["t"]).with_excluded_paths(excluded);
    let view = view(&source).await;
    fs::create_dir(tree.join("d/later")).unwrap();
    let items = list(&view, None).await;
    assert_eq!(lines(&items), ["/t/d/f", "/t/d/", "/t/"]);
    let notes = view.close(Outcome::Completed).await.unwrap();
    assert_eq!(
        notes.remarks,
        [
            "left out, because it belongs to the backup itself: /t/d/later, /t/repo",
            "left out, because sockets hold no data: /t/socket"
        ]
    );
}

#[tokio::test]
async fn an_unreadable_directory_is_told_and_still_ends() {
    if is_root() {
        // Permissions do not bind this user.
        return;
    }
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("t");
    fs::create_dir_all(tree.join("closed")).unwrap();
    fs::write(tree.join("f"), b"").unwrap();
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let items = list(&view(&source(folder.path(), &["t"])).await, None).await;
    // So that the folder can be removed.
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(lines(&items), ["!/t/closed permission-denied", "/t/closed/", "/t/f", "/t/"]);
}

#[tokio::test]
async fn trees_deeper_than_the_open_directories_are_walked_and_read() {
    let folder = TempDir::new().unwrap();
    let mut path = folder.path().join("t");
    for depth in 0..200 {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("z"), depth.to_string()).unwrap();
        path.push("directory");
    }
    let view = view(&source(folder.path(), &["t"])).await;
    let items = list(&view, None).await;
    let errors = items.iter().filter(|item| item.is_err()).count();
    assert_eq!((items.len(), errors), (400, 0));
    let Ok(Listed { item: ListedItem::Entry(deepest), token }) = &items[0] else {
        panic!("the deepest file comes first");
    };
    let (_, file) = body(&view, deepest).await;
    assert_eq!(file.read_at(0..3).await.unwrap(), "199");
    assert_eq!(lines(&list(&view, Some(token)).await), lines(&items)[1..]);
}

#[tokio::test]
async fn a_directory_moved_away_while_it_is_listed_does_not_lead_astray() {
    let folder = TempDir::new().unwrap();
    let mut path = folder.path().join("t");
    for _ in 0..100 {
        fs::create_dir(&path).unwrap();
        for name in 0..10 {
            fs::write(path.join(format!("a{name}")), b"").unwrap();
        }
        fs::write(path.join("z"), b"").unwrap();
        path.push("directory");
    }
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("z"), b"").unwrap();
    let view = view(&source(folder.path(), &["t"])).await;
    let mut listing = view.list(None);
    let mut items = Vec::new();
    // Directories are entered before their `z`, so this is on the way down.
    for _ in 0..300 {
        items.push(listing.next().await.unwrap());
    }
    let second = folder.path().join("t/directory/directory");
    fs::rename(second.join("directory"), outside.join("moved")).unwrap();
    while let Some(item) = listing.next().await {
        items.push(item);
    }
    let lines = lines(&items);
    let distinct: std::collections::BTreeSet<_> = lines.iter().collect();
    assert_eq!((lines.len(), distinct.len()), (1200, 1200));
    assert!(!lines.iter().any(|line| line.starts_with('!')));
}

#[tokio::test]
async fn a_cancelled_listing_ends_with_that_error() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), b"").unwrap();
    let cx = open_context();
    let cancel = cx.cancel.clone();
    let view = source(folder.path(), &["f"]).open(cx).await.unwrap();
    cancel.cancel();
    let listed: Result<Vec<_>, _> = view.list(None).try_collect().await;
    assert!(listed.unwrap_err().error.is(ErrorKind::Cancelled));
}
