mod connections;

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};

use super::{ConfigAction, ConfigErrors, Configuration, References};
use crate::error::{Error, ErrorKind, Result};
use crate::manage::tests::{Scene, add_connection, add_repository};
use crate::manage::{ConfigPreview, Workspace};
use crate::registry::Registry;
use crate::repo::KeyOwner;
use crate::state::{Catalogue as _, RecordKind, Scope};

const CANARY: &str = "canary-in-the-file";

/// Variables, files and commands by name.
#[derive(Debug, Default)]
struct Given(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl References for Given {
    fn variable(&self, name: &str) -> Result<Option<SecretString>> {
        Ok(self.0.get(name).map(|value| SecretString::from(*value)))
    }

    async fn file(&self, path: &Path) -> Result<SecretString> {
        self.named(&format!("file:{}", path.display()))
    }

    async fn command(&self, command: &str) -> Result<SecretString> {
        self.named(&format!("cmd:{command}"))
    }
}

impl Given {
    fn named(&self, name: &str) -> Result<SecretString> {
        let found = self.0.get(name).map(|value| SecretString::from(*value));
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is nothing like that"))
    }
}

fn given(values: &[(&'static str, &'static str)]) -> Given {
    Given(values.iter().copied().collect())
}

fn parse(scene: &Scene, text: &str, given: &Given) -> Result<Configuration> {
    Configuration::parse(text, &Registry::default().with(scene.kind.clone()), given)
}

/// `LINE PLACE` of each thing that is wrong.
fn places(error: &Error) -> Vec<String> {
    let errors = ConfigErrors::of(error).unwrap_or_else(|| panic!("{error:?}"));
    let line = |line: Option<u64>| line.map_or("-".to_owned(), |line| line.to_string());
    errors.iter().map(|error| format!("{} {}", line(error.line), error.place)).collect()
}

async fn import(
    workspace: &Workspace,
    configuration: &Configuration,
    given: &Given,
    prune: bool,
) -> Result<Vec<String>> {
    let preview = workspace.preview_import(configuration, given, prune).await?;
    let expected = told(&preview);
    let mut done = Vec::new();
    let mut note = |change: &super::ConfigChange| {
        done.push(format!("{} {} {}", change.kind, change.name, change.action.as_str()));
    };
    workspace.import(configuration, preview, &KeyOwner::default(), &mut note).await?;
    assert_eq!(done, expected);
    Ok(done)
}

fn told(preview: &ConfigPreview) -> Vec<String> {
    let told = |change: &super::ConfigChange| {
        format!("{} {} {}", change.kind, change.name, change.action.as_str())
    };
    preview.changes().map(told).collect()
}

const WHOLE: &str = r#"
[connections.docs]
kind = "memory"
at = "${PLACE}"
label = "$${x} costs $5"

[connections.disk]
kind = "memory"
at = "disk"
label = ""

[repositories.nas]
connection = "disk"
path = "repo"
password = "file:/run/nas"
create = true

[plans."daily one"]
from = "docs"
to = ["nas"]
tags = ["t", "${TAG}"]
"#;

fn whole() -> Given {
    given(&[("PLACE", "docs"), ("TAG", "u"), ("file:/run/nas", "secret-of-nas")])
}

#[tokio::test]
async fn an_import_creates_and_the_same_import_changes_nothing() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, WHOLE, &whole()).unwrap();
    let preview = workspace.preview_import(&configuration, &whole(), false).await.unwrap();
    assert!(!preview.removes());
    assert!(workspace.list_all(RecordKind::Connection).await.unwrap().is_empty());
    let done = import(&workspace, &configuration, &whole(), false).await.unwrap();
    let names =
        ["connection disk", "connection docs", "repository nas", "plan daily one"].into_iter();
    assert_eq!(done, names.clone().map(|name| format!("{name} created")).collect::<Vec<_>>());
    let docs = workspace.find(RecordKind::Connection, "docs").await.unwrap();
    assert!(docs.content.body.get().contains("${x} costs $5"), "{}", docs.content.body.get());
    let plan = workspace.find(RecordKind::Plan, "daily one").await.unwrap();
    assert!(plan.content.body.get().contains(r#"["t","u"]"#), "{}", plan.content.body.get());
    let nas = workspace.find(RecordKind::Repository, "nas").await.unwrap();
    assert_eq!(workspace.password(&nas).await.unwrap().expose_secret(), "secret-of-nas");
    let probe = workspace.test_repository("nas").await.unwrap();
    assert!(probe.is_healthy(), "{probe:?}");

    let changes = scene.store.changes(&Scope::default(), 0, 100).await.unwrap().len();
    let again = import(&workspace, &configuration, &whole(), true).await.unwrap();
    assert_eq!(again, names.map(|name| format!("{name} unchanged")).collect::<Vec<_>>());
    assert_eq!(scene.store.changes(&Scope::default(), 0, 100).await.unwrap().len(), changes);
}

#[tokio::test]
async fn what_was_exported_comes_back_as_it_was() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, WHOLE, &whole()).unwrap();
    import(&workspace, &configuration, &whole(), false).await.unwrap();
    let other = add_connection(&workspace, "odd \"name\" = ü").await;
    add_repository(&workspace, "NAS", &other.content.name).await;
    let exported = workspace.export_config().await.unwrap();
    for secret in ["secret-of-nas", "password of NAS"] {
        assert!(!exported.contains(secret), "{exported}");
    }
    let given = given(&[("NAS_PASSWORD", "password of NAS"), ("NAS_PASSWORD_2", "secret-of-nas")]);
    let configuration = parse(&scene, &exported, &given).unwrap();
    let done = import(&workspace, &configuration, &given, true).await.unwrap();
    assert_eq!(done.len(), 6);
    assert!(done.iter().all(|line| line.ends_with(" unchanged")), "{done:?}\n{exported}");
    // In another state, at the same places.
    let beside = Scene { kind: scene.kind.clone(), ..Scene::new() };
    let elsewhere = beside.open().await.unwrap();
    import(&elsewhere, &configuration, &given, false).await.unwrap();
    assert_eq!(elsewhere.export_config().await.unwrap(), exported);
}

