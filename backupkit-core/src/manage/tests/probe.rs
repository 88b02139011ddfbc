use std::sync::Arc;

use secrecy::SecretString;

use super::{Scene, add_connection, add_repository, settings};
use crate::destination::{Destination as _, ObjectKey};
use crate::manage::{ConnectionChange, Workspace};
use crate::probe::{Probe, ProbeOutcome};
use crate::repo::{InitOptions, KeyOwner, Repository};

async fn probe(workspace: &Workspace) -> Probe {
    workspace.test_repository("nas").await.unwrap()
}

/// `o`, `f` or `s` for each step.
fn outcomes(probe: &Probe) -> String {
    let outcome = |outcome: &ProbeOutcome| match outcome {
        ProbeOutcome::Ok => 'o',
        ProbeOutcome::Failed(_) => 'f',
        ProbeOutcome::Skipped(_) => 's',
    };
    probe.steps.iter().map(|step| outcome(&step.outcome)).collect()
}

#[tokio::test]
async fn each_step_of_a_probe_says_how_it_went() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    add_repository(&workspace, "nas", "disk").await;
    let whole = scene.kind.place("disk/nas");
    let healthy = probe(&workspace).await;
    assert_eq!(outcomes(&healthy), "ooooooo", "{healthy:?}");
    assert!(healthy.is_healthy());
    // What was tried is gone.
    let left = futures::StreamExt::count(whole.list(&ObjectKey::new("probe").unwrap())).await;
    assert_eq!(left, 0);

    // Another repository is there, with another password.
    let other = scene.kind.place("else/nas");
    let init = |password: &str| {
        let (other, password) = (Arc::clone(&other), SecretString::from(password));
        let env = scene.env.clone();
        async move { Repository::init(other, &password, InitOptions::default(), &env).await }
    };
    let elsewhere = ConnectionChange { settings: Some(settings("else", "")), ..Default::default() };
    workspace.update_connection("disk", None, elsewhere).await.unwrap();
    let missing = probe(&workspace).await;
    assert_eq!(outcomes(&missing), "ooofsss", "{missing:?}");
    assert!(missing.steps[3].hint.is_some());
    let repository = init("another").await.unwrap();
    let closed = probe(&workspace).await;
    assert_eq!(outcomes(&closed), "oooofso", "{closed:?}");
    assert!(closed.steps[4].hint.as_ref().unwrap().contains("repo set --password"));
    let password = SecretString::from("password of nas");
    repository.add_key(&password, &KeyOwner::default()).await.unwrap();
    let other = probe(&workspace).await;
    assert_eq!(outcomes(&other), "ooooofo", "{other:?}");
    assert!(!other.is_healthy());
}
