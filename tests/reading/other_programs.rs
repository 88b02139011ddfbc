//! Repositories that other programs wrote, some years old.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use backupkit::adapters::fs::FsDestination;
use backupkit::model::{BlobId, EntryKind, EntryPath};
use backupkit::repo::{CheckOptions, ReadData, ReaderOptions, Repository};
use backupkit::testing::MemoryTarget;
use backupkit::{CheckRequest, Engine, Env, RestoreRequest};
use futures::TryStreamExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn what_restic_and_rustic_wrote_is_whole_and_comes_back() {
    let env = Env::system();
    let engine = Engine::builder().env(env.clone()).threads(2).build().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = files_of_manifest(&fixtures);
    for (name, snapshots) in [("restic-014", 2), ("restic-019", 2), ("rustic-0114", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let archive = fixtures.join(format!("{name}.tar.gz"));
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path());
        assert!(tar.status().unwrap().success());
        let destination = Arc::new(FsDestination::new(folder.path().join(name), env.clone()));
        let repository = Repository::open(destination, &"fixture".into(), &env).await.unwrap();

        let options = CheckOptions { read_data: ReadData::All };
        let check = CheckRequest::new(repository.clone()).with_options(options);
        let report = engine.check(check).wait().await.unwrap();
        assert!(report.is_clean(), "{name}: {report:#?}");
        assert_eq!((report.snapshots, report.read_packs), (snapshots, report.packs), "{name}");

        let (id, _) = repository.snapshots().await.unwrap().remove(0);
        let target = MemoryTarget::new();
        let request = RestoreRequest::new(repository.clone(), id, Arc::new(target.clone()));
        let report = engine.restore(request).wait().await.unwrap();
        assert!(report.is_complete() && report.counts.failed == 0, "{name}: {report:#?}");
        let restored: BTreeSet<_> = target
            .nodes()
            .iter()
            .filter(|(_, node)| node.kind == EntryKind::File)
            .map(|(path, node)| (path.to_string(), BlobId::of(&node.bytes).to_string()))
            .collect();
        for (path, hash) in &files {
            let ending = format!("/{path}");
            let is_there =
                |(path, found): &(String, String)| path.ends_with(&ending) && found == hash;
            assert!(restored.iter().any(is_there), "{name}: {path} is not in {restored:#?}");
        }

        // Walking gives as many entries as the restore made.
        let reader = repository.reader(ReaderOptions::default()).await.unwrap();
        let walk = reader.snapshot(id).await.unwrap().walk(&EntryPath::root());
        let entries: Vec<_> = walk.try_collect().await.unwrap();
        assert_eq!(entries.len(), target.nodes().len(), "{name}");
    }
}

/// Path and SHA-256 of each file of the first snapshot, but of those with odd names.
fn files_of_manifest(fixtures: &Path) -> Vec<(String, String)> {
    let manifest = std::fs::read_to_string(fixtures.join("manifest.tsv")).unwrap();
    let mut files = Vec::new();
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (path, hash) = (columns[0].trim_matches('\''), columns[5]);
        if hash.parse::<BlobId>().is_ok() && !path.contains('\\') && !path.contains('"') {
            files.push((path.to_owned(), hash.to_owned()));
        }
    }
    assert!(files.len() > 15, "{files:#?}");
    files
}
