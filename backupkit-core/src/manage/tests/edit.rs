use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{Scene, add_connection, add_repository, settings};
use crate::error::ErrorKind;
use crate::fields::FieldErrors;
use crate::manage::write::{Content, Secret};
use crate::manage::{ConnectionChange, PlanBody, PlanChange, RepositoryChange};
use crate::state::RecordKind;

#[tokio::test]
async fn a_connection_that_comes_to_lead_elsewhere_loses_its_secrets() {
    let workspace = Scene::new().open().await.unwrap();
    let made = add_connection(&workspace, "nas").await;
    let token = Secret::New(SecretString::from("canary"));
    let secrets = BTreeMap::from([("token".to_owned(), token)]);
    let content = Content { secrets, ..Content::of(&made) };
    workspace.put(made.itself, Some(1), &content).await.unwrap();

    let change = ConnectionChange { settings: Some(settings("nas", "new")), ..Default::default() };
    let changed = workspace.update_connection("nas", None, change).await.unwrap();
    assert!(changed.dropped_secrets.is_empty());
    workspace.unseal(&changed.record, "token").await.unwrap().unwrap();

    let change = ConnectionChange {
        settings: Some(settings("evil", "")),
        name: Some("box".to_owned()),
        ..Default::default()
    };
    let changed = workspace.update_connection("nas", None, change).await.unwrap();
    assert_eq!(changed.dropped_secrets, ["token"]);
    assert!(changed.record.content.secrets.is_empty());
    let found = workspace.find(RecordKind::Connection, "box").await.unwrap();
    assert_eq!((found.itself, found.revision), (made.itself, 4));
}

#[tokio::test]
async fn a_change_of_an_earlier_revision_and_wrong_settings_change_nothing() {
    let workspace = Scene::new().open().await.unwrap();
    add_connection(&workspace, "nas").await;
    let rename =
        |name: &str| ConnectionChange { name: Some(name.to_owned()), ..Default::default() };
    let renamed = workspace.update_connection("nas", Some(1), rename("box")).await.unwrap();
    assert_eq!(renamed.record.revision, 2);
    let error = workspace.update_connection("box", Some(1), rename("x")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "stale"));
    let wrong = serde_json::value::RawValue::from_string("{}".into()).unwrap();
    let wrong = ConnectionChange {
        settings: Some(wrong.into()),
        name: Some("y".to_owned()),
        ..Default::default()
    };
    let error = workspace.update_connection("box", None, wrong).await.unwrap_err();
    assert_eq!(FieldErrors::of(&error).unwrap().iter().count(), 2);
    // What is as it was makes no new revision.
    let same = workspace.update_connection("box", None, rename("box")).await.unwrap();
    assert_eq!(same.record.revision, 2);
    let gone = workspace.update_connection("nas", None, rename("x")).await.unwrap_err();
    assert_eq!(gone.code(), "no-such-record");
}

#[tokio::test]
async fn a_repository_keeps_only_a_password_and_a_place_that_open_it() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    for name in ["disk", "other"] {
        add_connection(&workspace, name).await;
    }
    let made = add_repository(&workspace, "nas", "disk").await;
    add_repository(&workspace, "else", "other").await;
    let change = |password: Option<&str>, connection: Option<&str>, path: Option<&str>| {
        let password = password.map(SecretString::from);
        let (connection, path) = (connection.map(str::to_owned), path.map(str::to_owned));
        RepositoryChange { password, connection, path, name: None }
    };
    let update = |change| workspace.update_repository("nas", None, change);
    let error = update(change(Some("wrong"), None, None)).await.unwrap_err();
    assert!(error.is(ErrorKind::WrongPassword), "{error:?}");
    let error = update(change(None, None, Some("nowhere"))).await.unwrap_err();
    assert_eq!(error.code(), "repository-not-found");
    let others = change(Some("password of else"), Some("other"), Some("else"));
    let error = update(others).await.unwrap_err();
    assert_eq!(error.code(), "other-repository");
    let found = workspace.find(RecordKind::Repository, "nas").await.unwrap();
    assert_eq!(found.revision, made.revision);

    let updated = update(change(Some("password of nas"), None, None)).await.unwrap();
    assert_eq!(updated.revision, 2);
    // The disk is reached another way now.
    let moved =
        ConnectionChange { settings: Some(settings("elsewhere", "")), ..Default::default() };
    workspace.update_connection("other", None, moved).await.unwrap();
    let back = ConnectionChange { settings: Some(settings("disk", "")), ..Default::default() };
    workspace.update_connection("other", None, back).await.unwrap();
    let updated = update(change(None, Some("other"), None)).await.unwrap();
    assert_eq!(updated.content.needs.len(), 1);
    workspace.remove(RecordKind::Connection, "disk").await.unwrap();
    assert_eq!(
        workspace.remove(RecordKind::Connection, "other").await.unwrap_err().code(),
        "in-use"
    );
    let rename = RepositoryChange { name: Some("box".to_owned()), ..Default::default() };
    workspace.update_repository("nas", None, rename).await.unwrap();
    workspace.find(RecordKind::Repository, "box").await.unwrap();
}

#[tokio::test]
async fn a_plan_is_changed_field_by_field() {
    let workspace = Scene::new().open().await.unwrap();
    for name in ["docs", "photos", "disk"] {
        add_connection(&workspace, name).await;
    }
    let one = add_repository(&workspace, "one", "disk").await;
    let two = add_repository(&workspace, "two", "disk").await;
    let tags = vec!["t".to_owned()];
    workspace.add_plan("daily", &["docs".to_owned()], &["one".to_owned()], tags).await.unwrap();
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let change = PlanChange { repositories: names(&["two", "one"]), ..Default::default() };
    let record = workspace.update_plan("daily", Some(1), change).await.unwrap();
    let body: PlanBody = record.decode().unwrap();
    assert_eq!(body.repositories, [two.itself.id.to_string(), one.itself.id.to_string()]);
    assert_eq!(body.tags, ["t"]);
    let change = PlanChange {
        name: Some("weekly".to_owned()),
        sources: names(&["photos"]),
        repositories: names(&["two"]),
        tags: Some(Vec::new()),
    };
    let record = workspace.update_plan("daily", None, change).await.unwrap();
    assert_eq!((record.content.name.as_str(), record.content.needs.len()), ("weekly", 2));
    workspace.remove(RecordKind::Repository, "one").await.unwrap();
    for (repositories, kind) in [
        (names(&[]), ErrorKind::InvalidInput),
        (names(&["two", "two"]), ErrorKind::InvalidInput),
        (names(&["one"]), ErrorKind::NotFound),
    ] {
        let change = PlanChange { repositories, ..Default::default() };
        let error = workspace.update_plan("weekly", None, change).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}