#[tokio::test]
async fn what_differs_is_updated_and_what_is_not_named_goes_with_prune_alone() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, WHOLE, &whole()).unwrap();
    import(&workspace, &configuration, &whole(), false).await.unwrap();
    // Without its password: the one that is kept stays.
    let changed = WHOLE
        .replace("password = \"file:/run/nas\"\n", "")
        .replace("label = \"\"", "label = \"new\"")
        .replace("\"daily one\"", "weekly");
    let configuration = parse(&scene, &changed, &whole()).unwrap();
    let kept = import(&workspace, &configuration, &whole(), false).await.unwrap();
    assert_eq!(
        kept,
        [
            "connection disk updated",
            "connection docs unchanged",
            "repository nas unchanged",
            "plan weekly created"
        ]
    );
    let configuration = parse(&scene, "[connections]\n", &whole()).unwrap();
    assert!(import(&workspace, &configuration, &whole(), false).await.unwrap().is_empty());
    let preview = workspace.preview_import(&configuration, &whole(), true).await.unwrap();
    assert!(preview.removes());
    assert!(preview.changes().all(|change| change.action == ConfigAction::Remove));
    let pruned = import(&workspace, &configuration, &whole(), true).await.unwrap();
    assert_eq!(pruned.len(), 5, "{pruned:?}");
    for kind in RecordKind::ALL {
        assert!(workspace.list_all(*kind).await.unwrap().is_empty());
    }
    // What lies in the repository stays.
    assert!(!scene.kind.place("disk/repo").objects().is_empty());
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line_and_place() {
    let scene = Scene::new();
    let text = format!(
        r#"colour = "red"
[connections.docs]
kind = "memory"
at = 3
at2 = 2026-01-01
[connections.disk]
kind = "cloud"
[repositories.nas]
connection = "none"
password = "{CANARY}"
create = "yes"
pasword = "{CANARY}"
[repositories.box]
password = "prefix-${{A}}"
path = "${{UNSET}}/x"
[plans.daily]
from = "docs"
to = ["nas", "gone", "nas"]
[plans.weekly]
from = ["docs", 3]
[plans." x"]
from = "docs"
to = "nas"
"#
    );
    let error = parse(&scene, &text, &Given::default()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, "invalid-configuration"));
    let all = format!("{error} {error:?} {} {}", error.report(), ConfigErrors::of(&error).unwrap());
    assert!(!all.contains(CANARY), "{all}");
    let places = places(&error);
    for expected in [
        "1 colour",
        "5 connections.docs.at2",
        "6 connections.disk.kind",
        "10 repositories.nas.password",
        "11 repositories.nas.create",
        "12 repositories.nas.pasword",
        "13 repositories.box.connection",
        "14 repositories.box.password",
        "15 repositories.box.path",
        "16 plans.daily.to",
        "19 plans.weekly.to",
        "20 plans.weekly.from",
        "21 plans. x",
        "23 plans. x.to",
    ] {
        assert!(places.contains(&expected.to_owned()), "{expected}: {places:?}");
    }
}

