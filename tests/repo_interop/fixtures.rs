//! Repositories that restic 0.14, restic 0.19 and rustic wrote, with odd names in them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use backupkit::adapters::fs::{FsDestination, FsTarget};
use backupkit::repo::Repository;
use backupkit::target::VerifyLevel;
use backupkit::{CheckRequest, Engine, Env, RestoreRequest};

use crate::support::compare::{Aspects, assert_same};
use crate::support::extended;
use crate::support::restic::Restic;

const PASSWORD: &str = "fixture";

#[tokio::test(flavor = "multi_thread")]
async fn we_check_and_restore_repositories_of_other_programs_as_restic_does() {
    for name in ["restic-014", "restic-019", "rustic-0114"] {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        unpack(name, scratch.path());
        let env = Env::system();
        let engine = Engine::builder().env(env.clone()).build().unwrap();
        let destination = Arc::new(FsDestination::new(at(name), env.clone()));
        let repository = Repository::open(destination, &PASSWORD.into(), &env).await.unwrap();
        let request = CheckRequest::new(repository.clone()).with_read_data();
        let report = engine.check(request).wait().await.unwrap();
        assert!(report.is_clean(), "{name}: {report:#?}");
        for (number, (id, _)) in repository.snapshots().await.unwrap().into_iter().enumerate() {
            let ours = at(&format!("ours-{number}"));
            let target = Arc::new(FsTarget::new(&ours, env.clone()));
            let request = RestoreRequest::new(repository.clone(), id, target)
                .with_verify(Some(VerifyLevel::Bytes));
            let report = engine.restore(request).wait().await.unwrap();
            assert!(report.is_complete(), "{name}: {report:#?}");
            let Some(restic) = Restic::find(&at("home"), &at(name), PASSWORD) else { return };
            let theirs = at(&format!("theirs-{number}"));
            restic.restore(&id.to_string(), &theirs);
            // rustic gives the directory above its source no time; what stands for none is a matter
            // of taste.
            for root in [theirs.join("tree"), ours.join("tree")] {
                extended::set_modified(&root, 0, 0).unwrap();
            }
            assert_same(&theirs, &ours, Aspects::BELOW);
        }
    }
}

fn unpack(name: &str, into: &Path) {
    let archive =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.tar.gz"));
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(status.success(), "tar cannot unpack {name}");
}
