//! The contract of [`RestoreTarget`] and [`RestoreSession`], case by case.

mod interrupted;

pub use interrupted::{
    a_dropped_write_leaves_no_partial_file, a_failed_body_leaves_no_partial_file,
    a_step_may_be_written_again, abort_keeps_what_is_whole_and_nothing_else,
};

mod resumed;

pub use resumed::{
    a_broken_off_write_goes_on_from_its_token, a_dropped_write_goes_on_from_its_token,
    a_token_of_something_else_is_refused, abort_removes_what_tokens_name,
};

mod many;

pub use many::steps_done_in_one_go_are_as_those_done_one_by_one;

mod conflict;

pub use conflict::{
    newer_replaces_only_what_is_older, overwrite_replaces_what_differs,
    rename_restores_beside_what_is_there, skip_keeps_what_is_there,
};

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::{KeepAlive, not_applicable};
use crate::error::Result;
use crate::model::{EntryKind, EntryPath, FileTime};
use crate::snapshot::SnapshotReader;
use crate::store::InMemoryAdapterStore;
use crate::target::{
    BodyPiece, BodyReader, ConflictPolicy, Phase, RestoreContext, RestoreOptions, RestoreSession,
    RestoreTarget, Step, StepAction, Verdict, VerifyLevel,
};
use crate::testing::{MemorySnapshot, random_bytes};
use crate::token::CancelToken;

/// Makes one test for each line of the contract of
/// [`RestoreTarget`](crate::target::RestoreTarget) and
/// [`RestoreSession`](crate::target::RestoreSession), in a module `$name`. `$fixture` is an async
/// closure that returns an empty target as a
/// [`TargetFixture`](crate::testing::conformance::TargetFixture), for each test a new one.
#[macro_export]
macro_rules! target_conformance {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__conformance_tests! { target, $name, $fixture;
            check_is_healthy_and_leaves_nothing
            capabilities_are_constant
            plan_names_every_entry_and_writes_nothing
            phases_ascend
            planning_twice_gives_the_same_steps
            a_resumed_restore_keeps_its_decisions
            files_of_all_sizes_are_restored
            steps_done_in_one_go_are_as_those_done_one_by_one
            links_and_empty_directories_are_restored
            bytes_in_any_order_make_the_same_file
            the_content_of_a_directory_goes_to_the_root
            a_single_file_goes_to_the_root
            a_step_may_be_written_again
            a_dropped_write_leaves_no_partial_file
            a_failed_body_leaves_no_partial_file
            abort_keeps_what_is_whole_and_nothing_else
            a_broken_off_write_goes_on_from_its_token
            a_dropped_write_goes_on_from_its_token
            a_token_of_something_else_is_refused
            abort_removes_what_tokens_name
            verify_reads_what_is_there
            overwrite_replaces_what_differs
            skip_keeps_what_is_there
            newer_replaces_only_what_is_older
            rename_restores_beside_what_is_there
            hostile_names_are_refused
        }
    };
}

/// Looks at a target from outside.
#[async_trait]
pub trait TargetProbe: fmt::Debug + Send + Sync + 'static {
    /// What stands at a path below the root of the target.
    async fn read(&self, path: &EntryPath) -> Option<Found>;

    /// Makes or replaces a file, and the directories above it.
    async fn put(&self, path: &EntryPath, bytes: Bytes, mtime: FileTime);

    /// All files below the root, directories and the target's own bookkeeping left out. In any order.
    async fn files(&self) -> Vec<EntryPath>;

    /// Describes what is outside the root of the target and must not change.
    async fn outside(&self) -> String {
        String::new()
    }
}

/// What stands in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file with these bytes.
    File(Bytes),
    /// A directory.
    Directory,
    /// A link to this.
    Symlink(Vec<u8>),
    /// Something else.
    Other,
}

/// An empty target, how to look at it, and what keeps it alive.
pub struct TargetFixture {
    target: Arc<dyn RestoreTarget>,
    probe: Arc<dyn TargetProbe>,
    place: Box<dyn Fn(&str) -> EntryPath + Send + Sync>,
    hostile: Vec<EntryPath>,
    plain_files_only: bool,
    has_own_times: bool,
    keep_alive: KeepAlive,
}