#[test]
fn no_value_of_a_variable_is_told() {
    let scene = Scene::new();
    let text = r#"
[connections.docs]
kind = "${A}"
[connections.disk]
kind = "memory"
at = "x"
label = ""
"${A}" = "${A}"
[repositories.nas]
connection = "${A}"
password = "file:${A}"
[repositories.box]
connection = "disk"
password = "file:${canary in the file}"
path = "box"
[repositories.bag]
connection = "disk"
password = "file:${canary_unset}"
[plans.daily]
from = "x-${A}"
to = ["nas", "${A}"]
tags = ["${B}"]
"#;
    let given = given(&[("A", CANARY), ("B", "canary,tag")]);
    let error = parse(&scene, text, &given).unwrap_err();
    let all = format!("{error} {error:?} {}", ConfigErrors::of(&error).unwrap());
    for secret in [CANARY, "canary"] {
        assert!(!all.contains(secret), "{all}");
    }
    for expected in ["called \"${A}\"", "connection `${A}`", "connection `x-${A}`", "a comma"] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
}

#[cfg(feature = "fs")]
#[test]
fn a_setting_with_a_variable_is_told_as_it_was_written() {
    let text = "[connections.docs]\nkind = \"folder\"\npath = \"${SECRET}\"\n";
    let given = given(&[("SECRET", CANARY)]);
    let error = Configuration::parse(text, &Registry::built_in(), &given).unwrap_err();
    let all = ConfigErrors::of(&error).unwrap().to_string();
    assert!(all.contains("\"${SECRET}\" is not absolute") && !all.contains(CANARY), "{all}");
}

