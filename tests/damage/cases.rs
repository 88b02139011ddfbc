//! Seeded damage to every kind of object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backupkit::destination::{MemoryDestination, ObjectKey};
use backupkit::repo::Repository;
use backupkit::{ErrorKind, RestoreReport, Result};
use tokio::task::JoinSet;

use crate::harm::{Harm, Kind};
use crate::random::Random;
use crate::scene::{Nodes, Scene};

const SEED: u64 = 20_260_101;
const N_CASES: u64 = 500;
/// Nothing may hang, even where nothing is whole.
const MAX_DURATION: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_and_named_and_never_restored() {
    let panics = count_panics();
    let random = Random::new(number_of("BACKUPKIT_TEST_SEED").unwrap_or(SEED));
    let n_cases = number_of("BACKUPKIT_TEST_COUNT").unwrap_or(N_CASES);
    let scene = Arc::new(Scene::new().await);
    let mut running = JoinSet::new();
    let mut failures = Vec::new();
    let mut met = BTreeMap::new();
    for number in 0..n_cases {
        let mut random = random.fork(&number.to_string());
        let mut objects = scene.objects.clone();
        let harm = Harm::inflict(&mut objects, &scene.kinds, &mut random);
        *met.entry((harm.kind, format!("{:?}", harm.action))).or_insert(0) += 1;
        let destination = MemoryDestination::new();
        destination.replace_objects(objects);
        let scene = Arc::clone(&scene);
        running.spawn(async move {
            let case = Case { scene: &scene, harm: &harm, objects: destination };
            let result = tokio::time::timeout(MAX_DURATION, case.run()).await;
            let problem = result.unwrap_or_else(|_| Err("it hangs".to_owned())).err();
            problem.map(|problem| format!("case {number}: {harm}: {problem}"))
        });
        if running.len() >= 4 {
            failures.extend(running.join_next().await.unwrap().unwrap());
        }
    }
    while let Some(result) = running.join_next().await {
        failures.extend(result.unwrap());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let panics = panics.load(Ordering::Relaxed);
    assert_eq!(panics, 0, "something panicked, here or in another test");
    if n_cases >= N_CASES {
        assert_eq!(met.len(), 6 * 8, "not everything befell everything: {met:?}");
    }
}

/// Counts also those in tasks of which nobody hears.
fn count_panics() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    count
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap())
}

struct Case<'s> {
    scene: &'s Scene,
    harm: &'s Harm,
    objects: MemoryDestination,
}

type Judged<T = ()> = Result<T, String>;

impl Case<'_> {
    async fn run(&self) -> Judged {
        let repository = match self.scene.open(&self.objects).await {
            Ok(repository) => repository,
            Err(error) => {
                require(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongPassword),
                    || format!("opening says {:?}: {error}", error.kind()),
                )?;
                return self.require_named(&[error.report()], false);
            }
        };
        self.check(&repository).await?;
        let latest = self.scene.latest;
        let result = self.scene.restore(&repository, latest).await;
        judge_restore(result, &self.scene.latest_nodes)?;
        self.back_up(&repository).await?;
        let objects = self.objects.objects();
        let has_locks = objects.keys().any(|key| key.as_str().starts_with("locks/"));
        require(!has_locks, || "a lock stays".to_owned())
    }

    async fn check(&self, repository: &Repository) -> Judged {
        match self.scene.check(repository).await {
            Ok(report) if report.is_clean() => {
                require(self.harm.is_invisible().is_some(), || "the check is clean".to_owned())
            }
            Ok(report) => {
                let findings = report.findings.iter().map(ToString::to_string);
                self.require_named(&findings.collect::<Vec<_>>(), true)
            }
            Err(error) => self.require_named(&[error.report()], false),
        }
    }

    /// Each damaged object must be named, or at least one where the first error ends everything.
    fn require_named(&self, lines: &[String], all: bool) -> Judged {
        if self.harm.is_invisible().or(self.harm.is_nameless()).is_some() {
            return Ok(());
        }
        let is_named = |key: &&ObjectKey| lines.iter().any(|line| line.contains(key.name()));
        let named = self.harm.damaged.iter().filter(is_named).count();
        let required = if all { self.harm.damaged.len() } else { 1 };
        require(named >= required, || format!("not named in {lines:#?}"))
    }

    /// A backup fails clearly, or its snapshot is right, or the check knows better.
    async fn back_up(&self, repository: &Repository) -> Judged {
        let before = self.snapshots();
        let report = match self.scene.back_up(repository).await {
            Ok(report) => report,
            Err(error) => {
                let is_clear = !error.is(ErrorKind::Internal) && self.harm.kind != Kind::Snapshot;
                require(is_clear, || format!("the backup fails with {error}"))?;
                return require(self.snapshots() == before, || {
                    "a failed backup leaves a snapshot".to_owned()
                });
            }
        };
        let output = &report.outputs[0];
        let needs_all = !matches!(self.harm.kind, Kind::Snapshot | Kind::Key | Kind::Config);
        let Some(id) = output.snapshot else {
            require(needs_all, || format!("no backup any more: {report:?}"))?;
            let error = output.error.as_ref().ok_or("no snapshot and no error")?;
            return require(!error.is(ErrorKind::Internal), || {
                format!("the backup fails with {error}")
            });
        };
        if self.harm.kind == Kind::Snapshot && self.harm.is_invisible().is_none() {
            let problems = report.problems.iter().map(|event| event.kind.to_string());
            self.require_named(&problems.collect::<Vec<_>>(), true)?;
        }
        let result = self.scene.restore(repository, id).await;
        if judge_restore(result, &self.scene.next_nodes)? {
            return Ok(());
        }
        require(needs_all, || "the new snapshot is not whole".to_owned())?;
        match self.scene.check(repository).await {
            Ok(report) => require(!report.is_clean(), || {
                "the new snapshot cannot be restored, but the check is clean".to_owned()
            }),
            Err(_) => Ok(()),
        }
    }

    fn snapshots(&self) -> usize {
        let objects = self.objects.objects();
        let is_snapshot = |key: &&ObjectKey| key.as_str().starts_with("snapshots/");
        objects.keys().filter(is_snapshot).count()
    }
}

/// Returns whether everything was restored.
fn judge_restore(result: Result<(RestoreReport, Nodes)>, expected: &Nodes) -> Judged<bool> {
    let (report, nodes) = match result {
        Ok(restored) => restored,
        Err(error) => {
            require(!error.is(ErrorKind::Internal), || format!("the restore fails with {error}"))?;
            return Ok(false);
        }
    };
    for (path, node) in &nodes {
        require(expected.get(path) == Some(node), || format!("{path} is restored wrongly"))?;
    }
    require(report.counts.created == nodes.len() as u64, || {
        format!("{} nodes, but {report:?}", nodes.len())
    })?;
    // A folder whose tree is lost may have been empty: that is not complete, and nothing lacks.
    let is_whole = nodes.len() == expected.len();
    require(is_whole || !report.is_complete(), || {
        format!("{} of {} nodes: {report:?}", nodes.len(), expected.len())
    })?;
    require(report.is_complete() || report.problem_count > 0, || {
        "what is missing is not told".to_owned()
    })?;
    Ok(report.is_complete())
}

fn require(condition: bool, problem: impl FnOnce() -> String) -> Judged {
    if condition { Ok(()) } else { Err(problem()) }
}