impl fmt::Debug for TargetFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetFixture")
            .field("target", &self.target)
            .field("probe", &self.probe)
            .finish_non_exhaustive()
    }
}

impl TargetFixture {
    /// Returns a fixture of a target that behaves as a file system does.
    pub fn new(target: impl RestoreTarget, probe: impl TargetProbe) -> Self {
        let hostile: [&[u8]; 5] = [b"..", b".", b"a/b", b"../a", b"a\0b"];
        let inner = EntryPath::from_names([&b"ok"[..], b"..", b"..", b"a"]);
        Self {
            target: Arc::new(target),
            probe: Arc::new(probe),
            place: Box::new(|name| EntryPath::from_slashed(name.as_bytes())),
            hostile: hostile
                .iter()
                .map(|name| EntryPath::from_names([name]))
                .chain([inner])
                .collect(),
            plain_files_only: false,
            has_own_times: false,
            keep_alive: Vec::new(),
        }
    }

    /// Says where in a snapshot a file stands that the target takes, for a name such as `a/b`. For
    /// targets that know only certain files.
    #[must_use]
    pub fn with_places(
        mut self,
        place: impl Fn(&str) -> EntryPath + Send + Sync + 'static,
    ) -> Self {
        self.place = Box::new(place);
        self
    }

    /// Replaces the paths that the target must refuse.
    #[must_use]
    pub fn with_hostile_paths(mut self, paths: impl IntoIterator<Item = EntryPath>) -> Self {
        self.hostile = paths.into_iter().collect();
        self
    }

    /// Says that the target knows no links and no empty directories.
    #[must_use]
    pub fn with_plain_files_only(mut self) -> Self {
        self.plain_files_only = true;
        self
    }

    /// Says that what is put into the target is as old as its being put there.
    #[must_use]
    pub fn with_own_times(mut self) -> Self {
        self.has_own_times = true;
        self
    }

    /// Keeps something until the case has ended, such as a temporary directory.
    #[must_use]
    pub fn keeping(mut self, thing: impl Send + Sync + 'static) -> Self {
        self.keep_alive.push(Box::new(thing));
        self
    }

    fn at(&self, name: &str) -> EntryPath {
        (self.place)(name)
    }

    fn restore(&self, snapshot: MemorySnapshot) -> Restore {
        Restore {
            target: Arc::clone(&self.target),
            cx: RestoreContext {
                snapshot: snapshot.into_reader(),
                options: RestoreOptions::default(),
                store: Arc::new(InMemoryAdapterStore::default()),
                cancel: CancelToken::new(),
            },
        }
    }

    async fn assert_file(&self, path: &EntryPath, wanted: &Bytes) {
        match self.probe.read(path).await {
            Some(Found::File(bytes)) => assert!(
                bytes == *wanted,
                "{path} has {} other bytes than the {} restored",
                bytes.len(),
                wanted.len()
            ),
            other => panic!("{path} is {other:?} and not a file"),
        }
    }

    async fn assert_empty(&self) {
        let files = self.probe.files().await;
        assert!(files.is_empty(), "something was written: {files:?}");
    }
}

/// One restore, which may be opened several times as after a crash.
struct Restore {
    target: Arc<dyn RestoreTarget>,
    cx: RestoreContext,
}

impl Restore {
    fn with_conflict(mut self, policy: ConflictPolicy) -> Self {
        self.cx.options.conflict = policy;
        self
    }

    fn with_path(mut self, path: EntryPath) -> Self {
        self.cx.options.path = path;
        self
    }

    async fn open(&self) -> Arc<dyn RestoreSession> {
        let session = self.target.open(self.cx.clone()).await;
        session.expect("a restore can be started")
    }

    /// The bytes of a step in pieces, as the engine gives them.
    async fn pieces(&self, step: &Step) -> Vec<BodyPiece> {
        const PIECE_BYTES: u64 = 100_000;
        let snapshot: &dyn SnapshotReader = &*self.cx.snapshot;
        let mut pieces = Vec::new();
        let mut offset = 0;
        while offset < step.bytes {
            let end = step.bytes.min(offset + PIECE_BYTES);
            let bytes = snapshot.read(&step.entry, offset..end).await;
            let bytes = bytes.expect("the snapshot can be read");
            pieces.push(BodyPiece { offset, bytes });
            offset = end;
        }
        pieces
    }

