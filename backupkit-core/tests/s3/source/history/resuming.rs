//! Listings of older versions that go on behind any token.

use std::sync::Arc;

use backupkit_core::adapters::s3::{ConsistentAt, S3SourceOptions};
use backupkit_core::source::{Listed, ListedItem, OpenContext, Source as _, SourceView};
use backupkit_core::testing::fakes::S3ServerOptions;

use super::super::consistent::{at, versioned};
use super::{Scene, context, entries, list, names, with_versions};
use crate::scene::BUCKET;

/// A bucket with much of a past within a second, and what is beside and below each other.
fn filled(options: S3ServerOptions) -> Scene {
    let scene = Scene::with(options, |settings| settings).reading(with_versions());
    let server = &scene.server;
    for round in 0..12_usize {
        for key in ["a", "a-b", "a/", "a/b/c", "b/b", "d/e", "z"] {
            if (round + key.len()) % 3 == 0 {
                server.remove(BUCKET, key);
            } else if key.len() != 1 || round > 6 {
                server.put(BUCKET, key, format!("{key} {round}"));
            }
        }
        if round % 4 == 0 {
            server.set_now(at(i64::try_from(round).unwrap()));
        }
    }
    server.remove(BUCKET, "marks/only");
    server.remove(BUCKET, "marks/only");
    server.set_now(at(100));
    scene
}

fn both_orders(page_keys: usize) -> [S3ServerOptions; 2] {
    [versioned(page_keys), versioned(page_keys).listing_by_directory()]
}

async fn rest(view: &dyn SourceView, behind: &Listed) -> Vec<Listed> {
    list(view, Some(&behind.token)).await.unwrap()
}

#[tokio::test]
async fn a_listing_goes_on_behind_every_token_wherever_pages_end() {
    for page_keys in [1, 2, 3, 5, 1_000] {
        for options in both_orders(page_keys) {
            let scene = filled(options);
            let view = scene.open().await;
            let whole = list(&*view, None).await.unwrap();
            assert!(whole.len() > 70, "{}", whole.len());
            for (number, one) in whole.iter().enumerate() {
                let rest = rest(&*view, one).await;
                assert_eq!(names(&rest), names(&whole[number + 1..]), "{page_keys} {number}");
                assert_eq!(entries(&rest), entries(&whole[number + 1..]));
            }
        }
    }
}

/// The key and the id of a version that is an entry of the past.
fn version_of(listed: &Listed) -> Option<(String, String)> {
    let ListedItem::Entry(entry) = &listed.item else { return None };
    let handle: serde_json::Value = serde_json::from_str(entry.handle.as_deref()?).unwrap();
    handle[0].get("p")?;
    let text = |name: &str| handle[0][name].as_str().unwrap().to_owned();
    Some((text("k"), text("v")))
}

#[tokio::test]
async fn behind_a_version_that_was_removed_none_is_missed_or_comes_twice() {
    for page_keys in [1, 4, 1_000] {
        let whole = list(&*filled(versioned(page_keys)).open().await, None).await.unwrap();
        for number in 0..whole.len() {
            let Some((key, id)) = version_of(&whole[number]) else { continue };
            let scene = filled(versioned(page_keys));
            let view = scene.open().await;
            scene.server.remove_version(BUCKET, &key, &id);
            // And whatever was there is past by now.
            scene.server.put(BUCKET, &key, "newest");
            scene.server.put(BUCKET, "0", "new");
            scene.server.put(BUCKET, "0", "newer");
            let rest = rest(&*view, &whole[number]).await;
            assert_eq!(names(&rest), names(&whole[number + 1..]), "{page_keys} {number}");
        }
    }
}

#[tokio::test]
async fn where_all_versions_of_a_key_were_removed_the_next_key_follows() {
    let whole = list(&*filled(versioned(3)).open().await, None).await.unwrap();
    for number in 0..whole.len() {
        let Some((key, _)) = version_of(&whole[number]) else { continue };
        let scene = filled(versioned(3));
        let view = scene.open().await;
        scene.server.remove_old_versions(BUCKET, &key, 0);
        let rest = rest(&*view, &whole[number]).await;
        let is_left = |listed: &&Listed| version_of(listed).is_none_or(|(of, _)| of != key);
        let expected: Vec<Listed> = whole[number + 1..].iter().filter(is_left).cloned().collect();
        assert_eq!(names(&rest), names(&expected), "{number}");
    }
}

#[tokio::test]
async fn a_backup_that_goes_on_later_has_the_past_of_its_moment() {
    let options = with_versions().with_consistent_at(ConsistentAt::Time(at(7)));
    let scene = filled(versioned(2)).reading(options.clone());
    let view = scene.open().await;
    let whole = list(&*view, None).await.unwrap();
    for round in 0..3 {
        for key in ["a", "a/b/c", "0", "marks/only", "zz"] {
            scene.server.put(BUCKET, key, format!("later {round}"));
        }
    }
    let resumed = OpenContext { resume: Some(view.token()), ..context() };
    let later: Arc<dyn SourceView> = scene.source.open(resumed).await.unwrap();
    for (number, one) in whole.iter().enumerate() {
        let rest = rest(&*later, one).await;
        assert_eq!(names(&rest), names(&whole[number + 1..]), "behind {number}");
    }
    // With another choice it begins anew.
    for other in [S3SourceOptions::default(), with_versions()] {
        let source = scene.source.clone().with_options(other);
        let resumed = OpenContext { resume: Some(view.token()), ..context() };
        assert!(source.open(resumed).await.is_err());
    }
}
