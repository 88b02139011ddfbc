//! The contract of sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use backupkit_core::adapters::s3::{ConsistentAt, S3SourceOptions};
use backupkit_core::model::EntryPath;
use backupkit_core::source_conformance;
use backupkit_core::testing::conformance::SourceFixture;
use backupkit_core::testing::fakes::{
    ReadVersions, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use backupkit_core::testing::random_bytes;
use bytes::Bytes;
use futures::FutureExt as _;
use sha2::{Digest as _, Sha256};

use super::{LARGE, Scene, path};
use crate::scene::BUCKET;

/// Files of a fixture: names of a path below the bucket, and the key.
pub(super) fn objects() -> Vec<(EntryPath, String, Bytes)> {
    let long = "x".repeat(300);
    let hash = hex::encode(Sha256::digest(&long));
    let shortened = format!("{}%long-{}", "x".repeat(180), &hash[..32]);
    let objects = vec![
        (path(&["top"]), "top".to_owned(), 10),
        (path(&["a", "large"]), "a/large".to_owned(), LARGE),
        (path(&["a", "none"]), "a/none".to_owned(), 0),
        (path(&["a", "b", "c", "deep"]), "a/b/c/deep".to_owned(), 5),
        (path(&["a-b", "x"]), "a-b/x".to_owned(), 1),
        (path(&["%empty", "lead"]), "/lead".to_owned(), 2),
        (path(&["a", "%empty", "x"]), "a//x".to_owned(), 3),
        (path(&["%2E%2E", "%2E"]), "../.".to_owned(), 4),
        (path(&["odd", "%01%0A%25+ ä"]), "odd/\u{1}\n%+ ä".to_owned(), 6),
        (path(&["both%object"]), "both".to_owned(), 7),
        (path(&["both", "x"]), "both/x".to_owned(), 8),
        (path(&["filled", "%empty"]), "filled/".to_owned(), 9),
        (path(&[&shortened, &shortened]), format!("{long}/{long}"), 11),
    ];
    let bytes = |(path, key, len)| (path, key, random_bytes(len as u64, len));
    objects.into_iter().map(bytes).collect()
}

fn fixture(scene: Scene, prefix: &[&str]) -> SourceFixture {
    vanishing(scene, prefix, true)
}

/// Versions do not vanish with their objects.
fn of_versions(scene: Scene, prefix: &[&str]) -> SourceFixture {
    let options = S3SourceOptions::default().with_consistent_at(ConsistentAt::Now);
    vanishing(scene.reading(options), prefix, false)
}

fn vanishing(scene: Scene, prefix: &[&str], objects_vanish: bool) -> SourceFixture {
    let mut files = BTreeMap::new();
    let mut keys = BTreeMap::new();
    let whole = |key: &str| {
        let mut parts = prefix.to_vec();
        parts.push(key);
        parts.join("/")
    };
    let below = |path: &EntryPath| {
        let mut names = vec![BUCKET.as_bytes()];
        names.extend(prefix.iter().map(|part| part.as_bytes()));
        names.extend(path.names());
        EntryPath::from_names(names)
    };
    for (path, key, bytes) in objects() {
        scene.server.put(BUCKET, &whole(&key), bytes.clone());
        files.insert(below(&path), bytes);
        keys.insert(below(&path), whole(&key));
    }
    scene.server.put(BUCKET, &whole("empty/"), "");
    scene.server.put(BUCKET, &whole("a/"), "");
    let scene = Arc::new(scene);
    let server = Arc::clone(&scene);
    let mut fixture = SourceFixture::new(scene.source.clone(), files)
        .with_empty_directories([below(&path(&["empty"]))]);
    if objects_vanish {
        fixture = fixture.with_vanish(move |path| {
            server.server.remove(BUCKET, &keys[&path]);
            async {}.boxed()
        });
    }
    fixture.keeping(scene)
}

source_conformance!(bucket, async || fixture(Scene::new(), &[]));

source_conformance!(below_a_prefix_in_small_pages, async || {
    let options = S3ServerOptions::default().with_page_keys(3);
    let scene = Scene::with(options, |settings| settings.with_prefix("a prefix/of ü"));
    for key in ["a prefix", "a prefix/of", "a prefix/of ü2/x", "a prefix/of ü", "z"] {
        scene.server.put(BUCKET, key, "not asked for");
    }
    fixture(scene, &["a prefix", "of ü"])
});

source_conformance!(listed_by_directory, async || {
    let options = S3ServerOptions::default().with_page_keys(4).listing_by_directory();
    fixture(Scene::with(options, |settings| settings), &[])
});

source_conformance!(listed_in_no_order, async || {
    let options = S3ServerOptions::default().with_page_keys(6).listing_in_no_order();
    fixture(Scene::with(options, |settings| settings), &[])
});

source_conformance!(as_of_a_time, async || {
    let options = S3ServerOptions::default().versioned().with_page_keys(3);
    let scene = Scene::with(options, |settings| settings.with_prefix("a prefix/of ü"));
    for key in ["a prefix", "a prefix/of ü2/x", "a prefix/of ü", "z"] {
        scene.server.put(BUCKET, key, "not asked for");
    }
    of_versions(scene, &["a prefix", "of ü"])
});

source_conformance!(as_of_a_time_by_directory, async || {
    let options = S3ServerOptions::default().versioned().with_page_keys(4).listing_by_directory();
    of_versions(Scene::with(options, |settings| settings), &[])
});

source_conformance!(as_of_a_time_in_no_order, async || {
    let options = S3ServerOptions::default().versioned().with_page_keys(6).listing_in_no_order();
    of_versions(Scene::with(options, |settings| settings), &[])
});

/// What was there before each object, and the objects.
fn with_a_past(options: S3ServerOptions) -> SourceFixture {
    let scene = Scene::with(options, |settings| settings);
    let scene = scene.reading(S3SourceOptions::default().with_versions());
    let (mut files, mut versions) = (BTreeMap::new(), BTreeMap::new());
    for (path, key, bytes) in objects() {
        let plain: Vec<_> =
            path.names().map(|name| name.strip_suffix(b"%object").unwrap_or(name)).collect();
        let (last, above) = plain.split_last().unwrap();
        for (number, time) in
            ["20251231T235959.999998Z", "20251231T235959.999999Z"].iter().enumerate()
        {
            let old = random_bytes(number as u64 + 100, bytes.len() * 2);
            scene.server.put(BUCKET, &key, old.clone());
            let id = format!("v{}", versions.len() + files.len() + 1);
            let mut names = vec![format!("{BUCKET}%versions").into_bytes()];
            names.extend(above.iter().map(|name| name.to_vec()));
            names.push([last, &b"%past"[..]].concat());
            names.push(format!("{time}-{id}").into_bytes());
            versions.insert(EntryPath::from_names(names), (key.clone(), id, old));
        }
        scene.server.put(BUCKET, &key, bytes.clone());
        let mut names = vec![BUCKET.as_bytes()];
        names.extend(path.names());
        files.insert(EntryPath::from_names(names), bytes);
    }
    let past = versions.iter().map(|(path, (_, _, bytes))| (path.clone(), bytes.clone()));
    let all = files.clone().into_iter().chain(past).collect();
    let keys: BTreeMap<EntryPath, String> =
        objects().into_iter().map(|(path, key, _)| (path, key)).collect();
    let scene = Arc::new(scene);
    let server = Arc::clone(&scene);
    SourceFixture::new(scene.source.clone(), all)
        .with_vanish(move |path| {
            if let Some((key, id, _)) = versions.get(&path) {
                server.server.remove_version(BUCKET, key, id);
            } else {
                let below = EntryPath::from_names(path.names().skip(1));
                server.server.remove(BUCKET, &keys[&below]);
            }
            async {}.boxed()
        })
        .keeping(scene)
}

source_conformance!(with_older_versions, async || {
    with_a_past(S3ServerOptions::default().versioned().with_page_keys(4))
});

source_conformance!(with_older_versions_by_directory, async || {
    with_a_past(S3ServerOptions::default().versioned().with_page_keys(5).listing_by_directory())
});

source_conformance!(without_entity_tags, async || {
    let options = S3ServerOptions::default().with_read_versions(ReadVersions::Unnamed);
    fixture(Scene::with(options, |settings| settings), &[])
});

source_conformance!(on_a_bad_day, async || {
    let scene = Scene::with(S3ServerOptions::default().with_page_keys(5), |settings| settings);
    for operation in [S3Operation::GetObject, S3Operation::ListObjects] {
        for k in 0..20u64 {
            // Not at once: a check tries each step once.
            let fault = |effect, n: u64| S3Fault::new(effect).on(operation).after(8 * k + n + 3);
            scene.server.add_fault(fault(S3Effect::slow_down(), 1));
            scene.server.add_fault(fault(S3Effect::LoseReply, 3));
            scene.server.add_fault(fault(S3Effect::refuse(500, "InternalError"), 5));
            scene.server.add_fault(fault(S3Effect::CutBody(2), 6));
        }
    }
    fixture(scene, &[])
});