    async fn body(&self, step: &Step) -> BodyReader {
        reader(self.pieces(step).await)
    }

    async fn write(&self, session: &dyn RestoreSession, step: &Step) {
        let written = session.write(step, self.body(step).await, None).await;
        let written = written.expect("a step can be written");
        if needs_writing(step) {
            assert_eq!(written.bytes, step.bytes, "{}", step.destination);
        }
    }

    /// Writes all steps, phase by phase, up to the end of the last.
    async fn write_all(&self, session: &dyn RestoreSession) -> Vec<Step> {
        let steps = plan(session).await;
        for (index, step) in steps.iter().enumerate() {
            if needs_writing(step) {
                self.write(session, step).await;
            }
            let next = steps.get(index + 1).map(|next| next.phase);
            if next != Some(step.phase) {
                let ended = session.end_phase(step.phase).await;
                ended.expect("a phase can be ended");
            }
        }
        steps
    }

    /// Restores everything and returns the steps.
    async fn run(&self) -> Vec<Step> {
        let session = self.open().await;
        let steps = self.write_all(&*session).await;
        for step in &steps {
            if needs_writing(step) {
                let verdict = session.verify(step, VerifyLevel::Bytes).await;
                let verdict = verdict.expect("a step can be verified");
                assert!(!matches!(verdict, Verdict::Differs(_)), "{verdict:?}");
            }
        }
        session.finish().await.expect("a restore can be finished");
        steps
    }
}

async fn plan(session: &dyn RestoreSession) -> Vec<Step> {
    let steps = session.plan().try_collect().await;
    steps.expect("a restore can be planned")
}

fn needs_writing(step: &Step) -> bool {
    !matches!(step.action, StepAction::Skip | StepAction::Refuse(_))
}

fn reader(pieces: Vec<BodyPiece>) -> BodyReader {
    BodyReader::new(stream::iter(pieces).map(Ok).boxed())
}

/// What two plans of one restore must have in common: steps are known by their place in it.
fn in_order(steps: &[Step]) -> Vec<(Phase, EntryPath, EntryPath, StepAction, u64)> {
    let fields = |step: &Step| {
        (
            step.phase,
            step.entry.path.clone(),
            step.destination.clone(),
            step.action.clone(),
            step.bytes,
        )
    };
    steps.iter().map(fields).collect()
}

fn file_step<'a>(steps: &'a [Step], path: &EntryPath) -> &'a Step {
    let step = steps.iter().find(|step| {
        step.entry.path == *path && step.entry.kind == EntryKind::File && step.bytes > 0
    });
    step.expect("a step for the bytes of the file")
}

const OLD: FileTime = FileTime::EPOCH;

fn sample(fixture: &TargetFixture) -> MemorySnapshot {
    MemorySnapshot::new()
        .with_file(&fixture.at("one"), random_bytes(1, 300_000))
        .with_file(&fixture.at("folder/two"), random_bytes(2, 10))
        .with_file(&fixture.at("folder/inner/three"), random_bytes(3, 70_000))
}

/// `check`.
pub async fn check_is_healthy_and_leaves_nothing(fixture: TargetFixture) {
    let probe = fixture.target.check().await;
    let probe = probe.expect("a check comes to an end");
    assert!(probe.is_healthy(), "{probe:?}");
    fixture.assert_empty().await;
}

/// `capabilities` and `location`.
pub async fn capabilities_are_constant(fixture: TargetFixture) {
    let before = fixture.target.capabilities();
    let location = fixture.target.location();
    fixture.restore(sample(&fixture)).run().await;
    assert_eq!(fixture.target.capabilities(), before);
    assert_eq!(fixture.target.location(), location);
    assert!(before.concurrency > 0, "no step may be written");
}

/// Contract 1.
pub async fn plan_names_every_entry_and_writes_nothing(fixture: TargetFixture) {
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let steps = plan(&*session).await;
    for name in ["one", "folder/two", "folder/inner/three"] {
        let step = file_step(&steps, &fixture.at(name));
        assert_eq!(step.action, StepAction::Create, "{name}");
        assert_eq!(step.bytes, step.entry.size_bytes, "{name}");
    }
    fixture.assert_empty().await;
    drop(session);
    fixture.assert_empty().await;
}

