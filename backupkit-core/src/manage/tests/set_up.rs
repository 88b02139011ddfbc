use secrecy::SecretString;

use super::{Scene, add_connection, add_repository};
use crate::error::ErrorKind;
use crate::manage::write::{Content, Secret};
use crate::manage::{NewRepository, PlanChange};
use crate::repo::KeyOwner;
use crate::secret::MAX_SECRET_BYTES;
use crate::state::{RecordId, RecordKind, RecordRef};

fn new<'a>(name: &'a str, path: &'a str, password: Option<SecretString>) -> NewRepository<'a> {
    NewRepository { name, connection: "disk", path, password, owner: KeyOwner::default() }
}

#[tokio::test]
async fn a_repository_with_a_name_that_will_not_do_is_not_made() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    for name in ["", " nas", "nas\n", &"n".repeat(201)] {
        let error = workspace.add_repository(new(name, "repo", None)).await.unwrap_err();
        assert!(error.is(ErrorKind::InvalidInput), "{name:?}: {error:?}");
        assert!(scene.kind.place("disk/repo").objects().is_empty(), "{name:?}");
    }
    workspace.add_repository(new("nas", "repo", None)).await.unwrap();
}

#[tokio::test]
async fn a_repository_that_was_made_and_cannot_be_kept_on_record_is_told_with_its_place() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    let too_long = Some(SecretString::from("p".repeat(MAX_SECRET_BYTES + 1)));
    let error = workspace.add_repository(new("nas", "repo", too_long)).await.unwrap_err();
    let location = crate::destination::Destination::location(&*scene.kind.place("disk/repo"));
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("delete") && hint.contains(&location), "{hint}");
}

#[tokio::test]
async fn a_repository_is_known_once_whatever_leads_to_it() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    add_repository(&workspace, "nas", "disk").await;
    // The same place by another connection.
    let body = crate::manage::ConnectionBody::new("memory", super::settings("disk", "again"));
    workspace.add_connection("same", &body).await.unwrap();
    let password = Some(SecretString::from("password of nas"));
    let again = NewRepository { connection: "same", ..new("box", "nas", password) };
    let error = workspace.add_repository(again).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "repository-known"));
    assert!(error.to_string().contains("`nas`"), "{error}");
    // Once it was forgotten it may be added again.
    workspace.remove(RecordKind::Repository, "nas").await.unwrap();
    let password = Some(SecretString::from("password of nas"));
    let again = NewRepository { connection: "same", ..new("box", "nas", password) };
    workspace.add_repository(again).await.unwrap();
}

#[tokio::test]
async fn a_plan_takes_each_repository_once_whatever_it_is_called() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    for name in ["docs", "disk"] {
        add_connection(&workspace, name).await;
    }
    let nas = add_repository(&workspace, "nas", "disk").await;
    add_repository(&workspace, "other", "disk").await;
    // Two commands at the same time may have added it twice.
    let id = RecordId::random(&scene.env).unwrap();
    let twin = RecordRef { kind: RecordKind::Repository, id };
    let mut content = Content::of(&nas);
    content.name = "twin".to_owned();
    content.secrets = [("password".to_owned(), Secret::New("password of nas".into()))].into();
    workspace.put(twin, None, &content).await.unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let add = |repositories: Vec<String>| {
        let workspace = &workspace;
        async move { workspace.add_plan("daily", &["docs".to_owned()], &repositories, Vec::new()).await }
    };
    let error = add(names(&["nas", "other", "twin"])).await.unwrap_err();
    assert!(error.is(ErrorKind::InvalidInput), "{error:?}");
    assert!(error.to_string().contains("`nas` and `twin`"), "{error}");
    add(names(&["nas", "other"])).await.unwrap();
    let change = PlanChange { repositories: Some(names(&["twin", "nas"])), ..Default::default() };
    let error = workspace.update_plan("daily", None, change).await.unwrap_err();
    assert!(error.is(ErrorKind::InvalidInput), "{error:?}");
}

#[tokio::test]
async fn tags_that_would_be_taken_for_others_are_refused() {
    let workspace = Scene::new().open().await.unwrap();
    for name in ["docs", "disk"] {
        add_connection(&workspace, name).await;
    }
    add_repository(&workspace, "nas", "disk").await;
    let (from, to) = (["docs".to_owned()], ["nas".to_owned()]);
    for tag in ["", " t", "a,b", "a\nb", "run=1", "plan=x", "kind=x", "origin=x", "saved=x"] {
        let tags = vec!["t".to_owned(), tag.to_owned()];
        let error = workspace.add_plan("daily", &from, &to, tags).await.unwrap_err();
        assert!(error.is(ErrorKind::InvalidInput), "{tag:?}: {error:?}");
    }
    let tags = vec!["two words".to_owned(), "ü=run=".to_owned()];
    workspace.add_plan("daily", &from, &to, tags).await.unwrap();
    let change = PlanChange { tags: Some(vec![",".to_owned()]), ..Default::default() };
    assert!(workspace.update_plan("daily", None, change).await.is_err());
}
