//! One repository of three backups, whole, and what is right about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use backupkit::destination::{MemoryDestination, ObjectKey};
use backupkit::model::{EntryPath, SnapshotId};
use backupkit::repo::compress::Decompressor;
use backupkit::repo::index_file;
use backupkit::repo::pack_header::BlobKind;
use backupkit::repo::{CheckReport, Repository};
use backupkit::testing::{MemoryNode, MemorySource, MemoryTarget, random_bytes};
use backupkit::{
    BackupReport, BackupRequest, CheckRequest, Engine, Env, RestoreReport, RestoreRequest, Result,
    RunStatus,
};

use crate::forge::{Forge, PASSWORD};
use crate::harm::{Kind, Objects};

pub(crate) type Nodes = BTreeMap<EntryPath, MemoryNode>;

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    env: Env,
    pub(crate) objects: Objects,
    pub(crate) kinds: BTreeMap<ObjectKey, Kind>,
    pub(crate) latest: SnapshotId,
    /// What the latest backup holds.
    pub(crate) latest_nodes: Nodes,
    /// The source, changed since.
    pub(crate) source: MemorySource,
    /// What a backup of it must hold.
    pub(crate) next_nodes: Nodes,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let forge = Forge::new().await;
        let engine = engine(&forge.env);
        let repository = forge.open().await.unwrap();
        let source = MemorySource::new()
            .with_file(&path("large"), random_bytes(1, 1 << 20))
            .with_file(&path("a/text"), "text ".repeat(40_000))
            .with_file(&path("a/b/small"), "small")
            .with_file(&path("a/empty"), "")
            .with_link(&path("a/link"), "b")
            .with_directory(&path("nothing"));
        back_up_whole(&engine, &repository, &source).await;
        source.set(&path("second"), random_bytes(2, 300_000));
        source.set(&path("a/b/small"), "changed");
        back_up_whole(&engine, &repository, &source).await;
        source.set(&path("c/third"), random_bytes(3, 100_000));
        let latest = back_up_whole(&engine, &repository, &source).await;
        let (_, latest_nodes) = restore(&engine, &repository, latest).await.unwrap();
        let objects = forge.objects.objects();

        source.set(&path("a/b/small"), "changed again");
        source.set(&path("d/fourth"), random_bytes(4, 50_000));
        source.remove(&path("second"));
        let next = back_up_whole(&engine, &repository, &source).await;
        let (_, next_nodes) = restore(&engine, &repository, next).await.unwrap();
        assert!(latest_nodes[&path("second")].bytes == random_bytes(2, 300_000));
        assert!(next_nodes[&path("large")].bytes == random_bytes(1, 1 << 20));
        assert!(next_nodes[&path("d/fourth")].bytes == random_bytes(4, 50_000));
        assert_eq!((latest_nodes.len(), next_nodes.len()), (11, 12));
        let kinds = kinds(&forge, &objects);
        for (kind, count) in [
            (Kind::Config, 1),
            (Kind::Key, 2),
            (Kind::Snapshot, 3),
            (Kind::Index, 3),
            (Kind::DataPack, 3),
            (Kind::TreePack, 3),
        ] {
            let found = kinds.values().filter(|one| **one == kind).count();
            assert_eq!(found, count, "{kind:?}");
        }
        Self { engine, env: forge.env, objects, kinds, latest, latest_nodes, source, next_nodes }
    }

    /// Opens objects as a repository.
    pub(crate) async fn open(&self, objects: &MemoryDestination) -> Result<Repository> {
        let destination = Arc::new(objects.clone());
        Repository::open(destination, &PASSWORD.into(), &self.env).await
    }

    pub(crate) async fn check(&self, repository: &Repository) -> Result<CheckReport> {
        check(&self.engine, repository).await
    }

    pub(crate) async fn restore(
        &self,
        repository: &Repository,
        id: SnapshotId,
    ) -> Result<(RestoreReport, Nodes)> {
        restore(&self.engine, repository, id).await
    }

    pub(crate) async fn back_up(&self, repository: &Repository) -> Result<BackupReport> {
        back_up(&self.engine, repository, &self.source).await
    }
}

pub(crate) fn engine(env: &Env) -> Engine {
    let builder = Engine::builder().env(env.clone()).threads(2);
    builder.build().unwrap()
}

pub(crate) async fn check(engine: &Engine, repository: &Repository) -> Result<CheckReport> {
    let request = CheckRequest::new(repository.clone()).with_read_data();
    engine.check(request).wait().await
}

async fn restore(
    engine: &Engine,
    repository: &Repository,
    id: SnapshotId,
) -> Result<(RestoreReport, Nodes)> {
    let target = MemoryTarget::new();
    let request = RestoreRequest::new(repository.clone(), id, Arc::new(target.clone()));
    let report = engine.restore(request).wait().await?;
    Ok((report, target.nodes()))
}

async fn back_up(
    engine: &Engine,
    repository: &Repository,
    source: &MemorySource,
) -> Result<BackupReport> {
    let request = BackupRequest::new(Arc::new(source.clone()), [repository.clone()]);
    engine.backup(request).wait().await
}

async fn back_up_whole(
    engine: &Engine,
    repository: &Repository,
    source: &MemorySource,
) -> SnapshotId {
    let report = back_up(engine, repository, source).await.unwrap();
    assert_eq!(report.status, RunStatus::Succeeded, "{report:#?}");
    report.outputs[0].snapshot.unwrap()
}

fn kinds(forge: &Forge, objects: &Objects) -> BTreeMap<ObjectKey, Kind> {
    let mut kinds = BTreeMap::new();
    let mut pack_kinds = BTreeMap::new();
    for (key, sealed) in objects {
        let kind = match key.as_str().split('/').next() {
            Some("config") => Kind::Config,
            Some("keys") => Kind::Key,
            Some("snapshots") => Kind::Snapshot,
            Some("index") => Kind::Index,
            _ => continue,
        };
        kinds.insert(key.clone(), kind);
        if kind == Kind::Index {
            let plain = forge.master.open(sealed).unwrap();
            let mut decompressor = Decompressor::new().unwrap();
            let json = decompressor.decompress_unknown(&plain[1..], 1 << 20).unwrap();
            let note = |pack: index_file::IndexedPack| {
                pack_kinds.insert(pack.id.to_string(), pack.blobs[0].kind);
                Ok(())
            };
            index_file::decode(&json, note).unwrap();
        }
    }
    for key in objects.keys().filter(|key| key.as_str().starts_with("data/")) {
        let kind = match pack_kinds[key.name()] {
            BlobKind::Data => Kind::DataPack,
            BlobKind::Tree => Kind::TreePack,
        };
        kinds.insert(key.clone(), kind);
    }
    kinds
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes())
}
