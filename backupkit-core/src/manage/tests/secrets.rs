//! Secrets of connections: kept sealed, opened for the place that they were given for.

use secrecy::SecretString;

use super::{Scene, settings, settings_of};
use crate::error::ErrorKind;
use crate::manage::{ConnectionBody, ConnectionChange, NewRepository};
use crate::registry::ConnectionSecrets;
use crate::repo::KeyOwner;
use crate::state::RecordKind;

fn token(text: &str) -> ConnectionSecrets {
    ConnectionSecrets::default().with("token", SecretString::from(text))
}

fn repository(name: &str) -> NewRepository<'_> {
    let owner = KeyOwner::default();
    NewRepository { name, connection: "nas", path: "p", password: Some("pw".into()), owner }
}

fn sent(at: &str, token: &str) -> Vec<(String, String)> {
    vec![(at.to_owned(), token.to_owned())]
}

#[tokio::test]
async fn a_connection_opens_with_the_secret_that_it_keeps() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let connection = ConnectionBody::new("memory", settings("nas", ""));
    let added = workspace.add_connection_with("nas", &connection, token("one"));
    let record = added.await.unwrap();
    assert!(!record.content.body.get().contains("one"));
    workspace.add_repository(repository("r")).await.unwrap();
    assert_eq!(scene.kind.take_sent(), sent("nas", "one"));
    // Another process, too, and with another secret from then on.
    let other = scene.open().await.unwrap();
    assert!(other.test_repository("r").await.unwrap().is_healthy());
    assert_eq!(scene.kind.take_sent(), sent("nas", "one"));
    let change = ConnectionChange { secrets: token("two"), ..ConnectionChange::default() };
    other.update_connection("nas", None, change).await.unwrap();
    assert!(workspace.test_repository("r").await.unwrap().is_healthy());
    assert_eq!(scene.kind.take_sent(), sent("nas", "two"));
}

#[tokio::test]
async fn what_a_run_keeps_of_a_former_place_gets_no_secret_of_the_new_one() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let connection = ConnectionBody::new("memory", settings("nas", ""));
    let added = workspace.add_connection_with("nas", &connection, token("one"));
    added.await.unwrap();
    let record = workspace.add_repository(repository("r")).await.unwrap().record;
    let ordered = workspace.ordered(record).await.unwrap();
    // Another label is the same place.
    let change = ConnectionChange { settings: Some(settings("nas", "new")), ..Default::default() };
    workspace.update_connection("nas", None, change).await.unwrap();
    workspace.open_ordered(&ordered).await.unwrap();
    scene.kind.take_sent();
    let change = ConnectionChange {
        settings: Some(settings("elsewhere", "")),
        secrets: token("two"),
        ..ConnectionChange::default()
    };
    let changed = workspace.update_connection("nas", None, change).await.unwrap();
    assert!(changed.dropped_secrets.is_empty(), "it was given anew");
    let error = workspace.open_ordered(&ordered).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "connection-moved"));
    assert!(scene.kind.take_sent().is_empty());
}

/// A run that waits for a key to be mended, rests or has begun to commit opens its repositories so.
#[tokio::test]
async fn a_run_asks_as_who_its_connection_says_now() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let connection = ConnectionBody::new("memory", settings_of("nas", "one"));
    workspace.add_connection_with("nas", &connection, token("first")).await.unwrap();
    let record = workspace.add_repository(repository("r")).await.unwrap().record;
    let ordered = workspace.ordered(record).await.unwrap();
    scene.kind.take_sent();
    let change = ConnectionChange {
        settings: Some(settings_of("nas", "two")),
        secrets: token("second"),
        ..ConnectionChange::default()
    };
    workspace.update_connection("nas", None, change).await.unwrap();
    workspace.open_ordered(&ordered).await.unwrap();
    assert_eq!(scene.kind.take_sent(), sent("nas", "second of two"));
}

#[tokio::test]
async fn a_secret_goes_with_the_one_that_it_came_with() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let connection = ConnectionBody::new("memory", settings("nas", ""));
    let lent = token("lent").with("session", "session".into());
    workspace.add_connection_with("nas", &connection, lent.clone()).await.unwrap();
    workspace.add_repository(repository("r")).await.unwrap();
    assert_eq!(scene.kind.take_sent(), sent("nas", "lent session"));
    for (secrets, expected) in [
        (token("own"), "own"),
        (lent, "lent session"),
        (ConnectionSecrets::default().with("session", "longer".into()), "lent longer"),
    ] {
        let change = ConnectionChange { secrets, ..ConnectionChange::default() };
        let changed = workspace.update_connection("nas", None, change).await.unwrap();
        assert!(changed.dropped_secrets.is_empty());
        assert!(workspace.test_repository("r").await.unwrap().is_healthy());
        assert_eq!(scene.kind.take_sent(), sent("nas", expected));
    }
    // Nor is one kept that nothing uses.
    let change =
        ConnectionChange { settings: Some(settings_of("nas", "nobody")), ..Default::default() };
    let changed = workspace.update_connection("nas", None, change).await.unwrap();
    assert!(changed.record.content.secrets.is_empty());
}

#[tokio::test]
async fn a_secret_that_the_kind_does_not_know_is_refused() {
    let workspace = Scene::new().open().await.unwrap();
    let secrets = ConnectionSecrets::default().with("tokne", "canary".into());
    let connection = ConnectionBody::new("memory", settings("nas", ""));
    let added = workspace.add_connection_with("nas", &connection, secrets);
    let error = added.await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, "unknown-secret"));
    assert!(error.report().contains("token") && !error.report().contains("canary"));
    let found = workspace.find(RecordKind::Connection, "nas").await;
    assert_eq!(found.unwrap_err().code(), "no-such-record");
}
