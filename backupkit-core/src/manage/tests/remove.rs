use super::{Scene, add_connection, add_repository};
use crate::error::ErrorKind;
use crate::model::Wanted;
use crate::state::RecordKind;

#[tokio::test]
async fn what_a_run_needs_that_has_not_ended_stays() {
    let scene = Scene::new();
    let workspace = scene.open().await.unwrap();
    for name in ["docs", "disk", "spare"] {
        add_connection(&workspace, name).await;
    }
    add_repository(&workspace, "nas", "disk").await;
    add_repository(&workspace, "other", "spare").await;
    workspace
        .add_plan("daily", &["docs".to_owned()], &["nas".to_owned()], Vec::new())
        .await
        .unwrap();
    workspace
        .add_plan("free", &["docs".to_owned()], &["other".to_owned()], Vec::new())
        .await
        .unwrap();
    let run = workspace.order_backup("daily").await.unwrap();
    let needed = [
        (RecordKind::Plan, "daily"),
        (RecordKind::Repository, "nas"),
        (RecordKind::Connection, "docs"),
        (RecordKind::Connection, "disk"),
    ];
    for wanted in [Wanted::Run, Wanted::Pause, Wanted::Cancel] {
        let state = workspace.ask(run.new.id, wanted).await.unwrap().state;
        assert!(!state.is_terminal());
        for (kind, name) in needed {
            let error = workspace.remove(kind, name).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "in-use"), "{name}");
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            assert!(error.to_string().contains("run 1"), "{error}");
        }
    }
    // Of what it does not need nothing stays.
    workspace.remove(RecordKind::Plan, "free").await.unwrap();
    workspace.remove(RecordKind::Repository, "other").await.unwrap();
    workspace.remove(RecordKind::Connection, "spare").await.unwrap();
}
