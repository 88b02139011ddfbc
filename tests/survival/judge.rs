//! What must be true of a run that was killed, and of one that has ended.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use backupkit::Env;
use backupkit::adapters::fs::FsDestination;
use backupkit::model::BlobId;
use backupkit::repo::{ReaderOptions, Repository};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use crate::coverage::{Coverage, load};
use crate::support::compare::{Aspects, assert_same};
use crate::support::restic::packs;
use crate::world::{PASSWORD, World};

/// A chunk of this size may be cut anew from its start.
pub(crate) const CHUNK_BYTES: u64 = 8 << 20;
/// What is known of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Account {
    coverage: Coverage,
    /// What the next attempt may read again.
    allowed_bytes: u64,
    durable_packs: BTreeSet<String>,
    /// For each kill while it ran, how much was in no checkpoint.
    pub(crate) lags_bytes: Vec<u64>,
    pub(crate) most_again_bytes: u64,
}

/// What the state store says of the run.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) state: String,
    /// What the last checkpoint covers, in bytes at least.
    pub(crate) covered_bytes: u64,
}

impl Account {
    /// How much is left to be read, by the last checkpoint.
    pub(crate) fn left_bytes(&self, world: &World<'_>) -> u64 {
        let covered = self.coverage.bytes().saturating_sub(self.allowed_bytes);
        world.data.total_bytes - covered
    }

    /// Of an attempt that was killed.
    pub(crate) async fn judge_killed(&mut self, world: &World<'_>, why: &str) -> Kept {
        let kept = kept(world.folder(), world.data.n_files, why).await;
        self.judge_reads(world, why);
        let lag = self.coverage.bytes().saturating_sub(kept.covered_bytes);
        if kept.state == "running" {
            self.lags_bytes.push(lag);
        }
        self.allowed_bytes = lag + CHUNK_BYTES;
        // Without a lock: the dead run's must stay for the next one to find.
        world.restic.run(["check", "--read-data", "--no-lock"]).expect_success();
        let now = packs(&world.path("repo"));
        assert!(self.durable_packs.is_subset(&now), "{why}: a durable pack is gone");
        self.durable_packs = now;
        kept
    }

    /// Of an attempt that ended by itself.
    pub(crate) async fn judge_ended(&mut self, world: &World<'_>, why: &str) {
        let kept = kept(world.folder(), world.data.n_files, why).await;
        assert_eq!(kept.state, "succeeded", "{why}");
        self.judge_reads(world, why);
        assert_eq!(self.coverage.bytes(), world.data.total_bytes, "{why}: not all was read");
        judge_repository(world, why);
        let now = packs(&world.path("repo"));
        assert!(self.durable_packs.is_subset(&now), "{why}: a durable pack is gone");
    }

    fn judge_reads(&mut self, world: &World<'_>, why: &str) {
        for reads in load(&world.reads(world.attempts - 1)) {
            let again: u64 = reads.iter().map(|read| self.coverage.add(read)).sum();
            let allowed = self.allowed_bytes;
            assert!(again <= allowed, "{why}: {again} bytes were read again, allowed {allowed}");
            self.most_again_bytes = self.most_again_bytes.max(again);
            self.allowed_bytes = 0;
        }
    }
}

/// One snapshot, whole, and nothing else.
pub(crate) fn judge_repository(world: &World<'_>, why: &str) {
    let snapshots = world.restic.snapshots_json();
    assert_eq!(snapshots.len(), 1, "{why}: {snapshots:?}");
    judge_snapshot(world, why);
}

/// The newest snapshot is whole, and nothing is stored twice.
pub(crate) fn judge_snapshot(world: &World<'_>, why: &str) {
    world.restic.check_read_data();
    assert!(world.restic.list("locks").is_empty(), "{why}: a lock stayed");
    let (blobs, unique) = world.restic.indexed_blobs();
    assert_eq!(blobs, unique, "{why}: blobs were stored twice");
    let restored = world.path("restored");
    drop(fs::remove_dir_all(&restored));
    world.restic.restore("latest", &restored);
    let below = world.data.path().strip_prefix("/").unwrap();
    assert_same(world.data.path(), &restored.join(below), Aspects::ALL);
    fs::remove_dir_all(restored).unwrap();
}

/// Of each snapshot the tree of what was backed up. Those above it differ, since others make folders
/// beside it.
pub(crate) async fn data_trees(world: &World<'_>) -> Vec<BlobId> {
    let env = Env::system();
    let place = Arc::new(FsDestination::new(world.path("repo"), env.clone()));
    let repository = Repository::open(place, &PASSWORD.into(), &env).await.unwrap();
    let reader = repository.reader(ReaderOptions::default()).await.unwrap();
    let mut trees = Vec::new();
    for (_, snapshot) in repository.snapshots().await.unwrap() {
        let mut tree = snapshot.tree;
        for name in world.data.path().iter().skip(1) {
            let nodes = reader.tree(&tree).await.unwrap();
            let node = nodes.into_iter().find(|node| node.name == name.as_bytes());
            tree = node.and_then(|node| node.subtree).expect("a folder of the snapshot");
        }
        trees.push(tree);
    }
    trees
}

/// Of the newest run in the state store of a folder.
pub(crate) async fn kept(folder: &Path, n_files: u64, why: &str) -> Kept {
    let options = SqliteConnectOptions::new().filename(folder.join("state.db"));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let integrity: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut database).await.unwrap();
    assert_eq!(integrity, "ok", "{why}");
    let (run, state): (String, String) =
        sqlx::query_as("SELECT id, state FROM runs ORDER BY position DESC LIMIT 1")
            .fetch_one(&mut database)
            .await
            .unwrap();
    let reach: Option<i64> = sqlx::query_scalar("SELECT reach FROM checkpoints WHERE run_id = ?")
        .bind(&run)
        .fetch_optional(&mut database)
        .await
        .unwrap();
    let (lines, last): (i64, i64) =
        sqlx::query_as("SELECT COUNT(*), COALESCE(MAX(number), 0) FROM log_lines WHERE run_id = ?")
            .bind(&run)
            .fetch_one(&mut database)
            .await
            .unwrap();
    assert_eq!(lines, last, "{why}: the numbers of the log have gaps");
    database.close().await.unwrap();
    let reach = u64::try_from(reach.unwrap_or_default()).unwrap();
    // It counts files too.
    Kept { state, covered_bytes: reach.saturating_sub(n_files) }
}
