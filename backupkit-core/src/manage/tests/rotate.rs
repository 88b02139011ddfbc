use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Scene, add_connection};
use crate::error::{Error, ErrorKind};
use crate::manage::write::{Content, Secret};
use crate::manage::{ConnectionChange, Workspace};
use crate::secret::{GivenKeys, MasterKey, MasterKeys as _};
use crate::state::{Catalogue as _, RecordKind, Scope};

const SCOPES: [&str; 2] = ["default", "tenant-2"];
const NAMES: [&str; 3] = ["a", "b", "c"];

/// A secret for each name in each scope.
async fn fill(workspace: &Workspace) {
    for scope in SCOPES {
        let workspace = workspace.scope(Scope::new(scope).unwrap());
        for name in NAMES {
            let record = add_connection(&workspace, name).await;
            let mut content = Content::of(&record);
            let secret = SecretString::from(format!("{scope} {name}"));
            content.secrets.insert("token".into(), Secret::New(secret));
            workspace.put(record.itself, Some(record.revision), &content).await.unwrap();
        }
    }
}

async fn everything_opens(workspace: &Workspace) {
    for scope in SCOPES {
        let workspace = workspace.scope(Scope::new(scope).unwrap());
        for name in NAMES {
            let record = workspace.find(RecordKind::Connection, name).await.unwrap();
            let opened = workspace.unseal(&record, "token").await.unwrap().unwrap();
            assert_eq!(opened.expose_secret(), format!("{scope} {name}"));
        }
    }
}

#[tokio::test]
async fn a_crash_after_any_step_leaves_everything_readable_and_the_next_rotation_ends() {
    for stop in 0.. {
        let scene = Scene::new();
        let workspace = scene.open().await.unwrap();
        fill(&workspace).await;
        // Opened before, it goes on with what it knows.
        let beside = scene.open().await.unwrap();
        let mut left = stop;
        let rotated = workspace
            .rotate(&mut || {
                left -= 1;
                if left < 0 { Err(Error::new(ErrorKind::Unavailable, "a crash")) } else { Ok(()) }
            })
            .await;
        drop(workspace);
        everything_opens(&scene.open().await.unwrap()).await;
        everything_opens(&beside).await;
        if let Ok(rotation) = rotated {
            assert_eq!(rotation.rewrapped, 6);
            assert_eq!(stop, 10, "the keys twice, the store twice, and each record");
            return;
        }
        let again = scene.open().await.unwrap().rotate_master_key().await.unwrap();
        let kept = scene.keys.load().await.unwrap();
        assert_eq!(kept.iter().map(MasterKey::id).collect::<Vec<_>>(), [again.key]);
        everything_opens(&scene.open().await.unwrap()).await;
        everything_opens(&beside).await;
    }
}

#[tokio::test]
async fn a_secret_that_does_not_open_is_named_and_each_try_leaves_as_many_keys() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let (one, other) =
        (add_connection(&workspace, "one").await, add_connection(&workspace, "other").await);
    let mut content = Content::of(&one);
    content.secrets.insert("token".into(), Secret::New("canary".into()));
    let one = workspace.put(one.itself, Some(1), &content).await.unwrap();
    // Sealed for another place.
    let mut content = Content::of(&other);
    let moved = one.content.secrets["token"].clone();
    content.secrets.insert("token".into(), Secret::Kept(moved));
    let other = workspace.put(other.itself, Some(1), &content).await.unwrap();
    for _ in 0..3 {
        let error = workspace.rotate_master_key().await.unwrap_err();
        assert_eq!(error.code(), "secret-damaged");
        assert!(error.to_string().contains("connection `other`"), "{error}");
        assert_eq!(scene.keys.load().await.unwrap().len(), 2);
        let opened = workspace.unseal(&one, "token").await.unwrap().unwrap();
        assert_eq!(opened.expose_secret(), "canary");
    }
    let error = workspace.unseal(&other, "token").await.unwrap_err();
    assert!(error.to_string().contains("token of connection `other`"), "{error}");
    let mut content = Content::of(&other);
    content.secrets.insert("token".into(), Secret::New("new".into()));
    workspace.put(other.itself, Some(2), &content).await.unwrap();
    let rotation = workspace.rotate_master_key().await.unwrap();
    let kept = scene.keys.load().await.unwrap();
    assert_eq!(kept.iter().map(MasterKey::id).collect::<Vec<_>>(), [rotation.key]);
}

