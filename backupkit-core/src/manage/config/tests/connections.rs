//! The secrets of connections.

use super::*;

const TEXT: &str = r#"
[connections.cloud]
kind = "memory"
at = "cloud"
label = ""
token = "${CLOUD_TOKEN}"
session = "file:/run/session"

[repositories.nas]
connection = "cloud"
path = "repo"
password = "${NAS_PASSWORD}"
create = true
"#;

fn all() -> Given {
    given(&[
        ("CLOUD_TOKEN", "token-of-cloud"),
        ("file:/run/session", "session-of-cloud"),
        ("NAS_PASSWORD", "password-of-nas"),
        ("CLOUD_SESSION", "session-of-cloud"),
    ])
}

async fn secrets(workspace: &Workspace, name: &str) -> Vec<(String, String)> {
    let record = workspace.find(RecordKind::Connection, name).await.unwrap();
    let opened = workspace.secrets_of(&record).await.unwrap();
    opened.into_iter().map(|(name, secret)| (name, secret.expose_secret().to_owned())).collect()
}

fn pair(token: &str, session: &str) -> Vec<(String, String)> {
    [("session", session), ("token", token)]
        .map(|(name, secret)| (name.to_owned(), secret.to_owned()))
        .into()
}

#[tokio::test]
async fn secrets_of_connections_are_referred_to_kept_sealed_and_exported_by_name() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, TEXT, &all()).unwrap();
    import(&workspace, &configuration, &all(), false).await.unwrap();
    assert_eq!(secrets(&workspace, "cloud").await, pair("token-of-cloud", "session-of-cloud"));
    let done = import(&workspace, &configuration, &all(), true).await.unwrap();
    assert!(done.iter().all(|line| line.ends_with(" unchanged")), "{done:?}");
    let exported = workspace.export_config().await.unwrap();
    for secret in ["token-of-cloud", "session-of-cloud", "password-of-nas"] {
        assert!(!exported.contains(secret), "{exported}");
    }
    assert!(exported.contains("token = \"${CLOUD_TOKEN}\""), "{exported}");
    // In another state, at the same places.
    let beside = Scene { kind: scene.kind.clone(), ..Scene::new() };
    let elsewhere = beside.open().await.unwrap();
    let configuration = parse(&scene, &exported, &all()).unwrap();
    import(&elsewhere, &configuration, &all(), false).await.unwrap();
    assert_eq!(secrets(&elsewhere, "cloud").await, pair("token-of-cloud", "session-of-cloud"));
    assert_eq!(elsewhere.export_config().await.unwrap(), exported);
}

#[tokio::test]
async fn a_secret_that_is_left_out_stays_and_one_that_differs_is_replaced() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, TEXT, &all()).unwrap();
    import(&workspace, &configuration, &all(), false).await.unwrap();
    let without: String = TEXT
        .lines()
        .filter(|line| !line.contains("${") && !line.contains("file:"))
        .fold(String::new(), |text, line| text + line + "\n");
    let configuration = parse(&scene, &without, &all()).unwrap();
    let done = import(&workspace, &configuration, &all(), false).await.unwrap();
    assert_eq!(done, ["connection cloud unchanged", "repository nas unchanged"]);
    assert_eq!(secrets(&workspace, "cloud").await, pair("token-of-cloud", "session-of-cloud"));
    let mut changed = all();
    changed.0.insert("CLOUD_TOKEN", "another-token");
    let configuration = parse(&scene, TEXT, &changed).unwrap();
    let done = import(&workspace, &configuration, &changed, false).await.unwrap();
    assert_eq!(done, ["connection cloud updated", "repository nas unchanged"]);
    assert_eq!(secrets(&workspace, "cloud").await, pair("another-token", "session-of-cloud"));
}

#[tokio::test]
async fn secrets_do_not_stand_in_the_file_and_each_one_missing_is_told() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let literal = TEXT.replace("\"${CLOUD_TOKEN}\"", &format!("\"{CANARY}\""));
    let error = parse(&scene, &literal, &all()).unwrap_err();
    assert_eq!(places(&error), ["6 connections.cloud.token"]);
    let shown = format!("{error:?} {:?}", ConfigErrors::of(&error));
    assert!(!shown.contains(CANARY), "{shown}");
    let unused = TEXT.replace("label = \"\"", "label = \"\"\nwho = \"nobody\"");
    let error = parse(&scene, &unused, &all()).unwrap_err();
    let expected = ["7 connections.cloud.token", "8 connections.cloud.session"];
    assert_eq!(places(&error), expected, "{error:?}");
    let configuration = parse(&scene, TEXT, &all()).unwrap();
    let mut unset = all();
    unset.0.remove("CLOUD_TOKEN");
    unset.0.remove("file:/run/session");
    let error = workspace.preview_import(&configuration, &unset, false).await.unwrap_err();
    assert!(places(&error)[0].starts_with("2 connections.cloud."), "{error:?}");
    assert!(workspace.list_all(RecordKind::Connection).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_that_comes_to_lead_elsewhere_says_which_secrets_it_loses() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, TEXT, &all()).unwrap();
    import(&workspace, &configuration, &all(), false).await.unwrap();
    let connection = TEXT.split("[repositories").next().unwrap().replace("\"cloud\"", "\"moved\"");
    let without: Vec<_> =
        connection.lines().filter(|line| !line.contains("${") && !line.contains("file:")).collect();
    for (text, lost, left) in [
        (connection.clone(), &[][..], pair("token-of-cloud", "session-of-cloud")),
        (without.join("\n").replace("moved", "elsewhere"), &["session", "token"], Vec::new()),
    ] {
        let configuration = parse(&scene, &text, &all()).unwrap();
        let preview = workspace.preview_import(&configuration, &all(), false).await.unwrap();
        let changes: Vec<_> = preview.changes().cloned().collect();
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].dropped_secrets, lost);
        let mut done = Vec::new();
        let mut note = |change: &crate::manage::ConfigChange| done.push(change.clone());
        let owner = KeyOwner::default();
        workspace.import(&configuration, preview, &owner, &mut note).await.unwrap();
        assert_eq!(done, changes);
        assert_eq!(secrets(&workspace, "cloud").await, left);
    }
}
