use secrecy::SecretString;

use super::{Scene, add_connection};
use crate::error::ErrorKind;
use crate::manage::NewRepository;
use crate::repo::KeyOwner;
use crate::secret::MAX_SECRET_BYTES;

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
