use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;

use super::super::test_support::{env, is_root, make_tree};
use super::snapshot_fake::{FakeSnapshot, MTIME};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::model::{Device, EntryKind, EntryPath, FileMode};
use crate::snapshot::SnapshotReader as _;
use crate::store::{AdapterStore, InMemoryAdapterStore};
use crate::target::{
    BodyPiece, BodyReader, ConflictPolicy, RestoreNotes, RestoreOptions, Step, StepAction, Verdict,
    VerifyLevel,
};
use crate::token::CancelToken;

/// A folder with a `target` in it, and beside it what must stay as it is.
struct Scene {
    folder: TempDir,
    store: Arc<InMemoryAdapterStore>,
}

/// What a restore did.
struct Done {
    steps: Vec<Step>,
    warnings: Vec<String>,
    notes: RestoreNotes,
    differences: Vec<String>,
    failures: Vec<Error>,
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/precious"), b"precious").unwrap();
        Self {
            folder,
            store: Arc::new(InMemoryAdapterStore::default()),
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// The target, made already.
    fn made_root(&self) -> PathBuf {
        fs::create_dir_all(self.root()).unwrap();
        self.root()
    }

    async fn session(
        &self,
        snapshot: &Arc<FakeSnapshot>,
        options: RestoreOptions,
    ) -> Arc<dyn RestoreSession> {
        let cx = RestoreContext {
            snapshot: Arc::<FakeSnapshot>::clone(snapshot),
            options,
            store: Arc::<InMemoryAdapterStore>::clone(&self.store),
            cancel: CancelToken::new(),
        };
        FsTarget::new(self.root(), env()).open(cx).await.unwrap()
    }

    async fn restore(&self, snapshot: &Arc<FakeSnapshot>, conflict: ConflictPolicy) -> Done {
        let path = EntryPath::root();
        let session = self
            .session(snapshot, RestoreOptions { path, conflict })
            .await;
        run(&session, snapshot).await
    }

    /// Nothing outside the target was touched.
    fn outside_is_untouched(&self) {
        let outside = self.folder.path().join("outside");
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
        assert_eq!(names(&outside), ["precious"]);
        let expected: &[&str] = if self.root().exists() {
            &["outside", "target"]
        } else {
            &["outside"]
        };
        assert_eq!(names(self.folder.path()), expected);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn options(path: &[&str]) -> RestoreOptions {
    RestoreOptions {
        path: EntryPath::from_names(path),
        conflict: ConflictPolicy::default(),
    }
}

/// The content of a file in pieces of an odd size, the last one first.
fn body(content: &Bytes) -> BodyReader {
    const PIECE: usize = 300_001;
    let pieces = content.chunks(PIECE).enumerate().map(|(index, piece)| {
        Ok(BodyPiece {
            offset: (index * PIECE) as u64,
            bytes: content.slice_ref(piece),
        })
    });
    BodyReader::new(stream::iter(pieces.rev().collect::<Vec<_>>()).boxed())
}

async fn steps(session: &Arc<dyn RestoreSession>) -> Vec<Step> {
    session.plan().try_collect().await.unwrap()
}

fn body_of(step: &Step, snapshot: &FakeSnapshot) -> BodyReader {
    match step.entry.kind {
        EntryKind::File if step.bytes > 0 => body(&snapshot.content(&step.entry.path)),
        _ => BodyReader::empty(),
    }
}

async fn run(session: &Arc<dyn RestoreSession>, snapshot: &FakeSnapshot) -> Done {
    let mut done = Done {
        steps: steps(session).await,
        warnings: Vec::new(),
        notes: RestoreNotes::default(),
        differences: Vec::new(),
        failures: Vec::new(),
    };
    assert!(done.steps.is_sorted_by_key(|step| step.phase));
    for phase in [ENTRIES, HARD_LINKS, FOLDERS] {
        // Steps of one phase may be done in any order; this is the hardest one.
        let of_phase: Vec<_> = done
            .steps
            .iter()
            .filter(|step| step.phase == phase)
            .collect();
        let written = of_phase
            .iter()
            .rev()
            .map(|step| async { session.write(step, body_of(step, snapshot), None).await });
        let written: Vec<_> = stream::iter(written).buffer_unordered(4).collect().await;
        for written in written {
            match written {
                Ok(written) => {
                    done.warnings
                        .extend(written.warnings.iter().map(Error::report));
                }
                Err(error) => done.failures.push(error),
            }
        }
        session.end_phase(phase).await.unwrap();
    }
    for step in &done.steps {
        let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
        if let Verdict::Differs(how) = verdict {
            done.differences
                .push(format!("{}: {how}", step.destination));
        }
    }
    done.notes = session.finish().await.unwrap();
    done
}

impl Done {
    fn all_went_well(&self) {
        assert!(self.failures.is_empty(), "{:?}", self.failures);
        assert!(self.warnings.is_empty(), "{:?}", self.warnings);
        assert!(self.differences.is_empty(), "{:?}", self.differences);
        assert!(self.notes.warnings.is_empty(), "{:?}", self.notes.warnings);
    }

    fn action(&self, path: &str) -> &StepAction {
        let step = self
            .steps
            .iter()
            .find(|step| step.destination.to_string() == path);
        &step.unwrap_or_else(|| panic!("{path} has no step")).action
    }
}

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
    let all: Vec<_> = snapshot
        .walk(&EntryPath::root())
        .try_collect()
        .await
        .unwrap();
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
    assert!(
        sparse.blocks() * 512 < 200_000,
        "{} blocks",
        sparse.blocks()
    );
    scene.outside_is_untouched();

    // Once more over it: nothing is new, and all is as it was.
    let again = scene.restore(&snapshot, ConflictPolicy::Overwrite).await;
    again.all_went_well();
    assert!(
        again
            .steps
            .iter()
            .all(|step| step.action == StepAction::Overwrite)
    );
    assert_eq!(inode("a/x"), inode("z-link-of-x"));
    assert_eq!(names(&scene.root()), names(original.path()));
}

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
    let done = scene
        .restore(&deep.shared(), ConflictPolicy::Overwrite)
        .await;
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
    scene
        .restore(&snapshot, ConflictPolicy::Overwrite)
        .await
        .all_went_well();
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
    assert_eq!(
        fs::read(scene.root().join("z/precious")).unwrap(),
        b"a file now"
    );
    assert!(!scene.root().join("z/precious").is_symlink());
    scene.outside_is_untouched();
}

#[tokio::test]
async fn links_planted_at_any_level_do_not_lead_outside() {
    for level in ["a", "a/b", "a/b/f", "a/b/l", "a/b/p"] {
        for policy in [
            ConflictPolicy::Overwrite,
            ConflictPolicy::Newer,
            ConflictPolicy::Rename,
        ] {
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
            assert!(
                done.differences.is_empty(),
                "{level}: {:?}",
                done.differences
            );
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
            let file = fs::File::options()
                .write(true)
                .open(folder.join(name))
                .unwrap();
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
    assert!(matches!(
        kept.action("/folder/inner/f"),
        StepAction::Refuse(_)
    ));
    assert_eq!(fs::read(other.root().join("folder")).unwrap(), b"a file");

    let third = Scene::new();
    fs::write(third.made_root().join("folder"), b"a file").unwrap();
    third
        .restore(&snapshot, ConflictPolicy::Rename)
        .await
        .all_went_well();
    let renamed = third
        .root()
        .join("folder.restored-20010909T014820Z/inner/f");
    assert_eq!(fs::read(renamed).unwrap(), b"deep");
}

#[tokio::test]
async fn a_resumed_restore_follows_the_decisions_of_the_first() {
    for policy in [
        ConflictPolicy::Skip,
        ConflictPolicy::Rename,
        ConflictPolicy::Overwrite,
    ] {
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
        let options = RestoreOptions {
            path,
            conflict: policy,
        };
        let first = scene.session(&snapshot, options.clone()).await;
        let planned = steps(&first).await;
        for step in &planned[..3] {
            first
                .write(step, body_of(step, &snapshot), None)
                .await
                .unwrap();
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
    let mut snapshot = FakeSnapshot::default()
        .file(&[b"f"], b"content")
        .link(&[b"l"], b"f");
    snapshot.add(&[b"p"], EntryKind::Fifo, FileMode::FILE, b"");
    let snapshot = snapshot.shared();
    let session = scene.session(&snapshot, RestoreOptions::default()).await;
    let planned = steps(&session).await;
    for name in ["f", "l", "p"] {
        fs::write(root.join(name), b"mine").unwrap();
    }
    for step in &planned {
        let error = session
            .write(step, body_of(step, &snapshot), None)
            .await
            .unwrap_err();
        assert!(error.is(ErrorKind::Conflict), "{error}");
    }
    for name in ["f", "l", "p"] {
        assert_eq!(fs::read(root.join(name)).unwrap(), b"mine");
    }
    assert_eq!(names(&root), ["f", "l", "p"]);
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
    session
        .write(&planned[0], body_of(&planned[0], &snapshot), None)
        .await
        .unwrap();
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
        session
            .write(step, body_of(step, &snapshot), None)
            .await
            .unwrap();
        let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
        assert_eq!(verdict, Verdict::Same(VerifyLevel::Bytes));
    }
    let folder = scene.root().join("d");
    fs::remove_file(folder.join("gone")).unwrap();
    let time = fs::metadata(folder.join("bytes"))
        .unwrap()
        .modified()
        .unwrap();
    let file = fs::File::options()
        .write(true)
        .open(folder.join("bytes"))
        .unwrap();
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
        assert!(
            matches!(verdict, Verdict::Differs(_)),
            "{}: {verdict:?}",
            step.destination
        );
    }
    let last = planned.last().unwrap();
    let verdict = session.verify(last, VerifyLevel::Bytes).await.unwrap();
    assert!(
        matches!(verdict, Verdict::Differs(_)),
        "the folder was changed: {verdict:?}"
    );
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
    let session = scene
        .session(&snapshot, options(&["srv", "data", "sub", "f"]))
        .await;
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
        session
            .write(&step, body_of(&step, &snapshot), None)
            .await
            .unwrap();
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
    scene
        .restore(&snapshot, ConflictPolicy::Skip)
        .await
        .all_went_well();
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
    let links: Vec<_> = planned
        .iter()
        .filter(|step| step.phase == HARD_LINKS)
        .collect();
    assert_eq!(links.len(), 2);
    for step in links {
        session
            .write(step, BodyReader::empty(), None)
            .await
            .unwrap_err();
    }
    assert_eq!(names(&other.root()), ["a"]);
}

#[tokio::test]
async fn sockets_and_forbidden_devices_are_told() {
    let scene = Scene::new();
    let mut snapshot = FakeSnapshot::default();
    snapshot.add(&[b"s"], EntryKind::Socket, FileMode::FILE, b"");
    let device = EntryKind::BlockDevice(Device(rustix::fs::makedev(7, 0)));
    snapshot.add(&[b"d"], device, FileMode::from_unix(0o060_600), b"");
    let done = scene
        .restore(&snapshot.shared(), ConflictPolicy::Overwrite)
        .await;
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
    let healthy = FsTarget::new(scene.folder.path().join("new"), env())
        .check()
        .await;
    assert!(healthy.unwrap().is_healthy());
}