#[test]
fn what_is_declared_wrongly_is_not_told_to_be_missing() {
    let scene = Scene::new();
    let text = "[connections.docs]\nkind = \"memory\"\nat = \"${NONE}\"\nlabel = 2026-01-01\n\
                [repositories.nas]\nconnection = \"docs\"\npassword = 3\ncreate = 3\n\
                [repositories.box]\npath = \"x\"\n\
                [plans.daily]\nfrom = \"docs\"\nto = [\"nas\", \"box\"]\n";
    let error = parse(&scene, text, &Given::default()).unwrap_err();
    let expected = [
        "3 connections.docs.at",
        "4 connections.docs.label",
        "7 repositories.nas.password",
        "8 repositories.nas.create",
        "9 repositories.box.connection",
    ];
    let mut places = places(&error);
    places.sort_by_key(|place| place.split(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(places, expected, "{}", ConfigErrors::of(&error).unwrap());
}

#[test]
fn settings_are_checked_by_their_kind_and_names_are_looked_for() {
    let scene = Scene::new();
    let text = "[connections.docs]\nkind = \"memory\"\n[plans.p]\nfrom = \"x\"\nto = [\"y\"]\n";
    let error = parse(&scene, text, &Given::default()).unwrap_err();
    let expected =
        ["1 connections.docs.at", "1 connections.docs.label", "3 plans.p.from", "3 plans.p.to"];
    assert_eq!(places(&error), expected);
}

#[test]
fn two_repositories_do_not_lie_at_one_place() {
    let scene = Scene::new();
    let connection = "[connections.a]\nkind = \"memory\"\nat = \"a\"\nlabel = \"\"\n";
    let repositories =
        "[repositories.x]\nconnection = \"a\"\n[repositories.y]\nconnection = \"a\"\n";
    let text = format!("{connection}{repositories}");
    let error = parse(&scene, &text, &Given::default()).unwrap_err();
    assert_eq!(places(&error), ["7 repositories.y"]);
    parse(&scene, &format!("{text}path = \"p\"\n"), &Given::default()).unwrap();
}

#[tokio::test]
async fn a_repository_that_has_another_name_already_is_found_before_anything_is_changed() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    add_repository(&workspace, "nas", "disk").await;
    let text = "[connections.same]\nkind = \"memory\"\nat = \"disk\"\nlabel = \"x\"\n\
                [repositories.box]\nconnection = \"same\"\npath = \"nas\"\npassword = \"${NAS}\"\n";
    let given = given(&[("NAS", "password of nas")]);
    let configuration = parse(&scene, text, &given).unwrap();
    let error = workspace.preview_import(&configuration, &given, false).await.unwrap_err();
    assert_eq!(places(&error), ["5 repositories.box"]);
    assert!(ConfigErrors::of(&error).unwrap().to_string().contains("as `nas`"), "{error}");
}

#[test]
fn a_text_that_is_no_toml_is_refused_without_being_repeated() {
    let scene = Scene::new();
    for text in [
        format!("[repositories.nas]\npassword = \"{CANARY}\n"),
        format!("[repositories.nas]\npassword = {CANARY}\n"),
        format!("[a]\n[a]\nx = '{CANARY}'\n"),
        format!("{CANARY}\n"),
        "[".repeat(10_000),
        format!("a = {}", "[".repeat(10_000)),
        "connections = 3\nrepositories = [1]\n".to_owned(),
        "[connections]\nx = 3\n".to_owned(),
    ] {
        let error = parse(&scene, &text, &Given::default()).unwrap_err();
        let shown: String = text.chars().take(80).collect();
        assert!(error.is(ErrorKind::InvalidInput), "{shown}: {error:?}");
        let all = format!("{error} {error:?} {}", ConfigErrors::of(&error).unwrap());
        assert!(!all.contains(CANARY), "{all}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_found_before_anything_is_changed() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    add_repository(&workspace, "nas", "disk").await;
    add_repository(&workspace, "other", "disk").await;
    let before = scene.store.changes(&Scope::default(), 0, 100).await.unwrap().len();
    let text = r#"
[connections.disk]
kind = "memory"
at = "disk"
label = "changed"
[repositories.nas]
connection = "disk"
path = "nas"
password = "${WRONG}"
[repositories.again]
connection = "disk"
path = "other"
password = "cmd:also wrong"
[repositories.nowhere]
connection = "disk"
path = "nowhere"
password = "${WRONG}"
[repositories.unset]
connection = "disk"
password = "${UNSET}"
[repositories.without]
connection = "disk"
path = "without"
create = true
"#;
    let given = given(&[("WRONG", "wrong"), ("cmd:also wrong", "wrong")]);
    let configuration = parse(&scene, text, &given).unwrap();
    let error = workspace.preview_import(&configuration, &given, false).await.unwrap_err();
    let expected = [
        "6 repositories.nas",
        "10 repositories.again",
        "14 repositories.nowhere",
        "18 repositories.unset.password",
        "21 repositories.without.password",
    ];
    assert_eq!(places(&error), expected, "{}", ConfigErrors::of(&error).unwrap());
    let all = ConfigErrors::of(&error).unwrap().to_string();
    assert!(all.contains("create = true") && all.contains("UNSET"), "{all}");
    assert_eq!(scene.store.changes(&Scope::default(), 0, 100).await.unwrap().len(), before);
}

#[tokio::test]
async fn what_a_run_needs_is_found_before_anything_is_removed() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, WHOLE, &whole()).unwrap();
    import(&workspace, &configuration, &whole(), false).await.unwrap();
    workspace.order_backup("daily one").await.unwrap();
    let empty = parse(&scene, "", &whole()).unwrap();
    let error = workspace.preview_import(&empty, &whole(), true).await.unwrap_err();
    let all = ConfigErrors::of(&error).unwrap().to_string();
    for name in ["plan `daily one`", "repository `nas`", "connection `docs`", "run 1"] {
        assert!(all.contains(name), "{name}: {all}");
    }
}

#[tokio::test]
async fn an_import_after_somebody_elses_change_is_refused() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    add_connection(&workspace, "disk").await;
    let text = "[connections.disk]\nkind = \"memory\"\nat = \"disk\"\nlabel = \"new\"\n";
    let configuration = parse(&scene, text, &Given::default()).unwrap();
    let preview = workspace.preview_import(&configuration, &Given::default(), false).await.unwrap();
    let change = crate::manage::ConnectionChange {
        settings: Some(crate::manage::tests::settings("disk", "other")),
        ..Default::default()
    };
    workspace.update_connection("disk", None, change).await.unwrap();
    let owner = KeyOwner::default();
    let error = workspace.import(&configuration, preview, &owner, &mut |_| ()).await.unwrap_err();
    assert_eq!(error.code(), "stale");
}

#[tokio::test]
async fn no_secret_shows_in_what_is_printed_for_developers() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let configuration = parse(&scene, WHOLE, &whole()).unwrap();
    let preview = workspace.preview_import(&configuration, &whole(), false).await.unwrap();
    let password = Some(SecretString::from("secret-of-nas"));
    let change = crate::manage::RepositoryChange { password, ..Default::default() };
    let shown = format!("{configuration:?} {preview:?} {change:?} {workspace:?}");
    assert!(shown.contains("nas") && !shown.contains("secret-of-nas"), "{shown}");
}

#[tokio::test]
async fn an_import_can_be_done_in_a_task() {
    fn is_send<T: Send>(task: T) -> T {
        task
    }
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    let (given, owner) = (Given::default(), KeyOwner::default());
    let configuration = parse(&scene, "", &given).unwrap();
    let preview = is_send(workspace.preview_import(&configuration, &given, true)).await.unwrap();
    let mut note = |_: &super::ConfigChange| ();
    is_send(workspace.import(&configuration, preview, &owner, &mut note)).await.unwrap();
}
