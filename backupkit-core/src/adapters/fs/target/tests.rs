mod closed;
mod conflicts;
mod containment;
mod content;
mod resumed;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;
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
        Self { folder, store: Arc::new(InMemoryAdapterStore::default()) }
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
        let session =
            self.session(snapshot, RestoreOptions { path, conflict, ..Default::default() }).await;
        run(&session, snapshot).await
    }

    /// Nothing outside the target was touched.
    fn outside_is_untouched(&self) {
        let outside = self.folder.path().join("outside");
        assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
        assert_eq!(names(&outside), ["precious"]);
        let expected: &[&str] =
            if self.root().exists() { &["outside", "target"] } else { &["outside"] };
        assert_eq!(names(self.folder.path()), expected);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Runs a test of a module once more, as somebody with the same files who is not root.
fn run_without_rights(module: &str, test: &str) {
    let name = format!("{}::{test}", module.split_once("::").unwrap().1);
    let output = Command::new("unshare")
        .args(["--user", "--map-user=1000", "--map-group=1000", "--"])
        .arg(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .output();
    match output {
        Err(error) => skip(&format!("`unshare` cannot be run: {error}")),
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout);
            let why = String::from_utf8_lossy(&output.stderr);
            if told.is_empty() {
                return skip(why.trim());
            }
            assert!(told.contains("1 passed"), "{told}{why}");
        }
    }
}

/// Said, and never a failure: whether namespaces are allowed is not the tester's to decide.
#[expect(clippy::print_stderr, reason = "shown by the test runner on request")]
fn skip(why: &str) {
    eprintln!("skipped, as no other user can be had here: {why}");
}

fn options(path: &[&str]) -> RestoreOptions {
    RestoreOptions { path: EntryPath::from_names(path), ..Default::default() }
}

/// The content of a file in pieces of an odd size, the last one first.
fn body(content: &Bytes) -> BodyReader {
    const PIECE: usize = 300_001;
    let pieces = content.chunks(PIECE).enumerate().map(|(index, piece)| {
        Ok(BodyPiece { offset: (index * PIECE) as u64, bytes: content.slice_ref(piece) })
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
        let is_to_do =
            |step: &&Step| step.phase == phase && !matches!(step.action, StepAction::Refuse(_));
        let of_phase: Vec<_> = done.steps.iter().filter(is_to_do).collect();
        let written = of_phase
            .iter()
            .rev()
            .map(|step| async { session.write(step, body_of(step, snapshot), None).await });
        let written: Vec<_> = stream::iter(written).buffer_unordered(4).collect().await;
        for written in written {
            match written {
                Ok(written) => {
                    done.warnings.extend(written.warnings.iter().map(Error::report));
                }
                Err(error) => done.failures.push(error),
            }
        }
        session.end_phase(phase).await.unwrap();
    }
    for step in &done.steps {
        let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
        if let Verdict::Differs(how) = verdict {
            done.differences.push(format!("{}: {how}", step.destination));
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
        let step = self.steps.iter().find(|step| step.destination.to_string() == path);
        &step.unwrap_or_else(|| panic!("{path} has no step")).action
    }
}
