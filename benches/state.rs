//! What a run asks of its state store: `cargo bench --bench state`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backupkit::model::{Level, RunKind};
use backupkit::state::{
    Actor, Claim, InMemoryStore, LeaseRef, NewLogLine, NewRun, RunId, Scope, StateStore, WorkerId,
};
use backupkit::testing::random_bytes;
use backupkit::{Env, Result};
use backupkit_sqlite::SqliteStore;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

const LEASE: Duration = Duration::from_hours(24);
/// As many as a run writes at once when it has much to say.
const LINES: usize = 200;
/// What a run of 100,000 files has in its checkpoint, at most.
const CHECKPOINT_BYTES: usize = 256 << 10;

/// A store with a run in it that is held.
struct Held {
    store: Arc<dyn StateStore>,
    lease: LeaseRef,
}

async fn stores(folder: &Path, env: &Env) -> Result<Vec<(&'static str, Held)>> {
    let sqlite: Arc<dyn StateStore> =
        Arc::new(SqliteStore::open(folder.join("state.db"), env).await?);
    let in_memory: Arc<dyn StateStore> = Arc::new(InMemoryStore::new(env));
    let mut held = Vec::new();
    for (name, store) in [("sqlite", sqlite), ("in memory", in_memory)] {
        let settings: Arc<RawValue> = Arc::from(RawValue::NULL.to_owned());
        let run = NewRun::new(RunId::random(env)?, RunKind::Backup, "bench", settings);
        store.create_run(&Scope::default(), &Actor::new("bench")?, run).await?;
        let lease = store.claim(&Claim::new(WorkerId::new("bench")?, LEASE)).await?;
        held.extend(lease.map(|lease| (name, Held { store, lease: lease.lease })));
    }
    Ok(held)
}

fn lines(env: &Env) -> Vec<NewLogLine> {
    let line = |number: usize| NewLogLine {
        at: env.now(),
        level: Level::Warning,
        code: "entry-not-read".to_owned(),
        text: format!("cannot read /home/somebody/documents/{number}: permission denied"),
        body: Arc::from(RawValue::NULL.to_owned()),
    };
    (0..LINES).map(line).collect()
}

fn state(criterion: &mut Criterion) {
    let env = Env::system();
    let (Ok(folder), Ok(runtime)) = (tempfile::tempdir(), Runtime::new()) else { return };
    let Ok(stores) = runtime.block_on(stores(folder.path(), &env)) else { return };
    let lines = lines(&env);
    let checkpoint = random_bytes(1, CHECKPOINT_BYTES);
    for (name, Held { store, lease }) in &stores {
        let mut group = criterion.benchmark_group(*name);
        group.sample_size(20);
        group.throughput(Throughput::Elements(LINES as u64));
        group.bench_function("log, 200 lines at once", |bencher| {
            bencher.iter(|| runtime.block_on(store.append_logs(lease, &lines)).is_ok());
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function("log, one line", |bencher| {
            bencher.iter(|| runtime.block_on(store.append_logs(lease, &lines[..1])).is_ok());
        });
        group.bench_function("checkpoint of 256 KiB", |bencher| {
            let mut reach = 0;
            bencher.iter(|| {
                reach += 1;
                let saving = store.save_checkpoint(lease, 0, checkpoint.clone(), reach);
                runtime.block_on(saving).is_ok()
            });
        });
        group.bench_function("renew a lease", |bencher| {
            bencher.iter(|| runtime.block_on(store.renew(lease, LEASE, None)).is_ok());
        });
        group.bench_function("what a person wants", |bencher| {
            bencher.iter(|| runtime.block_on(store.renewal(lease)).is_ok());
        });
        group.finish();
    }
}

criterion_group!(benches, state);
criterion_main!(benches);