/// Contract 1.
pub async fn phases_ascend(fixture: TargetFixture) {
    let restore = fixture.restore(sample(&fixture));
    let steps = plan(&*restore.open().await).await;
    assert!(steps.is_sorted_by_key(|step| step.phase), "{steps:?}");
}

/// Contract 1.
pub async fn planning_twice_gives_the_same_steps(fixture: TargetFixture) {
    let bytes = Bytes::from_static(b"there");
    fixture.probe.put(&fixture.at("one"), bytes, OLD).await;
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let first = in_order(&plan(&*session).await);
    assert_eq!(in_order(&plan(&*session).await), first);
    assert_eq!(in_order(&plan(&*restore.open().await).await), first);
}

/// Contract 1: decisions are taken once and kept.
pub async fn a_resumed_restore_keeps_its_decisions(fixture: TargetFixture) {
    let there = Bytes::from_static(b"there");
    let one = fixture.at("one");
    fixture.probe.put(&one, there.clone(), OLD).await;
    let restore = fixture.restore(sample(&fixture));
    let restore = restore.with_conflict(ConflictPolicy::Skip);
    let session = restore.open().await;
    let first = plan(&*session).await;
    let created = fixture.at("folder/two");
    // In its turn: what is above it first.
    for step in &first {
        let is_above = created.starts_with(&step.entry.path);
        if is_above && needs_writing(step) {
            restore.write(&*session, step).await;
        }
    }
    drop(session);
    // After a crash "skip what is there" must not skip what the restore itself has begun.
    let session = restore.open().await;
    let second = restore.write_all(&*session).await;
    assert_eq!(in_order(&second), in_order(&first));
    session.finish().await.expect("a restore can be finished");
    fixture.assert_file(&one, &there).await;
    fixture.assert_file(&created, &random_bytes(2, 10)).await;
}

/// Contract 2 and 4.
pub async fn files_of_all_sizes_are_restored(fixture: TargetFixture) {
    let sizes = [0, 1, 65_535, 65_536, 65_537, 9 << 20];
    let mut snapshot = MemorySnapshot::new();
    let name = |size: usize| fixture.at(&format!("sizes/of-{size}"));
    for (seed, size) in (1..).zip(sizes) {
        snapshot = snapshot.with_file(&name(size), random_bytes(seed, size));
    }
    fixture.restore(snapshot).run().await;
    for (seed, size) in (1..).zip(sizes) {
        let wanted = random_bytes(seed, size);
        fixture.assert_file(&name(size), &wanted).await;
    }
    assert_eq!(fixture.probe.files().await.len(), sizes.len());
}

/// Links as they are, and directories without entries.
pub async fn links_and_empty_directories_are_restored(fixture: TargetFixture) {
    if fixture.plain_files_only {
        return not_applicable("the target knows neither links nor empty directories");
    }
    let (link, empty) = (fixture.at("folder/link"), fixture.at("folder/empty"));
    let snapshot = sample(&fixture).with_link(&link, "../one").with_directory(&empty);
    fixture.restore(snapshot).run().await;
    let found = fixture.probe.read(&empty).await;
    assert_eq!(found, Some(Found::Directory));
    let found = fixture.probe.read(&link).await;
    assert_eq!(found, Some(Found::Symlink(b"../one".to_vec())));
}

/// [`TargetCapabilities::random_writes`](crate::target::TargetCapabilities::random_writes).
pub async fn bytes_in_any_order_make_the_same_file(fixture: TargetFixture) {
    if !fixture.target.capabilities().random_writes {
        return not_applicable("the target takes bytes in order only");
    }
    let wanted = random_bytes(1, 1_234_567);
    let path = fixture.at("one");
    let restore = fixture.restore(MemorySnapshot::new().with_file(&path, wanted.clone()));
    let session = restore.open().await;
    for step in plan(&*session).await {
        let mut pieces = restore.pieces(&step).await;
        pieces.reverse();
        let written = session.write(&step, reader(pieces), None).await;
        written.expect("a step can be written in any order");
        let ended = session.end_phase(step.phase).await;
        ended.expect("a phase can be ended");
    }
    session.finish().await.expect("a restore can be finished");
    fixture.assert_file(&path, &wanted).await;
}

