//! The store against its contract, and what people do to its file.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use backupkit_core::state::{Actor, Catalogue as _, Draft, RecordId, RecordKind, RecordRef, Scope};
use backupkit_core::testing::conformance::CatalogueFixture;
use backupkit_core::{Env, ErrorKind, catalogue_conformance};
use backupkit_sqlite::SqliteStore;

async fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder.join("state.db"), &Env::system()).await.unwrap()
}

catalogue_conformance!(sqlite, async || {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    CatalogueFixture::new(store).keeping(folder)
});

fn draft(name: &str) -> Draft {
    let body = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    let secrets = BTreeMap::new();
    Draft { name: name.to_owned(), body: body.into(), secrets, needs: Vec::new() }
}

fn new_plan() -> RecordRef {
    RecordRef { kind: RecordKind::Plan, id: RecordId::random(&Env::system()).unwrap() }
}

#[tokio::test]
async fn what_was_kept_is_there_after_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let store = open(folder.path()).await;
    let made = store.create(&scope, &actor, new_plan(), draft("nightly")).await.unwrap();
    store.close().await;
    let again = open(folder.path()).await;
    let found = again.get(&scope, made.itself).await.unwrap().unwrap();
    assert_eq!((found.content, found.created_at), (made.content, made.created_at));
}

#[tokio::test]
async fn two_handles_on_one_file_see_each_others_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    let (one, other) = (open(folder.path()).await, open(folder.path()).await);
    for (number, store) in [&one, &other].iter().cycle().take(6).enumerate() {
        let name = format!("plan {number}");
        store.create(&scope, &actor, new_plan(), draft(&name)).await.unwrap();
        for reader in [&one, &other] {
            assert!(reader.find(&scope, RecordKind::Plan, &name).await.unwrap().is_some());
        }
    }
    assert_eq!(one.changes(&scope, 0, 100).await.unwrap().len(), 6);
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let (scope, actor) = (Scope::default(), Actor::new("test").unwrap());
    store.create(&scope, &actor, new_plan(), draft("nightly")).await.unwrap();
    let mut files = 0;
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
        files += 1;
    }
    assert!(files >= 2, "the store and its log");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let text = "not a database, but somebody's notes. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = SqliteStore::open(&path, &Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.report());
    assert!(error.report().contains("state.db"), "{}", error.report());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone/state.db");
    let error = SqliteStore::open(&path, &Env::system()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
}
