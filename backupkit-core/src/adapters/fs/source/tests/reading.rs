//! What is read.

use super::*;

#[tokio::test]
async fn bodies_give_the_bytes_and_the_attributes_of_their_handle() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("t");
    make_tree(&tree);
    let view = view(&source(folder.path(), &["t"])).await;
    let items = list(&view, None).await;
    for path in ["a/x", "a/deep/er/large", "sparse", "nothing"] {
        let content = fs::read(tree.join(path)).unwrap();
        let entry = entry_of(&items, &format!("/t/{path}"));
        let (refreshed, file) = body(&view, &entry).await;
        let length = content.len() as u64;
        assert_eq!(file.len_bytes(), length);
        assert_eq!(file.read_at(0..length).await.unwrap(), content);
        assert_eq!(file.read_at(0..u64::MAX).await.unwrap(), content);
        let half = content.len() / 2;
        assert_eq!(file.read_at(length / 2..length).await.unwrap(), content[half..]);
        assert!(file.read_at(length + 5..length + 9).await.unwrap().is_empty());
        #[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
        let refused = file.read_at(3..2).await;
        assert!(refused.unwrap_err().is(ErrorKind::InvalidInput));
        assert_eq!(file.finish().await.unwrap(), BodyEnd::Consistent);
        assert_eq!(refreshed.path, entry.path);
        assert_eq!(refreshed.metadata.mtime, entry.metadata.mtime);
        let attributes = refreshed.metadata.extended_attributes.unwrap();
        if path == "a/x" && !attributes.is_empty() {
            assert_eq!(attributes[0].value, b"blue\0green");
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_says_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, vec![1; 2_000_000]).unwrap();
    let view = view(&source(folder.path(), &["f"])).await;
    let items = list(&view, None).await;
    let (_, file) = body(&view, &entry_of(&items, "/f")).await;
    file.read_at(0..1000).await.unwrap();
    let open = fs::File::options().write(true).open(&path).unwrap();
    open.set_len(1000).unwrap();
    assert_eq!(file.read_at(0..2_000_000).await.unwrap().len(), 1000);
    assert_eq!(file.finish().await.unwrap(), BodyEnd::Changed);
}

#[tokio::test]
async fn what_took_the_place_of_a_file_is_not_read() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("t");
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(folder.path().join("secret"), b"secret").unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    fs::write(folder.path().join("elsewhere/f"), b"secret").unwrap();
    for name in ["f", "gone", "link", "pipe", "dir"] {
        fs::write(tree.join("d").join(name), b"mine").unwrap();
    }
    let view = view(&source(folder.path(), &["t"])).await;
    let items = list(&view, None).await;
    for name in ["gone", "link", "pipe", "dir"] {
        fs::remove_file(tree.join("d").join(name)).unwrap();
    }
    symlink("../../secret", tree.join("d/link")).unwrap();
    fs::create_dir(tree.join("d/dir")).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(CWD, tree.join("d/pipe"), FileType::Fifo, mode, 0).unwrap();
    for (name, kind) in [
        ("gone", ErrorKind::NotFound),
        ("link", ErrorKind::SourceChanged),
        ("pipe", ErrorKind::SourceChanged),
        ("dir", ErrorKind::SourceChanged),
    ] {
        let entry = entry_of(&items, &format!("/t/d/{name}"));
        let error = view.body(&entry, None).await.unwrap_err();
        assert!(error.is(kind), "{name}: {error}");
    }
    // The directory itself becomes a link to one that has such a file.
    fs::rename(tree.join("d"), tree.join("moved")).unwrap();
    symlink("../elsewhere", tree.join("d")).unwrap();
    let error = view.body(&entry_of(&items, "/t/d/f"), None).await.unwrap_err();
    assert!(error.is(ErrorKind::SourceChanged), "{error}");
}

#[tokio::test]
async fn no_part_of_a_file_that_says_it_is_empty_passes_for_all_of_it() {
    let path = Path::new("/proc/kallsyms");
    if std::fs::read(path).map_or(0, |bytes| bytes.len()) <= 512 << 10 {
        return;
    }
    let source = FsSource::new(vec![path.to_owned()], env(), "host").unwrap();
    let view = view(&source).await;
    let metadata = Metadata::new(FileMode::FILE, crate::model::FileTime::EPOCH);
    let place = EntryPath::from_slashed(path.as_os_str().as_bytes());
    let error = view.body(&Entry::file(place, metadata, 0), None).await.unwrap_err();
    assert!(error.report().contains("says that it is empty"), "{}", error.report());
}

#[tokio::test]
async fn files_that_say_they_are_empty_and_are_not_are_read() {
    let path = Path::new("/proc/self/status");
    if !path.exists() {
        return;
    }
    let source = FsSource::new(vec![path.to_owned()], env(), "host").unwrap();
    let view = view(&source).await;
    let mut entry = Entry::file(
        EntryPath::from_slashed(path.as_os_str().as_bytes()),
        Metadata::new(FileMode::FILE, crate::model::FileTime::EPOCH),
        0,
    );
    entry.fingerprint = Fingerprint::Stat;
    let (refreshed, file) = body(&view, &entry).await;
    assert!(file.len_bytes() > 512);
    assert_eq!(refreshed.size_bytes, file.len_bytes());
}
