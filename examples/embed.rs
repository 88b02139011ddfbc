//! Backs a folder up and restores it, without a state store: `cargo run --example embed`.

use std::sync::Arc;

use backupkit::adapters::fs::{FsDestination, FsSource, FsTarget};
use backupkit::repo::{InitOptions, Repository};
use backupkit::{BackupRequest, Engine, Env, RestoreRequest};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let (data, restored) = (scratch.path().join("data"), scratch.path().join("restored"));
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("letter"), "dear all")?;

    let env = Env::system();
    let engine = Engine::builder().env(env.clone()).build()?;
    let place = Arc::new(FsDestination::new(scratch.path().join("repository"), env.clone()));
    let password = "correct horse".into();
    let repository = Repository::init(place, &password, InitOptions::default(), &env).await?;

    let source = Arc::new(FsSource::new(vec![data], env.clone(), "this-machine")?);
    let backup = engine.backup(BackupRequest::new(source, [repository.clone()])).wait().await?;
    let snapshot = backup.outputs[0].snapshot.ok_or("no snapshot")?;

    let target = Arc::new(FsTarget::new(&restored, env));
    let report = engine.restore(RestoreRequest::new(repository, snapshot, target)).wait().await?;
    assert!(report.is_complete());
    Ok(())
}
