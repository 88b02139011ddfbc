//! Directories that only divide others: what is in them is known, wherever their borders lie.

use backupkit::BackupReport;

use crate::scene::Scene;
use crate::scripted::Scripted;

const FILES: [&str; 7] = ["a", "b", "m", "n", "t", "u", "dir/x"];

/// Lists directories one after the other: the files of each, each named by what it holds, and where.
fn source(directories: &[(&str, &[&str])]) -> Scripted {
    let mut source = Scripted::default();
    for (directory, names) in directories {
        for name in *names {
            let content = name.rsplit_once('/').map_or(*name, |(_, last)| last);
            source = source.file(&format!("data{directory}/{name}"), format!("content {content}"));
            if let Some((inner, _)) = name.rsplit_once('/') {
                source = source.done(&format!("data{directory}/{inner}"));
            }
        }
        if !directory.is_empty() {
            source = source.done(&format!("data{directory}"));
        }
    }
    source.done("data").with_fingerprints()
}

/// Three ways to divide the same directory, and one in which it is whole.
fn layouts() -> [Scripted; 4] {
    [
        source(&[("", &FILES)]),
        source(&[
            ("", &["a", "b"]),
            ("/%range-dir%2F", &["dir/x"]),
            ("/%range-m", &["m", "n"]),
            ("/%range-t", &["t", "u"]),
        ]),
        source(&[
            ("", &["a", "dir/x"]),
            ("/%range-b", &["b", "m"]),
            ("/%range-n", &["n", "t", "u"]),
        ]),
        source(&[
            ("", &["a", "b", "m", "dir/x"]),
            ("/%range-n", &["n", "t"]),
            ("/%range-u", &["u"]),
        ]),
    ]
}

async fn second(before: &Scripted, after: &Scripted) -> BackupReport {
    let scene = Scene::new().await;
    let repository = scene.repository().await;
    let repositories = std::slice::from_ref(&repository);
    scene.back_up(before, repositories).await;
    scene.back_up(after, repositories).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_another_part_of_a_directory_is_not_read_again() {
    for (number, before) in layouts().into_iter().enumerate() {
        for (other, after) in layouts().into_iter().enumerate() {
            let after = after.divided_by("%range-");
            let report = second(&before, &after).await;
            let summary = &report.summary;
            assert_eq!(
                (summary.files_unmodified, summary.files_new, summary.read_bytes),
                (FILES.len() as u64, 0, 0),
                "{number} then {other}: {report:#?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_in_a_divided_directory_is_read() {
    let before = layouts()[1].clone().divided_by("%range-");
    let after = source(&[
        ("", &["a", "b"]),
        ("/%range-dir%2F", &["dir/x"]),
        ("/%range-m", &["m", "m-new", "n", "o-new"]),
        ("/%range-t", &["t", "u", "z-new"]),
    ]);
    let report = second(&before, &after.divided_by("%range-")).await;
    assert_eq!((report.summary.files_unmodified, report.summary.files_new), (7, 3), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_such_a_name_is_like_any_other_where_the_source_does_not_say_so() {
    let [whole, divided, ..] = layouts();
    let report = second(&whole, &divided).await;
    assert_eq!((report.summary.files_unmodified, report.summary.files_new), (2, 5), "{report:#?}");
}