/// [`RestoreOptions::path`].
pub async fn the_content_of_a_directory_goes_to_the_root(fixture: TargetFixture) {
    let below =
        |path: &EntryPath| EntryPath::from_names([&b"a"[..], b"b"].into_iter().chain(path.names()));
    let snapshot = MemorySnapshot::new()
        .with_file(&EntryPath::from_slashed(b"other"), "other")
        .with_file(&below(&fixture.at("one")), "one")
        .with_file(&below(&fixture.at("folder/two")), "two");
    let restore = fixture.restore(snapshot);
    let restore = restore.with_path(EntryPath::from_slashed(b"a/b"));
    restore.run().await;
    for (name, bytes) in [("one", "one"), ("folder/two", "two")] {
        let bytes = Bytes::from_static(bytes.as_bytes());
        fixture.assert_file(&fixture.at(name), &bytes).await;
    }
    assert_eq!(fixture.probe.files().await.len(), 2);
}

/// [`RestoreOptions::path`].
pub async fn a_single_file_goes_to_the_root(fixture: TargetFixture) {
    let path = fixture.at("folder/inner/three");
    let restore = fixture.restore(sample(&fixture)).with_path(path.clone());
    if fixture.at("three").len() != 1 {
        return not_applicable("the target takes files in certain places only");
    }
    restore.run().await;
    let wanted = random_bytes(3, 70_000);
    fixture.assert_file(&fixture.at("three"), &wanted).await;
    assert_eq!(fixture.probe.files().await.len(), 1);
}

/// Contract 5.
pub async fn verify_reads_what_is_there(fixture: TargetFixture) {
    let restore = fixture.restore(sample(&fixture));
    let session = restore.open().await;
    let steps = restore.write_all(&*session).await;
    let path = fixture.at("one");
    let step = file_step(&steps, &path);
    let mut comparable = false;
    for level in [VerifyLevel::Count, VerifyLevel::Checksum, VerifyLevel::Bytes] {
        let verdict = session.verify(step, level).await;
        match verdict.expect("a step can be verified") {
            Verdict::Same(_) => comparable = true,
            Verdict::Cannot(_) => {}
            Verdict::Differs(why) => panic!("a restored file differs: {why}"),
        }
    }
    assert!(comparable, "nothing can be compared at any level");
    let mut other_byte = random_bytes(1, 300_000).to_vec();
    other_byte[150_000] ^= 1;
    let damages = [
        (Bytes::from(other_byte), VerifyLevel::Bytes),
        (random_bytes(1, 299_999), VerifyLevel::Bytes),
        (random_bytes(1, 299_999), VerifyLevel::Count),
        (Bytes::new(), VerifyLevel::Bytes),
    ];
    for (bytes, level) in damages {
        let mtime = step.entry.metadata.mtime;
        fixture.probe.put(&path, bytes, mtime).await;
        let verdict = session.verify(step, level).await;
        let verdict = verdict.expect("a damaged file can be verified");
        assert!(!matches!(verdict, Verdict::Same(_)), "{verdict:?}");
    }
}

/// Contract 3. One hostile path at a time, so that one refusal does not hide another acceptance.
pub async fn hostile_names_are_refused(fixture: TargetFixture) {
    let outside = fixture.probe.outside().await;
    for path in &fixture.hostile {
        let snapshot = MemorySnapshot::new().with_file(path, "hostile");
        let restore = fixture.restore(snapshot);
        let session = restore.open().await;
        // A target may refuse an entry or the whole snapshot; it may not write.
        let steps: Result<Vec<Step>> = session.plan().try_collect().await;
        for step in steps.unwrap_or_default() {
            let written = session.write(&step, restore.body(&step).await, None).await;
            if step.entry.path == *path {
                let refused = matches!(step.action, StepAction::Refuse(_));
                assert!(refused || written.is_err(), "{path} was written");
                assert!(written.is_err(), "a refused step was written: {path}");
            }
        }
        session.abort().await.expect("a restore can be aborted");
        fixture.assert_empty().await;
        assert_eq!(fixture.probe.outside().await, outside, "{path} got outside");
    }
    // What is not hostile is still restored.
    fixture.restore(sample(&fixture)).run().await;
}