#[tokio::test]
async fn a_process_that_knows_only_the_former_key_writes_nothing_with_it() {
    let scene = Scene::new();
    let (workspace, beside) = (scene.open().await.unwrap(), scene.open().await.unwrap());
    fill(&workspace).await;
    let record = beside.find(RecordKind::Connection, "a").await.unwrap();
    let rotation = workspace.rotate_master_key().await.unwrap();
    let mut content = Content::of(&record);
    content.secrets.insert("more".into(), Secret::New("new".into()));
    let current = beside.find(RecordKind::Connection, "a").await.unwrap();
    // The secret that it read before came back under a key that is gone.
    let error = beside.put(record.itself, Some(current.revision), &content).await.unwrap_err();
    assert_eq!(error.code(), "master-key-unknown");
    let mut content = Content::of(&current);
    content.secrets.insert("more".into(), Secret::New("new".into()));
    let written = beside.put(record.itself, Some(current.revision), &content).await.unwrap();
    assert!(written.content.secrets.values().all(|sealed| sealed.key_id() == rotation.key));
    everything_opens(&beside).await;
    everything_opens(&scene.open().await.unwrap()).await;
    // What it read before the change opens all the same.
    let opened = beside.unseal(&record, "token").await.unwrap().unwrap();
    assert_eq!(opened.expose_secret(), "default a");
    let rename = ConnectionChange { name: Some("renamed".into()), ..Default::default() };
    beside.update_connection("a", None, rename).await.unwrap();
}

#[tokio::test]
async fn secrets_that_are_added_during_a_rotation_are_not_left_behind() {
    let scene = Scene::new();
    let (workspace, beside) = (scene.open().await.unwrap(), scene.open().await.unwrap());
    fill(&workspace).await;
    let adding = async {
        for round in 0..50 {
            let record = add_connection(&beside, &format!("new {round}")).await;
            let mut content = Content::of(&record);
            content.secrets.insert("token".into(), Secret::New("new".into()));
            beside.put(record.itself, Some(record.revision), &content).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let rotating = async {
        for _ in 0..5 {
            workspace.rotate_master_key().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(adding, rotating);
    let kept = scene.keys.load().await.unwrap();
    assert_eq!(kept.len(), 1);
    for (_, record) in scene.store.sealed(None, usize::MAX).await.unwrap() {
        assert!(record.content.secrets.values().all(|sealed| sealed.key_id() == kept[0].id()));
    }
}

#[tokio::test]
async fn keys_that_a_person_keeps_are_changed_with_both_at_hand() {
    let scene = Scene::new();
    let key = MasterKey::generate(&scene.env).unwrap();
    let given = |keys: &[&MasterKey]| Arc::new(GivenKeys::new(keys.iter().copied().cloned()));
    let workspace = scene.open_with(given(&[&key])).await.unwrap();
    fill(&workspace).await;
    let error = workspace.rotate_master_key().await.unwrap_err();
    assert_eq!(error.code(), "master-key-elsewhere");
    assert!(error.hint().is_some());
    let new = MasterKey::generate(&scene.env).unwrap();
    assert!(scene.open_with(given(&[&new])).await.is_err());
    let workspace = scene.open_with(given(&[&new, &key])).await.unwrap();
    everything_opens(&workspace).await;
    let rotation = workspace.rotate_master_key().await.unwrap();
    assert_eq!((rotation.key, rotation.rewrapped), (new.id(), 6));
    everything_opens(&scene.open_with(given(&[&new])).await.unwrap()).await;
    let error = scene.open_with(given(&[&key])).await.unwrap_err();
    assert_eq!(error.code(), "master-key-unknown");
}
