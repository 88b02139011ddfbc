//! Backs a folder up as a run on record, which goes on where it was if the program is killed and started
//! again: `cargo run --example durable`.

use std::sync::Arc;

use backupkit::adapters::fs::{FsDestination, FsSource};
use backupkit::model::RunState;
use backupkit::repo::{InitOptions, Repository};
use backupkit::{BackupRequest, Engine, Env};
use backupkit_sqlite::SqliteStore;
use futures::TryStreamExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("data");
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("letter"), "dear all")?;

    let env = Env::system();
    let state = scratch.path().join("state");
    std::fs::create_dir(&state)?;
    let store = SqliteStore::open(&state.join("state.db"), &env).await?;
    // In the instance folder processes see of each other who still lives.
    let engine = Engine::builder()
        .env(env.clone())
        .store(Arc::new(store))
        .instance_folder(state.join("workers"))
        .build()?;
    let place = Arc::new(FsDestination::new(scratch.path().join("repository"), env.clone()));
    let password = "correct horse".into();
    let repository = Repository::init(place, &password, InitOptions::default(), &env).await?;

    let source = Arc::new(FsSource::new(vec![data], env, "this-machine")?);
    let mut run = engine.start_backup("letters", BackupRequest::new(source, [repository])).await?;
    // It may be faster than that.
    if run.pause().await.is_ok() && run.wait().await?.state == RunState::Paused {
        run.resume().await?;
    }
    let ended = run.wait().await?;
    assert_eq!(ended.state, RunState::Succeeded);
    let lines: Vec<_> = run.events(0).try_collect().await?;
    assert!(lines.iter().any(|line| line.line.code == "snapshot-created"));
    Ok(())
}
