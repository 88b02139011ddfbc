//! The contract of destinations.

use std::sync::Arc;

use backupkit_core::adapters::s3::{S3Destination, S3Retention, S3RetentionMode, S3Settings};
use backupkit_core::destination::Destination;
use backupkit_core::destination_conformance;
use backupkit_core::testing::conformance::DestinationFixture;
use backupkit_core::testing::fakes::{
    ConditionalWrites, S3Effect, S3Fault, S3Operation, S3ServerOptions,
};
use futures::FutureExt as _;

use crate::scene::{Scene, credentials, env, settings};

fn fixture(scene: Scene) -> DestinationFixture {
    let destination = scene.destination.clone();
    let (settings, clock) = (settings(&scene.server), scene.clock.clone());
    DestinationFixture::new(destination)
        .with_reopen(move || {
            let other = S3Destination::new(settings.clone(), &credentials(), env(&clock)).unwrap();
            let other: Arc<dyn Destination> = Arc::new(other);
            async { other }.boxed()
        })
        .keeping(scene)
}

destination_conformance!(s3, async || fixture(Scene::new()));

destination_conformance!(s3_below_a_prefix_in_small_pages, async || {
    let scene = Scene::with(S3ServerOptions::default().with_page_keys(3), |settings| {
        settings.with_prefix("a prefix/of ü")
    });
    scene.server.put(crate::scene::BUCKET, "a prefix/of ü2/data/x", "not ours");
    scene.server.put(crate::scene::BUCKET, "data/x", "not ours");
    DestinationFixture::new(scene.destination.clone()).keeping(scene)
});

destination_conformance!(s3_that_lists_out_of_order, async || {
    fixture(Scene::with(S3ServerOptions::default().with_page_keys(7).unsorted(), |settings| {
        settings
    }))
});

destination_conformance!(s3_without_conditional_writes, async || {
    let options = S3ServerOptions::default().with_conditional_writes(ConditionalWrites::Ignored);
    let scene = Scene::with(options, S3Settings::without_conditional_writes);
    DestinationFixture::new(scene.destination.clone()).keeping(scene)
});

destination_conformance!(s3_without_checksums, async || {
    let scene = Scene::with(S3ServerOptions::default(), S3Settings::without_checksums);
    DestinationFixture::new(scene.destination.clone()).keeping(scene)
});

destination_conformance!(s3_with_retention, async || {
    let scene = Scene::with(S3ServerOptions::default().with_object_lock(), |settings| {
        settings.with_retention(S3Retention::new(S3RetentionMode::Compliance, 30))
    });
    DestinationFixture::new(scene.destination.clone()).keeping(scene)
});

destination_conformance!(s3_on_a_bad_day, async || {
    use S3Operation::{DeleteObject, GetObject, HeadObject, ListObjects, PutObject};
    let scene = Scene::new();
    for operation in [DeleteObject, GetObject, HeadObject, ListObjects, PutObject] {
        for k in 0..20u64 {
            // Not at once: a check tries each step once. And not in step with calls at the same time, of
            // which the same one would fail each time.
            let fault = |effect, n: u64| S3Fault::new(effect).on(operation).after(11 * k + n + 6);
            scene.server.add_fault(fault(S3Effect::slow_down(), 1));
            scene.server.add_fault(fault(S3Effect::LoseReply, 3));
            scene.server.add_fault(fault(S3Effect::refuse(500, "InternalError"), 5));
            scene.server.add_fault(fault(S3Effect::Reset, 6));
        }
    }
    for k in 0..20u64 {
        scene.server.add_fault(S3Fault::new(S3Effect::CutBody(3)).on(GetObject).after(11 * k + 13));
    }
    fixture(scene)
});
