//! Workers: several runs side by side, within the limits of what they use.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use backupkit::destination::{Destination, MemoryDestination};
use backupkit::manage::{
    ConnectionBody, ConnectionChange, NewRepository, WorkerEvent, WorkerOptions, Workspace,
};
use backupkit::model::RunState;
use backupkit::registry::{ConnectionSecrets, Registry, SourceContext, SystemKind, TargetContext};
use backupkit::repo::KeyOwner;
use backupkit::secret::{GivenKeys, MasterKey};
use backupkit::source::Source;
use backupkit::state::{Actor, InMemoryStore, RecordKind, RunId, StateStore};
use backupkit::target::RestoreTarget;
use backupkit::testing::{MemorySource, PausePoint};
use backupkit::{CancelToken, Env, Error, ErrorKind, FieldErrors, HeldRunOptions, Result};
use serde_json::value::RawValue;

use crate::scene::{PASSWORD, Scene, path, random};

/// Systems in memory, by the text that is their setting.
#[derive(Debug, Clone, Default)]
struct MemoryKind {
    sources: Arc<Mutex<BTreeMap<String, MemorySource>>>,
    places: Arc<Mutex<BTreeMap<String, MemoryDestination>>>,
}

impl SystemKind for MemoryKind {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn check_settings(&self, _: &RawValue) -> FieldErrors {
        FieldErrors::default()
    }

    fn location(&self, settings: &RawValue) -> Result<String> {
        Ok(settings.get().to_owned())
    }

    fn source(&self, settings: &RawValue, _: &SourceContext<'_>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.sources.lock().unwrap()[settings.get()].clone()))
    }

    fn destination(
        &self,
        _: &RawValue,
        _: &ConnectionSecrets,
        path: &str,
        _: &Env,
    ) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(self.places.lock().unwrap().entry(path.to_owned()).or_default().clone()))
    }

    fn target(&self, _: &RawValue, _: &TargetContext<'_>) -> Result<Arc<dyn RestoreTarget>> {
        Err(Error::new(ErrorKind::Unsupported, "nothing is restored here"))
    }
}

/// Two plans, whose sources stop half way.
struct Shop {
    scene: Scene,
    workspace: Workspace,
    points: [PausePoint; 2],
}

const NAMES: [&str; 2] = ["one", "two"];

impl Shop {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let (kind, env) = (MemoryKind::default(), &scene.env);
        let points = [PausePoint::new(), PausePoint::new()];
        let store: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(env));
        let keys = Arc::new(GivenKeys::new([MasterKey::generate(env).unwrap()]));
        let registry = Registry::built_in().with(kind.clone());
        let actor = Actor::new("test").unwrap();
        let workspace = Workspace::open(store, keys, registry, env, actor).await.unwrap();
        for (name, point) in NAMES.into_iter().zip(&points) {
            let source = MemorySource::new().with_file(&path("data/big"), random(1, 20 << 20));
            source.pause_at(&path("data/big"), 10 << 20, point);
            let settings = format!("\"{name}\"");
            kind.sources.lock().unwrap().insert(settings.clone(), source);
            let settings = RawValue::from_string(settings).unwrap().into();
            let connection = ConnectionBody::new("memory", settings);
            workspace.add_connection(name, &connection).await.unwrap();
            let (password, owner) = (Some(PASSWORD.into()), KeyOwner::default());
            let new = NewRepository { name, connection: "one", path: name, password, owner };
            workspace.add_repository(new).await.unwrap();
            let named = [name.to_owned()];
            workspace.add_plan(name, &named, &named, Vec::new()).await.unwrap();
        }
        Self { scene, workspace, points }
    }

    async fn order(&self) -> Vec<RunId> {
        let mut ordered = Vec::new();
        for name in NAMES {
            ordered.push(self.workspace.order_backup(name).await.unwrap().new.id);
        }
        ordered
    }

    /// Whether another run may begin while one goes on.
    async fn may_begin(&self) -> bool {
        let held = self.workspace.claim(&self.scene.engine, None, HeldRunOptions::default()).await;
        let first = held.unwrap().expect("a run to claim");
        let held = self.workspace.claim(&self.scene.engine, None, HeldRunOptions::default()).await;
        let is_second = held.unwrap().is_some();
        drop(first);
        is_second
    }
}

fn options(max_runs: usize) -> WorkerOptions {
    let max_runs = NonZeroUsize::new(max_runs).unwrap();
    WorkerOptions { host: "here".to_owned(), max_runs, held: HeldRunOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_executes_several_runs_side_by_side_and_gives_them_back_when_it_is_stopped() {
    let shop = Shop::new().await;
    let ordered = shop.order().await;
    let (end, options) = (CancelToken::new(), options(2));
    let told = Mutex::new(Vec::new());
    let tell = |event: WorkerEvent<'_>| {
        if let WorkerEvent::Started(run) = event {
            told.lock().unwrap().push(run.new.id);
        }
    };
    let watch = async {
        shop.points[0].reached().await;
        // While the first one stands still, the second one comes as far.
        shop.points[1].reached().await;
        end.cancel();
        shop.points.iter().for_each(PausePoint::release);
    };
    tokio::join!(shop.workspace.work(&shop.scene.engine, &options, &end, tell), watch);
    assert_eq!(*told.lock().unwrap(), ordered);
    for id in &ordered {
        let run = shop.workspace.run(*id).await.unwrap();
        assert_eq!((run.state, run.attempts), (RunState::Queued, 0), "{run:#?}");
    }
    // The next worker goes on with them, and ends when all is done.
    let end = CancelToken::new();
    let left = Mutex::new(0);
    let tell = |event: WorkerEvent<'_>| {
        if let WorkerEvent::Left(run) = event {
            assert_eq!(run.state, RunState::Succeeded, "{run:#?}");
            *left.lock().unwrap() += 1;
            if *left.lock().unwrap() == ordered.len() {
                end.cancel();
            }
        }
    };
    shop.workspace.work(&shop.scene.engine, &options, &end, tell).await;
    assert_eq!(*left.lock().unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_read_by_one_run_at_a_time_unless_its_connection_allows_more() {
    for (max_runs, expected) in [(0, false), (2, true)] {
        let shop = Shop::new().await;
        // Both plans read the same.
        let change = backupkit::manage::PlanChange {
            sources: Some(vec!["one".to_owned()]),
            ..Default::default()
        };
        shop.workspace.update_plan("two", None, change).await.unwrap();
        let change = ConnectionChange { max_runs: Some(max_runs), ..Default::default() };
        shop.workspace.update_connection("one", None, change).await.unwrap();
        shop.order().await;
        assert_eq!(shop.may_begin().await, expected, "limit {max_runs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repositories_of_a_connection_are_used_by_as_many_runs_as_it_allows() {
    for (max_runs, expected) in [(0, true), (1, false), (2, true)] {
        let shop = Shop::new().await;
        let change = ConnectionChange { max_runs: Some(max_runs), ..Default::default() };
        // Both repositories are reached through it, and the sources are two.
        shop.workspace.update_connection("one", None, change).await.unwrap();
        let record = shop.workspace.find(RecordKind::Connection, "one").await.unwrap();
        let body: ConnectionBody = record.decode().unwrap();
        assert_eq!(body.max_runs.map_or(0, u32::from), max_runs);
        shop.order().await;
        assert_eq!(shop.may_begin().await, expected, "limit {max_runs}");
    }
}
